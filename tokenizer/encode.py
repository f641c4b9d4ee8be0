"""Corpus -> token arrays: each field encoded by itself, joined by the template, written as one flat file.

  1. read a split's Parquet files in slices of bounded size (pyarrow alone, no data engine)
  2. encode a slice's fields on all cores, join each document, append its ids to <stem>.bin
  3. write the index, then the hashes of both; the store is there when those are

The files are named by a fingerprint of corpus, tokenizer, template and format, and are made again when it changes, or
when they are not what was written. A corpus that is not what was prepared is refused.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_file, file_sha256, fingerprint, read_json, write_json
from data.tokens import INDEX_SCHEMA, Tokens, from_index, id_dtype, open_tokens
from data.turns import has_mark
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.patterns import cut
from tokenizer.template import ASSISTANT, CHAT_TEMPLATE, join_document, messages_of, render

FORMAT = 1
PARTS = (".bin", ".index.parquet")
FIELDS = ("text", "context", "question", "answer")
FIELD_OF = {"context": "context", "user": "question", "assistant": "answer"}  # role of a message -> field
ABOUT = ("id", "source", "kind", "category", "difficulty", "group")  # columns that the index copies from the corpus
SLICE_BYTES = 2 << 20  # text that is encoded at a time; a quarter of it takes 10% more CPU time
IN_FLIGHT = 3  # slices, so that cores encode while Python joins two that ended together
PIECE = 1 << 14  # characters of a long text that one core encodes: a book in one piece keeps the others waiting


def corpus_files(corpus: Path, split: str) -> list[Path]:
    """Parquet files of one split, in order; UserError where the corpus has not been prepared."""
    files = sorted(corpus.glob(f"{split}-*.parquet"))
    if not files:
        raise UserError(f"{corpus}: no {split}-*.parquet; make the corpus with `python data/prepare.py`")
    return files


def read_corpus(corpus: Path, split: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Tables of about SLICE_BYTES of text, in the order of the files."""
    for path in corpus_files(corpus, split):
        file = pq.ParquetFile(path)
        num_bytes = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        rows = SLICE_BYTES * file.metadata.num_rows // max(1, num_bytes)  # whole books are read one by one
        for batch in file.iter_batches(batch_size=min(4096, max(1, rows)), columns=columns):
            table = pa.Table.from_batches([batch])
            step = max(1, len(table) // max(1, table.nbytes // SLICE_BYTES))
            yield from (table.slice(first, step) for first in range(0, len(table), step))


def encode_table(table: pa.Table, tok: Tokenizer) -> Tokens:
    """Documents in memory -> Tokens in memory."""
    ids, index = _encode(table, tok)
    return from_index(ids, _with_offsets(index))


def build_store(corpus: Path, split: str, tokenizer_folder: Path, out: Path, quiet: bool = False) -> Tokens:
    """Tokens of a split, memory-mapped from `out`; encoded first if this corpus and tokenizer have no store yet."""
    stem = sound_store(corpus, split, tokenizer_folder, out, quiet)
    return open_tokens(stem, load_tokenizer(tokenizer_folder).vocab_size)


def sound_store(corpus: Path, split: str, tokenizer_folder: Path, out: Path, quiet: bool = False) -> Path:
    """Where the split's store is, after it was encoded if it was not there, or not as it was written."""
    stem = out / f"{split}-{store_fingerprint(corpus, split, tokenizer_folder)}"
    damage = damage_of(stem)
    if damage is not None:
        if damage:
            print(f"warning: {damage}: encoding it anew")
        _write_store(corpus, split, load_tokenizer(tokenizer_folder), stem, quiet)
    return stem


def has_store(corpus: Path, split: str, tokenizer_folder: Path, out: Path) -> bool:
    """Whether `sound_store` would find a split's store and write nothing."""
    return damage_of(out / f"{split}-{store_fingerprint(corpus, split, tokenizer_folder)}") is None


def store_fingerprint(corpus: Path, split: str, tokenizer_folder: Path) -> str:
    """Names a store by all that decides its content. UserError for a corpus file that is not what was prepared."""
    hashes = {file.name: file_sha256(file) for file in corpus_files(corpus, split)}
    written = _hashes_in(corpus / "manifest.json", "sha256")
    for name, digest in hashes.items():
        if written and written.get(name) != digest:
            raise UserError(f"{corpus / name} is not what data/prepare.py wrote: prepare it anew, under another --run")
    if missing := [name for name in written if name.startswith(f"{split}-") and name not in hashes]:
        raise UserError(f"{corpus / missing[0]} is missing: prepare the corpus anew, under another --run")
    tokenizer = file_sha256(tokenizer_folder / "tokenizer.json")
    return fingerprint(FORMAT, CHAT_TEMPLATE, list(hashes.values()), tokenizer)


def damage_of(stem: Path, parts: Sequence[str] = PARTS) -> str | None:
    """What is wrong with a store; empty where there is none, None where it is sound."""
    noted = _part(stem, ".json")
    if not noted.exists():
        return ""
    hashes = _hashes_in(noted, "files")
    for file in (_part(stem, suffix) for suffix in parts):
        if file.name not in hashes:
            return f"{noted} is damaged"
        if not file.exists():
            return f"{file} is missing"
        if file_sha256(file) != hashes[file.name]:
            return f"{file} is not what was written (sha256 differs)"
    return None


def _part(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _hashes_in(file: Path, key: str) -> dict[str, str]:
    """File name -> SHA-256, as a JSON file notes them; empty where it does not, or cannot be read."""
    try:
        found = read_json(file)
    except UserError:
        return {}
    hashes = found.get(key) if isinstance(found, dict) else None
    return hashes if isinstance(hashes, dict) else {}


def _write_store(corpus: Path, split: str, tok: Tokenizer, stem: Path, quiet: bool) -> None:
    total = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
    with tqdm(total=total, desc=f"encoding {split}", unit=" documents", disable=quiet) as bar:

        def slices() -> Iterator[tuple[tuple[np.ndarray], pa.Table]]:
            for ids, index in _encode_slices(read_corpus(corpus, split, [*FIELDS, *ABOUT]), tok):
                bar.update(len(index))
                yield (ids,), index

        write_store(stem, PARTS, slices())


def write_store(
    stem: Path,
    parts: Sequence[str],
    slices: Iterable[tuple[tuple[np.ndarray, ...], pa.Table]],
    about: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Write slices (an array for each part but the last, and rows of the index, which is that) as they come, and then
    the hashes, with what `about` returns: while those are missing, so is the store."""
    files = [_part(stem, suffix) for suffix in parts]
    tables = []
    with ExitStack() as opened:
        streams = [opened.enter_context(opened.enter_context(atomic_file(file)).open("wb")) for file in files[:-1]]
        for arrays, index in slices:
            for array, stream in zip(arrays, streams, strict=True):
                array.tofile(stream)
            tables.append(index)
    with atomic_file(files[-1]) as temporary:
        pq.write_table(_with_offsets(pa.concat_tables(tables)), temporary)
    write_json(_part(stem, ".json"), {"files": {file.name: file_sha256(file) for file in files}, **about()})


def _encode_slices(tables: Iterable[pa.Table], tok: Tokenizer) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """`_encode` of each table, in order; the tokenizer's threads encode the next while Python joins one."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        waiting: deque[Future[tuple[np.ndarray, pa.Table]]] = deque()
        for table in tables:
            waiting.append(pool.submit(_encode, table, tok))
            if len(waiting) > IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _encode(table: pa.Table, tok: Tokenizer) -> tuple[np.ndarray, pa.Table]:
    """Ids of a table's documents in a row, and their index rows (offsets still missing: 0)."""
    if any(has_mark(context) for context in table["context"].to_pylist() if context):
        return _encode_conversations(table, tok)
    fields = [table[name].to_pylist() for name in FIELDS]
    texts = [text for row in zip(*fields, strict=True) for text in row if text is not None]
    # All fields in one batch: the cores idle once a slice, while the last texts finish, not once a field.
    pieces = [cut(text, tok.line_break, PIECE) for text in texts]
    encoded = tok.encode_batch(list(chain.from_iterable(pieces)))
    sizes = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    content = np.fromiter(chain.from_iterable(encoded), dtype=id_dtype(tok.vocab_size), count=sizes.sum())
    num_pieces = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    present = np.stack([table[name].is_valid().to_numpy() for name in FIELDS], axis=1)
    flat, lengths, prompts = _join(present, np.add.reduceat(sizes, np.cumsum(num_pieces) - num_pieces), content)
    num_bytes = {name: pc.fill_null(pc.binary_length(table[name]), 0) for name in FIELDS}
    return flat, index_rows(table, lengths, prompts, num_bytes)


def index_rows(table: pa.Table, lengths: Any, prompts: Any, num_bytes: Mapping[str, Any]) -> pa.Table:
    """The index of a table's documents, N rows; offsets are still missing: 0. `num_bytes`: of each of FIELDS."""
    columns = {
        "offset": np.zeros(len(table), dtype=np.int64),
        "length": lengths,
        "prompt": prompts,
        **{name: table[name] for name in ABOUT},
        **{f"bytes_{name}": num_bytes[name] for name in FIELDS},
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type)
                     if not isinstance(columns[field.name], pa.ChunkedArray)
                     else columns[field.name].cast(field.type) for field in INDEX_SCHEMA})  # fmt: skip


def _encode_conversations(table: pa.Table, tok: Tokenizer) -> tuple[np.ndarray, pa.Table]:
    """`_encode` of a table some of whose documents have earlier turns: document by document, all texts in one batch.

    Bytes of a turn count for the field that its role is: a user's for the question. The prompt of a conversation is all
    up to its last <|assistant|>.
    """
    documents = table.select(FIELDS).to_pylist()
    texts = [[document["text"]] if document["text"] is not None else [m["content"] for m in messages_of(document)]
             for document in documents]  # fmt: skip
    encoded = iter(tok.encode_batch(list(chain.from_iterable(texts))))
    given = Given(encoded)
    rows = [render(given, document) for document in documents]
    num_bytes = {name: np.zeros(len(rows), dtype=np.int64) for name in FIELDS}
    for i, document in enumerate(documents):
        if document["text"] is not None:
            num_bytes["text"][i] = len(document["text"].encode())
        else:
            for message in messages_of(document):
                num_bytes[FIELD_OF[message["role"]]][i] += len(message["content"].encode())
    prompts = [len(row) - row[::-1].index(ASSISTANT) if ASSISTANT in row else 1 for row in rows]
    flat = np.fromiter(chain.from_iterable(rows), dtype=id_dtype(tok.vocab_size))
    return flat, index_rows(table, [*map(len, rows)], prompts, num_bytes)


class Given:
    """An encoder whose texts are encoded already, in the order in which they are asked for."""

    def __init__(self, encoded: Iterator[list[int]]) -> None:
        self._encoded = encoded

    def encode(self, text: str) -> list[int]:
        """The next one."""
        return next(self._encoded)


def _join(present: np.ndarray, lengths: np.ndarray, content: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`join_document` of N documents at once, without a Python object per document.

    `present` (N, len(FIELDS)): which fields a document has. `lengths`: tokens of each of those, document by document.
    `content`: their ids in a row. Returns all documents' ids in a row, and each one's length and prompt length (N,).
    """
    bits = 1 << np.arange(len(FIELDS))
    kinds, kind = np.unique(present @ bits, return_inverse=True)
    # A document of each kind, with fields of one token each: -1, -2, ... stand for FIELDS, the others are markers.
    forms = [
        np.asarray(join_document({name: [-1 - i] for i, name in enumerate(FIELDS) if has & bits[i]}), dtype=np.int64)
        for has in kinds
    ]
    assert all((np.diff(form[form < 0]) < 0).all() for form in forms), "the template keeps the order of FIELDS"
    num_runs = np.asarray([len(form) for form in forms], dtype=np.int64)[kind]
    first_run = np.cumsum(num_runs) - num_runs
    runs = np.empty(num_runs.sum(), dtype=np.int64)  # markers and fields of all documents
    for i, form in enumerate(forms):
        runs[first_run[kind == i, None] + np.arange(len(form))] = form
    is_field = runs < 0
    run_length = np.ones(len(runs), dtype=np.int64)
    run_length[is_field] = lengths
    ends = np.cumsum(run_length)
    markers = ends[~is_field] - 1
    flat = np.empty(run_length.sum(), dtype=content.dtype)
    is_content = np.ones(len(flat), dtype=bool)
    is_content[markers] = False
    flat[markers], flat[is_content] = runs[~is_field], content
    starts = ends[first_run] - 1  # the first run is bos
    prompts = np.ones(len(kind), dtype=np.int64)
    asked = runs == ASSISTANT
    documents = np.repeat(np.arange(len(kind)), num_runs)[asked]
    prompts[documents] = ends[asked] - starts[documents]
    return flat, np.add.reduceat(run_length, first_run), prompts


def _with_offsets(index: pa.Table) -> pa.Table:
    lengths = index["length"].to_numpy()
    return index.set_column(0, INDEX_SCHEMA.field("offset"), pa.array(np.cumsum(lengths) - lengths, pa.int64()))
