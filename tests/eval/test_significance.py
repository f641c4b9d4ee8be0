"""The permutation test on data whose truth is known, its correction for many pairs, and how much data is needed."""

from itertools import combinations, product

import numpy as np
import pytest

from eval.bootstrap import resample
from eval.pairs import judge_pairs
from eval.significance import ALPHA, documents_needed, holm, pair_values


def bits(generator: np.random.Generator, num_groups: int, effects: list[float]) -> np.ndarray:
    """(G, K): groups of very different difficulty, a checkpoint's effect and noise in each."""
    base = generator.normal(800, 300, (num_groups, 1))
    return base + np.array(effects) + generator.normal(0, 10, (num_groups, len(effects)))


@pytest.mark.parametrize("seed", range(4))
def test_p_is_that_of_all_swaps_counted_one_by_one(seed: int) -> None:
    """Of 9 groups all 512 ways to swap can be counted."""
    generator = np.random.default_rng(seed)
    bits_GK = bits(generator, 9, [0.0, 3.0, 8.0])
    found = pair_values(bits_GK, 20_000, seed)
    for p, (a, b) in zip(found, combinations(range(3), 2), strict=True):
        differences = bits_GK[:, a] - bits_GK[:, b]
        reached = [
            abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-9 for signs in product((-1, 1), repeat=9)
        ]
        assert p == pytest.approx(np.mean(reached), abs=0.012)  # three deviations of 20,000 draws


def test_equals_are_called_different_in_5_of_100_comparisons_and_no_more() -> None:
    generator = np.random.default_rng(1)
    alone = np.array([pair_values(bits(generator, 40, [0.0, 0.0]), 1000, trial)[0] for trial in range(1000)])
    assert 0.03 <= (alone < ALPHA).mean() <= 0.07  # deviation 0.7 points


def test_of_ten_equals_one_pair_is_called_different_in_5_of_100_comparisons_at_most() -> None:
    generator = np.random.default_rng(2)
    p = [pair_values(bits(generator, 40, [0.0] * 10), 10_000, trial) for trial in range(100)]
    assert np.mean([of.min() < ALPHA for of in p]) > 0.4  # 45 pairs, uncorrected
    assert np.mean([holm(of).min() < ALPHA for of in p]) <= 0.1


def test_a_difference_is_found_whatever_the_order_of_the_pair() -> None:
    bits_GK = bits(np.random.default_rng(3), 200, [0.0, 6.0, 0.0])
    ab, ac, bc = pair_values(bits_GK, 5000, 0)
    assert ab < 0.001
    assert bc < 0.001
    assert ac > 0.05
    assert pair_values(bits_GK[:, [1, 0]], 5000, 0)[0] == ab
    assert pair_values(bits_GK[:, [0, 0]], 1000, 0)[0] == 1.0  # nothing differs, so all draws reach it


def test_holm_is_the_stepwise_correction() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == pytest.approx([1.0, 1.0])
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []


def test_as_many_documents_as_it_says_find_the_difference_in_4_of_5_comparisons() -> None:
    generator = np.random.default_rng(4)
    error = float(np.std([np.diff(bits(generator, 100, [0.0, 1.0]).sum(axis=0)) / 100 for _ in range(2000)]))
    needed = documents_needed(1.0, error, 100)
    assert needed is not None
    assert needed == pytest.approx(2 * 10**2 * 2.8**2, rel=0.1)  # (1.96 + 0.84)^2 of two noises of 10
    found = [pair_values(bits(generator, needed, [0.0, 1.0]), 1000, trial)[0] < ALPHA for trial in range(200)]
    assert 0.7 <= np.mean(found) <= 0.9
    more = documents_needed(1.0, error, 100, comparisons=10)
    assert more is not None
    assert more > needed
    assert documents_needed(0.0, error, 100) is None
    assert documents_needed(1e-6, error, 100) is None


def test_the_bootstrap_gives_the_error_that_it_needs() -> None:
    bits_GK = bits(np.random.default_rng(5), 400, [0.0, 2.0])
    figures = resample(bits_GK, np.full(400, 1.0), 2000, 0)
    assert np.std(figures[:, 1] - figures[:, 0]) == pytest.approx(np.sqrt(2) * 10 / np.sqrt(400), rel=0.15)


def test_twenty_checkpoints_can_be_told_apart_by_as_few_draws_as_are_allowed() -> None:
    """Of 190 pairs a p of 1,000 draws is 0.19 at least when corrected."""
    bits_GK = bits(np.random.default_rng(6), 100, [20.0 * k for k in range(20)])
    bytes_G = np.full(100, 100.0)
    figures = resample(bits_GK, bytes_G, 1000, 0)
    pairs = judge_pairs([str(k) for k in range(20)], ["run"] * 20, bits_GK, bytes_G, figures, 100, 0)
    assert [pair["better"] for pair in pairs] == [pair["a"] for pair in pairs]


def test_few_groups_ask_for_as_many_documents_as_make_enough() -> None:
    """However clear it looks: of 5 documents a group, 8 groups of the 10."""
    bits_GK = bits(np.random.default_rng(7), 8, [0.0, 40.0])
    bytes_G = np.full(8, 100.0)
    [pair] = judge_pairs("ab", "xx", bits_GK, bytes_G, resample(bits_GK, bytes_G, 1000, 0), 40, 0)
    assert pair["verdict"].startswith("cannot tell a from b: 8 groups are too few")
    assert pair["documents_needed"] == 50
    assert "about 50 such documents" in pair["verdict"]


def test_documents_that_are_there_already_are_not_asked_for() -> None:
    """12 groups of which one has most bytes: the interval is wide, a normal distribution would do with 6 of them."""
    generator = np.random.default_rng(1)
    bytes_G = np.array([5000.0, *[50.0] * 11])
    bits_GK = bytes_G[:, None] * (1 + generator.normal(0, 0.001, (12, 2)) + np.array([0, 0.0005]))
    figures = resample(bits_GK, bytes_G, 1000, 0)
    [pair] = judge_pairs("ab", "xx", bits_GK, bytes_G, figures, 12, 0)
    error = float(np.std(figures[:, 1] - figures[:, 0]))
    needed = documents_needed(pair["delta_bpb"], error, 12)
    assert needed is not None
    assert needed <= 12
    assert pair["better"] is None
    assert pair["documents_needed"] is None
    assert "such documents" not in pair["verdict"]
