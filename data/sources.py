"""What a user names as data: the [[source]] entries of a configuration, checked, as a list of files to read.

In: `SourceConfig` entries and the folder that their relative paths start from. Out: `InputFile`s, sorted by name, one
per file (per member for a .zip archive). Nothing is opened here but archives' directories. Mistakes are `UserError`s.
"""

import glob
import io
import math
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from data.record_templates import is_template, parse_condition, parse_template
from data.sections import parse_section

FORMATS = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
    "pq": "parquet",
    "txt": "text",
    "text": "text",
    "md": "text",
    "markdown": "text",
    "zip": "text",  # a folder's archives count as data; their members are read by their own names (`_members`)
}  # last suffix of a name (after .gz or .zst) -> reader
COMPRESSIONS = (".gz", ".zst")
MOST_WEIGHT = 1000  # an epoch's plan lists each document so many times
PYTHON = "python:"  # path of the embedded corpus: python:docstrings, python:prose


@dataclass
class SourceConfig:
    """One source of documents.

    Args:
        name: what reports call it (default: made from the path)
        path: file or glob, relative to the TOML file; ${NAME} stands for an environment variable; .gz, .zst, .zip too
        kind: qa (a question and its answer a row) or text (documents)
        format: csv, tsv, json, jsonl, parquet or text (default: by the file's suffix)
        records: of JSON files, where the list of records stands, as in data.items (default: the one list there is)
        preset: squad (nested JSON), alpaca (instruction + input + output) or chat (messages) instead of naming columns
        question: column of the question (default: question), or a template, "What does {name} of {school} say?"
        answer: column of the answer (default: answer), or a template
        answers: of a list of answers: the first (default), each in a row of its own, or all of them in one (join)
        sections: in place of answer: columns that make up the answer as named sections, in this order, such as
            "reasoning", or "code: solution" where the column has another name
        turns: of preset chat: together (default: a conversation is one row, trained turn by turn) or pairs (a row for
            each answer, what was said before as its context's text)
        context: column of a passage that the question is about
        category: column that evaluation reports apart
        difficulty: column that evaluation reports apart
        group: column whose equal values never stand on two sides of the split
        text: column of the text, for kind text in a table (default: text), or a template
        keep_if: conditions on columns that a record must meet, such as "score >= 3", "license in CC-BY, CC0"
        split: how a text file becomes documents: file, line, or a regular expression where each new one starts
        delimiter: field separator of a CSV file (default: comma; tab for TSV)
        encoding: of the files: utf-8 (with or without BOM) or any that Python knows, such as cp1252; auto: UTF-8 where
            a file is valid UTF-8, else what its bytes show it to be
        weight: how often training sees each of its documents in an epoch
    """

    name: str | None = None
    path: str = ""
    kind: Literal["qa", "text"] = "qa"
    format: Literal["csv", "tsv", "json", "jsonl", "parquet", "text"] | None = None
    records: str | None = None
    preset: Literal["squad", "alpaca", "chat"] | None = None
    question: str | None = None
    answer: str | None = None
    answers: Literal["first", "each", "join"] | None = None
    sections: list[str] | None = None
    turns: Literal["together", "pairs"] | None = None
    context: str | None = None
    category: str | None = None
    difficulty: str | None = None
    group: str | None = None
    text: str | None = None
    keep_if: list[str] | None = None
    split: str = "file"
    delimiter: str | None = None
    encoding: str = "auto"
    weight: float = 1.0


@dataclass(frozen=True)
class InputFile:
    """One thing to read: a file, or one member of a .zip archive. `shown` is how reports name it."""

    source: str
    path: Path
    member: str | None
    format: str
    shown: str


def embedded_sources() -> list[SourceConfig]:
    """What is read when no source is named: the running Python's own documentation."""
    return [
        SourceConfig(name="python-docstrings", path=PYTHON + "docstrings", kind="qa"),
        SourceConfig(name="python-prose", path=PYTHON + "prose", kind="text"),
    ]


