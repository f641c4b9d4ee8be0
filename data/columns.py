"""A record of a file becomes a row of the corpus: which column is which field, and what is no text.

In: `Record`s, as the readers find them: a dict of columns, or a string of text, and where it stands.
Out: rows with ROW_COLUMNS. A value is text, or a number or boolean written as JSON writes it; of a list of answers the
first is taken, with a note (or all of them, in a row each or joined, as `answers` says); anything else, and what is no
Unicode, gives the row a reason and shows it in `raw`. A conversation is one row, or one for each question that is
answered, as `turns` says; an answer may be made up of `sections`.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from common.errors import UserError
from data.conversations import LISTS, Unpaired, list_name, pairs, together
from data.record_templates import (
    ABSENT,
    Condition,
    Missing,
    Template,
    fails,
    is_template,
    look_up,
    names_of,
    parse_condition,
    parse_template,
    render,
)
from data.sections import join_sections, parse_section
from data.sources import InputFile, SourceConfig
from data.turns import has_mark

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
OWN_FIELDS = ("text", "context", "question", "answer", "category", "difficulty", "group")


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
    """Maps one file's records to rows, and remembers which columns it saw. `note` goes to every row."""

    def __init__(self, file: InputFile, source: SourceConfig, note: str | None = None) -> None:
        self.file, self.source, self.note = file, source, note
        self.seen: dict[str, None] = {}
        self.found: set[str] = set()  # names of templates and conditions that some record had
        self.objects = 0
        self.columns = self.fields(source)
        self.templates: dict[str, Template] = {
            field: parse_template(setting) for field, setting in self.columns.items() if is_template(setting)
        }
        self.conditions: list[Condition] = [parse_condition(setting) for setting in source.keep_if or ()]
        named = [name for template in self.templates.values() for name in names_of(template)]
        self.names = [*named, *(condition.name for condition in self.conditions)]
        self.sections = dict(parse_section(setting) for setting in source.sections or ())

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
        elif source.preset == "chat":
            names = {}
        else:
            names = {"question": source.question or "question"}
            if source.sections is None:
                names["answer"] = source.answer or "answer"
        optional = {key: getattr(source, key) for key in ("context", "category", "difficulty", "group")}
        return names | {key: value for key, value in optional.items() if value}

    @classmethod
    def needed(cls, source: SourceConfig) -> list[str]:
        """All columns that are read; of a dotted path the whole and its first part, for a name may hold a dot."""
        names: list[str] = [parse_condition(setting).name for setting in source.keep_if or ()]
        for setting in cls.fields(source).values():
            names += names_of(parse_template(setting)) if is_template(setting) else [setting]
        names += [name.partition(".")[0] for name in names]
        extra = {"alpaca": ["input"], "chat": list(LISTS)}.get(source.preset or "", [])
        extra += [parse_section(setting)[1] for setting in source.sections or ()]
        return list(dict.fromkeys([*names, *extra]))

    def check_seen(self) -> None:
        """Raise UserError for a column that no row of the file has."""
        if not self.objects and not self.seen:
            return
        optional = {"title"} if self.source.preset == "squad" else set()
        for field, name in self.columns.items():
            if field not in self.templates and name not in self.seen and name not in optional:
                hint = ' (conversations are read with preset = "chat")' if list_name(self.seen) else ""
                raise UserError(f"no column {name!r}; there are: {some_of(self.seen)}{hint}")
        for name in self.names:
            known = name in self.seen or (name.partition(".")[0] in self.seen and not self.objects)
            if not known and name not in self.found:
                raise UserError(f"no column {str(name)!r}; there are: {some_of(self.seen)}")
        if lacking := [column for column in self.sections.values() if column not in self.seen]:
            raise UserError(f"no column {lacking[0]!r}; there are: {some_of(self.seen)}")
        if self.source.preset == "chat" and not list_name(self.seen):
            raise UserError(f"no column {' or '.join(map(repr, LISTS))}; there are: {some_of(self.seen)}")

    def row(self, record: Record) -> Row:
        """A row of the corpus for what is no record: it has a reason. Without one the row is to be filled."""
        row: Row = dict.fromkeys(ROW_COLUMNS)
        row |= {"source": self.source.name, "kind": self.source.kind, "origin": self.file.shown + record.where}
        row |= {"reason": record.reason, "detail": record.detail, "raw": record.raw, "note": self.note}
        if record.reason == USER_ERROR:
            row["detail"] = f"source '{self.source.name}': {self.file.shown}: {record.detail}"
        return row

    def rows(self, record: Record) -> Iterator[Row]:
        """The record as rows, one but for conversations and answers = "each"; what cannot be used gets a reason.

        The second row of record "#7" is "#7.2", and so on.
        """
        row, value = self.row(record), record.value
        if record.reason is not None:
            yield row
        elif isinstance(value, str) and self.source.kind == "text":
            if self.conditions:
                raise UserError("keep_if asks for columns, and a text file has none")
            yield row | {"text": value}
        elif not isinstance(value, dict):
            yield _refused(row, "not_a_row", f"a {type(value).__name__}, not an object with columns", value)
        else:
            self.objects += 1
            self.seen |= dict.fromkeys(value)
            for number, filled in enumerate(self._fill(row, value), 1):
                if number > 1:
                    filled["origin"] += f".{number}"
                yield filled

    def _fill(self, row: Row, value: Row) -> Iterator[Row]:
        for name in self.names:
            if name not in self.found and look_up(value, name) is not ABSENT:
                self.found.add(name)
        for condition in self.conditions:
            if verdict := fails(condition, value):
                yield _refused(row, *verdict, value)
                return
        for filled in self._pairs(row, value) if self.source.preset == "chat" else self._answers(row, value):
            if filled["reason"] is None and not all(is_unicode(text) for text in filled.values() if text):
                filled = _refused(filled, "encoding", "half a surrogate pair in an escape", value)
            yield filled

    def _pairs(self, row: Row, value: Row) -> Iterator[Row]:
        """The rows of a conversation; they stay on one side of the split."""
        try:
            self._columns(row, value)
            row["group"] = row["group"] or row["origin"]
            found = pairs(value) if self.source.turns == "pairs" else together(value)
            for pair in list(found):
                if isinstance(pair, Unpaired):
                    detail = "the end of a conversation: a turn that is no question with its answer"
                    yield row | {"reason": "unpaired", "detail": detail, "raw": printable(pair.text)}
                else:
                    yield row | pair
        except Missing as missing:
            yield _refused(row, missing.reason, missing.detail, value)

    def _answers(self, row: Row, value: Row) -> Iterator[Row]:
        """The row of a record, or one for each of its answers; those stay on one side of the split."""
        try:
            answers, note = self._columns(row, value)
        except Missing as missing:
            yield _refused(row, missing.reason, missing.detail, value)
            return
        if self.source.kind == "text":
            yield row
            return
        row["note"] = "; ".join(filter(None, (row["note"], note))) or None
        if len(answers) > 1:
            row["group"] = row["group"] or row["question"]
        for answer in answers:
            yield row | {"answer": answer}

    def _columns(self, row: Row, value: Row) -> tuple[list[str | None], str | None]:
        """Fill every field of the row but the answer; return the answers, and a note. Raises Missing."""
        answers: list[str | None] = [None]
        note = None
        for field, column in self.columns.items():
            required = field in ("question", "answer", "text")
            if template := self.templates.get(field):
                try:
                    item: Any = render(template, value)
                except Missing:
                    if required:
                        raise
                    continue
            elif column in value:
                item = value[column]
            elif required:
                raise Missing("missing_column", f"no {column!r}; the row has: {some_of(value)}")
            else:
                continue
            items = [item]
            if field == "answer":
                items, note = answers_of(item, self.source.answers or "first")
            for item in items:
                if problem := not_text(column, item):
                    raise Missing(*problem)
            texts = [as_text(item) for item in items]
            if field == "answer":
                answers = [", ".join(filter(None, texts))] if self.source.answers == "join" and texts[1:] else texts
            else:
                row[field] = texts[0]
        if self.source.preset == "alpaca" and value.get("input") not in (None, ""):
            if problem := not_text("input", value["input"]):
                raise Missing(*problem)
            if not (row["question"] or "").strip():
                raise Missing("empty", "'instruction' is empty")
            row["question"] = f"{row['question']}\n{as_text(value['input'])}"
        if self.sections:
            answers = [self._sectioned(value)]
        for field in ("context", "category", "difficulty", "group"):
            row[field] = row[field] or None  # an empty cell is no value
        return answers, note

    def _sectioned(self, value: Row) -> str | None:
        """The answer that the record's sections make up. Raises Missing."""
        texts: dict[str, str | None] = {}
        for name, column in self.sections.items():
            if problem := not_text(column, value.get(column)):
                raise Missing(*problem)
            texts[name] = as_text(value.get(column))
        try:
            return join_sections(texts)
        except ValueError as error:
            raise Missing("sections", str(error)) from None


