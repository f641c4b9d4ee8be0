"""Checkpoints: a `transformers` folder with its provenance and what resume needs; complete or absent, never pickled.

  config.json model.safetensors generation_config.json      the model          (model/huggingface.py)
  tokenizer.json tokenizer_config.json                      the tokenizer      (copied from the run)
  loam.json                                                 provenance, metrics, sha256 of each file
  trainer/ optimizer.safetensors rng.safetensors state.json what resume needs  (kept for the newest two)

A checkpoint is written into a temporary folder, flushed to disk and renamed, before anything that can fail is tried.
It is the same whatever the number of processes and the way they share the work, so any other number can go on from it.
Of a sharded model each rank hands in its rows, tensor by tensor, and rank 0 writes; each rank reads its rows again.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from common.errors import UserError
from common.files import atomic_folder, file_sha256, write_json
from common.runs import checkpoints
from model.decoder import Decoder
from model.huggingface import load_model, save_model
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.template import BOS, EOS, PAD
from training.sharding import is_sharded, local, own_rows, whole

KEEP_TRAINER = 2
STORED_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}


def save_checkpoint(
    path: Path,
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    tokenizer_folder: Path,
    state: dict[str, Any],
    provenance: dict[str, Any],
    is_main: bool = True,
) -> None:
    """Write a complete checkpoint folder at `path`, atomically. Every rank calls this, the main one writes.

    Of a sharded model the main rank holds the whole weights in RAM for a moment, and of the optimizers' state one
    tensor at a time.
    """
    tensors = _optimizer_tensors(model, optimizers)
    model = _whole_model(model, is_main)
    if not is_main:
        for tensor in tensors.values():
            whole(tensor)
        return
    with atomic_folder(path) as folder:
        _write_model(folder, model, tokenizer_folder)
        (folder / "trainer").mkdir()
        _write_tensors(folder / "trainer" / "optimizer.safetensors", tensors)
        save_file(_rng_tensors(), folder / "trainer" / "rng.safetensors")
        _write_plain(folder / "trainer" / "state.json", state)
        _write_meta(folder, provenance)


def save_for_use(
    path: Path, model: Decoder, tokenizer_folder: Path, provenance: dict[str, Any], is_main: bool = True
) -> None:
    """`save_checkpoint` without what resume needs: a model that nobody trained in this state, such as an average."""
    model = _whole_model(model, is_main)
    if is_main:
        with atomic_folder(path) as folder:
            _write_model(folder, model, tokenizer_folder)
            _write_meta(folder, provenance)


def update_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Add an epoch's metrics to a checkpoint's loam.json."""
    meta = read_meta(path)
    write_json(path / "loam.json", {**meta, "metrics": {**meta.get("metrics", {}), **metrics}})


def read_meta(path: Path) -> dict[str, Any]:
    """A checkpoint's loam.json; UserError where there is none."""
    try:
        meta = json.loads((path / "loam.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no loam.json, so it is not a checkpoint made by loam") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}/loam.json is damaged: {error}") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("files"), dict) or not isinstance(meta.get("step"), int):
        raise UserError(f"{path}/loam.json is damaged: it does not say what a checkpoint's does")
    return meta


def verify(path: Path, to_resume: bool = False) -> dict[str, Any]:
    """Check every file against its hash; returns loam.json. UserError names the first missing or changed file.

    trainer/ may be missing, as all but the newest two checkpoints have lost it on purpose, unless `to_resume`.
    """
    meta = read_meta(path)
    for name, digest in meta["files"].items():
        if not (path / name).exists():
            if name.startswith("trainer/") and not to_resume:
                continue
            raise UserError(f"{path}/{name} is missing: the checkpoint is damaged, take another")
        if file_sha256(path / name) != digest:
            raise UserError(f"{path}/{name} is not the file that was written (sha256 differs): take another checkpoint")
    return meta


def load_for_inference(path: Path, device: str | torch.device = "cpu") -> tuple[Decoder, Tokenizer, dict[str, Any]]:
    """Verified model (eval mode), tokenizer and loam.json of a checkpoint folder."""
    meta = verify(path)
    tok = load_tokenizer(path)
    model = load_model(path, device=device)
    if model.shape.vocab_size != tok.vocab_size:
        raise UserError(f"{path}: the model has {model.shape.vocab_size} tokens, its tokenizer {tok.vocab_size}")
    return model.eval(), tok, meta