def check_sources(sources: list[SourceConfig]) -> list[SourceConfig]:
    """The same sources, each with a name of its own. Raises UserError for what contradicts itself."""
    checked: list[SourceConfig] = []
    taken: set[str] = set()
    for number, source in enumerate(sources, 1):
        name = source.name or _name_from_path(source.path)
        where = f"source '{_valid(name)}'" if name else f"[[source]] number {number}"
        _check(source, where)
        if name in taken and source.name:
            raise UserError(f"{where}: two sources have this name; give each its own")
        copies = (f"{name}-{i}" for i in range(2, len(sources) + 2))
        name = next(candidate for candidate in (name, *copies) if candidate not in taken)
        taken.add(name)
        checked.append(SourceConfig(**{**vars(source), "name": name}))
    return checked


def list_files(source: SourceConfig, base: Path) -> list[InputFile]:
    """Files of a checked source, sorted. Raises UserError where there are none."""
    assert source.name is not None, "check_sources names every source"
    where = f"source '{source.name}'"
    if source.path.startswith(PYTHON):
        return [InputFile(source.name, Path(source.path), None, "python", source.path)]
    pattern = os.path.expanduser(expand_environment(source.path, where))
    literal = base / pattern
    if literal.is_dir():
        raise UserError(f'{where}: {literal} is a folder; name its files, as in path = "{source.path.rstrip("/")}/*"')
    if literal.exists():
        if literal.stat().st_size == 0:
            raise UserError(f"{where}: {literal} is empty (0 bytes)")
        paths = [literal]
    elif glob.has_magic(pattern):
        paths = [Path(found) for found in glob.glob(str(literal), recursive=True) if os.path.isfile(found)]
        if not paths:
            raise UserError(f"{where}: no file matches {literal}")
    else:
        raise UserError(f"{where}: no such file: {literal}")
    files = [file for path in paths for file in _members(source, path)]
    return sorted(files, key=lambda file: file.shown)


