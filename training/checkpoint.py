"""Checkpoints: a `transformers` folder with its provenance and what resume needs; complete or absent, never pickled.

  config.json model.safetensors generation_config.json      the model          (model/huggingface.py)
  tokenizer.json tokenizer_config.json [tokenizer.model]    the tokenizer      (copied from the run)
  loam.json                                                 provenance, metrics, sha256 of each file
  trainer/ optimizer.safetensors rng.safetensors state.json what resume needs  (kept for the newest two)
  [adapter/]                                                low-rank adapters, where the model is one with them merged

training/save.py writes them; here they are checked, chosen from, read and pruned. A file that differs by one bit from
what was written is found by its hash, loam.json by a hash of its own. A checkpoint is the same whatever the number of
processes and the way they share the work, so any other number can go on from it: each rank reads its own rows.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from common.errors import UserError
from common.files import file_sha256, json_sha256, read_json, write_json
from common.runs import checkpoints
from model.decoder import Decoder
from model.huggingface import load_model
from tokenizer.bpe import Tokenizer
from tokenizer.dialog import Dialog, is_own, open_dialog
from training.lora import is_adapted, load_adapters
from training.sharding import local, own_rows

KEEP_TRAINER = 2
FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")  # of every checkpoint
TRAINER = ("trainer/optimizer.safetensors", "trainer/rng.safetensors", "trainer/state.json")


def sealed(meta: dict[str, Any]) -> dict[str, Any]:
    """A loam.json with the hash of everything else in it."""
    return {**meta, "seal": json_sha256({key: value for key, value in meta.items() if key != "seal"})}


def update_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Add an epoch's metrics to a checkpoint's loam.json."""
    meta = read_meta(path)
    write_json(path / "loam.json", sealed({**meta, "metrics": {**meta.get("metrics", {}), **metrics}}))


def read_meta(path: Path) -> dict[str, Any]:
    """A checkpoint's loam.json; UserError where there is none."""
    if not (path / "loam.json").exists():
        raise UserError(f"{path}: no loam.json, so it is not a checkpoint made by loam")
    meta = read_json(path / "loam.json")
    if not isinstance(meta, dict) or not isinstance(meta.get("files"), dict) or not isinstance(meta.get("step"), int):
        raise UserError(f"{path}/loam.json is damaged: it does not say what a checkpoint's does")
    if "seal" not in meta:
        raise UserError(f"{path}/loam.json has no seal, so nothing vouches for it: take another checkpoint")
    if sealed(meta)["seal"] != meta["seal"]:
        raise UserError(f"{path}/loam.json is not what was written (its own hash differs): take another checkpoint")
    return meta


def verify(path: Path, to_resume: bool = False, hashes: bool = True) -> dict[str, Any]:
    """Check every file against its hash; returns loam.json. UserError names the first missing or changed file.

    hashes False: whether they are there is all that is looked at. trainer/ may be missing, as all but the newest two
    checkpoints have lost it on purpose, unless `to_resume`.
    """
    meta = read_meta(path)
    if absent := [name for name in (*FILES, *(TRAINER if to_resume else ())) if name not in meta["files"]]:
        raise UserError(f"{path}/loam.json names no {absent[0]}: the checkpoint is damaged, take another")
    for name, digest in meta["files"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path}/loam.json names {name!r}, which is not a file of its folder")
        if not (path / name).is_file():
            if name.startswith("trainer/") and not to_resume:
                continue
            raise UserError(f"{path}/{name} is missing: the checkpoint is damaged, take another")
        if hashes and file_sha256(path / name) != digest:
            raise UserError(f"{path}/{name} is not the file that was written (sha256 differs): take another checkpoint")
    return meta


def load_for_inference(
    path: Path, device: str | torch.device = "cpu", hashes: bool = True
) -> tuple[Decoder, Tokenizer, dict[str, Any]]:
    """Verified model (eval mode), tokenizer and loam.json of a checkpoint folder; hashes as `verify` has them.

    UserError for one that speaks by a template made elsewhere too: `load_to_ask` opens both.
    """
    model, dialog, meta = load_to_ask(path, device, hashes)
    if dialog.own is None:
        raise UserError(f"{path}: its tokenizer and template were made elsewhere, and loam's own are needed here")
    return model, dialog.own, meta


def load_to_ask(
    path: Path, device: str | torch.device = "cpu", hashes: bool = True, dtype: torch.dtype | None = None
) -> tuple[Decoder, Dialog, dict[str, Any]]:
    """Model (eval mode), dialog and loam.json of a folder: a checkpoint, verified, or a `transformers` folder that has
    none (then {}).

    dtype: of the weights; by default as they are stored, a `transformers` folder's float32 on a CPU.
    """
    own = is_own(path)
    meta = verify(path, hashes=hashes) if own or (path / "loam.json").exists() else {}
    dialog = open_dialog(path)
    stored = torch.float32 if not own and str(device) == "cpu" else None
    model = load_model(path, device, dtype or stored)
    rows = model.shape.vocab_size
    if rows < dialog.vocab_size or (own and rows != dialog.vocab_size):  # others pad their embedding
        raise UserError(f"{path}: the model has {rows} tokens, its tokenizer {dialog.vocab_size}")
    return model.eval(), dialog, meta


