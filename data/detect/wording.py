"""The words of a text, cut once for all searches of signs.

In: a text. Out: its words in lower case and without signs, the set of them, the length of the longest, whether
characters stand for words, and which digits and odd signs there are. A look into the set answers for dozens of words at
once, one at the marks for all searches that need one of them: that keeps clean rows cheap.
"""

import re
import string
from typing import NamedTuple

_FAR_SIGNS = [*((sign, " ") for sign in "“”„«»…–—。，、！？；：「」（）"), ("’", "'")]
_NEAR_SIGNS = bytes(ord(" " if chr(i) in string.punctuation.replace("'", "") else chr(i).lower()) for i in range(128))
_SIGNS = _NEAR_SIGNS + bytes(range(128, 256))  # of UTF-8 the bytes beyond ASCII stay
_ODD = bytes({*range(32), 127} - {*b"\t\n\r"}) + b"<>[&;\\^_{@"
_UNMARKED = bytes({*range(256)} - {*_ODD, *b"0123456789"})
_DIGITS_AS_0 = bytes(ord("0") if i in b"0123456789" else i for i in range(256))
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_CHARACTER = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SPACED = re.compile(r"\S+")


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


class Words(NamedTuple):
    all: list[str]
    distinct: set[str]
    longest: int
    unspaced: bool  # a script without spaces: each character is a word
    marks: bytes = b""  # digits as 0, control characters, the signs of tags, entities, LaTeX and addresses; in order

    def hold(self, *any_of: frozenset[str]) -> bool:
        """Whether there is a word of each set."""
        for one in any_of:  # noqa: SIM110  (all() takes twice as long)
            if one.isdisjoint(self.distinct):
                return False
        return True


def cut_words(text: str) -> Words:
    unspaced = not text.isascii() and _HAS_UNSPACED.search(text) is not None
    plain = without_signs(text)
    words = _CHARACTER.findall(plain) if unspaced else plain.split()
    distinct = set(words)
    marks = text.encode("utf-8", "surrogatepass").translate(_DIGITS_AS_0, _UNMARKED)
    return Words(words, distinct, max(map(len, distinct), default=0), unspaced, marks)


def without_signs(text: str) -> str:
    """Lower case, spaces for signs; character by character, so that places stay the same."""
    if not text.isascii():
        text = lowered(text)
        for sign, plain in _FAR_SIGNS:
            text = text.replace(sign, plain)
    # A sixth of the time of str.translate.
    return text.encode("utf-8", "surrogatepass").translate(_SIGNS).decode("utf-8", "surrogatepass")


def lowered(text: str) -> str:
    """Lower case where that keeps every character in its place (of İ it makes two)."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text


def plainly(text: str) -> str:
    """Lower case, with straight apostrophes; every character stays in its place."""
    return lowered(text).replace("’", "'")


def place_of(text: str, words: Words, first: int, last: int) -> tuple[int, int]:
    """Where the words number `first` up to `last` stand in the text."""
    start = end = -1
    pattern = _CHARACTER if words.unspaced else _SPACED
    for number, match in enumerate(pattern.finditer(without_signs(text))):
        if number == first:
            start = match.start()
        if number == last - 1:
            return start, match.end()
    return start, end
