"""No text is lost, none is too long, and what is no text is refused with one line that says where.

The scripts of the world (the declaration of human rights in 140 languages) need the folder that LOAM_CORPORA names.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from common.errors import UserError
from tokenizer import bpe, patterns
from tokenizer.bpe import Tokenizer
from tokenizer.byte_level import train_bpe
from tokenizer.patterns import WHITE, split_white
from tokenizer.template import NUM_SPECIAL

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
ROOT = Path(__file__).parents[2]
HARD = {
    "NUL": "\x00a\x00\x00b\x00",
    "1 MB without a space": "Donaudampfschiff" * 62_500,
    "1 MB of one letter": "a" * 1_000_000,
    "1 MB of spaces": " " * 1_000_000,
    "joined emoji": "👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈👨🏿\u200d🚀❤️\u200d🔥🇩🇪🇺🇸1\ufe0f\u20e3" * 20,
    "256 bytes": bytes(range(256)).decode("latin-1"),
    "marks upon marks": "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f" * 30 + "\u0301 alone \u0e33",
    "right to left": "שָׁלוֹם \u202b(abc)\u202c مرحبا\u200f \u2067١٢٣\u2069 \u061c",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufdd0\ufffd\ufeff",
    "line ends": "a\rb\nc\r\nd\u2028e\u2029f\x85g\x0bh\x0ci\x1cj",
}


def test_of_every_single_byte_there_is_a_token(tok: Tokenizer) -> None:
    singles = [tok.decode_bytes([i]) for i in range(NUM_SPECIAL, tok.vocab_size)]
    assert {bytes([byte]) for byte in range(256)} <= {*singles}
    if tok.backend == "tokenizers":
        assert all(singles.count(bytes([byte])) == 1 for byte in range(256))
    else:  # characters of one byte that the texts hold have a token of their own too
        assert singles[:256] == [bytes([byte]) for byte in range(256)]
    assert tok.decode_bytes(singles.index(bytes([byte])) + NUM_SPECIAL for byte in range(256)) == bytes(range(256))


@pytest.mark.parametrize("name", HARD)
def test_hard_text_round_trips(tok: Tokenizer, name: str) -> None:
    ids = tok.encode(HARD[name])
    assert tok.decode(ids) == HARD[name]
    assert min(ids) >= NUM_SPECIAL


@settings(deadline=None)
@given(texts=st.lists(st.text(), max_size=5))
def test_a_batch_round_trips_and_equals_text_by_text(tok: Tokenizer, texts: list[str]) -> None:
    batch = tok.encode_batch(texts)
    assert batch == [tok.encode(text) for text in texts]
    assert [tok.decode(ids) for ids in batch] == texts


@pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")
def test_the_rare_scripts_of_the_world_round_trip(tok: Tokenizer) -> None:
    with zipfile.ZipFile(CORPORA / "multilingual" / "udhr2_most_nonascii.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".txt")}
    assert len(texts) == 140
    for (name, text), ids in zip(texts.items(), tok.encode_batch(list(texts.values())), strict=True):
        assert tok.decode_bytes(ids) == text.encode(), name
        assert tok.decode(ids) == text, name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bad \ud800 text", r"the lone surrogate U\+D800 stands at character 5"),
        ("\udfff", r"the lone surrogate U\+DFFF stands at character 1"),
        ("caf\udce9", "the byte 0xE9 stands at character 4"),
    ],
)
def test_what_is_no_unicode_is_refused_with_its_place(tok: Tokenizer, text: str, found: str) -> None:
    for refuse in (lambda: tok.encode(text), lambda: tok.encode_batch(["fine", text])):
        with pytest.raises(UserError, match=found) as error:
            refuse()
        assert len(str(error.value).splitlines()) == 1


@settings(deadline=None)
@given(before=st.text(), bad=st.integers(0xD800, 0xDFFF), after=st.text())
def test_every_lone_surrogate_is_refused(tok: Tokenizer, before: str, bad: int, after: str) -> None:
    with pytest.raises(UserError, match=f"stands at character {len(before) + 1:,};"):
        tok.encode_batch(["fine", before + chr(bad) + after])


def test_what_is_no_string_is_no_mistake_of_the_user(tok: Tokenizer) -> None:
    with pytest.raises(TypeError):
        tok.encode_batch(["fine", 3])  # type: ignore[list-item]


@pytest.mark.parametrize("flag", ["--question", "--text"])
@pytest.mark.parametrize(("given", "said"), [(b"caf\xe9", "0xE9 stands at character 4"), (b"\xed\xa0\x80", "0xED")])
def test_bytes_that_are_no_utf8_are_refused_before_a_checkpoint_is_sought(
    tmp_path: Path, flag: str, given: bytes, said: str
) -> None:
    command = [os.fsencode(sys.executable), bytes(ROOT / "chat.py"), b"ckpt1", flag.encode(), given]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (out.returncode, out.stdout) == (2, b"")
    [line] = out.stderr.decode().splitlines()
    assert line.startswith(f"error: {flag}: is not valid UTF-8: the byte {said}")


def test_white_is_what_the_pattern_calls_white_but_for_line_breaks() -> None:
    characters = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    white = pre_tokenizers.Split(Regex(r"\s"), behavior="removed", invert=True).pre_tokenize_str(characters)
    assert {character for piece, _ in white for character in piece} == {*WHITE, "\r", "\n"}


@pytest.fixture(scope="module", params=["qwen2", "llama3"])
def white_tok(request: pytest.FixtureRequest) -> Tokenizer:
    """Has tokens of white space, with line breaks too, so that a cut at a wrong place gives other ids."""
    texts = ["a  \n   \n\n \n\tb\t\t\n   c    d \u3000\u3000\n\u3000e\xa0\xa0\r\n \xa0\xa0f  ! 's  's" * 50]
    return Tokenizer(train_bpe(texts, 330, 2, False, request.param))


@settings(deadline=None, max_examples=1000)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from([*" \t\xa0\u3000\n\r", "a", "'s", "!", "1", "é", "\x1c"]), st.integers(1, 9))
    ),
    length=st.integers(1, 9),
)
def test_splitting_long_white_space_changes_no_id(
    white_tok: Tokenizer, parts: list[tuple[str, int]], length: int
) -> None:
    text = "".join(what * times for what, times in parts)
    whole = white_tok.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        for module in (bpe, patterns):
            patch.setattr(module, "LONG_WHITE", length)
        pieces = split_white(text)
        longest = max(map(len, re.findall(f"[{WHITE}]+(?![{WHITE}\r\n])", text)), default=0)
        assert len(pieces) > 1 or longest < 2 * length
        assert "".join(pieces) == text
        assert all(len(piece) >= length - 1 and not piece.strip(WHITE) for piece in pieces[1::2])
        assert white_tok.encode(text) == whole


@pytest.mark.parametrize("after", ["", "a", "!", "\n"])
def test_more_white_space_than_the_regular_expressions_can_go_back_is_encoded(tok: Tokenizer, after: str) -> None:
    text = "a\n" + " " * 10_500_000 + after
    assert tok.decode(tok.encode(text)) == text


def test_a_tokenizer_is_trained_on_it_too() -> None:
    texts = ["the cat sat on the mat " * 9 + " " * 10_500_000 + "the cat"]
    assert train_bpe(texts, 280, 2, show_progress=False).token_to_id("Ġcat") is not None
