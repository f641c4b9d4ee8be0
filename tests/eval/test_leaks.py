"""Shares of 13-grams that a training split holds: as counted plainly, and what comparisons make of them."""

import random
from pathlib import Path
from typing import Any

import pytest

from data.detect.words import words
from eval.held_out import held_out
from eval.leaks import NGRAM, known_questions, overlap_shares

from .conftest import make_rows, make_table
from .test_held_out import corpus


def prose(dice: random.Random, number: int) -> str:
    return " ".join(
        dice.choice(["Amber", "blau", "été", "stone's", "wall,", "x", "漢字", "ship."]) for _ in range(number)
    )


def row(name: str, text: str) -> dict[str, Any]:
    return {"kind": "text", "source": "s", "text": text, "id": name, "group": name}


def grams_of(text: str) -> set[tuple[str, ...]]:
    of = words(text)
    return {tuple(of[i : i + NGRAM]) for i in range(len(of) - NGRAM + 1)}


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_those_of_sets_of_words(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    train = [prose(dice, dice.randint(1, 80)) for _ in range(30)]
    test = [prose(dice, dice.randint(1, 40)) for _ in range(10)]
    test += [f"{prose(dice, dice.randint(0, 20))} {dice.choice(train).upper()}" for _ in range(10)]
    found = overlap_shares(
        make_table([row(f"t{i}", text) for i, text in enumerate(test)]),
        corpus(tmp_path / "a", [row(f"r{i}", text) for i, text in enumerate(train)], make_rows(4, seed=1)),
    )
    known = set().union(*map(grams_of, train))
    wanted = [len(own & known) / len(own) if (own := grams_of(text)) else 0.0 for text in test]
    assert found.tolist() == pytest.approx(wanted)
    assert max(wanted) > 0.4
    assert min(wanted) == 0.0


def test_a_question_and_its_answer_are_one_text(tmp_path: Path) -> None:
    dice = random.Random(7)
    question, answer = prose(dice, 20), prose(dice, 30)
    own = {**make_rows(2, seed=3)[1], "context": None, "question": question, "answer": answer}
    a = corpus(tmp_path / "a", [{**own, "answer": answer + " " + prose(dice, 3)}], make_rows(4, seed=1))
    assert overlap_shares(make_table([own]), a).tolist() == [1.0]
    assert overlap_shares(make_table([own]), corpus(tmp_path / "b", [row("x", answer)], [row("y", "y")]))[0] < 0.5


def test_a_row_that_another_corpus_holds_uncleaned_is_removed_and_counted(tmp_path: Path) -> None:
    dice = random.Random(8)
    test = [row(f"t{i}", prose(dice, 60)) for i in range(6)]
    raw = row("raw", f"Certainly! Here is the answer. {test[2]['text']} I hope that this helps.")
    other = row("half", " ".join(test[4]["text"].split()[:25]))  # 13 of 48 13-grams
    a = corpus(tmp_path / "a", make_rows(6, seed=1), test)
    b = corpus(tmp_path / "b", [*make_rows(6, seed=4), raw, other], make_rows(4, seed=5))
    found = held_out([a], [a, b])
    assert found.table["id"].to_pylist() == ["t0", "t1", "t3", "t4", "t5"]
    assert found.known_to == {str(a): 0, str(b): 1}


@pytest.mark.parametrize(("copies", "stay"), [(3, 0), (4, 4)])
def test_a_phrase_of_many_training_documents_is_common_and_one_of_few_a_copy(
    copies: int, stay: int, tmp_path: Path
) -> None:
    """In a small corpus more than 3 documents; whichever corpus the test documents are of."""
    dice = random.Random(9)
    shared = prose(dice, 40)
    test = [row(f"t{i}", f"{shared} {i}") for i in range(4)]
    train = [*(row(f"r{i}", f"{shared} {100 + i}") for i in range(copies)), row("r", prose(dice, 30))]
    other = make_rows(4, seed=5)
    a = corpus(tmp_path / "a", train, [*test, *other])
    b = corpus(tmp_path / "b", train, other)
    for evaluated, trained_on in (([a], [a]), ([a, b], [a, b]), ([b, a], [b, a])):
        found = held_out(evaluated, trained_on)
        assert len(found.table) == 4 + stay
        assert set(found.known_to.values()) == {4 - stay}


def test_what_is_copied_is_known_whatever_template_stands_around_it(tmp_path: Path) -> None:
    dice = random.Random(14)
    template, answer, new = prose(dice, 100), prose(dice, 60), prose(dice, 60)
    train = [row(f"r{i}", f"{template} {prose(dice, 20)}") for i in range(8)]
    a = corpus(tmp_path / "a", [*train, row("copied", f"{template} {answer}")], make_rows(4, seed=1))
    table = make_table([row("t0", f"{template} {answer}"), row("t1", f"{template} {new}"), row("t2", template)])
    copied, other, bare = overlap_shares(table, a).tolist()
    assert (copied, bare) == (1.0, 0.0)
    assert other < 0.1  # chance: of the first new word


def test_phrases_are_common_from_a_share_of_the_training_documents_on(tmp_path: Path) -> None:
    """Of 2,000 documents 10 are 0.5%."""
    dice = random.Random(12)
    ten, eleven = prose(dice, 30), prose(dice, 30)
    train = [row(f"x{i}", f"{i} {ten}") for i in range(10)] + [row(f"y{i}", f"{i} {eleven}") for i in range(11)]
    train += [row(f"z{i}", f"other {i}") for i in range(2000 - len(train))]
    a = corpus(tmp_path / "a", train, make_rows(4, seed=1))
    table = make_table([row("ten", ten), row("eleven", eleven)])
    assert overlap_shares(table, a).tolist() == [1.0, 0.0]


def test_what_is_known_does_not_depend_on_the_order_of_the_corpora(tmp_path: Path) -> None:
    """Both hold the same test documents, one trained on some of them inside longer texts."""
    dice = random.Random(11)
    test = [row(f"t{i}", prose(dice, 50)) for i in range(8)]
    clean = [row(f"r{i}", prose(dice, 50)) for i in range(8)]
    leaked = [row(f"l{i}", f"{prose(dice, 30)} {test[i]['text']} {prose(dice, 30)}") for i in range(3)]
    sound = corpus(tmp_path / "sound", clean, test)
    other = corpus(tmp_path / "other", [*clean, *leaked], test)
    for order in ([sound, other], [other, sound]):
        found = held_out(order, order)
        assert found.known_to == {str(sound): 0, str(other): 3}
        assert found.table["id"].to_pylist() == [f"t{i}" for i in range(3, 8)]


def test_a_page_of_a_long_text_is_removed_and_not_the_rest(tmp_path: Path) -> None:
    """Of a whole book it would be a share below any limit."""
    dice = random.Random(10)
    lines = [prose(dice, 12) + "\n" for _ in range(400)]
    book = row("book", "".join(lines))
    a = corpus(tmp_path / "a", make_rows(6, seed=1), [book, *make_rows(4, seed=2)])
    alone = held_out([a], [a]).table.to_pylist()
    page = next(one for one in alone if one["id"] == "book/7")
    around = "".join(lines[:3])  # too little of the first page
    b = corpus(tmp_path / "b", [row("page", around + page["text"]), *make_rows(6, seed=4)], make_rows(4, seed=5))
    found = held_out([a], [a, b])
    assert found.table["id"].to_pylist() == [one["id"] for one in alone if one["id"] != "book/7"]
    assert found.known_to[str(b)] == 1
    assert found.num_found == len(alone)


def test_questions_of_a_file_that_stand_in_the_training_text_are_known(tmp_path: Path) -> None:
    dice = random.Random(13)
    answers = [prose(dice, 30) for _ in range(4)]
    train = [{**row(f"r{i}", ""), "kind": "qa", "text": None, "question": f"What is thing {i}?", "answer": answer}
             for i, answer in enumerate(answers)]  # fmt: skip
    a = corpus(tmp_path / "a", train, make_rows(4, seed=1))
    asked = [
        (None, "  what IS thing 2?", "Something else."),  # asked in training
        (None, "Another question?", answers[1]),  # answered in training
        (None, "Another question?", " ".join(answers[0].split()[:10])),
        (None, "What is thing 9?", ""),
    ]
    assert known_questions(asked, a).tolist() == [True, True, False, False]
    train[0] |= {"context": "A text.", "question": "Sum it up."}
    b = corpus(tmp_path / "b", train, make_rows(4, seed=1))
    own = [(None, "Sum it up.", ""), ("A text.", "sum it up.", ""), ("Another text.", "Sum it up.", "")]
    assert known_questions(own, b).tolist() == [False, True, False]
