"""One file becomes rows: CSV, TSV, JSON, JSONL, Parquet, text, Markdown; each plain, .gz, .zst or in a .zip.

    bytes -> records (a dict of columns, or a string of text, and where it stands) -> rows (the corpus's fields)

Nothing is dropped: a record that cannot be used is a row with a `reason`, and a file that breaks half way keeps the
rows before the break and adds one row that says where. Nothing is altered: fields and texts are kept byte for byte;
only a byte-order mark at the start of a file and the line end of a `split = "line"` document are not content.
  Not a row: blank lines of CSV, JSONL and line-split text. A file that holds no row at all is one row, reason "empty".
  encoding = "auto": a file that is valid UTF-8 is read as such; of any other data/decoding.py says what it is, and a
  note on the file's rows repeats it. Where that is undecided, and where a byte is not what the declared encoding has,
  the record that holds the bytes goes to quarantine, the file's other records stay. A record is a CSV row, a JSON line,
  a text line, a chapter, or the whole file where it is the document. Of JSON and Parquet, which are read as one, and of
  a document that is a file, nothing is left where the file breaks.
  Lists: of a list of answers the first is taken, and counted in the manifest's notes. Numbers and booleans become text.
A user's mistake that only the file can show (a column that is not there) is a row with reason `USER_ERROR`.
"""

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any, TextIO

from common.errors import UserError
from data.bounded import RECORD, TooLarge, TooLong, check_expansion, check_json, lines_of, read_whole
from data.columns import USER_ERROR, Columns, Header, Record, Row, is_unicode, printable, some_of
from data.decoding import Detection, detect
from data.opening import UpToBreak, damaged, open_file
from data.sources import InputFile, SourceConfig

PARQUET_ROWS = 128  # at a time: lists of texts are written out whole
CELL = 16  # bytes that a value which is no text counts for
RAW_BYTES = 1000  # of a file that is no text at all, quarantine shows this much


def read_file(file: InputFile, source: SourceConfig) -> Iterator[Row]:
    """All rows of one file. Never raises for what the file holds."""
    empty = True
    decoding = _decoding(file, source)
    columns = Columns(file, source, decoding.note)
    last = ""
    try:
        for record in _records(file, source, decoding):
            if isinstance(record.value, Header):
                columns.seen |= dict.fromkeys(record.value)
                columns.check_seen()
                continue
            empty = False
            last = record.where
            yield from columns.rows(record)
        columns.check_seen()
    except UserError as error:
        empty = False
        yield columns.row(Record("", None, USER_ERROR, str(error)))
    except UnicodeDecodeError as error:
        empty = False
        detail = f"{_after(last)}{error.encoding} cannot decode byte 0x{error.object[error.start]:02x}: {error.reason}"
        yield columns.row(Record("", None, "encoding", detail, printable(error.object[:RAW_BYTES])))
    except damaged() as error:
        empty = False
        yield columns.row(Record("", None, "unreadable", f"{_after(last)}{type(error).__name__}: {error}"))
    if empty:
        yield columns.row(Record("", None, "empty", "the file holds no rows"))


def records(file: InputFile, source: SourceConfig) -> Iterator[Record]:
    """The records of a file before they are rows; none behind a place where it is damaged."""
    try:
        yield from _records(file, source, _decoding(file, source))
    except (UserError, UnicodeDecodeError):
        return
    except damaged():
        return


def detected(file: InputFile) -> tuple[str | None, float]:
    """The encoding that `encoding = "auto"` reads a file in, and how sure that is from 0 to 1; None where undecided."""
    decoding = _detect(file)
    return decoding.encoding, decoding.confidence


def _decoding(file: InputFile, source: SourceConfig) -> Detection:
    return _detect(file) if source.encoding == "auto" else Detection(source.encoding, 1.0)


def _detect(file: InputFile) -> Detection:
    if file.format in ("python", "parquet"):
        return Detection("utf-8", 1.0)
    return detect(lambda: UpToBreak(open_file(file)), damaged())  # type: ignore[arg-type, return-value]


def _after(where: str) -> str:
    return f"after {where.lstrip(':#')}: " if where else ""


# -- records: one function a format


def _records(file: InputFile, source: SourceConfig, decoding: Detection) -> Iterator[Record]:
    if source.records is not None and file.format != "json":
        raise UserError(f"records names a list inside of a JSON file; this is {file.format}")
    if file.format == "python":
        from data.embedded import records

        for where, value in records(str(file.path).partition(":")[2]):
            yield Record(where, value)
        return
    with open_file(file) as stream:
        if file.format == "parquet":
            yield from _parquet(stream, source)
            return
        head = stream.peek(8192)[:8192]  # type: ignore[attr-defined]
        wide = decoding.codec.lower().startswith(("utf-16", "utf_16", "utf-32", "utf_32"))
        if not wide and head.count(0) > 1 + len(head) // 500:  # bytes at random hold 1 in 256; a stray NUL is text
            detail = f"not {file.format}: {head.count(0)} NUL bytes in the first {len(head)}"
            yield Record("", None, "binary", detail, printable(head[:RAW_BYTES]))
            return
        if file.format == "json":
            yield from _json(stream, source, decoding)
        elif file.format == "text" and source.split != "line":
            yield from _text(stream, source, decoding)
        else:
            newline = "" if file.format in ("csv", "tsv") else "\n"
            lines = io.TextIOWrapper(stream, decoding.codec, errors=decoding.errors, newline=newline)
            if file.format in ("csv", "tsv"):
                yield from _csv(lines, source.delimiter or ("\t" if file.format == "tsv" else ","), decoding)
            else:
                yield from (_jsonl if file.format == "jsonl" else _lines)(lines, decoding)


