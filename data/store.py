"""Rows on disk, what is known of each in memory: so that a corpus larger than memory can be looked at again and again.

    map_rows (data/engine.py) -> add(batch) ... -> sorted() -> facts (NumPy arrays), take(rows), pieces()

The file holds one JSON text a line, as rows came. Their numbers are in the order of content: by id, then by a hash of
everything else. So nothing that is said of row 17 depends on the order of files, on threads or on machines.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.columns import Row
from data.engine import Piece

LINES_AT_ONCE = 4096
PIECE_BYTES = 64 << 20  # of the file: what one process of a cluster reads


class Store:
    """Rows in a file of a folder that whoever made it removes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rows.jsonl"
        self._file = self.path.open("wb")
        self._ends: list[np.ndarray] = []
        self._parts: dict[str, list[np.ndarray]] = {}
        self._size = 0
        self.facts: dict[str, np.ndarray] = {}
        self._starts = np.zeros(0, np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep the texts of column `row`, and each other column as a fact."""
        rows = [row.encode() + b"\n" for row in batch.column("row").to_pylist()]
        ends = self._size + np.cumsum([len(row) for row in rows], dtype=np.int64)
        self._file.write(b"".join(rows))
        self._size = int(ends[-1]) if len(ends) else self._size
        self._ends.append(ends)
        for name in batch.schema.names:
            if name != "row":
                self._parts.setdefault(name, []).append(_numpy(batch.column(name)))

    def sorted(self) -> "Store":
        """Number the rows by facts `id` and `tie`. No row can be added after it."""
        self._file.close()
        self.facts = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        self._parts = {}
        ends = np.concatenate([np.zeros(1, np.int64), *self._ends])
        self._ends = []
        if len(ends) > 1:
            order = np.lexsort((self.facts["tie"], self.facts["id"]))
            for name in list(self.facts):
                self.facts[name] = self.facts[name][order]
            self._starts, self._lengths = ends[:-1][order], np.diff(ends)[order]
        return self

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, rows: Sequence[int]) -> list[Row]:
        """The rows of these numbers."""
        found = []
        with self.path.open("rb") as file:
            for row in rows:
                found.append(json.loads(os.pread(file.fileno(), int(self._lengths[row]), int(self._starts[row]))))
        return found

    def stream(self, keep: np.ndarray | None = None) -> Iterator[tuple[int, Row]]:
        """(number, row) of all rows, or those where `keep` is true, as they lie on disk: fast, and in no order."""
        for piece in self.pieces(keep):
            for line in piece():
                number, _, row = line.partition("\t")
                yield int(number), json.loads(row)

    def pieces(self, keep: np.ndarray | None = None) -> list[Piece]:
        """For map_rows: texts of a row's number, a tab and its JSON."""
        numbers = np.argsort(self._starts, kind="stable")
        if keep is not None:
            numbers = numbers[keep[numbers]]
        if not len(numbers):
            return []
        sizes = np.cumsum(self._lengths[numbers])
        cuts = np.searchsorted(sizes, np.arange(PIECE_BYTES, sizes[-1] + PIECE_BYTES, PIECE_BYTES))
        return [
            partial(_lines, self.path, part, self._starts[part], self._lengths[part])
            for part in np.split(numbers, np.minimum(cuts + 1, len(numbers)))
            if len(part)
        ]


def _lines(path: Path, numbers: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Iterator[str]:
    with path.open("rb") as file:
        for number, start, length in zip(numbers.tolist(), starts.tolist(), lengths.tolist(), strict=True):
            yield f"{number}\t" + os.pread(file.fileno(), length, start).decode().rstrip("\n")


def _numpy(column: Any) -> np.ndarray:
    """Fixed-size binary becomes rows of bytes (S), or of uint16 where it is a signature; strings stay objects."""
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        content = np.frombuffer(column.buffers()[1], np.uint8)
        content = content[column.offset * width : (column.offset + len(column)) * width]
        if width == 16:
            return content.view("S16").copy()
        return content.view(np.uint16).reshape(len(column), width // 2).copy()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy(zero_copy_only=False)
