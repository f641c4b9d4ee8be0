"""The routes: OpenAI's /v1/models, /v1/completions, /v1/chat/completions; /healthz, /metrics; and the page at /.

Host and headers are looked at first (server/guard.py), then the key, the body, the model, the prompt, the limits and
the queue; whatever is wrong is one line in OpenAI's shape.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from server.bodies import Asked, read_chat, read_completion
from server.errors import ApiError
from server.jobs import Job
from server.replies import Replies
from server.service import Served, Service

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
BODY_SECONDS = 30.0  # in which a body must have come
SLOW_SECONDS = 60.0  # that a client may take no byte of what waits for it, before it is left
QUIET_SECONDS = 15.0  # after which a stream says that it is still there: proxies close silent ones
JSON = "application/json"


def make_app(service: Service, most_bytes: int) -> FastAPI:
    """The app; most_bytes: of a body."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    files = page_files()

    @app.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.body(), error.status, error.headers())

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        said = {404: "there is nothing here", 405: "this method is not for this address"}
        refusal = ApiError(error.status_code, said.get(error.status_code, "the request cannot be answered"))
        return JSONResponse(refusal.body(), error.status_code, error.headers)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        service.key(request.headers.get("authorization"))
        return JSONResponse({"object": "list", "data": [describe(served) for served in service.models.values()]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        service.key(request.headers.get("authorization"))
        return JSONResponse(describe(service.model(name)))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answer(request, read_completion, chat=False)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await answer(request, read_chat, chat=True)

    @app.get("/healthz")
    async def health() -> Response:
        trouble = service.trouble()
        return JSONResponse({"status": trouble or "ok"}, 503 if trouble else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
            raise ApiError(403, "metrics are told on this machine only")
        workers = {name: served.worker for name, served in service.models.items()}
        return Response(service.metrics.page(workers), media_type="text/plain; version=0.0.4")

    @app.get("/")
    async def index() -> Response:
        return await page("index.html")

    @app.get("/page/{name}")
    async def page(name: str) -> Response:
        if name not in files:
            return Response("this server has no page\n", 404, media_type="text/plain")
        return Response(files[name], media_type=TYPES[Path(name).suffix])

    async def answer(request: Request, read: Callable[[bytes], Asked], chat: bool) -> Response:
        began = time.time()
        key = service.key(request.headers.get("authorization"))
        asked = read(await read_body(request, most_bytes))
        served = service.model(asked.model)
        prompts = await asyncio.to_thread(service.prompts, served, asked)  # a long text takes a while
        job = service.submit(served, key, asked, prompts, began)
        replies = Replies(job, chat, asked.num_logprobs() is not None, served.fingerprint)
        if asked.stream:
            return Stream(service, job, replies, asked.stream_options.include_usage)
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while job.status is None and not gone.done():
                await until_changed(job, gone, None)
        finally:
            gone.cancel()
            service.leave(job)
        if job.error is not None:
            raise job.error
        return JSONResponse(replies.whole(job.take_pieces()))

    return app


class Stream(Response):
    """An answer as server-sent events. A client that goes, or takes nothing for long, ends its job."""

    def __init__(self, service: Service, job: Job, replies: Replies, usage: bool) -> None:
        self._service, self._job, self._replies, self._usage = service, job, replies, usage
        self.background = None
        self.status_code = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        gone = asyncio.ensure_future(until_gone(receive))
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for events in self._events(gone):
                sending = send({"type": "http.response.body", "body": events, "more_body": True})
                await asyncio.wait_for(sending, SLOW_SECONDS)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass
        finally:
            gone.cancel()
            self._service.leave(self._job)

    async def _events(self, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
        job = self._job
        while not gone.done():
            if not await until_changed(job, gone, QUIET_SECONDS):
                if not gone.done():
                    yield b": the answer goes on\n\n"
                continue
            ended = job.status is not None  # before its pieces are taken: none comes behind them
            chunks = [chunk for piece in job.take_pieces() for chunk in self._replies.chunks(piece, self._usage)]
            if ended and job.error is not None:
                yield b"".join(map(event, [*chunks, job.error.body()]))
                return
            if ended:
                last = [self._replies.last_chunk()] if self._usage else []
                yield b"".join(map(event, [*chunks, *last])) + b"data: [DONE]\n\n"
                return
            yield b"".join(map(event, chunks))


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def until_gone(receive: Receive) -> None:
    """Until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_changed(job: Job, gone: asyncio.Future[None], seconds: float | None) -> bool:
    """Until there is news of a job, the client is gone, or so many seconds went by; whether there is news."""
    changed: asyncio.Future[Any] = asyncio.ensure_future(job.changed.wait())
    waited: set[asyncio.Future[Any]] = {changed, gone}
    try:
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
    return job.changed.is_set()


async def read_body(request: Request, most: int) -> bytes:
    """A JSON body; ApiError 413, 415, and 408 for one that does not come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:  # what a page of another host could send without asking first
        raise ApiError(415, f"the body must be {JSON}, and its content-type must say so")
    too_large = ApiError(413, f"the body is larger than {most:,} bytes", code="body_too_large")
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told[:20]) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {BODY_SECONDS:.0f} seconds") from None
    return bytes(body)


def describe(served: Served) -> dict[str, Any]:
    """A model as /v1/models lists it, and how much it holds."""
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "loam",
            "max_model_len": served.seq_len}  # fmt: skip


def page_files() -> dict[str, bytes]:
    """The files of the page by name, read once."""
    found = PAGE.iterdir() if PAGE.is_dir() else []
    return {file.name: file.read_bytes() for file in found if file.suffix in TYPES}