def resumable(run: Path) -> list[Path]:
    """Checkpoints that have their trainer state and a readable loam.json, most steps first; a damaged one is named."""
    found = []
    for path in checkpoints(run):
        if not (path / "trainer").exists():
            continue
        try:
            meta = read_meta(path)
            if (named := number_of(path)) != meta.get("epoch" if path.name.startswith("ckpt") else "step", named):
                raise UserError(f"{path} holds another checkpoint than number {named}: it was moved here")
            found.append((meta["step"], path.name.startswith("ckpt"), path))
        except UserError as error:
            print(f"warning: {error}; it is passed over")
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_resumable(
    run: Path, hashes: bool = True, sound: set[Path] | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """The sound checkpoint of the run with the most steps that has its trainer state, and that state.

    hashes False: believe that files are what was written if they can be read. sound: checkpoints taken for sound, of
    which those that are not are taken out.
    """
    sound = set() if sound is None else sound
    for path in resumable(run):
        try:
            if hashes:
                verify(path, to_resume=True)
            return path, read_json(path / "trainer" / "state.json")
        except (UserError, OSError) as error:
            print(f"warning: {error}")
            sound.discard(path)
    return None


def number_of(path: Path) -> int:
    """The epoch of ckpt6, the step of step-000123."""
    return int(re.sub(r"\D", "", path.name))


@torch.no_grad()
def restore(path: Path, model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Put weights, optimizer state and random state of a checkpoint into a run's objects, bit for bit.

    A sharded model and its optimizers take their own rows, tensor by tensor. One with adapters has its frozen weights
    already, and gets the adapters.
    """
    for optimizer in optimizers:
        optimizer.state.clear()
    try:
        with safe_open(path / "model.safetensors", framework="pt") as file:
            stored = {key.removeprefix("model."): key for key in file.keys()}  # noqa: SIM118
            for name, parameter in model.named_parameters() if not is_adapted(model) else ():
                local(parameter).copy_(local(own_rows(file.get_tensor(stored[name]), parameter)))
        if is_adapted(model):
            load_adapters(model, path / "adapter")
        with safe_open(path / "trainer" / "optimizer.safetensors", framework="pt") as file:
            _restore_optimizers(file, model, optimizers)
        rng = load_file(path / "trainer" / "rng.safetensors")
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"])
    except (
        SafetensorError,
        OSError,
        KeyError,
        RuntimeError,
        TypeError,
    ) as error:  # files that nobody's hashes vouch for
        raise UserError(f"{path}: cannot be resumed from: {' '.join(str(error).split())[:200]}") from None


def prune(run: Path, sound: set[Path]) -> None:
    """Drop what resume needs of all but the newest two sound checkpoints: `trainer/`, of `step-*` the folder whole.

    sound: checkpoints that this process wrote, or whose hashes it found right; it is added to. Those newer than the
    second sound one are left as they are, damaged or not, and nothing goes before two sound ones are there.
    """
    kept = 0
    for path in resumable(run):
        if kept == KEEP_TRAINER:
            doomed = path if path.name.startswith("step-") else path / "trainer"
            # Under a name of what a kill leaves behind first: half a folder would look like a damaged checkpoint.
            gone = doomed.with_name(f".{doomed.name}.{os.getpid()}.tmp")
            os.replace(doomed, gone)
            shutil.rmtree(gone)
            continue
        try:
            if path not in sound:
                verify(path, to_resume=True)
                sound.add(path)
            kept += 1
        except (UserError, OSError) as error:
            print(f"warning: {error}; it is left as it is")


def git_revision() -> str | None:
    """Commit of the code that runs, "-dirty" behind it where files were changed; None outside a git checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        here = Path(__file__).resolve().parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _owners(optimizers: Sequence[torch.optim.Optimizer]) -> dict[torch.Tensor, torch.optim.Optimizer]:
    return {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def _restore_optimizers(file: Any, model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    owner = _owners(optimizers)
    parameters = {name: p for name, p in model.named_parameters() if p in owner}
    found = set()
    for stored in file.keys():  # noqa: SIM118
        name, _, key = stored.rpartition(".")
        parameter, value = parameters[name], file.get_tensor(stored)
        optimizer = owner[parameter]
        if value.ndim > 0:
            value = own_rows(value, parameter)
        elif optimizer.defaults.get("fused"):  # else torch's optimizers count steps on the CPU
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value
        found.add(name)
    if found and len(found) < len(parameters):
        raise KeyError(f"no optimizer state of {min(parameters.keys() - found)}")
