"""Clients that do not say what they want are closed; those that ask again in time are not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server import connection
from server.connection import Connection

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers when it has the body, or later than a head may come."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(1.3 * connection.HEAD_SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def said(client: Client, monkeypatch: pytest.MonkeyPatch, seconds: float) -> bytes:
    """What a client got until its connection ended."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", seconds)

    async def main() -> bytes:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                return await asyncio.wait_for(client(reader, writer), 20)
            finally:
                writer.close()

    return asyncio.run(main())


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    return await reader.read()


async def dribbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\n")
    for number in range(500):
        writer.write(f"X-{number}: 1\r\n".encode())
        try:
            return await asyncio.wait_for(reader.read(), 0.02)
        except TimeoutError:
            continue
        except ConnectionError:  # what it wrote last was not read
            return b""
    raise AssertionError("the connection is still there")


async def dribbling_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    first = await reader.readuntil(b"ok")
    return first + await dribbling(reader, writer)


@pytest.mark.parametrize(("client", "answers"), [(silent, 0), (dribbling, 0), (dribbling_the_second, 1)])
def test_a_head_that_does_not_come_ends_the_connection(
    client: Client, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(client, monkeypatch, 0.3).count(b"ok") == answers


def test_an_answer_and_those_who_ask_again_are_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer takes longer than a head may; the third is asked for before the second has come."""
    slow = ASK.replace(b"/", b"/slow", 1)

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(slow)
        first = await reader.readuntil(b"ok")
        writer.write(slow + slow)
        return first + await reader.readuntil(b"ok") + await reader.readuntil(b"ok")

    assert said(patient, monkeypatch, 1.0).count(b"ok") == 3
