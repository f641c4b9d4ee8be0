"""How much of each held-out document stands in a training split: the share of its 13-grams of words, exact and bounded.

    documents -> 13-grams of their words (data/detect/sketch.py) -> sorted hashes
    training split, streamed -> its 13-grams -> in how many of its documents each of those hashes stands

Words are compared case-folded and without punctuation. 13 words in a row are seldom equal by chance, but for phrases
that a corpus repeats (templates): one that stands in more than a few training documents is what text of this kind looks
like, and does not count, neither as known nor as new. A document is known from half of its other 13-grams on.

Share of the test documents that eight corpora's own training splits know so, though no two of a group are on both
sides: none of word problems, trivia, instructions, novels and a small set of questions; 2.1% of medical answers (21%
where common phrases count), 4.5% of code instructions, 2.8% of Python's documentation: near copies of an answer, under
another question.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.clean import normal
from data.detect.sketch import ngrams, word_hashes
from tokenizer.encode import read_corpus

NGRAM = 13
KNOWN = 0.5  # share of a document's 13-grams
LEAST = 13  # 13-grams that must be left: one new word in a template makes 13 of them
COMMON = 0.005  # share of the training documents: what stands in more of them is a common phrase
FEWEST_COMMON, MOST_COMMON = 3, 30  # documents: in so few it is none, in more it is one, however many there are
COLUMNS = ["text", "question", "answer"]


def overlap_shares(table: pa.Table, corpus: Path) -> np.ndarray:
    """Share of each document's distinct 13-grams, but for common phrases, that stand in the corpus' training split,
    float64 (N,); 0 where fewer than LEAST of many are left, and for fewer words.

    Memory: 24 bytes a 13-gram of `table`, and what a batch of the split takes.
    """
    grams, offsets = _grams(table.select(COLUMNS).to_pylist())
    wanted = np.unique(grams)
    holders = np.zeros(len(wanted), np.int64)
    num_documents = 0
    if len(wanted):
        for batch in read_corpus(corpus, "train", columns=COLUMNS):
            found, starts = _grams(batch.to_pylist())
            document = np.repeat(np.arange(len(batch)), np.diff(starts))
            at = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
            hit = wanted[at] == found
            once = np.unique(document[hit] * len(wanted) + at[hit])
            np.add.at(holders, once % len(wanted), 1)
            num_documents += len(batch)
    common = holders > np.clip(COMMON * num_documents, FEWEST_COMMON, MOST_COMMON)
    shares = np.zeros(len(table))
    for i in np.flatnonzero(np.diff(offsets)).tolist():
        own = np.searchsorted(wanted, np.unique(grams[offsets[i] : offsets[i + 1]]))
        rest = own[~common[own]]
        if len(rest) >= min(LEAST, len(own)):
            shares[i] = (holders[rest] > 0).mean()
    return shares


def known_questions(asked: Sequence[tuple[str | None, str, str]], corpus: Path) -> np.ndarray:
    """Which of (context, question, reference) the corpus' training split asks word for word (case and white space
    aside), or holds half of the 13-grams of: bool (N,)."""
    rows = [{"text": None, "question": question, "answer": reference} for _, question, reference in asked]
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    known = overlap_shares(pa.Table.from_pylist(rows, schema=schema), corpus) >= KNOWN
    at: dict[tuple[str, str], list[int]] = {}
    for i, (context, question, _) in enumerate(asked):
        at.setdefault(_asked(context, question), []).append(i)
    for batch in read_corpus(corpus, "train", columns=["context", "question"]):
        for context, question in zip(*(batch[name].to_pylist() for name in ("context", "question")), strict=True):
            if question is not None:
                known[at.get(_asked(context, question), [])] = True
    return known


def _asked(context: str | None, question: str) -> tuple[str, str]:
    return normal(context or "").casefold(), normal(question).casefold()


def _grams(rows: Iterable[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of the 13-grams of each row's text, or of its question and answer together."""
    texts = [row["text"] if row["text"] is not None else f"{row['question']}\n{row['answer']}" for row in rows]
    hashes, offsets = word_hashes(texts)
    grams, starts = ngrams(hashes, offsets, NGRAM)
    long = np.diff(offsets) >= NGRAM  # a shorter text has one gram of all its words there
    lengths = np.where(long, np.diff(starts), 0)
    return grams[np.repeat(long, np.diff(starts))], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
