"""sentencepiece's BPE: lossless, and the same ids by sentencepiece, by tokenizer.json and by the plain rule."""

import csv
import gzip
import io
import itertools
import json
import os
import random
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from common.errors import UserError
from tokenizer import spm
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.config import SMALLEST, TokenizerConfig
from tokenizer.patterns import cut
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
# Few letters: their pieces overlap in every way ("ab|aba|ba", "aa|a|aa").
ALPHABETS = ("ab", " a", "ab ", "aé\u2581 ")


def trained(folder: Path, texts: list[str], **config: object) -> Tokenizer:
    settings = TokenizerConfig(backend="sentencepiece", **config)  # type: ignore[arg-type]
    return train_tokenizer(iter(texts), sum(len(text.encode()) for text in texts), settings, folder)


def exported(folder: Path) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    bpe.encode_special_tokens = True
    return bpe


def random_texts(alphabet: str, seed: int, number: int, longest: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randint(1, longest))) for _ in range(number)]


@pytest.fixture(scope="module", params=ALPHABETS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spm") / "tokenizer"
    trained(folder, random_texts(request.param, 1, 300, 60), vocab_size=290)
    return folder


def merged(text: str, pieces: dict[str, tuple[float, int]]) -> list[int]:
    """llama.cpp's and sentencepiece's rule, one merge at a time: of all neighbours that make a piece the best one, of
    equals the leftmost; bytes for what is no piece then."""
    parts = list(text)
    while True:
        found = [(-pieces[a + b][0], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in pieces]
        if not found:
            break
        i = min(found)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [
        i
        for part in parts
        for i in ([pieces[part][1]] if part in pieces else [NUM_SPECIAL + byte for byte in part.encode()])
    ]


@pytest.mark.parametrize("seed", range(3))
def test_ids_are_those_of_the_plain_rule_and_of_the_exported_file(folder: Path, seed: int) -> None:
    tok, bpe = load_tokenizer(folder), exported(folder)
    native = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    normal = range(NUM_SPECIAL + 256, tok.vocab_size)
    pieces = {native.id_to_piece(i).replace("\u2581", " "): (native.get_score(i), i) for i in normal}
    texts = [text for alphabet in ALPHABETS for text in random_texts(alphabet + "b", seed, 200, 40)]
    plain = [merged(text, pieces) for text in texts]
    assert tok.encode_batch(texts) == plain
    assert [encoding.ids for encoding in bpe.encode_batch(texts, add_special_tokens=False)] == plain
    assert [tok.decode(ids) for ids in plain] == texts


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \u2581\n\t<0xA>|é\U0001f469\0\u2585"), max_size=60))
def test_any_text_has_the_same_ids_with_and_without_sentencepiece(folder: Path, text: str) -> None:
    native = load_tokenizer(folder)
    alone = Tokenizer(exported(folder))
    assert native.encode(text) == alone.encode(text)
    assert native.decode(native.encode(text)) == text


@pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")
def test_every_document_of_the_corpora_has_the_same_ids_by_both(tmp_path: Path) -> None:
    files = sorted(path for path in CORPORA.glob("*/*") if path.suffix in (".gz", ".zip"))
    assert len(files) == 54
    some = [text for path in files for text in [*documents(path)][::20]]
    tok = trained(tmp_path / "t", some, vocab_size=8192)
    bpe = exported(tmp_path / "t")
    assert tok.line_break is not None
    for path in files:
        texts = [*documents(path)]
        assert texts, path
        ids = tok.encode_batch(texts)
        assert ids == [encoding.ids for encoding in bpe.encode_batch_fast(texts, add_special_tokens=False)], path
        assert [tok.decode(one) for one in ids] == texts, path


def documents(path: Path) -> Iterator[str]:
    """The texts in a file: a record's fields, a whole book, a member of an archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield decoded(archive.read(name))
        return
    text = decoded(gzip.decompress(path.read_bytes()))
    kind = path.suffixes[-2]
    if kind == ".csv":
        yield from (field for row in csv.reader(io.StringIO(text)) for field in row)
    elif kind in (".json", ".jsonl"):
        records = (
            [json.loads(line) for line in text.split("\n") if line.strip()] if kind == ".jsonl" else json.loads(text)
        )
        yield from strings(records)
    else:
        yield text


def decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def test_a_space_and_the_sign_that_sentencepiece_writes_for_it_stay_apart(folder: Path) -> None:
    tok = load_tokenizer(folder)
    assert tok.encode("a\u2581b") != tok.encode("a b")
    assert tok.encode("\u2581") == [NUM_SPECIAL + byte for byte in "\u2581".encode()]
    assert tok.decode(tok.encode(" \u2581 \u2581\u2581")) == " \u2581 \u2581\u2581"


def test_no_piece_spells_a_special_token_or_a_byte(tmp_path: Path) -> None:
    texts = [f"{token} <0x0A> <0xe2>" for token in SPECIAL_TOKENS] * 200
    tok = trained(tmp_path / "t", texts)
    for name in (*SPECIAL_TOKENS, "<0x0A>", "<0xe2>"):
        ids = tok.encode(name)
        assert len(ids) > 1
        assert min(ids) >= NUM_SPECIAL + 256
        assert tok.decode(ids) == name


def test_a_line_longer_than_sentencepiece_takes_is_learned_from(tmp_path: Path) -> None:
    line = "somewhere " * 20_000
    lines = spm.as_lines(line).split("\n")
    assert "".join(lines) == line
    assert max(map(len, lines)) <= spm.SENTENCE
    assert all(s.strip(" ") in ("", *(" ".join(["somewhere"] * n) for n in range(200))) for s in lines)  # cut at spaces
    assert len(trained(tmp_path / "t", [line]).encode(" somewhere")) == 1
    assert spm.as_lines("x" * 2500) == "\n".join(["x" * 1000, "x" * 1000, "x" * 500])


@pytest.mark.parametrize(
    "text", ["a b\n\n c", "\n\na\n", "a\r\n\rb", "a\0b", "<0xE2> <0xE", "<|user|>|>", "a\u2581b \u2585c", "é " * 900]
)
def test_lines_are_the_text_less_what_ends_them(text: str) -> None:
    lines = spm.as_lines(text)
    kept = str.maketrans("", "", "\r\n\0\u2581\u2585")
    assert lines.replace("\n", "") == text.translate(kept)
    assert not set(lines) & set("\r\0\u2581\u2585")
    assert not re.search(r"<0x[0-9A-Fa-f]{2}>|<\|user\|>", lines)


def test_empty_lines_teach_nothing(tmp_path: Path) -> None:
    trained(tmp_path / "a", ["some words\n\n\nand others", "and others some words"] * 30)
    trained(tmp_path / "b", ["some words\nand others", "and others some words"] * 30)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_a_text_is_cut_behind_line_breaks_without_a_change_of_ids(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = load_tokenizer(folder)
    text = "".join(random_texts("ab \n\r", 5, 2000, 40)) + "\n" * 5
    assert tok.line_break is not None
    pieces = cut(text, tok.line_break, 50)
    assert len(pieces) > 100
    assert [i for ids in tok.encode_batch([*pieces]) for i in ids] == tok.encode(text)


def test_more_characters_than_there_is_room_for_become_bytes(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = ["".join(chr(0x4E00 + int(rng.expovariate(0.01))) for _ in range(200)) for _ in range(200)]
    tok = trained(tmp_path / "t", texts, vocab_size=400)
    assert tok.vocab_size == 400
    counts = [len(token) for token in tok._bytes[SMALLEST:]]
    assert counts.count(3) <= (400 - SMALLEST) // 2  # characters
    assert max(counts) >= 6  # there is room for merges
    assert all(tok.decode(tok.encode(text)) == text for text in texts)


def test_the_same_texts_give_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    texts = random_texts("abc de", 3, 200, 80)
    for name in ("one", "two/deeper"):
        trained(tmp_path / name, texts, vocab_size=300)
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two/deeper" / name).read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "one" / "tokenizer.model").read_bytes()
    assert [p.name for p in sorted((tmp_path / "one").iterdir())] == [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("texts", "config", "said"),
    [
        (["a few words"], {"vocab_size": 5000}, "supports 28[0-9] tokens; ask for no more"),
        (["a few words"], {"vocab_size": SMALLEST + 1}, "needs two characters more, 264"),
        (["\n\r\n"], {}, "nothing but line breaks"),
        ([], {}, "nothing but line breaks"),
        (["a"], {"pattern": "llama3"}, "pattern: sentencepiece knows no such setting"),
        (["a"], {"min_frequency": 3}, "min_frequency: sentencepiece knows no such setting"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_nothing_is_written(
    tmp_path: Path, texts: list[str], config: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said) as error:
        trained(tmp_path / "t", texts, **config)
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_smallest_vocabulary_is_trained(tmp_path: Path) -> None:
    tok = trained(tmp_path / "t", ["aaa bbb aaa"] * 5, vocab_size=SMALLEST + 2)
    assert tok.decode(tok.encode("other wörds")) == "other wörds"


def test_a_model_of_other_tokens_is_refused_and_a_missing_one_is_not_needed(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    trained(other, ["another text of other words"] * 9, vocab_size=280)
    model = (other / "tokenizer.model").read_bytes()
    (other / "tokenizer.model").unlink()
    assert load_tokenizer(other).encode("other") == Tokenizer(exported(other)).encode("other")
    (other / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    with pytest.raises(UserError, match="holds other tokens"):
        load_tokenizer(other)
    turned = spm.schema.ModelProto.FromString(model)
    for piece in turned.pieces:
        piece.score = -piece.score
    (other / "tokenizer.model").write_bytes(turned.SerializeToString())
    with pytest.raises(UserError, match="holds other tokens"):  # the same ones, merged in another order
        load_tokenizer(other)
    (other / "tokenizer.model").write_bytes(model[: len(model) // 2])
    with pytest.raises(UserError, match=r"tokenizer\.model"):
        load_tokenizer(other)


def test_digits_are_single_unless_asked(tmp_path: Path) -> None:
    texts = ["in 1234 and 1234 again 1234"] * 50
    assert len(trained(tmp_path / "single", texts).encode("1234")) == 4
    assert len(trained(tmp_path / "whole", texts, digits="whole").encode("1234")) == 1


def test_the_exported_file_needs_no_sentencepiece_in_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    auto, tok = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for text in ("ab ba\u2581 aab", "  a\n\n b ", "<0x0A> é"):
        assert auto.encode(text, add_special_tokens=False) == tok.encode(text)
        assert auto.decode(tok.encode(text)) == text
    assert json.loads((folder / "tokenizer.json").read_text())["normalizer"] is None


def test_a_trainer_that_is_ended_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spm, "_TRAIN", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(UserError, match=r"ended by signal 9.*sample_bytes"):
        trained(tmp_path / "t", ["some words"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["sentencepiece", "google.protobuf.message"])
def test_a_machine_without_the_libraries_opens_it_and_trains_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    own = load_tokenizer(folder)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "tokenizer.spm")
    tok = load_tokenizer(folder)
    assert tok.native is None
    assert tok.encode("ab a\u2581") == own.encode("ab a\u2581")
    for config in (TokenizerConfig(backend="sentencepiece"), TokenizerConfig(file=str(folder / "tokenizer.model"))):
        with pytest.raises(UserError, match="not installed here"):
            train_tokenizer(iter(["a"]), 1, config, tmp_path / "t")
