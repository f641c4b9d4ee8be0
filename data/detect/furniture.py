"""What stands in a book's file and is not the book: licence pages, page numbers, running heads, marks of its makers.

In: a text. Out: spans of it, whole lines, with what each is. A page number is a line of a number alone that goes on
counting; a running head is a line that comes back page by page with a number that grows; only what licences and
digitisers say of themselves is known by its words.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

MIN_HEADS = 5  # of a line in capitals without a number: sailors of a chapter that is a play come back three times
MIN_PAGES = 3  # numbers that go on counting
COUNTED = 1 / 3  # of the numbers: among many at random some rise, too
HEAD_LINES = 20  # between heads without a number, at the least: speakers of a play come closer
PAGE_LINES = (8, 120)  # a page has so many lines, as the median of a book's
HEAD_CHARACTERS = 80
NOTICE_LINES = 400  # of a licence at the end of a file, at most

_NUMBER = re.compile(
    r"^[ \t\f*|~·•_()\[\]{}–—-]{0,40}(?:p(?:age|g|\.)?[ .]*)?([1-9]\d{0,3}|[ivxlc]{1,9})(?: ?(?:/|of) ?\d{1,4})?"
    r"[ \t\r\f*|~·•_().\[\]{}–—-]{0,40}$",
    re.I | re.M,
)
_INSIDE = re.compile(r"[\[({][ ]*(?:pg|page|p)\.?[ ]*(\d{1,4})[ ]*[\])}]", re.I)
# A printer's signature: which gathering of sheets a page begins, by letters, beside the volume's number.
_SIGNATURE = re.compile(r"^[ \t]*vol\.? ?[ivxlc]{1,6}\.?[ \t]{2,}[a-z]{1,2}\d?[ \t\r]*$", re.I | re.M)
_BARE = re.compile(
    r"(?<=\n\n)[ \t]*([^\W\d_a-z][^\n\da-z]{3,60})[ \t\r]*(?=\n\n)|(?<=\f)([^\W\d_a-z][^\n\da-z]{3,60})$", re.M
)
# Words and one number, at either end; signs of code and formulas are no part of a head.
_WORDS = r"[^\W\d_][\w'’.,:&; |—–-]{2,70}?"
_HEAD = re.compile(rf"^[ \f]*(?:(\d{{1,4}})[ \t|—–-]+{_WORDS}|{_WORDS}[ \t|—–-]+(\d{{1,4}}))[ \r]*$", re.M)
_DIGITS = re.compile(r"\d+")
_CHAPTER = re.compile(
    r"\s*(?:chapter|book|part|section|volume|canto|act|scene|letter|figure|table|stave|step|exercise|question)\b", re.I
)
_MARK = re.compile(r"^\W*(start|end) of (?:the |this )?project gutenberg", re.I)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


# What a line must hold (in small letters) to be looked at, and what it must say then.
_NOTICES: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    (
        "Project Gutenberg's notice",
        ("gutenberg", "pglaf"),
        _any(r"(?i:project gutenberg|gutenberg(?:-tm|\.org|\.net|™)|pglaf)"),
    ),
    (
        "who made the file",
        ("ed by ", "proofread", "transcriber", "digital copy"),
        _any(
            r"^\W*(?:This (?:e-?text|e-?book|file) was )?(?:Produced|Prepared|Transcribed|Scanned|Digiti[sz]ed|Typed"
            r"|Proof-?read|E-?text prepared)(?: and \w+)? by [A-Z\[(\"“].{3,}",
            r"Distributed Proofread|(?i:\bdigiti[sz]ed by\b|\bdigital copy of a book\b|\bscanned by\b)",
            r"^\W*(?i:transcriber['’]?s?['’]? notes?)\b(?:\W*$|:)",
        ),
    ),
    (
        "small print",
        ("small print", "for the use of anyone", "release date:", "[ebook", "[etext", "[e-text", "[e-book"),
        _any(
            r"(?i:\bsmall print\b)",
            r"(?i:\be-?(?:book|text)s? (?:is|are) for the use of anyone\b)",
            r"(?i:^\W*release date:)",
            r"(?i:\[e-?(?:text|book) ?#?\d+)",
        ),
    ),
    (
        "a licence",
        (
            "licensed under",
            "spdx-",
            "permission is",
            "redistribution",
            "rights reserved",
            "warrant",
            "be reproduced",
            "copyright",
            "©",
            "creative commons",
            "apache.org/licenses",
        ),
        _any(
            r"(?i:licensed under (?:the|a) |spdx-license-identifier|apache\.org/licenses)",
            r"(?i:permission is hereby granted|redistribution and use in source)",
            r"(?i:all rights reserved|without warrant(?:y|ies))",
            r"(?i:no part of this (?:publication|book) may be reproduced)",
            r"(?i:copyright (?:\(c\)|©|\d{4})|©\s*(?:copyright\s*)?\d{4}|creative commons attribution)",
        ),
    ),
    (
        "a picture's place",
        ("[illustration", "[ illustration", "[picture", "[image", "[plate", "[frontispiece"),
        _any(r"(?i:^\W*\[ ?(?:illustration|picture|image|plate|frontispiece)\b[^\]]*\]?\W*$)"),
    ),
    (
        "a printer's mark",
        ("printed ", "printers", "typeset", "point ", "blank page", "intentionally left blank"),
        _any(
            r"^\W*PRINTED (?:IN|BY|AT)\b.{3,}",
            r"^\W*Printed (?:in|by|at)(?: and bound (?:in|by))? [A-Z].{2,80}$",
            r"^\W*[A-Z][\w.&]*[ ,].{0,60}\b(?:[Pp]rinters|PRINTERS)\b.{0,60}$",
            r"(?i:^\W*(?:type)?set in\b.{0,60}\bpoint\b|^\W*typeset (?:in|by)\b)",
            r"(?i:^\W*\[?(?:blank page|this page (?:is )?intentionally left blank)\]?\W*$)",
        ),
    ),
)
NOTICE_CHARACTERS = 300  # of a line: an article of a line may speak of licences
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


class Line(NamedTuple):
    """A line of a text that is furniture: characters [start, end) with its line end."""

    start: int
    end: int
    detail: str


def furniture(text: str) -> list[Line]:
    """Lines that are none of the text's own, in order."""
    places = list(_lines(text))
    starts = [start for start, _ in places]

    def line_of(position: int) -> int:
        return bisect_right(starts, position) - 1

    found = {**_heads(text, line_of), **_numbers(text, line_of), **_notices(text, places, line_of)}
    return [Line(*places[at], detail) for at, detail in sorted(found.items())]


