"""What a checkpoint folder is made of, one `Line` a check: files, hashes, provenance; and what a `Line` is.

In: a folder, loam's own (its loam.json or its chat template says so) or any other that `transformers` would load.
Out: lines, and the folder's JSON files, read once, for the checks that come after. Nothing is written, nothing is
unpickled, no code of the folder is run. What is wrong with a folder is a line; only what is no checkpoint at all is a
`UserError`.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import file_sha256, read_json
from common.text import one_line
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
    own: bool  # of loam's template and tokenizer; else checked as others' are, even where loam trained it on
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


def open_folder(path: Path) -> Folder:
    """The folder's JSON files; UserError where it is no checkpoint folder of any kind."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    if not any((path / name).is_file() for name in ("config.json", "loam.json", "model.safetensors", INDEX)):
        raise UserError(f"{path} is not a checkpoint: it has neither config.json nor model.safetensors nor loam.json")
    damage: dict[str, str] = {}
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "loam.json")
    config, generation, tokenizer, meta = (_object(path / name, damage) for name in names)
    template = tokenizer.get("chat_template")
    own = meta.get("dialog", "loam") == "loam" if (path / "loam.json").exists() else template == CHAT_TEMPLATE
    return Folder(path, own, meta, config, generation, tokenizer, damage)


def check_files(folder: Folder) -> Line:
    """All files there, JSON readable; weights that are pickled are named and left alone."""
    path = folder.path
    listed = [name for name in inside(folder.meta, "files") if not name.startswith("trainer/")]
    needed = list(dict.fromkeys([*(OWN_FILES if folder.own else ["config.json"]), *listed]))
    missing = [name for name in needed if not (path / name).is_file()]
    missing += [file.name for file in folder.weight_files() if not file.is_file() and file.name not in missing]
    if not folder.own and not any((path / name).is_file() for name in TOKENIZERS):
        missing.append("tokenizer.json")
    pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
    figures = {"missing": missing, "pickled": pickled, "damaged": sorted(folder.damage)}
    if pickled and "model.safetensors" in missing:
        found = f"the weights are pickled ({some(pickled)}) and not loaded: unpickling runs whatever they say"
        return Line(FAIL, "files", found, "convert them to safetensors where you trust their origin", figures)
    if missing:
        return Line(FAIL, "files", f"{some(missing)} {'is' if len(missing) == 1 else 'are'} missing", ANOTHER, figures)
    if folder.damage:
        return Line(FAIL, "files", next(iter(folder.damage.values())), ANOTHER, figures)
    number = sum(file.is_file() for file in path.iterdir())
    if pickled:
        found = f"all there; pickled ones are left alone ({some(pickled)})"
        return Line(WARN, "files", found, "delete them: whoever loads them runs whatever they say", figures)
    trainer = "; trainer/ is there, so a run can go on from it" if (path / "trainer").is_dir() else ""
    return Line(PASS, "files", f"{number} files, all there{trainer}", figures=figures)


def check_hashes(folder: Folder) -> Line:
    """sha256 of every file as loam.json says, and of loam.json by its own seal."""
    if not folder.own and not folder.meta:
        return Line(SKIP, "hashes", "no loam.json, so nothing says what the files should be")
    if folder.lacks("loam.json"):
        return Line(SKIP, "hashes", "loam.json, which holds them, cannot be read")
    try:
        files = read_meta(folder.path)["files"]
    except UserError as error:
        return Line(FAIL, "hashes", *advice(brief(error, folder.path)))
    named = [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    with ThreadPoolExecutor(2) as pool:  # hashing holds no lock of Python's
        found = dict(zip(named, pool.map(lambda name: _digest(folder.path / name), named), strict=True))
    changed = [name for name, digest in found.items() if digest not in ("", files[name])]
    changed += [name for name in files if name not in found]  # outside of the folder: nobody's files
    # A missing one is the line `files`; without trainer/ the checkpoint was pruned, which is as it should be.
    absent = [name for name, digest in found.items() if not digest and name.startswith("trainer/")]
    if absent and (folder.path / "trainer").is_dir():
        changed += absent
    num_bytes = size_of(folder.path / name for name, digest in found.items() if digest)
    figures = {"files": len(files), "bytes": num_bytes, "changed": changed}
    if changed:
        found_text = f"{some(changed)} {'is' if len(changed) == 1 else 'are'} not what was written (sha256 differs)"
        return Line(FAIL, "hashes", found_text, ANOTHER, figures)
    number = sum(bool(digest) for digest in found.values())
    return Line(PASS, "hashes", f"{number} files, {num_bytes:,} bytes are what was written (sha256)", figures=figures)


def check_provenance(folder: Folder) -> Line:
    """Which run, step, code and versions made it."""
    meta = folder.meta
    if not folder.own and not meta:
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
        damage[file.name] = brief(error, file.parent)
        return {}
    if not isinstance(found, dict):
        damage[file.name] = f"{file.name} is damaged: it holds no object"
        return {}
    return found


def size_of(files: Iterable[Path]) -> int:
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


def brief(error: BaseException, folder: Path) -> str:
    """An error in one line, without the folder's name, which everybody knows."""
    return one_line(str(error).replace(f"{folder}/", "").replace(str(folder), "the folder"), 300)


def advice(said: str) -> tuple[str, str]:
    """A message of loam's own, and what to do, which may stand in it already."""
    found, colon, todo = said.rpartition(": ")
    return (found, todo) if colon and todo.startswith("take another") else (said, ANOTHER)


def some(names: Sequence[str] | Mapping[str, Any]) -> str:
    """The first few of them, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return one_line(", ".join(listed[:SHOWN]) + more, 300)
