"""Loops of every size, and what only looks like one."""

import random

import pytest

from tests.data.detect.made_signs import NOUNS, VERBS, evidence, found, kinds, prose, qa, sentence, text


@pytest.mark.parametrize("seed", range(40))
def test_a_phrase_that_is_repeated_is_found_with_its_count(seed: int) -> None:
    dice = random.Random(seed)
    words = dice.sample(NOUNS + VERBS, dice.randint(3, 12))
    turns = dice.randint(4, 20)
    before = prose(dice, dice.randrange(4))
    answer = f"{before} {' '.join(words * turns)}".strip()
    (sign,) = found(qa(answer), "repetition")
    assert f"{turns} times" in sign.detail
    assert answer[sign.start : sign.end] == " ".join(words * turns)


@pytest.mark.parametrize("seed", range(20))
def test_the_last_turn_of_a_loop_may_be_cut_off(seed: int) -> None:
    dice = random.Random(seed)
    unit = sentence(dice) + " "
    looped = prose(dice, 2) + " " + unit * dice.randint(3, 6) + unit[: dice.randint(3, len(unit) - 3)]
    assert "repetition" in kinds(text(looped))


@pytest.mark.parametrize(
    "answer",
    [
        "Paris Paris Paris Paris",
        "It lies in the the the the the the hills.",
        "Robert Koch Robert Koch Robert Koch",
        "He lives in Rome.\nHe lives in Rome.\nHe lives in Rome.\nHe lives in Rome.",
        "1975 1975 1975 1975 1975",
        "#### 160. #### 160. #### 160. #### 160. #### 160. #### 160.",
        "我喜欢吃苹果。我喜欢吃苹果。我喜欢吃苹果。我喜欢吃苹果。",
        "あたかもあたかもあたかもあたかもあたかも",
        "yesmanyesmanyesmanyesmanyesmanyesman",
    ],
)
def test_loops_of_every_size_are_found(answer: str) -> None:
    assert "repetition" in kinds(qa(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "It was very very very hot.",
        "Ha ha ha ha ha, he said.",
        "3 x 1 = 3\n3 x 2 = 6\n3 x 3 = 9\n3 x 4 = 12\n3 x 5 = 15\n3 x 6 = 18",
        "The sum is 5 + 5 + 5 + 5 + 5 + 5 = 30.",
        "1 plus 1 plus 1 plus 1 plus 1 is 5.",
        "2 x 2 x 2 x 2 x 2 x 2 = 64",
        "| a | b |\n|---|---|\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |",
        "----------------------------------------",
        "Title\n=====================================",
        "for i in range(3):\n    print(i)\n    print(i)\n    print(i)\n    print(i)\n    print(i)",
        "\\begin{pmatrix} 1 & 0 & 0 \\\\ 0 & 1 & 0 \\\\ 0 & 0 & 1 \\end{pmatrix}",
        "Tora! Tora! Tora!",
        "The cat and the dog and the cat and the bird and the dog came.",
    ],
)
def test_what_only_looks_like_a_loop_is_none(answer: str) -> None:
    assert "repetition" not in kinds(qa(answer))


def test_in_a_story_people_may_say_a_word_over_and_over() -> None:
    assert "repetition" not in kinds(text("“No, no, no, no!” he cried, and ran down to the river to see the boats."))
    assert "repetition" in kinds(text("He ran down to the river river river river river to see the boats."))


def test_half_of_the_sentences_may_be_copies_that_do_not_stand_in_a_row() -> None:
    dice = random.Random(3)
    refrain = "The harbour was silent all through that long night. "
    answer = "".join(refrain + sentence(dice) + " " for _ in range(8))
    assert evidence(qa(answer), "repetition") == [refrain.strip().rstrip(".")]
    assert "repetition" not in kinds(qa(answer.replace(refrain, "", 6)))
    verses = [sentence(dice) + "\n" + sentence(dice) for _ in range(3)]
    assert "repetition" not in kinds(qa("".join(f"{verse}\n{refrain}\n{refrain[4:]}\n" for verse in verses)))


# -- of numbers

SUM_LOOPS = [
    "= 12 = 12 = 12 = 12 = 12 = 12",
    "5+5+5+5+5+5+5+5+5+5+5+5+5+5+5+5+5+",
    "<<4*2=8>>8 <<4*2=8>>8 <<4*2=8>>8 <<4*2=8>>8",
    "#### 12 #### 12 #### 12 #### 12",
    "12 12 12 12 12 12",
    "5 7 5 7 5 7 5 7 5 7 5 7 5",
    "+ + + + + + + + + +",
    "= = = = = = = =",
    "121212121212121212121212121212",
    "10 / 2 = 5\n10 / 2 = 5\n10 / 2 = 5\n10 / 2 = 5\n",
]
SUMS = [
    "5 + 5 + 5 + 5 = 20",
    "4+4=8, 8+4=12, 12+4=16, 16+4=20, 20+4=24",
    "2*2*2*2*2*2*2*2=256",
    "It is 1/3 = 0.3333333333333333",
    "He adds 5 + 5 + 5 + 5 + 5 + 5.",
    "9 + 9 + 9 + 9 + 9 + 9 + 9 = 63 in all",
    "[0, 0, 0, 0, 0, 0]",
    "|0101010101010101010101010101>",
    "* * * * * * * *",
    "1 + 1 + 1 + 1 + 1 + 1 + 1",
    "x = 16 = <<16=16>>16\n#### 16",
]


@pytest.mark.parametrize("end", SUM_LOOPS)
def test_loops_of_numbers_and_operators_at_an_end_are_found(end: str) -> None:
    assert "repetition" in kinds(qa(prose(random.Random(end), 2) + "\n" + end))


@pytest.mark.parametrize("end", SUMS)
def test_sums_tables_and_rules_are_no_loops(end: str) -> None:
    assert "repetition" not in kinds(qa(prose(random.Random(end), 2) + "\n" + end))


@pytest.mark.parametrize("seed", range(10))
def test_running_totals_come_to_something_and_the_same_equation_does_not(seed: int) -> None:
    dice = random.Random(seed)
    total, step = dice.randint(10, 99), dice.randint(2, 9)
    same = f"{total} + {step} = {total + step}\n" * dice.randint(5, 9)
    totals = "".join(f"{total + i * step} + {step} = {total + (i + 1) * step}\n" for i in range(dice.randint(5, 9)))
    assert "repetition" in kinds(qa(prose(dice, 1) + "\n" + same))
    assert "repetition" not in kinds(qa(prose(dice, 1) + "\n" + totals))
