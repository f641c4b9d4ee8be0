"""Cleaning that learns from many rows: fitted on the training split alone, applied to all three (invariant 1).

    for each step: fit(Training) -> what it learned -> apply(row, learned) to every row of every split

`apply` may change the row in place, and returns None, or (reason, detail) for a row that goes to quarantine. Rows that
change are written again (data/store.py). What a step made equal to a row of train then leaves val and test.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data.clean import Verdict, finish
from data.columns import Row
from data.config import Engine
from data.engine import map_rows
from data.facts import COUNTED, FACTS, measured
from data.store import Store

NUMBER = pa.field("number", pa.int64())
CHANGED = pa.schema([NUMBER, *(fact for fact in FACTS if fact.name not in ("place", *COUNTED))])


@dataclass(frozen=True)
class Training:
    """Rows that a step is fitted on: read from disk each time they are asked for, in the order of their content."""

    store: Store
    rows: np.ndarray  # numbers, ascending

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Row]]:
        """The rows, a thousand at most at a time."""
        return self.store.batches(self.rows)

    def first(self, number: int) -> "Training":
        """At most so many of them: as good as drawn by lot, as ids are hashes."""
        return Training(self.store, self.rows[:number])

    def by_source(self) -> dict[str, "Training"]:
        """The rows of each source."""
        of = self.store.facts["source"][self.rows] if len(self.rows) else self.rows
        parts = [self.rows[of == number] for number in np.unique(of)]
        return {self.store.take([part[0]])[0]["source"]: Training(self.store, part) for part in parts}


class FittedStep(NamedTuple):
    """`fit` sees the training rows; `apply` gets a row of any split, with its `number`, and what `fit` returned."""

    name: str
    fit: Callable[[Training], Any]
    apply: Callable[[Row, Any], Verdict]


def run_step(store: Store, train: np.ndarray, others: np.ndarray, step: FittedStep, sources: Sequence[str],
             engine: Engine) -> None:  # fmt: skip
    """Fit a step on the rows `train`, apply it to them and to `others`; a row that it rejects is no longer usable."""
    fitted = step.fit(Training(store, train))
    keep = np.zeros(len(store), bool)
    keep[train] = keep[others] = True
    size = int(store.facts["n_bytes"][keep].sum())
    work = partial(changed, apply=step.apply, fitted=fitted, sources=tuple(sources))
    for batch in map_rows(store.pieces(keep), work, CHANGED, size, engine, [store.path]):
        batch = batch.filter(pc.is_valid(batch.column("row")))
        store.replace(batch.column("number").to_numpy(), batch.drop_columns(["number"]))


def changed(
    texts: list[str], apply: Callable[[Row, Any], Verdict], fitted: Any, sources: tuple[str, ...]
) -> pa.RecordBatch:
    """A line for each numbered row: facts of a row that the step changed or rejected, else nulls."""
    numbers, rows = list[int](), list[Row]()
    places = list[int | None]()
    for text in texts:
        number, _, content = text.partition("\t")
        before: Row = orjson.loads(content)
        row = {**before, "number": int(number)}
        if verdict := apply(row, fitted):
            row["reason"], row["detail"] = verdict
        del row["number"]
        if row == before:
            places.append(None)
            continue
        places.append(len(rows))
        numbers.append(int(number))
        rows.append(finish(row))
    facts = measured(rows, [0] * len(rows), sources)
    columns = [pa.array(numbers, NUMBER.type), *(facts.column(name) for name in CHANGED.names[1:])]
    found = pa.RecordBatch.from_arrays(columns, schema=CHANGED)
    return found.take(pa.array(places, pa.int64()))


def equal_to_earlier(store: Store, splits: Sequence[np.ndarray]) -> list[tuple[int, int, np.ndarray]]:
    """(i, j, rows): rows of split j that equal one of split i, an earlier one; each row once, for the first such i."""
    found = []
    keys = [np.unique(store.facts["key"][rows]) for rows in splits]
    for j, rows in enumerate(splits):
        for i in range(j):
            equal = np.isin(store.facts["key"][rows], keys[i])
            found.append((i, j, rows[equal]))
            rows = rows[~equal]
    return found
