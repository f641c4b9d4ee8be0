"""The text that a tokenizer is trained on: the whole training split, or a seeded sample of it, as training will see it.

  1. survey: bytes of each source, from two columns of the split's Parquet files
  2. copies: training sees a document `weight` times an epoch, so it is expected weight * min(1, budget / sum(bytes *
     weight)) times: the whole part always, the rest by a hash of (seed, id)
  3. texts: slice by slice, so that memory does not grow with the corpus; a document of more than a megabyte is cut at
     line breaks into pieces that are chosen one by one

The same documents and seed give the same sample, whatever the order and number of files.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
from tqdm import tqdm

from common.errors import UserError
from tokenizer.encode import FIELDS, read_corpus
from tokenizer.patterns import cut

PIECE = 1 << 20  # bytes: larger documents are cut into pieces of so many characters


@dataclass
class Sample:
    """What is taken of each source, and, while `texts` goes on, what was: bytes of UTF-8."""

    budget: int
    seed: int
    bytes: dict[str, int]  # of the training split, by source
    copies: dict[str, float]  # how often a document is expected, by source
    taken: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """What was taken of what, for a reader."""
        whole, weighted = sum(self.bytes.values()), sum(self.taken.values())
        lines = [f"trained on {weighted:,} bytes of {whole:,} (sample_bytes {self.budget:,})"]
        if len(self.bytes) > 1 and any(copies != 1 for copies in self.copies.values()):
            lines += [
                f"  {source}: {self.taken[source]:,} bytes of {num_bytes:,}, each text {self.copies[source]:.4g} times"
                for source, num_bytes in sorted(self.bytes.items())
            ]
        return lines


def plan_sample(corpus: Path, weights: Mapping[str, float], budget: int, seed: int) -> Sample:
    """How often a document of each source is taken, so that all make about `budget` bytes or fewer.

    `weights`: source name -> how often training sees its documents in an epoch, 1 where it is missing.
    UserError where no document has a weight.
    """
    num_bytes: Counter[str] = Counter()
    for table in read_corpus(corpus, "train", ["source", "n_bytes"]):
        for found in table.group_by("source").aggregate([("n_bytes", "sum")]).to_pylist():
            num_bytes[found["source"]] += found["n_bytes_sum"] or 0
    weighted = sum(size * weights.get(source, 1.0) for source, size in num_bytes.items())
    if weighted <= 0:
        raise UserError(f"{corpus}: no source of the training split has text and a weight above 0")
    share = min(1.0, budget / weighted)
    return Sample(budget, seed, dict(num_bytes), {source: weights.get(source, 1.0) * share for source in num_bytes})


def sample_texts(corpus: Path, sample: Sample, end: re.Pattern[str] | None) -> Iterator[str]:
    """The fields of the chosen documents, and pieces of long ones, cut behind `end`; `sample.taken` counts their bytes.

    UserError behind the last document where none was chosen.
    """
    with tqdm(total=sum(sample.bytes.values()), unit="B", unit_scale=True, desc="reading") as bar:
        for table in read_corpus(corpus, "train", ["id", "source", *FIELDS]):
            fields = [table[name].to_pylist() for name in FIELDS]
            sizes = sum(pc.fill_null(pc.binary_length(table[name]), 0).to_numpy() for name in FIELDS)
            about = zip(table["id"].to_pylist(), table["source"].to_pylist(), sizes.tolist(), strict=True)
            for (identity, source, size), row in zip(about, zip(*fields, strict=True), strict=True):
                texts, copies = [text for text in row if text], sample.copies[source]
                if size <= PIECE:
                    times = _times(copies, f"{sample.seed}:{identity}")
                    sample.taken[source] += times * size
                    yield from texts * times
                    continue
                for i, piece in enumerate(piece for text in texts for piece in cut(text, end, PIECE, 2 * PIECE)):
                    times = _times(copies, f"{sample.seed}:{identity}:{i}")
                    sample.taken[source] += times * len(piece.encode())
                    yield from [piece] * times
            bar.update(int(sizes.sum()))
    if not sample.taken.total():
        raise UserError(f"sample_bytes {sample.budget:,}: no document of the training split was chosen; raise it")


def _times(copies: float, key: str) -> int:
    """How often the text of this key is taken: `copies` rounded down, or up by as many of all keys as its rest says."""
    whole = int(copies)
    if copies == whole:
        return whole
    # Not the hash that has split the documents: theirs is above a threshold, as those below are in val and test.
    drawn = int.from_bytes(hashlib.sha256(f"tokenizer:{key}".encode()).digest()[:8])
    return whole + (drawn < (copies - whole) * 2**64)
