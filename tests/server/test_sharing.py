"""Many clients at a time: late ones start before early ones end, those that leave free their row, slow ones hold up
nobody, and those who are too many are told so."""

import json
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from model.decoder import Decoder
from model.engine import Engine, Event, Request
from model.huggingface import load_model
from server import worker as worker_module
from server.jobs import Choice, Job, Update
from server.worker import Worker
from tests.server.conftest import NAME, Running, server, until
from tokenizer.dialog import open_dialog

LONG: dict[str, Any] = {"model": NAME, "max_tokens": 4000, "extra_body": {"min_tokens": 4000}}
MESSAGES: list[Any] = [{"role": "user", "content": "What?"}]


def metric(running: Running, name: str) -> float:
    lines = httpx.get(running.url + "/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def num_cancelled(running: Running) -> float:
    return metric(running, 'loam_requests_total{model="a/ckpt1",status="cancelled"}')


def idle(running: Running) -> bool:
    return metric(running, "loam_rows{") == 0 and metric(running, "loam_queue_length{") == 0


@pytest.fixture(autouse=True)
def nobody_else(running: Running) -> Iterator[None]:
    until(lambda: idle(running))
    yield
    until(lambda: idle(running))


def raw_stream(running: Running, tokens: int) -> socket.socket:
    """A client that has asked for a stream and reads it by hand."""
    url = httpx.URL(running.url)
    body = json.dumps(
        {"model": NAME, "prompt": "a", "max_tokens": tokens, "min_tokens": tokens, "stream": True}
    ).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((url.host, url.port))
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n"
    sock.sendall(head.encode() + b"\r\n" + body)
    return sock


def test_a_late_request_ends_before_an_early_one(client: openai.OpenAI, running: Running) -> None:
    early = client.chat.completions.create(messages=MESSAGES, stream=True, **LONG)
    next(iter(early))
    late = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5)
    assert late.choices
    assert metric(running, "loam_rows{") == 1  # the early one goes on
    early.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_row(client: openai.OpenAI, running: Running, stream: bool) -> None:
    before = num_cancelled(running)
    if stream:
        with client.chat.completions.create(messages=MESSAGES, stream=True, **LONG) as answer:
            next(iter(answer))
            assert metric(running, "loam_rows{") == 1
    else:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.5).chat.completions.create(messages=MESSAGES, **LONG)
    until(lambda: num_cancelled(running) == before + 1)  # so it had not ended by itself
    until(lambda: idle(running))


def test_a_client_that_leaves_while_it_waits_is_never_begun(client: openai.OpenAI, running: Running) -> None:
    before = metric(running, 'loam_tokens_total{kind="prompt"')
    early = [client.chat.completions.create(messages=MESSAGES, stream=True, **LONG) for _ in range(4)]  # all rows
    for answer in early:
        next(iter(answer))
    cancelled = num_cancelled(running)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(messages=MESSAGES, **LONG)
    until(lambda: num_cancelled(running) == cancelled + 1)
    assert metric(running, "loam_queue_length{") == 0
    for answer in early:
        answer.close()
    until(lambda: idle(running))
    prompt = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=1).usage.prompt_tokens  # type: ignore[union-attr]
    assert metric(running, 'loam_tokens_total{kind="prompt"') == before + 5 * prompt  # four and the last, not the fifth


def test_clients_that_read_nothing_hold_up_nobody_and_get_all_in_the_end(
    client: openai.OpenAI, running: Running
) -> None:
    """Their answers end in the engine though nobody takes them, so others get the rows."""
    slow = [raw_stream(running, 1500) for _ in range(4)]
    until(lambda: metric(running, "loam_rows{") == 4)
    assert client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5).choices  # waits for a row
    until(lambda: idle(running), 50)  # sooner than slow clients are left
    for sock in slow:
        sock.settimeout(20)
        received = b""
        while b"[DONE]" not in received:
            part = sock.recv(1 << 16)
            assert part
            received += part
        sock.close()


def test_what_a_slow_client_has_not_taken_is_joined(running: Running) -> None:
    """So what waits for it is one text that its answer bounds, not an event a token."""
    with raw_stream(running, 3500) as sock:
        until(lambda: metric(running, "loam_rows{") == 1)
        until(lambda: idle(running), 60)
        sock.settimeout(20)
        received = b""
        while b"[DONE]" not in received:
            received += sock.recv(1 << 16)
    events = [line for line in received.split(b"\n") if line.startswith(b"data: {")]
    # One a token would be 3,500. The system's own buffers take some before anything waits: 1,100 to 2,124 were seen.
    assert len(events) < 3000
    assert received.count(b'"finish_reason":"length"') == 1


@contextmanager
def narrow(tmp_path: Path, checkpoint: Path) -> Iterator[Running]:
    """One row, two places to wait."""
    with server(tmp_path, checkpoint, "--rows", "1", "--queue", "2") as found:
        yield found


