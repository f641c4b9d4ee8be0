"""The bootstrap on data whose truth is known."""

import numpy as np
import pytest

from eval.bootstrap import effective_groups, enough, group_sums, interval, resample

Documents = tuple[np.ndarray, np.ndarray, np.ndarray]  # bits (N, 2), bytes (N,), groups (N,)
EFFECT = -0.05  # true difference of the second checkpoint, bits per byte


def made(generator: np.random.Generator, num_groups: int, in_group: int, within: float) -> Documents:
    """Bits (N, 2), bytes (N,), groups (N,): a group shares its effect but for `within` of each document's own."""
    groups = np.repeat(np.arange(num_groups), in_group)
    size = np.round(np.exp(generator.normal(5, 0.5, len(groups))))
    effect = EFFECT + generator.normal(0, 0.1, num_groups)[groups] + generator.normal(0, within, len(groups))
    base = generator.normal(1.6, 0.3, len(groups))  # much larger than the effect: only pairing can see it
    return np.stack([base * size, (base + effect) * size], axis=1), size, groups.astype(str)


def difference(bits: np.ndarray, size: np.ndarray, groups: np.ndarray, seed: int = 0) -> tuple[float, float]:
    bits_GK, bytes_G = group_sums(bits, groups), group_sums(size, groups)
    figures = resample(bits_GK, bytes_G, 1000, seed)
    return interval(figures[:, 1] - figures[:, 0], effective_groups(bytes_G))


@pytest.mark.parametrize(("num_groups", "in_group"), [(12, 5), (60, 3)])
def test_the_interval_holds_the_truth_in_95_of_100_comparisons(num_groups: int, in_group: int) -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(1000):
        low, high = difference(*made(generator, num_groups, in_group, within=0.05), seed=trial)
        hits += low <= EFFECT <= high
    # Binomial deviation of 1,000 trials at 95%: 0.7 points. Three of them either way, and a point for the widening.
    assert 0.929 <= hits / 1000 <= 0.981


def test_without_groups_the_interval_would_be_too_narrow() -> None:
    generator = np.random.default_rng(8)
    held, held_alone, ratios = 0, 0, []
    for trial in range(200):
        bits, size, groups = made(generator, 20, 12, within=0.01)
        low, high = difference(bits, size, groups, trial)
        alone_low, alone_high = difference(bits, size, np.arange(len(size)).astype(str), trial)
        held += low <= EFFECT <= high
        held_alone += alone_low <= EFFECT <= alone_high
        ratios.append((high - low) / (alone_high - alone_low))
    assert np.median(ratios) > 2.0  # 12 documents that say the same count as one: sqrt(12) = 3.5 for equal sizes
    assert held >= 180
    assert held_alone < 130


def test_pairing_sees_what_two_separate_intervals_cannot() -> None:
    bits, size, groups = made(np.random.default_rng(9), 60, 3, within=0.05)
    low, high = difference(bits, size, groups)
    bits_GK, bytes_G = group_sums(bits, groups), group_sums(size, groups)
    unpaired = resample(bits_GK, bytes_G, 1000, 1)[:, 1] - resample(bits_GK, bytes_G, 1000, 2)[:, 0]
    lowest, highest = interval(unpaired, effective_groups(bytes_G))
    assert high < 0
    assert lowest < 0 < highest
    assert highest - lowest > 1.5 * (high - low)


def test_the_figure_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    bits = np.array([[100.0, 100.0], [9000.0, 9000.0]])
    size = np.array([100.0, 3000.0])
    figures = resample(bits, size, 4000, 0)[:, 0]
    both = (100 + 9000) / 3100
    assert set(np.round(np.unique(figures), 9)) == {1.0, 3.0, round(both, 9)}


def test_same_seed_same_interval_and_memory_bounds_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    bits, size, groups = made(np.random.default_rng(3), 30, 2, within=0.05)
    first = difference(bits, size, groups, seed=4)
    assert difference(bits, size, groups, seed=4) == first
    assert difference(bits, size, groups, seed=5) != first
    monkeypatch.setattr("eval.bootstrap.DRAWN_AT_A_TIME", 100)
    assert difference(bits, size, groups, seed=4) == pytest.approx(first, rel=1e-12)


def test_order_of_documents_does_not_matter() -> None:
    bits, size, groups = made(np.random.default_rng(3), 30, 2, within=0.05)
    order = np.random.default_rng(0).permutation(len(size))
    assert difference(bits[order], size[order], groups[order]) == pytest.approx(difference(bits, size, groups))


def test_nine_groups_are_not_enough_and_uneven_ones_count_as_fewer() -> None:
    assert enough(np.full(10, 100.0))
    assert not enough(np.full(9, 100.0))
    assert effective_groups(np.full(9, 100.0)) == pytest.approx(9.0)
    lopsided = np.array([100.0 * 99] + [100.0] * 99)
    assert effective_groups(lopsided) == pytest.approx(4.0, abs=0.1)


def test_one_group_with_half_of_all_bytes_does_not_make_the_interval_too_narrow() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        size = np.array([1100.0] + [100.0] * 11)
        bits = np.stack([size, size + size * generator.normal(EFFECT, 0.1, 12)], axis=1)
        low, high = difference(bits, size, np.arange(12).astype(str), trial)
        hits += low <= EFFECT <= high
    assert hits >= 285  # 95%; the unwidened quantiles held it in 90%


def test_the_interval_is_wider_where_groups_are_fewer() -> None:
    figures = np.random.default_rng(0).normal(0, 1, 100_000)
    widths = [high - low for low, high in (interval(figures, size) for size in (5.0, 10.0, 50.0, 1e6))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96, rel=0.02)
    # Student's t with 9 degrees of freedom, 2.262, times sqrt(10 / 9)
    assert widths[1] == pytest.approx(2 * 2.262 * (10 / 9) ** 0.5, rel=0.02)
