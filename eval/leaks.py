"""How much of each held-out document stands in a training split: the share of its 13-grams of words, exact and bounded.

    documents -> 13-grams of their words (data/detect/sketch.py) -> sorted hashes
    training split, streamed -> its 13-grams -> which of those hashes it has

Words are compared case-folded and without punctuation. 13 words in a row are seldom equal by chance, but for phrases
that a corpus repeats: so a document counts as known from half of its 13-grams on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.detect.sketch import ngrams, word_hashes
from tokenizer.encode import read_corpus

NGRAM = 13
KNOWN = 0.5  # share of a document's 13-grams
COLUMNS = ["text", "question", "answer"]


def overlap_shares(table: pa.Table, corpus: Path) -> np.ndarray:
    """Share of each document's distinct 13-grams that the corpus' training split has, float64 (N,); 0 for fewer words.

    Memory: 8 bytes a 13-gram of `table`, and what a batch of the split takes.
    """
    grams, offsets = _grams(table.select(COLUMNS).to_pylist())
    wanted = np.unique(grams)
    seen = np.zeros(len(wanted), bool)
    if len(wanted):
        for batch in read_corpus(corpus, "train", columns=COLUMNS):
            found, _ = _grams(batch.to_pylist())
            at = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
            seen[at[wanted[at] == found]] = True
    shares = np.zeros(len(table))
    for i in np.flatnonzero(np.diff(offsets)).tolist():
        own = np.unique(grams[offsets[i] : offsets[i + 1]])
        shares[i] = seen[np.searchsorted(wanted, own)].mean()
    return shares


def _grams(rows: Iterable[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of the 13-grams of each row's text, or of its question and answer together."""
    texts = [row["text"] if row["text"] is not None else f"{row['question']}\n{row['answer']}" for row in rows]
    hashes, offsets = word_hashes(texts)
    grams, starts = ngrams(hashes, offsets, NGRAM)
    long = np.diff(offsets) >= NGRAM  # a shorter text has one gram of all its words there
    lengths = np.where(long, np.diff(starts), 0)
    return grams[np.repeat(long, np.diff(starts))], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
