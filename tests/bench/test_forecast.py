"""The law is found again in runs that follow it."""

import math
import random

from bench.forecast import apply, fit, unseen_errors
from training.forecast import Law


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
