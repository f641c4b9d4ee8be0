"""Writing checkpoints: a copy of what the run is at one moment is taken, and written while the run goes on.

In: model and optimizers between two steps, the run's state and provenance. Out: a checkpoint folder as
training/checkpoint.py describes it, complete or absent: written under another name, flushed to disk, renamed. Of a
sharded model every rank hands in its rows and rank 0 puts them together, so a folder is the same however many
processes made it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from common.errors import UserError, unwritable
from common.files import atomic_folder, file_sha256, read_json
from model.config import Shape, count_parameters, state_bytes
from model.decoder import Decoder
from model.huggingface import save_weights
from tokenizer.dialog import Dialog
from tokenizer.foreign_files import PLAIN_TEMPLATE, eos_of, json_object, template_of
from tokenizer.template import BOS, EOS, PAD
from training.checkpoint import sealed
from training.lora import adapter_config, is_adapted, merged, save_adapter
from training.sharding import whole

SPARE_BYTES = 16 << 20  # beside the tensors: tokenizer, JSON, the file system's own


@dataclass
class Snapshot:
    """What a run is between two steps, on the CPU."""

    shape: Shape
    weights: dict[str, Tensor]  # by the decoder's names
    optimizer: dict[str, Tensor]  # "<parameter>.<key>", in the order of the model's parameters; empty: a model alone
    rng: dict[str, Tensor]
    adapter: dict[str, Any] | None = None  # adapter_config.json, where `weights` hold adapters beside frozen ones

    def is_finite(self) -> bool:
        """Whether all weights are; a checkpoint of others would be taken for a sound one."""
        return all(bool(weight.isfinite().all()) for weight in self.weights.values())

    def num_bytes(self) -> int:
        """What its tensors take."""
        groups = (self.weights, self.optimizer, self.rng)
        return sum(tensor.numel() * tensor.element_size() for group in groups for tensor in group.values())


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint holds besides the model: file name -> content, and the ids that config.json names."""

    content: dict[str, bytes]
    eos: int | list[int] = EOS
    bos: int | None = BOS
    pad: int | None = PAD


def foreign_files(folder: Path, init: Path, dialog: Dialog) -> TokenizerFiles:
    """Those of a tokenizer made elsewhere, as they stand; the ids are those of the config.json that it came with.

    What the template ends an answer with is an eos for every engine, and a template is there for every engine.
    """
    content = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
    generation = json_object(folder / "generation_config.json")
    stated = {**read_json(init / "config.json"), **generation}
    eos = [*dict.fromkeys(token for token in [*dialog.eos, *eos_of(stated)] if token is not None)]
    ids = {"eos_token_id": eos if len(eos) > 1 else eos[0]}
    content["generation_config.json"] = _json({**generation, **ids}).encode()
    if template_of(folder, json_object(folder / "tokenizer_config.json")) is None:
        content["chat_template.jinja"] = PLAIN_TEMPLATE.encode()
    return TokenizerFiles(content, ids["eos_token_id"], stated.get("bos_token_id"), stated.get("pad_token_id"))


def tokenizer_files(folder: Path, seq_len: int) -> TokenizerFiles:
    """The tokenizer's files as every checkpoint has them; read before there is anything to lose."""
    config = read_json(folder / "tokenizer_config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder}/tokenizer_config.json is damaged: it holds no object")
    content = _json({**config, "model_max_length": seq_len}).encode("utf-8")
    files = {"tokenizer.json": (folder / "tokenizer.json").read_bytes(), "tokenizer_config.json": content}
    if (native := folder / "tokenizer.model").exists():  # sentencepiece's
        files["tokenizer.model"] = native.read_bytes()
    return TokenizerFiles(files)


class Saver:
    """Writes one checkpoint at a time in a thread. What goes wrong there is raised by the next `wait`.

    Attributes:
        taken: the copy that is, or was, written: memory for the next one
        sound: checkpoints that this process wrote, or whose hashes it found right
    """

    def __init__(self) -> None:
        self.taken: Snapshot | None = None
        self.sound: set[Path] = set()
        self._pool = ThreadPoolExecutor(1, "saver")
        self._coming: Future[None] | None = None

    def start(self, write: Callable[[], None], taken: Snapshot) -> None:
        """Begin to write what was taken; `wait` must have been called since the last time."""
        assert self._coming is None
        self.taken = taken
        self._coming = self._pool.submit(write)

    def busy(self) -> bool:
        """Whether something is being written."""
        return self._coming is not None and not self._coming.done()

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.result()


