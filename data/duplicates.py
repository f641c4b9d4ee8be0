"""Which documents belong together: exact duplicates, and groups that must not stand on two sides of the split.

    documents -> 1. exact duplicates out (equality_key; the smallest by content stays)
              -> 2. links: same `group` value | same question, context or answer | near duplicates
              -> 3. groups: the connected components of the links (union-find)

Same field: at least 50 bytes long, and in no more rows than `shared_limit` allows; a stock phrase in thousands of rows
("true", one instruction for all) must not make one group of the corpus. Compared after NFC, case folding and with every
run of white space as one space.
Near duplicates: Jaccard similarity of word 3-grams (question + answer, or the text) of at least 0.8
(data/detect/near.py).
Documents enter sorted by content, so nothing depends on the order of files, or on threads.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data.clean import normal
from data.columns import Row
from data.detect.near import Groups, near_duplicates
from data.detect.sketch import NUM_HASHES, ngrams, signatures, word_hashes

SHARED_MIN_BYTES = 50
CHUNK = 1024

WINDOW, STRIDE = 64, 32  # bytes; WINDOW is a power of two
OVERLAP_SHARE = 0.05
WINDOWS_AT_ONCE = 1 << 22  # a multiple of STRIDE


def drop_exact(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Split sorted documents into the first of each `key` and the others, which name the one that stays in `detail`."""
    first: dict[str, int] = {}
    keys = table["key"].to_pylist()
    stays = np.array([first.setdefault(key, i) == i for i, key in enumerate(keys)], dtype=bool)
    keepers = [first[key] for key, stay in zip(keys, stays, strict=True) if not stay]
    copies = table.filter(pa.array(~stays))
    origins = table["origin"].take(pa.array(keepers, pa.int64())).to_pylist()
    reasons = pa.array(["exact_duplicate"] * len(copies), pa.large_string())
    details = pa.array([f"equals {origin}" for origin in origins], pa.large_string())
    copies = copies.set_column(copies.schema.get_field_index("reason"), "reason", reasons)
    copies = copies.set_column(copies.schema.get_field_index("detail"), "detail", details)
    return table.filter(pa.array(stays)), copies


def drop_near(
    table: pa.Table, groups: np.ndarray, near: np.ndarray
) -> tuple[pa.Table, pa.Table, np.ndarray, np.ndarray]:
    """Split documents into the longest of each cluster of near duplicates (of equals the first) and the others, which
    name it in `detail`; with `groups` and `near` (int64 (N,)) of those that stay."""
    sizes = table["n_bytes"].to_numpy()
    order = np.lexsort((np.arange(len(table)), -sizes, near))
    first = np.append(True, near[order][1:] != near[order][:-1])
    best = np.zeros(len(table), np.int64)
    best[order] = order[np.maximum.accumulate(np.where(first, np.arange(len(table)), 0))]
    stays = best == np.arange(len(table))
    origins = table["origin"].take(pa.array(best[~stays])).to_pylist()
    copies = table.filter(pa.array(~stays))
    reasons = pa.array(["near_duplicate"] * len(copies), pa.large_string())
    details = pa.array([f"nearly equals {origin}, directly or through others" for origin in origins], pa.large_string())
    copies = copies.set_column(copies.schema.get_field_index("reason"), "reason", reasons)
    copies = copies.set_column(copies.schema.get_field_index("detail"), "detail", details)
    # Labels are numbers of documents: those of a group become the first of its members that stays.
    old_groups, old_near = groups[stays], near[stays]
    return table.filter(pa.array(stays)), copies, _renumbered(old_groups), _renumbered(old_near)


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """Labels as the number of the first document that has each."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def shared_limit(num_rows: int) -> int:
    """Most rows that a shared field may occur in to link them: 1%, but at least 20, and of few rows at most half.

    1% alone would link nothing in a corpus of less than 200 rows.
    """
    return max(num_rows // 100, min(20, num_rows // 2))


def group_documents(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Group documents, which are sorted by content. Returns (groups, near duplicates): int64 (N,), labels of both."""
    groups = Groups(len(table))
    limit = shared_limit(sum(kind == "qa" for kind in table["kind"].to_pylist()))
    for name in ("question", "context", "answer"):
        _join_equal(groups, _shared_keys(table[name]), limit)
    _join_equal(groups, [value and value.encode() for value in table["group"].to_pylist()], len(table))
    near = Groups(len(table))
    for i, j in near_pairs(table):
        near.join(i, j)
        groups.join(i, j)
    return groups.labels(), near.labels()


