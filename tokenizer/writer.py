"""Ids of an answer, one at a time -> its text as it grows: whole characters, nothing of a stop text."""

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from tokenizer.dialog import Dialog


class Writer:
    """Writes an answer as its tokens come: whole characters only (a token may end inside of one), up to a stop text.

    Attributes:
        text: of the answer so far, without what a stop text cut off
        stopped: whether one did
        written: characters of it that were written
    """

    def __init__(self, dialog: Dialog, write: Callable[[str], Any], stop: Sequence[str] = ()) -> None:
        self.text, self.stopped, self.written = "", False, 0
        self._dialog, self._write, self._stop = dialog, write, stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def on_token(self, row: int, token: int) -> None:
        """Of `generate`."""
        if token not in self._dialog.eos:
            self._take(self._decoder.decode(self._dialog.decode_bytes([token])))

    def ends(self, row: int, ids: list[int]) -> bool:
        """Of `generate`: whether a stop text ended the answer."""
        return self.stopped

    def inside_character(self) -> bool:
        """Whether the last token ended inside of a character."""
        return bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """Write what was held back, as it might have become a stop text or a character; returns the answer."""
        if not self.stopped:
            self._take(self._decoder.decode(b"", final=True))
            self._show(len(self.text))
        return self.text

    def _take(self, text: str) -> None:
        self.text += text
        # Of several the one that is whole first: what is shown does not hang on how text is cut into tokens.
        found = [
            (place + len(stop), place) for stop in self._stop if (place := self.text.find(stop, self.written)) >= 0
        ]
        if found:
            self.text, self.stopped = self.text[: min(found)[1]], True
        self._show(len(self.text) - (0 if self.stopped else self._held()))

    def _held(self) -> int:
        """Characters at the end that may be the beginning of a stop text."""
        most = max(map(len, self._stop), default=1) - 1
        lengths = range(min(most, len(self.text) - self.written), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self.text[-n:]) for stop in self._stop)), 0)

    def _show(self, end: int) -> None:
        if text := self.text[self.written : end]:
            self._write(text)
            self.written = end
