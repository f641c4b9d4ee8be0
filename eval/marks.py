"""An answer in pieces for the page: its keywords, what stands word for word in the training text, stock phrases."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from eval.keywords import cut as cut_keywords
from eval.keywords import fold, holds, same_word, words

KINDS = ("verbatim", "stock", "keyword")
_WORD = re.compile(r"[^\W_]+")
_PLAIN = re.compile(r"[A-Za-z0-9\s]+")


def pieces(text: str, said: dict[str, Any]) -> list[tuple[str, str]]:
    """(piece, kinds): together the text; kinds as names of CSS classes, "" for plain text.

    said: an answer as compare has it: "verbatim" {"spans", "stock_spans"} or null, "scores" {"keywords_found"}.
    """
    own = said.get("verbatim") or {}
    flags = [0] * len(text)
    keyword_spans = found_spans(text, said["scores"]["keywords_found"])
    for bit, spans in enumerate((own.get("spans", ()), own.get("stock_spans", ()), keyword_spans)):
        for start, end in spans:
            for at in range(start, min(end, len(text))):
                flags[at] |= 1 << bit
    found, start = [], 0
    for flag, of in groupby(flags):
        end = start + len(list(of))
        found.append((text[start:end], " ".join(kind for bit, kind in enumerate(KINDS) if flag >> bit & 1)))
        start = end
    return found


def found_spans(text: str, keywords: Iterable[str]) -> list[tuple[int, int]]:
    """Where the words of keywords that an answer holds stand in it, as [start, end) of whole keywords where they are
    words alone; of one with signs, or of a script without spaces, wherever it stands as it is."""
    places = [match.span() for match in _WORD.finditer(text)]
    folded = [fold(text[start:end]) for start, end in places]
    found = []
    for keyword in keywords:
        wanted = words(keyword)
        spans = _runs(folded, places, wanted)
        spans = [(a, b) for a, b in spans if holds(cut_keywords(text[a:b]), keyword)]
        if not spans and not _PLAIN.fullmatch(keyword):
            spans = [match.span() for match in re.finditer(re.escape(keyword), text, re.I)]
        found += spans
    return found


def _runs(folded: Sequence[str], places: Sequence[tuple[int, int]], wanted: Sequence[str]) -> list[tuple[int, int]]:
    number = len(wanted)
    return [
        (places[at][0], places[at + number - 1][1])
        for at in range(len(folded) - number + 1)
        if number and all(map(same_word, folded[at : at + number], wanted))
    ]
