"""Settings of digits and code: what is a word, which combination bears a name, and what may be exported."""

from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from common.errors import UserError
from tokenizer.bpe import Tokenizer, train_bpe, train_tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.gguf import gguf_rules
from tokenizer.patterns import (
    LINE_BREAK,
    LONE_BREAK,
    PATTERNS,
    Digits,
    Pattern,
    break_of,
    cut,
    must_split_white,
    name_of,
    regex_of,
)

Settings = tuple[Pattern, Digits | None, bool]
SETTINGS: list[Settings] = list(product(get_args(Pattern), (None, *get_args(Digits)), (False, True)))


def words(regex: str, text: str) -> list[str]:
    return [word for word, _ in pre_tokenizers.Split(Regex(regex), behavior="isolated").pre_tokenize_str(text)]


@pytest.mark.parametrize("pattern", get_args(Pattern))
@pytest.mark.parametrize("code", [False, True])
@pytest.mark.parametrize(
    ("digits", "expected"),
    [("single", ["1", "2", "3", "4", "5"]), ("three", ["123", "45"]), ("whole", ["12345"])],
)
def test_digits_make_words_of_so_many(pattern: Pattern, digits: Digits, code: bool, expected: list[str]) -> None:
    found = words(regex_of(pattern, digits, code), "a 12345b")
    if (pattern, digits) == ("gpt2", "whole"):
        assert found == ["a", " 12345", "b"]
    else:
        assert found == ["a", " ", *expected, "b"]


def test_combinations_that_equal_a_named_pattern_bear_its_name() -> None:
    named = {one: name_of(regex_of(*one)) for one in SETTINGS}
    assert {one: name for one, name in named.items() if name} == {
        ("qwen2", None, False): "qwen2",
        ("qwen2", "single", False): "qwen2",
        ("qwen2", "three", False): "llama3",
        ("llama3", None, False): "llama3",
        ("llama3", "three", False): "llama3",
        ("llama3", "single", False): "qwen2",
        ("gpt2", None, False): "gpt2",
        ("gpt2", "whole", False): "gpt2",
    }
    assert name_of(None) is name_of(r"\p{L}+") is None


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_in_code_a_lines_end_and_the_next_ones_indentation_are_one_word(pattern: Pattern) -> None:
    text = "def f(x):\n    if x:\n\n\t\treturn x + 1\r\n\r\n\nend  \n  \n  (a);"
    assert words(regex_of(pattern, "single", True), text) == [
        *["def", " f", *(["(x"] if pattern != "gpt2" else ["(", "x"]), "):\n    ", "if", " x", ":\n\n\t\t", "return"],
        *[" x", " +", " ", "1", "\r\n\r\n\n", "end", "  \n  \n  ", *(["(a"] if pattern != "gpt2" else ["(", "a"])],
        ");",
    ]  # fmt: skip


odd = st.text(alphabet=" \n\r\t\u00a0\u2028\x1c.;a1Ä漢'", max_size=40)


@pytest.mark.parametrize("one", SETTINGS)
@settings(deadline=None, max_examples=200)
@given(text=odd)
def test_every_regular_expression_takes_all_of_a_text(one: Settings, text: str) -> None:
    assert "".join(words(regex_of(*one), text)) == text


@pytest.mark.parametrize("one", SETTINGS)
@settings(deadline=None, max_examples=300)
@given(text=odd)
def test_words_of_the_pieces_are_the_words_of_the_text(one: Settings, text: str) -> None:
    regex = regex_of(*one)
    pieces = cut(text, break_of(regex), 1)
    assert [word for piece in pieces for word in words(regex, piece)] == words(regex, text)


def test_the_break_of_gpt2_must_stand_alone_and_that_of_an_unknown_pattern_is_none() -> None:
    alone = {one for one in SETTINGS if break_of(regex_of(*one)) is LONE_BREAK}
    assert alone == {one for one in SETTINGS if one[0] == "gpt2" and not one[2]}
    assert all(break_of(regex_of(*one)) is LINE_BREAK for one in set(SETTINGS) - alone)
    assert break_of(r"[\s\S]+") is break_of(None) is None
    assert not must_split_white(r"[\s\S]+")


def test_a_text_is_not_cut_by_a_tokenizer_of_an_unknown_pattern() -> None:
    bpe = train_bpe(["one\ntwo\nthree " * 20], 300, 2, show_progress=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok = Tokenizer(bpe)
    assert tok.pattern is None
    assert cut("one\ntwo\nthree\n" * 9, tok.line_break, 4) == ["one\ntwo\nthree\n" * 9]


@pytest.mark.parametrize("pattern", ["qwen2", "gpt2"])
@pytest.mark.parametrize("text", [" " * 10_500_000 + "a", "a\n" + " " * 10_500_000 + "a"])
def test_in_code_megabytes_of_white_space_need_no_splitting(pattern: Pattern, text: str) -> None:
    regex = regex_of(pattern, None, True)
    assert not must_split_white(regex)
    assert "".join(words(regex, text)) == text  # qwen2's own panics here


def test_a_tokenizer_of_a_named_pattern_has_its_gguf_names(tmp_path: Path) -> None:
    texts = ["It's 12345 things.\n\n\n  And 99 more, isn't it? " * 9]
    found = {}
    for one in SETTINGS:
        config = TokenizerConfig(vocab_size=280, pattern=one[0], digits=one[1], code=one[2])
        tok = train_tokenizer(iter(texts), 300, config, tmp_path / "-".join(map(str, one)))
        if tok.pattern:
            found[tok.pattern] = gguf_rules(tok)
            continue
        with pytest.raises(UserError, match=r"llama\.cpp knows patterns by name") as error:
            gguf_rules(tok)
        assert len(str(error.value).splitlines()) == 1
    assert {name: rules["tokenizer.ggml.pre"] for name, rules in found.items()} == {
        "qwen2": "qwen2",
        "llama3": "llama-bpe",
        "gpt2": "gpt-2",
    }
    assert {rules["tokenizer.ggml.model"] for rules in found.values()} == {"gpt2"}
    assert set(found) == set(PATTERNS)


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_is_one_byte_or_more(budget: int) -> None:
    with pytest.raises(UserError, match=f"sample_bytes {budget}"):
        TokenizerConfig(sample_bytes=budget)
