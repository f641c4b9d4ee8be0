"""Contamination: a question of one source that stands in another one's texts.

    questions -> 13-grams of their words (of 8 to 12 words: all their 8-grams) -> sorted keys with the row they are from
    texts     -> the same n-grams -> rows that hold a question of another source

Words are compared case-folded and without punctuation, so neither changes anything. A text holds a question of 13 words
or more when it has one of its 13-grams; a shorter one when it has all of its 8-grams. Fewer than 8 words ("what is a
qubit") stand in many texts by chance and are not looked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data.columns import Row
from data.detect.sketch import ngrams, word_hashes

LONG, SHORT = 13, 8
MOST_SHORT = 64  # questions of one source and 8-gram


@dataclass(frozen=True)
class Grams:
    """n-grams of questions: sorted keys, and of which source and row each is."""

    n: int
    keys: np.ndarray
    sources: np.ndarray
    rows: np.ndarray
    filter: np.ndarray  # bool (2^22,) by a key's upper bits: few n-grams of texts pass and are looked up


@dataclass(frozen=True)
class Questions:
    """What is looked for; `needed`: how many 8-grams each short question has."""

    names: list[str]
    long: Grams
    short: Grams
    needed: dict[int, int]


def index_questions(batches: Iterable[tuple[list[int], list[str], list[str]]], names: list[str]) -> Questions | None:
    """Of batches of (row numbers, names of sources, questions); None: nothing to look for."""
    parts: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {LONG: [], SHORT: []}
    needed: dict[int, int] = {}
    at = {name: i for i, name in enumerate(names)}
    for rows, sources, questions in batches:
        hashes, offsets = word_hashes(questions)
        lengths = np.diff(offsets)
        of_source = np.array([at[name] for name in sources], np.uint16)
        numbers = np.array(rows, np.int64)
        for n, wanted in ((LONG, lengths >= LONG), (SHORT, (lengths >= SHORT) & (lengths < LONG))):
            grams, starts = ngrams(hashes, offsets, n)
            owner = np.repeat(np.arange(len(rows)), np.diff(starts))
            chosen = wanted[owner]
            parts[n].append((grams[chosen], of_source[owner[chosen]], numbers[owner[chosen]]))
            if n == SHORT:
                for i in np.flatnonzero(wanted).tolist():
                    needed[rows[i]] = len(np.unique(grams[starts[i] : starts[i + 1]]))
    long, short = (_grams(n, parts[n]) for n in (LONG, SHORT))
    return Questions(names, long, short, needed) if len(long.keys) or len(short.keys) else None


def _grams(n: int, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Grams:
    """Of an n-gram that thousands of a source's questions have, some will do: the first, of short questions 64."""
    if not parts:
        parts = [(np.zeros(0, np.uint64), np.zeros(0, np.uint16), np.zeros(0, np.int64))]
    keys, sources, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((rows, sources, keys))
    keys, sources, rows = keys[order], sources[order], rows[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = (keys[1:] != keys[:-1]) | (sources[1:] != sources[:-1])
    place = np.arange(len(keys))
    enough = place - np.maximum.accumulate(np.where(begins, place, 0)) < (1 if n == LONG else MOST_SHORT)
    order = np.flatnonzero(enough)[np.lexsort((rows[enough], keys[enough]))]
    keys, sources, rows = keys[order], sources[order], rows[order]
    known = np.zeros(1 << 22, bool)
    known[keys >> np.uint64(42)] = True
    return Grams(n, keys, sources, rows, known)


def held_questions(questions: Questions, sources: list[str], rows: list[Row]) -> Iterator[tuple[int, tuple[int, str]]]:
    """(position, (row of the question, its source)) of rows that hold a question of another source, the first each."""
    at = {name: i for i, name in enumerate(questions.names)}
    own = np.array([at.get(name, -1) for name in sources])
    texts = ["\n".join(row[name] for name in ("context", "text", "question", "answer") if row[name]) for row in rows]
    hashes, offsets = word_hashes(texts)
    found: dict[int, tuple[int, str]] = {}
    for grams in (questions.long, questions.short):
        if not len(grams.keys):
            continue
        keys, starts = ngrams(hashes, offsets, grams.n)
        owner = np.repeat(np.arange(len(rows)), np.diff(starts))
        maybe = np.flatnonzero(grams.filter[keys >> np.uint64(42)])
        low = np.searchsorted(grams.keys, keys[maybe])
        high = np.searchsorted(grams.keys, keys[maybe], side="right")
        held: dict[tuple[int, int], set[int]] = {}
        for gram, start, end in zip(maybe[high > low], low[high > low], high[high > low], strict=True):
            position = int(owner[gram])
            for k in range(start, end):
                if grams.sources[k] == own[position]:
                    continue
                row = int(grams.rows[k])
                if grams.n == LONG:
                    found.setdefault(position, (row, questions.names[grams.sources[k]]))
                    break
                seen = held.setdefault((position, row), set())
                seen.add(int(keys[gram]))
                if len(seen) >= questions.needed[row]:
                    found.setdefault(position, (row, questions.names[grams.sources[k]]))
    yield from sorted(found.items())