def resumable(run: Path) -> list[Path]:
    """Checkpoints that have their trainer state and a readable loam.json, most steps first; a damaged one is named."""
    found = []
    for path in checkpoints(run):
        if not (path / "trainer").exists():
            continue
        try:
            found.append((read_meta(path)["step"], path.name.startswith("ckpt"), path))
        except UserError as error:
            print(f"warning: {error}; it is passed over")
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_resumable(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """The sound checkpoint of the run with the most steps that has its trainer state, and that state."""
    for path in resumable(run):
        try:
            verify(path, to_resume=True)
            return path, json.loads((path / "trainer" / "state.json").read_text(encoding="utf-8"))
        except UserError as error:
            print(f"warning: {error}")
    return None


@torch.no_grad()
def restore(path: Path, model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Put weights, optimizer state and random state of a checkpoint into a run's objects, bit for bit.

    A sharded model and its optimizers take their own rows, tensor by tensor.
    """
    try:
        with safe_open(path / "model.safetensors", framework="pt") as file:
            stored = {key.removeprefix("model."): key for key in file.keys()}  # noqa: SIM118
            for name, parameter in model.named_parameters():
                local(parameter).copy_(local(own_rows(file.get_tensor(stored[name]), parameter)))
        with safe_open(path / "trainer" / "optimizer.safetensors", framework="pt") as file:
            _restore_optimizers(file, model, optimizers)
        rng = load_file(path / "trainer" / "rng.safetensors")
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"{path}: cannot be resumed from: {error}") from None
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])


def prune(run: Path) -> None:
    """Drop the `trainer/` folders of all but the newest two checkpoints that have one, and `step-*` folders whole."""
    for path in resumable(run)[KEEP_TRAINER:]:
        shutil.rmtree(path if path.name.startswith("step-") else path / "trainer")


def git_revision() -> str | None:
    """Commit of the code that runs, "-dirty" behind it where files were changed; None outside a git checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        here = Path(__file__).resolve().parent
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _write_model(folder: Path, model: Decoder, tokenizer_folder: Path) -> None:
    save_model(model, folder, eos_id=EOS, bos_id=BOS, pad_id=PAD)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_folder / name, folder / name)
    _set_context_length(folder / "tokenizer_config.json", model.shape.seq_len)


def _write_meta(folder: Path, provenance: dict[str, Any]) -> None:
    hashes = {str(f.relative_to(folder)): file_sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    _write_plain(folder / "loam.json", {"format": 1, **provenance, "files": hashes})


def _whole_model(model: Decoder, keep: bool) -> Decoder:
    """A sharded model put together on the CPU of the rank that keeps it; any other model is returned as it is."""
    if not is_sharded(model):
        return model
    weights = {}
    for name, parameter in model.named_parameters():
        full = whole(parameter)
        if keep:
            weights[name] = full.cpu()
    if not keep:
        return model
    with torch.device("meta"):
        complete = Decoder(model.shape)
    complete.load_state_dict(weights, assign=True)
    return complete


def _owners(optimizers: Sequence[torch.optim.Optimizer]) -> dict[torch.Tensor, torch.optim.Optimizer]:
    return {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def _optimizer_tensors(model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """All state of all optimizers as "<parameter>.<key>", in the order of the model's parameters."""
    owner = _owners(optimizers)
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in sorted(owner[parameter].state[parameter].items())
    }


def _restore_optimizers(file: Any, model: Decoder, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    owner, parameters = _owners(optimizers), dict(model.named_parameters())
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


def _write_tensors(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file of tensors that may be sharded, put together and written one by one.

    The format: the header's length as 8 bytes, the header (JSON, padded), then the numbers.
    """
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        shape, dtype = list(tensor.shape), STORED_DTYPES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            out.write(whole(tensor).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _rng_tensors() -> dict[str, torch.Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def _set_context_length(file: Path, seq_len: int) -> None:
    _write_plain(file, {**json.loads(file.read_text(encoding="utf-8")), "model_max_length": seq_len})


def _write_plain(file: Path, value: Any) -> None:
    """JSON inside a folder that is itself written atomically."""
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
