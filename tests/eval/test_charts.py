"""Bars: as long as their figures, the largest categories, on an axis from 0 that holds all. Names on a curve."""

import pytest

from eval.breakdown import OTHERS
from eval.charts import MOST_VALUES, NAMED, Bar, Curve, bars, loss_chart


def test_bars_are_as_long_as_their_figures() -> None:
    told = bars([("a", 12, [Bar(2.0, (1.5, 2.2), 0.5), None]), ("b", 3, [Bar(1.0, None), Bar(0.0, None)])])
    assert told["end"] == "2.5"  # the next round number above 2.2, the end of an interval
    first, second = told["rows"]
    assert first["bars"][0]["percent"] == pytest.approx(80)
    assert (first["bars"][0]["low"], first["bars"][0]["high"]) == pytest.approx((60, 88))
    assert first["bars"][0]["base"] == pytest.approx(20)
    assert first["bars"][1] is None
    assert [bar["percent"] for bar in second["bars"]] == pytest.approx([40, 0])
    assert (second["bars"][0]["low"], second["bars"][0]["base"]) == (None, None)


@pytest.mark.parametrize("value", [1e-9, 0.0213, 0.96, 1.0, 1.01, 2.51, 9.99, 873.0])
def test_the_axis_holds_the_longest_bar_and_is_no_longer_than_half_as_much_again(value: float) -> None:
    assert value <= float(bars([("a", 1, [Bar(value, None)])])["end"]) * (1 + 1e-9)
    assert float(bars([("a", 1, [Bar(value, None)])])["end"]) <= 1.5 * value


def test_the_largest_categories_are_shown_and_the_rest_is_counted() -> None:
    told = bars([(f"c{n}", n, [Bar(1.0, None)]) for n in range(1, 31)])
    assert [row["name"] for row in told["rows"]] == [f"c{n}" for n in range(30, 30 - MOST_VALUES, -1)]
    assert (told["left_out"], told["of"]) == (sum(range(1, 31 - MOST_VALUES)), sum(range(1, 31)))


def test_what_stands_for_all_small_categories_is_none_of_the_largest() -> None:
    values = [(OTHERS, 500, [Bar(1.0, None)]), *((f"c{n}", n, [Bar(1.0, None)]) for n in range(1, 31))]
    told = bars(values)
    assert OTHERS not in [row["name"] for row in told["rows"]]
    assert told["left_out"] == 500 + sum(range(1, 31 - MOST_VALUES))


def test_difficulties_stand_in_their_order() -> None:
    values = [("hard", 30, [Bar(1.0, None)]), ("easy", 10, [Bar(1.0, None)]), ("medium", 20, [Bar(1.0, None)])]
    assert [row["name"] for row in bars(values, levels=True)["rows"]] == ["easy", "medium", "hard"]
    assert [row["name"] for row in bars(values)["rows"]] == ["hard", "medium", "easy"]


def test_nothing_but_zeros_still_has_an_axis() -> None:
    told = bars([("a", 4, [Bar(0.0, None)])])
    assert told["end"] == "1"
    assert told["rows"][0]["bars"][0]["percent"] == 0


@pytest.mark.parametrize("number", [NAMED, NAMED + 1])
def test_of_many_checkpoints_the_first_the_best_and_the_last_are_named(number: int) -> None:
    losses = [3.0 - 0.1 * k for k in range(number)]
    losses[2] = 1.0  # the best
    marked = [(k, f"ckpt{k}", float(k), losses[k]) for k in range(number)]
    x = [float(k) for k in range(number)]
    drawing = loss_chart([Curve("run", x, losses, x, losses, marked)])
    named = [k for k in range(number) if f">ckpt{k}<" in drawing]
    assert named == (list(range(number)) if number <= NAMED else [0, 2, number - 1])


def test_checkpoints_of_one_or_two_runs_are_named_on_the_curve_and_of_more_by_the_legend() -> None:
    def run(number: int) -> Curve:
        return Curve(f"run{number}", [1.0, 2.0], [3.0, 2.0], [2.0], [2.0], [(number, f"ckpt{number}", 2.0, 2.0)])

    for number in (1, 2, 3):
        drawing = loss_chart([run(k) for k in range(number)])
        assert [k for k in range(number) if f">ckpt{k}<" in drawing] == (list(range(number)) if number < 3 else [])
        assert number == 1 or all(f"validation, run{k}" in drawing for k in range(number))
