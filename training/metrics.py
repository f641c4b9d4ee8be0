"""metrics.jsonl, one JSON object a line, and what the epochs' figures mean in words."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

WAITING = 8192  # bytes that wait to be written


class MetricsLog:
    """Append-only log of a run. Only rank 0 has one that writes."""

    def __init__(self, path: Path | None, keep_bytes: int = 0) -> None:
        """Open `path` (None: write nothing) and cut it back to `keep_bytes`, what the resumed checkpoint had seen."""
        self._file = None
        self._waiting = b""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(keep_bytes)
            self._file.seek(0, os.SEEK_END)

    def write(self, event: str, **values: Any) -> None:
        """Append one event; floats keep full precision. A full disk is no matter before the next `sync`."""
        if self._file is not None:
            self._waiting += (json.dumps({"event": event, **values}, allow_nan=False) + "\n").encode()
            if len(self._waiting) > WAITING:
                with suppress(OSError):
                    self._flush()

    def sync(self) -> int:
        """Flush to disk; returns the file's length in bytes. OSError on a full disk: nothing is lost yet."""
        if self._file is None:
            return 0
        try:
            self._flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # which does not say of which file
            raise OSError(error.errno, error.strerror, self._file.name) from error
        return self._file.tell()

    def cut(self, num_bytes: int) -> None:
        """Forget what was written behind the first `num_bytes`."""
        if self._file is not None:
            self._waiting = b""
            self._file.truncate(num_bytes)
            self._file.seek(0, os.SEEK_END)

    def _flush(self) -> None:
        assert self._file is not None
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def close(self) -> None:
        """Flush and close; closed even where the disk takes no more."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                self._file.close()


def read_metrics(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Events of a log, oldest first. A half-written last line is left out, with a warning any damaged one."""
    if not path.exists():
        return []
    events = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        found = event_in(line)
        if found is None:
            print(f"warning: {path}:{number} is damaged and left out")
        elif event is None or found["event"] == event:
            events.append(found)
    return events


def event_in(line: bytes) -> dict[str, Any] | None:
    """The event that a line of a log holds; None where it holds none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None


def diagnosis(epochs: Iterable[dict[str, Any]], ngram: float | None, counted: str = "the training split") -> list[str]:
    """What a run's epoch events say: still falling, flat or overfitting, the best epoch, what to change.

    ngram: bits per byte of an n-gram model on the same documents, the least that a network should reach; None: unknown.
    """
    epochs = list(epochs)
    if not epochs:
        return ["no epoch was finished: nothing to say yet"]
    best = min(epochs, key=lambda e: e["val_loss"])
    last = epochs[-1]
    lines = [
        f"best epoch: {best['epoch']} of {last['epoch']} (validation loss {best['val_loss']:.4f}, "
        f"{best['val_bpb']:.4f} bits per byte on {best['val_documents']:,} documents)"
    ]
    if ngram is not None:
        better = 1 - best["val_bpb"] / ngram
        lines.append(
            f"an n-gram model counted on {counted} has {ngram:.4f}: "
            + (f"this one is {better:.1%} below" if better > 0 else "the network has learned less than counting does")
        )
    if len(epochs) == 1:
        return [*lines, "one epoch alone shows no trend: train 3 or more (--epochs 3)"]
    change = (last["val_loss"] - epochs[-2]["val_loss"]) / epochs[-2]["val_loss"]
    behind = (last["val_loss"] - best["val_loss"]) / best["val_loss"]
    gap = last["val_loss"] - last["train_loss"]
    if behind > 0.005:
        lines.append(
            f"overfitting: validation loss rose by {behind:.1%} since epoch {best['epoch']} while training loss is "
            f"{gap:.2f} below it: use ckpt{best['epoch']}, and train fewer epochs, a smaller model, or more data"
        )
    elif change < -0.005:
        lines.append(
            f"still falling: {-change:.1%} in the last epoch; a longer run (--epochs {2 * last['epoch']} and a --run "
            "of its own) will likely be better"
        )
    else:
        lines.append(
            f"flat: {abs(change):.1%} in the last epoch; more epochs will not help, a larger model or more data may"
        )
    return lines
