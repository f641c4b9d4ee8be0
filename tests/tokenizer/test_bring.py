"""A finished tokenizer is taken with loam's special tokens, or refused in one line that says why."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentencepiece import SentencePieceTrainer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from common.errors import UserError
from tests.tokenizer.conftest import TEXTS
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.bring import PROBES
from tokenizer.config import TokenizerConfig
from tokenizer.patterns import PATTERNS
from tokenizer.spm import schema
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

WORDS = "the cat sat on the mat, 1234 cats in façades; don't " * 50


def brought(path: Path, folder: Path) -> Tokenizer:
    return train_tokenizer(iter([]), 0, TokenizerConfig(file=str(path)), folder)


def byte_level(path: Path, change: Callable[[dict[str, Any]], object] = lambda file: None, **extra: Any) -> Path:
    """A tokenizer.json as GPT-2's: its own special token last, the library's pattern; changed by `change`."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, **extra))  # type: ignore[arg-type]
    bpe.add_special_tokens(["<|endoftext|>"])
    file = json.loads(bpe.to_str())
    change(file)
    path.write_text(json.dumps(file))
    return path


def spm_model(path: Path, **settings: Any) -> Path:
    """A .model as sentencepiece makes it with the settings of Llama 2."""
    defaults = {"model_type": "bpe", "vocab_size": 320, "byte_fallback": True, "normalization_rule_name": "identity"}
    SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS[:2000]] * 3),
        model_prefix=str(path.with_suffix("")),
        minloglevel=2,
        **{**defaults, "remove_extra_whitespaces": False, **settings},
    )
    return path


def test_a_byte_level_file_keeps_its_ids_but_for_the_special_tokens(tmp_path: Path) -> None:
    path = byte_level(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(path))
    tok = brought(tmp_path, tmp_path / "run")  # a folder of one
    assert tok.vocab_size == theirs.get_vocab_size() - 1 + NUM_SPECIAL
    assert tok.pattern == "gpt2"
    for text in [*TEXTS, *PROBES, WORDS]:
        if "<|endoftext|>" not in text:
            assert tok.encode(text) == [i + NUM_SPECIAL for i in theirs.encode(text).ids]
        assert tok.decode(tok.encode(text)) == text
    assert len(tok.encode("<|endoftext|>")) > 1  # its own special token is text now


def test_a_model_of_sentencepiece_keeps_its_pieces(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    path = spm_model(tmp_path / "own.model")
    theirs = SentencePieceProcessor(model_file=str(path))
    tok = brought(path, tmp_path / "run")
    native = SentencePieceProcessor(model_file=str(tmp_path / "run" / "tokenizer.model"))
    assert tok.backend == "sentencepiece"
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "run" / "tokenizer.json"))
    alone.encode_special_tokens = True
    for text in [*TEXTS, WORDS, *PROBES]:
        ids = tok.encode(text)
        assert ids == alone.encode(text, add_special_tokens=False).ids
        assert tok.decode(ids) == text
    pieces = theirs.encode("cat mat", out_type=str)  # with the prefix that it puts in front, which is left out
    assert [native.id_to_piece(i) for i in tok.encode(" cat mat")] == pieces
    assert native.encode("cat") == tok.encode("cat")


def test_loams_own_files_come_out_as_they_went_in(tokenizer_folder: Path, tmp_path: Path) -> None:
    names = ["tokenizer.json"] + ["tokenizer.model"] * (tokenizer_folder / "tokenizer.model").exists()
    own = load_tokenizer(tokenizer_folder)
    for name in names:
        tok = brought(tokenizer_folder / name, tmp_path / name)
        assert tok.vocab_size == own.vocab_size
        assert tok.encode_batch([*TEXTS, *PROBES]) == own.encode_batch([*TEXTS, *PROBES])
        assert tok.backend == own.backend
        assert tok.pattern == own.pattern


