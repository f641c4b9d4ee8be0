"""What of generated answers stands word for word in the training text: how long, where, and which share of them.

  1. every 16 bytes of the answers are known by a hash                                                      (`_Grams`)
  2. the training split is read once, a few MB at a time; stretches in which every 16 bytes are known are kept, each
     different one once: a run lies inside of one stretch                                               (`_stretches`)
  3. answers and stretches are sorted as suffixes, and beside each suffix of an answer stands the stretch that goes
     with it longest; how long is counted on the bytes, so a hash can cost time but never make a run     (`_compare`)

A run is whole characters, counted in UTF-8 bytes, inside of one field of one document; what is shorter than 16 bytes
stands in any text and is no run. Exact: not a sample, no probability. Nothing is written: the answers are few and the
training text is large, so the index is of the answers. 50 answers of 1 KB in 55 MB of text take 1.4 s and 190 MB, in
547 MB of text 14 s and 200 MB: memory grows with the answers, by 150 bytes or so a byte of them, not with the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from tokenizer.encode import FIELDS, corpus_files, read_corpus

SHORTEST = 16  # bytes of a run
LONG = 50  # bytes of a run that counts as memorised
PIECE = 1 << 21  # bytes of training text that are looked at together
SORTED = 1 << 21  # bytes of stretches that are sorted together with the answers
END_OF_ANSWER, END_OF_FIELD = b"\xff", b"\xfe"  # stand in no UTF-8, and are unequal: no run crosses one
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9], np.uint64)


@dataclass(frozen=True)
class Run:
    """How much of one answer stands in the training text."""

    num_bytes: int  # of the answer
    longest: int  # bytes of the longest run, the first of several; 0: there is none of SHORTEST bytes
    start: int  # where it stands in the answer, in characters
    end: int
    document: str | None  # the first in the corpus that holds it
    field: str | None
    covered: int  # bytes of the answer inside of runs of LONG bytes or more
    spans: list[tuple[int, int]]  # where these are, in characters; those that touch are one


def runs(answers: Sequence[str], corpus: Path, split: str = "train", progress: bool = False) -> list[Run]:
    """The runs of each answer in a split of a prepared corpus. Raises UserError where there is no corpus."""
    if not answers and corpus_files(corpus, split):
        return []
    content = [answer.encode("utf-8", "surrogatepass") for answer in answers]
    joined = np.frombuffer(b"".join(one + END_OF_ANSWER for one in content), np.uint8)
    found = _Found(joined, np.cumsum([0, *(len(one) + 1 for one in content)]))
    grams = _Grams(joined)
    kept: dict[bytes, tuple[str, str]] = {}  # stretch -> where it stands first
    size = 0
    for document, field, stretch in _stretches(corpus, split, grams, progress):
        if stretch in kept:
            continue
        kept[stretch] = document, field
        size += len(stretch) + 1
        if size > SORTED:
            found.look_into(kept)
            kept, size = {}, 0
    if kept:
        found.look_into(kept)
    return found.runs()


def summary(found: Sequence[Run]) -> dict[str, Any]:
    """Figures over all answers, and each answer's own (`answers`)."""
    num_bytes, covered = sum(run.num_bytes for run in found), sum(run.covered for run in found)
    longest = max(found, key=lambda run: run.longest, default=None)
    return {
        "num_answers": len(found),
        "num_bytes": num_bytes,
        "longest": longest.longest if longest else 0,
        "document": longest.document if longest else None,
        "share_in_runs_50": covered / num_bytes if num_bytes else 0.0,
        "num_with_runs_50": sum(run.covered > 0 for run in found),
        "answers": [asdict(run) for run in found],
    }


