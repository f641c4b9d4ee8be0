"""The tokenizer loses nothing, never emits control ids for content, and opens elsewhere with the same ids."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from common.errors import UserError
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.byte_level import train_bpe
from tokenizer.config import SMALLEST, TokenizerConfig, default_vocab_size
from tokenizer.patterns import PATTERNS
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

HARD = [
    "",
    " ",
    "\x00",
    "tab\tnew\nline\r\n\r\n",
    "   leading and trailing   ",
    "e\u0301 decomposed, \u00e9 composed, \ufb01 ligature, \u212b angstrom",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈",
    "▁U+2581 is not a space",
    "\u202eright to left\u202c \ufeffbom",
    "a" * 3000,
    *SPECIAL_TOKENS,
    "<|eos|><|user|>x<|assistant|>",
    "".join(map(chr, range(256))),
]


@pytest.mark.parametrize("text", HARD)
def test_decode_of_encode_is_the_text(tok: Tokenizer, text: str) -> None:
    assert tok.decode(tok.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_unicode_string_round_trips(tok: Tokenizer, text: str) -> None:
    assert tok.decode(tok.encode(text)) == text
    assert tok.decode_bytes(tok.encode(text)) == text.encode()


@pytest.mark.parametrize("text", [*SPECIAL_TOKENS, "a<|eos|>b", "<|user|><|assistant|>", "< |eos|>", "<|<|eos|>eos|>"])
def test_text_that_spells_a_special_token_is_text(tok: Tokenizer, text: str) -> None:
    assert all(i >= NUM_SPECIAL for i in tok.encode(text))


def test_all_256_bytes_are_in_the_alphabet(tok: Tokenizer) -> None:
    singles = {tok.decode_bytes([i]) for i in range(NUM_SPECIAL, tok.vocab_size)}
    assert {bytes([b]) for b in range(256)} <= singles


def test_training_is_reproducible() -> None:
    texts = ["the cat sat on the mat and the dog sat on the log " * 5, "café naïve " * 9]
    assert train_bpe(texts, 300, 2, False).to_str() == train_bpe(texts, 300, 2, False).to_str()


def test_a_lone_surrogate_is_refused_with_one_line(tok: Tokenizer) -> None:
    with pytest.raises(UserError, match="surrogate"):
        tok.encode("bad \ud800 text")


def test_a_vocabulary_larger_than_the_text_supports_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="support"):
        train_tokenizer(iter(["a small text"]), 12, TokenizerConfig(vocab_size=5000), tmp_path / "tokenizer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, -1, 255, SMALLEST - 1])
def test_a_vocabulary_below_bytes_and_specials_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=str(SMALLEST)):
        TokenizerConfig(vocab_size=size)


def test_the_default_vocabulary_follows_the_stated_rule() -> None:
    assert [default_vocab_size(n) for n in (0, 5_000, 2_000_000, 8_500_000, 10**9)] == [
        512,
        512,
        4096,
        8192,
        32768,
    ]


@pytest.mark.parametrize("content", ["not json", '{"model": 3}', ""])
def test_a_damaged_tokenizer_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_foreign_tokenizer_is_refused(tmp_path: Path, tokenizer_folder: Path) -> None:
    data = (tokenizer_folder / "tokenizer.json").read_text().replace("<|user|>", "<|human|>")
    (tmp_path / "tokenizer.json").write_text(data)
    with pytest.raises(UserError, match="not one of loam's"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "text", [*HARD[:10], HARD[-1], "Ame\u0301lie a mange\u0301 une cre\u0300me bru\u0302le\u0301e"]
)
def test_auto_tokenizer_gives_the_same_ids(tok: Tokenizer, tokenizer_folder: Path, tmp_path: Path, text: str) -> None:
    transformers = pytest.importorskip("transformers")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tokenizer_folder / name).read_bytes())
    # A Qwen3 folder without tokenizer_class would get a tokenizer that normalises to NFC: other ids, and lossy.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}))
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert auto(text, add_special_tokens=False)["input_ids"] == tok.encode(text)
    assert auto.decode(tok.encode(text), clean_up_tokenization_spaces=False) == text


def test_decomposed_accents_stay_decomposed(tok: Tokenizer) -> None:
    text = "cre\u0300me bru\u0302le\u0301e"
    assert tok.encode(text) != tok.encode(unicodedata.normalize("NFC", text))


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(alphabet="  \n\t'sStTdD1٣.,!aÄ漢\u00a0"))
def test_gpt2s_pattern_splits_as_the_librarys_own(text: str) -> None:
    own = pre_tokenizers.Split(Regex(PATTERNS["gpt2"]), behavior="isolated")
    ours = pre_tokenizers.Sequence([own, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("qwen2", ["It", "'S", " ", "1", "2", "3", "4", "5", ".\n\n\n", "x"]),
        ("llama3", ["It", "'S", " ", "123", "45", ".\n\n\n", "x"]),
        ("gpt2", ["It", "'", "S", " 12345", ".", "\n\n", "\n", "x"]),
    ],
)
def test_patterns_differ_in_digits_and_line_breaks(pattern: str, words: list[str]) -> None:
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), behavior="isolated")
    assert [word for word, _ in split.pre_tokenize_str("It'S 12345.\n\n\nx")] == words


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_is_lossless_and_is_known_again(pattern: str, tmp_path: Path) -> None:
    texts = ["It's 12345 things.\n\n\n  And 99 more, isn't it? " * 9]
    tok = train_tokenizer(iter(texts), 300, TokenizerConfig(vocab_size=280, pattern=pattern), tmp_path / "tok")  # type: ignore[arg-type]
    assert tok.pattern == load_tokenizer(tmp_path / "tok").pattern == pattern
    for text in HARD:
        assert tok.decode(tok.encode(text)) == text
