"""Rows on disk, what is known of each in memory: so that a corpus larger than memory can be looked at again and again.

    map_rows (data/engine.py) -> add(batch) ... -> sorted() -> facts (NumPy arrays), take(rows), pieces()

The file holds one JSON text a line, as rows came. Their numbers are in the order of content: by id, then by a hash of
their labels, then by place. So nothing that is said of row 17 depends on the order of files, on threads or on machines.
A row that changes is written again behind all others; the old line stays where it is.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data.columns import Row
from data.engine import Piece

PIECE_BYTES = 64 << 20  # of the file: what one process of a cluster reads
SORTED_BY = ("id", "tie", "place")
ROWS_READ = 1 << 16  # of a fact, at a time
TAKEN, TAKEN_BYTES = 1024, 16 << 20  # rows at a time, of which a thousand may be books


class Store:
    """Rows in a file of a folder that whoever made it removes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rows.jsonl"
        self.path.touch()
        self.facts: dict[str, np.ndarray] = {}
        self._size = 0
        self._starts = self._lengths = np.zeros(0, np.int64)
        self._columns: dict[str, np.ndarray] = {}  # facts that lie in files as yet: no values, but their type

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep the texts of column `row`, and each other column as a fact.

        Facts go to files until all are there. Small arrays that stay, among large ones that go, would leave holes in
        the heap: of a million rows 1.5 GB, for 0.4 GB of facts.
        """
        assert not self.facts, "rows behind all others come by `extend`"
        for name, values in self._written(batch).items():
            self._columns[name] = values[:0]
            _append(self._file(name), values.tobytes())

    def _file(self, fact: str) -> Path:
        return self.path.with_name(f"{fact}.fact")

    def sorted(self) -> "Store":
        """Number the rows by the facts of SORTED_BY."""
        if self._columns:
            order = np.lexsort([np.fromfile(self._file(key), self._columns[key].dtype) for key in SORTED_BY[::-1]])
            number = np.empty(len(order), np.int64)
            number[order] = np.arange(len(order))
            facts = {name: _scattered(self._file(name), like, number) for name, like in self._columns.items()}
            self._starts, self._lengths = facts.pop("_start"), facts.pop("_length")
            self.facts, self._columns = facts, {}
        return self

    def extend(self, batch: pa.RecordBatch) -> None:
        """Rows behind all others, whatever their content."""
        facts = self._written(batch)
        self._starts = np.append(self._starts, facts.pop("_start"))
        self._lengths = np.append(self._lengths, facts.pop("_length"))
        for name, values in facts.items():
            self.facts[name] = np.concatenate([self.facts[name], values])

    def replace(self, numbers: np.ndarray, batch: pa.RecordBatch) -> None:
        """Other content and facts for rows that keep their numbers."""
        facts = self._written(batch)
        self._starts[numbers], self._lengths[numbers] = facts.pop("_start"), facts.pop("_length")
        for name, values in facts.items():
            self.facts[name][numbers] = values

    def _written(self, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        """Write a batch's rows; its facts, with where each row lies."""
        rows = batch.column("row")
        ends = np.zeros(1, np.int64)
        if len(rows):  # as Arrow has them: no object a row
            _, offsets, content = rows.buffers()
            ends = np.frombuffer(offsets, np.int64)[rows.offset : rows.offset + len(rows) + 1]
            _append(self.path, content[int(ends[0]) : int(ends[-1])])
        lengths = np.diff(ends)
        facts = {name: _numpy(batch.column(name)) for name in batch.schema.names if name != "row"}
        facts |= {"_start": self._size + np.cumsum(lengths) - lengths, "_length": lengths}
        self._size += int(lengths.sum())
        return facts

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        """The JSON texts of these numbers, each with its line end."""
        with self.path.open("rb") as file:
            return [os.pread(file.fileno(), int(self._lengths[row]), int(self._starts[row])) for row in rows]

    def chunks(self, rows: np.ndarray, most: int, size: int) -> Iterator[np.ndarray]:
        """Numbers in their order, at most so many and about so many bytes of text at a time; one at least."""
        start = 0
        while start < len(rows):
            ends = np.cumsum(self._lengths[rows[start : start + most]])
            end = start + max(1, int(np.searchsorted(ends, size, "right")))
            yield rows[start:end]
            start = end

    def take(self, rows: Sequence[int]) -> list[Row]:
        """The rows of these numbers."""
        return [*map(orjson.loads, self.lines(rows))]

    def batches(self, rows: np.ndarray) -> Iterator[list[Row]]:
        """The same, so many at a time that memory does not grow with the corpus."""
        for part in self.chunks(rows, TAKEN, TAKEN_BYTES):
            yield self.take(part.tolist())

    def each(self, rows: Sequence[int] | np.ndarray) -> Iterator[Row]:
        """The same, one after another."""
        for batch in self.batches(np.asarray(rows, np.int64)):
            yield from batch

    def stream(self, keep: np.ndarray | None = None) -> Iterator[tuple[int, Row]]:
        """(number, row) of all rows, or those where `keep` is true, as they lie on disk: fast, and in no order."""
        for piece in self.pieces(keep):
            for line in piece():
                number, _, row = line.partition("\t")
                yield int(number), orjson.loads(row)

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


def _append(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which
        raise


def _scattered(path: Path, like: np.ndarray, number: np.ndarray) -> np.ndarray:
    """What a file holds, each value where its number says; never all of it twice in memory. The file goes."""
    found = np.empty((len(number), *like.shape[1:]), like.dtype)
    width = int(np.prod(like.shape[1:]))
    with path.open("rb") as file:
        for start in range(0, len(number), ROWS_READ):
            at = number[start : start + ROWS_READ]
            found[at] = np.fromfile(file, like.dtype, len(at) * width).reshape(-1, *like.shape[1:])
    path.unlink()
    return found


def _lines(path: Path, numbers: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Iterator[str]:
    with path.open("rb") as file:
        for number, start, length in zip(numbers.tolist(), starts.tolist(), lengths.tolist(), strict=True):
            yield f"{number}\t" + os.pread(file.fileno(), length, start).decode().rstrip("\n")


def _numpy(column: Any) -> np.ndarray:
    """Fixed-size binary becomes rows of bytes (S), or of uint16 where it is a signature."""
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        content = np.frombuffer(column.buffers()[1], np.uint8)
        content = content[column.offset * width : (column.offset + len(column)) * width]
        if width == 16:
            return content.view("S16").copy()
        return content.view(np.uint16).reshape(len(column), width // 2).copy()
    return column.to_numpy(zero_copy_only=False)