def test_a_file_of_characters_and_byte_tokens_is_taken_without_its_prefix(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    """As transformers writes Llama 2's: spaces as U+2581, by a normaliser that also puts one in front."""
    path = spm_model(tmp_path / "own.model", unk_piece="<unk>")
    theirs = json.loads((brought_json(path, tmp_path / "as-json")).read_text())
    theirs["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ],
    }
    theirs["model"]["vocab"] = {piece.replace(" ", "\u2581"): i for piece, i in theirs["model"]["vocab"].items()}
    theirs["model"]["merges"] = [[part.replace(" ", "\u2581") for part in pair] for pair in theirs["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(theirs))
    tok = brought(tmp_path / "tokenizer.json", tmp_path / "run")
    assert tok.encode_batch([WORDS, *PROBES]) == load_tokenizer(tmp_path / "as-json").encode_batch([WORDS, *PROBES])


def brought_json(path: Path, folder: Path) -> Path:
    brought(path, folder)
    return folder / "tokenizer.json"


def nfc(file: dict[str, Any]) -> None:
    file["normalizer"] = json.loads(normalizers.NFC().__getstate__())


def removing(file: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": " "}, "behavior": "Removed", "invert": False}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, file["pre_tokenizer"]]}


def without_a_byte(file: dict[str, Any]) -> None:
    del file["model"]["vocab"]["Ā"]


def with_a_special_name(file: dict[str, Any]) -> None:
    file["model"]["vocab"]["<|user|>"] = len(file["model"]["vocab"]) + 1


def by_words(file: dict[str, Any]) -> None:
    file["pre_tokenizer"] = {"type": "Whitespace"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nfc, r'its normaliser \(NFC\) changes text.*set "normalizer": null'),
        (removing, r"its pre-tokenizer \(Split\) drops or changes text"),
        (without_a_byte, "no token for the byte 0x00"),
        (with_a_special_name, r"include <\|user\|>"),
        (by_words, "neither byte-level BPE nor BPE with byte tokens"),
        (lambda file: file["model"].update(type="WordLevel", unk_token="a"), "WordLevel|is not a tokenizer.json"),
        (lambda file: file["model"]["merges"].append(["zzz", "qqq"]), "is not a tokenizer.json"),
        (lambda file: file.pop("model"), "is not a tokenizer.json"),
        (lambda file: file["model"].update(end_of_word_suffix="</w>"), "marks parts of words"),
        (lambda file: file["pre_tokenizer"].update(add_prefix_space=True), "puts a space in front"),
    ],
)
def test_a_file_that_loses_text_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = byte_level(tmp_path / "tokenizer.json", change)
    with pytest.raises(UserError, match=said) as error:
        brought(path, tmp_path / "run")
    assert len(str(error.value).splitlines()) == 1
    assert str(path) in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"byte_fallback": False, "vocab_size": 60}, "spells characters that it lacks as <unk>"),
        ({"model_type": "unigram", "vocab_size": 290, "hard_vocab_limit": False}, "is a UNIGRAM model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises text"),
        ({"remove_extra_whitespaces": True}, "removes white space"),
        ({"user_defined_symbols": ["<html>"]}, "taken before any merge"),
        ({"treat_whitespace_as_suffix": True}, "puts spaces behind words"),
    ],
)
def test_a_model_that_loses_text_is_refused_in_one_line(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    path = spm_model(tmp_path / "own.model", **settings)
    with pytest.raises(UserError, match=said) as error:
        brought(path, tmp_path / "run")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["x.model", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff nonsense", b"[1, 2"])
def test_a_file_of_something_else_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is not a|is damaged") as error:
        brought(tmp_path / name, tmp_path / "run")
    assert len(str(error.value).splitlines()) == 1


def test_a_path_of_nothing_is_one_line_and_other_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        brought(tmp_path / "none.json", tmp_path / "run")
    with pytest.raises(UserError, match=r"holds no .* or tokenizer\.json"):
        brought(tmp_path, tmp_path / "run")
    with pytest.raises(UserError, match="taken as it is; leave out vocab_size"):
        TokenizerConfig(file="x", vocab_size=1000)
    assert set(SPECIAL_TOKENS)


def twice_split(file: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": PATTERNS["qwen2"]}, "behavior": "Isolated", "invert": False}
    short = {**split, "pattern": {"Regex": "[a-z]{1,3}"}}
    last = {**file["pre_tokenizer"], "use_regex": False}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, short, last]}


def merged_runs(file: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": PATTERNS["qwen2"]}, "behavior": "MergedWithPrevious", "invert": True}
    last = {**file["pre_tokenizer"], "use_regex": False}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, last]}


@pytest.mark.parametrize("change", [twice_split, merged_runs])
def test_a_pattern_that_is_not_alone_has_no_name_and_no_place_to_cut(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    tok = brought(byte_level(tmp_path / "tokenizer.json", change), tmp_path / "run")
    assert (tok.pattern, tok.line_break) == (None, None)


def test_more_white_space_than_its_pattern_can_split_is_one_line(tmp_path: Path) -> None:
    tok = brought(byte_level(tmp_path / "tokenizer.json", twice_split), tmp_path / "run")
    with pytest.raises(UserError, match="more white space in a row"):
        tok.encode(" " * 10_100_000 + "a")


def test_of_pieces_with_equal_scores_both_libraries_take_the_same(tmp_path: Path) -> None:
    """sentencepiece takes the leftmost of equals; tokenizer.json ranks them."""
    model = schema.ModelProto.FromString(spm_model(tmp_path / "own.model").read_bytes())
    for piece in ("x", "q", "xq", "qx", "xqx"):
        if piece not in {one.piece for one in model.pieces}:
            model.pieces.add(piece=piece, score=0, type=schema.ModelProto.SentencePiece.NORMAL)
    (tmp_path / "own.model").write_bytes(model.SerializeToString())
    tok = brought(tmp_path / "own.model", tmp_path / "run")
    texts = ["".join(letters) for n in range(1, 9) for letters in itertools.product("xq", repeat=n)]
    (tmp_path / "run" / "tokenizer.model").unlink()
    assert tok.encode_batch(texts) == load_tokenizer(tmp_path / "run").encode_batch(texts)


def test_what_parts_text_beside_byte_tokens_is_refused(tmp_path: Path) -> None:
    file = brought_json(spm_model(tmp_path / "own.model"), tmp_path / "as-json")
    theirs = json.loads(file.read_text())
    theirs["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(theirs))
    with pytest.raises(UserError, match="WhitespaceSplit"):
        brought(tmp_path / "tokenizer.json", tmp_path / "run")


def test_tokens_that_no_merge_makes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def add(file: dict[str, Any]) -> None:
        size = len(file["model"]["vocab"]) + 1
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        file["added_tokens"].append({"id": size, "content": "<html>", **flags})

    tok = brought(byte_level(tmp_path / "tokenizer.json", add), tmp_path / "run")
    assert "1 tokens that no merge makes, as '<html>', are left out" in capsys.readouterr().out
    assert tok.decode(tok.encode("<html>")) == "<html>"
