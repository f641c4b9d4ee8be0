"""Where a checkpoint is good and where it is not: its bits per byte by source, category, difficulty, length and place.

In: losses of each document under each checkpoint, and the documents. Out: for each label its values, with the data that
each figure rests on. Intervals resample whole groups, all checkpoints the same ones; of fewer than 10 groups there is
none.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from eval.bootstrap import effective_groups, enough, group_sums, interval, resample
from eval.losses import DocumentLosses, PositionLosses

LABELS = ("source", "category", "difficulty")
LENGTHS = (256, 1024, 4096)  # bytes of a document: tokens differ between tokenizers
VALUES = 30  # of a label that are told apart
RESAMPLES = 2000
NONE, OTHERS = "(none)", "(others)"


def breakdowns(
    losses: Sequence[DocumentLosses], table: pa.Table, groups: Sequence[str], parts: Sequence[int], seed: int
) -> dict[str, list[dict[str, Any]]]:
    """For each label that tells documents apart: {"value", "documents", "groups", "bytes", "bpb": one a checkpoint,
    "ci95": one a checkpoint, or null}; the values in order of their number of documents, lengths in their own.

    losses: of each checkpoint, on the rows of `table`. groups: of each row. parts: whose bits and bytes count.
    """
    bits_NK = np.stack([one.bits(parts) for one in losses], axis=1)
    bytes_N = losses[0].bytes(parts)
    names = np.asarray(groups, dtype=str)
    found = {}
    for label, values in labels_of(table, bytes_N).items():
        of = np.asarray(values, dtype=object)
        told = []
        for value in _order(label, values):
            some = (of == value) & (bytes_N > 0)
            if some.any():
                told.append({"value": value, **_figures(bits_NK[some], bytes_N[some], names[some], seed)})
        if len(told) > 1:
            found[label] = told
    return found


def labels_of(table: pa.Table, bytes_N: np.ndarray) -> dict[str, list[str]]:
    """Values of each label, one a document."""
    found = {}
    for label in LABELS:
        values = [value or NONE for value in table[label].to_pylist()]
        ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
        kept = {value for value, _ in ranked[:VALUES]}
        found[label] = [value if value in kept else OTHERS for value in values]
    found["length"] = [length_name(int(number)) for number in bytes_N]
    return found


def length_name(number: int) -> str:
    """The bucket of so many bytes."""
    for low, high in zip((0, *LENGTHS), LENGTHS, strict=False):
        if number <= high:
            return f"{low + 1:,} to {high:,} bytes" if low else f"up to {high:,} bytes"
    return f"over {LENGTHS[-1]:,} bytes"


def _order(label: str, values: Sequence[str]) -> list[str]:
    if label == "length":
        return [length_name(number) for number in (*LENGTHS, LENGTHS[-1] + 1)]
    ranked = sorted(Counter(values).items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    return [value for value, _ in ranked]


def _figures(bits_NK: np.ndarray, bytes_N: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
    bits_GK, bytes_G = group_sums(bits_NK, groups), group_sums(bytes_N, groups)
    told: dict[str, Any] = {
        "documents": len(bytes_N),
        "groups": len(bytes_G),
        "bytes": int(bytes_G.sum()),
        "bpb": (bits_GK.sum(axis=0) / bytes_G.sum()).tolist(),
        "ci95": None,
    }
    if enough(bytes_G):
        figures = resample(bits_GK, bytes_G, RESAMPLES, seed)
        effective = effective_groups(bytes_G)
        told["ci95"] = [list(interval(figures[:, k], effective)) for k in range(bits_GK.shape[1])]
    return told


def by_position(positions: Sequence[PositionLosses | None], parts: Sequence[int]) -> list[dict[str, Any]]:
    """Bits per byte of `parts` by how many tokens stood in front: {"value", "bpb", "bytes"}, both one a checkpoint, as
    a token is another amount of text in each vocabulary; null where that is not known."""
    told = []
    names = next((one.names() for one in positions if one is not None), [])
    for place, value in enumerate(names):
        sizes = [None if one is None else one.bytes(place, parts) for one in positions]
        if any(sizes):
            bpb = [None if one is None else one.bits_per_byte(place, parts) for one in positions]
            told.append({"value": value, "bpb": bpb, "bytes": sizes})
    return told
