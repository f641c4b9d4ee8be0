"""Files -> rows with facts: the first pass of audit and prepare alike.

Each file in turn is read (data/readers.py); each row goes through the steps for one row, is looked at (data/facts.py),
and lies on disk afterwards (data/store.py).
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
from tqdm import tqdm

from common.errors import UserError
from data.config import Engine
from data.engine import map_rows
from data.facts import COUNTED, FACTS, LABELS, Settings, facts_of
from data.readers import read_file
from data.sources import InputFile, SourceConfig
from data.store import Store

PARQUET_EXPANDED, TEXT_EXPANDED = 3, 4  # bytes of rows a byte of file, about; of a text, where it is compressed


class Gathered(NamedTuple):
    """All rows, how many bear each of the readers' notes, and each category and difficulty."""

    store: Store
    notes: Counter[str]
    labels: dict[str, Counter[str]]


def gather(
    files: list[tuple[InputFile, SourceConfig]], settings: Settings, folder: Path, engine: Engine = "native"
) -> Gathered:
    """All rows of all files in a store of `folder`. Raises UserError for what only a file can show."""
    # Numbers follow names, so that the order in which files are named plays no part.
    ordered = sorted(files, key=lambda pair: (str(pair[1].name), pair[0].shown))
    pieces = [partial(_rows_of, file, source, number) for number, (file, source) in enumerate(ordered)]
    store, mistakes = Store(folder), list[tuple[int, str]]()
    counts = {name: Counter[str]() for name in (*LABELS, "note")}
    with tqdm(desc="reading", unit=" rows", leave=False, disable=None) as bar:
        work = partial(facts_of, settings=settings)
        paths = {store.path, *(file.path for file, _ in ordered)}  # the store is read in the second look
        for batch in map_rows(pieces, work, FACTS, _expected(ordered), engine, paths):
            for name, counter in counts.items():
                counter.update(value for value in batch.column(name).drop_null().to_pylist() if value)
            said = batch.filter(batch.column("mistake").is_valid())
            mistakes += zip(said.column("place").to_pylist(), said.column("mistake").to_pylist(), strict=True)
            store.add(batch.drop_columns(list(COUNTED)))
            bar.update(batch.num_rows)
    if mistakes:
        raise UserError(min(mistakes)[1])
    return Gathered(store.sorted(), counts.pop("note"), counts)


def _rows_of(file: InputFile, source: SourceConfig, number: int) -> Iterator[str]:
    for place, row in enumerate(read_file(file, source)):
        row["place"] = number << 40 | place
        yield orjson.dumps(row).decode()


def _expected(files: list[tuple[InputFile, SourceConfig]]) -> int:
    return sum(
        file.path.stat().st_size * (PARQUET_EXPANDED if file.format == "parquet" else TEXT_EXPANDED)
        for file, _ in files
        if file.path.exists()
    )
