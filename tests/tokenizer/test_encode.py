"""The token store: on disk equals in memory, cached by what it was made from, absent until complete."""

import json
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.turns import join_turns
from data.writing import DOCUMENT_SCHEMA
from tokenizer import encode
from tokenizer.bpe import Tokenizer
from tokenizer.byte_level import train_bpe
from tokenizer.encode import FIELDS, build_store, encode_table
from tokenizer.patterns import LINE_BREAK, LONE_BREAK, Digits, Pattern, cut, name_of, regex_of
from tokenizer.template import ASSISTANT, messages_of, render, render_prompt

# Line breaks of all kinds, white space that Python and the split pattern may judge differently, marks, special tokens.
WHITE = "\n\n\n\r\t  \x0b\x1c\x1f\x85\xa0\u2028\u200b\u3000\u180e"
OTHER = ["a", "Z", "é", "1", "_", ".", "\u0301", "你好", "👩\u200d👩\u200d👧", "สวัสดี", "'ll", " the", "²", "Ⅷ"]
fragments = st.lists(st.sampled_from([*WHITE, "\r\n", *OTHER, "\n<|eos|>", "    return x", "$$\n"]), max_size=40)
some_text = st.one_of(fragments.map("".join), st.text(max_size=30))
turns = st.lists(st.tuples(st.sampled_from(["context", "user", "assistant"]), some_text), max_size=4)
talks = turns.map(lambda said: join_turns([{"role": role, "content": text} for role, text in said]) or "")
question = st.fixed_dictionaries(
    {"question": some_text, "answer": some_text}, optional={"context": st.one_of(some_text, talks)}
)
some_rows = st.lists(st.one_of(question, st.fixed_dictionaries({"text": some_text})), min_size=1, max_size=8)

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


def test_bytes_of_earlier_turns_count_for_their_roles_and_marks_for_none(tok: Tokenizer) -> None:
    before = [("context", "Be kind."), ("user", "é?"), ("assistant", "Aha.")]
    context = join_turns([{"role": role, "content": text} for role, text in before])
    row = {"question": "Why?", "answer": "So.", "context": context or ""}
    tokens = encode_table(corpus_table([ROWS[0], row]), tok)
    assert [tokens.table[f"bytes_{name}"].to_pylist()[1] for name in ("context", "question", "answer")] == [8, 7, 7]
    assert tokens.document(1).tolist() == render(tok, row)
    assert tokens.document(1)[: tokens.prompts[1]].tolist() == render_prompt(tok, "Why?", context)
    assert tok.encode("So.") == tokens.document(1)[tokens.prompts[1] : -1].tolist()


def test_slices_of_any_size_give_the_same_store(
    corpus: Path, tokenizer_folder: Path, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_table(corpus_table(ROWS), tok)
    monkeypatch.setattr(encode, "SLICE_BYTES", 1)
    sliced = build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    assert sliced.ids.tolist() == whole.ids.tolist()
    assert sliced.offsets.tolist() == whole.offsets.tolist()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=some_rows, piece=st.integers(1, 12))
def test_encoding_a_slice_equals_rendering_each_document(
    tok: Tokenizer, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, str]], piece: int
) -> None:
    monkeypatch.setattr(encode, "PIECE", piece)
    tokens = encode_table(corpus_table(rows), tok)
    rendered = [render(tok, row) for row in rows]
    assert [tokens.document(i).tolist() for i in range(len(rows))] == rendered
    last = [len(ids) - ids[::-1].index(ASSISTANT) if ASSISTANT in ids else 1 for ids in rendered]
    assert tokens.prompts.tolist() == last
    for name in FIELDS:
        sizes = [sum(len(text.encode()) for role, text in parts(row) if role == name) for row in rows]
        assert tokens.table[f"bytes_{name}"].to_pylist() == sizes


def parts(row: dict[str, str]) -> list[tuple[str, str]]:
    """(field, text) of all that a row says."""
    fields = {"context": "context", "user": "question", "assistant": "answer"}
    if "text" in row:
        return [("text", row["text"])]
    return [(fields[message["role"]], message["content"]) for message in messages_of(row)]


def test_a_long_text_is_cut_before_lines_and_nothing_is_lost() -> None:
    text = "one\ntwo\n\n  three\nfour\n\nfive"
    assert cut(text, LINE_BREAK, 5) == ["one\ntwo\n\n  three\n", "four\n\n", "five"]
    assert cut(text, LONE_BREAK, 5) == ["one\ntwo\n\n  three\n", "four\n\nfive"]
    assert cut(text, None, 5) == [text]
    assert cut("no line ends here", LINE_BREAK, 5) == ["no line ends here"]


