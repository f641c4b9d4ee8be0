"""What a checkpoint folder is made of, one `Line` a check: files, hashes, provenance, tensors, weights.

In: a folder, loam's own (its loam.json or its chat template says so) or any other that `transformers` would load.
Out: lines, and the header of the weights for the checks that come after. Nothing is written, nothing is unpickled, no
code of the folder is run. What is wrong with a folder is a line; only what is no checkpoint at all is a `UserError`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from common.errors import UserError
from common.files import file_sha256, read_json
from common.text import one_line
from model.config import Shape, layer_parameters, outer_parameters
from model.huggingface import DTYPES, load_shape
from tokenizer.template import CHAT_TEMPLATE
from training.checkpoint import FILES, read_meta

PASS, WARN, FAIL, SKIP = "pass", "warn", "fail", "skip"
OWN_FILES = (*FILES, "generation_config.json", "loam.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")  # one is enough
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
INDEX = "model.safetensors.index.json"
SHOWN = 3  # tensors or files that a line names
ANOTHER = "take another checkpoint, or copy this one again from where it is sound"


@dataclass(frozen=True)
class Line:
    """What one check found."""

    status: str  # pass, warn, fail or skip
    name: str
    found: str  # with its figure
    todo: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Folder:
    """A checkpoint folder's JSON files, read once: a run may rewrite loam.json meanwhile."""

    path: Path
    own: bool  # made by loam
    meta: dict[str, Any]  # loam.json; empty where there is none, or a damaged one
    config: dict[str, Any]
    generation: dict[str, Any]
    tokenizer: dict[str, Any]
    damage: dict[str, str]  # JSON file -> what is wrong with it

    def lacks(self, name: str) -> bool:
        """Whether a file is missing or cannot be read; the line `files` tells."""
        return name in self.damage or not (self.path / name).is_file()

    def weight_files(self) -> list[Path]:
        """The safetensors files that make up the model, there or not."""
        index = self.path / INDEX
        if index.is_file() and not (self.path / "model.safetensors").is_file():
            names = {str(name) for name in inside(_object(index, self.damage), "weight_map").values()}
            return [self.path / name for name in sorted(names) if Path(name).name == name]
        return [self.path / "model.safetensors"]


@dataclass
class Stored:
    """The headers of the weights."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]  # safetensors' names
    file_of: dict[str, Path]

    @property
    def num_numbers(self) -> int:
        return sum(prod(shape) for shape in self.shapes.values())


def open_folder(path: Path) -> Folder:
    """The folder's JSON files; UserError where it is no checkpoint folder of any kind."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    if not any((path / name).is_file() for name in ("config.json", "loam.json", "model.safetensors", INDEX)):
        raise UserError(f"{path} is not a checkpoint: it has neither config.json nor model.safetensors nor loam.json")
    damage: dict[str, str] = {}
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "loam.json")
    config, generation, tokenizer, meta = (_object(path / name, damage) for name in names)
    own = (path / "loam.json").exists() or tokenizer.get("chat_template") == CHAT_TEMPLATE
    return Folder(path, own, meta, config, generation, tokenizer, damage)


def check_files(folder: Folder) -> Line:
    """All files there, JSON readable; weights that are pickled are named and left alone."""
    path = folder.path
    listed = [name for name in inside(folder.meta, "files") if not name.startswith("trainer/")]
    needed = [*OWN_FILES, *(name for name in listed if name not in OWN_FILES)] if folder.own else ["config.json"]
    missing = [name for name in needed if not (path / name).is_file()]
    missing += [file.name for file in folder.weight_files() if not file.is_file() and file.name not in missing]
    if not folder.own and not any((path / name).is_file() for name in TOKENIZERS):
        missing.append("tokenizer.json")
    pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
    figures = {"missing": missing, "pickled": pickled, "damaged": sorted(folder.damage)}
    if pickled and "model.safetensors" in missing:
        found = f"the weights are pickled ({_some(pickled)}) and not loaded: unpickling runs whatever they say"
        return Line(FAIL, "files", found, "convert them to safetensors where you trust their origin", figures)
    if missing:
        return Line(FAIL, "files", f"{_some(missing)} {'is' if len(missing) == 1 else 'are'} missing", ANOTHER, figures)
    if folder.damage:
        return Line(FAIL, "files", next(iter(folder.damage.values())), ANOTHER, figures)
    number = sum(file.is_file() for file in path.iterdir())
    if pickled:
        found = f"all there; pickled ones are left alone ({_some(pickled)})"
        return Line(WARN, "files", found, "delete them: whoever loads them runs whatever they say", figures)
    trainer = "; trainer/ is there, so a run can go on from it" if (path / "trainer").is_dir() else ""
    return Line(PASS, "files", f"{number} files, all there{trainer}", figures=figures)


