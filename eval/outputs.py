"""Where the commands of this room may write: never into a checkpoint or a corpus, nor over a file that is not theirs.

In: a flag and the file or folder that it names. Out: nothing, or a `UserError` before any work is done.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from common.errors import UserError
from common.files import read_json

PAGE = b" compared</title>"  # at the beginning of compare's page
BEGINNING = 1 << 16  # bytes
EMPTY = ("", ".json", ".html")  # an empty file of such a name is nobody's (mktemp); a config.toml is a run's


def refuse_file(flag: str, file: Path, checkpoints: Sequence[Path], keys: Collection[str] = ()) -> None:
    """UserError unless `file` is new or what the same command wrote: JSON with these keys; without keys, its page."""
    try:
        if not file.absolute().parent.is_dir():
            raise UserError(f"--{flag} {file}: its folder does not exist")
        file.stat()
    except FileNotFoundError:
        pass  # it is new
    except OSError as error:  # a name too long, a link to itself
        raise UserError(f"--{flag} {file}: {error.strerror or error}") from None
    if file.is_dir():
        raise UserError(f"--{flag} {file}: is a folder; name a file in it")
    refuse_inside(flag, file, checkpoints)
    try:
        TemporaryFile(dir=file.absolute().parent).close()  # os.access calls /proc writable
    except OSError:
        raise UserError(f"{file}: cannot be written there; name another place with --{flag} FILE") from None
    if not os.path.lexists(file) or (file.suffix in EMPTY and file.is_file() and not file.stat().st_size):
        return
    if not (file.is_file() and (_holds(file, keys) if keys else _is_page(file))):
        raise UserError(f"--{flag} {file}: is there and was not written by this command; name another file")


def refuse_inside(flag: str, place: Path, checkpoints: Sequence[Path] = ()) -> None:
    """UserError where a file or folder lies in one of `checkpoints`, or in any other checkpoint or corpus."""
    given = [path.resolve() for path in checkpoints]
    for where in (place.resolve(), place.absolute().parent.resolve() / place.name):  # a link leads to one, or is in one
        for folder in (where, *where.parents):
            kind = "checkpoint" if folder in given or _is_checkpoint(folder) else "corpus" if _is_corpus(folder) else ""
            if kind:
                raise UserError(f"--{flag} {place}: lies in the {kind} {folder}, which is not changed")


def _is_checkpoint(folder: Path) -> bool:
    whole = (folder / "config.json").exists() and any(folder.glob("*.safetensors"))
    return whole or (folder / "loam.json").exists()


def _is_corpus(folder: Path) -> bool:
    return (folder / "manifest.json").exists() and any(folder.glob("*.parquet"))


def _holds(file: Path, keys: Collection[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        found = read_json(file)
    except UserError:
        return False
    return isinstance(found, dict) and set(keys) <= set(found)


def _is_page(file: Path) -> bool:
    with file.open("rb") as page:
        return PAGE in page.read(BEGINNING)
