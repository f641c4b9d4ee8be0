"""Which documents belong together: exact duplicates, and groups that must not stand on two sides of the split.

    facts of rows -> 1. exact duplicates out (`key`; the first by content stays)
                  -> 2. links: same `group` value | same question, context or answer | near duplicates
                  -> 3. groups: the connected components of the links (union-find)

Same field: at least 50 bytes long, and in no more rows than `shared_limit` allows; a stock phrase in thousands of rows
("true", one instruction for all) must not make one group of the corpus. Compared after NFC, case folding and with every
run of white space as one space, by a hash of 64 bits.
Near duplicates: Jaccard similarity of word 3-grams (question + answer, or the text) of at least 0.8
(data/detect/near.py).
Rows are numbers of a store, which follow content (data/store.py), so nothing depends on the order of files, or on
threads.
"""

from functools import partial

import numpy as np

from data.detect.near import Groups, near_duplicates
from data.facts import HASHED, compared_text
from data.store import Store


def first_copies(store: Store, rows: np.ndarray) -> np.ndarray:
    """int64 (N,): for each of `rows` (ascending), the first of them that is its exact duplicate, or itself."""
    _, first, inverse = np.unique(store.facts["key"][rows], return_index=True, return_inverse=True)
    return rows[first[inverse]]


def longest_copies(store: Store, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
    """int64 (N,): for each of `rows`, the longest of its cluster of near duplicates, of equals the first.

    near: int64 (N,), a label for each.
    """
    places = np.arange(len(rows))
    order = np.lexsort((places, -store.facts["n_bytes"][rows], near))
    begins = np.append(True, near[order][1:] != near[order][:-1])
    best = np.empty(len(rows), np.int64)
    best[order] = order[np.maximum.accumulate(np.where(begins, places, 0))]
    return rows[best]


def shared_limit(num_rows: int) -> int:
    """Most rows that a shared field may occur in to link them: 1%, but at least 20, and of few rows at most half.

    1% alone would link nothing in a corpus of less than 200 rows.
    """
    return max(num_rows // 100, min(20, num_rows // 2))


def group_documents(store: Store, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group `rows` (ascending). Returns (groups, near duplicates): int64 (N,), for each the first row that is in one
    with it."""
    groups = Groups(len(rows))
    limit = shared_limit(int((~store.facts["is_text"][rows]).sum()))
    for bit, name in enumerate(HASHED):
        long = store.facts["long"][rows] >> bit & 1
        _join_equal(groups, np.where(long, store.facts[name][rows], 0), limit)
    _join_equal(groups, store.facts["group"][rows], len(rows))
    near = Groups(len(rows))
    texts = partial(compared_texts, store)
    place = np.full(len(store), -1)
    place[rows] = np.arange(len(rows))
    for pair in near_duplicates(store.facts["signature"], rows, store.facts["num_words"], texts):
        i, j = place[list(pair)].tolist()
        near.join(i, j)
        groups.join(i, j)
    return rows[groups.labels()], rows[near.labels()]


def compared_texts(store: Store, rows: list[int]) -> list[str]:
    """What is judged when rows are compared, of each."""
    return [compared_text(row) for row in store.take(rows)]


def _join_equal(groups: Groups, keys: np.ndarray, limit: int) -> None:
    """Link the documents of each key that at most `limit` documents have; 0 is none."""
    order = np.argsort(keys, kind="stable")
    order = order[keys[order] != 0]
    begins = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])) if len(order) else order
    sizes = np.diff(np.append(begins, len(order)))
    shared = (sizes > 1) & (sizes <= limit)
    for begin, size in zip(begins[shared].tolist(), sizes[shared].tolist(), strict=True):
        members = order[begin : begin + size].tolist()
        for member in members[1:]:
            groups.join(members[0], member)
