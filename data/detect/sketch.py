"""What of a text's words is needed to find others like it: hashes of words, of n-grams, and MinHash signatures.

    texts -> words (data/detect/words.py) -> one 64-bit hash a word -> one an n-gram -> the least of each of 100 orders

A chunk of texts is one flat array with offsets, so that numpy does the work. All hashes are functions of the text
alone: processes, machines and runs agree. Two sets of n-grams with Jaccard similarity J agree in each place of their
signatures with probability J (Broder 1997); 16 bits of each minimum are kept, which adds 1 in 65,536.
"""

import numpy as np

from data.detect.words import words

NUM_HASHES = 100
FORM = 32
EMPTY = np.uint16(0xFFFF)
PIECE = 4 << 20  # bytes whose words are hashed at a time
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_ASCII_WORDS = bytes(ord(chr(c).lower()) if chr(c).isalnum() or chr(c) == "_" else 32 for c in range(128)).ljust(256)
_POWERS = np.ones((2, 1), np.uint64)  # of the factor and of its inverse, as many as were needed so far
_rng = np.random.default_rng(20250101)
_MULTIPLIERS = _rng.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32) | np.uint32(1)
_ADDENDS = _rng.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32)


def word_hashes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets): uint64 of all words in a row; int64 (N + 1,), words of text i at offsets[i]:offsets[i + 1].

    The words are those of data/detect/words.py. ASCII, most of it all, takes a way without a Python object a word: 6
    times as fast.
    """
    if not texts:
        return np.zeros(0, np.uint64), np.zeros(1, np.int64)
    content = b"\n".join(map(_spaced, texts)) + b"\n"
    hashes, counts, lines = list[np.ndarray](), list[np.ndarray](), 0
    start = 0
    while start < len(content):  # a book takes no more memory than a page: its arrays are 40 times its bytes
        end = len(content)
        if end - start > PIECE:
            end = max(content.rfind(b" ", start, start + PIECE), content.rfind(b"\n", start, start + PIECE)) + 1
            end = end if end > start else len(content)  # one word
        found, ends = _hashes(np.frombuffer(content, np.uint8)[start:end])
        counts.append(ends + sum(map(len, hashes)))
        hashes.append(found)
        lines += len(ends)
        start = end
    assert lines == len(texts)
    return np.concatenate(hashes), np.concatenate([np.zeros(1, np.int64), *counts])


def _hashes(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hash of each word, for each line end the number of words before it) of bytes that no word begins or ends in."""
    gap = (content == 32) | (content == 10)
    edge = np.concatenate([[True], gap[:-1]])
    starts, ends = np.flatnonzero(~gap & edge), np.flatnonzero(gap & ~edge)
    power, inverse = _powers(len(content) + 1)
    total = np.zeros(len(content) + 1, np.uint64)
    np.cumsum(content * power[: len(content)], out=total[1:])  # modulo 2^64: wrapping is meant
    words_before = np.searchsorted(starts, np.flatnonzero(content == 10))  # a text's end each: no word holds one
    return mix((total[ends] - total[starts]) * inverse[starts]), words_before


def _spaced(text: str) -> bytes:
    """A text's words with one space or more between them, and no line end."""
    if text.isascii():
        content = text.encode().translate(_ASCII_WORDS)
        if not content.isspace():
            return content
    return " ".join(words(text)).encode()


def _powers(number: int) -> np.ndarray:
    global _POWERS
    powers = _POWERS  # two threads of the audit are here: what one needs is not what the other has made meanwhile
    if powers.shape[1] < number:
        factors = np.full((2, number * 2), np.uint64(1))
        factors[0, 1:], factors[1, 1:] = np.uint64(_FACTOR), np.uint64(_INVERSE)
        powers = _POWERS = np.cumprod(factors, axis=1, dtype=np.uint64)
    return powers


def mix(values: np.ndarray) -> np.ndarray:
    """Spread the bits of uint64 values (the finisher of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def ngrams(hashes: np.ndarray, offsets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of the n-grams of each text; of a shorter text, one of all its words; of none, none."""
    lengths = np.diff(offsets)
    numbers = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    starts = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(numbers, out=starts[1:])
    first = np.repeat(offsets[:-1] - starts[:-1], numbers) + np.arange(starts[-1])
    last = np.repeat(offsets[1:], numbers)  # behind the text's end
    total = np.zeros(len(first), np.uint64)
    padded = np.append(hashes, np.uint64(0))
    for k in range(n):
        at = first + k
        total = total * np.uint64(_FACTOR) + padded[np.where(at < last, at, len(hashes))]
    return mix(total), starts


def signatures(grams: np.ndarray, offsets: np.ndarray, number: int = NUM_HASHES) -> np.ndarray:
    """MinHash of each text's n-grams: uint16 (N, number); of a text without n-grams EMPTY everywhere."""
    result = np.full((len(offsets) - 1, number), EMPTY)
    some = np.flatnonzero(np.diff(offsets))
    if len(some) == 0:
        return result
    short = (grams >> np.uint64(32)).astype(np.uint32)
    starts = offsets[some]
    for k in range(number):
        ordered = short * _MULTIPLIERS[k] + _ADDENDS[k]
        ordered ^= ordered >> np.uint32(15)  # the product's low bits know little of the value's high ones
        ordered *= np.uint32(0x2C1B3C6D)
        least = np.minimum.reduceat(ordered, starts)
        result[some, k] = ((least >> np.uint32(8)) & np.uint32(0xFFFF)).astype(np.uint16)
    return result


def forms(texts: list[str]) -> np.ndarray:
    """Which words a text has, in little: uint8 (N, FORM), MinHash of its words."""
    return signatures(*word_hashes(texts), FORM).astype(np.uint8)


def sorted_buckets(signature: np.ndarray, rows: np.ndarray, place: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(order, ends): those of `rows` whose signatures agree with another's in `width` places (up to 4), bucket after
    bucket, ascending in each; bucket i ends before ends[i]."""
    if not len(rows):
        return rows, rows
    keys = np.zeros(len(rows), np.uint64)
    for k in range(place, place + width):
        keys = (keys << np.uint64(16)) | signature[rows, k].astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    inside = np.append(same, False) | np.append(False, same)
    order, keys = order[inside], keys[inside]
    ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], [True] * (len(keys) > 0))) + 1
    return rows[order], ends
