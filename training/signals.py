"""Ctrl-C and SIGTERM: the first one asks the run to save and leave, a second one ends it at once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# torchrun passes a SIGTERM on to its workers, and a scheduler may send one to all processes too: the same wish twice.
ECHO_SECONDS = 2.0


class StopRequest:
    """Whether someone asked this process to stop."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._since = 0.0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; let one that comes later than its echo act as if we were not here."""
        if self.signal is None:
            self.signal, self._since = signal.Signals(number).name, time.monotonic()
        elif time.monotonic() - self._since > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM while the block runs; the earlier handlers come back after it."""
    request = StopRequest()
    before = {each: signal.signal(each, request.receive) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