class _Lines:
    """Iterates lines for csv.reader, remembers those of the present row, and that the file has ended.

    A row longer than RECORD characters is not remembered, and ends the file: a quote that opened in it may be open.
    """

    def __init__(self, lines: Iterator[str | TooLong]) -> None:
        self.lines, self.ended, self.too_long = lines, False, False
        self.begin_row()

    def begin_row(self) -> None:
        self.row, self.length = list[str](), 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self.lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.length += line.length if isinstance(line, TooLong) else len(line)
        if isinstance(line, TooLong) or self.length > RECORD:
            self.too_long = True
            self.row = self.row or [line.start if isinstance(line, TooLong) else line]
            raise csv.Error(f"a row that starts here is longer than {RECORD:,} characters: the rest is not read")
        self.row.append(line)
        return line


def _csv(lines: TextIO, delimiter: str, decoding: Detection) -> Iterator[Record]:
    """Exactly what Python's csv module reads; a row whose number of fields is not the header's is ragged."""
    csv.field_size_limit(sys.maxsize)  # the default of 131,072 characters would refuse a long answer
    feed = _Lines(lines_of(lines))
    reader = csv.reader(feed, delimiter=delimiter)
    header: list[str] | None = None
    while True:
        where = f":{reader.line_num + 1}"
        feed.begin_row()
        try:
            row = next(reader, None)
        except csv.Error as error:
            if feed.too_long:
                yield Record(where, None, "too_long", str(error), printable("".join(feed.row)[:RAW_BYTES]))
                return
            yield Record(where, None, "broken_row", str(error), printable("".join(feed.row)))
            continue
        if row is None:
            return
        raw = "".join(feed.row)
        if not row:  # a blank line
            continue
        if header is None:
            header = row
            yield Record(where, Header(header))
        elif feed.ended:  # the reader asked for another line inside a row: a quote never closed
            detail = f"a quote that opens here never closes; it holds the file's last {len(feed.row)} lines"
            yield Record(where, None, "unclosed_quote", detail, printable(raw))
        elif len(row) != len(header):
            detail = f"{len(row)} fields, the header has {len(header)}"
            yield Record(where, None, "ragged", detail, printable(raw))
        elif not is_unicode(raw):
            yield _encoding(where, raw, decoding)
        else:
            yield Record(where, dict(zip(reversed(header), reversed(row), strict=True)))  # of two names, the first


def _jsonl(lines: TextIO, decoding: Detection) -> Iterator[Record]:
    for number, line in enumerate(lines_of(lines), 1):
        where = f":{number}"
        if isinstance(line, TooLong):
            yield _too_long(where, line)
            continue
        if line.isspace():
            continue
        if not is_unicode(line):
            yield _encoding(where, line, decoding)
            continue
        try:
            check_json(line)
            yield Record(where, json.loads(line))
        except (ValueError, RecursionError, TooLarge) as error:
            yield Record(where, None, "broken_json", str(error), line.rstrip("\r\n"))


def _json(stream: IO[bytes], source: SourceConfig, decoding: Detection) -> Iterator[Record]:
    """An array, or an object that holds one list; a file named .json that holds JSON lines is read as such."""
    text = read_whole(stream).decode(decoding.codec, decoding.errors)
    if not is_unicode(text):
        yield _encoding("", text, decoding)
        return
    try:
        check_json(text)
        value = json.loads(text)
    except (ValueError, RecursionError, TooLarge) as error:
        first = text.lstrip().partition("\n")[0]
        try:
            check_json(first)
            is_lines = isinstance(json.loads(first), dict)
        except (ValueError, RecursionError, TooLarge):
            is_lines = False
        if is_lines:
            yield from _jsonl(io.StringIO(text, newline="\n"), decoding)
        elif isinstance(error, TooLarge):
            raise
        else:
            yield Record("", None, "broken_json", str(error), text[:RAW_BYTES])
        return
    value = _list_in(value, source.records)
    rows = _squad(value) if source.preset == "squad" and _is_nested(value) else value
    for number, row in enumerate(rows, 1):
        yield Record(f"#{number}", row)


