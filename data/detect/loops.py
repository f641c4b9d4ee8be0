"""Text that goes round in circles: a word, phrase, sentence or line again and again, as a stuck model writes.

    words of a text -> runs in which each word equals the one `period` words before it
         -> those that are long enough, and no table, code or laughter -> a span, and words that say what it is

A unit is 1 to 200 words; in scripts that put no spaces between words each character is one. The last turn may be cut
off. Where nothing stands in a row, half the sentences or lines of a text may still be copies of each other.
The work grows with the length of the text, never with its square.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import eq

from data.detect.markup import Span, is_code
from data.detect.wording import Words, lowered, place_of, word_set

MAX_PERIOD = 200  # words of a unit
WORD_TURNS, PHRASE_TURNS = 4, 3
SAID_TURNS, SAID_LENGTH = 7, 80  # "no, no, no, no!": what people say in a story needs more turns, or characters
MIN_COPIES = 3  # words that stand again in every loop: of one word four times, of two words three times, ...
NUMBER_TURNS = 5
SUM_TURNS = 10  # of a sum that the text ends with; 1 + 1 + 1 + 1 + 1 + 1 + 1 may be an answer
SOUND_TURNS = 12  # of laughter, of "very", of single letters
PHRASE_LENGTH = 48  # characters that three turns of a phrase must fill; five turns may be shorter
REACH = 1200  # characters after a probe in which it must stand again
PIECES, PIECE_LENGTH = 6, 20  # sentences or lines that must be there before half of them can be copies; of characters

_GLUED = re.compile(r"([^\W\d_][^\W_]{2,40}?)\1{3,}")  # one long "word": yesmanyesmanyesmanyesman
_GLUED_LENGTH = 24
_SOUNDS = word_set(
    "ha hah he heh ho hee hi haha hehe hoo la na da dum tra ta tum tick tock knock boom bang buzz ding dong woof "
    "quack moo miaow baa oink beep blah very much far too really never no yes oh ah ay aye row hey well chug choo "
    "click clack drip tap clop thump bye yeah yada ха 哈 呵 嘿 啦 ๆ"
)
_SUMS = word_set("plus minus times x and by")
_OPERATOR = re.compile(r"[+*/×=<>|&\\^%]|[0-9] ?- ?[0-9]")
_OPERATORS = "+-*/×÷= \n"
_ONLY_OPERATORS = re.compile(r"(?:[=+×÷] ?){8,}\s*\Z")
_GLUED_DIGITS = re.compile(r"(?<![.,0-9])([0-9]{2,12}?)\1{5,}")
_CODE_SIGN = re.compile(r"[{}|\\^&;@~\[\]\t]|\w\(|==")
_SENTENCE_END = re.compile(r"[.!?。！？।]+[\s\"”’)]+|\n+")


def find_loop(text: str, words: Words, told: bool = False) -> Span | None:
    """The longest loop of a text. `told`: people speak in it, who may say a word over and over."""
    if (
        not told
        and text.rstrip()[-1:] in _OPERATORS
        and ("= =" in text or "+ +" in text)  # not the rule below a heading
        and (match := _ONLY_OPERATORS.search(text, max(0, len(text) - 200)))
    ):
        return *match.span(), f"ends with {match.group()[:20].strip()!r} and no number"
    if not _may_loop(text, words):
        return None
    runs = sorted(
        _runs(words.all), key=lambda run: run[0] - run[1]
    )  # the longest first; it may be a table, or laughter
    spans = (_as_span(text, words, run, told) for run in runs[:20])
    return next((span for span in spans if span), None) or _glued(text, words, told) or _copies(text, told)


def _may_loop(text: str, words: Words) -> bool:
    """Whether a search is worth its time, which is more than twice that of this test.

    A probe every few characters is looked for in what follows. In a loop it stands again, and once more at the same
    distance; of a text that is half copies a good part of all probes stand again.
    """
    if len(words.all) - len(words.distinct) < MIN_COPIES and words.longest < _GLUED_LENGTH:
        return False
    alike = bytes(map(eq, words.all, islice(words.all, 1, None)))
    if words.longest > 60 or b"\1\1\1" in alike or (b"\1\1" in alike and text.count("####") > 1):
        return True
    size, step = (4, 4) if words.unspaced else (10, 24)
    if len(text) < 48:
        size, step = size // 2, 3
    again = 0
    for i in range(0, len(text) - size, step):
        probe = text[i : i + size]
        found = text.find(probe, i + 1, i + REACH)
        if found >= 0:
            again += 1
            if text.startswith(probe, 2 * found - i) or (2 * i >= found and text.startswith(probe, 2 * i - found)):
                return True
    if again > 3 and again * step > len(text) * 0.3:
        return True
    parts = text.replace("\n", ". ").split(". ") if len(text) > REACH else []
    return len(parts) >= PIECES and len(set(parts)) <= len(parts) * 0.6


def _runs(words: list[str]) -> Iterator[tuple[int, int, int]]:
    """(start, end, period) of stretches in which words repeat with that period, at least three times over.

    A candidate is the distance to the last place of the same word, if the word before stood at that distance too. That
    finds a unit in which any one word stands once; for the others ("a b a a b b" over and over) it is blind.
    """
    last: dict[str, int] = {}
    until: dict[int, int] = {}  # period -> where its last stretch ended: nothing is walked twice
    num = len(words)
    for i, word in enumerate(words):
        before = last.get(word, -MAX_PERIOD - 1)
        last[word] = i
        period = i - before
        if period > MAX_PERIOD or until.get(period, 0) > i:
            continue
        if period == 1 or (before > 0 and words[i - 1] == words[before - 1]):
            start = end = i
            while end < num and words[end] == words[end - period]:
                end += 1
            while start > period and words[start - 1] == words[start - 1 - period]:
                start -= 1
            until[period] = end
            if end - start >= 2 * period:
                yield start - period, end, period


def _as_span(text: str, words: Words, run: tuple[int, int, int], told: bool) -> Span | None:
    """The run as a span of the text; None where it is short, a table, code or a sound."""
    first, last, period = run
    unit, turns = words.all[first : first + period], (last - first) / period
    if turns < (WORD_TURNS if period == 1 and not unit[0].isdigit() else PHRASE_TURNS):
        return None
    if turns < SOUND_TURNS and all(word in _SOUNDS for word in unit):
        return None
    start, end = place_of(text, words, first, last)
    found, length = text[start:end], end - start
    letters = sum(map(str.isalpha, "".join(unit)))
    whole = length > 0.9 * len(text.strip())
    if not letters and not _is_number_loop(unit, found, text[end:], turns, whole, told):
        return None
    if letters == 1 and not words.unspaced and turns < (6 if unit in (["a"], ["i"]) else SOUND_TURNS):
        return None
    if letters and turns < SOUND_TURNS and period > 1 and all(word.isdigit() or word in _SUMS for word in unit):
        return None  # "1 plus 1 plus 1"
    if words.unspaced:
        if length < 12 or (turns < 5 and length < 24):
            return None
    elif letters and period > 1 and length < PHRASE_LENGTH and turns < 5 and not whole:
        return None
    elif told and turns < SAID_TURNS:
        said = re.search(r"[^\w\s]", found)
        if said and (period == 1 or (length < SAID_LENGTH and not whole)):
            return None
    if len(_CODE_SIGN.findall(found)) > 0.04 * length or found.count("|") > 2 or is_code(text):
        return None
    return start, end, f"{' '.join(unit)[:60]!r} {int(turns)} times in a row"


def _is_number_loop(unit: list[str], found: str, rest: str, turns: float, whole: bool, told: bool) -> bool:
    """A number, sum or equation over and over: no sum that comes to a result ("2 + 2 + 2 = 6"), no table, no matrix."""
    length = len("".join(unit))
    if told or not any(map(str.isdigit, "".join(unit))) or (len(unit) > 4 and "=" not in found):
        return False
    if _OPERATOR.search(found):
        if found.count("=") >= turns - 1:  # the same equation; running totals change
            return turns >= (PHRASE_TURNS if len(unit) > 2 else WORD_TURNS)
        if length < 6:
            return not rest.strip(_OPERATORS) and turns >= (NUMBER_TURNS if rest.strip() else SUM_TURNS)
    if len(unit) > 4 or (length < 2 and turns < SOUND_TURNS):
        return False
    if found.count("####") > 1:  # an answer's last line
        return turns >= PHRASE_TURNS
    return turns >= (WORD_TURNS if whole else NUMBER_TURNS)


def _glued(text: str, words: Words, told: bool) -> Span | None:
    if words.longest < _GLUED_LENGTH:
        return None
    for digits in () if told else _GLUED_DIGITS.finditer(text):
        found, unit = digits.group(), digits.group(1)
        if len(found) >= _GLUED_LENGTH and len(set(unit)) > 1 and not set(found) <= {"0", "1"}:
            return *digits.span(), f"{unit!r} {len(found) // len(unit)} times in a row"
    for word in words.all:
        if len(word) >= _GLUED_LENGTH and (match := _GLUED.search(word)) and len(set(match.group(1))) > 2:
            found, unit = match.group(), match.group(1)
            start = lowered(text).find(found)
            if len(found) >= _GLUED_LENGTH and start >= 0:
                return start, start + len(found), f"{unit!r} {len(found) // len(unit)} times in a row"
    return None


def _copies(text: str, told: bool) -> Span | None:
    """Half or more of the sentences or lines are copies of others."""
    pieces = [piece.strip() for piece in _SENTENCE_END.split(text)]
    pieces = [piece for piece in pieces if len(piece) >= PIECE_LENGTH]
    if len(pieces) < PIECES:
        return None
    counts = Counter(pieces)
    copies = sum(count for count in counts.values() if count >= WORD_TURNS)  # three times a chorus stands in songs too
    if copies < len(pieces) / 2:
        copies = sum(count for count in counts.values() if count > 1 + told)
        if copies < 0.9 * len(pieces):
            return None
    piece, count = counts.most_common(1)[0]
    if len(_CODE_SIGN.findall(piece)) > 0.04 * len(piece) or is_code(text):
        return None
    start = text.find(piece)
    share = copies / len(pieces)
    return start, start + len(piece), f"{share:.0%} of the sentences are copies; {piece[:60]!r} stands {count} times"