class _Found:
    """The longest run from each byte of the answers, as far as the training text was read."""

    def __init__(self, joined: np.ndarray, starts: np.ndarray) -> None:
        self.joined, self.starts = joined, starts  # answer i: joined[starts[i] : starts[i + 1] - 1]
        self.lengths = np.zeros(len(joined), np.int64)
        self.begins = (joined & 0xC0) != 0x80  # a character, or the end of an answer
        self.boundary = np.maximum.accumulate(np.where(self.begins, np.arange(len(joined)), 0))
        self.places: list[tuple[int, int, tuple[str, str] | None]] = [(0, 0, None)] * (len(starts) - 1)

    def look_into(self, kept: dict[bytes, tuple[str, str]]) -> None:
        """Compare all answers with some stretches, which come in the order of the corpus."""
        text = b"".join(stretch + END_OF_FIELD for stretch in kept)
        at, common = _compare(self.joined, np.frombuffer(text, np.uint8))
        whole = self.begins[at]  # a run begins where a character does, and ends there
        at, common = at[whole], self.boundary[at[whole] + common[whole]] - at[whole]
        longer = (common > self.lengths[at]) & (common >= SHORTEST)
        at, common = at[longer], common[longer]
        self.lengths[at] = common
        ends = np.cumsum([len(stretch) + 1 for stretch in kept])
        owners = list(kept.values())
        for answer in np.unique(np.searchsorted(self.starts, at, "right") - 1).tolist():
            here = slice(int(self.starts[answer]), int(self.starts[answer + 1]))
            begin = here.start + int(np.argmax(self.lengths[here]))
            length = int(self.lengths[begin])
            if (length, -begin) > (self.places[answer][0], -self.places[answer][1]):
                # Not beside it in the order of suffixes, which other answers change, but the first in the corpus.
                place = text.index(self.joined[begin : begin + length].tobytes())
                owner = owners[int(np.searchsorted(ends, place, "right"))]
                self.places[answer] = length, begin, owner

    def runs(self) -> list[Run]:
        """What is known of each answer."""
        characters = np.concatenate([[0], np.cumsum(self.begins)])  # before each byte
        long = np.flatnonzero(self.lengths >= LONG)
        change = np.zeros(len(self.joined) + 1, np.int64)
        np.add.at(change, long, 1)
        np.add.at(change, long + self.lengths[long], -1)
        covered = np.cumsum(change)[:-1] > 0
        result = []
        for (start, end), (length, begin, owner) in zip(
            zip(self.starts[:-1].tolist(), (self.starts[1:] - 1).tolist(), strict=True), self.places, strict=True
        ):
            inside = covered[start:end].astype(np.int8)
            edges = start + np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))
            first = characters[start]
            result.append(
                Run(
                    num_bytes=end - start,
                    longest=length,
                    start=int(characters[begin] - first) if length else 0,
                    end=int(characters[begin + length] - first) if length else 0,
                    document=owner[0] if owner else None,
                    field=owner[1] if owner else None,
                    covered=int(inside.sum()),
                    spans=[(a, b) for a, b in (characters[edges] - first).reshape(-1, 2).tolist()],
                )
            )
        return result


class _Grams:
    """Which 16 bytes the answers hold: a table of bits that most of a text fails, then the hashes themselves."""

    def __init__(self, joined: np.ndarray) -> None:
        self.known = np.unique(_hashes(joined))
        bits = min(26, max(16, (16 * len(self.known)).bit_length()))  # 1 of 16 to 32 places taken, 64 MB at most
        self.shift = np.uint64(64 - bits)
        self.table = np.zeros(1 << bits, bool)
        self.table[self.known >> self.shift] = True

    def places(self, text: np.ndarray) -> np.ndarray:
        """Where 16 bytes begin that the answers hold, ascending."""
        if not len(self.known):
            return np.zeros(0, np.int64)
        hashes = _hashes(text)
        maybe = np.flatnonzero(self.table[hashes >> self.shift])
        wanted = hashes[maybe]
        at = np.minimum(np.searchsorted(self.known, wanted), len(self.known) - 1)
        return maybe[self.known[at] == wanted]


def _stretches(corpus: Path, split: str, grams: _Grams, progress: bool) -> Iterator[tuple[str, str, bytes]]:
    """(document, field, bytes) of what might be a run, in the order of the corpus."""
    total = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
    with tqdm(total=total, desc="verbatim runs", unit=" documents", leave=False, disable=not progress) as bar:
        for table in read_corpus(corpus, split, columns=["id", *FIELDS]):
            rows = zip(*(table[name].to_pylist() for name in ("id", *FIELDS)), strict=True)
            present = [
                (identity, field, value)
                for identity, *values in rows
                for field, value in zip(FIELDS, values, strict=True)
                if value is not None
            ]
            parts = [value.encode() for _, _, value in present]
            text = END_OF_FIELD.join(parts)
            ends = np.cumsum([len(part) + 1 for part in parts]) - 1
            at = _known_places(text, grams)
            owners = np.searchsorted(ends, at, "right")
            inside = at + SHORTEST <= ends[owners]  # of one field, whatever its hash says
            at, owners = at[inside], owners[inside]
            is_first = np.diff(at, prepend=-2) > 1
            is_last = np.append(is_first[1:], True)[: len(at)]
            stretches = zip(owners[is_first].tolist(), at[is_first].tolist(), at[is_last].tolist(), strict=True)
            for owner, first, last in stretches:
                yield present[owner][0], present[owner][1], text[first : last + SHORTEST]
            bar.update(len(table))


