"""Groups and long documents become train, val and test, so that nothing in one was seen in another.

    documents with groups -> 1. long texts are cut into train | gap | val | gap | test (blocks in a row)
                          -> 2. the other groups fill val and test up to their quota in bytes, in hash order;
                             3. the rest is train

The hash is of content and seed: neither the order of files nor the number of rows in another group moves a group.
A group that is larger than what is free of a quota goes to train. A split that would stay empty takes the smallest
group, if train keeps more than half of the bytes; else the run stops with one line.

Long: over 2% of the corpus's bytes and at least 4,000 bytes (a val block of 5% is then 200). Near duplicates of a text
that is cut (another edition of the same book) would put the same page on two sides, so of such texts only the longest
stays, the others are quarantined. A text that is in a group by anything else (its `group` value) is not cut: it was
said to belong with the others. The gap is 1% of the text, at most 4,096 bytes, twice.
"""

import hashlib
import re
from typing import NamedTuple

import numpy as np

from common.errors import UserError

SPLITS = ("train", "val", "test")
CUT_SHARE, CUT_MIN_BYTES = 0.02, 4000
GAP_SHARE, GAP_MAX_BYTES = 0.01, 4096


class Plan(NamedTuple):
    """What becomes of each of N documents."""

    splits: np.ndarray  # object (N,): train, val, test, "cut", or "near_duplicate" of a text that is cut
    keepers: np.ndarray  # int64 (N,): for a near_duplicate, the document that stays; else -1


def plan_split(
    ids: list[str],
    sizes: np.ndarray,
    is_text: np.ndarray,
    groups: np.ndarray,
    near: np.ndarray,
    val_share: float,
    test_share: float,
    seed: int,
) -> Plan:
    """Decide for each document. `groups` and `near` are labels, `sizes` bytes; ids ascend. Raises UserError.

    All arrays have N elements.
    """
    splits = np.full(len(ids), "train", dtype=object)
    keepers = np.full(len(ids), -1, dtype=np.int64)
    cut = _find_cut(sizes, is_text, groups, near)
    for keeper, others in cut.items():
        splits[keeper] = "cut"
        splits[others] = "near_duplicate"
        keepers[others] = keeper
    remaining = np.flatnonzero(splits == "train")
    # What the cut texts give to val and test already counts towards the quota.
    cut_bytes = int(sizes[list(cut)].sum()) if cut else 0
    total = cut_bytes + int(sizes[remaining].sum())
    shares = {"val": val_share, "test": test_share}
    filled = {name: int(cut_bytes * share) for name, share in shares.items()}
    quota = {name: total * share for name, share in shares.items()}

    order = _hash_order(ids, sizes, groups, remaining, seed)
    kept: list[tuple[int, list[int]]] = []  # groups that stay in train
    for size, members in order:
        for name in shares:
            if shares[name] and filled[name] + size <= quota[name]:
                filled[name] += size
                splits[members] = name
                break
        else:
            kept.append((size, members))
    for name in shares:
        if shares[name] and not filled[name]:
            _fill_empty(name, splits, kept, total)
    if not cut and not kept:
        raise UserError("train is empty: val_share and test_share leave nothing to train on; add data or lower them")
    return Plan(splits, keepers)


def _find_cut(sizes: np.ndarray, is_text: np.ndarray, groups: np.ndarray, near: np.ndarray) -> dict[int, list[int]]:
    """Text that is cut -> its near duplicates, which go to quarantine."""
    long = is_text & (sizes > CUT_SHARE * sizes.sum()) & (sizes >= CUT_MIN_BYTES)
    found: dict[int, list[int]] = {}
    for label in dict.fromkeys(groups[long].tolist()):
        members = np.flatnonzero(groups == label)
        if len(set(near[members].tolist())) > 1 or not is_text[members].all():
            continue  # held together by more than being copies of each other
        longest = int(members[np.argmax(sizes[members])])  # of equal ones the first by content
        found[longest] = [int(member) for member in members if member != longest]
    return found


def _hash_order(
    ids: list[str], sizes: np.ndarray, groups: np.ndarray, rows: np.ndarray, seed: int
) -> list[tuple[int, list[int]]]:
    """(bytes, members) of each group, in the order of a hash of the seed and the group's smallest id."""
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(groups[row]), []).append(row)
    return [
        (int(sizes[of].sum()), of)
        for of in sorted(members.values(), key=lambda of: order_key(min(ids[row] for row in of), seed))
    ]


def order_key(identity: str, seed: int) -> bytes:
    """Where a group stands in the order that fills the splits."""
    return hashlib.sha256(f"{seed}:{identity}".encode()).digest()


def _fill_empty(name: str, splits: np.ndarray, kept: list[tuple[int, list[int]]], total: int) -> None:
    """Give an empty split train's smallest group. Raises UserError where train would keep no more than half."""
    smallest = min(range(len(kept)), key=lambda i: kept[i][0], default=None)
    left = sum(size for size, _ in kept) - (kept[smallest][0] if smallest is not None else 0)
    if smallest is None or 2 * left <= total:
        raise UserError(
            f"the {name} split would be empty: {total:,} bytes in {len(kept)} groups of related documents left for it "
            f"and train; add data (about 20 unrelated documents, or one text of {CUT_MIN_BYTES:,} bytes)"
        )
    _, members = kept.pop(smallest)
    splits[members] = name


# -- cutting


def cut_text(text: str, val_share: float, test_share: float) -> list[tuple[str, int, int]]:
    """Blocks of a text as (train | gap | val | gap | test, start, end), characters; together they are the text.

    Boundaries are the end of a paragraph near the wanted place, else of a line, else of a word; of anything where the
    text has none of these. A share of 0 leaves that block and its gap out.
    """
    size = len(text)
    gap = int(min(GAP_SHARE * size, GAP_MAX_BYTES * size / len(text.encode())))
    wanted: list[tuple[str, int]] = []  # from the end backwards: name of the block and its length
    if test_share:
        wanted += [("test", int(test_share * size)), ("gap", gap)]
    if val_share:
        wanted += [("val", int(val_share * size)), ("gap", gap)]
    blocks: list[tuple[str, int, int]] = []
    end = size
    for name, length in wanted:
        start = _boundary(text, end - length, slack=max(length // 4, 1))
        blocks.append((name, start, end))
        end = start
    blocks.append(("train", 0, end))
    return [block for block in reversed(blocks) if block[2] > block[1]]


def _boundary(text: str, wanted: int, slack: int) -> int:
    """The boundary nearest to `wanted`, at most `slack` characters away: paragraph, line, word, or none."""
    low, high = max(wanted - slack, 0), min(wanted + slack, len(text))
    window = text[low:high]
    for pattern in (r"(?:\r?\n){2,}", r"\r?\n|\r", r"\s+"):
        ends = [low + match.end() for match in re.finditer(pattern, window)]
        ends = [end for end in ends if low < end < high]
        if ends:
            return min(ends, key=lambda end: (abs(end - wanted), end))
    # Not between the parts of one visible character, where it can be helped.
    while low < wanted < high and re.match(r"[\u0300-\u036f\u200d\ufe0f\U0001f3fb-\U0001f3ff]", text[wanted]):
        wanted += 1
    return wanted
