"""Which of two checkpoints is better, for every pair of those compared: one verdict each, in figures and in words.

In: bits of each group of documents under each checkpoint, bytes of each group; which checkpoints are of one run; how
far other seeds lie apart, where that was measured (seed_noise.py).
  1. 95% interval of the difference: paired bootstrap over groups                                     (bootstrap.py)
  2. p of the permutation test over the same groups, corrected for the number of pairs             (significance.py)
  3. with seed noise, each draw of both adds what two other seeds would have: the question is then which
     configuration is better, and not which of these two runs. Epochs of one run have their seed in common
Out: "better" where interval and p agree, else "cannot tell", and how many documents would settle it.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from eval.bootstrap import FEWEST_GROUPS, effective_groups, enough, interval
from eval.seed_noise import SeedNoise, noise_draws
from eval.significance import ALPHA, documents_needed, holm, pair_values

DRAWS_A_PAIR = 100  # of the permutation test: p is 1 / draws at least, so that corrected it can be 0.01


def judge_pairs(
    names: Sequence[str],
    runs: Sequence[str],
    bits_GK: np.ndarray,
    bytes_G: np.ndarray,
    figures_RK: np.ndarray,
    num_documents: int,
    seed: int,
    noise: SeedNoise | None = None,
    replicas: Sequence[Sequence[str]] = (),
) -> list[dict[str, Any]]:
    """A verdict on each pair, in the order of itertools.combinations.

    names, runs: of each checkpoint (K,). bits_GK, bytes_G: float64, every group with bytes. figures_RK: bits per byte
    of each resample (bootstrap.resample). replicas: names of those that differ by their seed alone.
    """
    totals_K = bits_GK.sum(axis=0) / bytes_G.sum()
    pairs = [*combinations(range(len(names)), 2)]
    others_R = noise_draws(noise, len(figures_RK), seed)
    apart = np.array([runs[a] != runs[b] for a, b in pairs], float)
    draws = max(len(figures_RK), DRAWS_A_PAIR * len(pairs))
    others_DP = noise_draws(noise, draws, seed)[:, None] * apart * bytes_G.sum() if noise else None
    p = pair_values(bits_GK, draws, seed, others_DP)
    basis = {"num_documents": num_documents, "num_groups": len(bytes_G), "num_bytes": int(bytes_G.sum())}
    return [
        {
            **verdict(
                (names[a], names[b]),
                totals_K[[a, b]],
                figures_RK[:, b] - figures_RK[:, a],
                others_R * own if noise and own else None,
                bytes_G,
                (p_alone, p_corrected),
                len(pairs),
                num_documents,
                any(names[a] in of and names[b] in of for of in replicas),
            ),
            **basis,
        }
        for (a, b), own, p_alone, p_corrected in zip(pairs, apart, p.tolist(), holm(p).tolist(), strict=True)
    ]


def verdict(
    names: tuple[str, str],
    totals: np.ndarray,
    differences_R: np.ndarray,
    others_R: np.ndarray | None,
    bytes_G: np.ndarray,
    p: tuple[float, float],
    comparisons: int,
    num_documents: int,
    seed_alone: bool = False,
) -> dict[str, Any]:
    """One pair (a, b): delta_bpb = b - a (negative: b is better), its 95% interval, and what that means in words.

    differences_R: resampled by documents. others_R: what other seeds add to each. p: of the permutation test, alone and
    corrected for `comparisons` pairs.
    """
    a, b = names
    low, high = interval(differences_R if others_R is None else differences_R + others_R, effective_groups(bytes_G))
    delta = float(totals[1] - totals[0])
    data = f"{num_documents:,} documents in {len(bytes_G):,} groups" + (", other seeds" if others_R is not None else "")
    better, worse = (b, a) if delta < 0 else (a, b)
    first, second = sorted(float(total) for total in totals)
    span = (low, high) if delta < 0 else (-high, -low)
    figures = (
        f"{first:.4f} against {second:.4f} bits per byte, difference {first - second:.4f} "
        f"[{span[0]:.4f}, {span[1]:.4f}], p {_p(p[0])}, {data}"
    )
    different = enough(bytes_G) and not low <= 0 <= high and p[1] < ALPHA
    needed = None
    if not different:
        seeds = _deviation(others_R) if others_R is not None else 0.0
        needed = documents_needed(delta, float(np.std(differences_R)), num_documents, comparisons, seeds)
        if needed is not None and not enough(bytes_G):
            needed = max(needed, math.ceil(num_documents * FEWEST_GROUPS / len(bytes_G)))
        if needed is not None and needed <= num_documents:
            needed = None  # by a normal distribution: few groups need more
        elif needed:
            figures += f"; about {needed:,} such documents would settle a difference like this"
        elif seeds and documents_needed(delta, float(np.std(differences_R)), num_documents, comparisons):
            figures += "; no number of documents would settle it, as seeds alone differ so much: compare more runs"
    if not enough(bytes_G):
        few = f"{len(bytes_G)} groups are too few ({FEWEST_GROUPS} or more are needed)"
        what = f"cannot tell {better} from {worse}: {few}; {figures}"
    elif low <= 0 <= high:
        what = f"cannot tell {better} from {worse}, the interval holds 0: {figures}"
    elif not different:
        of = f", corrected for {comparisons} comparisons," if comparisons > 1 else ""
        what = f"cannot tell {better} from {worse}, chance{of} reaches as far with p {_p(p[1])}: {figures}"
    else:
        of = ", though they differ by their seed alone" if seed_alone else ""
        what = f"{better} is better than {worse}{of}: {figures}"
    return {
        "a": a,
        "b": b,
        "delta_bpb": delta,
        "ci95": [low, high],
        "better": better if different else None,
        "p": p[0],
        "p_corrected": p[1],
        "documents_needed": needed,
        "seed_alone": seed_alone,
        "verdict": what,
    }


def _deviation(draws: np.ndarray) -> float:
    """Half the width of their 95% interval in a normal distribution's deviations: t's own may be infinite."""
    return float(np.quantile(np.abs(draws), 0.95)) / 1.959964


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "below 0.0001"
