"""What a run starts from where that is not nothing: a checkpoint, loam's own or a folder made elsewhere.

In: `--init-from`, once. Out: `init/` in the run's folder (model, tokenizer, template, provenance; loam's own files as
links where the disk allows it), the run's tokenizer, and a note of their hashes. From then on the run depends on
nothing outside of its folder: it goes on, and goes back to its beginning, from there. Until it has begun another
`--init-from` takes the place of what was taken, as after a `--plan`.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import atomic_folder, file_sha256, read_json, write_json
from common.runs import find_checkpoint, has_output
from model.config import PRESETS, ModelConfig, Shape
from model.huggingface import INDEX, load_shape, weight_files
from tokenizer.dialog import is_own, open_dialog
from training.config import TrainConfig
from training.lora import TARGETS, lora_parameters

NOTE = "start.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
             "chat_template.jinja", "generation_config.json")  # fmt: skip
OWN_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
LONGEST = 2048  # positions of a row where nobody asks for more: contexts of 128,000 would take all memory


@dataclass(frozen=True)
class Start:
    """A checkpoint to go on from."""

    folder: Path  # the run's copy of it
    own: bool  # loam's template and tokenizer; else those of the folder
    shape: Shape  # of the model, its whole context
    rows: Shape  # the same with the context of this run's rows


def has_start(config: TrainConfig) -> bool:
    """Whether a run starts from something."""
    return config.stage == "finetune" or config.init_from is not None


def source_of(config: TrainConfig, run: Path) -> Path:
    """The folder that a run starts from: its own copy, once that is of what is asked for. UserError where there is
    none."""
    taken = run / "init"
    if (taken / NOTE).exists():
        note = read_json(taken / NOTE)
        if config.init_from in (None, note.get("asked")) or has_output(run, "train"):
            return taken
        found = find_checkpoint(config.init_from)
        return taken if found.resolve() in (Path(note["from"]).resolve(), taken.resolve()) else found
    if config.init_from is not None and Path(config.init_from).is_file():
        raise UserError(f"--init_from {config.init_from}: is a file; a run starts from a folder with a model in it")
    if config.init_from is None:
        raise UserError("--stage finetune needs a checkpoint to start from: --init_from CKPT")
    return find_checkpoint(config.init_from)


def start_shapes(config: TrainConfig, model: ModelConfig, source: Path) -> tuple[Shape, Shape]:
    """The shape of the model in `source`, and that of this run's rows. UserError where [model] asks for another."""
    shape = replace(load_shape(source), dropout=model.dropout)
    named = PRESETS.get(model.preset) if model.preset != ModelConfig.preset else None  # nobody names the default
    for name in ("num_layers", "hidden_size", "num_heads", "num_kv_heads", "intermediate_size"):
        given, of_preset = getattr(model, name), getattr(named, name) if named else None
        asked = of_preset if given is None else given
        if asked is not None and asked != getattr(shape, name):
            flag = f"--model.{name} {asked}" if given is not None else f"--model.preset {model.preset}, {name} {asked}"
            raise UserError(f"{flag}: {source} has {getattr(shape, name)}, and a start fixes all sizes")
    seq_len = model.seq_len or min(shape.seq_len, LONGEST)
    if seq_len > shape.seq_len:
        raise UserError(f"--model.seq_len {seq_len}: the context of {source} is {shape.seq_len}")
    if config.lora_rank:
        lora_parameters(shape, config.lora_rank, config.lora_targets or TARGETS)  # a rank or target that cannot be
    return shape, replace(shape, seq_len=seq_len)


def take(config: TrainConfig, run: Path) -> None:
    """Copy what the run starts from into its folder; nothing where that was done before. Raises UserError."""
    source, target = source_of(config, run), run / "init"
    if source == target:
        return
    made_here = (source / "loam.json").exists()
    own = is_own(source)
    names = _files_of(source, made_here)
    size, rows = open_dialog(source).vocab_size, load_shape(source).vocab_size
    if rows < size:
        raise UserError(
            f"{source}: its tokenizer has {size:,} tokens and its model rows for {rows:,}: resize the model's "
            "embedding, or take the tokenizer that it came with"
        )
    tokenizer = run / "tokenizer"
    known = [folder / "tokenizer.json" for folder in (source, target)]
    if (tokenizer / "tokenizer.json").exists() and file_sha256(tokenizer / "tokenizer.json") not in [
        file_sha256(file) for file in known if file.exists()
    ]:
        raise UserError(f"{tokenizer} is not the tokenizer of {source}: start from there under another --run")
    with atomic_folder(tokenizer) as folder:  # first: once `init` is there, nothing of this is done again
        for name in OWN_TOKENIZER if own else TOKENIZER:
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
    with atomic_folder(target) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (_link if made_here else shutil.copyfile)(source / name, folder / name)
        hashes = {name: file_sha256(folder / name) for name in names}
        write_json(folder / NOTE, {"from": str(source), "asked": config.init_from, "own": own, "files": hashes})
    newest = ", of the newest run (RUN/ckpt10 names another's)" if "/" not in str(config.init_from) else ""
    kind = "a checkpoint of loam" if own else "made elsewhere, with a template of its own"
    print(f"starting from {source}{newest}: {kind}")


def open_start(config: TrainConfig, model: ModelConfig, run: Path) -> Start | None:
    """The run's start; None where it starts from nothing. UserError where a file is not what was taken."""
    folder = run / "init"
    if not has_start(config):
        return None
    note = read_json(folder / NOTE)
    if config.verify:
        for name, digest in note["files"].items():
            if not (folder / name).exists() or file_sha256(folder / name) != digest:
                raise UserError(f"{folder / name} is not what the run started from: start another with --run")
    shape, rows = start_shapes(config, model, folder)
    return Start(folder, bool(note["own"]), shape, rows)


def provenance(start: Start) -> dict[str, Any]:
    """What a checkpoint says of its start."""
    note = read_json(start.folder / NOTE)
    weights = {name: digest for name, digest in note["files"].items() if name.endswith(".safetensors")}
    return {"init": {"from": note["from"], "weights": weights}, "dialog": "loam" if start.own else "its own"}


def _files_of(source: Path, made_here: bool) -> list[str]:
    """The files that make up a checkpoint, all but what resume needs of it. UserError for one that is damaged."""
    if made_here:
        from training.checkpoint import verify

        return [name for name in (*verify(source)["files"], "loam.json") if not name.startswith("trainer/")]
    weights = [file.name for file in weight_files(source)]
    found = [*weights, *([INDEX] if weights != ["model.safetensors"] else []), "config.json"]
    if not (source / "tokenizer.json").exists():
        raise UserError(
            f"{source} has no tokenizer.json: --init_from takes a checkpoint of loam or a transformers folder"
        )
    return found + [name for name in TOKENIZER if (source / name).exists()]


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the disk is another. Of loam's own files alone: those are replaced and never written
    again, as others' are in place; and a link to a link, as a model hub's cache has them, would lead nowhere."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
