"""Other tokenizers on the test split: counted as they are, lossy ones named, verdicts that follow from the figures."""

import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from common.errors import UserError
from tests.tokenizer.test_report import THE, made_tokenizer, write_corpus
from tokenizer.against import compare, open_others, verdict
from tokenizer.train import main

TEXTS = [
    "The cat sat on the mat and the dog ran.",
    "A dog and a cat ran to the mat.",
    "the É, é and <|endoftext|>abc<|endoftext|>!",
] * 10


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"text": text, "source": f"s{i % 3}"} for i, text in enumerate(TEXTS)]
    return write_corpus(tmp_path / "corpus", rows, rows, rows)


@pytest.fixture
def bytes_file(tmp_path: Path) -> Path:
    """A byte-level BPE with a special token, a bos that is put in front, truncation and padding."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|endoftext|>"], show_progress=False)  # fmt: skip
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.post_processor = tokenizers.processors.TemplateProcessing("<|endoftext|> $A", None, [("<|endoftext|>", 0)])
    bpe.enable_truncation(3)
    bpe.enable_padding(length=64)
    bpe.save(str(tmp_path / "bytes.json"))
    return tmp_path / "bytes.json"


def compared(corpus: Path, *paths: Path) -> list[dict[str, Any]]:
    return compare(made_tokenizer(*THE), open_others(",".join(map(str, paths))), corpus, 1.0, ["theta"])


def test_all_content_is_counted_and_nothing_else(corpus: Path, bytes_file: Path) -> None:
    [of] = compared(corpus, bytes_file)
    plain = tokenizers.Tokenizer.from_file(str(bytes_file))
    plain.no_truncation()
    plain.no_padding()
    plain.encode_special_tokens = True
    tokens = sum(len(plain.encode(text, add_special_tokens=False).ids) for text in TEXTS)
    assert of["tokens"] == tokens
    plain.encode_special_tokens = False
    assert tokens != sum(len(plain.encode(text, add_special_tokens=False).ids) for text in TEXTS)  # it is in the texts
    assert of["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert of["own_tokens"] == sum(len(made_tokenizer(*THE).encode(text)) for text in TEXTS)
    assert (of["documents"], of["changed_documents"], of["unknown_tokens"]) == (30, 0, 0)
    assert of["fewer_percent"] == round(100 * (1 - of["own_tokens"] / of["tokens"]), 2)
    assert of["vocab_size"] == plain.get_vocab_size()
    assert of["tokens_per_term"] == len(plain.encode(" theta", add_special_tokens=False).ids)
    assert [row["documents"] for row in of["by_source"]] == [10, 10, 10]
    assert sum(row["tokens"] for row in of["by_source"]) == of["tokens"]


def test_a_tokenizer_that_changes_text_is_named_and_its_verdict_too(corpus: Path, tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    words.train_from_iterator(["the cat sat on mat and dog ran to"], trainer)
    (tmp_path / "words").mkdir()
    words.save(str(tmp_path / "words/tokenizer.json"))
    [of] = compared(corpus, tmp_path / "words")
    assert of["unknown_tokens"] >= 10  # the signs that it does not know
    assert of["changed_documents"] == 30
    assert of["changed"][0].startswith("The cat")
    assert of["changed"][1].startswith("the cat")
    assert of["fewer_percent"] < 0
    assert "does not give back 30 of 30 documents" in of["verdict"]
    assert "are unknown ones" in of["verdict"]


def test_a_sentencepiece_model_is_read_and_its_normaliser_seen(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "t.txt"), model_prefix=str(tmp_path / "sp"), vocab_size=34, minloglevel=2
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "sp.model").rename(tmp_path / "folder/tokenizer.model")
    [of] = compared(corpus, tmp_path / "folder")
    found = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "folder/tokenizer.model"))
    assert of["tokens"] == sum(len(found.encode(text)) for text in TEXTS)
    assert of["file"] == "tokenizer.model"
    rows = [{"text": "the  mat\n"}, {"text": "the mat"}, {"text": "the ﬁ mat"}]
    [of] = compared(write_corpus(corpus, rows, rows, rows), tmp_path / "folder")
    assert of["changed_documents"] == 2  # two spaces and a line break; a ligature
    assert of["ci95"] is None
    assert "cannot be told: 3 documents are too few" in of["verdict"]
    assert "does not give back 2 of 3 documents" in of["verdict"]


def test_the_interval_is_over_documents_within_their_source(tmp_path: Path, bytes_file: Path) -> None:
    """Two sources that differ, each all alike, leave nothing uncertain; documents that differ do."""
    rows = [{"text": "the " * 9, "source": "a"}, {"text": "cat dog " * 9, "source": "b"}] * 8
    [of] = compared(write_corpus(tmp_path / "c", rows, rows, rows), bytes_file)
    assert of["ci95"] == [of["fewer_percent"]] * 2
    mixed = [{**row, "source": "a"} for row in rows]
    [of] = compared(write_corpus(tmp_path / "c", mixed, mixed, mixed), bytes_file)
    assert of["ci95"][0] < of["fewer_percent"] - 1 < of["fewer_percent"] + 1 < of["ci95"][1]


def of(
    fewer: float, ci: list[float] | None, vocab: int, changed: int = 0, unknown: int = 0, documents: int = 40
) -> dict[str, Any]:
    return {"name": "gpt2", "bytes_per_token": 3.41, "own_bytes_per_token": 3.97, "fewer_percent": fewer, "ci95": ci,
            "vocab_size": vocab, "changed_documents": changed, "documents": documents, "unknown_tokens": unknown,
            "bytes": 51234}  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            of(14, [13, 15], 98304),
            "14% [13, 15] fewer tokens with a vocabulary 12 times smaller. Yes, the corpus is worth",
        ),
        (of(-9, [-10, -8], 98304), "9% [8, 10] more tokens with a vocabulary 12 times smaller. Only for its size"),
        (of(-9, [-10, -8], 1 << 21), "a vocabulary 256 times smaller."),
        (of(-9, [-10, -8], 8192), "a vocabulary of the same size. No: the other one needs fewer tokens"),
        (of(-9, [-10, -8], 4096), "a vocabulary 2.0 times larger. No"),
        (of(-9, [-10, -8], 8192, changed=7), "Yes, the corpus needs its own: the other one does not give back 7 of 40"),
        (of(1, [0.5, 1.5], 98304), "Yes, for its size: about as many tokens"),
        (of(0, [0, 0], 8192), "No: both need about as many tokens"),
        (of(0.1, [-0.5, 0.7], 8192), "No: both need about as many tokens"),  # none that would matter
        (of(1, [-3, 5], 98304), "Which one needs fewer tokens cannot be told: the interval holds 0"),
        (of(9, [-3, 21], 8192), "Which one needs fewer tokens cannot be told: the interval holds 0"),
        (of(9, None, 8192, documents=9), "Which one needs fewer tokens cannot be told: 9 documents are too few"),
        (of(9, None, 8192, documents=1), "1 document (51,234 bytes) of the test split: 9% fewer"),
        (of(9, None, 8192, documents=1), "cannot be told: 1 document is too few"),
        (
            of(9, [-3, 21], 8192, changed=7),
            "the interval holds 0, with a reservation: the other one does not give back 7",
        ),
    ],
)
def test_the_verdict_follows_from_the_figures(figures: dict[str, Any], said: str) -> None:
    assert said in verdict(figures, 8192)
    assert verdict(figures, 8192).startswith("gpt2: 3.41 bytes a token, this one 3.97, in ")


def test_fewer_tokens_than_one_that_changes_text_are_told_with_a_reservation() -> None:
    line = verdict(of(14, [13, 15], 98304, changed=40, unknown=1200), 8192)
    assert "(51,234 bytes)" in line
    assert "fewer tokens, with a reservation: the other one does not give back 40 of 40 documents and has no" in line
    assert "1,200 of its tokens are unknown ones" in line
    assert "reservation" not in verdict(of(14, [13, 15], 98304), 8192)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (of(14, [13, 15], 98304), "This one needs fewer tokens"),
        (of(-9, [-10, -8], 98304), "The other one needs fewer tokens"),
        (of(-9, [-10, -8], 98304, changed=2), "fewer tokens, with a reservation: the other one does not give back 2"),
        (of(1, [0.5, 1.5], 98304), "They need about as many tokens"),
    ],
)
def test_nothing_of_an_own_tokenizer_is_said_of_two_of_ones_own(figures: dict[str, Any], said: str) -> None:
    assert said in verdict(figures, 8192, plain=True)
    assert not re.search(r"own|Yes|No:|Only", verdict(figures, 8192, plain=True))


def test_a_tokenizer_of_loams_and_one_that_was_taken_are_just_compared(corpus: Path, tokenizer_folder: Path) -> None:
    [json, *model] = [tokenizer_folder / "tokenizer.json", *tokenizer_folder.glob("tokenizer.model")]
    for of in compared(corpus, json, *model):
        assert of["loams"]
        assert "own" not in of["verdict"]


def test_one_that_is_not_loams_is_held_against_an_own_one_unless_that_was_taken(corpus: Path, bytes_file: Path) -> None:
    tok, others = made_tokenizer(*THE), open_others(str(bytes_file))
    own, taken = (compare(tok, others, corpus, 1.0, [], taken)[0]["verdict"] for taken in (False, True))
    assert ". No: " in own
    assert ". The other one needs fewer tokens" in taken


@pytest.mark.parametrize("names", ["", ",", ",,", " , ", "a.json,", "a.json,,b.json"])
def test_a_blank_name_is_one_clear_line(names: str) -> None:
    with pytest.raises(UserError, match="a name is blank") as error:
        open_others(names)
    assert "\n" not in str(error.value)


def test_a_blank_name_is_refused_before_a_corpus_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "--run", "r", "--against", ""])
    with pytest.raises(UserError, match="a name is blank"):
        main()
    assert not (tmp_path / "runs").exists()


def test_what_is_no_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"model": 1}')
    (tmp_path / "broken.model").write_bytes(b"\0\1\2")
    (tmp_path / "empty").mkdir()
    for name, said in {"broken.json": "not a tokenizer", "broken.model": "not a tokenizer",
                       "empty": "holds none of", "missing": "no such file"}.items():  # fmt: skip
        with pytest.raises(UserError, match=said) as error:
            open_others(str(tmp_path / name))
        assert "\n" not in str(error.value)
    assert open_others(None) == []
