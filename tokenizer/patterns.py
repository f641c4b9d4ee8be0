"""What a byte-level tokenizer splits text by before it merges pairs, and where a text may be cut without changing that.

In: the name of a family and the settings of digits and code. Out: a regular expression (Oniguruma's dialect, as
`tokenizers` and llama.cpp read it), the name under which llama.cpp knows it, and the line breaks that end a word of it.
"""

import re
from itertools import pairwise, product
from typing import Literal, get_args

Pattern = Literal["qwen2", "llama3", "gpt2"]
Digits = Literal["single", "three", "whole"]

_DIGITS = {"single": r"\p{N}", "three": r"\p{N}{1,3}", "whole": r"\p{N}+"}
# Families that llama.cpp knows by name (tokenizer.ggml.pre). qwen2 makes each digit a token of its own, llama-bpe three
# at most; gpt-2 numbers of any length, and no line breaks with the sign in front of them.
_QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|%s| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# For source code: the signs at a line's end, its break and the next line's indentation are one word. White space up to
# the last line break is one word as in qwen2's; `(?>...)` is not gone back into, so no length of it is tried in vain.
_BREAKS = r"(?:(?>[^\S\r\n]*)[\r\n]+)+[ \t]*"
_CODE = r" ?[^\s\p{L}\p{N}]+(?:[\r\n]+[ \t]*)?|" + _BREAKS + r"|\s+(?!\S)|\s+"
_QWEN_CODE = _QWEN[: _QWEN.index("| ?[^")] + "|" + _CODE
_GPT2_CODE = _GPT2[: _GPT2.index("| ?[^")] + "|" + _CODE

# Where a text may be cut without a change of its ids: what stands after a line break begins a new word. White space up
# to its last line break is one word, but for gpt2, which parts the last of several from the others where text follows,
# so there a break must stand alone. All that is \S in Python is so in the patterns too.
LINE_BREAK, LONE_BREAK = re.compile(r"\n(?=\S)"), re.compile(r"(?<=\S)\n(?=\S)")
AFTER_BREAK = re.compile(r"\n")  # of sentencepiece's, where no token but the break itself holds one


def regex_of(pattern: Pattern = "qwen2", digits: Digits | None = None, code: bool = False) -> str:
    """The regular expression of a family, with its own digits (None) or others, for prose or for source code."""
    if pattern == "gpt2":
        own = r" ?\p{N}+" if digits in (None, "whole") else _DIGITS[digits]
        return (_GPT2_CODE if code else _GPT2) % own
    return (_QWEN_CODE if code else _QWEN) % _DIGITS[digits or ("three" if pattern == "llama3" else "single")]


PATTERNS: dict[str, str] = {name: regex_of(name) for name in get_args(Pattern)}
# Every regular expression that settings give -> the break that ends a word, and whether long white space must be split.
_KNOWN = {
    regex_of(pattern, digits, code): (
        LONE_BREAK if pattern == "gpt2" and not code else LINE_BREAK,
        pattern != "gpt2" and not code,
    )
    for pattern, digits, code in product(get_args(Pattern), (None, *get_args(Digits)), (False, True))
}


def name_of(regex: str | None) -> Pattern | None:
    """The family whose own pattern this is, whatever settings it came from; None for every other one."""
    return next((name for name in get_args(Pattern) if PATTERNS[name] == regex), None)


def break_of(regex: str | None) -> re.Pattern[str] | None:
    """The line breaks behind which a text may be cut and keep its ids; None where that is not known: do not cut."""
    return _KNOWN.get(regex or "", (None, False))[0]


def must_split_white(regex: str | None) -> bool:
    """Whether megabytes of spaces must be split off by `split_white`, and are a word of this regular expression."""
    return _KNOWN.get(regex or "", (None, False))[1]


def cut(text: str, end: re.Pattern[str] | None, size: int, longest: int | None = None) -> list[str]:
    """Pieces of `size` characters or more, each up to an `end`; the text itself where `end` is None.

    `longest`: at so many characters a piece ends wherever it is; None: it never does.
    """
    places = [0]
    while end is not None and len(text) - places[-1] > size:
        last = len(text) if longest is None else places[-1] + longest
        found = end.search(text, places[-1] + size, last)
        if found is None and last >= len(text):
            break
        places.append(found.end() if found else last)
    return [text[first:last] for first, last in pairwise([*places, len(text)])]


# Characters that the patterns call \s, but for line breaks. Behind a run of them `\s*[\r\n]+` (qwen2's and llama3's)
# looks for a line break at each place, and Oniguruma panics after 10 million tries: a run of that length is split by
# `split_white`.
WHITE = "\t\x0b\x0c \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
LONG_WHITE = 1 << 22
_WHITE_RUN = re.compile(f"[{WHITE}]+")


def split_white(text: str) -> list[str]:
    """The text in pieces, every second one white space of about LONG_WHITE characters or more, a word of the pattern.

    It is a run without a line break, less its last character, which may belong to what follows. A run with a
    line break behind it is no word by itself, and is matched at once.
    """
    pieces, done = [], 0
    for place in range(0, len(text), LONG_WHITE):  # a run of this length has a character at one of these places
        run = _WHITE_RUN.match(text, place)
        if run is None or place < done:
            continue
        before = text[max(done, place - LONG_WHITE) : place]
        start, end = place - len(before) + len(before.rstrip(WHITE)), run.end()
        if end - start >= LONG_WHITE and text[end : end + 1] not in ("\r", "\n"):
            end -= end < len(text)
            pieces += [text[done:start], text[start:end]]
            done = end
    return [*pieces, text[done:]]
