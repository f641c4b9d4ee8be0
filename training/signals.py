"""Ctrl-C and SIGTERM: the first one asks the run to save and leave, a second one ends it at once.

The first is noted by a handler, which Python runs when the main thread is back in the interpreter; the second is acted
on by a thread that waits for nothing else, because the main one may be in a collective that never ends.

A run asks `wanted()` between steps, micro-batches and passes of the validation. Where nothing has happened since the
last checkpoint and the next question may be a minute away (compiling), the signal itself leaves, by `Stopped`.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# torchrun passes a SIGTERM on to its workers, and a scheduler may send one to all processes too: the same wish twice.
ECHO_SECONDS = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0  # torchrun kills 30 s after a SIGTERM


class Stopped(BaseException):
    """Someone asked this process to stop, and nothing is left to save. Not an Exception: libraries catch those."""


class StopRequest:
    """Whether someone asked this process to stop."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._patience: float | None = None  # seconds from a signal to `Stopped`; None: nobody raises it

    def wanted(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal."""
        if self.signal is None:
            self.signal = signal.Signals(number).name
            if self._patience == 0:
                raise Stopped
            if self._patience is not None:
                signal.setitimer(signal.ITIMER_REAL, self._patience)

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
    before = {each: signal.signal(each, request.receive) for each in SIGNALS}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    other = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written to by C, whatever Python is doing
    watch = threading.Thread(target=_end_at_the_second, args=(reading,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(writing)  # which ends the thread
        watch.join()
        os.close(reading)


def _end_at_the_second(reading: int) -> None:
    """Read the numbers of signals until there are no more; end the process where one follows the first's echo."""
    first: float | None = None
    while numbers := os.read(reading, 4096):  # all that have come: an echo that waited for this thread is one
        wishes = [number for number in numbers if number in SIGNALS]
        now = time.monotonic()
        if wishes and first is None:
            first = now
        elif wishes and first is not None and now - first > ECHO_SECONDS:
            os._exit(128 + wishes[0])  # what a shell makes of a process that the signal ended