def without_furniture(text: str) -> str:
    """The text less those lines."""
    parts, end = [], 0
    for line in furniture(text):
        parts.append(text[end : line.start])
        end = line.end
    return "".join([*parts, text[end:]])


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield start, end
        start = end


def _value(number: str) -> int:
    if number.isdigit():
        return int(number)
    total, letters = 0, [_ROMAN[letter] for letter in number.lower()]
    for one, following in pairwise([*letters, 0]):
        total += -one if one < following else one
    return total


def _numbers(text: str, line_of: Callable[[int], int]) -> dict[int, str]:
    """Lines that are a number alone, where numbers go on counting at the distance of pages; marks like [Pg 12]."""
    alone = [(line_of(match.start(1)), _value(match[1])) for match in _NUMBER.finditer(text)]
    marked = [(line_of(match.start()), int(match[1])) for match in _INSIDE.finditer(text)]
    found = {at: f"page number {value}" for at, value in _counting(alone)}
    return found | {at: f"page mark {value}" for at, value in _counting(marked)}


def _counting(numbers: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of (line, number) that belong to a longest rising run with steps of 1 to 3; none where it is no paging."""
    ends: dict[int, tuple[int, int]] = {}  # number -> (length of the run that ends with it, index)
    before: list[int] = [-1] * len(numbers)
    length: list[int] = [1] * len(numbers)
    for i, (_, value) in enumerate(numbers):
        for step in (1, 2, 3):
            known = ends.get(value - step)
            if known and known[0] + 1 > length[i]:
                length[i], before[i] = known[0] + 1, known[1]
        if length[i] >= ends.get(value, (0, 0))[0]:
            ends[value] = (length[i], i)
    if not numbers or max(length) < max(MIN_PAGES, COUNTED * len(numbers)):
        return []
    i = length.index(max(length))
    run = []
    while i >= 0:
        run.append(numbers[i])
        i = before[i]
    run.reverse()
    gaps = sorted(b - a for (a, _), (b, _) in pairwise(run))
    middle = gaps[len(gaps) // 2]
    return run if PAGE_LINES[0] <= middle <= PAGE_LINES[1] else []


def _heads(text: str, line_of: Callable[[int], int]) -> dict[int, str]:
    """Short lines that come back with a number that grows page by page: one text on all pages, or one on the left and
    another on the right; lines in capitals alone that come back at the distance of pages; printers' signatures."""
    groups: dict[str, list[tuple[int, int]]] = {}
    found = {line_of(match.start()): "a printer's signature" for match in _SIGNATURE.finditer(text)}
    for match in _HEAD.finditer(text):
        if match[0].islower():  # "return 2" of code
            continue
        number = match[1] or match[2]
        rest = match[0].replace(number, "", 1) if match[1] else match[0].rstrip()[: -len(number)]
        head = " ".join(rest.casefold().split()).strip(" |—–-")
        if not _CHAPTER.fullmatch(head):  # "Chapter 7" has a number of its own; "Chapter VII  112" is a head
            groups.setdefault(head, []).append((line_of(match.end() - 1), int(number)))
    again = [head for head, numbers in groups.items() if len(numbers) > 1 or _CHAPTER.match(head)]
    sides = sorted(number for head in again for number in groups[head])
    numbered = [head for head in groups if not _CHAPTER.match(head) and len(groups[head]) >= MIN_PAGES]
    for numbers in (sides, *(groups[head] for head in numbered)):
        if len(numbers) >= MIN_PAGES:
            found |= {at: f"running head with page number {value}" for at, value in _counting(numbers)}
    bare: dict[str, list[int]] = {}
    for match in _BARE.finditer(text):
        head = " ".join((match[1] or match[2]).split())
        if not _CHAPTER.match(head):
            bare.setdefault(head, []).append(line_of(match.end() - 1))
    for head, lines in bare.items():
        gaps = sorted(b - a for a, b in pairwise(lines))
        if len(lines) >= MIN_HEADS and HEAD_LINES <= gaps[len(gaps) // 2] <= PAGE_LINES[1] and gaps[0] >= PAGE_LINES[0]:
            found |= dict.fromkeys(lines, f"running head {head!r}")
    return found


def _notices(text: str, places: list[tuple[int, int]], line_of: Callable[[int], int]) -> dict[int, str]:
    """Lines in which licences, digitisers and printers speak; between Gutenberg's marks and the file's ends, all."""
    found: dict[int, str] = {}
    small = text.lower()
    if len(small) != len(text):  # letters that are two when they are small: places would be others
        small = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    for detail, keys, pattern in _NOTICES:
        for key in keys:
            position = small.find(key)
            while position >= 0:
                at = line_of(position)
                start, end = places[at]
                if at not in found and end - start <= NOTICE_CHARACTERS and pattern.search(text[start:end].strip()):
                    found[at] = detail
                position = small.find(key, max(end, position + 1))
    for at in list(found):
        mark = _MARK.search(text[places[at][0] : places[at][1]].strip("* \r\n"))
        if mark and mark[1].lower() == "end" and len(places) - at <= NOTICE_LINES + len(places) // 20:
            found |= dict.fromkeys(range(at, len(places)), "Project Gutenberg's licence")
        elif mark and mark[1].lower() == "start" and at <= NOTICE_LINES:
            found |= dict.fromkeys(range(at + 1), "Project Gutenberg's header")
    return found
