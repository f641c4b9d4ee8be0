"""A file without a [[source]]: which columns are question and answer, or that it is text. Said in words, never silent.

In: a path from a command line (a folder stands for its files). Out: `SourceConfig`s and what was guessed of each.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from data.columns import Header, Row
from data.detect.contamination import Questions, index_questions
from data.readers import read_file, records
from data.sources import COMPRESSIONS, FORMATS, InputFile, SourceConfig, check_sources, list_files

QUESTIONS = ("question", "prompt", "instruction", "query", "problem", "input", "title", "q")
ANSWERS = ("answer", "answers", "output", "response", "completion", "solution", "target", "reply", "a")
TEXTS = ("text", "content", "body", "document", "page", "markdown", "story", "article")
CONTEXTS = ("context", "passage", "background")
LOOKED_AT = 20  # records


def guessed_sources(paths: list[str]) -> tuple[list[SourceConfig], list[str]]:
    """Sources of files and folders, and a line for each that says what was taken for what. Raises UserError."""
    sources: list[SourceConfig] = []
    lines: list[str] = []
    for name in paths:
        for path in _files(Path(name)):
            source, line = guess(path)
            sources.append(source)
            lines.append(line)
    return check_sources(sources), lines


def asked_in(paths: list[str]) -> Questions | None:
    """The questions of files, to be looked for in texts; None: there are no files. Raises UserError."""
    asked = list(questions_of(paths))
    names = [row["source"] for row in asked]
    batch = (list(range(len(asked))), names, [row["question"] for row in asked])
    return index_questions([batch], list(dict.fromkeys(names))) if asked else None


def questions_of(paths: list[str]) -> Iterator[Row]:
    """The rows of files that hold a question; their sources bear the files' paths. Raises UserError."""
    for source in guessed_sources(paths)[0] if paths else []:
        number = 0
        for file in list_files(source, Path(".")):
            for row in read_file(file, source):
                if row["reason"] is None and row["question"]:
                    number += 1
                    yield {**row, "source": source.path}
        if not number:
            raise UserError(f"{source.path}: no question in it")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"no such file: {path}")
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _known(file))
    if not found:
        raise UserError(f"{path}: no file in it has a name that ends in one of {', '.join(sorted(FORMATS))}")
    return found


def _known(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSIONS]
    return bool(suffixes) and suffixes[-1][1:] in FORMATS


def guess(path: Path) -> tuple[SourceConfig, str]:
    """The source that a file is, by its suffix and its first records."""
    as_text = SourceConfig(path=str(path), kind="text")
    is_archive = path.suffix.lower() == ".zip"
    file = list_files(check_sources([as_text])[0], Path("."))[0]  # of an archive, the first member speaks for all
    if file.format == "text":
        return as_text, f"{path}: each member of the archive is a text" if is_archive else f"{path}: a text"
    found = _first_records(file, as_text)
    columns = list(dict.fromkeys(name for record in found for name in record))
    if not columns:
        return SourceConfig(path=str(path)), f"{path}: nothing in it could be read as a row"
    if "paragraphs" in columns:
        return SourceConfig(path=str(path), preset="squad"), f"{path}: passages with questions, as SQuAD has them"
    if {"instruction", "output"} <= set(columns):
        return SourceConfig(
            path=str(path), preset="alpaca"
        ), f"{path}: instruction + input is the question, output the answer"
    question, answer = _one_of(QUESTIONS, columns), _one_of(ANSWERS, columns)
    if question and answer and question != answer:
        source = SourceConfig(path=str(path), question=question, answer=answer, context=_one_of(CONTEXTS, columns))
        if "category" in columns:
            source = replace(source, category="category")
        if "difficulty" in columns:
            source = replace(source, difficulty="difficulty")
        return source, f"{path}: column {question!r} is the question, {answer!r} the answer"
    text = _one_of(TEXTS, columns) or _longest(found)
    if text is None:
        raise UserError(
            f"{path}: none of its columns ({', '.join(columns[:20])}) looks like a question, an answer or a text"
        )
    return SourceConfig(path=str(path), kind="text", text=text), f"{path}: column {text!r} is a text"


def _first_records(file: InputFile, source: SourceConfig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for record in records(file, source):
        if isinstance(record.value, Header):
            found.append(dict.fromkeys(record.value))
        elif isinstance(record.value, dict):
            found.append(record.value)
        if len(found) > LOOKED_AT:
            break
    return found


def _one_of(names: tuple[str, ...], columns: list[str]) -> str | None:
    folded = {column.casefold().strip(): column for column in reversed(columns)}
    return next((folded[name] for name in names if name in folded), None)


def _longest(found: list[dict[str, Any]]) -> str | None:
    """The column with most text."""
    sizes: dict[str, int] = {}
    for record in found:
        for name, value in record.items():
            if isinstance(value, str) and not value.startswith(("http://", "https://")):
                sizes[name] = sizes.get(name, 0) + len(value)
    return max(sizes, key=lambda name: sizes[name]) if any(sizes.values()) else None
