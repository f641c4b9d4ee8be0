"""Work on rows: every row once, in one process and in several; errors reach the caller, and little waits in memory."""

import faulthandler
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

import data.engine as module
from common.errors import UserError
from data.engine import AHEAD, ALONE_BYTES, HERE_BYTES, map_rows

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = pa.schema([("number", pa.int64()), ("size", pa.int64()), ("process", pa.int64())])
SIZES = {"here": 0, "one process": HERE_BYTES, "several": ALONE_BYTES}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A query that stands still ends the process, and shows where: Python's signals do not reach into daft."""
    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def work(rows: list[str]) -> pa.RecordBatch:
    numbers = [int(row.partition(" ")[0]) for row in rows]
    columns = [numbers, [len(row) for row in rows], [os.getpid()] * len(rows)]
    return pa.RecordBatch.from_arrays([pa.array(of, pa.int64()) for of in columns], schema=SCHEMA)


class Waking:
    """Work that starts slowly, as a first batch does: meanwhile readers run ahead."""

    def __init__(self) -> None:
        self.awake = False

    def __call__(self, rows: list[str]) -> pa.RecordBatch:
        if not self.awake:
            time.sleep(0.5)
        self.awake = True
        return work(rows)


def broken(rows: list[str]) -> pa.RecordBatch:
    if any(row.startswith("777 ") for row in rows):
        raise ValueError("row 777 cannot be worked on")
    return work(rows)


def made(first: int, number: int, padding: str = "é") -> Iterator[str]:
    for i in range(first, first + number):
        yield f"{i} {padding}"


def pieces_of(*numbers: int, padding: str = "é") -> list[Callable[[], Iterator[str]]]:
    """A piece of so many rows each, numbered through."""
    return [partial(made, sum(numbers[:i]), number, padding) for i, number in enumerate(numbers)]


NUMBERS = [(30_000,), (0, 3, 0, 0, 2, 0), (7,) * 300, (2000, 1, 5000, 0, 1024)]


@pytest.mark.parametrize(
    ("size", "numbers"),
    [
        (size, numbers)
        for size in SIZES
        for numbers in [(1,), (1025,), *NUMBERS]
        if size != "several" or len(numbers) != 1
    ]
    + [("several", (30_000,))],
)
def test_every_row_comes_once(size: str, numbers: tuple[int, ...]) -> None:
    found = [*map_rows(pieces_of(*numbers), work, SCHEMA, SIZES[size])]
    assert sorted(number for batch in found for number in batch.column("number").to_pylist()) == [*range(sum(numbers))]
    assert all(batch.schema == SCHEMA for batch in found)


@pytest.mark.parametrize("size", SIZES)
def test_no_pieces_are_no_batches(size: str) -> None:
    assert [*map_rows([], work, SCHEMA, SIZES[size])] == []
    assert sum(batch.num_rows for batch in map_rows(pieces_of(0), work, SCHEMA, SIZES[size])) == 0


def test_other_processes_work_only_where_there_is_much_to_do() -> None:
    for size, others in (("here", False), ("one process", False), ("several", (os.cpu_count() or 1) > 1)):
        found = [*map_rows(pieces_of(5000), work, SCHEMA, SIZES[size])]
        processes = {process for batch in found for process in batch.column("process").to_pylist()}
        assert (os.getpid() not in processes) == others, size


@pytest.mark.parametrize("size", SIZES)
def test_an_error_in_the_work_reaches_the_caller(size: str) -> None:
    with pytest.raises(Exception, match="row 777 cannot be worked on"):
        for _ in map_rows(pieces_of(3000), broken, SCHEMA, SIZES[size]):
            pass


@pytest.mark.parametrize("size", SIZES)
def test_an_error_of_a_reader_reaches_the_caller(size: str) -> None:
    def failing() -> Iterator[str]:
        yield from made(0, 2000)
        raise ValueError("line 2001 cannot be read")

    with pytest.raises(Exception, match="line 2001 cannot be read"):
        for _ in map_rows([failing, *pieces_of(10)], work, SCHEMA, SIZES[size]):
            pass


class Watched(module.Flow):
    """Knows how many batches waited at most, and whether one lost its patience."""

    seen: "list[Watched]" = []  # noqa: RUF012  (the test's own)

    def __init__(self) -> None:
        super().__init__()
        self.most, self.longest = 0, 0.0
        self.seen.append(self)

    async def enter(self) -> None:
        start = time.monotonic()
        await super().enter()
        self.most = max(self.most, self.entered - self.left)
        self.longest = max(self.longest, time.monotonic() - start)


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    monkeypatch.setattr(module, "Flow", Watched)
    # On a busy machine daft's processes take 5 s to start, and readers wait as long; who stands still waits longer.
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    monkeypatch.setattr(Watched, "seen", [])
    return Watched.seen


@pytest.mark.parametrize("size", ["one process", "several"])
@pytest.mark.parametrize(
    "numbers", [(100_000,), (7,) * 300, (3000,) * 40], ids=["one file", "many small files", "files of some batches"]
)
def test_no_more_than_some_batches_wait_and_all_of_them_are_taken(
    size: str, numbers: tuple[int, ...], flows: list[Watched]
) -> None:
    """Who waits without need for as long as PATIENCE is seen: daft then holds what it was given and asks for more."""
    rows = 0
    for batch in map_rows(pieces_of(*numbers), Waking(), SCHEMA, SIZES[size]):
        rows += batch.num_rows
    assert rows == sum(numbers)
    [flow] = flows
    assert flow.entered == flow.left
    assert flow.most <= AHEAD
    assert flow.longest < module.PATIENCE


