"""Work on rows by daft: streamed from files, in batches, by several processes; on a Ray cluster by the same code.

    pieces of input -> rows, each one JSON text -> `work` on about 1,024 at a time -> Arrow batches, in any order

To daft a batch is one value: its rows as lines of one text on the way in, Arrow's bytes on the way out. So daft neither
joins small batches to larger ones, for which it would hold them back, nor knows what rows are. No more than AHEAD
batches wait between the readers and who takes the results: daft itself would read a whole file ahead of a slow
consumer. Under Ray each machine of the cluster reads pieces of its own; results wait in
Ray's object store, which spills to disk, and come here about 64 MB at a time.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

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
from data.config import Engine

Piece = Callable[[], Iterator[str]]
Work = Callable[[list[str]], pa.RecordBatch]

BATCH = 1024  # rows
BATCH_CHARACTERS = 4 << 20
AHEAD = 8  # batches, of 4 MB at most
PATIENCE = 5.0  # seconds in which no batch is taken
HERE_BYTES = 4 << 20  # of input: less is through before daft has started, which takes 0.3 to 0.9 s
ALONE_BYTES = 24 << 20  # of input: one process is through with less before others would have started
BATCHES = pa.schema([("batch", pa.large_string())])


class Flow:
    """How many batches were read and not taken yet."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.ended = False  # nobody takes any more

    async def enter(self) -> None:
        """Wait for room; not for ever, as nobody says that daft holds none back."""
        waited, left = 0.0, self.left
        while self.entered - self.left >= AHEAD and waited < PATIENCE and not self.ended:
            await asyncio.sleep(0.002)
            waited, left = (waited + 0.002, left) if left == self.left else (0.0, self.left)
        self.entered += 1


class _Task(DataSourceTask):
    def __init__(self, piece: Piece, flow: Flow | None, folder: str | None) -> None:
        self.piece, self.flow, self.folder = piece, flow, folder

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(BATCHES)

    async def read(self) -> AsyncIterator[RecordBatch]:
        if self.folder is not None:
            os.chdir(self.folder)  # a process on another machine: files are named as on this one
        for rows in _batches(self.piece()):
            if self.flow is not None:
                await self.flow.enter()
                if self.flow.ended:
                    return
            column = pa.array(["\n".join(rows)], pa.large_string())
            yield RecordBatch.from_arrow_record_batches([pa.RecordBatch.from_arrays([column], schema=BATCHES)], BATCHES)
            await asyncio.sleep(0)  # else nobody is told of this batch before the piece is read to its end


class _Source(DataSource):
    def __init__(self, pieces: Sequence[Piece], flow: Flow | None, folder: str | None = None) -> None:
        self.pieces, self.flow, self.folder = pieces, flow, folder

    @property
    def name(self) -> str:
        return "loam"

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(BATCHES)

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:
        for piece in self.pieces:
            yield _Task(piece, self.flow, self.folder)


def _one_after_another(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        yield from piece()


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
    pieces: Sequence[Piece],
    work: Work,
    schema: pa.Schema,
    num_bytes: int,
    engine: Engine = "native",
    files: Iterable[Path] = (),
) -> Iterator[pa.RecordBatch]:
    """What `work` makes of the rows of all pieces, in batches that come in any order.

    pieces: of rows, none of which holds a line end.
    work: of a list of rows, a batch of any length; it is sent to other processes, as are pieces under Ray.
    schema: of what `work` returns.
    num_bytes: about how much input there is; for little of it no process is started.
    files: what the pieces read; under Ray a machine that does not see them is a UserError.
    """
    if engine == "native" and num_bytes < HERE_BYTES:
        for rows in _batches(_one_after_another(pieces)):
            yield work(rows)
        return
    if engine == "ray":
        processes = _join_cluster([path.resolve() for path in files])
    else:
        processes = (os.cpu_count() or 1) if num_bytes >= ALONE_BYTES else 1
    many = processes > 1 or engine == "ray"

    # A bound of concurrency alone would start a process, too.
    @daft.cls(use_process=many, max_concurrency=processes if many else None)
    class Worker:
        def __init__(self, work: Work) -> None:
            self.work = work

        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
        def __call__(self, batches: daft.Series) -> Any:
            found = [_packed(self.work(batch.split("\n")), schema) for batch in batches.to_pylist()]
            return pa.array(found, pa.large_binary())

    if engine == "native":
        # As one piece: daft takes turns between pieces on as many threads as there are CPUs, and where all of these
        # wait for a reader that waits for room, what others have read stays where it is. Reading is one thread's work.
        pieces = [partial(_one_after_another, pieces)]
    flow = Flow() if engine == "native" else None
    frame = _Source(pieces, flow, os.getcwd() if engine == "ray" else None).read()
    worker: Any = Worker(work)  # of a column it makes an expression
    frame = frame.select(worker(daft.col("batch")).alias("found"))
    try:
        with daft.execution_config_ctx(maintain_order=False):  # else batches of later pieces wait for earlier ones
            batches = frame.to_arrow_iter()
            batch = next(batches, None)
        while batch is not None:
            for found in batch.column("found"):
                if flow is not None:
                    flow.left += 1
                yield pa.ipc.open_stream(found.as_buffer()).read_next_batch()
            batch = next(batches, None)
    finally:
        if flow is not None:
            flow.ended = True  # whoever stops early would wait until all is read


def _packed(batch: pa.RecordBatch, schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


# -- Ray


def _join_cluster(files: list[Path]) -> int:
    """Work on the cluster of RAY_ADDRESS; returns its CPUs. Raises UserError."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs the package ray: pip install ray") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        if not address:  # Ray itself would begin one here, or join any that runs on this machine
            raise UserError("--engine ray: name the cluster in RAY_ADDRESS: host:port, or auto for this machine's own")
        _answers(address)
        quiet = {"DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0", "PYTHONPATH": os.environ["PYTHONPATH"]}
        os.environ.setdefault("RAY_DISABLE_DASHBOARD", "1")  # else daft warns of how it asks for its address
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING, runtime_env={"env_vars": quiet})
        except ConnectionError:
            raise UserError(f"--engine ray: no cluster at RAY_ADDRESS {address}") from None
        daft.set_runner_ray()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    sizes = {str(file): file.stat().st_size for file in [*files, Path(__file__)]}
    _seen_by_all(nodes, sizes)
    return sum(int(node["Resources"]["CPU"]) for node in nodes)


def _answers(address: str) -> None:
    """Ask before Ray does, which waits for minutes where nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"--engine ray: nobody answers at RAY_ADDRESS {address} ({error})") from None


def _seen_by_all(nodes: list[dict[str, Any]], sizes: dict[str, int]) -> None:
    """A file that a machine does not see would be an unreadable one, and a wrong result. Raises UserError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0)
    def missing(folder: str) -> str | None:  # local, so it is sent as code: loam itself may be what is missing
        if not os.path.isdir(folder):
            return folder
        return next((file for file, n in sizes.items() if not os.path.isfile(file) or os.path.getsize(file) != n), None)

    asked = [
        missing.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)) for n in nodes
    ]
    found = ray.get([ask.remote(os.getcwd()) for ask in asked], timeout=120)
    for node, name in zip(nodes, found, strict=True):
        if name is not None:
            raise UserError(
                f"--engine ray: machine {node['NodeManagerAddress']} does not see {name}: all machines of a cluster "
                "share the folders of loam, of the inputs and of temporary files (TMPDIR), under the same names"
            )
