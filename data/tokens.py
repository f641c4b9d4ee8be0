"""Token arrays: every document of a split as one flat array of ids, with an index of where each document lies.

Written by the tokenizer room (`tokenizer/encode.py`), read by packing, loader and evaluation. On disk:
  <name>.bin               ids, uint16 where the vocabulary has at most 65,536 tokens, else uint32; no header
  <name>.index.parquet     one row a document, in the order of the ids (columns: INDEX_SCHEMA)
  <name>.trained.bin       of fine-tuning alone: a byte for each id, what of it is trained (Tokens.trained)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

INDEX_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),  # first token in the flat array
        ("length", pa.int64()),  # tokens, bos and eos included
        (
            "prompt",
            pa.int64(),
        ),  # leading tokens that are prompt: all up to and including <|assistant|>; text: bos
        ("id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("category", pa.string()),
        ("difficulty", pa.string()),
        ("group", pa.string()),
        ("bytes_text", pa.int64()),  # UTF-8 bytes of each field as it stands in the corpus
        ("bytes_context", pa.int64()),
        ("bytes_question", pa.int64()),
        ("bytes_answer", pa.int64()),
    ]
)


@dataclass
class Tokens:
    """Documents as ids. N documents, all of `ids` belongs to exactly one of them."""

    ids: np.ndarray  # uint16 or uint32, all documents in a row; a memory map when opened from disk
    offsets: np.ndarray  # int64 (N,)
    lengths: np.ndarray  # int64 (N,)
    prompts: np.ndarray  # int64 (N,)
    sources: np.ndarray  # int32 (N,), index into source_names
    source_names: list[str]
    table: pa.Table  # INDEX_SCHEMA, N rows
    # uint8, one an id: 1 where it is part of an answer, 2 where it ends one, else 0. None: all is trained, or `prompts`
    trained: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def document(self, i: int) -> np.ndarray:
        """Ids of document i, bos to eos."""
        return self.ids[self.offsets[i] : self.offsets[i] + self.lengths[i]]

    @property
    def num_targets(self) -> int:
        """Tokens that are predicted once an epoch: all but each document's bos."""
        return int(self.lengths.sum()) - len(self)


def from_index(ids: np.ndarray, table: pa.Table, trained: np.ndarray | None = None) -> Tokens:
    """Join ids, index and what is trained."""
    # Strings become numbers inside pyarrow, without a Python object per document.
    found = table["source"].fill_null("None").combine_chunks().dictionary_encode()
    names = np.asarray(found.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    column = {name: table[name].to_numpy() for name in ("offset", "length", "prompt")}
    return Tokens(
        ids=ids,
        offsets=column["offset"],
        lengths=column["length"],
        prompts=column["prompt"],
        sources=rank[found.indices.to_numpy()],
        source_names=[str(name) for name in names[order]],
        table=table,
        trained=trained,
    )


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """Narrowest dtype that holds every id."""
    return np.uint16 if vocab_size <= 65536 else np.uint32


def open_tokens(stem: Path, vocab_size: int) -> Tokens:
    """Memory-map `<stem>.bin` and read its index; both are complete or absent."""
    table = pq.read_table(stem.with_name(stem.name + ".index.parquet"))
    ids = np.memmap(stem.with_name(stem.name + ".bin"), dtype=id_dtype(vocab_size), mode="r")
    assert len(ids) == int(np.sum(table["length"].to_numpy())), f"{stem}: ids and index disagree"
    marked = stem.with_name(stem.name + ".trained.bin")
    return from_index(ids, table, np.memmap(marked, dtype=np.uint8, mode="r") if marked.exists() else None)
