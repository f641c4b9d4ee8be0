"""The run folder: where each stage's files are, whose settings made them, and what `ckpt6` means.

runs/<run>/config.toml is written before work starts. A stage that has finished freezes its sections: the same
settings continue the run, others are refused with the difference shown, so nothing is ever overwritten.
"""

import fcntl
import os
import re
import shutil
import socket
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from common.errors import UserError
from common.files import atomic_file

RUNS = Path("runs")

# stage, in order -> (sections of config.toml that it depends on, patterns of files that exist once it has output)
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prepare": (("source", "prepare"), ("corpus/manifest.json",)),
    "tokenizer": (("tokenizer",), ("tokenizer/tokenizer.json",)),
    "train": (("model", "train"), ("metrics.jsonl", "ckpt*", "step-*")),
}
# Keys of [train] that a run may go on with although it began with others, where the user names them (--change): neither
# the optimizers' state nor the data's places depend on them.
CHANGEABLE = (
    "epochs",
    "lr",
    "embedding_lr",
    "min_lr",
    "warmup_ratio",
    "weight_decay",
    "momentum",
    "beta1",
    "beta2",
    "grad_clip",
    "prompt_loss_weight",
    "deterministic",
    "samples",
    "sample_tokens",
)
# Keys that change how fast a run is made, not what it becomes: they may differ when it is continued.
FREE_KEYS = {
    "train": {
        "micro_batch",
        "compile",
        "device",
        "parallel",
        "activation_checkpointing",
        "save_minutes",
        "save_steps",
        "verify",
        "average",
    }
}


class InUse(UserError):
    """Another command holds the run."""

    def __init__(self, who: str) -> None:
        super().__init__(f"{who}: wait for it, or take another --run")
        self.who = who


def run_folder(name: str) -> Path:
    """Folder of the run `name`; a name that would leave runs/ is refused."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise UserError(f"--run {name!r}: a run's name is letters, digits, '.', '_', '+', '-', as in --run faq-2")
    return RUNS / name


def claim(
    name: str, sections: Mapping[str, Any], stage: str = "train", write: bool = True, accepted: Collection[str] = ()
) -> Path:
    """Make the run's folder and write config.toml, or refuse if a finished stage was made with other settings.

    `accepted`: keys of [train] that may differ from those settings, because the user named them.
    Stages after `stage` are none of the caller's business: if they have output, what is recorded for them stays.
    `write` False: only refuse.
    """
    folder = run_folder(name)
    recorded = read_config(folder / "config.toml") if (folder / "config.toml").exists() else {}
    mine = list(STAGES)[: list(STAGES).index(stage) + 1]
    for later in STAGES:
        names, _ = STAGES[later]
        if not recorded or not has_output(folder, later):
            continue
        if later not in mine:
            sections = {**sections, **{section: recorded.get(section, {}) for section in names}}
            continue
        for section in names:
            free = FREE_KEYS.get(section, set()) | (set(accepted) if section == "train" else set())
            difference = _difference(recorded.get(section), sections[section], free)
            if difference:
                raise UserError(
                    f"{folder} already holds the output of another configuration ([{section}] {difference}): "
                    f"nothing is overwritten; take another name with --run"
                    + (f", or go on with --change {key}" if (key := difference.partition(":")[0]) in CHANGEABLE else "")
                )
    if write:
        write_config(folder / "config.toml", sections)
    return folder


def has_output(folder: Path, stage: str) -> bool:
    """Whether a stage of the run has written anything that counts."""
    return any(next(folder.glob(pattern), None) is not None for pattern in STAGES[stage][1])


@contextmanager
def claimed(
    name: str, sections: Mapping[str, Any], stage: str, write: bool = True, accepted: Collection[str] = ()
) -> Iterator[Path]:
    """The run's folder, locked and claimed for a stage. A user's mistake in the stage leaves config.toml as it was."""
    folder = run_folder(name)
    with locked(folder):
        file = folder / "config.toml"
        before = file.read_bytes() if file.exists() else None
        claim(name, sections, stage, write, accepted)
        try:
            yield folder
        except UserError:
            if not has_output(folder, stage):
                if before is None:
                    file.unlink(missing_ok=True)
                else:
                    with atomic_file(file) as temporary:
                        temporary.write_bytes(before)
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for writing; a second command on the same run is refused with one line. Clears what a kill left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InUse(f"{folder} is in use by {file.read().strip() or 'another process'}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        remove_litter(folder)
        yield


def remove_litter(folder: Path) -> None:
    """Finish or undo the writes that a kill interrupted: `.name.pid.tmp` goes, `.name.pid.old` comes back if needed."""
    for path in folder.glob(".*.old"):
        target = folder / path.name[1:].rsplit(".", 2)[0]
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for pattern in (".*.tmp", "*/.*.tmp"):  # one after the other: the first may hold some of the second
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def frozen_sections(name: str) -> dict[str, Any]:
    """Sections of a run's config.toml whose stage has output: they are what they are."""
    folder = run_folder(name)
    recorded = read_config(folder / "config.toml") if (folder / "config.toml").exists() else {}
    finished = [STAGES[stage][0] for stage in STAGES if has_output(folder, stage)]
    return {section: recorded[section] for names in finished for section in names if section in recorded}


