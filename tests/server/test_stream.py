"""How long the server waits for a client: for its body, for it to read, and what it says meanwhile."""

import asyncio
from typing import Any, cast

import pytest
from fastapi import Request
from starlette.types import Message

from server import app
from server.app import Stream, read_body
from server.errors import ApiError
from server.jobs import Job, Piece, Update
from server.replies import Replies
from server.service import Service


class Left:
    """A service that is told which jobs were left."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def leave(self, job: Job) -> None:
        self.jobs.append(job)


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def stream_of(job: Job) -> tuple[Stream, Left]:
    left = Left()
    return Stream(cast(Service, left), job, Replies(job, False, False, "f"), usage=False), left


def job_with(text: str, status: str | None = None) -> Job:
    job = Job("a", "", "m", 1, True)
    job.receive(Update(job, [Piece(0, text, [], "stop" if status else None)], 1, status))
    return job


def test_a_client_that_takes_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SLOW_SECONDS", 0.05)
    job = job_with("hello")
    stream, left = stream_of(job)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await never()

    asyncio.run(asyncio.wait_for(stream({"type": "http"}, never, send), 5))
    assert left.jobs == [job]


def test_a_client_that_goes_is_left_at_once() -> None:
    job = Job("a", "", "m", 1, True)
    stream, left = stream_of(job)
    sent: list[Message] = []

    async def gone() -> Message:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(stream({"type": "http"}, gone, send), 5))
    assert left.jobs == [job]
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_a_silent_stream_says_that_it_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "QUIET_SECONDS", 0.02)
    job = Job("a", "", "m", 1, True)
    stream, _ = stream_of(job)
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))
        if len(sent) == 4:
            job.receive(Update(job, [Piece(0, "x", [], "stop")], 1, "completed"))

    asyncio.run(asyncio.wait_for(stream({"type": "http"}, never, send), 5))
    assert sent[1] == sent[2] == b": the answer goes on\n\n"
    assert sent[-2].endswith(b"data: [DONE]\n\n")


def test_what_comes_behind_an_end_is_not_sent() -> None:
    job = job_with("hello", "completed")
    job.receive(Update(job, [Piece(0, "more", [])], 2, None))
    assert [piece.text for piece in job.take_pieces()] == ["hello"]
    assert job.status == "completed"


def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.05)
    scope: dict[str, Any] = {"type": "http", "headers": [(b"content-type", b"application/json; charset=utf-8")]}
    with pytest.raises(ApiError, match="did not come") as error:
        asyncio.run(asyncio.wait_for(read_body(Request(scope, never), 100), 5))
    assert error.value.status == 408
