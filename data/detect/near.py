"""Near duplicates: texts whose sets of word 3-grams have a Jaccard similarity of 0.8 or more.

    signatures of 2-grams -> rows that agree in one of 25 bands of 4 -> pairs that agree in 64 of 100 places
                          -> verified on the true sets

A changed word takes three 3-grams and two 2-grams with it, so a pair at 0.8 is at 0.8 or more in 2-grams too, and
shares a band with probability 1 - 2e-6. In a bucket of more than 1,000 rows a row is compared with the next 1,000 by
size, and a row of which 64 comparisons or more were in vain with no other, so that the work does not grow with the
square. That costs what is nearly alike all over: of 5,389 medical answers made from one form, where 15 s of comparing
link 879 rows, 64 each link 844 in 2 s. Fewer than 62,000 rows have more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from data.detect.sketch import NUM_HASHES, ngrams, sorted_buckets, word_hashes

NGRAM = 3
BAND = 4
JACCARD = 0.8
MIN_AGREEMENT = 64  # of 100 places: what a pair at 0.8 falls short of once in 30,000
BUCKET_REACH = 1000
COMPARED = 4_000_000  # pairs in vain, over all rows; of each row 64 at least, most similar first
CACHED = 16 << 20  # 3-grams, 8 bytes each
AT_ONCE = 512  # rows
SMALL = 256  # rows of a bucket whose pairs are looked at along with those of all small ones: 60 ns each, as in rows
PAIRS_AT_ONCE = 1 << 14
PAIRS_KEPT = 1 << 21  # of small buckets, 24 bytes each: a million rows in copies of a hundred have 50 million

Take = Callable[[list[int]], list[str]]


class Groups:
    """Union-find over rows; a group is known by its smallest member."""

    def __init__(self, number: int) -> None:
        self.parent = np.arange(number)

    def find(self, i: int) -> int:
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    def join(self, i: int, j: int) -> None:
        i, j = sorted((self.find(i), self.find(j)))
        self.parent[j] = i

    def labels(self) -> np.ndarray:
        """int64 (N,): each row's group."""
        parent = self.parent
        while not np.array_equal(parent, above := parent[parent]):
            parent = above
        return parent


