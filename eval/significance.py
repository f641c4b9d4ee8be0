"""Whether a difference is more than chance, for several pairs at once, and how many documents would settle it.

In: bits of each group of documents under each checkpoint, bytes of each group.
  1. if two checkpoints were equally good, either could have had either's bits in any group: such swaps are drawn for
     all groups, and p is the share of draws with a difference as large as the one that was seen (permutation test)
  2. the p of all pairs are corrected for their number (Holm 1979): of 45 pairs of equals two would have p < 0.05
  3. a difference is one where the corrected p is below ALPHA and the bootstrap's interval does not hold 0
     (bootstrap.py); where it is not, `documents_needed` says how much more evidence would find it

Without `others_RP` it speaks of other documents of this kind, not of other training seeds (seed_noise.py).
"""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np

ALPHA = 0.05
POWER = 0.8  # of finding a difference of the size that was seen
DRAWN_AT_A_TIME = 1 << 22  # swaps in memory
MOST_NEEDED = 1000  # times the documents that were judged: more is no plan


def pair_values(bits_GK: np.ndarray, draws: int, seed: int, others_RP: np.ndarray | None = None) -> np.ndarray:
    """p of each pair of checkpoints, (K * (K - 1) / 2,) in the order of itertools.combinations; two-sided.

    Draws are shared by all pairs. The observed assignment counts as one of them, so p is never 0. others_RP: bits that
    each draw adds to the difference of each pair, as two equally good configurations of other seeds would.
    """
    generator = np.random.default_rng(seed)
    num_groups, num_checkpoints = bits_GK.shape
    pairs = np.array([*combinations(range(num_checkpoints), 2)], np.int64).reshape(-1, 2)
    seen = bits_GK.sum(axis=0)
    observed = np.abs(seen[pairs[:, 0]] - seen[pairs[:, 1]])
    reached = np.ones(len(pairs), np.int64)
    at_a_time = max(1, DRAWN_AT_A_TIME // max(1, num_groups))
    for first in range(0, draws, at_a_time):
        rows = min(at_a_time, draws - first)
        signs_RG = generator.integers(0, 2, (rows, num_groups), dtype=np.int8).astype(np.float64) * 2 - 1
        # A sum with signs of each checkpoint's bits: the difference of two is the sum with signs of their differences.
        flipped_RK = signs_RG @ bits_GK
        differences = flipped_RK[:, pairs[:, 0]] - flipped_RK[:, pairs[:, 1]]
        if others_RP is not None:
            differences += others_RP[first : first + rows]
        differences = np.abs(differences)
        reached += (differences >= observed * (1 - 1e-12)).sum(axis=0)
    return reached / (draws + 1)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p corrected for their number: below ALPHA where the chance of any false difference among all is below it."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    result = np.empty(len(p))
    result[order] = corrected
    return result


def documents_needed(
    difference: float, error: float, num_documents: int, comparisons: int = 1, seeds: float = 0.0
) -> int | None:
    """How many documents would find a difference of this size in 4 of 5 such comparisons; None: more than is a plan.

    error: the standard error of the difference on `num_documents`, which shrinks with the root of their number. seeds:
    the deviation that other seeds give it, which does not.
    """
    normal = NormalDist()
    wanted = normal.inv_cdf(1 - ALPHA / comparisons / 2) + normal.inv_cdf(POWER)
    left = (difference / wanted) ** 2 - seeds**2  # of the variance, for documents
    if left <= 0 or not math.isfinite(error):
        return None
    times = error**2 / left
    return math.ceil(num_documents * times) if times <= MOST_NEEDED else None
