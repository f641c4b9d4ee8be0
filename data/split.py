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

    found = _groups_of(ids, sizes, groups, remaining, seed)
    split_of = np.full(len(found.sizes), "train", dtype=object)
    for group in found.order.tolist():
        size = int(found.sizes[group])
        for name in shares:
            if shares[name] and filled[name] + size <= quota[name]:
                filled[name] += size
                split_of[group] = name
                break
    for name in shares:
        if shares[name] and not filled[name]:
            _fill_empty(name, split_of, found, total)
    if not cut and not (split_of == "train").any():
        raise UserError("train is empty: val_share and test_share leave nothing to train on; add data or lower them")
    splits[remaining] = split_of[found.of]
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


class _Groups(NamedTuple):
    of: np.ndarray  # int64 (N,), the group of each row
    sizes: np.ndarray  # int64 (G,), bytes
    order: np.ndarray  # int64 (G,), groups as they fill the splits


def _groups_of(ids: list[str], sizes: np.ndarray, groups: np.ndarray, rows: np.ndarray, seed: int) -> _Groups:
    """Groups of `rows`, in the order of a hash of the seed and the group's smallest id."""
    _, of = np.unique(groups[rows], return_inverse=True)
    number = int(of.max()) + 1 if len(rows) else 0
    smallest = [""] * number
    for group, row in zip(of.tolist(), rows.tolist(), strict=True):
        if not smallest[group] or ids[row] < smallest[group]:
            smallest[group] = ids[row]
    keys = np.array([order_key(identity, seed) for identity in smallest], "S32")
    total = np.bincount(of, weights=sizes[rows], minlength=number).astype(np.int64)  # exact below 2^53
    return _Groups(of, total, np.argsort(keys, kind="stable"))


def order_key(identity: str, seed: int) -> bytes:
    """Where a group stands in the order that fills the splits."""
    return hashlib.sha256(f"{seed}:{identity}".encode()).digest()


def _fill_empty(name: str, split_of: np.ndarray, found: _Groups, total: int) -> None:
    """Give an empty split train's smallest group. Raises UserError where train would keep no more than half."""
    kept = found.order[split_of[found.order] == "train"]
    left = int(found.sizes[kept].sum())
    smallest = kept[np.argmin(found.sizes[kept])] if len(kept) else None
    if smallest is None or 2 * (left - int(found.sizes[smallest])) <= total:
        raise UserError(
            f"the {name} split would be empty: {total:,} bytes in {len(kept)} groups of related documents left for it "
            f"and train; add data (about 20 unrelated documents, or one text of {CUT_MIN_BYTES:,} bytes)"
        )
    split_of[smallest] = name


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
