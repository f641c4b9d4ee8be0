"""The token store: on disk equals in memory, cached by what it was made from, absent until complete."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from data.pipeline import DOCUMENT_SCHEMA
from tokenizer import encode
from tokenizer.bpe import Tokenizer
from tokenizer.encode import build_store, encode_table
from tokenizer.template import render

ROWS = [
    {"text": "prose ▁ with <|eos|> inside"},
    {"question": "Why?", "answer": "Because é."},
    {"question": "What?", "answer": "That.", "context": "Given\r\nthis."},
    {"text": ""},
]
COLUMNS = [name for name in DOCUMENT_SCHEMA.names if name != "n_bytes"]


def corpus_table(rows: list[dict[str, str]]) -> pa.Table:
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS}
    columns["id"] = pa.array([str(i) for i in range(len(rows))])
    columns["source"] = pa.array(["b" if "text" in row else "a" for row in rows])
    return pa.table(columns)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    pq.write_table(corpus_table(ROWS), tmp_path / "corpus" / "train-00000.parquet")
    return tmp_path / "corpus"


def test_a_stored_document_is_the_rendered_one(corpus: Path, tokenizer_folder: Path, tok: Tokenizer) -> None:
    tokens = build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    assert tokens.ids.dtype == np.uint16
    for i, row in enumerate(ROWS):
        assert tokens.document(i).tolist() == render(tok, row)
    assert tokens.prompts.tolist()[0] == 1
    assert tokens.prompts[1] == len(tok.encode("Why?")) + 3
    assert [tokens.source_names[s] for s in tokens.sources] == ["b", "a", "a", "b"]


def test_byte_counts_come_from_the_text_not_from_tokens(tok: Tokenizer) -> None:
    table = encode_table(corpus_table(ROWS), tok).table
    assert table["bytes_answer"].to_pylist() == [0, len("Because é.".encode()), 5, 0]
    assert table["bytes_context"].to_pylist() == [0, 0, len("Given\r\nthis."), 0]
    assert table["bytes_text"].to_pylist()[0] == len(ROWS[0]["text"].encode())


def test_slices_of_any_size_give_the_same_store(
    corpus: Path, tokenizer_folder: Path, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_table(corpus_table(ROWS), tok)
    monkeypatch.setattr(encode, "SLICE_BYTES", 1)
    sliced = build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    assert sliced.ids.tolist() == whole.ids.tolist()
    assert sliced.offsets.tolist() == whole.offsets.tolist()


def test_the_store_is_reused_until_the_corpus_changes(corpus: Path, tokenizer_folder: Path) -> None:
    out = corpus.parent / "tokens"
    build_store(corpus, "train", tokenizer_folder, out, quiet=True)
    first = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    build_store(corpus, "train", tokenizer_folder, out, quiet=True)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == first
    pq.write_table(corpus_table(ROWS[:2]), corpus / "train-00000.parquet")
    assert len(build_store(corpus, "train", tokenizer_folder, out, quiet=True)) == 2


def test_an_interrupted_build_leaves_no_store(
    corpus: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(encode, "_encode", fail)
    with pytest.raises(OSError, match="disk full"):
        build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    assert list((corpus.parent / "tokens").iterdir()) == []


def test_a_corpus_that_was_not_prepared_names_the_command(tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.raises(UserError, match=r"data/prepare\.py"):
        build_store(tmp_path / "corpus", "train", tokenizer_folder, tmp_path / "tokens")
