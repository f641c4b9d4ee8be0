"""Updates of all workers -> charged in the ledger -> handed to the event loop, in that order.

One thread writes for all: what has come while the last commit was on its way to the disk is one transaction. A worker
that is far ahead of the disk waits. Where the ledger cannot be written nothing is sent: those requests fail.
"""

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from common.text import error_line
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
        self._owed: list[Update] = []  # ends of refused requests that the ledger does not know yet
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
        """What may be sent. A request that was refused once stays refused, at what was charged before."""
        self._owe([update for update in updates if update.job.refused])
        updates = [update for update in updates if not update.job.refused]
        try:
            self._ledger.charge([*self._owed, *updates])
        except Exception as error:  # were it not of SQLite: without this thread nobody is ever answered
            if not self.failing:
                print(f"the ledger cannot be written: {error_line(error)}", file=sys.stderr, flush=True)
            self.failing = True
            refusal = ApiError(503, "the server cannot account for this answer now", code="ledger", retry_after=30)
            for update in updates:
                update.job.refused = True
            self._owe(updates)
            return [Update(update.job, [], update.job.charged or 0, "failed", refusal) for update in updates]
        self.failing = False
        self._owed.clear()
        for update in updates:
            update.job.charged = update.num_tokens
        return updates

    def _owe(self, updates: list[Update]) -> None:
        """Settle the rows of refused requests that end here as soon as the ledger can be written."""
        for update in updates:
            if update.status is not None and update.job.charged is not None:
                self._owed.append(Update(update.job, [], update.job.charged, "failed"))
