"""Templates: rows whose texts are one text with other words filled in.

    signatures of word 2-grams -> candidates (rows that agree in a band) -> pairs of which both fields share 60% of
    their words in order (longest common subsequence) -> clusters -> the skeleton that all members of a cluster share

A row is a template's only when each of its fields keeps the skeleton: question and answer, or the text. 5 rows or more,
of whose words the skeleton holds 60% or more in each field; an answer whose skeleton has fewer than 4 words ("yes", a
year) says nothing. Templated questions with answers of their own are information, and are no clusters here.

In a cluster of more than 6,000 rows that are alike in turns, as overlapping pieces of a text are, as many rows are
tried as take 40 million comparisons in vain: of 20,000 rows 2,000, so a template of 50 rows is missed once in 150.

Two rows of a template with 60% fixed words share 20% of their 2-grams or more where slots come singly, natural rows of
one source 1 to 4%: pairs that agree in fewer than 12 of 100 places of their signatures are not looked at, nor are those
whose questions or whose answers have few words in common (rows that share a stock ending, and nothing else).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from sys import intern

import numpy as np

from data.detect.near import Groups
from data.detect.sketch import FORM, NUM_HASHES
from data.detect.words import words

MIN_ROWS = 5
FIXED_SHARE = 0.6
MIN_FIXED = 4  # words of an answer's or a text's skeleton
MIN_AGREEMENT = 12
MIN_FORM = 7  # of FORM places, for each field: two that share 60% of their words agree in 14 of 32
BAND, STEP = 2, 4  # places of an order that must agree, and from one order to the next
SORTED = 8  # places that rows are sorted by
REACH = 4  # rows behind each that it is held against, in each of 25 orders
PATIENCE = 32  # others that a row is compared with in vain
HELD = 40_000_000  # rows of a cluster held against skeletons in vain, of at least 32 skeletons: 40 s or so
KNOWN = 8 << 20  # words of rows that are kept, 8 bytes each
AT_ONCE = 1 << 14  # rows, or pairs of them
FIELDS = 2  # of a row at most
MOST_WORDS = 2000  # of a field's skeleton: a chapter is no template, and two would take seconds to align

Fields = list[list[str]]  # of one row: the words of each field
Take = Callable[[list[int]], Iterable[tuple[str, ...]]]


@dataclass
class Template:
    """Rows of one template, and the words that all of them share in order, a list for each field."""

    rows: list[int]
    skeleton: Fields


def find_templates(facts: Mapping[str, np.ndarray], rows: np.ndarray, take: Take) -> list[Template]:
    """Templates among `rows` (ascending), largest first.

    facts: those of all rows (data/facts.py); here signature, form and num_words are looked at. take: the texts of rows,
    a tuple of fields each.
    """
    rows = rows[facts["num_words"][rows] <= FIELDS * MOST_WORDS / FIXED_SHARE]  # of more, a field is too long
    labels = _link(facts, rows, take)
    order = np.argsort(labels, kind="stable")
    begins = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(begins, append=len(order))
    some = sizes >= MIN_ROWS
    found: list[Template] = []
    for begin, size in zip(begins[some].tolist(), sizes[some].tolist(), strict=True):
        members = rows[order[begin : begin + size]]
        found += _refine(members.tolist(), _reader(members, facts["num_words"], take))
    return sorted(found, key=lambda template: (-len(template.rows), template.rows))


def row_fields(texts: tuple[str, ...]) -> Fields:
    """The words of each field of a row."""
    return [[*map(intern, words(text))] for text in texts]  # a word is kept once for all rows


def _reader(rows: np.ndarray, num_words: np.ndarray, take: Take) -> Callable[[list[int]], Iterable[Fields]]:
    """The words of some of `rows`, from memory; from disk each time where they are too many for it."""
    if int(num_words[rows].sum()) > KNOWN:
        return lambda some: map(row_fields, take(some))
    known = dict(zip(rows.tolist(), map(row_fields, take(rows.tolist())), strict=True))
    return lambda some: map(known.__getitem__, some)


def _link(facts: Mapping[str, np.ndarray], rows: np.ndarray, take: Take) -> np.ndarray:
    """int64 (N,): the cluster of each of `rows`, those being linked that share enough with one another."""
    number = len(rows)
    groups = Groups(number)
    known, size = dict[int, Fields](), 0
    failed = np.zeros(number, np.int64)  # how many others each row was compared with in vain
    refused: set[int] = set()

    def is_open(i: int, j: int) -> bool:
        given_up = failed[i] >= PATIENCE or failed[j] >= PATIENCE or i * number + j in refused
        return not given_up and groups.find(i) != groups.find(j)

    for place in range(0, NUM_HASHES, STEP):
        pairs = _candidates(facts, rows, place, groups.labels(), failed)
        for start in range(0, len(pairs), AT_ONCE):
            part = [(i, j) for i, j in pairs[start : start + AT_ONCE].tolist() if is_open(i, j)]
            if size > KNOWN:
                known, size = {}, 0
            asked = np.array(sorted({row for pair in part for row in pair} - known.keys()), np.int64)
            known.update(zip(asked.tolist(), map(row_fields, take(rows[asked].tolist())), strict=True))
            size += int(facts["num_words"][rows[asked]].sum())
            for i, j in part:
                if not is_open(i, j):
                    continue
                if alike(known[i], known[j]):
                    groups.join(i, j)
                else:
                    refused.add(i * number + j)
                    failed[i] += 1
                    failed[j] += 1
    return groups.labels()


def _candidates(
    facts: Mapping[str, np.ndarray], rows: np.ndarray, place: int, labels: np.ndarray, failed: np.ndarray
) -> np.ndarray:
    """int64 (P, 2): places among `rows` of those of like lengths and forms that agree in the band at `place` and in
    MIN_AGREEMENT places in all, most similar first.

    Rows are sorted by the band and the places behind it, and each is held against the next REACH: those with which it
    agrees longest, where an instruction that all rows bear makes one bucket of all of them.
    """
    signature, form, sizes = facts["signature"], facts["form"].view(np.uint8), facts["num_words"][rows]
    keys = [_packed(signature, rows, place + 4 * k) for k in range(SORTED // 4)]
    order = np.lexsort(keys[::-1])
    band = keys[0][order] >> np.uint64(16 * (4 - BAND))
    patient = failed[order] < PATIENCE
    order, band = order[patient], band[patient]
    parts = [np.zeros((0, 3), np.int64)]
    for shift in range(1, REACH + 1):
        one, other = order[:-shift], order[shift:]
        # Each field holds 60% of the longer one's words, so all of them do.
        like = np.minimum(sizes[one], sizes[other]) >= FIXED_SHARE * np.maximum(sizes[one], sizes[other]) - 1
        at = np.flatnonzero((band[shift:] == band[:-shift]) & (labels[other] != labels[one]) & like)
        for start in range(0, len(at), AT_ONCE):
            i, j = order[at[start : start + AT_ONCE]], order[at[start : start + AT_ONCE] + shift]
            same = form[rows[i]] == form[rows[j]]
            near = (same[:, :FORM].sum(axis=1) >= MIN_FORM) & (same[:, FORM:].sum(axis=1) >= MIN_FORM)
            i, j = i[near], j[near]
            agreement = (signature[rows[i]] == signature[rows[j]]).sum(axis=1)
            near = agreement >= MIN_AGREEMENT
            parts.append(np.stack([-agreement, np.minimum(i, j), np.maximum(i, j)], axis=1)[near])
    found = np.concatenate(parts)
    return found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))][:, 1:]


def _packed(signature: np.ndarray, rows: np.ndarray, place: int) -> np.ndarray:
    """uint64 (N,): four places of each row's signature; behind the last comes the first."""
    key = np.zeros(len(rows), np.uint64)
    for k in range(place, place + 4):
        key = (key << np.uint64(16)) | signature[rows, k % NUM_HASHES].astype(np.uint64)
    return key


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


def _refine(left: list[int], words_of: Callable[[list[int]], Iterable[Fields]]) -> list[Template]:
    """Clusters in which one skeleton is enough of every member: rows in order join as long as it stays so."""
    found: list[Template] = []
    in_vain = 0  # skeletons since the last template
    while len(left) >= MIN_ROWS and in_vain < max(PATIENCE, HELD // len(left)):
        in_vain += 1
        fields = iter(words_of(left))
        skeleton = next(fields)
        longest = [*map(len, skeleton)]
        inside, outside = [left[0]], []
        for row, own in zip(left[1:], fields, strict=True):
            shared = _shared(skeleton, own, longest)
            if shared is None:
                outside.append(row)
            else:
                skeleton, longest = shared, [*map(max, longest, map(len, own))]
                inside.append(row)
        if len(inside) >= MIN_ROWS and len(skeleton[-1]) >= MIN_FIXED:
            found.append(Template(inside, skeleton))
            in_vain = 0
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