def near_pairs(table: pa.Table) -> list[tuple[int, int]]:
    """Near duplicates among documents by what is judged: the text, or question and answer (data/detect/near.py)."""
    parts, sizes = [np.zeros((0, NUM_HASHES), np.uint16)], [np.zeros(0, np.int64)]
    for start in tqdm(range(0, len(table), CHUNK), desc="sketching documents", leave=False, disable=None):
        hashes, offsets = word_hashes(_compared(table.slice(start, CHUNK)))
        parts.append(signatures(*ngrams(hashes, offsets, 2)))
        sizes.append(np.diff(offsets))
    signature, size = np.concatenate(parts), np.concatenate(sizes)
    return near_duplicates(signature, np.arange(len(table)), size, lambda rows: _compared(table.take(rows)))


def _compared(table: pa.Table) -> list[str]:
    rows = table.select(["text", "question", "answer"]).to_pylist()
    return [row["text"] if row["text"] is not None else f"{row['question']}\n{row['answer']}" for row in rows]


def _shared_keys(column: pa.ChunkedArray) -> list[bytes | None]:
    keys: list[bytes | None] = []
    for value in column.to_pylist():
        folded = normal(value).casefold().encode() if value else b""
        keys.append(hashlib.blake2b(folded, digest_size=16).digest() if len(folded) >= SHARED_MIN_BYTES else None)
    return keys


def _join_equal(groups: Groups, keys: list[bytes | None], limit: int) -> None:
    """Link the documents of each key that at most `limit` documents have."""
    members: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        if key is not None:
            members.setdefault(key, []).append(i)
    for rows in members.values():
        if 1 < len(rows) <= limit:
            for row in rows[1:]:
                groups.join(rows[0], row)


# -- passages in common, after the split


def drop_overlapping(splits: dict[str, list[Row]]) -> list[Row]:
    """Take from val and test each block of a cut text of which training holds a part elsewhere. Returns these rows.

    Two long texts can share chapters (an anthology and a novel in it) and be no near duplicates; both are cut, and what
    one gives to val the other trains on. Probes are 64 bytes of a block (after NFC, every run of white space as one
    space), one each 32 bytes; a block goes when 5% of its probes stand in training text. A quotation, a licence or a
    heading is less. What a block shares with the rest of its own text (a refrain, a table) does not count.
    """
    blocks = [(name, row) for name in ("val", "test") for row in splits[name] if _cut_from(row)]
    if not blocks:
        return []
    probes = [np.concatenate([*_windows(normal(row["text"]).encode())])[::STRIDE] for _, row in blocks]
    of_block = np.repeat(np.arange(len(blocks)), [len(of) for of in probes])
    texts = np.array([_cut_from(row) for _, row in blocks])[of_block]
    hashes = np.concatenate(probes)
    known = np.zeros(1 << 24, bool)  # by a hash's upper 24 bits; few windows of train pass this and are looked up
    known[hashes >> 40] = True
    found = np.zeros(len(hashes), bool)
    for text, content in _training_texts(splits["train"]):
        for windows in _windows(content):
            found |= np.isin(hashes, windows[known[windows >> 40]]) & (texts != text)
    dropped = []
    for i, (name, row) in enumerate(blocks):
        at = np.flatnonzero(found[of_block == i])
        if len(at) and len(at) >= OVERLAP_SHARE * len(probes[i]):
            start = int(at[0]) * STRIDE
            shown = normal(row["text"]).encode()[start : start + WINDOW].decode(errors="ignore")
            row["reason"] = "overlaps_train"
            row["detail"] = f"{len(at) / len(probes[i]):.0%} of it stands in train too, in another text: {shown!r}"
            splits[name].remove(row)
            dropped.append(row)
    return dropped


def _cut_from(row: Row) -> str:
    """The text that a block was cut from; "" for a whole document."""
    return str(row["group"]).rpartition("/")[0]


def _training_texts(rows: list[Row]) -> Iterator[tuple[str, bytes]]:
    """(text it was cut from, content) of each block, and of whole documents about 4 MB at a time."""
    whole: list[bytes] = []
    size = 0
    for row in rows:
        if row["text"] is not None:
            content = normal(row["text"]).encode()
            if _cut_from(row):
                yield _cut_from(row), content
                continue
            whole.append(content)
            size += len(content)
            if size > WINDOWS_AT_ONCE:
                yield "", b"\n".join(whole)
                whole, size = [], 0
    yield "", b"\n".join(whole)


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
