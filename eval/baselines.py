"""What answers score that no model wrote: a model that is no better has learned nothing about the question.

  echo      the prompt again
  random    the answer of a training document drawn by seed, of the question's category where there is one
  nearest   the answer of the training document whose question is most like this one: the largest share of word n-grams
            (1 and 2 words) in common, |A and B| / |A or B|; the first in the corpus of several, and the random one
            where none has a word in common

In: questions, and a training split as a table or a corpus folder (pyarrow alone). Out: an answer a question, which
depends on no other question. For beginnings of texts, training texts are cut alike.

The corpus is streamed and the n-grams of the questions are indexed, not its own: memory grows with it by the 4 bytes of
a document's category alone. On one core 100,000 training questions of 15 words take 3 s for 50 questions, 8 s and
100 MB for 1,000; a million take 20 s for 50, and 7 MB above the table itself.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eval.keywords import words
from eval.questions import Question, prompt_text, question_of
from tokenizer.encode import read_corpus

BASELINES = ("echo", "random", "nearest")
COLUMNS = ["kind", "category", "text", "context", "question", "answer"]
SLICE = 4096  # documents at a time
CELLS = 1 << 21  # pairs of a document and a question that are compared at a time

Gram = str | tuple[str, str]


def baseline_answers(questions: Sequence[Question], corpus: Path | pa.Table, seed: int) -> dict[str, list[str]]:
    """Answers of each of BASELINES, one a question; empty texts where the training split has no documents."""
    kind, categories, codes = _categories(questions, corpus)
    drawn = [_draw(question, categories, codes, seed) for question in questions]
    drawn_answers: dict[int, str] = {-1: ""}
    wanted = set(drawn)
    nearest = [""] * len(questions)
    best = np.zeros(len(questions))
    index, num_grams = _index(questions)
    for first, asked, answers in _documents(corpus, kind, max(1, CELLS // max(1, len(questions)))):
        drawn_answers |= {row: answers[row - first] for row in wanted.intersection(range(first, first + len(asked)))}
        likeness = _likeness(asked, index, num_grams)
        found = likeness.max(axis=0)
        for number in np.flatnonzero(found > best):
            best[number] = found[number]
            nearest[number] = answers[int(likeness[:, number].argmax())]
    by_chance = [drawn_answers[row] for row in drawn]
    return {
        "echo": [prompt_text(question) for question in questions],
        "random": by_chance,
        "nearest": [near if share else other for near, other, share in zip(nearest, by_chance, best, strict=True)],
    }


# -- the training split


def _tables(corpus: Path | pa.Table, columns: list[str]) -> Iterator[pa.Table]:
    if isinstance(corpus, pa.Table):
        return (corpus.select(columns).slice(first, SLICE) for first in range(0, len(corpus), SLICE))
    return read_corpus(corpus, "train", columns)


def _categories(questions: Sequence[Question], corpus: Path | pa.Table) -> tuple[str, np.ndarray, dict[str, int]]:
    """The kind of documents that is compared (that of the questions, if there are any), and each one's category."""
    codes: dict[str, int] = {}
    found: dict[str, list[np.ndarray]] = {"qa": [], "text": []}
    for table in _tables(corpus, ["kind", "category"]):
        kinds = np.asarray(table["kind"].to_pylist())
        names = table["category"].to_pylist()
        numbers = [-1 if name is None else codes.setdefault(name, len(codes)) for name in names]
        for kind, parts in found.items():
            parts.append(np.asarray(numbers, dtype=np.int32)[kinds == kind])
    joined = {kind: np.concatenate([np.empty(0, dtype=np.int32), *parts]) for kind, parts in found.items()}
    kind = "text" if all(question.question is None for question in questions) else "qa"
    if not len(joined[kind]):
        kind = "qa" if kind == "text" else "text"
    return kind, joined[kind], codes


def _documents(corpus: Path | pa.Table, kind: str, at_a_time: int) -> Iterator[tuple[int, list[str], list[str]]]:
    """(number of the first, what was asked, answers) of a few documents of that kind at a time."""
    first = 0
    for table in _tables(corpus, COLUMNS):
        rows = [row for row in table.to_pylist() if row["kind"] == kind]
        for start in range(0, len(rows), at_a_time):
            pairs = [_pair(row) for row in rows[start : start + at_a_time]]
            yield first, [asked for asked, _ in pairs], [answer for _, answer in pairs]
            first += len(pairs)


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    question = question_of(row)
    if question is None:  # a text too short to be cut
        return "", row["text"] or ""
    return _asked(question), question.reference


def _asked(question: Question) -> str:
    return question.beginning or "" if question.question is None else question.question


# -- drawn by chance


def _draw(question: Question, categories: np.ndarray, codes: dict[str, int], seed: int) -> int:
    """Number of a document, -1 where there are none: seed and the question's words decide, whatever its line."""
    same = np.flatnonzero(categories == codes.get(question.category or "", -2))
    among = same if len(same) else np.arange(len(categories))
    if not len(among):
        return -1
    name = f"{seed}:{prompt_text(question)}".encode("utf-8", "surrogatepass")
    return int(among[int.from_bytes(hashlib.sha256(name).digest()[:8]) % len(among)])


# -- likest by n-grams


def _grams(text: str) -> set[Gram]:
    found = words(text)
    return {*found, *pairwise(found)}


def _index(questions: Sequence[Question]) -> tuple[dict[Gram, np.ndarray], np.ndarray]:
    """N-gram -> numbers of the questions that have it; and how many each question has, (Q,)."""
    grams = [_grams(_asked(question)) for question in questions]
    holders: defaultdict[Gram, list[int]] = defaultdict(list)
    for number, of_question in enumerate(grams):
        for gram in of_question:
            holders[gram].append(number)
    return {gram: np.asarray(numbers) for gram, numbers in holders.items()}, np.asarray([*map(len, grams)], dtype=float)


def _likeness(asked: list[str], index: dict[Gram, np.ndarray], num_grams: np.ndarray) -> np.ndarray:
    """Share of n-grams in common of each document with each question, float64 (R, Q)."""
    rows: defaultdict[Gram, list[int]] = defaultdict(list)
    sizes = np.empty(len(asked))
    for row, text in enumerate(asked):
        grams = _grams(text)
        sizes[row] = len(grams)
        for gram in grams:  # grams.intersection(index) would walk through the whole index
            if gram in index:
                rows[gram].append(row)
    common = np.zeros((len(asked), len(num_grams)), dtype=np.int32)
    for gram, of_documents in rows.items():  # each document and question once, so that no sum is lost
        common[np.asarray(of_documents)[:, None], index[gram]] += 1
    either = sizes[:, None] + num_grams - common
    return common / np.maximum(either, 1.0)
