"""The law is found again in runs that follow it, and what `--plan` uses is the fit of the runs that are kept."""

import math
import random
from pathlib import Path

import pytest

from bench.forecast import NAMES, RUNS, apply, fit, moved_errors, read, unseen_errors
from training import forecast
from training.forecast import Law

KEPT = Path(__file__).parents[2] / "bench" / "results" / "forecast.json"


def test_a_fit_finds_the_law_that_made_the_runs() -> None:
    true = Law(k=0.95, floor=0.5, a=0.2, alpha=0.4, b=0.25, beta=0.3, s=0.7)
    noise = random.Random(0)
    points = []
    for corpus, ngram, tokens in (("a", 1.2, 1e5), ("b", 1.9, 4e5), ("c", 0.7, 1.3e6), ("d", 2.8, 7e5)):
        for parameters in (3e5, 1.3e6, 7e6):
            for epochs in (1, 3, 10):
                point = {"corpus": corpus, "ngram_bits_per_byte": ngram, "parameters": parameters, "tokens": tokens,
                         "epochs": epochs}  # fmt: skip
                points.append({**point, "bits_per_byte": apply(true, point) * math.exp(noise.gauss(0, 0.01))})
    law = fit(points)
    errors = [math.log(apply(law, p) / apply(true, p)) for p in points]
    assert max(map(abs, errors)) < 0.02  # twice the noise, over runs that differ threefold
    unseen = [error for found in unseen_errors(points).values() for error in found]
    assert math.sqrt(sum(error**2 for error in unseen) / len(unseen)) < 0.05


def test_the_constants_of_the_plan_are_the_fit_of_the_kept_runs() -> None:
    points = read(KEPT)
    law = fit(points)
    for name in NAMES:
        assert getattr(forecast.LAW, name) == pytest.approx(getattr(law, name), rel=0.01), name
    errors = [error for found in unseen_errors(points).values() for error in found]
    for spread, found in ((forecast.SPREAD, errors), (forecast.SPREAD_MOVED, moved_errors(points))):
        assert spread == pytest.approx(math.sqrt(sum(error**2 for error in found) / len(found)), rel=0.01)
    assert (len(points), len({p["corpus"] for p in points})) == (forecast.RUNS, forecast.CORPORA)
    for (low, high), column in zip(forecast.RANGE, ("parameters", "tokens", "epochs"), strict=True):
        values = [p[column] for p in points]
        assert 0.8 * min(values) <= low <= min(values), column
        assert max(values) <= high <= 1.25 * max(values), column


def test_the_kept_runs_are_those_that_the_script_makes() -> None:
    assert {(p["corpus"], p["shape"], p["epochs"]) for p in read(KEPT)} == set(RUNS)
