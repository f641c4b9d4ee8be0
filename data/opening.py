"""A file's bytes, decompressed, and what a damaged file raises.

In: an `InputFile`: plain, .gz, .zst, or a member of a .zip. Out: a buffered stream that stops where a file unpacks to
far more than text ever does.
"""

import gzip
import io
import zipfile
import zlib
from typing import IO, Any

from data.bounded import Expanded
from data.sources import InputFile

PIECE = 1 << 10  # compressed bytes at a time: zstd may make 32,696 of each, 33 MB


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
    return io.BufferedReader(Expanded(raw, packed), 1 << 20)


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
