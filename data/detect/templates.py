"""Templates: rows whose texts are one text with other words filled in.

    signatures of word 2-grams -> candidates (rows that agree in a band) -> pairs of which both fields share 60% of
    their words in order (longest common subsequence) -> clusters -> the skeleton that all members of a cluster share

A row is a template's only when each of its fields keeps the skeleton: question and answer, or the text. 5 rows or more,
of whose words the skeleton holds 60% or more in each field; an answer whose skeleton has fewer than 4 words ("yes", a
year) says nothing. Templated questions with answers of their own are information, and are no clusters here.

Two rows of a template with 60% fixed words share 20% of their 2-grams or more where slots come singly, natural rows of
one source 1 to 4%: pairs that agree in fewer than 12 of 100 places of their signatures are not looked at.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data.detect.sketch import NUM_HASHES, buckets
from data.detect.words import words

MIN_ROWS = 5
FIXED_SHARE = 0.6
MIN_FIXED = 4  # words of an answer's or a text's skeleton
MIN_AGREEMENT = 12
BAND = 2
BUCKET = 256
ROUNDS = 16  # rows of a bucket that others are compared with
FAILURES = 8  # in a row, most similar first: then the rest are none either
PATIENCE = 16
MOST_WORDS = 2000  # of a row: a chapter is no template, and two would take seconds to align

Fields = list[list[str]]  # of one row: the words of each field


@dataclass
class Template:
    """Rows of one template, and the words that all of them share in order, a list for each field."""

    rows: list[int]
    skeleton: Fields


def find_templates(
    signature: np.ndarray, rows: np.ndarray, take: Callable[[list[int]], list[tuple[str, ...]]]
) -> list[Template]:
    """Templates among `rows` (ascending), largest first.

    signature: uint16 (N, NUM_HASHES), of each row's 2-grams. take: the texts of rows, a tuple of fields each.
    """
    linked = _link(signature, rows, take)
    members: dict[int, list[int]] = {}
    for row, root in linked.items():
        members.setdefault(root, []).append(row)
    found: list[Template] = []
    for cluster in members.values():
        if len(cluster) >= MIN_ROWS:
            cluster.sort()
            found += _refine(cluster, [row_fields(texts) for texts in take(cluster)])
    return sorted(found, key=lambda template: (-len(template.rows), template.rows))


def row_fields(texts: tuple[str, ...]) -> Fields:
    """The words of each field of a row."""
    return [words(text) for text in texts]


def _link(
    signature: np.ndarray, rows: np.ndarray, take: Callable[[list[int]], list[tuple[str, ...]]]
) -> dict[int, int]:
    """Row -> a number of its cluster, for rows that share enough with another one."""
    root: dict[int, int] = {}
    known: dict[int, Fields] = {}

    def find(row: int) -> int:
        while root.setdefault(row, row) != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    refused: set[tuple[int, int]] = set()
    failed: dict[int, int] = {}  # row -> how many others it was compared with in vain
    for band in range(NUM_HASHES // BAND):
        for bucket in _small(buckets(signature, rows, band * BAND, BAND), signature, band * BAND + BAND):
            left = bucket
            for _ in range(ROUNDS):
                left = left[[failed.get(row, 0) < PATIENCE for row in left.tolist()]]
                if len(left) < 2:
                    break
                first, left = int(left[0]), left[1:]
                agreement = (signature[left] == signature[first]).sum(axis=1)
                order = np.argsort(-agreement, kind="stable")[: int((agreement >= MIN_AGREEMENT).sum())]
                failures = 0
                for row in left[order].tolist():
                    if find(row) == find(first) or (first, row) in refused:
                        continue
                    asked = [one for one in (first, row) if one not in known]
                    known.update(zip(asked, map(row_fields, take(asked)), strict=True))
                    if alike(known[first], known[row]):
                        root[find(row)] = find(first)
                        failures = 0
                        continue
                    refused.add((first, row))
                    failed[first] = failed.get(first, 0) + 1
                    failures += 1
                    if failures == FAILURES:
                        break
                left = left[[find(row) != find(first) for row in left.tolist()]]
    return {row: find(row) for row in root}


def _small(found: Iterable[np.ndarray], signature: np.ndarray, place: int) -> Iterator[np.ndarray]:
    """Buckets of at most BUCKET rows: larger ones fall apart by the next places of the signature.

    An instruction that all rows bear puts all into one bucket. Rows whose signatures are equal stay together.
    """
    for bucket in found:
        if len(bucket) <= BUCKET or place >= NUM_HASHES + BAND:
            yield bucket
        else:
            yield from _small(buckets(signature, bucket, place % NUM_HASHES, 1), signature, place + 1)


def alike(a: Fields, b: Fields) -> bool:
    """Whether each field of two rows shares 60% of the longer one's words, in order."""
    return _shared(a, b, [0] * len(a)) is not None


