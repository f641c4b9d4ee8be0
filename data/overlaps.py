"""Passages that a block of a cut text has in common with training text: found after the split, dropped.

Two long texts can share chapters (an anthology and a novel in it) and be no near duplicates; both are cut, and what one
gives to val the other trains on. Probes are 64 bytes of a block (after NFC, every run of white space as one space), one
each 32 bytes; a block goes when 5% of its probes stand in training text. A quotation, a licence or a heading is less.
What a block shares with the rest of its own text (a refrain, a table) does not count.
"""

from collections.abc import Iterator

import numpy as np

from data.clean import normal
from data.store import Store

WINDOW, STRIDE = 64, 32  # bytes; WINDOW is a power of two
OVERLAP_SHARE = 0.05
WINDOWS_AT_ONCE = 1 << 22  # a multiple of STRIDE
WHOLE = -1  # in place of the text that a block was cut from


def overlapping(store: Store, blocks: np.ndarray, train: np.ndarray, cut_from: dict[int, int]) -> dict[int, str]:
    """Those of `blocks` of which training holds a part elsewhere, with the evidence.

    blocks: int64, numbers of rows, cut from texts. train: int64, numbers of texts. cut_from: of each block of any
    split, the number of the text it was cut from.
    """
    if not len(blocks):
        return {}
    probes = [_probes(_content(store, block)) for block in blocks.tolist()]
    sizes = [len(of) for of in probes]
    hashes = np.concatenate(probes)
    del probes
    texts = np.repeat([cut_from[block] for block in blocks.tolist()], sizes)
    known = np.zeros(1 << 24, bool)  # by a hash's upper 24 bits; few windows of train pass this and are looked up
    known[hashes >> 40] = True
    found = np.zeros(len(hashes), bool)
    for text, content in _training_texts(store, train, cut_from):
        for windows in _windows(content):
            found |= np.isin(hashes, windows[known[windows >> 40]]) & (texts != text)
    evidence = {}
    ends = np.cumsum(sizes)
    for block, end, size in zip(blocks.tolist(), ends.tolist(), sizes, strict=True):
        at = np.flatnonzero(found[end - size : end])
        if len(at) and len(at) >= OVERLAP_SHARE * size:
            start = int(at[0]) * STRIDE
            shown = _content(store, block)[start : start + WINDOW].decode(errors="ignore")
            evidence[block] = f"{len(at) / size:.0%} of it stands in train too, in another text: {shown!r}"
    return evidence


def _content(store: Store, row: int) -> bytes:
    return normal(store.take([row])[0]["text"]).encode()


def _probes(content: bytes) -> np.ndarray:
    return np.concatenate([*_windows(content)])[::STRIDE]


def _training_texts(store: Store, train: np.ndarray, cut_from: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """(text it was cut from, content) of each block, and of whole documents about 4 MB at a time."""
    whole: list[bytes] = []
    size = 0
    for row in train.tolist():
        content = _content(store, row)
        if row in cut_from:
            yield cut_from[row], content
            continue
        whole.append(content)
        size += len(content)
        if size > WINDOWS_AT_ONCE:
            yield WHOLE, b"\n".join(whole)
            whole, size = [], 0
    yield WHOLE, b"\n".join(whole)


def _windows(content: bytes) -> Iterator[np.ndarray]:
    """A hash of each WINDOW bytes, uint64: a polynomial in the bytes, of 2, 4, 8, ... of them."""
    for start in range(0, max(len(content) - WINDOW + 1, 1), WINDOWS_AT_ONCE):
        part = content[start : start + WINDOWS_AT_ONCE + WINDOW - 1]
        hashes = np.frombuffer(part, np.uint8).astype(np.uint64)
        width, factor = 1, 0x9E3779B97F4A7C15
        while width < WINDOW:
            hashes = hashes[:-width] * np.uint64(factor) + hashes[width:]
            width, factor = 2 * width, factor * factor % 2**64
        yield hashes