@pytest.mark.parametrize("size", ["one process", "several"])
def test_large_and_small_files_in_turns_do_not_wait_for_each_other(size: str, flows: list[Watched]) -> None:
    """More readers than daft has threads: of those that waited for room, one for each thread kept all others from
    handing over what they had read, and each batch took as long as PATIENCE."""
    numbers = (30_000, *[3] * 40, 20_000, *[2000] * 20, *[1] * 40) * 2
    start = time.monotonic()
    found = [*map_rows(pieces_of(*numbers), Waking(), SCHEMA, SIZES[size])]
    assert sum(batch.num_rows for batch in found) == sum(numbers)
    [flow] = flows
    assert flow.longest < module.PATIENCE
    assert time.monotonic() - start < module.PATIENCE


def test_a_slow_consumer_holds_the_readers(flows: list[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD", 4)
    read = 0

    def counted() -> Iterator[str]:
        nonlocal read
        for row in made(0, 40 * 1024):
            read += 1
            yield row

    batches = map_rows([counted], work, SCHEMA, HERE_BYTES)
    next(batches)
    time.sleep(0.3)
    assert read <= (1 + 4 + 1) * 1024  # one taken, four on the way, one that waits
    assert sum(batch.num_rows for batch in batches) == 39 * 1024


@pytest.mark.parametrize("size", ["one process", "several"])
def test_batches_of_one_huge_row_pass(size: str, flows: list[Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 1 << 16)
    found = [*map_rows(pieces_of(90, padding="x" * 100_000), work, SCHEMA, SIZES[size])]
    assert sum(batch.num_rows for batch in found) == 90
    [flow] = flows
    assert flow.entered == flow.left == 90
    assert flow.most <= AHEAD + 1
    assert flow.longest < module.PATIENCE


@pytest.mark.parametrize("size", ["one process", "several"])
def test_rows_of_a_megabyte_pass_without_a_wait(size: str, flows: list[Watched]) -> None:
    found = [*map_rows(pieces_of(50, 0, 50, padding="x" * (1 << 20)), work, SCHEMA, SIZES[size])]
    assert sorted(number for batch in found for number in batch.column("number").to_pylist()) == [*range(100)]
    [flow] = flows
    assert flow.longest < module.PATIENCE


@pytest.mark.parametrize("size", SIZES)
def test_a_users_mistake_in_the_middle_of_a_piece_reaches_the_caller(size: str) -> None:
    def failing() -> Iterator[str]:
        yield from made(0, 2000)
        raise UserError("a.csv: column 'b' is not there")

    with pytest.raises(Exception, match="column 'b' is not there"):
        for _ in map_rows([*pieces_of(10), failing, *pieces_of(5000)], work, SCHEMA, SIZES[size]):
            pass


def endless(read: list[int]) -> Iterator[str]:
    for row in made(0, 10**9):
        read.append(1)
        yield row


@pytest.mark.parametrize("size", SIZES)
def test_who_stops_early_ends_the_reading(size: str) -> None:
    read: list[int] = []
    batches = map_rows([partial(endless, read)], work, SCHEMA, SIZES[size])
    next(batches)
    start = time.monotonic()
    batches.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 30
    before = len(read)
    time.sleep(0.2)
    assert len(read) == before <= (AHEAD + 3) * 1024


@pytest.mark.parametrize("size", SIZES)
def test_an_error_ends_the_reading(size: str) -> None:
    read: list[int] = []
    with pytest.raises(Exception, match="row 777 cannot be worked on"):
        for _ in map_rows([partial(endless, read)], broken, SCHEMA, SIZES[size]):
            pass
    time.sleep(0.3)  # a batch that was being read is read to its end
    before = len(read)
    time.sleep(0.3)
    assert len(read) == before


ENDS = """
import sys
from functools import partial
import pyarrow as pa
from common.errors import UserError, run_command
from data.engine import ALONE_BYTES, map_rows

SCHEMA = pa.schema([("size", pa.int64())])

def work(rows):
    return pa.RecordBatch.from_arrays([pa.array([len(row) for row in rows], pa.int64())], schema=SCHEMA)

def made(number):
    for i in range(number):
        yield f"{i} " + "x" * 500

def broken():
    raise ZeroDivisionError("a bug")
    yield

def main():
    pieces = [partial(made, 5000)] * 3
    if sys.argv[1] == "broken":
        pieces.append(broken)
    batches = map_rows(pieces, work, SCHEMA, ALONE_BYTES)
    next(batches)
    if sys.argv[1] == "mistake":
        raise UserError("it is yours")
    if sys.argv[1] != "stopped":
        print(sum(batch.num_rows for batch in batches) > 0)

run_command(main)
"""


@pytest.mark.parametrize(
    ("how", "times", "code", "said"),
    [("good", 6, 0, ""), ("stopped", 2, 0, ""), ("mistake", 2, 2, "error: it is yours\n"), ("broken", 6, 1, "a bug")],
)
def test_a_command_ends_with_its_own_exit_code(how: str, times: int, code: int, said: str, tmp_path: Path) -> None:
    """Without care the process aborts: of 10 runs 1 of the good and 9 of the broken ones."""
    (tmp_path / "script.py").write_text(ENDS)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def ended(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "script.py", how]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)

    with ThreadPoolExecutor(2) as pool:
        runs = [*pool.map(ended, range(times))]
    assert [run.returncode for run in runs] == [code] * times
    assert {run.stdout for run in runs} == {"True\n" if how == "good" else ""}
    assert all(said in run.stderr and "FATAL" not in run.stderr for run in runs)
