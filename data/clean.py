"""Per-row repairs and checks, and what makes two documents equal.

The order is the invariant: REPAIRS and CHECKS see one row and nothing else, so they run before the split. A step that
learns from many rows (what is boilerplate, which template is overused) is FITTED on the training split alone
(data/fitting.py).

A step is a function of a row; it may repair the row in place, and returns None or (reason, detail) for quarantine.
Unless a repair is among the steps, text reaches the splits byte for byte.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from data.columns import Row
from data.turns import MARKS, has_mark

Verdict = tuple[str, str] | None  # None: the row stays; else reason and detail
CONTENT = ("text", "context", "question", "answer")


def content_bytes(row: Row) -> int:
    """UTF-8 bytes of everything in the row that a model will read."""
    size = sum(len(row[name].encode()) for name in CONTENT if row[name])
    if row["context"] and has_mark(row["context"]):
        size -= sum(len(mark.encode()) * row["context"].count(mark) for mark in MARKS.values())
    return size


def content_id(row: Row) -> str:
    """Names a document by its content: 32 hex digits; where it was found plays no part."""
    return _hash(row["kind"], *(row[name] for name in CONTENT))


def equality_key(row: Row) -> str:
    """Equal for documents that differ in Unicode composition (NFC) or the amount of white space, and in nothing else.

    Case and punctuation count: `print(X)` and `print(x)` are two programs. Grouping looks less closely.
    """
    return _hash(row["kind"], *_normal_fields(row))


def _normal_fields(row: Row) -> list[str | None]:
    return [normal(row[name]) if row[name] else None for name in CONTENT]


def normal(text: str) -> str:
    """NFC, every run of white space one space, none at the ends."""
    if text.isascii():  # which is NFC: a fifth of the time
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", text).split())


def _hash(*fields: str | None) -> str:
    digest = hashlib.sha256()
    for field in fields:  # the length in front: ("a", "bc") is not ("ab", "c")
        content = b"" if field is None else field.encode()
        digest.update(b"-" if field is None else b"%d:" % len(content))
        digest.update(content)
    return digest.hexdigest()[:32]


def required(row: Row) -> tuple[str, ...]:
    """The fields without which a row is no document."""
    return ("text",) if row["kind"] == "text" else ("question", "answer")


# -- steps before the split: one row each


def empty(row: Row) -> Verdict:
    """A question, an answer or a text of white space only."""
    for name in required(row):
        if not (row[name] or "").strip():
            return "empty", f"{name} is empty"
    return None


def too_short(row: Row, min_bytes: int) -> Verdict:
    """Less content than `min_bytes` in all fields together."""
    size = sum(len(row[name].strip().encode()) for name in CONTENT if row[name])
    return ("too_short", f"{size} bytes, the least is {min_bytes}") if size < min_bytes else None


# Names only: what the others do stands in data/steps.py, which needs packages that training does without.
REPAIRS = ("html_to_text", "fix_mojibake", "strip_control", "cut_furniture")
CHECKS = ("empty", "too_short", "length", "repetition", "refusal", "mojibake", "control_characters", "markup", "pii",
          "secret")  # fmt: skip
ALIKE = ("exact_duplicate", "near_duplicate")
FITTED = ("template", "truncated", "language", "boilerplate", "cut_boilerplate", "contamination")
STEPS = (*REPAIRS, *CHECKS, *ALIKE, *FITTED)
DEFAULT_STEPS = ("empty", "too_short", "exact_duplicate")


def clean_row(
    row: Row,
    min_bytes: int,
    steps: Sequence[str] = DEFAULT_STEPS,
    bounds: dict[str, Any] | None = None,
) -> Row:
    """Run the steps for one row among `steps`, in their order, as long as it has no reason; then it has its id and
    size. Returns the row."""
    for name in required(row):  # null is no text at all: there is nothing to train on, whatever the steps
        if row["reason"] is None and row[name] is None:
            row["reason"], row["detail"] = "empty", f"{name} is null"
    for name in steps:
        if row["reason"] is None and (verdict := _run(row, name, min_bytes, bounds or {})):
            row["reason"], row["detail"] = verdict
    return finish(row)


def _run(row: Row, name: str, min_bytes: int, bounds: dict[str, Any]) -> Verdict:
    if name == "empty":
        return empty(row)
    if name == "too_short":
        return too_short(row, min_bytes)
    if name not in REPAIRS and name not in CHECKS:
        return None
    from data import repairs
    from data import steps as all_steps

    if name == "length":
        return repairs.out_of_bounds(row, bounds)
    if name in REPAIRS:
        all_steps.repair(row, name)
        return None
    return all_steps.check(row, name)


def finish(row: Row) -> Row:
    """Set what follows from the content: id, n_bytes, and the key of equality."""
    row["id"], row["n_bytes"], row["key"] = content_id(row), content_bytes(row), ""
    if row["reason"] is None:
        fields = _normal_fields(row)
        # Most texts are normal as they are: one hash less.
        row["key"] = row["id"] if fields == [row[name] for name in CONTENT] else _hash(row["kind"], *fields)
    return row
