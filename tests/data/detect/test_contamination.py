"""Contamination: a question of one source inside another one's rows is found however it is written."""

import random
from typing import Any

import numpy as np
import pytest

from data.detect.contamination import held_questions, index_questions
from data.detect.words import words
from tests.data.made_rows import passage, qa, some_words, text

Held = list[tuple[int, tuple[int, str]]]  # (position of the row, (row of the question, its source))


def held(questions: list[tuple[str, str]], rows: list[dict[str, Any]], batch: int = 3) -> Held:
    """questions: (source, question), numbered from 100 on."""
    names = sorted({source for source, _ in questions} | {row["source"] for row in rows})
    numbered = [(100 + i, source, question) for i, (source, question) in enumerate(questions)]
    parts = [numbered[i : i + batch] for i in range(0, len(numbered), batch)]
    index = index_questions(([list(column) for column in zip(*part, strict=True)] for part in parts), names)  # type: ignore[misc]
    return [] if index is None else list(held_questions(index, [row["source"] for row in rows], rows))


def question(dice: random.Random, number: int) -> str:
    return " ".join(some_words(dice, number)).capitalize() + "?"


def rewritten(dice: random.Random, of: str) -> str:
    """The same words with other case, signs and white space."""
    parts = []
    for word in words(of):
        parts.append(
            dice.choice([word, word.upper(), word.capitalize()]) + dice.choice(["", ",", " -", "…", "\n", "?"])
        )
    return dice.choice([" ", "  ", "\t"]).join(parts)


@pytest.mark.parametrize("field", ["context", "question", "answer", "text"])
@pytest.mark.parametrize("number", [8, 10, 12, 13, 40])
def test_a_question_is_found_in_every_field_verbatim_and_rewritten(field: str, number: int) -> None:
    dice = random.Random(number)
    asked = [("exam", question(dice, number)) for _ in range(20)]
    rows: list[dict[str, Any]] = []
    for i in range(30):
        row = (
            text(passage(dice, 4))
            if field == "text"
            else qa(passage(dice, 1), passage(dice, 3), context=passage(dice, 1))
        )
        if i % 3 == 0:
            of = asked[i % 20][1]
            row[field] += " " + (of if i % 2 else rewritten(dice, of)) + " " + passage(dice, 1)
        rows.append(row)
    assert held(asked, rows) == [(i, (100 + i % 20, "exam")) for i in range(0, 30, 3)]


def test_thirteen_words_of_a_long_question_are_enough_and_twelve_are_not() -> None:
    dice = random.Random(1)
    asked = question(dice, 40)
    of = words(asked)
    for start in (0, 11, 27):
        for number, wanted in ((13, [(0, (100, "exam"))]), (12, [])):
            part = " ".join(of[start : start + number])
            assert held([("exam", asked)], [text(f"{passage(dice, 1)} {part}. {passage(dice, 1)}")]) == wanted


def test_of_a_short_question_all_words_are_needed() -> None:
    dice = random.Random(2)
    for number in range(8, 13):
        asked = question(dice, number)
        of = words(asked)
        assert held([("exam", asked)], [text(f"{passage(dice, 1)} {asked}")]) == [(0, (100, "exam"))]
        for part in (of[1:], of[:-1], [*of[:4], "other", *of[4:]]):
            assert held([("exam", asked)], [text(f"{passage(dice, 1)} {' '.join(part)}")]) == []


def test_seven_words_are_not_looked_for() -> None:
    dice = random.Random(3)
    asked = question(dice, 7)
    assert held([("exam", asked)], [text(f"{passage(dice, 1)} {asked}")]) == []
    longer = [("exam", asked), ("exam", question(dice, 30))]
    assert held(longer, [text(f"{passage(dice, 1)} {asked}")]) == []


@pytest.mark.parametrize("number", [10, 20])
def test_a_row_of_the_same_source_does_not_count(number: int) -> None:
    dice = random.Random(4)
    asked = question(dice, number)
    rows = [qa(asked, "yes", source="exam"), qa(asked, "yes", source="train")]
    assert held([("exam", asked)], rows) == [(1, (100, "exam"))]
    both = [("exam", asked), ("train", asked)]
    assert held(both, rows) == [(0, (101, "train")), (1, (100, "exam"))]
    assert held([("s", asked)], [qa(asked, "yes")]) == []


@pytest.mark.parametrize("number", [10, 20])
def test_many_questions_of_the_own_source_do_not_hide_one_of_another(number: int) -> None:
    """Questions that start alike, as generated ones do: a thousand rows of one source share the n-gram."""
    dice = random.Random(5)
    asked = question(dice, number)
    many = [("train", asked)] * 1000
    rows = [qa(asked, "yes", source="train"), qa(passage(dice, 1), passage(dice, 2), source="train")]
    assert held([*many, ("exam", asked)], rows, batch=64) == [(0, (1100, "exam"))]
    assert held(many, rows, batch=64) == []


def test_of_several_questions_the_first_of_a_row_is_named() -> None:
    dice = random.Random(6)
    asked = [("exam", question(dice, 20)) for _ in range(5)]
    row = text(" ".join(asked[i][1] for i in (3, 1, 4)))
    assert held(asked, [row]) == [(0, (103, "exam"))]


def test_nothing_to_look_for_is_no_index() -> None:
    assert index_questions([], ["a", "b"]) is None
    assert index_questions([([1, 2], ["a", "b"], ["why is it so?", ""])], ["a", "b"]) is None


def test_unrelated_rows_hold_none() -> None:
    dice = random.Random(7)
    asked = [("exam", question(dice, dice.randint(4, 30))) for _ in range(300)]
    assert held(asked, [text(passage(dice, 5)) for _ in range(300)], batch=50) == []


def test_batches_of_rows_change_nothing() -> None:
    dice = random.Random(8)
    asked = [("exam", question(dice, dice.randint(8, 20))) for _ in range(40)]
    rows = [text(passage(dice, 2) + (asked[i][1] if i % 4 == 0 else "")) for i in range(40)]
    names = ["exam", "s"]
    index = index_questions([([*range(40)], ["exam"] * 40, [of for _, of in asked])], names)
    assert index is not None
    whole = list(held_questions(index, ["s"] * 40, rows))
    assert [at for at, _ in whole] == [*range(0, 40, 4)]
    alone = [(i, of) for i in range(40) for _, of in held_questions(index, ["s"], [rows[i]])]
    assert alone == whole
    assert np.all(np.diff(index.long.keys.astype(object)) >= 0)
