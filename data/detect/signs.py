"""What a row shows by itself: signs of damage, of machine talk, of private data; none needs another row.

    row -> signs(row): [Sign(kind, field, start, end, detail)], the place of the evidence and words about it

Kinds: repetition refusal mojibake control_characters markup pii secret truncated. Whether an answer is cut off shows
only beside the other answers of its source: count `habit(row)` over them first (Counters of parts add up).

    habits = source_habits(Counter(map(habit, rows))); [signs(row, habits) for row in rows]

A clean row of 500 ASCII bytes must cost little, so each search has a cheap test before it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ftfy.badness import BADNESS_RE

from data.detect.endings import SourceHabits, field_of, find_cut, habit, source_habits
from data.detect.keys import find_secrets
from data.detect.loops import find_loop
from data.detect.markup import Span, find_markup
from data.detect.personal import find_pii
from data.detect.refusals import find_refusal
from data.detect.wording import cut_words

__all__ = ["Sign", "SourceHabits", "habit", "signs", "source_habits", "truncated"]

Row = dict[str, Any]
AT_END = 12  # characters: "</span>.", the word after a tag
FIELDS = {"qa": ("context", "question", "answer"), "text": ("text",)}


class Sign(NamedTuple):
    """Evidence of one kind: row[field][start:end], and what it shows."""

    kind: str
    field: str
    start: int
    end: int
    detail: str


def signs(row: Row, habits: SourceHabits | None = None) -> list[Sign]:
    """All signs of a row. With the `habits` of its source also those of a cut that only they tell."""
    found: list[Sign] = []
    question = (row["question"] or "") if row["kind"] == "qa" else ""
    for field in FIELDS[row["kind"]]:
        text = row[field]
        if text:
            found += [Sign(kind, field, *span) for kind, span in _spans(text, field, question)]
    sign = None if any(_ends(one, row) for one in found) else truncated(row, habits)
    return [*found, sign] if sign else found


def _ends(sign: Sign, row: Row) -> bool:
    """Whether another sign tells why a row ends as it does: a refusal, a loop, a mail address or tag at its end."""
    if sign.field != field_of(row) or sign.kind in ("mojibake", "control_characters"):
        return False
    return sign.kind == "refusal" or sign.end >= len(row[sign.field].rstrip()) - AT_END


def truncated(row: Row, habits: SourceHabits | None = None) -> Sign | None:
    """Why a row's answer or text is cut off; None where it ends as it should, or nothing can be said."""
    span = find_cut(row, habits)
    return Sign("truncated", field_of(row), *span) if span else None


def _spans(text: str, field: str, question: str) -> Iterator[tuple[str, Span]]:
    words = cut_words(text)
    if loop := find_loop(text, words, told=field != "answer"):
        yield "repetition", loop
    if field in ("answer", "text") and (refusal := find_refusal(text, words, field == "text")):
        yield "refusal", refusal
    if mojibake := find_mojibake(text):
        yield "mojibake", mojibake
    odd = words.marks.strip(b"0")
    if (odd or not text.isascii()) and (control := find_control(text, field == "text")):
        yield "control_characters", control
    if odd:
        for span in find_markup(text, question):
            yield "markup", span
    for span in find_pii(text, words):
        yield "pii", span
    for span in find_secrets(text, words):
        yield "secret", span


# -- characters

_MORE_MOJIBAKE = re.compile(
    "[ÃÄÅ]…|\ufffd|锟斤拷|鈥|烫烫烫|(?:[РС][\u0400-\u045f°±²³µ¶·»«ё№]){4}|[\xc2-\xf4][\x80-\xbf]{1,2}(?<=[\x80-\x9f])"
)
_AROUND = [("“", "”"), ("‘", "’"), ("„", "“"), ("«", "»"), ("‹", "›")]
_LOST_APOSTROPHE = re.compile(
    r"\b(?:[A-Za-z]+n\?t|(?:[Ii]t|[Tt]hat|[Ww]hat|[Ww]ho|[Tt]here|[Hh]e|[Ss]he|[Ll]et)\?(?:s|ll|d)|I\?(?:m|ve|ll|d)|"
    r"(?:[Ww]e|[Yy]ou|[Tt]hey)\?(?:re|ve|ll|d))\b"
)
# All that the searches below find holds two characters beyond ASCII in a row, or one of these. Searching only there
# takes a tenth of the time: most such characters of a text are single quotation marks and dashes.
_SUSPECT = re.compile("[^\x00-\x7f]{2,}|[\x80-\x9fŒœÃÂ\ufffd鈥]")
# Quotation marks of Windows-1252 as control characters, where such marks stand.
_CP1252_IN_LATIN_1 = re.compile(
    "(?<=[a-z])\x92(?=(?:s|t|re|ve|ll|d|m)\\b)|(?<![^\\s(])\x93(?=\\w)|(?<=[\\w.,!?])\x94(?![^\\s.,;:!?)])"
)


