"""What an n-gram model makes of held-out documents: counted in seconds, and what a network has to beat.

In: tokens of the training split and of documents to judge. Out: the same `DocumentLosses` as a model's, so that both
are summed up alike. Interpolated Kneser-Ney with three discounts an order (Chen and Goodman, 1998):

  p(w | context) = (count - discount) / total + what the discounts left x p(w | context without its first token)

Counts of the longest order are occurrences, of shorter ones the number of different tokens seen in front. Contexts end
at their document's bos. N-grams are 64-bit hashes in sorted arrays: no Python object per n-gram, and among 2 million of
them two are equal by chance once in nine million corpora.
"""

from typing import NamedTuple

import numpy as np

from data.tokens import Tokens
from eval.losses import DocumentLosses, content_bytes, document_roles, summary
from tokenizer.template import ROLE_NAMES

ORDER = 5
MOST_TOKENS = 2_000_000  # of the training split: 0.3 GB and 4 s on one thread
PIECE = 4096
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


class Order(NamedTuple):
    """Counts of all n-grams of one length."""

    grams: np.ndarray  # uint64, sorted
    shares: np.ndarray  # float64: (count - discount) / total of its context
    contexts: np.ndarray  # uint64, sorted
    left: np.ndarray  # float64: what the discounts of a context's n-grams left for shorter contexts


def ngram_bits_per_byte(train: Tokens, held_out: Tokens, vocab_size: int) -> float:
    """Bits per byte of all documents of `held_out`: `ngram_losses` in one figure."""
    return float(summary(ngram_losses(train, held_out, vocab_size))["bits_per_byte"])


def counted(train: Tokens) -> str:
    """What the model of a training split was counted on, in words."""
    sampled = int(train.lengths.sum()) > MOST_TOKENS
    return f"{MOST_TOKENS:,} tokens of the training split" if sampled else "the training split"


def ngram_losses(train: Tokens, held_out: Tokens, vocab_size: int, order: int = ORDER) -> DocumentLosses:
    """Losses of every document of `held_out` under an n-gram model of `train` (of MOST_TOKENS of it, evenly chosen)."""
    orders = count(*some_tokens(train, MOST_TOKENS), order)
    nats = np.zeros((len(held_out), len(ROLE_NAMES)))
    counts = np.zeros((len(held_out), len(ROLE_NAMES)), dtype=np.int64)
    role_of = document_roles(held_out)
    ends = np.cumsum(held_out.lengths)
    first = 0
    while first < len(held_out):  # some documents at a time, at least one
        last = max(first + 1, int(np.searchsorted(ends, ends[first] - held_out.lengths[first] + MOST_TOKENS)))
        places = _places(held_out.offsets[first:last], held_out.lengths[first:last])
        ids, depth = held_out.ids[places].astype(np.uint64), _depth(held_out.lengths[first:last])
        targets = depth > 0
        p = np.full(int(targets.sum()), 1 / vocab_size)
        for n, counted in enumerate(reversed(orders), 1):
            contexts = context_keys(ids, depth, n - 1)[targets]
            seen = _look_up(counted.grams, counted.shares, _join(contexts, ids[targets]), 0.0)
            p = seen + p * _look_up(counted.contexts, counted.left, contexts, 1.0)
        owner = np.repeat(np.arange(first, last), held_out.lengths[first:last])[targets]
        np.add.at(nats, (owner, role_of[places][targets]), -np.log(p))
        np.add.at(counts, (owner, role_of[places][targets]), 1)
        first = last
    return DocumentLosses(nats, counts, content_bytes(held_out))


def count(ids: np.ndarray, depth: np.ndarray, order: int) -> list[Order]:
    """Counts of documents in a row, the longest order first. depth: each token's place in its document, 0 is given."""
    places = np.flatnonzero(depth > 0)  # whose n-grams are counted: all targets, then one place of each longer n-gram
    orders = []
    for n in range(order, 0, -1):
        contexts = context_keys(ids, depth, n - 1)[places]
        grams, first, counts = np.unique(_join(contexts, ids[places]), return_index=True, return_counts=True)
        places, contexts = places[first], contexts[first]
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        found, of = np.unique(contexts, return_inverse=True)
        totals = np.bincount(of, counts)
        orders.append(Order(grams, (counts - discounts) / totals[of], found, np.bincount(of, discounts) / totals))
    return orders


def some_tokens(tokens: Tokens, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` tokens (uint64), from documents all over the split, and each one's place in its document (int64).

    Of a split that is larger, pieces of documents are drawn: a long one is in pieces of PIECE tokens, whose first token
    is context only.
    """
    starts, lengths = tokens.offsets, tokens.lengths
    if lengths.sum() > most:
        pieces = -(-lengths // PIECE)
        first = PIECE * _depth(pieces)
        starts, lengths = np.repeat(starts, pieces) + first, np.minimum(np.repeat(lengths, pieces) - first, PIECE)
        drawn = np.random.default_rng(0).permutation(len(lengths))
        drawn = np.sort(drawn[np.cumsum(lengths[drawn]) <= most])
        starts, lengths = starts[drawn], lengths[drawn]
    return tokens.ids[_places(starts, lengths)].astype(np.uint64), _depth(lengths)


def context_keys(ids: np.ndarray, depth: np.ndarray, length: int) -> np.ndarray:
    """A hash of the `length` tokens in front of each, or of as many as its document has there, uint64."""
    keys = np.zeros(len(ids), dtype=np.uint64)
    for back in range(1, length + 1):
        before = np.concatenate([np.zeros(min(back, len(ids)), dtype=np.uint64), ids[:-back] + np.uint64(1)])
        keys = _join(keys, np.where(depth >= back, before, 0))
    return keys


def _join(keys: np.ndarray, ids: np.ndarray) -> np.ndarray:
    mixed = (keys ^ (keys >> np.uint64(29))) * _MIX + ids + np.uint64(1)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return mixed ^ (mixed >> np.uint64(29))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from n-grams seen 0, 1, 2 and more often."""
    n1, n2, n3, n4 = (max(1, int((counts == k).sum())) for k in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    raw = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(raw, [0.0, 0.1, 0.1, 0.1], [0.0, 0.95, 1.9, 2.9])


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, otherwise: float) -> np.ndarray:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], otherwise)


def _places(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where runs of tokens stand in the flat ids, run by run."""
    return np.repeat(starts, lengths) + _depth(lengths)


def _depth(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... in each of several runs."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