def snapshot(
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    is_main: bool = True,
    copy: bool = True,
    into: Snapshot | None = None,
) -> Snapshot | None:
    """The state of model and optimizers; every rank calls this, the main one gets it.

    copy: tensors of its own, in the memory of `into` where that is given; else the model's, where they are on the CPU.
    """
    found: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}}
    weights: dict[str, Tensor] = dict(model.named_parameters())
    sources = {"weights": weights, "optimizer": optimizer_tensors(model, optimizers)}
    for kind, tensors in sources.items():
        there: dict[str, Tensor] = getattr(into, kind) if into else {}
        for name, tensor in tensors.items():
            full = whole(tensor)  # of a sharded one all ranks ask
            if not is_main:
                continue
            if name in there:
                found[kind][name] = there[name].copy_(full)
            else:
                found[kind][name] = full.to("cpu", copy=copy and not isinstance(tensor, DTensor))  # that is new already
    adapter = adapter_config(model, "../../init") if is_adapted(model) else None
    return Snapshot(model.shape, **found, rng=_rng_tensors(), adapter=adapter) if is_main else None


def write_checkpoint(
    path: Path, taken: Snapshot, tokenizer: TokenizerFiles, state: str | None, provenance: dict[str, Any]
) -> None:
    """A complete checkpoint folder at `path`, atomically.

    tokenizer: as `tokenizer_files` read them; state: the trainer's, JSON; None: a model for use alone.

    UserError where the disk takes no more.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, taken.num_bytes() + SPARE_BYTES)
        with atomic_folder(path) as folder:
            _write_files(folder, taken, tokenizer, state, provenance)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be saved: {unwritable(error) or error}; what was saved before is sound"
        ) from error


def _write_files(
    folder: Path, taken: Snapshot, tokenizer: TokenizerFiles, state: str | None, provenance: dict[str, Any]
) -> None:
    weights = taken.weights
    if taken.adapter:  # the model as every command opens it, and the adapters by themselves
        weights = merged(weights, taken.adapter["lora_alpha"] / taken.adapter["r"])
        save_adapter(folder / "adapter", taken.weights, taken.adapter)
    save_weights(weights, taken.shape, folder, tokenizer.eos, tokenizer.bos, tokenizer.pad)
    for name, content in tokenizer.content.items():
        (folder / name).write_bytes(content)
    if state is not None:
        trainer = folder / "trainer"
        trainer.mkdir()
        save_file(taken.optimizer, trainer / "optimizer.safetensors")
        save_file(taken.rng, trainer / "rng.safetensors")
        (trainer / "state.json").write_text(state + "\n", encoding="utf-8")
    hashes = {str(f.relative_to(folder)): file_sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    (folder / "loam.json").write_text(_json(sealed({"format": 1, **provenance, "files": hashes})), encoding="utf-8")


def check_room(folder: Path, shape: Shape, muon: bool) -> None:
    """`check_space` for a run's first checkpoint, before there is anything to save: its size is known, or, of one with
    adapters, no more than that."""
    gradients = 4 * count_parameters(shape)  # are not saved
    check_space(folder, state_bytes(shape, muon) - gradients + SPARE_BYTES)


def check_space(folder: Path, needed: int) -> None:
    """UserError where the disk of `folder` has not that many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed - free:,} bytes are missing on its disk to save a checkpoint ({needed:,} needed, "
            f"{free:,} free); what was saved before is sound, and once there is room the same command goes on"
        )


def optimizer_tensors(model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """All state of all optimizers as "<parameter>.<key>", in the order of the model's parameters."""
    owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        if parameter in owner
        for key, value in sorted(owner[parameter].state[parameter].items())
    }


def _rng_tensors() -> dict[str, Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