class Shingles:
    """The 3-grams of rows, sorted uint64, made when they are asked for; as many as CACHED are kept."""

    def __init__(self, take: Take) -> None:
        self.take, self.known, self.size = take, dict[int, np.ndarray](), 0

    def load(self, rows: list[int]) -> None:
        """Make those of many rows at once."""
        if self.size > CACHED:
            self.known, self.size = {}, 0
        missing = [row for row in dict.fromkeys(rows) if row not in self.known]
        for start in range(0, len(missing), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            grams, offsets = ngrams(*word_hashes(self.take(part)), NGRAM)
            for i, row in enumerate(part):
                self.known[row] = np.unique(grams[offsets[i] : offsets[i + 1]])
                self.size += len(self.known[row])

    def of(self, row: int) -> np.ndarray:
        """One row's."""
        if row not in self.known:
            self.load([row])
        return self.known[row]


def near_duplicates(signature: np.ndarray, rows: np.ndarray, sizes: np.ndarray, take: Take) -> list[tuple[int, int]]:
    """Verified pairs among `rows` (ascending); not all of a cluster's pairs.

    signature: uint16 (N, NUM_HASHES). sizes: int (N,), each row's number of words. take: texts of rows.
    """
    rows = np.asarray(rows, np.int64)
    search = Search(signature, sizes, Groups(len(signature)), Shingles(take), max(64, COMPARED // max(1, len(rows))))
    for place in range(0, NUM_HASHES - BAND + 1, BAND):
        order, ends = sorted_buckets(signature, rows, place, BAND)
        lengths = np.diff(ends, prepend=0)
        for some, sizes_of in _small_buckets(order, lengths):
            pairs = _similar(search, some, sizes_of)
            for start in range(0, len(pairs), AT_ONCE):
                part = [(i, j) for i, j in pairs[start : start + AT_ONCE].tolist() if search.is_open(i, j)]
                search.shingles.load([row for pair in part for row in pair])
                for i, j in part:
                    search.compare(i, j)
        for end, length in zip(ends.tolist(), lengths.tolist(), strict=True):
            if length > SMALL:
                _large_bucket(search, order[end - length : end])
    return sorted(search.pairs)


@dataclass
class Search:
    """What is known of pairs so far."""

    signature: np.ndarray
    sizes: np.ndarray
    linked: Groups
    shingles: Shingles
    patience: int
    pairs: list[tuple[int, int]] = field(default_factory=list)
    refused: dict[int, set[int]] = field(default_factory=dict)  # row -> those others, while it has patience left
    failed: dict[int, int] = field(default_factory=dict)  # row -> how many others it was compared with in vain

    def is_open(self, i: int, j: int) -> bool:
        """Whether two rows are still to be compared."""
        if self.failed.get(i, 0) >= self.patience or j in self.refused.get(i, ()) or i in self.refused.get(j, ()):
            return False
        return self.linked.find(i) != self.linked.find(j)

    def compare(self, i: int, j: int) -> bool:
        """Whether two rows are linked now."""
        if not self.is_open(i, j):
            return self.linked.find(i) == self.linked.find(j)
        if similarity(self.shingles.of(i), self.shingles.of(j)) >= JACCARD:
            self.linked.join(i, j)
            self.pairs.append((min(i, j), max(i, j)))
            return True
        self.failed[i] = self.failed.get(i, 0) + 1
        if self.failed[i] < self.patience:
            self.refused.setdefault(i, set()).add(j)
        else:  # 64 pairs of each of a million rows would be 9 GB
            self.refused.pop(i, None)
        return False


def _small_buckets(order: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, lengths) of the buckets of up to SMALL rows: so many at a time that they have about PAIRS_KEPT pairs.

    order: rows, bucket after bucket. lengths: of the buckets.
    """
    small = lengths <= SMALL
    rows, lengths = order[np.repeat(small, lengths)], lengths[small]
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths * (lengths - 1) // 2) // PAIRS_KEPT)) + 1
    yield from zip(np.split(rows, np.cumsum(lengths)[cuts - 1]), np.split(lengths, cuts), strict=True)


def _similar(search: Search, order: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64 (P, 2): pairs of rows of one bucket that agree in enough places, most similar first."""
    labels = search.linked.labels()[order]
    parts = [np.zeros((0, 3), np.int64)]
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(order))  # rows of its bucket from each on
    for shift in range(1, int(lengths.max(initial=0))):
        at = np.flatnonzero(left > shift)
        at = at[labels[at] != labels[at + shift]]
        for start in range(0, len(at), PAIRS_AT_ONCE):
            i, j = order[at[start : start + PAIRS_AT_ONCE]], order[at[start : start + PAIRS_AT_ONCE] + shift]
            agreement = (search.signature[i] == search.signature[j]).sum(axis=1)
            near = agreement >= MIN_AGREEMENT
            parts.append(np.stack([-agreement, i, j], axis=1)[near])
    found = np.concatenate(parts)
    return found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))][:, 1:]


def _large_bucket(search: Search, bucket: np.ndarray) -> None:
    """Each row with those after it: in a bucket of more than BUCKET_REACH, with the next of its size."""
    if len(bucket) > BUCKET_REACH:
        bucket = bucket[np.argsort(search.sizes[bucket], kind="stable")]
    roots = np.array([search.linked.find(i) for i in bucket.tolist()])
    for k, i in enumerate(bucket.tolist()):
        if search.failed.get(i, 0) >= search.patience:
            continue
        for at in _candidates(k, bucket, roots, search.signature):
            if roots[at] != roots[k] and search.compare(i, int(bucket[at])):
                roots[(roots == roots[at]) | (roots == roots[k])] = search.linked.find(i)
            if search.failed.get(i, 0) >= search.patience:
                break


def _candidates(k: int, bucket: np.ndarray, roots: np.ndarray, signature: np.ndarray) -> list[int]:
    """Positions in a bucket after the k-th that may be similar to it and are not linked to it yet."""
    others = slice(k + 1, k + 1 + BUCKET_REACH)
    at = np.flatnonzero(roots[others] != roots[k]) + k + 1
    if not len(at):
        return []
    agreement = (signature[bucket[at]] == signature[bucket[k]]).sum(axis=1)
    return at[np.argsort(-agreement, kind="stable")[: int((agreement >= MIN_AGREEMENT).sum())]].tolist()


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard similarity of two sorted sets."""
    if min(len(a), len(b)) < JACCARD * max(len(a), len(b)):  # cannot reach it
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common) if len(a) + len(b) else 0.0
