"""kill -9 of a server under load, a few times: what clients got is in the ledger, once, and none got more than was
charged."""

import os
import random
import signal
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from server.ledger import LEDGER
from tests.server.conftest import NAME, Running, server

KILLS = 3
CLIENTS = 6
MOST_TOKENS = 60


@dataclass
class Got:
    """What a client knows of one request of its own."""

    wanted: int
    id: str = ""
    tokens: int = 0  # received, one by one
    usage: tuple[int, int] | None = None  # told at the end: then it is whole


def ask(client: openai.OpenAI, rng: random.Random, got: Got) -> None:
    """One request, streamed or whole; raises what the kill makes of it."""
    asked: dict[str, Any] = {"model": NAME, "prompt": "The cat is", "max_tokens": got.wanted, "logprobs": 0,
                             "extra_body": {"min_tokens": got.wanted}}  # fmt: skip
    if rng.random() < 0.3:
        said = client.completions.create(**asked)
        assert said.usage is not None
        assert said.choices[0].logprobs is not None
        got.id, got.tokens = said.id, len(said.choices[0].logprobs.tokens or [])
        got.usage = (said.usage.prompt_tokens, said.usage.completion_tokens)
        return
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        got.id = chunk.id
        if chunk.choices and chunk.choices[0].logprobs:
            got.tokens += len(chunk.choices[0].logprobs.tokens or [])
        if chunk.usage is not None:
            got.usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def load(running: Running, seed: int, record: list[Got], stop: threading.Event) -> None:
    """A client that asks until its server is gone, or it is told to stop."""
    rng = random.Random(seed)
    with running.client() as client:
        for _ in range(2000):
            if stop.is_set():
                return
            record.append(Got(rng.randint(1, MOST_TOKENS)))
            try:
                ask(client, rng, record[-1])
            except (openai.APIError, httpx.HTTPError):
                return


def under_load(running: Running, seconds: float, seed: int, number: int) -> list[Got]:
    """Clients for so long, then a signal; all that they know."""
    records: list[list[Got]] = [[] for _ in range(CLIENTS)]
    stop = threading.Event()
    threads = [
        threading.Thread(target=load, args=(running, seed + i, record, stop)) for i, record in enumerate(records)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while (
        time.monotonic() < end and sum(map(len, records)) < 3 * CLIENTS
    ):  # they are under way, however slow the machine
        time.sleep(0.02)
    time.sleep(seconds)
    if number == signal.SIGKILL:
        os.kill(running.process.pid, number)
    else:
        stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if number != signal.SIGKILL:
        running.process.send_signal(number)
    running.process.wait(60)
    return [got for record in records for got in record]


def test_sums_are_the_clients_own_however_often_the_server_is_killed(tmp_path: Path, checkpoint: Path) -> None:
    rng = random.Random(7)
    known: list[Got] = []
    for kill in range(KILLS):
        with server(tmp_path, checkpoint, "--rows", "4", "--log", "false") as running:
            known += under_load(running, rng.uniform(0.0, 1.0), 100 * kill, signal.SIGKILL)
    with server(tmp_path, checkpoint, "--rows", "4", "--log", "false") as running:
        known += under_load(running, 0.5, 1000, signal.SIGTERM)
        assert running.process.returncode == 0

    with sqlite3.connect(tmp_path / LEDGER) as db:
        query = "SELECT id, status, prompt_tokens, completion_tokens FROM requests"
        found = db.execute(query).fetchall()
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = {row[0]: row[1:] for row in found}
    assert len(rows) == len(found)
    whole = [got for got in known if got.usage is not None]
    cut = [got for got in known if got.usage is None]
    assert len(whole) > 2 * CLIENTS
    assert len(cut) >= KILLS  # the kills did hit somebody
    assert len({got.id for got in whole}) == len(whole)

    # whole ones: once, with the client's own counts
    for got in whole:
        assert got.usage is not None
        assert rows[got.id] == ("completed", *got.usage)
        assert got.tokens == got.usage[1] == got.wanted
    completed = [rows[got.id] for got in whole]
    assert sum(row[2] for row in completed) == sum(got.tokens for got in whole)

    # the others: sent <= charged <= generated
    for got in cut:
        if got.id:
            status, _, charged = rows[got.id]
            assert got.tokens <= charged <= got.wanted
            assert status == "interrupted" or charged == got.wanted  # or it was whole, and the kill came before the end
        else:
            assert got.tokens == 0

    # and nobody else is in it: what clients do not know by its id is one of those that they heard nothing of
    strangers = rows.keys() - {got.id for got in known}
    assert len(strangers) <= sum(not got.id for got in cut)
    assert {rows[name][0] for name in strangers} <= {"interrupted", "completed"}
    assert "open" not in {row[0] for row in rows.values()}
