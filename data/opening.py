"""A file's bytes, decompressed, and what a damaged file raises.

In: an `InputFile`: plain, .gz, .zst, or a member of a .zip. Out: a buffered stream that stops where a file unpacks to
far more than text ever does, and hands out all that stands before a break in the file before it raises.
"""

import gzip
import io
import zipfile
import zlib
from typing import IO, Any

from data.bounded import Expanded
from data.sources import COMPRESSIONS, InputFile

PIECE = 1 << 10  # compressed bytes at a time: zstd may make 32,696 of each, 33 MB
AT_ONCE = 1 << 13  # bytes that are unpacked at a time: what is unpacked together with a break is lost


def damaged() -> tuple[type[Exception], ...]:
    """What a damaged file raises. Not a constant: who only trains imports this module and may lack zstandard."""
    import pyarrow as pa
    import zstandard

    # RuntimeError and NotImplementedError: an encrypted zip member, a compression method zipfile does not know
    return (OSError, EOFError, zlib.error, zipfile.BadZipFile, zstandard.ZstdError, pa.ArrowException, RuntimeError)


def open_file(file: InputFile) -> IO[bytes]:
    """The file's bytes as a buffered stream, from their beginning."""
    raw: IO[bytes]
    packed = file.path.stat().st_size
    if file.member is not None:
        archive = zipfile.ZipFile(file.path)
        raw, name, packed = (
            archive.open(file.member),
            file.member,
            min(packed, archive.getinfo(file.member).compress_size),
        )
    else:
        raw, name = file.path.open("rb"), file.path.name
    if name.lower().endswith(".gz"):
        raw = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
    elif name.lower().endswith(".zst"):
        raw = _Zstd(raw)  # type: ignore[assignment]
    if file.member is not None or name.lower().endswith(COMPRESSIONS):
        raw = _Part(raw)  # type: ignore[assignment]
    return _Buffered(Expanded(raw, packed), 1 << 20)


class UpToBreak:
    """A stream that ends where the file is damaged. `error`: what the damage raised."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            return self.stream.read(size) if self.error is None else b""
        except damaged() as error:
            self.error = error
            return b""

    def __enter__(self) -> "UpToBreak":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


class _Part(io.RawIOBase):
    """What is there of a stream, AT_ONCE at most: one that fills a whole buffer loses it where it breaks before."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.read_some = getattr(raw, "read1", raw.read)  # a raw stream's read is as short as can be

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.read_some(min(len(buffer), AT_ONCE))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Buffered(io.BufferedReader):
    """A buffer whose `read`, where the file breaks, returns what was read, and raises when it is called again."""

    error: Exception | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.error is not None:
            raise self.error
        parts: list[bytes] = []
        left = -1 if size is None else size
        try:
            while left and (part := self.read1(left)):
                parts.append(part)
                left -= len(part) if left > 0 else 0
        except damaged() as error:
            if not parts:
                raise
            self.error = error
        return b"".join(parts)


class _Zstd(io.RawIOBase):
    """Decompresses frames in a row. zstandard's own reader takes a frame that is cut short for the end of the file."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self.raw, self.compressed, self.content = raw, b"", b""
        self.start_frame = zstandard.ZstdDecompressor().decompressobj
        self.frame: Any = None  # the one being read; None between frames

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.content:
            self.compressed = self.compressed or self.raw.read(PIECE)
            if not self.compressed:
                if self.frame is not None:
                    raise EOFError("the file is cut short: its last zstd frame has no end")
                return 0
            self.frame = self.frame or self.start_frame()
            self.content, self.compressed = self.frame.decompress(self.compressed), b""
            if self.frame.eof:
                self.frame, self.compressed = None, self.frame.unused_data
        part, self.content = self.content[: len(buffer)], self.content[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.raw.close()
        super().close()
