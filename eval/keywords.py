"""Whether a keyword stands in a text: as words of their own, in any simple inflection, never inside other words.

A text is cut into words (of scripts without spaces between words each character is one) and signs. Case, composition
(NFKC) and typographic variants make no difference: ⟩ and \\rangle are >, m² is m^2.

  a keyword of words     "error correction": these words in a row, joined by spaces, hyphens or marks of emphasis
  a keyword with signs   "|0>", "E=mc^2", "C++": these words and signs in a row, with any spaces between
  an inflection          gate, gates, gated, gating; big, bigger, biggest; stop, stopped; theory, theories; the state's

The inflections are those of English spelling, and only they: care gives caring, car would give carring, so that caring
is no form of car. A keyword may itself be inflected; both are then forms of one word. What only looks inflected
(number, corner, interest, news) is in a list, made from what 10 novels and 2 textbooks hold; rarer ones count as forms.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from data.detect.wording import word_set

# Vowel signs of Hindi, Arabic and others, which Python's \w leaves out; with joiners that stand inside words.
_MARKS = "".join(chr(i) for i in range(0x300, 0x10000) if unicodedata.category(chr(i))[0] == "M") + "\u200c\u200d"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = rf"\d+(?:[.,]\d+)+(?!\w)|[{_UNSPACED}]|(?:(?![_{_UNSPACED}])[\w{_MARKS}])+"
_WORDS = re.compile(_WORD)
_TOKEN = re.compile(rf"(?P<word>{_WORD})|(?P<sign>\S)")
_POSSESSIVES = re.compile(rf"'s(?!(?![_{_UNSPACED}])[\w{_MARKS}])")
_RAISED = str.maketrans({c: f"^{unicodedata.normalize('NFKC', c)}" for c in "⁰¹²³⁴⁵⁶⁷⁸⁹"})
_PLAIN = str.maketrans({"⟩": ">", "〉": ">", "⟨": "<", "〈": "<", "’": "'", "−": "-", "‐": "-", "‑": "-", "→": "->"})
_LATEX = (("\\rangle", ">"), ("\\langle", "<"))
_JOINING = frozenset("-–/_*'\"`\u00ad")  # between words of one phrase; a full stop or comma ends it
_GLUED_ON = re.compile(r"\+\+|#")  # C is not C++ or C#
_POSSESSIVE = re.compile(r"\A's\b")
_VOWEL = re.compile("[aeiouy]")
_ONE_SYLLABLE = re.compile(r"[^aeiou]*(?:qu)?[aeiouy][^aeiouywx]")  # hop, quiz: the last consonant is doubled
_ENDINGS = ("s", "es", "ed", "ing", "er", "est")
_WHOLE = word_set(
    "after always answer beer being better bitter bother butter ceiling center chatter chest cluster consider "
    "corner counter cover deer deliver dinner discover during earnest evening ever fever filter flicker flower "
    "forest forever former guest hammer harvest heather hinder honest however hundred hunger indeed infer inter "
    "interest invest king ladder layer lens letter litter liver manner mars master matter member modest morning "
    "mother need never news nothing number offer order other over paper physics pier poker power priest proper "
    "protest quarter rather register request rest ring river series shoulder shower silver something species "
    "speed spring string suggest summer super supper tender test thing tier tower transfer under various water "
    "whether wing winter wretched"
)


class Token(NamedTuple):
    """A word or sign of a folded text."""

    text: str
    is_word: bool
    start: int
    end: int


def fold(text: str) -> str:
    """Case and typography that make no difference, removed."""
    if text.isascii():  # 9 us less a question: half of what `words` takes
        return text.replace("\\rangle", ">").replace("\\langle", "<").lower() if "\\" in text else text.lower()
    text = text.translate(_RAISED).translate(_PLAIN)
    for name, sign in _LATEX:
        text = text.replace(name, sign)
    return unicodedata.normalize("NFKC", text).casefold()


def tokens(folded: str) -> list[Token]:
    """Words and signs; the s of a possessive is left out."""
    found: list[Token] = []
    for match in _TOKEN.finditer(folded):
        is_word = match.lastgroup == "word"
        if is_word and match.group() == "s" and folded[max(0, match.start() - 1) : match.start()] == "'":
            if len(found) > 1 and found[-1].text == "'":
                found.pop()
            continue
        found.append(Token(match.group(), is_word, *match.span()))
    return found


def words(text: str) -> list[str]:
    """Folded words without signs; where a text has none, its signs."""
    folded = fold(text)
    # As `tokens` has them, in 17 us a question of 15 words instead of 63.
    return _WORDS.findall(_POSSESSIVES.sub("'", folded)) or [token.text for token in tokens(folded)]


def num_words(found: list[str]) -> float:
    """Words; a character of Chinese is half of one, of Thai a fifth: XQuAD's passages then are 30,000 words, 25,000 in
    Chinese, 34,000 in Thai."""
    return sum(1.0 if not _IS_UNSPACED.match(word) else 0.2 if word < "\u2000" else 0.5 for word in found)


class Cut(NamedTuple):
    """A text cut into words and signs, once for all keywords."""

    folded: str
    all: list[Token]
    words: list[Token]


def cut(text: str) -> Cut:
    """What `holds` searches."""
    folded = fold(text)
    found = tokens(folded)
    return Cut(folded, found, [token for token in found if token.is_word])


def holds(text: Cut, keyword: str) -> bool:
    """Whether the keyword stands in the text."""
    folded, wanted, wanted_words = cut(keyword)
    # The sign of a number belongs to it: -1 does not stand in x-1, nor in 1; and 1 not in -1.
    number = bool(wanted) and wanted[0].text[0].isdigit()
    signed = folded.lstrip()[:1] in ("+", "-", ".") and wanted[-1].text[0].isdigit()
    if wanted_words and not signed and all(token.is_word or token.text in _JOINING for token in wanted):
        size = len(wanted_words)
        found = (text.words[at : at + size] for at in _places(text.words, wanted_words))
        return any(_is_phrase(text, one) and not (number and _is_negative(text, one[0].start)) for one in found)
    starts = (text.all[at].start for at in _places(text.all, wanted))
    if number:
        return any(not _is_negative(text, start) for start in starts)
    return any(not (signed and text.folded[max(0, start - 1) : start].isalnum()) for start in starts)


def _is_negative(text: Cut, start: int) -> bool:
    """Whether a minus sign stands in front; in 1-5, 4%-5%, (a)-5 and GPT-5 it is a hyphen, in --5 a dash."""
    before, sign = text.folded[max(0, start - 2) : start - 1], text.folded[max(0, start - 1) : start]
    return sign == "-" and not (before.isalnum() or before in tuple(")]}%°-"))


def _places(there: list[Token], wanted: list[Token]) -> Iterator[int]:
    """Where the wanted tokens stand in a row."""
    for at in range(len(there) - len(wanted) + 1) if wanted else ():
        if all(_same(there[at + i], token) for i, token in enumerate(wanted)):
            yield at


def _same(a: Token, b: Token) -> bool:
    return same_word(a.text, b.text) if a.is_word and b.is_word else a.text == b.text


def _is_phrase(text: Cut, found: list[Token]) -> bool:
    gaps = (_POSSESSIVE.sub("", text.folded[a.end : b.start]) for a, b in pairwise(found))
    glued = len(found[-1].text) == 1 and _GLUED_ON.match(text.folded, found[-1].end)
    return not glued and all(set("".join(gap.split())) <= _JOINING for gap in gaps)


def same_word(a: str, b: str) -> bool:
    """Whether two folded words are forms of one."""
    return a == b or (a[:3] == b[:3] and not bases(a).isdisjoint(bases(b)))


@lru_cache(maxsize=1 << 16)
def bases(word: str) -> frozenset[str]:
    """The word, and every word of which it may be an inflection by the rules of English spelling."""
    if len(word) < 4 or word in _WHOLE or not word.isascii() or not word.isalpha():
        return frozenset([word])
    if word.endswith("ices"):  # matrices, vertices
        return frozenset([word, word[:-4] + "ix", word[:-4] + "ex", word[:-1]])
    candidates = []
    for ending in _ENDINGS:
        if word.endswith(ending):
            stem = word[: -len(ending)]
            candidates += [(stem, ending), (stem + "e", ending)]
            if stem[-1:] == "i":
                candidates.append((stem[:-1] + "y", ending))
            if stem[-2:-1] == stem[-1:]:
                candidates.append((stem[:-1], ending))
    real = {stem for stem, ending in candidates if len(stem) > 2 and word in inflected(stem, ending)}
    if word.endswith("ses"):  # analyses, bases
        real.add(word[:-2] + "is")
    return frozenset([word, *real])


def inflected(word: str, ending: str) -> tuple[str, ...]:
    """How a word is written with an ending; two ways where English has both (traveled, travelled)."""
    if not _VOWEL.search(word):
        return ()
    last, before = word[-1], word[-2:-1]
    after_consonant_y = last == "y" and before not in "aeiou"
    if ending in ("s", "es"):
        if after_consonant_y:
            return (word[:-1] + "ies",)
        if word.endswith(("s", "x", "z", "ch", "sh")):
            return (word + "es", word + last + "es") if last in "sz" else (word + "es",)
        return (word + "s", word + "es") if last == "o" else (word + "s",)
    if last == "e":
        return (word + "ing",) if ending == "ing" and before in "eoy" else (word[:-1] + ending,)
    if after_consonant_y:
        return (word + "ing",) if ending == "ing" else (word[:-1] + "i" + ending,)
    if _ONE_SYLLABLE.fullmatch(word):
        return (word + last + ending,)
    if before in "aeiou" and last not in "aeiouywx":
        return (word + ending, word + last + ending)
    return (word + ending,)
