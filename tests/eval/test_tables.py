"""Means, intervals and baselines of scores, by category and difficulty, and the lines of a terminal."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.questions import Question
from eval.scores import SCORES
from eval.tables import LABELS, WIDTH, lines, sample_line, sample_means, tables


def asked(number: int, categories: str = "ab", difficulties: tuple[str | None, ...] = (None,)) -> list[Question]:
    return [
        Question(f"f:{i}", "f", categories[i % len(categories)] if categories else None, f"question {i}", None, None,
                 "", ("x", "y"), difficulties[i % len(difficulties)])
        for i in range(number)
    ]  # fmt: skip


def in_groups(number: int, size: int) -> list[Question]:
    """So many groups of so many questions each."""
    return [replace(question, group=f"g{i // size}") for i, question in enumerate(asked(number * size))]


def rows(values: Sequence[float | bool | None], score: str = "token_f1") -> list[dict[str, Any]]:
    return [{score: value} for value in values]


def made(number: int, seed: int, mean: float = 0.5) -> list[float]:
    return np.clip(np.random.default_rng(seed).normal(mean, 0.2, number), 0, 1).tolist()


def test_every_label_is_of_a_score_and_every_score_has_one() -> None:
    assert tuple(LABELS) == SCORES


def test_a_mean_is_over_the_questions_that_have_the_score() -> None:
    values = [0.5, None, 1.0, None] * 6
    found = tables(asked(24), rows(values), {}, 1000, 0)
    cell = found["all"]["scores"]["token_f1"]
    assert (cell["mean"], cell["num_questions"], found["all"]["num_questions"]) == (0.75, 12, 24)
    assert set(found["all"]["scores"]) == {"token_f1"}  # nothing is said of scores that no answer has
    by_name = {part["name"]: part for part in found["by_category"]}
    assert (by_name["a"]["num_questions"], by_name["a"]["scores"]["token_f1"]["mean"]) == (12, 0.75)
    assert by_name["b"]["scores"] == {}


def test_parts_are_those_of_their_questions_alone() -> None:
    values = made(60, 0)
    questions = asked(60, "abc", ("hard", "easy", None, "medium", "odd"))
    found = tables(questions, rows(values), {"other": rows(made(60, 1))}, 1000, 0)
    assert [part["name"] for part in found["by_category"]] == ["a", "b", "c"]
    assert [part["name"] for part in found["by_difficulty"]] == ["easy", "medium", "hard", "(none)", "odd"]
    for parts, label in (("by_category", "category"), ("by_difficulty", "difficulty")):
        for part in found[parts]:
            mine = [i for i, q in enumerate(questions) if (getattr(q, label) or "(none)") == part["name"]]
            alone = tables([questions[i] for i in mine], rows([values[i] for i in mine]),
                           {"other": rows([made(60, 1)[i] for i in mine])}, 1000, 0)["all"]  # fmt: skip
            assert part["scores"] == alone["scores"]
            assert part["num_questions"] == alone["num_questions"] == len(mine)


def test_without_categories_there_is_no_table_by_category() -> None:
    found = tables(asked(12, ""), rows(made(12, 0)), {}, 1000, 0)
    assert found["by_category"] == found["by_difficulty"] == []
    assert not any("category" in line for line in lines(found))


def test_the_interval_holds_the_truth_in_95_of_100_question_sets() -> None:
    generator = np.random.default_rng(0)
    hits = {0.5: 0, 0.9: 0}
    for mean in hits:
        for trial in range(300):
            values = generator.random(50) < mean
            cell = tables(asked(50), rows(values.tolist(), "stopped"), {}, 1000, trial)["all"]["scores"]["stopped"]
            hits[mean] += cell["ci95"][0] <= mean <= cell["ci95"][1]
    # Binomial deviation of 300 trials at 95%: 1.3 points, three of them either way. Near an end shares are coarse.
    assert 0.91 <= hits[0.5] / 300 <= 0.99
    assert 0.90 <= hits[0.9] / 300 <= 0.99


def test_the_interval_holds_the_truth_where_questions_of_a_group_are_alike() -> None:
    """10 groups of 5: with questions drawn one by one the interval held the truth in 62 of 100."""
    generator = np.random.default_rng(0)
    questions, hits = in_groups(10, 5), 0
    for trial in range(600):
        values = np.clip(np.repeat(generator.random(10), 5) + generator.normal(0, 0.05, 50), 0, 1)
        low, high = tables(questions, rows(values.tolist()), {}, 1000, trial)["all"]["scores"]["token_f1"]["ci95"]
        hits += low <= 0.5 <= high
    assert 0.93 <= hits / 600 <= 0.97  # binomial deviation 0.9 points


def test_what_is_enough_counts_groups_and_the_same_words_are_one() -> None:
    for number, known in ((9, False), (10, True)):
        found = tables(in_groups(number, 5), rows(made(5 * number, 0)), {"low": rows([0.0] * 5 * number)}, 1000, 0)
        cell = found["all"]["scores"]["token_f1"]
        assert (cell["num_questions"], cell["num_groups"], found["all"]["num_groups"]) == (5 * number, number, number)
        assert (cell["ci95"] is not None) is (cell["beats"] is not None) is known
        assert lines(found)[0] == f"answers to {5 * number} questions in {number} groups"
    twice = tables(asked(9) * 2, rows(made(18, 0)), {}, 1000, 0)["all"]["scores"]["token_f1"]
    assert (twice["num_groups"], twice["ci95"]) == (9, None)
    right = tables(in_groups(10, 5), rows([True] * 50, "stopped"), {}, 1000, 0)["all"]["scores"]["stopped"]
    assert right["ci95"][0] ** 10 == pytest.approx(1 / 40)


def test_questions_that_are_all_right_leave_doubt_still() -> None:
    for value, expected in ((True, (0.9289, 1.0)), (False, (0.0, 0.0711))):
        cell = tables(asked(50), rows([value] * 50, "stopped"), {}, 1000, 0)["all"]["scores"]["stopped"]
        assert cell["ci95"] == pytest.approx(expected, abs=1e-4)
        away = cell["ci95"][0] if value else 1 - cell["ci95"][1]
        assert away**50 == pytest.approx(1 / 40)  # at such a share 50 of 50 are alike once in 40


def test_fewer_than_ten_questions_have_no_interval_and_no_verdict() -> None:
    for number, known in ((9, False), (10, True)):
        cell = tables(asked(number), rows(made(number, 0)), {"low": rows([0.0] * number)}, 1000, 0)["all"]["scores"]
        assert (cell["token_f1"]["ci95"] is not None) is known
        assert (cell["token_f1"]["beats"] is not None) is known


def test_a_baseline_is_beaten_on_the_same_questions_and_only_by_more_than_chance() -> None:
    own = made(40, 0)
    slightly = [max(0.0, value - 0.02) for value in own]  # far less than the spread: only pairing can see it
    other = made(40, 5)

    def beats(**columns: list[float]) -> bool | None:
        baselines = {name: rows(list(values)) for name, values in columns.items()}
        return tables(asked(40), rows(list(own)), baselines, 1000, 0)["all"]["scores"]["token_f1"]["beats"]

    assert beats(a=slightly) is True
    assert beats(a=other) is False
    assert beats(a=slightly, b=other) is False
    assert beats() is None
    assert beats(a=own) is False


def test_a_baseline_without_a_score_has_none_and_one_on_other_questions_gives_no_verdict() -> None:
    own = rows(made(20, 0))
    found = tables(asked(20), own, {"chance": [{} for _ in own]}, 1000, 0)["all"]["scores"]["token_f1"]
    assert found["baselines"] == {"chance": None}
    assert found["beats"] is None
    some = rows([0.0] * 10 + [None] * 10)
    found = tables(asked(20), own, {"some": some}, 1000, 0)["all"]["scores"]["token_f1"]
    assert (found["baselines"], found["beats"]) == ({"some": 0.0}, None)


def test_where_a_baseline_is_not_known_nothing_but_a_rank_is_above_all() -> None:
    own = [{"token_f1": 0.9, "ranked_first": 1.0, "empty": False}] * 20
    baselines = {"echo": rows([0.1] * 20), "random": None, "chance": rows([0.2] * 20, "ranked_first")}
    found = tables(asked(20), own, baselines, 1000, 0)
    f1, ranked = (found["all"]["scores"][name] for name in ("token_f1", "ranked_first"))
    assert found["unknown"] == ["random"]
    assert f1["baselines"] == {"echo": pytest.approx(0.1), "random": None, "chance": None}
    assert (f1["best_baseline"], f1["beats"]) == (None, None)
    assert (ranked["best_baseline"], ranked["beats"]) == (pytest.approx(0.2), True)
    assert any(line.startswith("random: not known") for line in lines(found))
    assert max(map(len, lines(found))) <= WIDTH
    without = tables(asked(20), own, {**baselines, "random": rows([0.1] * 20)}, 1000, 0)["all"]["scores"]["token_f1"]
    assert (without["best_baseline"], without["beats"]) == (pytest.approx(0.1), True)


def test_faults_are_no_contest() -> None:
    found = tables(asked(20), rows([True, False] * 10, "empty"), {"a": rows([False] * 20, "empty")}, 1000, 0)
    assert found["all"]["scores"]["empty"]["beats"] is None


def test_same_seed_same_tables_and_scores_do_not_disturb_each_other() -> None:
    own = [{**a, **b} for a, b in zip(rows(made(30, 0)), rows(made(30, 1), "rouge_l"), strict=True)]
    found = tables(asked(30), own, {"a": rows(made(30, 2))}, 1000, 0)
    assert tables(asked(30), own, {"a": rows(made(30, 2))}, 1000, 0) == found
    assert tables(asked(30), own, {"a": rows(made(30, 2))}, 1000, 1) != found
    alone = tables(asked(30), rows(made(30, 0)), {"a": rows(made(30, 2))}, 1000, 0)["all"]["scores"]["token_f1"]
    together = found["all"]["scores"]["token_f1"]
    assert alone["ci95"] == pytest.approx(together["ci95"], rel=1e-12)
    assert {**alone, "ci95": None} == {**together, "ci95": None}


@pytest.mark.parametrize("questions", [asked(200), in_groups(40, 5)])
def test_the_order_of_questions_moves_no_digit(questions: list[Question]) -> None:
    order = np.random.default_rng(1).permutation(200).tolist()
    own, other = rows(made(200, 0)), rows(made(200, 1))
    first = tables(questions, own, {"a": other}, 1000, 0)
    lines = [replace(questions[i], document=f"f:{line}", source="g") for line, i in enumerate(order)]  # of another file
    moved = tables(lines, [own[i] for i in order], {"a": [other[i] for i in order]}, 1000, 0)
    assert json.dumps(moved) == json.dumps(first)


def test_a_list_of_answers_that_does_not_match_the_questions_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="echo has 3 answers to 4 questions"):
        tables(asked(4), rows([0.0] * 4), {"echo": rows([0.0] * 3)}, 1000, 0)


def test_samples_are_averaged_over_those_that_have_the_score() -> None:
    found = sample_means([{"token_f1": 1.0, "stopped": True}, {"token_f1": 0.0, "exact_match": 1.0, "stopped": False}])
    assert found == {"token_f1": 0.5, "exact_match": 1.0, "stopped": 0.5}
    assert sample_line(found, 3) == "mean of 3 samples a question: F1 0.50, exact match 1.00, stops by itself 0.50"
    values = rows(made(1000, 0))
    assert sample_means(values) == sample_means(values[::-1])


# -- for a terminal


def full(number: int, categories: str) -> dict[str, Any]:
    questions = asked(number, categories, ("easy", "hard"))
    generator = np.random.default_rng(0)
    model, *others = [
        [{score: float(generator.random()) for score in SCORES} | {"keywords_in_prompt": ["x"]} for _ in range(number)]
        for _ in range(5)
    ]
    return tables(questions, model, dict(zip(("echo", "random", "nearest", "chance"), others, strict=True)), 1000, 0)


def test_the_lines_fit_a_terminal_and_hold_every_figure_with_its_baselines() -> None:
    found = full(120, "ab")
    found["by_category"][0]["name"] = "a very long name of a category\nthat goes on and on"
    shown = lines(found, "run/ckpt6")
    assert shown[0] == "run/ckpt6: answers to 120 questions"
    assert shown[1] == "120 of 240 keywords are not counted: they stand in the question or its context"
    assert max(map(len, shown)) <= WIDTH
    head = next(line for line in shown if line.startswith("score"))
    assert head.split() == ["score", "n", "mean", "95%", "interval", "echo", "random", "nearest", "chance"]
    for score, label in LABELS.items():
        cell = found["all"]["scores"][score]
        line = next(line for line in shown if line.startswith(label + " "))
        figures = [cell["mean"], *cell["ci95"], *cell["baselines"].values()]
        printed = line.removeprefix(label).replace("[", " ").replace("]", " ").replace(",", " ").split()
        assert printed[0] == "120"
        assert [float(text) for text in printed[1:8]] == pytest.approx(figures, abs=0.005)
    by_category = shown.index(next(line for line in shown if line.startswith("category")))
    cell = found["by_category"][0]["scores"]["keyword_recall"]
    line = shown[by_category + 1]
    assert line.startswith("a very long name of a...")
    numbers = (
        line.removeprefix("a very long name of a...").replace("[", " ").replace("]", " ").replace(",", " ").split()
    )
    figures = [cell["mean"], *cell["ci95"], max(cell["baselines"].values())]
    assert numbers[0] == "60"
    assert [float(number) for number in numbers[1:5]] == pytest.approx(figures, abs=0.005)
    assert any(line.startswith("difficulty") for line in shown)


def test_many_categories_are_the_largest_ones_and_the_rest_is_counted() -> None:
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    found = full(36 * 2 + 5, letters[::-1])  # the last five of the alphabet have three questions, the others two
    shown = lines(found)
    start = next(i for i, line in enumerate(shown) if line.startswith("category"))
    names = [line.split()[0] for line in shown[start + 1 : start + 31]]
    order = [part["name"] for part in found["by_category"]]
    assert shown[start + 31] == "and 6 smaller ones"
    assert set(letters[-5:]) <= set(names)
    assert names == [name for name in order if name in names]


def test_a_file_without_references_still_has_a_table_of_form() -> None:
    own = [{"stopped": True, "empty": False, "token_f1": None} for _ in range(12)]
    shown = lines(tables(asked(12), own, {"echo": own}, 1000, 0))
    assert any(line.startswith("stops by itself") for line in shown)
    assert not any("F1" in line for line in shown)
