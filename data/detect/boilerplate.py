"""Boilerplate: phrases that many answers of a source repeat, found in the data and from no list.

    answers (or texts) -> keys of their phrases -> how many rows have each -> stock phrases -> the spans of each row

A phrase is one of three: a sentence of 3 words or more that is not the whole answer; an opening, what stands before the
first comma, colon or the like behind 3 words or more; 8 words in a row, wherever they stand. It is stock where it
occurs in one row of 500, and in 10 or more (in a source of 20 to 200 rows, in one of 20, and in 3); of fewer than 8
words in half as many more: a novel in letters heads a chapter in ten with the same four. Measured: word problems
written by hand repeat no sentence and no opening of 3 words so often in 7,473 rows, and 8 words in 0.5% of them; 49% of
an assistant's medical answers open with the same three words.

A stock sentence of fewer than 8 words is found inside of another, too, where it begins with a capital other than "I"
and both end together: a line that ends without a full stop runs into the sentence behind it. What is stock is learned
without these: nothing more is named in a source that has no short stock sentence.

Counted on at most SAMPLE rows of a source, those with the smallest ids: which they are depends on content alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from data.detect.markup import is_code
from data.detect.sketch import mix, ngrams, word_hashes
from data.detect.words import places, words

SPAN = 8
MIN_WORDS = 3
FEW = 20  # rows
SAMPLE = 50_000
_SENTENCE = re.compile(r"(?:[.!?:。！？…]+[\"'’”)\]]*(?=\s|$)|[。！？]|\n)+")
_MARK = re.compile(r"[.!?:。！？…\n]")  # what _SENTENCE begins with
_CLAUSE = re.compile(r"[,:;.!?，、：；。！？\n—–]|\s-\s")
# A capital inside of a sentence. "I" says nothing: "and I don't know." would name six chapters of novels more.
_CAPITAL = re.compile(r"(?<=[^\s.!?:。！？…])[^\S\n]+(?=[A-ZÀ-ÖØ-ÞΑ-ΩЀ-Я])(?!I\b)")
_SHORT = np.uint64(1)  # the lowest bit of a key: a sentence or an opening of fewer than SPAN words
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_PROGRAM = re.compile(r"[{}();=<>\\_`\[\]]")  # what prose seldom has: a phrase with one of them is left where it is
_MARK_OR_END = re.compile(r"[.!?。！？…]+[\"'’”)\]]*(?=\s|$)|\s*$")
_PLACE = np.uint64(0x9E3779B97F4A7C15)
_OPENING, _ENDS = np.uint64(0x51ED270B), np.uint64(0xA0761D65)  # an opening is not a sentence of the same words


@dataclass(frozen=True)
class Span:
    """A phrase in a field, and its place: characters [start, end)."""

    start: int
    end: int
    where: str  # opening, sentence, passage


def least_rows(num_rows: int) -> int:
    """How many rows of a source make a phrase stock. Of a few chapters of one book nothing can be said."""
    if num_rows < FEW:
        return num_rows + 1
    return max(num_rows // 500, min(10, max(3, num_rows // 20)))


def pieces(text: str) -> list[tuple[int, int]]:
    """Sentences as [start, end): cut behind marks that end one, and at line ends."""
    found, start = [], 0
    for mark in _MARK.finditer(text):  # a search for one character of a set takes a third of the time of _SENTENCE's
        if mark.start() >= start and (match := _SENTENCE.match(text, mark.start())):
            found.append((start, match.end()))
            start = match.end()
    found.append((start, len(text)))
    return [(a, b) for a, b in found if text[a:b].strip()]


def inner_sentences(text: str, sentences: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What stands behind each capital inside of a sentence, up to its end, where that may be fewer than SPAN words."""
    for start, end in sentences:
        for match in _CAPITAL.finditer(text, start, end):
            if text.count(" ", match.end(), end) < SPAN:
                yield match.end(), end


def opening(text: str) -> int:
    """Where the opening clause of a text ends; 0: it has none, or is nothing else."""
    start = len(text) - len(text.lstrip())
    for match in islice(_CLAUSE.finditer(text, start), MIN_WORDS):
        if not text[match.end() :].strip():
            return 0
        if len(words(text[start : match.end()])) >= MIN_WORDS:  # "Certainly! Here is the answer:" is one opening
            return match.end()
    return 0