def expand_environment(path: str, where: str) -> str:
    """Replace ${NAME} by the environment's value. Raises UserError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match.group(1))
        if not found:
            raise UserError(
                f"{where}: path {path!r} needs the environment variable {match.group(1)}, which is not set; "
                f"set it to a folder, as in `export {match.group(1)}=/data`"
            )
        return found

    return re.sub(r"\$\{(\w+)\}", value, path)


def _check(source: SourceConfig, where: str) -> None:
    if not source.path:
        raise UserError(f'{where}: path is missing, as in path = "faq/*.csv"')
    if source.name and not source.name.isprintable():
        raise UserError(f"{where}: name {source.name!r} holds what cannot be printed")
    if source.kind not in ("qa", "text"):
        raise UserError(f"{where}: kind is qa or text, not {source.kind!r}")
    if source.preset not in (None, "squad", "alpaca", "chat"):
        raise UserError(f"{where}: preset is squad, alpaca or chat, not {source.preset!r}")
    if source.answers not in (None, "first", "each", "join"):
        raise UserError(f"{where}: answers is first, each or join, not {source.answers!r}")
    if source.format is not None and source.format not in FORMATS.values():
        raise UserError(
            f"{where}: format is one of {', '.join(dict.fromkeys(FORMATS.values()))}, not {source.format!r}"
        )
    try:
        # As the readers decode. "hex" and "rot13" are codecs but not of text; "idna" has no error handlers.
        encoding = "utf-8" if source.encoding == "auto" else source.encoding
        io.TextIOWrapper(io.BytesIO("a".encode(encoding)), encoding, errors="surrogateescape").read()
    except (LookupError, ValueError):
        raise UserError(
            f"{where}: Python knows no encoding {source.encoding!r} for text (auto, utf-8, cp1252, latin-1, ...)"
        ) from None
    if not (math.isfinite(source.weight) and 0 < source.weight <= MOST_WEIGHT):
        raise UserError(f"{where}: weight is a number above 0, {MOST_WEIGHT:,} at most, not {source.weight!r}")
    if source.delimiter is not None and len(source.delimiter) != 1:
        raise UserError(f"{where}: delimiter is one character, not {source.delimiter!r}")
    if source.preset and source.kind == "text":
        raise UserError(f"{where}: preset {source.preset} makes questions and answers, so kind cannot be text")
    named = [key for key in ("question", "answer", "context") if getattr(source, key)]
    if source.preset and named:
        raise UserError(f"{where}: preset {source.preset} names the columns itself; leave out {', '.join(named)}")
    if source.kind == "text" and named:
        raise UserError(f'{where}: kind text has no {", ".join(named)}; say kind = "qa", or name the text column')
    if source.kind == "qa" and (source.text or source.split != "file"):
        raise UserError(f"{where}: {'text' if source.text else 'split'} is for kind text; this source is kind qa")
    if source.turns and source.preset != "chat":
        raise UserError(f'{where}: turns is for preset = "chat"')
    _check_sections(source, where)
    _check_templates(source, where)
    if source.split not in ("file", "line"):
        try:
            re.compile(source.split, re.MULTILINE)
        except re.error as error:
            raise UserError(f"{where}: split {source.split!r} is no regular expression: {error}") from None


def _check_sections(source: SourceConfig, where: str) -> None:
    if source.sections is None:
        return
    if source.preset or source.kind == "text" or source.answer or source.answers:
        raise UserError(f"{where}: sections make up the answer: leave out preset, kind text, answer and answers")
    try:
        names = [parse_section(setting)[0] for setting in source.sections]
    except ValueError as error:
        raise UserError(f"{where}: sections: {error}") from None
    if not names or len(set(names)) < len(names):
        raise UserError(f'{where}: sections are names, each once, as in ["reasoning", "code"]')


def _check_templates(source: SourceConfig, where: str) -> None:
    for key in ("question", "answer", "context", "category", "difficulty", "group", "text"):
        setting = getattr(source, key)
        try:
            if setting and is_template(setting):
                parse_template(setting)
        except UserError as error:
            raise UserError(f"{where}: {key}: {error}") from None
    for setting in source.keep_if or ():
        try:
            parse_condition(setting)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def _members(source: SourceConfig, path: Path) -> list[InputFile]:
    assert source.name is not None
    shown = show_path(path)
    if path.suffix.lower() != ".zip":
        return [InputFile(source.name, path, None, _format(source, path.name, shown), shown)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.filename.endswith("/"))
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:  # of a later version, or a bad name
        raise UserError(f"source '{source.name}': {path} cannot be read as a zip archive: {error}") from None
    files = []
    for member in members:
        inside = f"{shown}!{_valid(member)}"
        files.append(InputFile(source.name, path, member, _format(source, member, inside), inside))
    return files


def _format(source: SourceConfig, name: str, shown: str) -> str:
    if source.format:
        return source.format
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    found = FORMATS.get(suffixes[-1][1:]) if suffixes else None
    if found is None and source.kind == "text":
        return "text"
    if found is None or (found == "text" and source.kind == "qa"):
        tables = "csv, tsv, json, jsonl or parquet"
        raise UserError(
            f"source '{source.name}': {shown} does not look like a table of questions and answers; "
            f'say format = "..." ({tables}), or kind = "text"'
        )
    return found


def show_path(path: Path) -> str:
    """A path as reports name it: relative to the working folder where it lies inside, else absolute; valid UTF-8."""
    full = Path(os.path.abspath(path))
    inside = full.is_relative_to(Path.cwd())
    return _valid(str(full.relative_to(Path.cwd()) if inside else full))


def _valid(text: str) -> str:
    """Valid UTF-8 that moves no cursor: undecodable bytes and control characters as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _name_from_path(path: str) -> str:
    """faq/*.csv.gz -> faq, books/dracula.txt -> dracula: the last part of the path that is not a pattern."""
    for part in reversed(path.split("/")):
        stem = part.split(".")[0] if not glob.has_magic(part) else ""
        if stem and "$" not in stem:
            return stem
    return "source" if path else ""