white = st.text(alphabet=" \n\r\t\u00a0\u2028\x1c.a1Ä", max_size=40)


Settings = tuple[Pattern, Digits | None, bool]
SETTINGS: list[Settings] = list(product(get_args(Pattern), (None, *get_args(Digits)), (False, True)))


@pytest.fixture(scope="module")
def toks() -> dict[str, Tokenizer]:
    texts = ["one\ntwo\n\n  three 12345 \r\n\n\n four... it's \t 66 \n\n\t.a1\n  a;\n   .\n" * 20]
    return {regex_of(*one): Tokenizer(train_bpe(texts, 400, 2, False, *one)) for one in SETTINGS}


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=white, piece=st.integers(1, 6))
@pytest.mark.parametrize("settings_", SETTINGS)
def test_pieces_have_the_ids_of_the_whole_by_every_pattern(
    toks: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch, settings_: Settings, text: str, piece: int
) -> None:
    tok = toks[regex_of(*settings_)]
    assert tok.pattern == name_of(regex_of(*settings_))
    monkeypatch.setattr(encode, "PIECE", piece)
    tokens = encode_table(corpus_table([{"text": text}]), tok)
    assert tokens.document(0).tolist() == render(tok, {"text": text})


def test_slices_encoded_at_once_keep_their_order(
    corpus: Path, tokenizer_folder: Path, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"document {i} " * (1 + i * 37 % 200)} for i in range(60)]
    pq.write_table(corpus_table(rows), corpus / "train-00000.parquet")
    monkeypatch.setattr(encode, "SLICE_BYTES", 2000)
    tokens = build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    assert [tokens.document(i).tolist() for i in range(60)] == [render(tok, row) for row in rows]
    assert tokens.table["id"].to_pylist() == [str(i) for i in range(60)]


def test_the_store_is_reused_until_the_corpus_changes(corpus: Path, tokenizer_folder: Path) -> None:
    out = corpus.parent / "tokens"
    build_store(corpus, "train", tokenizer_folder, out, quiet=True)
    first = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    build_store(corpus, "train", tokenizer_folder, out, quiet=True)
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == first
    pq.write_table(corpus_table(ROWS[:2]), corpus / "train-00000.parquet")
    assert len(build_store(corpus, "train", tokenizer_folder, out, quiet=True)) == 2


@pytest.mark.parametrize("suffix", [".bin", ".index.parquet", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "swapped"])
def test_a_damaged_store_is_named_and_encoded_anew(
    corpus: Path, tokenizer_folder: Path, suffix: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = corpus.parent / "tokens"
    for split in ("val", "train"):
        pq.write_table(corpus_table(ROWS[: 3 if split == "val" else None]), corpus / f"{split}-00000.parquet")
        build_store(corpus, split, tokenizer_folder, out, quiet=True)
    sound = {file.name: file.read_bytes() for file in out.iterdir()}
    (file,) = out.glob(f"train-*{suffix}")
    (other,) = out.glob(f"val-*{suffix}")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        file.write_bytes(
            {"empty": b"", "truncated": content[:half], "flipped": flipped, "swapped": other.read_bytes()}[damage]
        )
    build_store(corpus, "train", tokenizer_folder, out, quiet=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == sound
    if (suffix, damage) != (".json", "missing"):  # that is how a store looks that was never finished
        assert "train-" in capsys.readouterr().out


def test_a_corpus_that_changed_after_it_was_prepared_is_refused(corpus: Path, tokenizer_folder: Path) -> None:
    file = corpus / "train-00000.parquet"
    hashes = {"sha256": {file.name: encode.file_sha256(file), "train-00001.parquet": "0"}}
    (corpus / "manifest.json").write_text(json.dumps(hashes))
    with pytest.raises(UserError, match=r"train-00001\.parquet is missing"):
        build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)
    del hashes["sha256"]["train-00001.parquet"]
    (corpus / "manifest.json").write_text(json.dumps(hashes))
    assert len(build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)) == len(ROWS)
    pq.write_table(corpus_table(ROWS[:2]), file)
    with pytest.raises(UserError, match=r"train-00000\.parquet is not what data/prepare\.py wrote"):
        build_store(corpus, "train", tokenizer_folder, corpus.parent / "tokens", quiet=True)


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
