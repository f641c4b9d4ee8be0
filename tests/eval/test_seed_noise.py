"""Differences that seeds alone make: how they are measured, and that pairs are judged by them where they are given."""

import numpy as np
import pytest

from common.errors import UserError
from eval.bootstrap import resample
from eval.config import EvalConfig
from eval.pairs import judge_pairs
from eval.seed_noise import SeedNoise, measured_noise, noise_draws, noise_of, replicas

NUM_GROUPS, BYTES = 120, 100.0


def judged(effects: list[float], seed: int, noise: SeedNoise | None, runs: str = "ab") -> dict[str, object]:
    """Two checkpoints whose true bits per byte differ by `effects`, judged on documents of their own noise."""
    generator = np.random.default_rng(seed)
    base = generator.normal(800, 300, (NUM_GROUPS, 1))
    bits_GK = base + np.array(effects) * BYTES + generator.normal(0, 1, (NUM_GROUPS, 2))
    bytes_G = np.full(NUM_GROUPS, BYTES)
    figures = resample(bits_GK, bytes_G, 1000, seed)
    [pair] = judge_pairs("xy", runs, bits_GK, bytes_G, figures, NUM_GROUPS, seed, noise)
    return pair


def test_noise_is_the_standard_deviation_pooled_over_configurations() -> None:
    assert measured_noise([[1.0, 1.2, 1.4]]) == pytest.approx((0.2, 3))
    found = measured_noise([[1.0, 1.2, 1.4], [5.0, 5.1], [9.0]])
    assert found is not None
    assert found.deviation == pytest.approx(np.sqrt((0.04 * 2 + 0.005) / 3))
    assert found.num_runs == 4
    assert measured_noise([[1.0], [2.0]]) is None
    assert measured_noise([]) is None


def test_draws_are_of_two_runs_and_reach_further_where_few_runs_were_measured() -> None:
    many = noise_draws(SeedNoise(0.1, 10_000), 100_000, 0)
    assert np.std(many) == pytest.approx(0.1 * np.sqrt(2), rel=0.02)
    few = noise_draws(SeedNoise(0.1, 3), 100_000, 0)
    assert np.quantile(np.abs(few), 0.95) == pytest.approx(0.1 * np.sqrt(2) * 4.303, rel=0.05)  # t with 2 degrees
    assert (noise_draws(SeedNoise(0.1, 3), 100, 7) == noise_draws(SeedNoise(0.1, 3), 100, 7)).all()
    assert not noise_draws(None, 5, 0).any()


def test_equals_of_other_seeds_are_different_for_documents_and_not_for_seeds() -> None:
    """Runs that lie 0.05 apart by their seed, on documents that tell 0.001 apart; noise measured on 5 others."""
    generator = np.random.default_rng(1)
    alone, given = [], []
    for trial in range(300):
        effects = generator.normal(0, 0.05, 2).tolist()
        noise = measured_noise([generator.normal(0, 0.05, 5).tolist()])
        alone.append(judged(effects, trial, None)["better"] is not None)
        given.append(judged(effects, trial, noise)["better"] is not None)
    assert np.mean(alone) > 0.9
    assert 0.015 <= np.mean(given) <= 0.085  # 5%, three deviations of 300 trials


def test_a_difference_far_beyond_seeds_is_found() -> None:
    noise = SeedNoise(0.05, 5)
    assert judged([0.0, -0.5], 0, noise)["better"] == "y"
    assert judged([0.0, 0.5], 0, noise)["better"] == "x"


def test_epochs_of_one_run_have_their_seed_in_common() -> None:
    noise = SeedNoise(0.05, 5)
    plain = judged([0.0, 0.05], 3, None)
    assert judged([0.0, 0.05], 3, noise, runs="aa") == plain
    assert plain["better"] == "x"
    other = judged([0.0, 0.05], 3, noise, runs="ab")
    assert other["better"] is None
    assert other["p"] > 0.2 > 0.001 > plain["p"]  # type: ignore[operator]
    assert "other seeds" in str(other["verdict"])
    assert other["documents_needed"] is None
    assert "no number of documents would settle it" in str(other["verdict"])


def test_runs_that_differ_by_their_seed_alone_are_found() -> None:
    def meta(seed: int, **more: object) -> dict[str, object]:
        return {
            "corpus": "c", "tokenizer": "t", "step": 5,
            "config": {"train": {"seed": seed, "lr": None}, "model": {"preset": "tiny"}}, **more,
        }  # fmt: skip

    runs = [("ckpt2", meta(0)), ("ckpt2", meta(1)), ("ckpt2", meta(2))]
    assert replicas(runs) == [[0, 1, 2]]
    assert replicas([*runs[:2], ("ckpt2", meta(3, corpus="d"))]) == [[0, 1]]
    assert replicas([*runs[:2], ("ckpt1", meta(3, step=3))]) == [[0, 1]]
    other = meta(3)
    other["config"] = {"train": {"seed": 3, "lr": 0.1}, "model": {"preset": "tiny"}}
    assert replicas([*runs[:2], ("ckpt2", other)]) == [[0, 1]]
    assert replicas([("ckpt1", meta(0, step=3)), ("ckpt2", meta(0))]) == []
    assert replicas([("model", {}), ("model", {})]) == []
    assert replicas([("ckpt2", meta(0)), ("ckpt2", meta(0))]) == []
    assert replicas([("ckpt2", meta(0)), ("ckpt2", meta(0)), *runs[1:2]]) == [[0, 2]]


def test_settings() -> None:
    assert noise_of(EvalConfig()) is None
    assert noise_of(EvalConfig(seed_noise=0.01, seed_runs=5)) == SeedNoise(0.01, 5)
    with pytest.raises(UserError, match="go together"):
        EvalConfig(seed_noise=0.01)
    with pytest.raises(UserError, match="go together"):
        EvalConfig(seed_runs=4)
    with pytest.raises(UserError, match="seed_runs 2: must be 3 or more"):
        EvalConfig(seed_noise=0.01, seed_runs=2)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be 0 or more"):
            EvalConfig(seed_noise=wrong, seed_runs=3)