def test_a_full_queue_is_429_and_an_end_by_signal_loses_nobody(tmp_path: Path, checkpoint: Path) -> None:
    with narrow(tmp_path, checkpoint) as running, running.client() as client:
        early = client.chat.completions.create(messages=MESSAGES, stream=True, **LONG)
        next(iter(early))
        answers: list[Any] = []

        def ask() -> None:
            answers.append(client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: metric(running, "loam_queue_length{") == 2)
        with pytest.raises(openai.RateLimitError, match="its queue is full") as refused:
            client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5)
        assert int(refused.value.response.headers["retry-after"]) >= 1
        assert httpx.get(running.url + "/healthz").status_code == 200
        running.process.terminate()
        until(lambda: httpx.get(running.url + "/healthz").status_code == 503)
        with pytest.raises(openai.InternalServerError, match="stopping"):
            client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5)
        early.close()
        for thread in threads:
            thread.join(30)
        assert [len(answer.choices) for answer in answers] == [1, 1]
        assert running.process.wait(20) == 0


def test_a_stop_waits_no_longer_than_told_and_says_who_was_interrupted(tmp_path: Path, checkpoint: Path) -> None:
    with server(tmp_path, checkpoint, "--grace", "0.5") as running, running.client() as client:
        settings = {**LONG, "n": 4}
        answer = client.chat.completions.create(messages=MESSAGES, stream=True, **settings)
        pieces = iter(answer)
        next(pieces)
        running.process.send_signal(2)
        with pytest.raises(openai.APIError, match="stopped before the answer was complete"):
            list(pieces)
        assert running.process.wait(20) == 130
        until(lambda: [line for line in running.said if f" {NAME} interrupted " in line])


def worker_with_jobs(checkpoint: Path, number: int) -> tuple[Worker, list[Job]]:
    """A worker of two rows without a server, and jobs that wait in it, an answer of five tokens each."""
    dialog = open_dialog(checkpoint)
    worker = Worker(load_model(checkpoint), rows=2, queue=4)
    jobs = [Job(f"{i}", "", NAME, 1, False) for i in range(number)]
    for job in jobs:
        request = Request([1], 5, dialog.eos, dialog.banned, min_new_tokens=5)
        job.choices.append(Choice(job, 0, request, dialog, []))
        worker.submit(job)
    return worker, jobs


def statuses(worker: Worker, jobs: list[Job]) -> list[str | None]:
    """How each job ended, told once."""
    told: list[Update] = []
    worker.start(told.extend)
    until(lambda: len(told) >= len(jobs))
    worker.close()
    assert [update.job.id for update in sorted(told, key=lambda one: one.job.id)] == [job.id for job in jobs]
    return [update.status for update in sorted(told, key=lambda one: one.job.id)]


def fails(*args: Any) -> Any:
    raise RuntimeError("a secret")


@pytest.mark.parametrize("where", ["step", "add"])
def test_a_failure_of_the_engine_fails_its_rows_alone_and_names_no_text(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """An engine that raises: the next job is answered by a new one."""
    worker, jobs = worker_with_jobs(checkpoint, 3)
    setattr(worker._engine, where, fails)
    first = ["failed", "failed"] if where == "step" else ["failed", "completed"]
    assert statuses(worker, jobs) == [*first, "completed"]
    said = capsys.readouterr().err
    assert "the engine failed: RuntimeError at test_sharing.py" in said
    assert "secret" not in said


def test_an_answer_that_ends_in_the_step_in_which_another_fails_is_told(checkpoint: Path) -> None:
    worker, jobs = worker_with_jobs(checkpoint, 2)
    ends = jobs[0].choices[0]
    ends.request = replace(ends.request, max_new_tokens=1, min_new_tokens=0)
    jobs[1].choices[0].take = fails  # type: ignore[method-assign, assignment]
    assert statuses(worker, jobs) == ["failed", "failed"]


def test_a_row_without_numbers_fails_its_job_alone(checkpoint: Path) -> None:
    worker, jobs = worker_with_jobs(checkpoint, 3)
    step, other = worker._engine.step, Choice(jobs[0], 1, jobs[0].choices[0].request, open_dialog(checkpoint), [])
    jobs[0].choices.append(other)  # its second answer waits behind the others
    jobs[0].remaining += 1
    worker._waiting.append(other)

    def without_numbers() -> list[Event]:
        return [replace(event, token=None, ended="failed") if event.row == 0 else event for event in step()]

    worker._engine.step = without_numbers  # type: ignore[method-assign]
    assert statuses(worker, jobs) == ["failed", "completed", "completed"]
    assert not other.num_tokens


def test_the_engine_that_failed_is_gone_before_another_takes_its_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, jobs = worker_with_jobs(checkpoint, 1)
    old, there = weakref.ref(worker._engine), []

    def made(model: Decoder, rows: int) -> Engine:
        there.append(old())
        return Engine(model, rows)

    monkeypatch.setattr(Engine, "_choose", fails)  # so that the engine's own frames are in the traceback
    monkeypatch.setattr(worker_module, "Engine", made)
    assert statuses(worker, jobs) == ["failed"]
    assert there == [None]
