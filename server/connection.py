"""Connections as uvicorn has them, closed where no request comes.

uvicorn waits five seconds for the first byte of a next request, and for ever for the first request and the rest of any
head: a thousand clients that say nothing would take all places. A body has its own time (server/app.py).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # in which the head of a request must have come


class Connection(H11Protocol):
    """One client's."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of asyncio."""
        super().connection_made(transport)
        self._expect_head(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        super().connection_lost(exc)
        self._expect_nothing()

    def on_response_complete(self) -> None:
        """Of uvicorn."""
        answered = self.cycle
        super().on_response_complete()  # which may begin the next one, if that has come already
        self._expect_head(answered)

    def _expect_head(self, before: Any) -> None:
        self._expect_nothing()
        self._late = self.loop.call_later(HEAD_SECONDS, self._close_if_none_came, before)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()

    def _close_if_none_came(self, before: Any) -> None:
        if self.cycle is before:
            self.transport.close()
