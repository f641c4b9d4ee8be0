"""What is known of a row without any other: who it equals, what it is made of, what it shows by itself.

In: rows as JSON texts, about a thousand at a time, in whichever process. Out: the rows after the steps for one row
(data/clean.py), with a fact in each column of FACTS: hashes and signatures that find rows like it, sizes, signs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.clean import DEFAULT_STEPS, clean_row, normal
from data.columns import Row
from data.detect.sketch import NUM_HASHES, ngrams, signatures, word_hashes

HASHED = ("question", "answer", "context")
FACTS = pa.schema(
    [
        ("row", pa.large_string()),
        ("id", pa.binary(16)),
        ("tie", pa.uint64()),
        ("key", pa.binary(16)),
        ("source", pa.uint16()),
        ("is_text", pa.bool_()),
        ("usable", pa.bool_()),
        ("n_bytes", pa.int64()),
        ("num_words", pa.int32()),
        *((name, pa.uint64()) for name in HASHED),
        ("asked", pa.uint64()),
        ("signature", pa.binary(2 * NUM_HASHES)),
    ]
)
TIED = ("source", "category", "difficulty", "group", "origin")


@dataclass(frozen=True)
class Settings:
    """What the steps of one row are told; picklable."""

    sources: tuple[str, ...]
    min_bytes: int
    steps: tuple[str, ...] = DEFAULT_STEPS


def facts_of(texts: list[str], settings: Settings) -> pa.RecordBatch:
    """Rows, cleaned one by one, and their facts: columns of FACTS."""
    rows = [clean_row(json.loads(text), settings.min_bytes, settings.steps) for text in texts]
    hashes, offsets = word_hashes([compared_text(row) for row in rows])
    grams, starts = ngrams(hashes, offsets, 2)
    numbers = {name: i for i, name in enumerate(settings.sources)}
    columns = {
        "row": [json.dumps(row, ensure_ascii=False) for row in rows],
        "id": [bytes.fromhex(row["id"]) for row in rows],
        "tie": [hash_of("\0".join(row[name] or "" for name in TIED)) for row in rows],
        "key": [bytes.fromhex(row["key"] or "0" * 32) for row in rows],
        "source": [numbers[row["source"]] for row in rows],
        "is_text": [row["kind"] == "text" for row in rows],
        "usable": [row["reason"] is None for row in rows],
        "n_bytes": [row["n_bytes"] for row in rows],
        "num_words": np.diff(offsets),
        **{name: [field_hash(row[name]) for row in rows] for name in HASHED},
        "asked": [hash_of(asked) if (asked := asked_words(row["question"])) else 0 for row in rows],
        "signature": _binary(signatures(grams, starts)),
    }
    return pa.RecordBatch.from_arrays(
        [column if isinstance(column, pa.Array) else pa.array(column, field.type) for field, column in _with(columns)],
        schema=FACTS,
    )


def _with(columns: dict[str, object]) -> list[tuple[pa.Field, object]]:
    return [(field, columns[field.name]) for field in FACTS]


def _binary(values: np.ndarray) -> pa.Array:
    """uint16 (N, width) as fixed-size binary."""
    width = values.shape[1] * 2
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def compared_text(row: Row) -> str:
    """What is judged when rows are compared: the text, or question and answer."""
    return row["text"] if row["kind"] == "text" and row["text"] else f"{row['question'] or ''}\n{row['answer'] or ''}"


def compared_fields(row: Row) -> tuple[str, ...]:
    """The same, field by field."""
    return (row["text"],) if row["kind"] == "text" else (row["question"], row["answer"])


def field_hash(value: str | None) -> int:
    """Of a field after NFC, case folding and with every run of white space as one space; 0: there is nothing."""
    folded = normal(value).casefold() if value else ""
    return hash_of(folded) if folded else 0


def asked_words(question: str | None) -> str:
    """What makes two questions the same: all but case, white space and the marks at their end."""
    return normal(question).casefold().strip(" ?？.。!:;\"'“”‘’") if question else ""


def hash_of(text: str) -> int:
    """64 bits of a text, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


def first_of_each(keys: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """For each of `rows` (ascending), the first of them with its key."""
    _, first, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
    return np.asarray(rows)[first[inverse]]
