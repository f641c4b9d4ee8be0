"""Where each row goes: into a split, or out of the corpus and why.

Rows lie in a store (data/store.py). Here are, for each by its number: its split, or that it is out and why, its group,
and of which text it is a block. So nothing is moved while splits are made and cleaned.
"""

from collections.abc import Sequence

import numpy as np

from data.clean import finish
from data.columns import Row
from data.facts import COUNTED, measured
from data.split import SPLITS, cut_text
from data.store import Store

OUT, IN_BLOCKS = -1, -2  # in place of a split

# Why a row is out. {} is the origin of the row that stays in its place.
ITSELF, EXACT, NEAR, NEAR_CUT, EQUAL_FROM = range(5)
EQUAL = {pair: EQUAL_FROM + i for i, pair in enumerate([("val", "train"), ("test", "train"), ("test", "val")])}
WHY = {
    EXACT: ("exact_duplicate", "equals {}"),
    NEAR: ("near_duplicate", "nearly equals {}, directly or through others"),
    NEAR_CUT: ("near_duplicate", "of {}, which is cut between the splits"),
    **{
        number: (f"equal_to_{other}", f"after cleaning, this row of {name} equals one of {other}")
        for (name, other), number in EQUAL.items()
    },
}


class Corpus:
    """Rows of a store on their way into splits. Arrays have an element for each row."""

    def __init__(self, store: Store, sources: Sequence[str]) -> None:
        num = len(store)
        self.store, self.sources, self.num_read = store, sources, num
        self.ids = store.facts["id"].copy() if num else np.zeros(0, "S16")  # as they were when groups were named
        self.split = np.full(num, OUT, np.int8)  # of SPLITS, or OUT, or IN_BLOCKS
        self.why = np.full(num, ITSELF, np.uint8)
        self.keeper = np.full(num, -1, np.int64)  # the row that stays in its place
        self.group = np.full(num, -1, np.int64)  # the row whose id names its group
        self.pieces: dict[int, tuple[int, str]] = {}  # block -> the text it was cut from, its split or "gap"
        self.said: dict[int, tuple[str, str]] = {}  # reason and detail, where they are one row's own
        self.shared_limit = 0
        self.num_planted = 0  # rows that were read from no file: data/canaries.py

    def of(self, *splits: str) -> np.ndarray:
        """The rows that are in one of these splits now, ascending."""
        return np.flatnonzero(np.isin(self.split, [SPLITS.index(name) for name in splits]))

    def drop(
        self,
        rows: np.ndarray,
        why: int = ITSELF,
        keepers: np.ndarray | None = None,
        said: tuple[str, str] | None = None,
    ) -> None:
        """Rows go to quarantine."""
        self.split[rows], self.why[rows] = OUT, why
        if keepers is not None:
            self.keeper[rows] = keepers
        if said is not None:
            self.said |= dict.fromkeys(rows.tolist(), said)

    def cut(self, number: int, val_share: float, test_share: float) -> None:
        """A long text becomes blocks, which are rows behind all others; their group is the text's with the split's
        name."""
        [row] = self.store.take([number])
        blocks, names = [], []
        offset = 0
        for name, start, end in cut_text(row["text"], val_share, test_share):
            text = row["text"][start:end]
            size = len(text.encode())
            block = {**row, "text": text, "origin": f"{row['origin']}[{offset}:{offset + size}]"}
            if name == "gap":
                block |= {"reason": "gap", "detail": "between the splits of a text that is cut"}
            blocks.append(finish(block))
            names.append(name)
            offset += size
        assert offset == row["n_bytes"]
        first, num = len(self.store), len(blocks)
        places = [int(self.store.facts["place"][number])] * num
        self.store.extend(measured(blocks, places, self.sources).drop_columns(list(COUNTED)))
        self.split[number] = IN_BLOCKS
        splits = [OUT if name == "gap" else SPLITS.index(name) for name in names]
        self.split = np.append(self.split, np.array(splits, np.int8))
        self.why = np.append(self.why, np.zeros(num, np.uint8))
        self.keeper = np.append(self.keeper, np.full(num, -1))
        self.group = np.append(self.group, np.full(num, self.group[number]))
        self.pieces |= {first + i: (number, name) for i, name in enumerate(names)}

    def plant(self, rows: list[Row], source: str) -> None:
        """Rows of a source of their own, which stand in no file, go to train, behind all others. Equal ones are copies
        of each other and a group."""
        start, num = len(self.store), len(rows)
        self.sources = [*self.sources, source]
        self.store.extend(measured(rows, [0] * num, self.sources).drop_columns(list(COUNTED)))
        # A block's group is named by the id of its text, so that blocks had no ids here until now.
        self.ids = np.concatenate([self.ids, self.store.facts["id"][len(self.ids) :]])
        self.split = np.append(self.split, np.full(num, SPLITS.index("train"), np.int8))
        self.why = np.append(self.why, np.zeros(num, np.uint8))
        self.keeper = np.append(self.keeper, np.full(num, -1))
        _, first, of = np.unique(self.ids[start:], return_index=True, return_inverse=True)
        self.group = np.append(self.group, start + first[of])
        self.num_planted += num

    def num_groups(self) -> int:
        """Groups in the splits; each block of a text is one of its own."""
        inside = self.of(*SPLITS)
        blocks = np.isin(inside, list(self.pieces))
        return len(np.unique(self.group[inside[~blocks]])) + int(blocks.sum())

    def out(self) -> np.ndarray:
        """Rows of the quarantine, in the order of their places."""
        rows = np.flatnonzero(self.split == OUT)
        return rows[np.argsort(self.store.facts["place"][rows], kind="stable")] if len(rows) else rows

    def groups(self, rows: np.ndarray) -> list[str | None]:
        """The name of each row's group: the id of the first in it; of a block, with its split. None: it has none."""
        names: list[str | None] = []
        own = self.group[rows]
        for row, group, name in zip(rows.tolist(), own.tolist(), hex_ids(self.ids[own]), strict=True):
            block = f"/{self.pieces[row][1]}" if row in self.pieces else ""
            names.append(None if group < 0 else name + block)
        return names

    def verdicts(self, rows: np.ndarray, told: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """(reason, detail) of rows that are out. told: what each says itself."""
        found = list(told)
        kept = sorted({keeper for keeper in self.keeper[rows].tolist() if keeper >= 0})
        origins = {keeper: row["origin"] for keeper, row in zip(kept, self.store.each(kept), strict=True)}
        for i, (row, why) in enumerate(zip(rows.tolist(), self.why[rows].tolist(), strict=True)):
            if row in self.said:
                found[i] = self.said[row]
            elif why != ITSELF:
                reason, detail = WHY[why]
                found[i] = reason, detail.format(origins.get(int(self.keeper[row])))
        return found


def hex_ids(ids: np.ndarray) -> list[str]:
    """32 hex digits of each id (S16, of which NumPy drops zeros at the end)."""
    digits = np.ascontiguousarray(ids).tobytes().hex()
    return [digits[at : at + 32] for at in range(0, len(digits), 32)]
