"""Ctrl-C and SIGTERM: the first one asks the run to save and leave, a second one ends it at once.

A run asks `wanted()` between steps, micro-batches and passes of the validation. Where nothing has happened since the
last checkpoint and the next question may be a minute away (compiling), the signal itself leaves, by `Stopped`.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# torchrun passes a SIGTERM on to its workers, and a scheduler may send one to all processes too: the same wish twice.
ECHO_SECONDS = 2.0
PATIENCE = 10.0  # torchrun kills 30 s after a SIGTERM


class Stopped(BaseException):
    """Someone asked this process to stop, and nothing is left to save. Not an Exception: libraries catch those."""


class StopRequest:
    """Whether someone asked this process to stop."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._since = 0.0
        self._patience: float | None = None  # seconds from a signal to `Stopped`; None: nobody raises it

    def wanted(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; let one that comes later than its echo act as if we were not here."""
        if self.signal is None:
            self.signal, self._since = signal.Signals(number).name, time.monotonic()
            if self._patience == 0:
                raise Stopped
            if self._patience is not None:
                signal.setitimer(signal.ITIMER_REAL, self._patience)
        elif time.monotonic() - self._since > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @contextmanager
    def at_once(self, alone: bool) -> Iterator[None]:
        """While the block runs a signal raises `Stopped` where it comes: nothing in it needs saving.

        Not alone, only where the block still runs PATIENCE seconds later: ranks had better leave together.
        """
        self._patience = 0.0 if alone else PATIENCE
        before = signal.signal(signal.SIGALRM, _leave)
        try:
            if self.wanted() and alone:
                raise Stopped
            yield
        finally:
            self._patience = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _leave(number: int, frame: FrameType | None) -> None:
    raise Stopped


@contextmanager
def stop_requests(request: StopRequest) -> Iterator[None]:
    """Catch SIGINT and SIGTERM while the block runs; the earlier handlers come back after it."""
    before = {each: signal.signal(each, request.receive) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
