"""Work on rows by daft: streamed from files, in batches, by several processes; on a Ray cluster by the same code.

    pieces of input -> rows, each one JSON text -> `work` on about 1,024 at a time -> Arrow batches, in any order

A row travels as one text, so that what goes from process to process is one column, and what is written to disk needs no
conversion. No more than AHEAD batches wait between the readers and who takes the results: daft itself would read a
whole file ahead of a slow consumer.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

os.environ.setdefault("DO_NOT_TRACK", "1")  # daft calls home otherwise
_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in os.environ.get("PYTHONPATH", "").split(os.pathsep):  # for the processes that daft starts
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))

import daft
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch
from daft.schema import Schema

from common.errors import UserError

Engine = Literal["native", "ray"]
Piece = Callable[[], Iterator[str]]
Work = Callable[[list[str]], pa.RecordBatch]

BATCH = 1024  # rows
BATCH_CHARACTERS = 4 << 20
AHEAD = 32  # batches; with 8, daft, which reads 8 pieces at a time and holds 2 or 3 of each, stood still
PATIENCE = 5.0  # seconds in which no batch is taken
HERE_BYTES = 4 << 20  # of input: less is through before daft has started, which takes 0.3 to 0.9 s
ALONE_BYTES = 24 << 20  # of input: one process is through with less before others would have started
ROWS = pa.schema([("row", pa.large_string())])


class Flow:
    """How many batches were read and not taken yet."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.ended = False  # nobody takes any more

    async def enter(self) -> None:
        """Wait for room; not for ever, as nobody says that daft will not join small batches to larger ones."""
        waited, left = 0.0, self.left
        while self.entered - self.left >= AHEAD and waited < PATIENCE and not self.ended:
            await asyncio.sleep(0.002)
            waited, left = (waited + 0.002, left) if left == self.left else (0.0, self.left)
        self.entered += 1


class _Task(DataSourceTask):
    def __init__(self, piece: Piece, flow: Flow | None) -> None:
        self.piece, self.flow = piece, flow

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(ROWS)

    async def read(self) -> AsyncIterator[RecordBatch]:
        for rows in _batches(self.piece()):
            if self.flow is not None:
                await self.flow.enter()
                if self.flow.ended:
                    return
            column = pa.array(rows, pa.large_string())
            yield RecordBatch.from_arrow_record_batches([pa.RecordBatch.from_arrays([column], schema=ROWS)], ROWS)
            await asyncio.sleep(0)  # else nobody is told of this batch before the piece is read to its end


class _Source(DataSource):
    def __init__(self, pieces: Sequence[Piece], flow: Flow | None) -> None:
        self.pieces, self.flow = pieces, flow

    @property
    def name(self) -> str:
        return "loam"

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(ROWS)

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:
        for piece in self.pieces:
            yield _Task(piece, self.flow)


def _batches(rows: Iterator[str]) -> Iterator[list[str]]:
    batch, size = list[str](), 0
    for row in rows:
        batch.append(row)
        size += len(row)
        if len(batch) == BATCH or size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def map_rows(
    pieces: Sequence[Piece], work: Work, schema: pa.Schema, num_bytes: int, engine: Engine = "native"
) -> Iterator[pa.RecordBatch]:
    """What `work` makes of the rows of all pieces, in batches that come in any order.

    work: of a list of rows, a batch with a line for each; it is sent to other processes, as are pieces under Ray.
    num_bytes: about how much input there is; for little of it no process is started.
    """
    if engine == "native" and num_bytes < HERE_BYTES:
        for rows in _batches(row for piece in pieces for row in piece()):
            yield work(rows)
        return
    if engine == "ray":
        try:
            daft.set_runner_ray()
        except ImportError:
            raise UserError("--engine ray needs the package ray: pip install ray") from None
    fields = daft.DataType.struct({field.name: daft.DataType.from_arrow_type(field.type) for field in schema})
    many = num_bytes >= ALONE_BYTES and (os.cpu_count() or 1) > 1

    # A bound of concurrency alone would start a process, too.
    @daft.cls(use_process=many, max_concurrency=os.cpu_count() if many else None)
    class Worker:
        def __init__(self, work: Work) -> None:
            self.work = work

        @daft.method.batch(return_dtype=fields)
        def __call__(self, rows: daft.Series) -> Any:
            found = self.work(rows.to_pylist())
            return pa.StructArray.from_arrays(found.columns, fields=list(found.schema))

    flow = Flow() if engine == "native" else None
    frame = _Source(pieces, flow).read()
    worker: Any = Worker(work)  # of a column it makes an expression
    frame = frame.select(worker(daft.col("row")).alias("found")).select(daft.col("found").unnest())
    try:
        with daft.execution_config_ctx(maintain_order=False):  # else batches of later pieces wait for earlier ones
            batches = frame.to_arrow_iter()
            batch = next(batches, None)
        while batch is not None:
            if flow is not None:
                flow.left += 1
            yield batch
            batch = next(batches, None)
    finally:
        if flow is not None:
            flow.ended = True  # whoever stops early would wait until all is read
