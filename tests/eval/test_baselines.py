"""Answers of baselines: the nearest against a plain search, chance by seed, and their own scores back."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from eval import baselines
from eval.baselines import BASELINES, baseline_answers
from eval.keywords import words
from eval.questions import Question, prompt_text
from eval.scores import score
from eval.tables import tables

from .conftest import make_rows, make_table

WORDS = [f"w{i}" for i in range(12)]


def asked(question: str, category: str | None = None, name: str = "f:1", reference: str = "") -> Question:
    return Question(name, "f", category, question, None, None, reference)


def training(number: int, seed: int) -> list[dict[str, Any]]:
    """Short questions of few words, so that many are alike and some equally so."""
    generator = np.random.default_rng(seed)
    return [
        {"kind": "qa", "id": str(i), "question": " ".join(generator.choice(WORDS, size=int(generator.integers(1, 7)))),
         "answer": f"answer {i}", "category": "abc"[i % 3]}
        for i in range(number)
    ]  # fmt: skip


def grams(text: str) -> set[Any]:
    found = words(text)
    return {*found, *pairwise(found)}


def plain_nearest(question: str, rows: list[dict[str, Any]]) -> str | None:
    """The first of the likest, in exact fractions; None where none has a word in common."""
    best, answer = Fraction(0), None
    mine = grams(question)
    for row in rows:
        theirs = grams(row["question"])
        likeness = Fraction(len(mine & theirs), len(mine | theirs))
        if likeness > best:
            best, answer = likeness, row["answer"]
    return answer


@pytest.mark.parametrize("cells", [1, 50, 1 << 21])
def test_the_nearest_is_that_of_a_plain_search(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "CELLS", cells)
    monkeypatch.setattr(baselines, "SLICE", 64)
    rows = training(150, seed=0)
    questions = [asked(row["question"], name=f"f:{i}") for i, row in enumerate(training(40, seed=1))]
    questions += [asked("w1 something else w2 w3"), asked("none of it")]
    found = baseline_answers(questions, make_table(rows), seed=0)
    for question, nearest, by_chance in zip(questions, found["nearest"], found["random"], strict=True):
        expected = plain_nearest(question.question or "", rows)
        assert nearest == (by_chance if expected is None else expected)
    assert plain_nearest("none of it", rows) is None


def test_a_corpus_folder_and_a_table_give_the_same(tmp_path: Path) -> None:
    rows = training(100, seed=0)
    for i in range(3):
        pq.write_table(make_table(rows[40 * i : 40 * i + 40]), tmp_path / f"train-{i:05}.parquet")
    questions = [asked(row["question"], row["category"]) for row in training(20, seed=1)]
    assert baseline_answers(questions, tmp_path, 3) == baseline_answers(questions, make_table(rows), 3)


def test_the_random_answer_is_of_the_category_where_there_is_one() -> None:
    rows = training(90, seed=0)
    category_of = {row["answer"]: row["category"] for row in rows}
    questions = [asked(f"question {i}", "abcx"[i % 4]) for i in range(400)]
    found = baseline_answers(questions, make_table(rows), seed=0)["random"]
    assert all(category_of[said] == q.category for said, q in zip(found, questions, strict=True) if q.category != "x")
    strangers = [category_of[said] for said, q in zip(found, questions, strict=True) if q.category == "x"]
    assert min(Counter(strangers).values()) >= 15  # 33 of 100 each; four deviations below are 14
    assert len(set(found)) > 80  # of 90 answers, each expected to come 4 times


def test_seed_decides_and_neither_order_nor_other_questions_do() -> None:
    table = make_table(training(60, seed=0))
    questions = [asked(f"w{i % 12} w3", "abc"[i % 3], f"f:{i}") for i in range(30)]
    found = baseline_answers(questions, table, 0)
    assert baseline_answers(questions, table, 0) == found
    assert baseline_answers(questions, table, 1)["random"] != found["random"]
    lines = [asked(q.question or "", q.category, f"g:{i}", q.reference) for i, q in enumerate(questions[::-1])]
    turned = baseline_answers(lines, table, 0)
    assert {name: said[::-1] for name, said in turned.items()} == found
    assert {name: said[4:5] for name, said in found.items()} == baseline_answers(questions[4:5], table, 0)


def test_the_echo_is_the_prompt() -> None:
    question = Question("f:1", "f", None, "What?", "Here.", None, "")
    assert baseline_answers([question], make_table(training(3, 0)), 0)["echo"] == ["Here.\nWhat?"]


def test_questions_are_answered_from_questions_and_beginnings_from_texts() -> None:
    rows = make_rows(80, seed=1)
    table = make_table(rows)
    answers = {row["answer"] for row in rows if row["kind"] == "qa"}
    found = baseline_answers([asked(f"What color has {i}?", name=str(i)) for i in range(30)], table, 0)
    assert {*found["random"], *found["nearest"]} <= answers
    text = next(row["text"] for row in rows if row["kind"] == "text")
    cut = text.rfind(" ", 0, len(text) // 2)
    beginning = Question("t", "f", None, None, None, text[:cut], text[cut:])
    found = baseline_answers([beginning], table, 0)
    assert found["nearest"] == [beginning.reference]  # that very text is in the training split
    assert any(found["random"][0] in row["text"] for row in rows if row["kind"] == "text")


def test_questions_to_a_corpus_of_texts_are_answered_from_texts_and_an_empty_split_says_nothing() -> None:
    texts = [row for row in make_rows(40, seed=1) if row["kind"] == "text"]
    found = baseline_answers([asked("the river")], make_table(texts), 0)
    assert all(any(found[name][0] in row["text"] for row in texts) for name in ("random", "nearest"))
    assert baseline_answers([asked("why")], make_table([]), 0) == {"echo": ["why"], "random": [""], "nearest": [""]}
    assert baseline_answers([], make_table(texts), 0) == {"echo": [], "random": [], "nearest": []}


def test_a_text_too_short_to_be_cut_is_an_answer_too() -> None:
    table = make_table([{"kind": "text", "id": "1", "text": "word"}])
    assert baseline_answers([asked("x")], table, 0)["random"] == ["word"]


def test_each_baseline_fed_in_as_a_model_gets_its_own_score_back() -> None:
    rows = make_rows(90, seed=1)
    held_out = [row for row in make_rows(48, seed=2) if row["kind"] == "qa"]
    questions = [
        Question(row["id"], "qa", row["category"], row["question"], row["context"], None, row["answer"],
                 keywords=tuple(words(row["answer"])[-1:]))
        for row in held_out
    ]  # fmt: skip
    answers = baseline_answers(questions, make_table(rows), seed=0)

    def scored(said: list[str]) -> list[dict[str, Any]]:
        return [score(q, text, None, prompt_text(q)) for q, text in zip(questions, said, strict=True)]

    columns = {name: scored(said) for name, said in answers.items()}
    assert tuple(columns) == BASELINES
    for name in BASELINES:
        found = tables(questions, scored(answers[name]), columns, resamples=1000, seed=0)
        for part in (found["all"], *found["by_category"]):
            assert part["scores"]
            for cell in part["scores"].values():
                assert cell["mean"] == cell["baselines"][name]
                assert cell["beats"] is not True  # nothing is better than itself
    means = tables(questions, columns["nearest"], columns, 1000, 0)["all"]["scores"]["token_f1"]["baselines"]
    assert len(set(means.values())) == 3  # and they are told apart


def test_the_index_holds_n_grams_of_the_questions_asked_and_none_of_the_corpus() -> None:
    index, sizes = baselines._index([asked("w1 w2 w1 w2")])
    assert set(index) == {"w1", "w2", ("w1", "w2"), ("w2", "w1")}
    assert sizes.tolist() == [4.0]
    likeness = baselines._likeness(["w1 w2", "other words"], index, sizes)
    np.testing.assert_array_equal(likeness, [[3 / 4], [0.0]])
