"""The tokenizer's report: how it compresses, what of its vocabulary is used, what it does to the words that matter.

  a run's corpus and tokenizer -> measure.py   sums over the splits, or a sample of them
                               -> usage.py     tokens never, seldom or locally used
                               -> terms.py     key terms and how they are cut
                               -> against.py   other tokenizers on the test split
                               -> advice.py    what to do about the figures, and lines for the terminal
                               -> report.json, report.html (report_page.py)

The same corpus, tokenizer and others give the same bytes of report.json.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write_json
from tokenizer.advice import advice
from tokenizer.against import Other, compare
from tokenizer.bpe import Tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.measure import BAND_NAMES, OTHERS, SAMPLE_BYTES, SPLITS, SUMS, Parts, measure, sample
from tokenizer.report_page import write_page
from tokenizer.terms import terms
from tokenizer.usage import cut_characters, usage

HELD_OUT = ("val", "test")
DIMENSIONS = ("source", "category", "language", "length")
LISTED = 20  # values of a dimension, the largest by bytes
LEAST_UNITS = 10  # for an interval; for one of the gap as many documents of either side too


def write_report(
    tok: Tokenizer,
    corpus: Path,
    folder: Path,
    others: list[Other] | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    settings: TokenizerConfig | None = None,
) -> dict[str, Any]:
    """Measure, and write report.json and report.html into `folder`; returns what report.json holds."""
    report = make_report(tok, corpus, others or [], sample_bytes, settings)
    write_json(folder / "report.json", report)
    write_page(report, folder / "report.html")
    return report


def make_report(
    tok: Tokenizer,
    corpus: Path,
    others: list[Other],
    sample_bytes: int = SAMPLE_BYTES,
    settings: TokenizerConfig | None = None,
) -> dict[str, Any]:
    """The report as plain values. A split's figures are of its sample where shares[split] is below 1.

    `settings`: what `tok` was made by, for advice that its user can follow; the defaults where it is None.
    """
    settings = settings or TokenizerConfig()
    taken = settings.file is not None
    found = measure(tok, corpus, sample_bytes)
    named = terms(tok, found.words, found.word_pieces, found.num_pieces, found.word_bytes)
    words = [term["word"] for term in named["terms"]]
    report: dict[str, Any] = {
        "vocab_size": tok.vocab_size,
        "taken": taken,
        "read_share": None if taken else round(sample(corpus, "train", settings.sample_bytes), 6),
        **{split: figures(sums_of(found.parts, "all", "", (split,))) for split in SPLITS},
        "sample": {"bytes": sample_bytes, "shares": {split: round(found.shares[split], 6) for split in SPLITS}},
        "gap": gap(found.parts),
        "by": {dimension: by(found.parts, dimension) for dimension in DIMENSIONS},
        "languages": found.languages,
        "vocabulary": usage(tok, found.counts, found.spread, found.num_units),
        "cut_characters": cut_characters(found.cut),
        "key_terms": named,
        "against": compare(tok, others, corpus, found.shares["test"], words, taken),
    }
    report["advice"] = advice(report)
    return report


# -- figures of parts of the corpus


def sums_of(parts: Parts, dimension: str, value: str, splits: tuple[str, ...]) -> np.ndarray:
    return sum((parts[dimension, value, s] for s in splits if (dimension, value, s) in parts), np.zeros(len(SUMS)))


def figures(sums: np.ndarray) -> dict[str, Any]:
    """What is told of a part: amounts, bytes per token with its interval over units, tokens per word, single bytes."""
    of = dict(zip(SUMS, sums.tolist(), strict=True))
    tokens = of["tokens"]
    return {
        "documents": int(of["documents"]),
        "bytes": int(of["bytes"]),
        "tokens": int(tokens),
        "bytes_per_token": round(of["bytes"] / max(1, tokens), 4),
        "ci95": _interval(of),
        "words": int(of["words"]),
        "tokens_per_word": round(of["word_tokens"] / of["words"], 4) if of["words"] else None,
        "single_byte_share": round(of["single_bytes"] / tokens, 6) if tokens else None,
        "lone_byte_share": round(of["lone_bytes"] / tokens, 6) if tokens else None,
        "units": int(of["units"]),
    }


def _interval(of: dict[str, float]) -> list[float] | None:
    """95% interval of bytes per token, a ratio of sums over independent units (linearised); None for too few."""
    units, tokens = of["units"], of["tokens"]
    if units < LEAST_UNITS:
        return None
    ratio = of["bytes"] / tokens
    squares = max(0.0, of["bb"] - 2 * ratio * of["bt"] + ratio**2 * of["tt"])
    error = 1.96 * math.sqrt(units / (units - 1) * squares) / tokens
    return [round(ratio - error, 4), round(ratio + error, 4)]


def by(parts: Parts, dimension: str) -> list[dict[str, Any]]:
    """Values of a dimension with the figures of training and held-out text; the largest first, lengths in order."""
    values = dict.fromkeys(value for of, value, _ in parts if of == dimension)
    rows = [(value, sums_of(parts, dimension, value, ("train",)), sums_of(parts, dimension, value, HELD_OUT))
            for value in values]  # fmt: skip
    size = SUMS.index("bytes")
    if dimension != "length":
        rows.sort(key=lambda row: (row[0] == OTHERS, -(row[1] + row[2])[size], row[0]))
    else:
        rows.sort(key=lambda row: BAND_NAMES.index(row[0]))
    rest = rows[LISTED:]
    shown = [{"name": name, "train": figures(train), "held_out": figures(held)} for name, train, held in rows[:LISTED]]
    if rest:
        train, held = np.asarray([row[1:] for row in rest]).sum(axis=0)
        shown.append({"name": f"({len(rest)} others)", "train": figures(train), "held_out": figures(held)})
    return shown


def gap(parts: Parts) -> dict[str, Any]:
    """How many more tokens held-out text takes than training text of the same kin does, in percent.

    Sources and scripts differ more than splits do, so the held-out bytes of each stand against its own training text.
    The interval is over units of both. What has no kin in the training text is left out. Blocks of fewer than
    LEAST_UNITS documents, of either side, have none: they say how the few differ, and nothing of others.
    """
    expected = actual = variance = 0.0
    num_bytes = units = 0.0
    documents = np.zeros(2)  # held out, training
    for value in dict.fromkeys(value for of, value, _ in parts if of == "kin"):
        train, held = (dict(zip(SUMS, sums_of(parts, "kin", value, splits).tolist(), strict=True))
                       for splits in (("train",), HELD_OUT))  # fmt: skip
        if not train["bytes"] or not held["bytes"]:
            continue
        rate = train["tokens"] / train["bytes"]
        expected += rate * held["bytes"]
        actual += held["tokens"]
        squares = [of["tt"] - 2 * rate * of["bt"] + rate**2 * of["bb"] for of in (held, train)]
        variance += max(0.0, squares[0]) + (held["bytes"] / train["bytes"]) ** 2 * max(0.0, squares[1])
        num_bytes += held["bytes"]
        units += held["units"]
        documents += [held["documents"], train["documents"]]
    enough = min(units, *documents) >= LEAST_UNITS
    percent = 100 * (actual / expected - 1) if expected else None
    error = 196 * math.sqrt(variance * units / (units - 1)) / expected if enough else None
    return {
        "percent": None if percent is None else round(percent, 2),
        "ci95": None if error is None or percent is None else [round(percent - error, 2), round(percent + error, 2)],
        "bytes": int(num_bytes),
        "documents": int(documents[0]),
        "train_documents": int(documents[1]),
        "units": int(units),
    }
