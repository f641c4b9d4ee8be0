"""Reading what may be hostile: no more memory than stated, whatever a file unpacks to and however long a line is.

Expanded    a decompressed stream that stops where its file unpacks to more than text ever does
read_whole  a stream in one piece, unless it is larger than WHOLE
check_json  whether a JSON text is worth parsing
lines_of    lines of text, those longer than RECORD as a `TooLong` that holds their beginning
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, TextIO

RATIO = 250  # bytes out for one byte in; of 52 real files the densest has 18; of zeros gzip makes 1,029, zstd 32,696
UNQUESTIONED = 256 << 20  # bytes that any file may unpack to
WHOLE = 2 << 30  # bytes of a file that is read in one piece: JSON, Parquet, a text that is one document
VALUES = 32 << 20  # commas and opening brackets of a JSON text, those inside of strings too: 2 GB of objects
RECORD = 64 << 20  # characters of one line, or of one row of a CSV file
PIECE = 1 << 20


class TooLarge(OSError):
    """A file, or what it unpacks to, is larger than any corpus needs."""


@dataclass(frozen=True)
class TooLong:
    """A line that was not kept: how it begins, and its length in characters."""

    start: str
    length: int


class Expanded(io.RawIOBase):
    """The bytes of `raw`, which were unpacked from `packed` bytes. Raises `TooLarge` where they are far too many."""

    def __init__(self, raw: IO[bytes], packed: int) -> None:
        self.raw, self.packed, self.read_so_far = raw, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = self.raw.readinto(buffer)  # type: ignore[attr-defined]
        self.read_so_far += number
        check_expansion(self.read_so_far, self.packed)
        return int(number)

    def close(self) -> None:
        self.raw.close()
        super().close()


def check_expansion(unpacked: int, packed: int) -> None:
    """Raise `TooLarge` where so many bytes cannot be what a text was packed from."""
    if unpacked > max(UNQUESTIONED, RATIO * packed):
        raise TooLarge(
            f"{packed:,} bytes unpack to more than {unpacked:,}, over {RATIO} times as many: not text; the rest is "
            "not read"
        )


def read_whole(stream: IO[bytes]) -> bytes:
    """All that is left of a stream."""
    parts, length = [], 0
    while part := stream.read(PIECE):
        parts.append(part)
        length += len(part)
        if length > WHOLE:
            break
    content = b"".join(parts)
    if length > WHOLE:
        raise TooLarge(
            f"more than {WHOLE:,} bytes in one piece: cut it, or store it as lines (JSONL, CSV, split = line)"
        )
    return content


def check_json(text: str) -> None:
    """Raise `TooLarge` where a JSON text would be far more values than any corpus is: each takes 60 bytes or so."""
    if len(text) > VALUES and (values := text.count(",") + text.count("[") + text.count("{")) > VALUES:
        raise TooLarge(f"up to {values:,} JSON values in one piece: cut it, or store it as lines (JSONL)")


def lines_of(lines: TextIO) -> Iterator[str | TooLong]:
    """Lines as iterating the wrapper gives them."""
    while line := lines.readline(RECORD + 1):
        if len(line) <= RECORD:
            yield line
            continue
        start, length = line[:1000], len(line)
        while line and not line.endswith("\n"):
            line = lines.readline(PIECE)
            length += len(line)
        yield TooLong(start, length)
