"""Corpus -> token arrays: each field encoded by itself, joined by the template, written as one flat file.

  1. read a split's Parquet files in slices of bounded size (pyarrow alone, no data engine)
  2. encode a slice's fields on all cores, join each document, append its ids to <stem>.bin
  3. write the index; both files appear under their names only when complete

The files are named by a fingerprint of corpus, tokenizer, template and format, and are made again only when it changes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_file, file_sha256, fingerprint
from data.tokens import INDEX_SCHEMA, Tokens, from_index, id_dtype, open_tokens
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.template import ASSISTANT, CHAT_TEMPLATE, join_document

FORMAT = 1
FIELDS = ("text", "context", "question", "answer")
SLICE_BYTES = 16 << 20  # text in memory at a time, beside its encodings


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
    tok = load_tokenizer(tokenizer_folder)
    stem = out / f"{split}-{store_fingerprint(corpus, split, tokenizer_folder)}"
    if not stem.with_name(stem.name + ".index.parquet").exists():
        _write_store(corpus, split, tok, stem, quiet)
    return open_tokens(stem, tok.vocab_size)


def store_fingerprint(corpus: Path, split: str, tokenizer_folder: Path) -> str:
    """Names a store by all that decides its content."""
    hashes = [file_sha256(file) for file in corpus_files(corpus, split)]
    return fingerprint(FORMAT, CHAT_TEMPLATE, hashes, file_sha256(tokenizer_folder / "tokenizer.json"))


def _write_store(corpus: Path, split: str, tok: Tokenizer, stem: Path, quiet: bool) -> None:
    tables = []
    total = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
    bar = tqdm(total=total, desc=f"encoding {split}", unit=" documents", disable=quiet)
    # The index is written last: while it is missing, so is the store.
    with atomic_file(stem.with_name(stem.name + ".bin")) as temporary, temporary.open("wb") as file, bar:
        for table in read_corpus(corpus, split):
            ids, index = _encode(table, tok)
            ids.tofile(file)
            tables.append(index)
            bar.update(len(table))
    with atomic_file(stem.with_name(stem.name + ".index.parquet")) as temporary:
        pq.write_table(_with_offsets(pa.concat_tables(tables)), temporary)


def _encode(table: pa.Table, tok: Tokenizer) -> tuple[np.ndarray, pa.Table]:
    """Ids of a table's documents in a row, and their index rows (offsets still missing: 0)."""
    texts = {name: table[name].to_pylist() for name in FIELDS}
    encoded: dict[str, list[list[int] | None]] = {}
    for name, values in texts.items():
        ids = iter(tok.encode_batch([value for value in values if value is not None]))
        encoded[name] = [None if value is None else next(ids) for value in values]
    documents = [
        join_document(dict(zip(FIELDS, fields, strict=True)))
        for fields in zip(*(encoded[name] for name in FIELDS), strict=True)
    ]
    prompts = [ids.index(ASSISTANT) + 1 if ASSISTANT in ids else 1 for ids in documents]
    flat = np.fromiter((i for ids in documents for i in ids), dtype=id_dtype(tok.vocab_size))
    columns = {
        "offset": np.zeros(len(documents), dtype=np.int64),
        "length": [len(ids) for ids in documents],
        "prompt": prompts,
        **{name: table[name] for name in ("id", "source", "kind", "category", "difficulty", "group")},
        **{f"bytes_{name}": [len((value or "").encode()) for value in values] for name, values in texts.items()},
    }
    return flat, pa.table({field.name: pa.array(columns[field.name], field.type)
                           if not isinstance(columns[field.name], pa.ChunkedArray)
                           else columns[field.name].cast(field.type) for field in INDEX_SCHEMA})  # fmt: skip


def _with_offsets(index: pa.Table) -> pa.Table:
    lengths = index["length"].to_numpy()
    return index.set_column(0, INDEX_SCHEMA.field("offset"), pa.array(np.cumsum(lengths) - lengths, pa.int64()))
