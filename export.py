"""Write a checkpoint in another form: `python export.py ckpt3 --to gguf`, for llama.cpp and what is built on it.

  --to gguf      one file with weights, tokenizer and chat template; --type F32, F16, BF16 or Q8_0 (F16)
  --to ollama    a folder with that file and a Modelfile
  --dtype bf16   a `transformers` folder with weights of half the size; or f16

A checkpoint already is a `transformers` folder. It is verified first and never changed; what is written is whole or
absent and replaces nothing. docs/deploy.md says how each is served.
"""

if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from common.errors import UserError, run_command, unwritable
from common.files import atomic_file, atomic_folder, file_sha256, read_json, write_json
from common.runs import find_checkpoint
from config import load_command
from model.config import Shape
from model.gguf_file import BLOCK, TYPES, architecture, check_range, gguf_library, stored_type, write_gguf
from model.huggingface import load_shape
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.dialog import is_own
from tokenizer.gguf import early_ends, gguf_tokenizer
from tokenizer.modelfile import check_ollama, modelfile
from training.checkpoint import sealed, verify

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}


@dataclass
class Export:
    """What is written, and where.

    Args:
        to: gguf (one file) or ollama (a folder with it and a Modelfile); or give dtype
        type: what a GGUF's matrices are stored as: F32, F16, BF16 or Q8_0
        dtype: bf16 or f16: a transformers folder with such weights
        out: file or folder to write; default: beside the checkpoint, named after it
    """

    to: str | None = None
    type: str | None = None
    dtype: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        if (self.to is None) == (self.dtype is None):
            raise UserError("give one of --to gguf, --to ollama and --dtype bf16: what the checkpoint is to become")
        if self.to not in (None, "gguf", "ollama"):
            raise UserError(f"--to {self.to}: expected one of gguf, ollama")
        for flag, value, known in (("type", self.type, TYPES), ("dtype", self.dtype, DTYPES)):
            if value is not None and value.upper() not in known:
                raise UserError(f"--{flag} {value}: expected one of {', '.join(known)}")
        if self.type is not None and self.to is None:
            raise UserError("--type is a GGUF's: with --dtype leave it out")
        if self.out is not None and not self.out.strip():
            raise UserError("--out: is empty; name a file or a folder, or leave the flag out")


@dataclass(frozen=True)
class Written:
    """What was written, and what a user should know of it, a line each."""

    path: Path
    lines: list[str]


def export(path: Path, wanted: Export) -> Written:
    """Write checkpoint `path` in another form. UserError."""
    kind = (wanted.dtype or wanted.type or "F16").upper()
    form = wanted.to or "folder"
    ending = {"folder": "", "gguf": ".gguf", "ollama": "-ollama"}[form]
    out = Path(wanted.out or path.with_name(f"{path.name}-{kind.lower()}{ending}"))
    _refuse_existing(out)
    if path.resolve() in out.resolve().parents:
        raise UserError(f"--out {out}: is inside the checkpoint, which stays as it is; name a place beside it")
    write = {"folder": export_folder, "gguf": export_gguf, "ollama": export_ollama}[form]
    try:
        return Written(out, write(path, kind, out))
    except (OSError, SafetensorError) as error:
        raise UserError(unwritable(error) or f"{out}: cannot be written: {error}") from None


def export_gguf(path: Path, kind: str, out: Path) -> list[str]:
    """The checkpoint as the GGUF `out`, its matrices as `kind`."""
    shape, tok, metadata = _opened(path)
    with atomic_file(out) as temporary:
        write_gguf(temporary, path, shape, kind, metadata)
        _refuse_existing(out)
    return [*_notes(shape, tok, kind), f"wrote  {out} ({_size(out)})", f"next:  llama-server -m {out} --jinja"]


def export_ollama(path: Path, kind: str, out: Path) -> list[str]:
    """The checkpoint as a folder that Ollama takes: model.gguf and a Modelfile."""
    shape, tok, metadata = _opened(path)
    check_ollama(tok, architecture(shape))
    with atomic_folder(out) as temporary:
        write_gguf(temporary / "model.gguf", path, shape, kind, metadata)
        (temporary / "Modelfile").write_text(modelfile("model.gguf", shape.seq_len), encoding="utf-8")
        _refuse_existing(out)
    name = re.sub(r"[^a-z0-9._-]+", "-", metadata["general.name"].lower())
    return [
        *_notes(shape, tok, kind),
        f"wrote  {out} ({_size(out / 'model.gguf')} and a Modelfile)",
        f"next:  ollama create {name} -f {out / 'Modelfile'} && ollama run {name}",
    ]


