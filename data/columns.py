"""A record of a file becomes a row of the corpus: which column is which field, and what is no text.

In: `Record`s, as the readers find them: a dict of columns, or a string of text, and where it stands.
Out: rows with ROW_COLUMNS. A value is text, or a number or boolean written as JSON writes it; of a list of answers the
first is taken, with a note; anything else, and what is no Unicode, gives the row a reason and shows it in `raw`.
"""

import json
from typing import Any, NamedTuple

from common.errors import UserError
from data.sources import InputFile, SourceConfig

Row = dict[str, Any]
ROW_COLUMNS = [
    "source",
    "kind",
    "text",
    "context",
    "question",
    "answer",
    "category",
    "difficulty",
    "group",
    "origin",
    "reason",
    "detail",
    "raw",
    "note",
]
USER_ERROR = "user_error"


class Record(NamedTuple):
    """A record as the file has it. `where` is appended to the file's name: ":12" is line 12, "#3" the third row."""

    where: str
    value: Any = None
    reason: str | None = None
    detail: str | None = None
    raw: str | None = None


class Header(list[str]):
    """The column names of a table that has them apart from its rows."""


class Columns:
    """Maps one file's records to rows, and remembers which columns it saw."""

    def __init__(self, file: InputFile, source: SourceConfig) -> None:
        self.file, self.source = file, source
        self.seen: dict[str, None] = {}
        self.objects = 0

    @staticmethod
    def fields(source: SourceConfig) -> dict[str, str]:
        """Field of the corpus -> column of the file."""
        if source.path.startswith("python:"):
            own = ("text",) if source.kind == "text" else ("question", "answer", "category", "difficulty")
            return {name: name for name in own}
        if source.kind == "text":
            names = {"text": source.text or "text"}
        elif source.preset == "squad":
            names = {"context": "context", "question": "question", "answer": "answers", "category": "title"}
        elif source.preset == "alpaca":
            names = {"question": "instruction", "answer": "output"}
        else:
            names = {"question": source.question or "question", "answer": source.answer or "answer"}
        optional = {key: getattr(source, key) for key in ("context", "category", "difficulty", "group")}
        return names | {key: value for key, value in optional.items() if value}

    @classmethod
    def needed(cls, source: SourceConfig) -> list[str]:
        """All columns that are read."""
        return list(dict.fromkeys([*cls.fields(source).values(), *(["input"] if source.preset == "alpaca" else [])]))

    def check_seen(self) -> None:
        """Raise UserError for a column that no row of the file has."""
        if not self.objects and not self.seen:
            return
        optional = {"title"} if self.source.preset == "squad" else set()
        for name in self.fields(self.source).values():
            if name not in self.seen and name not in optional:
                raise UserError(f"no column {name!r}; there are: {some_of(self.seen)}")

    def row(self, record: Record) -> Row:
        """The record as a row of the corpus; what cannot be used gets a reason."""
        row: Row = dict.fromkeys(ROW_COLUMNS)
        row |= {"source": self.source.name, "kind": self.source.kind, "origin": self.file.shown + record.where}
        row |= {"reason": record.reason, "detail": record.detail, "raw": record.raw}
        if record.reason == USER_ERROR:
            row["detail"] = f"source '{self.source.name}': {self.file.shown}: {record.detail}"
        if record.reason is None:
            self._fill(row, record.value)
        return row

    def _fill(self, row: Row, value: Any) -> None:
        if isinstance(value, str) and self.source.kind == "text":
            row["text"] = value
            return
        if not isinstance(value, dict):
            row |= {"reason": "not_a_row", "detail": f"a {type(value).__name__}, not an object with columns"}
            row["raw"] = printable(json.dumps(value, ensure_ascii=False, default=str))
            return
        self.objects += 1
        self.seen |= dict.fromkeys(value)
        problem = self._convert(row, value)
        if problem is None and not all(is_unicode(text) for text in row.values() if isinstance(text, str)):
            problem = ("encoding", "half a surrogate pair in an escape")
        if problem:
            row |= dict.fromkeys(("text", "context", "question", "answer", "category", "difficulty", "group"))
            row["reason"], row["detail"] = problem
            row["raw"] = printable(json.dumps(value, ensure_ascii=False, default=str))

    def _convert(self, row: Row, value: Row) -> tuple[str, str] | None:
        for field, column in self.fields(self.source).items():
            if column not in value:
                if field in ("question", "answer", "text"):
                    return "missing_column", f"no {column!r}; the row has: {some_of(value)}"
                continue
            item = value[column]
            if field == "answer":
                item, row["note"] = first_answer(item)
            if problem := not_text(column, item):
                return problem
            row[field] = as_text(item)
        if self.source.preset == "alpaca" and value.get("input") not in (None, ""):
            if problem := not_text("input", value["input"]):
                return problem
            if not (row["question"] or "").strip():
                return "empty", "'instruction' is empty"
            row["question"] = f"{row['question']}\n{as_text(value['input'])}"
        for field in ("context", "category", "difficulty", "group"):
            row[field] = row[field] or None  # an empty cell is no value
        return None


def not_text(column: str, item: Any) -> tuple[str, str] | None:
    """Why a value is no text; None for text, for what becomes text, and for null."""
    if item is None or isinstance(item, str | int | float):
        return None
    return "not_text", f"{column!r} is a {type(item).__name__}"


def as_text(item: str | int | float | None) -> str | None:
    return item if isinstance(item, str) or item is None else json.dumps(item)


def first_answer(item: Any) -> tuple[Any, str | None]:
    """The first of several answers (a list, SQuAD's list of {text: ...}, or its {text: [...]}), and a note of it."""
    if isinstance(item, dict) and isinstance(item.get("text"), list):
        item = item["text"]
    note = None
    if isinstance(item, list):
        note = "answer is a list: the first was taken" if len(item) > 1 else None
        item = item[0] if item else None
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        item = item["text"]
    return item, note


def some_of(names: Any) -> str:
    shown = [printable(str(name)) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")


# -- text that is not Unicode


def is_unicode(text: str) -> bool:
    """False if the string holds surrogates: undecodable bytes, or half a pair from a JSON escape."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(content: str | bytes) -> str:
    """Any bytes, or a string with undecodable bytes in it, as valid Unicode: such bytes become \\x92."""
    if isinstance(content, bytes):
        return content.decode("utf-8", "backslashreplace")
    try:
        return content.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair
        return content.encode("utf-8", "backslashreplace").decode("utf-8")
