"""Ends that are cut off, by themselves and beside those of their source; and right ends."""

import random
from collections import Counter
from typing import Any

import pytest

from data.detect.signs import habit, source_habits, truncated
from tests.data.detect.made_signs import NOUNS, VERBS, prose, qa, text


def planted(rows: list[dict[str, Any]], share: float, dice: random.Random) -> list[bool]:
    """Cut that share of the rows somewhere between 30% and 90% of their text, inside a word or behind one."""
    cut = []
    for row in rows:
        field = "text" if row["kind"] == "text" else "answer"
        cut.append(dice.random() < share)
        if cut[-1]:
            row[field] = row[field][: int(len(row[field]) * dice.uniform(0.3, 0.9))].rstrip(". ")
    return cut


def worked(dice: random.Random) -> str:
    lines = [f"There are {dice.randrange(99)} {dice.choice(NOUNS)}s, and {dice.choice(NOUNS)} {i}" for i in range(3)]
    return "\n".join([*lines, f"#### {dice.randrange(1000)}"])


SOURCES = {
    "prose": lambda dice: text(prose(dice, 5)),
    "answers": lambda dice: qa(prose(dice, 3)),
    "worked": lambda dice: qa(worked(dice)),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3, 0.6])
def test_cut_rows_are_told_by_the_habits_of_their_source(name: str, share: float) -> None:
    dice = random.Random(f"{name}{share}")
    rows = [SOURCES[name](dice) for _ in range(600)]
    cut = planted(rows, share, dice)
    habits = source_habits(Counter(map(habit, rows)))
    told = [truncated(row, habits) is not None for row in rows]
    wrong = sum(one != two for one, two in zip(told, cut, strict=True))
    assert wrong <= 0.02 * max(sum(cut), 50), (wrong, sum(cut))


def test_habits_of_two_halves_add_up_to_those_of_the_whole() -> None:
    dice = random.Random(1)
    rows = [SOURCES[dice.choice(list(SOURCES))](dice) for _ in range(100)]
    assert Counter(map(habit, rows[:30])) + Counter(map(habit, rows[30:])) == Counter(map(habit, rows))


def test_sources_of_bare_phrases_titles_and_code_are_never_cut_off() -> None:
    dice = random.Random(2)
    phrases = [qa(" ".join(dice.sample(NOUNS, dice.randint(1, 5)))) for _ in range(300)]
    programs = [qa(f"def {noun}(x):\n    y = {i}\n    return x + y") for i, noun in enumerate(NOUNS)]
    titles = [text(f"CHAPTER {i}. The {noun.title()} of the {noun.title()}") for i, noun in enumerate(NOUNS)]
    for rows in (phrases, programs, titles):
        habits = source_habits(Counter(map(habit, rows)))
        assert [row for row in rows if truncated(row, habits)] == []


@pytest.mark.parametrize(
    "answer",
    [
        "He went to the market and bought the",
        "It shows three things, which are apples, pears,",
        "So we call it (as the first of them said in the year",
        "Here it is:\n```python\nprint(1)",
        "The gate is written as \\begin{pmatrix} 0 & 1 and",
        "It grew for years [truncated]",
        "He was met at the door by Mr.",
    ],
)
def test_some_ends_are_cut_off_whatever_the_source(answer: str) -> None:
    assert truncated(qa(answer)) is not None


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "the Impalas",
        "It is done.",
        "She asked: “Why?”",
        "(see the first chapter.)",
        "1. Tent\n2. Rope\n3. Flashlight",
        "Fruit: apple, pear",
        "| a | b |\n| 1 | 2 |",
        "```python\nprint(1)\n```",
        "$$x = \\frac{1}{2}$$",
        "See https://arxiv.org/abs/1601.07601",
        "The night is pure, so serene\nIt dwells in us and in our dreams\nAnd morning comes at last",
        "早上好。",
        "Be the change that you wish to see, and let the others follow.\n\nLove,\nYour family",
        "It was the end of all his long and weary journeys over the sea.\n\nChapter 2",
    ],
)
def test_right_ends_are_right_even_where_full_stops_are_the_habit(answer: str) -> None:
    assert truncated(qa(answer), source_habits(Counter({("whole", ""): 100, ("bare", ""): 3}))) is None


USUAL = source_habits(Counter({("whole", ""): 90, ("brief", ""): 30, ("bare", ""): 1}))


def items(dice: random.Random, stop: str) -> list[str]:
    return [f"{i}. The {dice.choice(NOUNS)} {dice.choice(VERBS)} the {dice.choice(NOUNS)}{stop}" for i in range(1, 5)]


@pytest.mark.parametrize("seed", range(8))
def test_the_last_item_of_a_list_is_cut_where_the_others_end_with_a_stop(seed: int) -> None:
    dice = random.Random(seed)
    stopped, bare = items(dice, "."), items(dice, "")
    assert truncated(qa("\n".join(stopped)), USUAL) is None
    assert truncated(qa("\n".join(bare)), USUAL) is None
    assert truncated(qa("\n".join(stopped).rstrip(".")), USUAL) is not None
    assert truncated(qa("\n".join([*stopped, "5."])), USUAL) is not None  # an empty item
    assert truncated(qa("\n".join([*stopped, "In all there are 5."])), USUAL) is None


@pytest.mark.parametrize("seed", range(8))
def test_a_short_sentence_without_a_stop_is_cut_and_a_phrase_is_not(seed: int) -> None:
    dice = random.Random(seed)
    one, two = dice.choice(NOUNS), dice.choice(NOUNS)
    assert truncated(qa(f"The {one} is near the old {two}"), USUAL) is not None
    assert truncated(qa(f"The {one} is near the old {two}."), USUAL) is None
    assert truncated(qa(f"{one.title()} near a {two}"), USUAL) is None
    talk = source_habits(Counter({("brief", ""): 300, ("whole", ""): 3, ("clause", ""): 2}))
    assert truncated(qa(f"The {one} is near the old {two}"), talk) is None  # people who talk leave it out


@pytest.mark.parametrize("word", ["problem", "mountain", "harbour"])
def test_a_part_of_a_word_of_the_row_is_a_cut(word: str) -> None:
    question = f"What is the {word} of the old town here?"
    for end in range(3, len(word) - 1):
        cut = truncated(qa(f"Stone and sand near a small {word[:end]}", question), USUAL)
        assert cut is not None
        assert repr(word[:end]) in cut.detail
    assert truncated(qa(f"Stone and sand near a small {word}", question), USUAL) is None


@pytest.mark.parametrize("seed", range(8))
def test_the_end_of_arithmetic_is_no_cut(seed: int) -> None:
    dice = random.Random(seed)
    a, b = dice.randint(2, 99), dice.randint(2, 99)
    before = prose(dice, 2)
    for end in (f"So x = -{a}.5", f"It is {a} * {b} = {a * b}", f"The area is {a} x {b} = {a * b} cm", f"y ≈ ${a}"):
        assert truncated(qa(f"{before} {end}"), USUAL) is None, end
    assert truncated(qa(f"{before} So he multiplies {a} with"), USUAL) is not None


@pytest.mark.parametrize("seed", range(5))
def test_three_short_lines_are_verse_unless_the_others_end_with_stops(seed: int) -> None:
    dice = random.Random(seed)
    lines = [f"The {dice.choice(NOUNS)} {dice.choice(VERBS)} the old {dice.choice(NOUNS)}" for _ in range(3)]
    assert truncated(qa("\n".join(lines)), USUAL) is None
    assert truncated(qa(".\n".join(lines)), USUAL) is not None