def find_mojibake(text: str) -> Span | None:
    """UTF-8 that was read as another encoding (ftfy's rules), or letters that a conversion lost."""
    if text.isascii():
        inside = "?" in text and any(part[:1].isalpha() for part in text.split("?")[1:])
        if inside and (match := _LOST_APOSTROPHE.search(text)):
            return *match.span(), f"an apostrophe became a question mark: {match.group()!r}"
        return None
    places: set[tuple[int, int]] = set()
    suspects = [match.span() for match in _SUSPECT.finditer(text)]
    if sum(end - start for start, end in suspects) > len(text) / 4:
        suspects = [(0, len(text))]  # another script
    for first, last in suspects:
        start, end = max(0, first - 5), last + 9
        for pattern in (_MORE_MOJIBAKE, _CP1252_IN_LATIN_1, BADNESS_RE):
            places.update(
                match.span()
                for match in pattern.finditer(text, start, end)
                if match.start() <= last and not (pattern is BADNESS_RE and _is_none(text, match))
            )
    if not places:
        return None
    start, end = min(places)
    what = "characters lost to U+FFFD" if text[start:end] == "\ufffd" else "UTF-8 read as another encoding"
    return start, end, f"{what}: {text[max(0, start - 20) : end + 20]!r}, {len(places)} places"


def _is_none(text: str, match: re.Match[str]) -> bool:
    """Whether ftfy means a control character alone, which is another kind, or a letter that a text only names."""
    found = match.group()
    return (len(found) == 1 and "\x80" <= found <= "\x9f") or _is_named(text, match)


def _is_named(text: str, match: re.Match[str]) -> bool:
    """Whether an Ã or Â stands by itself, before a space or between marks: broken sequences go on."""
    found = match.group()
    letter = match.end() - 2
    if len(found) > 4 or text[letter : letter + 1] not in ("Ã", "Â"):
        return False
    before, after = text[letter - 1 : letter] if letter else "", found[-1]
    if after.isspace() and after != "\xa0":
        return not before.isalpha()  # "voilÃ " has lost its NO-BREAK SPACE
    return (before, after) in _AROUND


_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\ue000-\uf8ff\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_ASCII_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_JOINED = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af\u0f00-\u0fff\ufb50-\ufdff\ufe70-\ufefc]"
)
_EMOJI = re.compile("[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f]")
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u0f00-\u0fff\u3040-\u30ff\u3400-\u9fff]")
_NAMES = {
    "\x00": "NUL",
    "\x7f": "DELETE",
    "\x1b": "ESCAPE",
    "\x08": "BACKSPACE",
    "\x0c": "FORM FEED",
    "\x0b": "LINE TABULATION",
}


def find_control(text: str, is_text: bool = False) -> Span | None:
    """Characters that nobody sees and no text needs; joiners and marks of direction are right in their scripts."""
    if text.isascii() and not _ASCII_CONTROL.search(text):
        return None
    counts: Counter[str] = Counter()
    first = -1
    for match in _CONTROL.finditer(text):
        if not _has_business(text, match.start(), is_text):
            counts[match.group()] += 1
            first = match.start() if first < 0 else first
    if first < 0:
        return None
    named = ", ".join(f"U+{ord(sign):04X} {_name(sign)} ({count})" for sign, count in counts.most_common(5))
    return first, first + 1, named


def _name(sign: str) -> str:
    return (
        _NAMES.get(sign)
        or unicodedata.name(sign, "")
        or ("private use" if unicodedata.category(sign) == "Co" else "control")
    )


def _has_business(text: str, place: int, is_text: bool) -> bool:
    """Whether a control character stands where it has a use."""
    sign = text[place]
    before, after = text[max(0, place - 2) : place], text[place + 1 : place + 3]
    if sign == "\x0c":
        return is_text  # the page breaks of a book
    if sign in "\u200c\u200d":  # non-joiner and joiner
        return bool(
            _JOINED.search(before)
            or _JOINED.search(after)
            or (sign == "\u200d" and _EMOJI.search(before) and _EMOJI.search(after))
        )
    if sign in "\u200e\u200f\u061c\u202a\u202b\u202c\u2066\u2067\u2068\u2069":
        return bool(_RIGHT_TO_LEFT.search(text, max(0, place - 200), place + 200))
    if sign in "\u200b\u2060":
        return bool(_SPACELESS.search(before) or _SPACELESS.search(after))
    if "\U000e0020" <= sign <= "\U000e007f":
        return "\U0001f3f4" in text[max(0, place - 8) : place]  # flags of Scotland, Wales
    if "\x80" <= sign <= "\x9f":
        return (bool(before) and "\xc2" <= before[-1] <= "\xf4") or (
            len(before) > 1 and "\xe0" <= before[0] <= "\xf4"
        )  # mojibake
    return sign == "\xad" and before[-1:].isalpha() and after[:1].isalpha() and text.count("\xad") < 3
