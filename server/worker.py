"""One thread a checkpoint owns its engine: jobs in, updates out.

bounded queue of choices -> engine while it has room -> a token of each row a step -> updates to the clerk

A job whose client left is dropped between two steps. What goes wrong in the engine fails the rows that it held; a new
engine goes on with the others.
"""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from model.decoder import Decoder
from model.engine import Engine
from server.errors import ApiError
from server.jobs import Choice, Job, Update

NO_ROW = -1  # no row's number


class Worker:
    """The engine of one checkpoint.

    Args:
        rows: answers that are generated together
        queue: answers that may wait for a row
    """

    def __init__(self, model: Decoder, rows: int, queue: int) -> None:
        self._model, self._num_rows, self._most = model, rows, queue
        self._engine = Engine(model, rows)
        self._changed = threading.Condition()
        self._waiting: deque[Choice] = deque()
        self._leaving: list[tuple[Job, str]] = []
        self._closing = False
        self._rows: dict[int, Choice] = {}
        self._publish: Callable[[list[Update]], None] = lambda updates: None
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine")

    def start(self, publish: Callable[[list[Update]], None]) -> None:
        """Begin. `publish` is called in the worker's thread with the updates of a step; where it waits, so does the
        engine."""
        self._publish = publish
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job's choices; ApiError 429 where that is full."""
        with self._changed:
            if self._closing:
                raise ApiError(503, "the server is stopping", code="stopping", retry_after=5)
            # An empty queue takes a request of any size: it can never come at a better time.
            if self._waiting and len(self._waiting) + len(job.choices) > self._most:
                raise ApiError(429, "the server is busy: its queue is full", code="queue_full", retry_after=2)
            job.remaining = len(job.choices)
            self._waiting += job.choices
            self._changed.notify()

    def cancel(self, job: Job, status: str = "cancelled") -> None:
        """Stop a job's generation at the next step; one that has ended is left as it is."""
        with self._changed:
            self._leaving.append((job, status))
            self._changed.notify()

    def num_waiting(self) -> int:
        """Choices that wait for a row."""
        return len(self._waiting)

    def num_rows(self) -> int:
        """Choices that are generated now."""
        return len(self._rows)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread; what is unfinished is told to be interrupted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._leaving or self._closing or self._rows):
                    self._changed.wait()
                leaving, self._leaving = self._leaving, []
                if self._closing:
                    jobs = {choice.job.id: choice.job for choice in [*self._rows.values(), *self._waiting]}
                    leaving += [(job, "interrupted") for job in jobs.values()]
            try:
                for job, status in leaving:
                    self._end(job, status)
                if self._closing:
                    return
                self._admit()
                if self._rows:
                    self._step()
            except Exception as error:  # out of memory, or a mistake of ours: whose rows are lost is told
                self._fail(error)

    def _admit(self) -> None:
        while self._engine.has_room():
            with self._changed:
                if not self._waiting:
                    return
                choice = self._waiting.popleft()
            self._rows[NO_ROW] = choice  # should the engine fail here, it is among those that are told
            row = self._engine.add(choice.request)
            self._rows[row] = self._rows.pop(NO_ROW)
            choice.job.entered = True

    def _step(self) -> None:
        events = [(self._rows[event.row], event) for event in self._engine.step()]
        for choice, event in events:
            if event.ended == "failed":
                self._end(choice.job, "failed", _failed())
        events = [(choice, event) for choice, event in events if event.row in self._rows]
        for choice, event in events:  # where this raises, all are still among those that are told
            choice.take(event)
        touched: dict[str, Job] = {}
        for choice, event in events:
            choice.job.first = choice.job.first or time.time()
            touched[choice.job.id] = choice.job
            if choice.finish:
                del self._rows[event.row]
                choice.job.remaining -= 1
        updates = [self._news(job) for job in touched.values() if job.stream or job.remaining == 0]
        if found := [update for update in updates if update is not None]:
            self._publish(found)
        for choice, event in events:
            if choice.finish and event.ended is None:
                self._engine.drop(event.row)

    def _news(self, job: Job) -> Update | None:
        """What a job's client may see now. What it may not see yet, as it may become a stop text, is not charged."""
        pieces = [piece for choice in job.choices if (piece := choice.piece()) is not None]
        return Update(job, pieces, job.generated(), None if job.remaining else "completed") if pieces else None

    def _end(self, job: Job, status: str, error: ApiError | None = None) -> None:
        """Take a job's choices out wherever they are, and tell; one that has ended is left as it is."""
        if job.remaining == 0:
            return
        job.remaining = 0
        rows = [row for row, choice in self._rows.items() if choice.job is job]
        for row in rows:
            del self._rows[row]
        with self._changed:
            self._waiting = deque(choice for choice in self._waiting if choice.job is not job)
        error = error or ApiError(503, "the server stopped before the answer was complete", code="stopping")
        self._publish([Update(job, [], job.generated(), status, error)])
        for row in rows:  # last, as it may raise: the job has been told
            self._engine.drop(row)

    def _fail(self, error: Exception) -> None:
        """Tell those that the engine held, and take a new one. The log names places in the code and nobody's text."""
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:]]
        print(
            f"the engine failed: {type(error).__name__} at {' < '.join(reversed(places))}", file=sys.stderr, flush=True
        )
        lost = {choice.job.id: choice.job for choice in self._rows.values()}
        self._rows.clear()
        traceback.clear_frames(error.__traceback__)  # they hold the engine, and there may be no memory for two
        del self._engine
        try:
            self._engine = Engine(self._model, self._num_rows)
        except Exception:  # no memory is left for another
            with self._changed:
                self._closing = True
                lost |= {choice.job.id: choice.job for choice in self._waiting}
        for job in lost.values():
            self._end(job, "failed", _failed())


def _failed() -> ApiError:
    return ApiError(500, "the server failed to answer; its log says where", code="failed")
