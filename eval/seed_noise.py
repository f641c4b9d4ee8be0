"""What other seeds would have given: runs of one configuration differ by more than a choice of documents explains.

In: bits per byte of runs that differ by their seed alone. Out: their standard deviation and the number of runs that it
was measured on (`--seed_noise`, `--seed_runs`), and draws of what two other seeds would have made of a difference.

The difference of two single runs has twice a run's variance. Measured on n runs, its standard deviation is itself not
certain: so draws are Student's t with n - 1 degrees of freedom, which for few runs reach much further.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.config import EvalConfig


class SeedNoise(NamedTuple):
    """How far runs of other seeds lie apart."""

    deviation: float  # of one run, bits per byte
    num_runs: int  # that it was measured on, 2 or more


def measured_noise(figures: Sequence[Sequence[float]]) -> SeedNoise | None:
    """Of the bits per byte of several configurations' runs: the standard deviation inside a configuration.

    Of more than one configuration it is pooled, and counts as measured on one run more than it has degrees of freedom.
    None where no configuration has two runs.
    """
    several = [np.asarray(runs, np.float64) for runs in figures if len(runs) > 1]
    freedom = sum(len(runs) - 1 for runs in several)
    if not freedom:
        return None
    squares = sum(float(np.square(runs - runs.mean()).sum()) for runs in several)
    return SeedNoise(float(np.sqrt(squares / freedom)), freedom + 1)


def noise_of(config: EvalConfig) -> SeedNoise | None:
    """What the settings say of it."""
    if config.seed_noise is None or config.seed_runs is None:
        return None
    return SeedNoise(config.seed_noise, config.seed_runs)


def noise_draws(noise: SeedNoise | None, draws: int, seed: int) -> np.ndarray:
    """What seeds add to the difference of two runs, bits per byte, float64 (draws,); zeros without noise."""
    if noise is None:
        return np.zeros(draws)
    generator = np.random.default_rng([seed, 1])  # not the draws of documents
    return np.sqrt(2) * noise.deviation * generator.standard_t(noise.num_runs - 1, draws)


def replicas(checkpoints: Sequence[tuple[str, dict[str, Any]]]) -> list[list[int]]:
    """Which of the checkpoints, as (name in its run, loam.json), are of runs that differ by their seed alone: lists of
    two or more indices, one for each seed. Epochs of one run and copies of a run are no replicas."""
    alike: dict[str, dict[int, int]] = {}
    for i, (name, meta) in enumerate(checkpoints):
        sections = meta.get("config", {})
        if "seed" not in sections.get("train", {}):
            continue
        train = {key: value for key, value in sections["train"].items() if key != "seed"}
        told = [name, *(meta.get(key) for key in ("corpus", "tokenizer", "step")), {**sections, "train": train}]
        alike.setdefault(repr(told), {}).setdefault(sections["train"]["seed"], i)
    return [list(of.values()) for of in alike.values() if len(of) > 1]
