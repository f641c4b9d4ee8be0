"""What stands before the app: whose host a request names, headers of every answer, and what to say when code fails.

A page of another site may lead its own name to 127.0.0.1 (DNS rebinding): its requests then come with that name as
Host, and are refused where the server listens on this machine only. No answer allows another origin to read it.
"""

import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ApiError

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """An ASGI app around another.

    Args:
        hosts: names that a request may be sent to; None: any
        responded: called with the status of each answer
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, responded: Callable[[int], None]) -> None:
        self._app, self._hosts, self._responded = app, hosts, responded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] != "http":
            return
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._responded(message["status"])
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        try:
            if self._hosts is not None and (host := _host(scope)) not in self._hosts:
                said = "this server does not answer to that Host" if host else "the request names no Host"
                refusal = ApiError(403, f"{said}; `--allow_hosts` adds names", code="wrong_host")
                await JSONResponse(refusal.body(), 403)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            # The places in the code alone: what an exception says may be somebody's text.
            places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:]]
            print(f"failed: {type(error).__name__} at {' < '.join(reversed(places))}", file=sys.stderr, flush=True)
            if not begun:
                refusal = ApiError(500, "the server failed to answer; its log says where", code="failed")
                await JSONResponse(refusal.body(), 500)(scope, receive, send_with_headers)


def _host(scope: Scope) -> str:
    """The name of the Host header, without a port."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(given) != 1:
        return ""
    host = given[0].lower()
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
