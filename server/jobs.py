"""A request on its way: its answers grow in a worker's thread, are charged by the clerk, and wait here to be sent.

Worker thread   choice.take(event) -> Piece        what one more token adds to an answer
                Update(job, pieces, ...)           goes to the clerk
Clerk thread    charges what the update holds, then hands it over to the loop
Event loop      job.receive(update); whoever answers the client takes `job.take_pieces()`
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from model.engine import Event, Request
from server.errors import ApiError
from tokenizer.dialog import Dialog
from tokenizer.writer import Writer


@dataclass(frozen=True)
class Told:
    """A token with its log-probability, as it is told."""

    data: bytes
    logprob: float
    top: list[tuple[bytes, float]]
    offset: int  # characters of the answer before it


@dataclass(frozen=True)
class Piece:
    """What is added to one answer."""

    index: int
    text: str
    told: list[Told]
    finish: str | None = None  # "stop", "length"


class Choice:
    """One answer of a request, in the worker's hands."""

    def __init__(self, job: "Job", index: int, request: Request, dialog: Dialog, stop: Sequence[str]) -> None:
        self.job, self.index, self.request = job, index, request
        self.num_tokens, self.finish = 0, ""
        self._dialog = dialog
        self._text: list[str] = []
        self._writer = Writer(dialog, self._text.append, stop)
        self._told: list[Told] = []
        self._needs: list[int] = []  # characters that must be written before each of `_told` may be
        self._over = False  # the last piece was taken

    def take(self, event: Event) -> None:
        """One more token, or the end: `finish` then says which."""
        if event.token is not None:
            self.num_tokens += 1
            before = len(self._writer.text)
            self._writer.on_token(0, event.token)
            if event.logprob is not None:
                decode = self._dialog.decode_bytes
                top = [(decode([token]), logprob) for token, logprob in event.top]
                self._told.append(Told(decode([event.token]), event.logprob, top, before))
                # A token that a stop text cut, or may yet cut, says what must not be said.
                whole = len(self._writer.text) + self._writer.inside_character()
                self._needs.append(whole if not self._writer.stopped else whole + 1)
        if self._writer.stopped or event.ended is not None:
            self._writer.finish()
            self.finish = "stop" if self._writer.stopped or event.ended == "eos" else "length"

    def piece(self) -> Piece | None:
        """What may be sent since the last one; None: nothing."""
        if self._over:
            return None
        held = (i for i, need in enumerate(self._needs) if need > self._writer.written)
        number = next(held, len(self._needs))
        text, told = "".join(self._text), self._told[:number]
        self._text.clear()
        del self._told[:number], self._needs[:number]
        self._over = bool(self.finish)
        return Piece(self.index, text, told, self.finish or None) if text or told or self.finish else None


@dataclass(eq=False)
class Job:
    """A request with its answers.

    The first fields never change; `choices` to `first` are the worker's, `charged` and `refused` the clerk's, the rest
    is the event loop's.
    """

    id: str
    key: str  # a key's name; empty: none
    model: str
    num_prompt_tokens: int
    stream: bool
    choices: list[Choice] = field(default_factory=list)
    remaining: int = 0  # choices that have not ended
    entered: bool = False  # an engine has read its prompt
    first: float | None = None  # when the first token came, by time.time()
    charged: int | None = None  # tokens of answers that are in the ledger; None: it has no row
    refused: bool = False  # the ledger could not be written: nothing of it is sent any more
    began: float = field(default_factory=time.time)
    num_tokens: int = 0  # of answers, charged
    status: str | None = None  # how it ended
    error: ApiError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _pieces: list[Piece] = field(default_factory=list)

    def generated(self) -> int:
        """Tokens of all answers."""
        return sum(choice.num_tokens for choice in self.choices)

    def receive(self, update: "Update") -> None:
        """What was charged may be sent."""
        if self.status is not None:
            return
        self._pieces += update.pieces
        self.num_tokens, self.status, self.error = update.num_tokens, update.status, update.error
        self.changed.set()

    def take_pieces(self) -> list[Piece]:
        """What has come since the last call, one piece a choice: a slow client gets more at a time, not more pieces."""
        joined: dict[int, Piece] = {}
        for piece in self._pieces:
            old = joined.get(piece.index)
            text, told = (old.text + piece.text, old.told + piece.told) if old else (piece.text, piece.told)
            joined[piece.index] = Piece(piece.index, text, told, piece.finish)
        self._pieces = []
        self.changed.clear()
        return list(joined.values())


@dataclass(frozen=True)
class Update:
    """A job's news, made in a worker's thread.

    status: None while it goes on; completed, cancelled (the client left), interrupted (the server stopped), failed
    """

    job: Job
    pieces: list[Piece]
    num_tokens: int  # of all its answers until now
    status: str | None = None
    error: ApiError | None = None
    time: float = field(default_factory=time.time)