def export_folder(path: Path, kind: str, out: Path) -> list[str]:
    """The checkpoint as a `transformers` folder with weights of type `kind`, and a loam.json that says so."""
    meta = verify(path)
    dtype_name = str(DTYPES[kind]).removeprefix("torch.")
    with atomic_folder(out) as temporary:
        for name in meta["files"]:
            if "/" not in name and name != "model.safetensors":
                (temporary / name).write_bytes((path / name).read_bytes())
        config = read_json(path / "config.json")
        write_json(temporary / "config.json", {**config, "dtype": dtype_name, "torch_dtype": dtype_name})
        weights, stored = {}, set()
        with safe_open(path / "model.safetensors", framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                weight = file.get_tensor(name)
                check_range(name, weight, kind)
                weights[name] = weight.to(DTYPES[kind])
                stored.add(str(weight.dtype).removeprefix("torch."))
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / "loam.json", _provenance(path, meta, temporary, dtype_name, sorted(stored)))
        _refuse_existing(out)
    size = _size(out / "model.safetensors")
    return [f"wrote  {out} ({size} of weights, {dtype_name})", f"next:  python chat.py {out}"]


def _provenance(path: Path, meta: dict[str, Any], folder: Path, dtype: str, stored: list[str]) -> dict[str, Any]:
    """The new folder's loam.json: the checkpoint's, but its figures were measured with other weights."""
    origin = {"checkpoint": path.name, "seal": meta["seal"], "weights": meta["files"]["model.safetensors"]}
    kept = {key: value for key, value in meta.items() if key not in ("files", "seal", "metrics")}
    made_from = {**origin, "dtype": ", ".join(stored), "metrics": meta.get("metrics", {})}
    hashes = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    return sealed({**kept, "dtype": dtype, "made_from": made_from, "files": hashes})


def _opened(path: Path) -> tuple[Shape, Tokenizer, dict[str, Any]]:
    """Shape and tokenizer of a verified checkpoint, and what its GGUF says besides the weights."""
    gguf_library()
    meta = verify(path)
    if not is_own(path):
        raise UserError(
            f"{path}: its tokenizer and template were made elsewhere, and GGUFs are written with loam's own; "
            "llama.cpp's convert_hf_to_gguf.py knows others' by name"
        )
    shape, tok = load_shape(path), load_tokenizer(path)
    if shape.vocab_size != tok.vocab_size:
        raise UserError(f"{path}: the model has {shape.vocab_size} tokens, its tokenizer {tok.vocab_size}")
    template = read_json(path / "tokenizer_config.json").get("chat_template")
    if not isinstance(template, str):
        raise UserError(f"{path}/tokenizer_config.json has no chat template: nobody could ask the model anything")
    about = {
        "general.type": "model",
        "general.name": "-".join(str(part) for part in (meta.get("run"), path.name) if part),
        "general.description": f"a checkpoint of loam, {meta['step']:,} steps, seal {meta['seal']}",
    }
    return shape, tok, {**about, **gguf_tokenizer(tok, template)}


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists, and nothing is overwritten: delete it, or name another with --out")


def _notes(shape: Shape, tok: Tokenizer, kind: str) -> list[str]:
    """What is otherwise than asked for, or than might be thought."""
    widths = (shape.hidden_size, shape.num_heads * shape.head_dim, shape.intermediate_size)  # of rows of matrices
    odd = sorted({width for width in widths if stored_type((1, width), kind) != kind})
    notes = [f"note: rows of {width} numbers make no blocks of {BLOCK}: those matrices are F16" for width in odd]
    if ends := early_ends(tok):
        notes.append(f"note: llama.cpp ends an answer at {', '.join(ends)}, which this vocabulary has as text")
    return notes


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:,.1f} MB"


def main() -> None:
    """The command."""
    settings = load_command(None, description=__doc__, positional={"checkpoint": "1"}, options=Export)
    print(*export(find_checkpoint(settings.args.checkpoint, settings.args.run), settings.args.options).lines, sep="\n")


if __name__ == "__main__":
    run_command(main)