def _known_places(text: bytes, grams: _Grams) -> np.ndarray:
    """Where 16 bytes begin that stand in an answer, ascending; a book takes no more memory than a page."""
    content = np.frombuffer(text, np.uint8)
    places = [
        first + grams.places(content[first : first + PIECE + SHORTEST - 1]) for first in range(0, len(text), PIECE)
    ]
    return np.concatenate([np.zeros(0, np.int64), *places])


def _compare(answers: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places, lengths): for each byte of the answers with a byte of the text like it, how long both go on alike."""
    joined = np.concatenate([answers, text])
    words = _words(joined)
    order = _suffix_order(words, int(np.diff(np.flatnonzero(answers == 0xFF), prepend=-1).max()))
    own = order < len(answers)
    rank = np.arange(len(order))
    before = np.maximum.accumulate(np.where(own, -1, rank))[own]  # the nearest suffix of the text on either side: none
    behind = np.minimum.accumulate(np.where(own, len(order), rank)[::-1])[::-1][own]  # goes with it longer than these
    places = order[own]
    lengths = np.zeros(len(places), np.int64)
    for beside, is_there in ((before, before >= 0), (behind, behind < len(order))):
        common = _common(words, places[is_there], order[beside[is_there]])
        lengths[is_there] = np.maximum(lengths[is_there], common)
    return places, lengths


def _suffix_order(words: np.ndarray, longest: int) -> np.ndarray:
    """Places of a text in the order of what follows there, looked at for `longest` bytes or more (Manber and Myers,
    1993: places that agree in 8 bytes are told apart by the order of what stands 8 bytes on, then 16, 32, ...)."""
    order = np.argsort(words, kind="stable")
    first = np.concatenate([[True], np.diff(words[order]) != 0])  # of those that agree
    rank = np.empty(len(words), np.int64)
    number = np.maximum.accumulate(np.where(first, np.arange(len(words)), 0))
    rank[order] = number
    length = 8
    while length < longest:
        alike = np.flatnonzero(~first | ~np.append(first[1:], True))  # places in the order that are not alone
        if not len(alike):
            break
        at = order[alike]
        further = at + length
        key = rank[at] << 32 | np.where(further < len(rank), rank[np.minimum(further, len(rank) - 1)] + 1, 0)
        by_key = np.argsort(key, kind="stable")
        key = key[by_key]
        order[alike] = at[by_key]
        first[alike] = np.concatenate([[True], np.diff(key) != 0])
        number = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
        rank[order[alike]] = number[alike]
        length *= 2
    return order


def _common(words: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many bytes stand alike at two places each; both do not go on alike to the end of the text."""
    length = np.zeros(len(a), np.int64)
    rest = np.arange(len(a))
    while len(rest):
        differ = words[a[rest] + length[rest]] ^ words[b[rest] + length[rest]]
        length[rest] += sum((differ < np.uint64(1 << (64 - 8 * k))).astype(np.int64) for k in range(1, 8)) + (
            differ == 0
        )
        rest = rest[differ == 0]
    return length


def _words(content: np.ndarray) -> np.ndarray:
    """The 8 bytes from each place on as a number, uint64, the first byte the highest; zeros behind the end."""
    padded = np.concatenate([content, np.zeros(15, np.uint8)])
    words = np.empty((len(content) + 7) // 8 * 8, np.uint64)
    for k in range(8):
        words[k::8] = np.frombuffer(padded, ">u8", len(words) // 8, offset=k)
    return words[: len(content)]


def _hashes(content: np.ndarray) -> np.ndarray:
    """A hash of the 16 bytes from each place on, uint64, as many as there are."""
    if len(content) < SHORTEST:
        return np.zeros(0, np.uint64)
    words = _words(content)
    mixed = words[: len(content) - SHORTEST + 1] * _FACTORS[0]
    mixed ^= mixed >> np.uint64(29)
    mixed += words[8 : len(content) - SHORTEST + 9]
    mixed *= _FACTORS[1]
    mixed ^= mixed >> np.uint64(32)
    mixed *= _FACTORS[0]
    return mixed