def read_config(path: Path) -> dict[str, Any]:
    """A TOML file as plain values; syntax errors become one line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None


def write_config(path: Path, sections: Mapping[str, Any]) -> None:
    """Write the resolved configuration; keys without a value are left out, as TOML has no null."""
    with atomic_file(path) as temporary:
        temporary.write_text(tomli_w.dumps({k: _plain(v) for k, v in sections.items() if v}), encoding="utf-8")


def newest_run() -> Path:
    """The run whose checkpoints changed last, by the clock of the file system."""
    found = [path for folder in RUNS.glob("*") if folder.is_dir() for path in checkpoints(folder)]
    if not found:
        raise UserError(
            f"no run in {RUNS.resolve()} has a checkpoint: train one with `torchrun train.py`, or give a path"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent


def checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints in training order: ckpt1, ckpt2, ... (epochs), then step-... ones."""
    return sorted(
        (path for path in run.iterdir() if re.fullmatch(r"ckpt\d+|step-\d+", path.name)),
        key=lambda path: (path.name.startswith("step"), int(re.sub(r"\D", "", path.name))),
    )


def averages(run: Path) -> list[Path]:
    """The run's averages of epochs: ckpt7-10 of ckpt7 to ckpt10."""
    return sorted(path for path in run.iterdir() if re.fullmatch(r"ckpt\d+-\d+", path.name))


def find_checkpoint(name: str, run: str | None = None) -> Path:
    """`ckpt6` is a path if one exists, else that checkpoint of `run` (default: the newest run); RUN/ckpt6 works too."""
    path = Path(name)
    if not name.strip():
        raise UserError("an empty name is no checkpoint: give ckpt6, RUN/ckpt6 or a path")
    if path.is_dir():
        return path
    of_run = len(path.parts) == 2 and not path.is_absolute() and ".." not in path.parts
    if of_run and (run is None or (RUNS / path.parts[0]).is_dir()):
        folder, own = RUNS / path.parts[0], path.parts[1]
    elif path.is_absolute() or ".." in path.parts:
        raise UserError(f"{name}: no such folder")
    else:
        folder, own = run_folder(run) if run else newest_run(), name
    if (folder / own).is_dir():
        return folder / own
    if not folder.is_dir():
        there = ", ".join(sorted(one.name for one in RUNS.glob("*") if one.is_dir()))
        raise UserError(f"{name}: there is no run {folder.name} in {RUNS.resolve()}; there are {there or 'none'}")
    there = ", ".join(one.name for one in checkpoints(folder) + averages(folder))
    raise UserError(
        f"{name}: no such checkpoint; {folder} holds {there or 'none'} (name another run with --run, or give a path)"
    )


def find_checkpoints(name: str, run: str | None = None) -> list[Path]:
    """The checkpoints that a name on a command line means: one, or all epochs of a range (`ckpt1..ckpt10`,
    `RUN/ckpt1..ckpt10`) that the run has."""
    ends = re.fullmatch(r"(.*?)ckpt(\d+)\.\.(?:ckpt)?(\d+)", name)
    if ends is None or Path(name).is_dir():
        return [find_checkpoint(name, run)]
    prefix, low, high = ends[1], int(ends[2]), int(ends[3])
    if low > high:
        raise UserError(f"{name}: a range begins with the earlier epoch, as in {prefix}ckpt{high}..ckpt{low}")
    folder = find_checkpoint(f"{prefix}ckpt{low}", run).parent
    found = [path for path in checkpoints(folder) if path.name.startswith("ckpt") and low <= int(path.name[4:]) <= high]
    if f"ckpt{high}" not in [path.name for path in found]:
        raise UserError(f"{name}: no such checkpoint as ckpt{high}; {folder} holds {', '.join(p.name for p in found)}")
    return found


def relative_source(path: str, base: Path, folder: Path) -> str:
    """A source's path as config.toml in `folder` writes it: relative where it stays inside the working folder."""
    if path.startswith(("$", "/", "~", "python:")):
        return path
    absolute = (base / path).absolute()
    inside = absolute.is_relative_to(Path.cwd())
    return os.path.relpath(absolute, folder.absolute()) if inside else str(absolute)


def _plain(value: Any) -> Any:
    """Dataclass fields and nested values as TOML can hold them."""
    if hasattr(value, "__dataclass_fields__"):
        value = {key: getattr(value, key) for key in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _defaults(value: Any) -> dict[str, Any]:
    """What a section's keys are where nobody sets them, as TOML can hold them; of a plain mapping nothing is known."""
    return _plain(type(value)()) if hasattr(value, "__dataclass_fields__") else {}


def _difference(old: Any, new: Any, free: set[str]) -> str:
    """First differing key as `key: old -> new`, or an empty string. A key that the record lacks, as it is older than
    the key, was what it is by default."""
    now = _plain(new)
    if isinstance(now, dict):
        old = _defaults(new) | (old or {})
        for key in sorted((set(old) | set(now)) - free):
            if old.get(key) != now.get(key):
                return f"{key}: {old.get(key, 'unset')!r} -> {now.get(key, 'unset')!r}"
        return ""
    old, new = old or [], new or []
    for i in range(max(len(old), len(new))):
        if i >= len(old) or i >= len(new):
            return f"{len(old)} sources -> {len(new)} sources"
        if difference := _difference(old[i], new[i], free):
            return f"number {i + 1}: {difference}"
    return ""
