"""How much better a checkpoint is on what it trained on than on held-out documents of the same corpus.

In: losses of a sample of its training documents, and what the held-out ones gave. Out: bits per byte of the first, the
gap between the two, and a 95% interval of it: both sides are resampled by groups, each by itself.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.bootstrap import effective_groups, enough, group_sums, interval, resample
from eval.losses import DocumentLosses


class HeldOutSide(NamedTuple):
    """Of one checkpoint on the held-out documents."""

    bpb: float
    figures_R: np.ndarray  # bits per byte of each resample
    bytes_G: np.ndarray  # of the groups that were resampled


def train_figures(
    trained_on: DocumentLosses | None, groups: Sequence[str], parts: Sequence[int], other: HeldOutSide | None, seed: int
) -> dict[str, Any]:
    """{"train_bpb", "train_documents", "gap_bpb", "gap_ci95"}; None where it is not known, the interval too where one
    of the sides has too few groups for any.

    groups: of each document of `trained_on`. other: None where the held-out documents are of another corpus.
    """
    told: dict[str, Any] = {"train_bpb": None, "train_documents": 0, "gap_bpb": None, "gap_ci95": None}
    if trained_on is None or (bpb := trained_on.bits_per_byte(parts)) is None:
        return told
    told |= {"train_bpb": bpb, "train_documents": int((trained_on.bytes(parts) > 0).sum())}
    if other is None:
        return told
    told["gap_bpb"] = other.bpb - bpb
    bits_G, bytes_G = group_sums(trained_on.bits(parts), groups), group_sums(trained_on.bytes(parts), groups)
    bits_G, bytes_G = bits_G[bytes_G > 0], bytes_G[bytes_G > 0]
    if enough(bytes_G) and enough(other.bytes_G):
        train_R = resample(bits_G[:, None], bytes_G, len(other.figures_R), seed + 1)[:, 0]
        fewer = min(effective_groups(bytes_G), effective_groups(other.bytes_G))
        told["gap_ci95"] = list(interval(other.figures_R - train_R, fewer))
    return told