def _shared(a: Fields, b: Fields, longest: list[int]) -> Fields | None:
    """The words that two rows share in order, a list for each field; None where that is less than 60% of the words of
    one of them, or of `longest`, in one field."""
    found: Fields = []
    for one, other, most in zip(a, b, longest, strict=True):
        least = FIXED_SHARE * max(len(one) if not most else 0, len(other), most)
        if least > MOST_WORDS or min(len(one), len(other)) < least:
            return None
        if one != other:
            inside = set(other)  # no more than the words that both have: a twentieth of the work of alignment
            if sum(map(inside.__contains__, one)) < least:
                return None
            one = common(one, other)
            if len(one) < least:
                return None
        found.append(one)
    return found


def _refine(rows: list[int], fields: list[Fields]) -> list[Template]:
    """Clusters in which one skeleton is enough of every member: rows in order join as long as it stays so."""
    found: list[Template] = []
    left = list(range(len(rows)))
    while len(left) >= MIN_ROWS:
        skeleton, longest = fields[left[0]], [len(field) for field in fields[left[0]]]
        inside, outside = [left[0]], []
        for i in left[1:]:
            shared = _shared(skeleton, fields[i], longest)
            if shared is None:
                outside.append(i)
            else:
                skeleton, longest = shared, [max(most, len(f)) for most, f in zip(longest, fields[i], strict=True)]
                inside.append(i)
        if len(inside) >= MIN_ROWS and len(skeleton[-1]) >= MIN_FIXED:
            found.append(Template([rows[i] for i in inside], skeleton))
        left = outside
    return found


def common(a: list[str], b: list[str]) -> list[str]:
    """The longest common subsequence of two lists of words.

    What they begin and end with in common is part of one. Between, a row of the usual table is one integer with a bit a
    word of `a` (Hyyrö 2004): len(b) steps on len(a) bits.
    """
    start, end = 0, min(len(a), len(b))
    while start < end and a[start] == b[start]:
        start += 1
    tail = 0
    while tail < end - start and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    middle, other = a[start : len(a) - tail], b[start : len(b) - tail]
    at: dict[str, int] = {}
    for i, word in enumerate(middle):
        at[word] = at.get(word, 0) | 1 << i
    row = full = (1 << len(middle)) - 1
    table = [full]  # a bit is 0 where the subsequence grows
    for word in other:
        if matches := row & at.get(word, 0):
            row = ((row + matches) | (row - matches)) & full
        table.append(row)
    found: list[str] = []
    i, j = len(middle) - 1, len(other)
    while i >= 0 and j > 0:
        if table[j] >> i & 1:
            i -= 1
        elif not table[j - 1] >> i & 1:
            j -= 1
        else:
            found.append(middle[i])
            i, j = i - 1, j - 1
    return a[:start] + found[::-1] + a[len(a) - tail :]


class Skeletons:
    """Skeletons that other rows are held against, found by the rarest of their words."""

    def __init__(self, skeletons: list[Fields]) -> None:
        counts = Counter(word for skeleton in skeletons for words in skeleton for word in set(words))
        self._of: dict[str, list[Fields]] = {}
        for skeleton in skeletons:
            rarest = min({word for words in skeleton for word in words}, key=lambda word: (counts[word], word))
            self._of.setdefault(rarest, []).append(skeleton)

    def match(self, fields: Fields) -> Fields | None:
        """A skeleton that the row has: all of its words in order, 60% or more of the row's, in each field."""
        for word in sorted({word for field in fields for word in field} & self._of.keys()):
            for skeleton in self._of[word]:
                if len(skeleton) == len(fields) and all(map(_holds, skeleton, fields)):
                    return skeleton
        return None


def _holds(skeleton: list[str], field: list[str]) -> bool:
    if not FIXED_SHARE * len(field) <= len(skeleton) <= len(field):
        return False
    words_left = iter(field)
    return all(word in words_left for word in skeleton)