def _refused(row: Row, reason: str, detail: str, value: Any) -> Row:
    """The row for quarantine: no fields, and the record as it stands."""
    raw = printable(json.dumps(value, ensure_ascii=False, default=str))
    return row | dict.fromkeys(OWN_FIELDS) | {"reason": reason, "detail": detail, "raw": raw}


def not_text(column: str, item: Any) -> tuple[str, str] | None:
    """Why a value is no text; None for text, for what becomes text, and for null."""
    if isinstance(item, str) and has_mark(item):
        return "not_text", f"{column!r} holds U+FDD0 to U+FDD2, which stand for no character"
    if item is None or isinstance(item, str | int | float):
        return None
    return "not_text", f"{column!r} is a {type(item).__name__}"


def as_text(item: str | int | float | None) -> str | None:
    return item if isinstance(item, str) or item is None else json.dumps(item)


def answers_of(item: Any, mode: str) -> tuple[list[Any], str | None]:
    """The answers of a record (one value, a list, SQuAD's list of {text: ...}, or its {text: [...]}), and a note.

    `mode`: first of them, each, or all to join; equal ones count once. At least one value, None where there is none.
    """
    if isinstance(item, dict) and isinstance(item.get("text"), list):
        item = item["text"]
    if not isinstance(item, list):
        items = [item]
    elif mode == "first":
        items = item[:1]
    else:
        items = item
    found: list[Any] = []
    for one in items:
        one = one["text"] if isinstance(one, dict) and isinstance(one.get("text"), str) else one
        if one not in found:
            found.append(one)
    note = None
    if isinstance(item, list) and len(item) > 1:
        taken = {"first": "the first was taken", "each": "each is a row", "join": "joined by commas"}[mode]
        note = f"answer is a list: {taken}"
    return found or [None], note


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
