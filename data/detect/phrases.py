"""Stock phrases (boilerplate.py) by name: which they are, where they stand, how many rows have each.

In: rows that hold one. Out: the commonest phrases. The audit names those of a corpus, the evaluation those of the
training split that it searches answers for.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from data.detect.boilerplate import Span, stock_spans
from data.detect.words import words

NAMED = 20  # phrases
SHOWN_ROWS = 2000  # whose phrases are counted; of more rows, each n-th, which stands for n


def shown(text: str) -> str:
    """A phrase as reports count it: its words."""
    return " ".join(words(text))


def counted(holders: Sequence[Any]) -> Sequence[Any]:
    """Of the rows that hold stock phrases those whose phrases are counted: all, or spread over all."""
    return holders[:: max(1, len(holders) // SHOWN_ROWS)]


def phrases_of(rows: Iterable[tuple[int, str, np.ndarray]], scale: float = 1.0) -> list[dict[str, Any]]:
    """The commonest stock phrases as clusters: the phrase, where it stands, how many rows have it, some of them.

    rows: number, text, keys that are stock in its source. scale: how many rows each of them stands for.
    """
    found: dict[tuple[str, str], list[int]] = {}
    texts: dict[tuple[str, str], str] = {}
    for number, text, stock in rows:
        for span in stock_spans(text, stock):
            key = (_where(text, span), shown(text[span.start : span.end]))
            if key[1]:
                found.setdefault(key, []).append(number)
                texts.setdefault(key, text[span.start : span.end].strip())
    largest = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))[:NAMED]
    return [
        {"count": round(len(of) * scale), "rows": of[:20], "text": texts[key], "where": key[0]} for key, of in largest
    ]


def _where(text: str, span: Span) -> str:
    if not text[: span.start].strip():
        return "opening"
    return "ending" if not text[span.end :].strip(" .!?\"'\n") else "sentence"