def phrase_keys(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets): uint64, the distinct phrases of each text; text i has keys[offsets[i]:offsets[i + 1]]."""
    keys, owners = _all_keys(texts, [*map(pieces, texts)])
    order = np.lexsort((keys, owners))
    keys, owners = keys[order], owners[order]
    if len(keys):
        fresh = np.append(True, (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1]))
        keys, owners = keys[fresh], owners[fresh]
    return keys, np.searchsorted(owners, np.arange(len(texts) + 1))


def _all_keys(texts: list[str], bounds: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    """(keys, texts they are of) of all phrases, some of them more than once."""
    parts: list[str] = []
    kinds: list[np.uint64] = []
    owner: list[int] = []
    for i, (text, sentences) in enumerate(zip(texts, bounds, strict=True)):
        if len(sentences) > 1:
            parts += [text[start:end] for start, end in sentences]
            kinds += [_ENDS] * len(sentences)
            owner += [i] * len(sentences)
        if end := opening(text):
            parts.append(text[:end])
            kinds.append(_OPENING)
            owner.append(i)
    keys, owners = _whole(parts, kinds, owner)
    hashes, offsets = word_hashes(texts)
    grams, starts = ngrams(hashes, offsets, SPAN)
    of_gram = np.repeat(np.arange(len(texts)), np.diff(starts))
    long = (np.diff(offsets) >= SPAN)[of_gram]
    return np.concatenate([keys, grams[long] & ~_SHORT]), np.concatenate([owners, of_gram[long]])


def _whole(parts: list[str], kinds: list[np.uint64], owner: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys of parts of MIN_WORDS words or more, digits alone not counted, and whose they are."""
    hashes, offsets = word_hashes(parts)
    lengths = np.diff(offsets)
    enough = lengths >= MIN_WORDS
    total = np.zeros(len(parts), np.uint64)
    # A sum over words, each with its place in the sentence.
    place = np.arange(len(hashes)) - np.repeat(offsets[:-1], lengths)
    weighed = mix(hashes + place.astype(np.uint64) * _PLACE)
    if len(hashes):
        some = np.flatnonzero(lengths)
        total[some] = np.add.reduceat(weighed, offsets[some])
    numeric = np.array([not any(c.isalpha() for c in part) for part in parts], bool)
    enough &= ~numeric
    keys = mix(total ^ np.array(kinds, np.uint64))
    keys = np.where(lengths < SPAN, keys | _SHORT, keys & ~_SHORT)
    return keys[enough], np.array(owner, np.int64)[enough]


