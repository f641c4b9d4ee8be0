"""What is known of a row without any other: who it equals, what it is made of, where it stands.

In: rows as JSON texts, about a thousand at a time, in whichever process. Out: the rows after the steps for one row
(data/clean.py), with a fact in each column of FACTS: hashes and signatures that find rows like it, and sizes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data.clean import DEFAULT_STEPS, clean_row, normal
from data.columns import USER_ERROR, Row
from data.detect.sketch import FORM, NUM_HASHES, forms, ngrams, signatures, word_hashes
from data.turns import has_mark, shown

HASHED = ("question", "answer", "context")
LONG_BYTES = 50  # a field of fewer, folded, says little about who belongs together
FACTS = pa.schema(
    [
        ("row", pa.large_binary()),  # JSON and a line end
        ("id", pa.binary(16)),
        ("tie", pa.uint64()),  # of the labels
        ("place", pa.uint64()),  # file and row
        ("key", pa.binary(16)),
        ("source", pa.uint32()),
        ("is_text", pa.bool_()),
        ("usable", pa.bool_()),
        ("n_bytes", pa.int64()),
        ("num_words", pa.int32()),
        *((name, pa.uint64()) for name in HASHED),
        ("long", pa.uint8()),  # a bit for each of HASHED that is long
        ("group", pa.uint64()),
        ("asked", pa.uint64()),
        ("signature", pa.binary(2 * NUM_HASHES)),
        ("form", pa.binary(2 * FORM)),  # of the question, of the answer or text
        ("category", pa.large_string()),
        ("difficulty", pa.large_string()),
        ("note", pa.large_string()),  # what the reader says of the row
        ("mistake", pa.large_string()),  # what a user can mend
    ]
)
LABELS = ("category", "difficulty")
COUNTED = (*LABELS, "note", "mistake")  # counted, and not kept
TIED = ("source", "category", "difficulty", "group")


@dataclass(frozen=True)
class Settings:
    """What the steps of one row are told; picklable."""

    sources: tuple[str, ...]
    min_bytes: int
    steps: tuple[str, ...] = DEFAULT_STEPS
    bounds: dict[str, Any] = field(default_factory=dict)  # data/repairs.py


def facts_of(texts: list[str], settings: Settings) -> pa.RecordBatch:
    """Rows, cleaned one by one, and their facts: columns of FACTS."""
    rows = [*map(orjson.loads, texts)]
    places = [row.pop("place", 0) for row in rows]
    for row in rows:
        clean_row(row, settings.min_bytes, settings.steps, settings.bounds)
    return measured(rows, places, settings.sources)


def measured(rows: list[Row], places: Sequence[int], sources: Sequence[str]) -> pa.RecordBatch:
    """Facts of rows that have their id, size and key (data/clean.py)."""
    hashes, offsets = word_hashes([compared_text(row) for row in rows])
    grams, starts = ngrams(hashes, offsets, 2)
    numbers = {name: i for i, name in enumerate(sources)}
    folded = {name: [fold(row[name]) for row in rows] for name in HASHED}
    long = [
        sum(1 << k for k, text in enumerate(of) if len(text) >= LONG_BYTES or len(text.encode()) >= LONG_BYTES)
        for of in zip(*folded.values(), strict=True)
    ]
    columns = {
        "row": [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows],
        "id": [bytes.fromhex(row["id"]) for row in rows],
        "tie": [hash_of("\0".join([row[name] or "" for name in TIED])) for row in rows],
        "place": list(places),
        "key": [bytes.fromhex(row["key"] or "0" * 32) for row in rows],
        "source": [numbers[row["source"]] for row in rows],
        "is_text": [row["kind"] == "text" for row in rows],
        "usable": [row["reason"] is None for row in rows],
        "n_bytes": [row["n_bytes"] for row in rows],
        "num_words": np.diff(offsets),
        **{name: [hash_of(text) if text else 0 for text in texts] for name, texts in folded.items()},
        "long": long,
        "group": [hash_of(row["group"]) if row["group"] else 0 for row in rows],
        "asked": [hash_of(asked) if (asked := asked_words(row["question"])) else 0 for row in rows],
        "signature": _binary(signatures(grams, starts)),
        "form": _binary(np.hstack([forms([row["question"] or "" for row in rows]), forms([*map(body, rows)])])),
        **{name: [row[name] for row in rows] for name in LABELS},
        "note": [row["note"] for row in rows],
        "mistake": [row["detail"] if row["reason"] == USER_ERROR else None for row in rows],
    }
    return pa.RecordBatch.from_arrays(
        [_array(columns[fact.name], fact.type) for fact in FACTS],
        schema=FACTS,
    )


def _array(values: object, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _binary(values: np.ndarray) -> pa.Array:
    """Integers (N, width) as fixed-size binary."""
    width = values.shape[1] * values.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def body(row: Row) -> str:
    """What a model learns to write: the text, or the answer."""
    return (row["text"] if row["kind"] == "text" else row["answer"]) or ""


def compared_text(row: Row) -> str:
    """What is judged when rows are compared: the text, or question and answer."""
    return "\n".join(text or "" for text in compared_fields(row))


def compared_fields(row: Row) -> tuple[str, ...]:
    """The same, field by field. What was said before counts with the question: many a talk ends with thanks."""
    if row["kind"] == "text":
        return (row["text"],)
    asked = row["question"]
    if row["context"] and has_mark(row["context"]):
        asked = f"{shown(row['context'])}\n{asked or ''}"
    return (asked, row["answer"])


def fold(value: str | None) -> str:
    """A field after NFC, case folding and with every run of white space as one space."""
    return normal(value).casefold() if value else ""


def asked_words(question: str | None) -> str:
    """What makes two questions the same: all but case, white space and the marks at their end."""
    return normal(question).casefold().strip(" ?？.。!:;\"'“”‘’") if question else ""


def hash_of(text: str) -> int:
    """64 bits of a text, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1
