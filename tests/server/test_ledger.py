"""What is charged: before it is sent, at the table's prices, once; and where the disk takes no more."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from model.engine import Event, Request
from model.huggingface import load_model
from server.bodies import read_completion
from server.clerk import Clerk
from server.jobs import Choice, Job, Piece, Update
from server.ledger import Ledger, owned
from server.prices import PARTS, Price, amount, read_prices
from server.service import Served, Service
from server.worker import Worker
from tests.server.conftest import NAME, SEQ_LEN, server, until
from tokenizer.dialog import Dialog, open_dialog


def job_of(name: str, entered: bool = True) -> Job:
    job = Job(name, "alice", "m", 3, stream=True)
    job.entered = entered
    return job


def piece(text: str) -> Piece:
    return Piece(0, text, [])


def rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in ledger.read("SELECT id, status, completion_tokens FROM requests ORDER BY id")]


class Watched(Ledger):
    """Each commit takes a while, and says what it wrote; may fail."""

    fails = False

    def charge(self, updates: Any) -> None:
        if self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        time.sleep(0.01)
        super().charge(updates)


def run_clerk(ledger: Ledger, publish: Callable[[Clerk], None]) -> list[tuple[Update, list[Any]]]:
    """What was delivered, each with the ledger as another connection saw it at that moment."""
    seen: list[tuple[Update, list[Any]]] = []

    async def main() -> None:
        other = Ledger(ledger.path)
        clerk = Clerk(
            ledger, asyncio.get_running_loop(), lambda updates: seen.extend((u, rows(other)) for u in updates)
        )
        clerk.start()
        await asyncio.to_thread(publish, clerk)
        await asyncio.to_thread(clerk.close)
        await asyncio.sleep(0)
        other.close()

    asyncio.run(main())
    return seen


def test_nothing_is_delivered_before_it_is_charged(tmp_path: Path) -> None:
    ledger = Watched(tmp_path / "l.sqlite")
    jobs = [job_of(f"job-{i}") for i in range(4)]

    def publish(clerk: Clerk) -> None:
        def steps(job: Job) -> None:
            for number in range(1, 31):
                clerk.publish([Update(job, [piece("x")], number, "completed" if number == 30 else None)])

        threads = [threading.Thread(target=steps, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seen = run_clerk(ledger, publish)
    assert len(seen) == 120
    for update, there in seen:
        charged = {name: number for name, _, number in there}
        assert charged[update.job.id] >= update.num_tokens
    assert rows(ledger) == [(f"job-{i}", "completed", 30) for i in range(4)]


def test_where_the_ledger_cannot_be_written_nothing_is_delivered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Watched(tmp_path / "l.sqlite")
    ledger.fails = True
    seen = run_clerk(ledger, lambda clerk: clerk.publish([Update(job_of("a"), [piece("secret")], 1)]))
    [(update, _)] = seen
    assert (update.pieces, update.status, update.num_tokens) == ([], "failed", 0)
    assert update.error is not None
    assert update.error.status == 503
    assert "disk is full" in capsys.readouterr().err


def test_a_request_that_was_refused_once_is_charged_no_more_and_never_completed(tmp_path: Path) -> None:
    ledger = Watched(tmp_path / "l.sqlite")
    known, unknown, whole = job_of("a"), job_of("b"), job_of("c")

    def publish(clerk: Clerk) -> None:
        def told(*updates: Update) -> None:
            clerk.publish(list(updates))
            until(lambda: clerk._queue.empty())
            clerk.publish([])  # taken up when the one before has been written
            until(lambda: clerk._queue.empty())

        told(Update(known, [piece("x")], 2), Update(whole, [piece("x")], 6))
        ledger.fails = True
        told(Update(known, [piece("y")], 3), Update(unknown, [piece("z")], 1), Update(whole, [], 7, "completed"))
        ledger.fails = False
        told(Update(known, [piece("v")], 4), Update(unknown, [piece("w")], 2))
        told(Update(known, [piece("!")], 5, "completed"), Update(unknown, [piece("!")], 3, "completed"))

    seen = [update for update, _ in run_clerk(ledger, publish)]
    assert [(update.job.id, update.num_tokens, update.status) for update in seen] == [
        ("a", 2, None), ("c", 6, None), ("a", 2, "failed"), ("b", 0, "failed"), ("c", 6, "failed"),
    ]  # fmt: skip
    assert rows(ledger) == [("a", "failed", 2), ("c", "failed", 6)]


def test_an_error_that_is_not_of_sqlite_leaves_the_clerk_alive(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")

    def publish(clerk: Clerk) -> None:
        clerk.publish([Update(job_of("a"), [piece("x")], 2**80)])  # OverflowError
        until(lambda: clerk.failing)
        clerk.publish([Update(job_of("b"), [piece("x")], 1, "completed")])

    assert [update.status for update, _ in run_clerk(ledger, publish)] == ["failed", "completed"]
    assert rows(ledger) == [("b", "completed", 1)]


def test_where_the_ledger_cannot_be_written_the_engine_stops_too(tmp_path: Path, checkpoint: Path) -> None:
    writing, reading = Watched(tmp_path / "l.sqlite"), Ledger(tmp_path / "l.sqlite")
    dialog = open_dialog(checkpoint)
    served = Served(NAME, dialog, Worker(load_model(checkpoint), 2, 4), SEQ_LEN, 0, "f")

    async def main() -> Job:
        service = Service({NAME: served}, reading, None, lambda line: None)
        service.start(writing)
        asked = read_completion(
            b'{"model": "a/ckpt1", "prompt": "a", "max_tokens": 4000, "min_tokens": 4000, "stream": true}'
        )
        job = service.submit(served, None, asked, service.prompts(served, asked), time.time())

        async def wait_until(true: Callable[[], Any]) -> None:
            await asyncio.to_thread(until, true)

        await wait_until(lambda: job.num_tokens > 3)
        writing.fails = True
        await wait_until(lambda: job.status == "failed")
        writing.fails = False
        await wait_until(lambda: served.worker.num_rows() == 0)
        await service.stop(0)
        return job

    job = asyncio.run(main())
    assert 3 < job.num_tokens <= job.generated() < 4000
    assert rows(reading) == [(job.id, "failed", job.num_tokens)]


def test_nobody_goes_without_an_answer_as_the_log_is_closed(tmp_path: Path) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    service = Service({}, Ledger(tmp_path / "l.sqlite"), None, gone)
    jobs = [job_of("a"), job_of("b")]
    service.running.update(jobs)
    service.deliver([Update(job, [], 1, "completed") for job in jobs])
    assert [job.status for job in jobs] == ["completed", "completed"]


def test_a_row_that_is_settled_stays_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    job = job_of("a")
    ledger.charge([Update(job, [], 2)])
    assert rows(ledger) == [("a", "open", 2)]
    ledger.charge([Update(job, [], 5, "completed"), Update(job_of("never", entered=False), [], 0, "cancelled")])
    ledger.charge([Update(job, [], 9, "cancelled")])
    assert rows(ledger) == [("a", "completed", 5)]


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    bad = job_of("b")
    bad.key = None  # type: ignore[assignment]
    with pytest.raises(sqlite3.Error):
        ledger.charge([Update(job_of("a"), [], 2), Update(bad, [], 2)])
    assert rows(ledger) == []
    ledger.charge([Update(job_of("a"), [], 3)])
    assert rows(ledger) == [("a", "open", 3)]


def test_rows_left_open_are_settled_at_the_next_start_and_one_server_owns_the_file(
    tmp_path: Path, checkpoint: Path
) -> None:
    file = tmp_path / "runs" / "serve.sqlite"
    ledger = Ledger(file)
    ledger.charge([Update(job_of("a"), [], 2), Update(job_of("b"), [], 4, "completed")])
    ledger.close()
    with server(tmp_path, checkpoint) as running:
        assert any("1 requests that the last server left unfinished" in line for line in running.said)
        with pytest.raises(UserError, match="another server writes to it"), owned(file):
            pass
    ledger = Ledger(file)
    assert rows(ledger) == [("a", "interrupted", 2), ("b", "completed", 4)]
    with owned(file):  # a killed server holds nothing
        pass


def test_a_second_connection_of_a_process_takes_no_lock_of_the_first(tmp_path: Path) -> None:
    """If it did, a command that ends would take the log away from under the server."""
    import subprocess
    import sys

    file = tmp_path / "l.sqlite"
    first, second = Ledger(file), Ledger(file)
    first.charge([Update(job_of("a"), [], 2)])
    code = f"from pathlib import Path; from server.ledger import Ledger; Ledger(Path({str(file)!r})).close()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert file.with_name("l.sqlite-wal").exists()
    first.charge([Update(job_of("b"), [], 2)])
    assert [name for name, _, _ in rows(second)] == ["a", "b"]


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to have a header" * 20, b"SQLite format 3\0" + bytes(50)]
)
def test_a_file_that_is_something_else_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "l.sqlite"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be used as the ledger"):
        Ledger(file)
    with pytest.raises(UserError, match="cannot be used as the ledger"):
        Ledger(tmp_path)


TABLE = """
currency = "EUR"
[default]
prompt = 0.20
completion = 0.6
prompt_cost = 0.05
[model."a/ckpt1"]
completion = 1.2
completion_cost = 0.000001
"""


def test_prices_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(TABLE)
    prices = read_prices(file, ["a/ckpt1", "b"])
    assert prices["b"] == Price(200_000, 600_000, 50_000, 0, "EUR")
    assert prices["a/ckpt1"] == Price(200_000, 1_200_000, 50_000, 1, "EUR")
    assert amount(prices["a/ckpt1"].price(1_000_000, 1_000_000)) == "1.4"
    assert amount(prices["a/ckpt1"].cost(1_000_000, 1_000_000)) == "0.050001"
    ledger = Ledger(tmp_path / "l.sqlite", {"m": prices["a/ckpt1"]})
    for i in range(1000):
        ledger.charge([Update(job_of(f"{i}"), [], 7, "completed")])
    [total] = ledger.read("SELECT sum(price), sum(cost), min(currency) FROM requests")
    assert tuple(total) == (1000 * (3 * 200_000 + 7 * 1_200_000), 1000 * (3 * 50_000 + 7), "EUR")
    assert amount(total[0]) == "0.009"


@given(st.integers(-(10**30), 10**30))
def test_an_amount_keeps_all_digits(parts: int) -> None:
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        assert Decimal(amount(parts)) * PARTS == parts


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[default]\nprompt = -1", "from 0 to"),
        ('[default]\nprompt = "1"', "from 0 to"),
        ("[default]\nprompt = nan", "from 0 to"),
        ("[default]\nprompt = true", "from 0 to"),
        ("[default]\nprompt = 0.1234567", "six digits"),
        ("[default]\nmargin = 0.1", "unknown key 'margin'"),
        ("default = 1", "is a section"),
        ("prices = 1", "unknown key 'prices'"),
        ("currency = 1", "currency is"),
        ('currency = "EUR"', "no price of a/ckpt1"),
        ('[model."b/ckpt2"]\nprompt = 1', "no such model is served"),
        ("[default", "not valid TOML"),
    ],
)
def test_a_table_that_cannot_be_meant_is_one_line(tmp_path: Path, table: str, said: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(table)
    with pytest.raises(UserError, match=said) as error:
        read_prices(file, ["a/ckpt1"])
    assert "\n" not in str(error.value)


# -- what a choice gives out


@given(st.data())
def test_pieces_are_the_answer_before_the_stop_text_and_tokens_that_lie_in_it(
    dialog: Dialog, data: st.DataObject
) -> None:
    """However steps fall, text and tokens told so far never show what a stop text cuts off."""
    text = data.draw(st.text(st.sampled_from("ab é🦊\n"), max_size=30))
    stop = data.draw(st.lists(st.text(st.sampled_from("ab é🦊"), min_size=1, max_size=4), max_size=2))
    ids = dialog.encode(text)
    choice = Choice(job_of("a"), 0, Request([1], 99, dialog.eos), dialog, stop)
    said, tokens = "", b""
    cut = min(((text.index(one) + len(one), text.index(one)) for one in stop if one in text), default=(0, len(text)))[1]
    for place, token in enumerate(ids):
        choice.take(Event(0, token, "length" if place == len(ids) - 1 else None, -1.0))
        if data.draw(st.booleans()) or choice.finish:
            found = choice.piece()
            if found is not None:
                said, tokens = said + found.text, tokens + b"".join(told.data for told in found.told)
            assert text[:cut].startswith(said)
            assert said.encode().startswith(tokens)
        if choice.finish:
            break
    if ids:
        assert said == text[:cut]
        assert choice.piece() is None
        if not stop:
            assert tokens == text.encode()
            assert choice.num_tokens == len(ids)