def stock_phrases(batches: Iterable[list[str]], num_rows: int) -> np.ndarray:
    """Keys (sorted uint64) of the phrases that are stock among `num_rows` texts, which come in batches."""
    least = least_rows(num_rows)
    bits = min(24, max(10, (64 * num_rows).bit_length()))
    shift = np.uint64(64 - bits)
    rare = np.zeros(1 << bits, np.uint32)  # counts by a key's first bits: what stays below `least` here needs no count
    kept: list[np.ndarray] = []
    for texts in batches:
        keys, _ = phrase_keys(texts)
        first, counts = np.unique(keys >> shift, return_counts=True)
        rare[first] += counts.astype(np.uint32)
        kept.append(keys)
    if not kept:
        return np.zeros(0, np.uint64)
    common = np.concatenate([keys[rare[keys >> shift] >= least] for keys in kept])
    found, counts = np.unique(common, return_counts=True)
    return found[counts >= np.where(found & _SHORT, least + least // 2, least)]


def stock_rows(texts: list[str], stock: np.ndarray) -> np.ndarray:
    """bool (N,): which texts hold a stock phrase."""
    found = np.zeros(len(texts), bool)
    if not len(stock):
        return found
    bounds = [*map(pieces, texts)]
    found[_holders(*_all_keys(texts, bounds), stock)] = True
    if _has_short(stock):
        rest = np.flatnonzero(~found)
        rest = rest[_may_end_in([texts[i] for i in rest], [bounds[i] for i in rest], stock)]
        found[rest[_holders(*_inner_keys([texts[i] for i in rest]), stock)]] = True
    return found


def _may_end_in(texts: list[str], bounds: list[list[tuple[int, int]]], stock: np.ndarray) -> np.ndarray:
    """bool (N,): which texts have a sentence whose last words are stock, wherever they begin. Takes a tenth of the time
    of a look at each capital, and leaves few texts for that."""
    hashes, offsets = word_hashes([text[a:b] for text, of in zip(texts, bounds, strict=True) for a, b in of])
    owners = np.repeat(np.arange(len(texts)), [len(of) for of in bounds])
    may = np.zeros(len(texts), bool)
    for length in range(MIN_WORDS, SPAN):
        some = np.flatnonzero(np.diff(offsets) >= length)
        last = hashes[(offsets[some + 1] - length)[:, None] + np.arange(length)]
        total = mix(last + np.arange(length, dtype=np.uint64) * _PLACE).sum(axis=1, dtype=np.uint64)
        may[owners[some[np.isin(mix(total ^ _ENDS) | _SHORT, stock)]]] = True
    return may


def _holders(keys: np.ndarray, owners: np.ndarray, stock: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(stock, keys), len(stock) - 1)
    return owners[stock[at] == keys]


def _inner_keys(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    inner = [(i, text[a:b]) for i, text in enumerate(texts) for a, b in inner_sentences(text, pieces(text))]
    return _whole([part for _, part in inner], [_ENDS] * len(inner), [i for i, _ in inner])


def _has_short(stock: np.ndarray) -> bool:
    return bool((stock & _SHORT).any())


def stock_spans(text: str, stock: np.ndarray) -> list[Span]:
    """Where the stock phrases of a text stand, in order; they do not overlap. Sentences go before passages."""
    known = set(stock.tolist()) if len(stock) < 64 else stock
    spans: list[Span] = []
    sentences = pieces(text)
    candidates = [(a, b, _ENDS, "sentence") for a, b in sentences] if len(sentences) > 1 else []
    if end := opening(text):
        candidates.append((0, end, _OPENING, "opening"))
    if _has_short(stock):
        candidates += [(a, b, _ENDS, "sentence") for a, b in inner_sentences(text, sentences)]
    keys, of = _whole([text[a:b] for a, b, *_ in candidates], [c[2] for c in candidates], [*range(len(candidates))])
    for key, i in zip(keys, of.tolist(), strict=True):
        if _has(known, key):
            start, end, _, where = candidates[i]
            spans.append(Span(start, end, where))
    spans += _passages(text, stock, spans)
    return list(_apart(spans))


def _passages(text: str, stock: np.ndarray, taken: list[Span]) -> list[Span]:
    """Outside of the spans that are taken: words that often stand beside a stock sentence are none of it."""
    at = places(text)
    hashes, offsets = word_hashes([text])
    if len(hashes) < SPAN or len(at) != len(hashes):
        return []
    grams, _ = ngrams(hashes, offsets, SPAN)
    covered = np.zeros(len(hashes), bool)
    for start in np.flatnonzero(np.isin(grams & ~_SHORT, stock)).tolist():
        first, last = at[start][0], at[start + SPAN - 1][1]
        if all(last <= span.start or first >= span.end for span in taken):
            covered[start : start + SPAN] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], covered.astype(np.int8), [0]])))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [Span(at[start][0], at[end - 1][1], "passage") for start, end in runs]


def _has(known: "set[int] | np.ndarray", key: np.uint64) -> bool:
    if isinstance(known, set):
        return int(key) in known
    at = int(np.searchsorted(known, key))
    return at < len(known) and known[at] == key


def _apart(spans: list[Span]) -> Iterator[Span]:
    end = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start >= end:
            yield span
            end = span.end
        elif span.end > end:
            yield Span(end, span.end, span.where)
            end = span.end


def cuttable(text: str, spans: list[Span]) -> list[Span]:
    """Those of a text's stock phrases without which it is still good text: sentences and openings of prose, and a
    passage that begins with a capital and ends with its sentence. A line of a program is no sentence."""
    if is_code(text):
        return []
    fences = [match.span() for match in _FENCE.finditer(text)]
    found = []
    for span in spans:
        start, end = span.start, span.end
        if span.where == "passage":
            mark = _MARK_OR_END.match(text, end)
            if mark is None or not text[start].isupper():
                continue
            end = mark.end()
        in_code = any(start < last and end > first for first, last in fences)
        if not in_code and not _PROGRAM.search(text, start, end):
            found.append(Span(start, end, span.where))
    return found


def without(text: str, spans: list[Span]) -> str:
    """The text with its stock phrases cut out, and no more white space than was there. What is left of a sentence
    whose opening is cut begins with a capital."""
    parts, end = [], 0
    for span in spans:
        parts.append(text[end : span.start].strip())
        end = span.end
    parts.append(text[end:].strip())
    for i, span in enumerate(spans):
        if span.where == "opening" and text[span.start : span.end].strip()[:1].isupper():
            parts[i + 1] = parts[i + 1][:1].upper() + parts[i + 1][1:]
    return " ".join(part for part in parts if part) if spans else text