def _list_in(value: Any, path: str | None) -> list[Any]:
    """The list of records: where the path leads, or the one list there is."""
    for name in path.split(".") if path else ():
        if not isinstance(value, dict) or name not in value:
            there = some_of(value) if isinstance(value, dict) else f"a {type(value).__name__}"
            raise UserError(f"records = {path!r}: nothing is named {name!r}; there is: {there}")
        value = value[name]
    if path is None and isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) != 1:
            hint = 'name it, as in records = "data.items"'
            raise UserError(
                f"holds an object with {len(lists)} lists ({some_of(value)}); one list of rows is needed: {hint}"
            )
        value = lists[0]
    if not isinstance(value, list):
        raise UserError(
            f"records = {path!r} is no list but a {type(value).__name__}" if path else "holds no list of rows"
        )
    return value


def _is_nested(articles: list[Any]) -> bool:
    return bool(articles) and isinstance(articles[0], dict) and "paragraphs" in articles[0]


def _squad(articles: list[Any]) -> Iterator[Any]:
    """Articles of paragraphs of questions, flat: title, context, question, answers."""
    for article in articles:
        try:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield {"title": article.get("title"), "context": paragraph["context"], **question}
        except (KeyError, TypeError, AttributeError):
            yield article  # not nested as expected: its columns will be missing, so it goes to quarantine whole


def _parquet(stream: IO[bytes], source: SourceConfig) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_whole(stream)
    names = Columns.needed(source)
    leaves = pq.ParquetFile(pa.BufferReader(content)).schema
    texts = [leaf.path for leaf in map(leaves.column, range(len(leaves))) if leaf.physical_type == "BYTE_ARRAY"]
    # Dictionaries stay what they are: a megabyte that a thousand rows share would be a gigabyte written out.
    shared = [path for path in texts if path.partition(".")[0] in names]
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=shared)
    groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
    check_expansion(sum(group.total_byte_size for group in groups), len(content))
    yield Record("", Header(file.schema_arrow.names))
    columns = [name for name in names if name in file.schema_arrow.names]
    number = length = 0
    for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
        for row in range(batch.num_rows):
            number += 1
            try:
                values = {name: batch.column(name)[row].as_py() for name in columns}
                # What the file says of its own size is not to be relied on.
                length += sum(map(_length, values.values()))
                check_expansion(length, len(content))
                yield Record(f"#{number}", values)
            except UnicodeDecodeError as error:
                yield Record(f"#{number}", None, "encoding", str(error.reason), printable(error.object))


def _length(value: Any) -> int:
    """Characters of all text in a value; CELL for any other."""
    if isinstance(value, str | bytes):
        return len(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return CELL + sum(map(_length, inner))


def _text(stream: IO[bytes], source: SourceConfig, decoding: Detection) -> Iterator[Record]:
    """The whole file, or a document from each match of the pattern to the next; what precedes the first is one too."""
    if source.split == "file":
        text, broken = read_whole(stream).decode(decoding.codec, decoding.errors), None
    else:
        before = UpToBreak(stream)
        content, broken = read_whole(before), before.error  # type: ignore[arg-type]
        decoder = codecs.getincrementaldecoder(decoding.codec)(decoding.errors)
        text = decoder.decode(content, final=broken is None)  # at a break the last character may be half one
    starts = [0, len(text)]
    if source.split != "file":
        matches = {match.start() for match in re.finditer(source.split, text, re.MULTILINE)}
        if len(matches) > 1 and text[: min(matches)].isspace():  # blank space before the first is not a document
            matches.remove(min(matches))
        starts = sorted(matches | {0, len(text)})
    if broken:  # in the last document, of which nobody knows how long it was
        starts.pop()
    line = 1
    for start, end in pairwise(starts):
        where = "" if source.split == "file" else f":{line}"
        document = text[start:end]
        line += document.count("\n")
        yield Record(where, document) if is_unicode(document) else _encoding(where, document, decoding)
    if broken:
        raise broken


def _lines(lines: TextIO, decoding: Detection) -> Iterator[Record]:
    for number, line in enumerate(lines_of(lines), 1):
        if isinstance(line, TooLong):
            yield _too_long(f":{number}", line)
        elif not line.isspace():
            text = line.removesuffix("\n").removesuffix("\r")
            yield Record(f":{number}", text) if is_unicode(text) else _encoding(f":{number}", text, decoding)


# -- text that is no record


def _too_long(where: str, line: TooLong) -> Record:
    detail = f"a line of {line.length:,} characters; {RECORD:,} at most"
    return Record(where, None, "too_long", detail, printable(line.start))


def _encoding(where: str, text: str, decoding: Detection) -> Record:
    bad = [i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff"]
    first = text[bad[0]]
    byte = f"byte 0x{ord(first) - 0xDC00:02x}" if "\udc80" <= first <= "\udcff" else f"surrogate {first!a}"
    place = f" in line {text.count(chr(10), 0, bad[0]) + 1} of it" if "\n" in text.rstrip("\n") else ""
    detail = f"not {decoding.encoding or 'utf-8'}: {byte}{place} ({len(bad)} in all)"
    detail += f"; encoding {decoding.detail}" if decoding.encoding is None and decoding.detail else ""
    return Record(where, None, "encoding", detail, printable(text))
