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
from data.loader import about_corpus
from data.turns import texts_of
from tokenizer.config import TokenizerConfig
from tokenizer.encode import FIELDS, read_corpus
from tokenizer.patterns import AFTER_BREAK, break_of, cut, regex_of
from tokenizer.words import SENTENCEPIECE, Trainer, byte_level_trainer, words_growth

PIECE = 1 << 20  # bytes: larger documents, of a small budget those above 1/256 of it, are cut into pieces of that size
# Text whose words cannot take more than 6 GB (75 bytes of memory a byte of base64, 105 of Chinese), text whose words
# are counted to tell how much more would take, and the memory that they may.
HARMLESS, PILOT, MOST_MEMORY = 1 << 26, 1 << 24, 8e9


@dataclass
class Sample:
    """What is taken of each source, and, while `texts` goes on, what was: bytes of UTF-8."""

    budget: int
    seed: int
    bytes: dict[str, int]  # of the training split, by source
    copies: dict[str, float]  # how often a document is expected, by source
    taken: Counter[str] = field(default_factory=Counter)

    @property
    def expected(self) -> int:
        """Bytes that are taken, but for chance."""
        return int(sum(size * self.copies[source] for source, size in self.bytes.items()))

    def lines(self) -> list[str]:
        """What was taken of what, for a reader."""
        whole, read = sum(self.bytes.values()), self.taken.total()
        lines = [f"trained on {read:,} bytes; the split has {whole:,}, sample_bytes is {self.budget:,}"]
        if len(self.bytes) > 1 and any(copies != 1 for copies in self.copies.values()):
            lines += [
                f"  {source}: {self.taken[source]:,} bytes of {num_bytes:,}, {_often(self.copies[source])}"
                for source, num_bytes in sorted(self.bytes.items())
            ]
        return lines


def _often(copies: float) -> str:
    return f"each text {copies:.3g} times" if copies >= 0.1 or copies == 0 else f"one text of {round(1 / copies):,}"


def training_sample(corpus: Path, settings: TokenizerConfig) -> tuple[Sample, re.Pattern[str] | None]:
    """What a tokenizer of these settings is trained on, and the breaks behind which its texts may be cut."""
    _, weights = about_corpus(corpus / "manifest.json")
    sample = plan_sample(survey(corpus), weights, settings.sample_bytes, settings.seed)
    if settings.backend == "sentencepiece":
        return within_memory(corpus, sample, weights, SENTENCEPIECE, AFTER_BREAK), AFTER_BREAK
    regex = regex_of(settings.pattern, settings.digits, settings.code)
    return within_memory(corpus, sample, weights, byte_level_trainer(regex), break_of(regex)), break_of(regex)


def training_texts(corpus: Path, settings: TokenizerConfig) -> Iterator[str]:
    """The texts of `training_sample`."""
    yield from sample_texts(corpus, *training_sample(corpus, settings))


def survey(corpus: Path) -> dict[str, int]:
    """Bytes of the training split, by source."""
    num_bytes: Counter[str] = Counter()
    for table in read_corpus(corpus, "train", ["source", "n_bytes"]):
        # Lists, here and below: an array of NumPy's would have Arrow import pandas, for 0.13 s.
        for source, size in zip(table["source"].to_pylist(), table["n_bytes"].to_pylist(), strict=True):
            num_bytes[source] += size or 0
    return dict(num_bytes)


def plan_sample(num_bytes: Mapping[str, int], weights: Mapping[str, float], budget: int, seed: int) -> Sample:
    """How often a document of each source is taken, so that all make about `budget` bytes or fewer.

    `weights`: source name -> how often training sees its documents in an epoch, 1 where it is missing.
    UserError where no document has a weight.
    """
    weighted = sum(size * weights.get(source, 1.0) for source, size in num_bytes.items())
    if weighted <= 0:
        raise UserError("no source of the training split has text and a weight above 0")
    share = min(1.0, budget / weighted)
    return Sample(budget, seed, dict(num_bytes), {source: weights.get(source, 1.0) * share for source in num_bytes})


def within_memory(
    corpus: Path, sample: Sample, weights: Mapping[str, float], trainer: Trainer, end: re.Pattern[str] | None
) -> Sample:
    """The sample, or a smaller one where the trainer would take more than MOST_MEMORY for it; says so."""
    if sample.expected <= HARMLESS:
        return sample
    pilot = plan_sample(sample.bytes, weights, PILOT, sample.seed)
    growth = words_growth(list(sample_texts(corpus, pilot, end, "counting words")), trainer)
    if (memory := growth.memory_of(sample.expected)) <= MOST_MEMORY:
        return sample
    budget = growth.text_within(MOST_MEMORY)
    print(
        f"the trainer would take {memory / 1e9:.0f} GB for {sample.expected:,} bytes (their distinct words grow as "
        f"bytes^{growth.power:.2f}): it reads {budget:,} bytes, for {MOST_MEMORY / 1e9:.0f} GB"
    )
    return plan_sample(sample.bytes, weights, budget, sample.seed)


def sample_texts(corpus: Path, sample: Sample, end: re.Pattern[str] | None, desc: str = "reading") -> Iterator[str]:
    """The fields of the chosen documents, and pieces of long ones, cut behind `end`; `sample.taken` counts their bytes.

    UserError behind the last document where none was chosen.
    """
    most = max(1, min(PIECE, sample.budget >> 8))
    with tqdm(total=sum(sample.bytes.values()), unit="B", unit_scale=True, desc=desc) as bar:
        for table in read_corpus(corpus, "train", ["id", "source", *FIELDS]):
            fields = [table[name].to_pylist() for name in FIELDS]
            lengths = [pc.binary_length(table[name]).to_pylist() for name in FIELDS]
            sizes = [sum(filter(None, row)) for row in zip(*lengths, strict=True)]
            about = zip(table["id"].to_pylist(), table["source"].to_pylist(), sizes, strict=True)
            for (identity, source, size), row in zip(about, zip(*fields, strict=True), strict=True):
                texts, copies = texts_of(row), sample.copies[source]
                if size <= most:
                    times = _times(copies, f"{sample.seed}:{identity}")
                    sample.taken[source] += times * size
                    yield from texts * times
                    continue
                for i, piece in enumerate(piece for text in texts for piece in cut(text, end, most, 2 * most)):
                    times = _times(copies, f"{sample.seed}:{identity}:{i}")
                    sample.taken[source] += times * len(piece.encode())
                    yield from [piece] * times
            bar.update(sum(sizes))
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
