"""Updates of all workers -> charged in the ledger -> handed to the event loop, in that order.

One thread writes for all: what has come while the last commit was on its way to the disk is one transaction. A worker
that is far ahead of the disk waits. Where the ledger cannot be written nothing is sent: those requests fail.
"""

import asyncio
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from server.errors import ApiError
from server.jobs import Update
from server.ledger import Ledger

AHEAD = 64  # steps of engines that may wait for the disk


class Clerk:
    """The one writer of a ledger."""

    def __init__(
        self, ledger: Ledger, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[Update]], None]
    ) -> None:
        """deliver: called in the loop with updates that are charged."""
        self._ledger, self._loop, self._deliver = ledger, loop, deliver
        self._queue: queue.Queue[list[Update] | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True, name="clerk")
        self.failing = False  # the last commit failed

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def publish(self, updates: list[Update]) -> None:
        """Of workers."""
        self._queue.put(updates)

    def close(self) -> None:
        """Charge what has come, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            batches = [self._queue.get()]
            with suppress(queue.Empty):
                while True:
                    batches.append(self._queue.get_nowait())
            last = None in batches
            updates = [update for batch in batches if batch is not None for update in batch]
            with suppress(RuntimeError):  # the loop has ended, and with it whoever would listen
                self._loop.call_soon_threadsafe(self._deliver, self._charged(updates))

    def _charged(self, updates: list[Update]) -> list[Update]:
        try:
            self._ledger.charge(updates)
        except sqlite3.Error as error:
            if not self.failing:
                print(f"the ledger cannot be written: {error}", file=sys.stderr, flush=True)
            self.failing = True
            refusal = ApiError(503, "the server cannot account for this answer now", code="ledger", retry_after=30)
            return [Update(update.job, [], 0, "failed", refusal) for update in updates]
        self.failing = False
        return updates