def check_hashes(folder: Folder) -> Line:
    """sha256 of every file as loam.json says, and of loam.json by its own seal."""
    if not folder.own:
        return Line(SKIP, "hashes", "no loam.json, so nothing says what the files should be")
    if folder.lacks("loam.json"):
        return Line(SKIP, "hashes", "loam.json, which holds them, cannot be read")
    try:
        files = read_meta(folder.path)["files"]
    except UserError as error:
        return Line(FAIL, "hashes", *_advice(_brief(error, folder.path)))
    named = [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    with ThreadPoolExecutor(2) as pool:  # hashing holds no lock of Python's
        found = dict(zip(named, pool.map(lambda name: _digest(folder.path / name), named), strict=True))
    changed = [name for name, digest in found.items() if digest not in ("", files[name])]
    changed += [name for name in files if name not in found]  # outside of the folder: nobody's files
    # A missing one is the line `files`; without trainer/ the checkpoint was pruned, which is as it should be.
    absent = [name for name, digest in found.items() if not digest and name.startswith("trainer/")]
    if absent and (folder.path / "trainer").is_dir():
        changed += absent
    num_bytes = _size(folder.path / name for name, digest in found.items() if digest)
    figures = {"files": len(files), "bytes": num_bytes, "changed": changed}
    if changed:
        found_text = f"{_some(changed)} {'is' if len(changed) == 1 else 'are'} not what was written (sha256 differs)"
        return Line(FAIL, "hashes", found_text, ANOTHER, figures)
    number = sum(bool(digest) for digest in found.values())
    return Line(PASS, "hashes", f"{number} files, {num_bytes:,} bytes are what was written (sha256)", figures=figures)


def check_provenance(folder: Folder) -> Line:
    """Which run, step, code and versions made it."""
    meta = folder.meta
    if not folder.own:
        by = folder.config.get("transformers_version")
        return Line(SKIP, "made by", f"not by loam; {f'transformers {by}' if by else 'what'} wrote config.json")
    if not meta:
        return Line(SKIP, "made by", "loam.json cannot be read")
    git, made_with = meta.get("git"), inside(meta, "machine").get("torch")
    figures = {**{key: meta.get(key) for key in ("run", "epoch", "step", "tokens", "git")}, "torch": made_with}
    where = ", ".join(f"{key} {meta[key]:,}" for key in ("epoch", "step", "tokens") if isinstance(meta.get(key), int))
    found = f"run {meta.get('run')}, {where}; code {git or 'of no git checkout'}, torch {made_with or 'unknown'}"
    if str(git).endswith("-dirty"):
        return Line(
            WARN, "made by", found, "the code had changes that no commit holds: commit before you train", figures
        )
    return Line(PASS, "made by", found, figures=figures)


def check_loss_weights(folder: Folder) -> Line:
    """Whether prompts had weight in the training loss, and what follows for use."""
    weight = inside(folder.meta, "config", "train").get("prompt_loss_weight")
    if not isinstance(weight, int | float):
        why = "its loam.json does not say" if folder.own else "no loam.json says"
        return Line(SKIP, "trained on", f"{why} which tokens the training loss counted")
    figures = {"prompt_loss_weight": weight}
    if weight == 0:
        found = "responses only (prompt_loss_weight 0): it answers, but never learned to write prompts"
    elif weight < 1:
        found = f"responses, and prompts with weight {weight:g} (prompt_loss_weight)"
    else:
        found = "all tokens, prompts too (prompt_loss_weight 1): it answers, and can go on with a question as well"
    return Line(PASS, "trained on", found, figures=figures)


def read_headers(folder: Folder) -> tuple[Stored | None, Line | None]:
    """Names, shapes and dtypes of all tensors, no numbers; or the line that says why not."""
    stored = Stored({}, {}, {})
    for file in folder.weight_files():
        if not file.is_file():
            return None, Line(SKIP, "tensors", f"{file.name} is missing")
        try:
            with safe_open(file, framework="pt") as header:
                for name in header.keys():  # noqa: SIM118
                    each = header.get_slice(name)
                    stored.shapes[name], stored.dtypes[name] = tuple(each.get_shape()), each.get_dtype()
                    stored.file_of[name] = file
        except (OSError, SafetensorError) as error:
            return None, Line(FAIL, "tensors", f"{file.name} is damaged: {_brief(error, folder.path)}", ANOTHER)
    if not stored.shapes:
        return None, Line(FAIL, "tensors", "the weights hold no tensors", ANOTHER)
    return stored, None


def check_own_tensors(folder: Folder, stored: Stored) -> tuple[Line, Shape | None]:
    """Every tensor that config.json asks for, in its size, and no other; the shape where that is so."""
    if folder.lacks("config.json"):
        return Line(SKIP, "tensors", "config.json, which names them, cannot be read"), None
    try:
        shape = load_shape(folder.path)
    except UserError as error:
        return Line(FAIL, "tensors", *_advice(_brief(error, folder.path))), None
    outer, inner = outer_parameters(shape), layer_parameters(shape)
    number = len(outer) + shape.num_layers * len(inner)
    if number > 100 * len(stored.shapes):  # an absurd number of layers is not written out
        found = f"config.json asks for {number:,} tensors, the weights hold {len(stored.shapes):,}"
        return Line(FAIL, "tensors", found, ANOTHER), None
    expected = {name if name.startswith("lm_head.") else f"model.{name}": size for name, size in outer.items()}
    for layer in range(shape.num_layers):
        expected |= {f"model.layers.{layer}.{name}": size for name, size in inner.items()}
    line = compare_tensors(
        [name for name in expected if name not in stored.shapes],
        [name for name in stored.shapes if name not in expected],
        [(name, stored.shapes[name], size) for name, size in expected.items() if stored.shapes.get(name, size) != size],
        len(stored.shapes),
    )
    other = sorted({dtype for dtype in stored.dtypes.values() if dtype not in DTYPES})
    if line.status == PASS and other:
        return Line(FAIL, "tensors", f"stored as {_some(other)}, which hold no weights of this model", ANOTHER), None
    return line, shape if line.status == PASS else None


def compare_tensors(
    missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[tuple[str, Any, Any]], number: int
) -> Line:
    """The line about tensors other than config.json asks for. misshapen: name, size found, size expected."""
    figures = {"number": number, "missing": [*missing], "unexpected": [*unexpected],
               "misshapen": [name for name, _, _ in misshapen]}  # fmt: skip
    wrong = []
    if misshapen:
        name, found, expected = misshapen[0]
        more = f" (and {len(misshapen) - 1} more)" if len(misshapen) > 1 else ""
        wrong.append(f"{name} is {tuple(found)} where config.json asks for {tuple(expected)}{more}")
    if missing:
        wrong.append(f"{_some(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if unexpected:
        wrong.append(f"{_some(unexpected)} {'is' if len(unexpected) == 1 else 'are'} not asked for")
    if wrong:
        return Line(FAIL, "tensors", "; ".join(wrong), ANOTHER, figures)
    return Line(PASS, "tensors", f"{number:,} tensors, each in the size that config.json asks for", figures=figures)


def check_weights(stored: Stored) -> Line:
    """No NaN, no infinity, no matrix of equal numbers."""
    broken: dict[str, str] = {}
    flat: list[str] = []
    vectors: list[bool] = []
    for file in sorted(set(stored.file_of.values())):
        with safe_open(file, framework="pt") as weights:
            for name in sorted(name for name, its in stored.file_of.items() if its == file):
                tensor = weights.get_tensor(name)
                if not tensor.is_floating_point() or tensor.numel() == 0:
                    continue
                tensor = tensor.float() if tensor.element_size() == 1 else tensor
                low, high = (float(value) for value in torch.aminmax(tensor))
                if not (abs(low) < torch.inf and abs(high) < torch.inf):  # NaN is neither
                    nans = int(tensor.isnan().sum())
                    kind = f"{nans:,} NaN" if nans else f"{int(tensor.isinf().sum()):,} infinite"
                    broken[name] = f"{name} holds {kind} of {tensor.numel():,} numbers"
                elif tensor.dim() > 1 and tensor.numel() > 1 and low == high:
                    flat.append(f"{name} is {low:g} everywhere")
                elif tensor.dim() == 1 and tensor.numel() > 1:
                    vectors.append(low == high)
    figures = {"non_finite": list(broken), "constant": flat, "numbers": stored.num_numbers}
    if broken:
        more = f" (and {len(broken) - 1} more tensors)" if len(broken) > 1 else ""
        return Line(FAIL, "weights", next(iter(broken.values())) + more, "training has diverged: " + ANOTHER, figures)
    if flat:
        return Line(FAIL, "weights", _some(flat), "nothing was learned or stored there: " + ANOTHER, figures)
    if vectors and all(vectors):
        found = f"{stored.num_numbers:,} numbers, all finite; each norm and bias is one number over and over"
        todo = "make sure that this model was trained: so it is before the first step"
        return Line(WARN, "weights", found, todo, figures)
    return Line(PASS, "weights", f"{stored.num_numbers:,} numbers, all finite; no tensor is constant", figures=figures)


def check_size(folder: Folder, stored: Stored, seq_len: int | None) -> Line:
    """Parameters, how they are stored, bytes on disk, context."""
    num_bytes = _size(Path(place) / name for place, _, names in os.walk(folder.path) for name in names)
    numbers: dict[str, int] = {}
    for name, dtype in stored.dtypes.items():
        numbers[dtype] = numbers.get(dtype, 0) + prod(stored.shapes[name])
    main = max(numbers, key=lambda dtype: numbers[dtype])
    figures = {"parameters": stored.num_numbers, "dtypes": numbers, "bytes": num_bytes, "seq_len": seq_len}
    found = f"{stored.num_numbers:,} parameters as {main}, {num_bytes:,} bytes on disk"
    found += f", context {seq_len:,} tokens" if seq_len else ", no context length stated"
    said = folder.config.get("dtype") or folder.config.get("torch_dtype")
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    if said and main in names and said != names[main]:
        return Line(WARN, "size", f"{found}; config.json says {said}", "correct its dtype: engines believe it", figures)
    return Line(PASS, "size", found, figures=figures)


def tell(lines: Sequence[Line], name: str) -> str:
    """The status of the check of that name."""
    return next((line.status for line in lines if line.name == name), SKIP)


def inside(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The object that lies in objects; empty where there is none: a damaged file may hold anything."""
    for key in keys:
        found = value.get(key)
        value = found if isinstance(found, dict) else {}
    return value


def _object(file: Path, damage: dict[str, str]) -> dict[str, Any]:
    """A JSON object; empty where there is none, or none that can be read: `damage` then says why."""
    if not file.is_file():
        return {}
    try:
        found = read_json(file)
    except UserError as error:
        damage[file.name] = _brief(error, file.parent)
        return {}
    if not isinstance(found, dict):
        damage[file.name] = f"{file.name} is damaged: it holds no object"
        return {}
    return found


def _size(files: Iterable[Path]) -> int:
    """Bytes of all; a run may drop some meanwhile."""
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def _digest(file: Path) -> str:
    """sha256, or nothing where the file is not there (any more)."""
    try:
        return file_sha256(file)
    except FileNotFoundError:
        return ""


def _brief(error: BaseException, folder: Path) -> str:
    """An error in one line, without the folder's name, which everybody knows."""
    return one_line(str(error).replace(f"{folder}/", "").replace(str(folder), "the folder"), 300)


def _advice(said: str) -> tuple[str, str]:
    """A message of loam's own, and what to do, which may stand in it already."""
    found, colon, todo = said.rpartition(": ")
    return (found, todo) if colon and todo.startswith("take another") else (said, ANOTHER)


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return one_line(", ".join(listed[:SHOWN]) + more, 300)
