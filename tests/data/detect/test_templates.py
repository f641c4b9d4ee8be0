"""Templates: rows made from one skeleton are found whatever fills it; rows that only look alike are not."""

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.detect.templates as module
from data.conclusions import skeleton_pieces
from data.detect.sketch import forms
from data.detect.templates import FIXED_SHARE, MIN_FIXED, Template, alike, common, find_templates
from data.detect.words import words
from tests.data.made_rows import passage, sentence, signatures_of, some_words

Texts = tuple[str, ...]  # of one row: its fields


def found(rows: Sequence[Texts]) -> list[Template]:
    facts = {
        "signature": signatures_of(["\n".join(fields) for fields in rows]),
        "form": np.hstack([forms([fields[0] for fields in rows]), forms([fields[-1] for fields in rows])]),
        "num_words": np.array([sum(len(words(field)) for field in fields) for fields in rows], np.int64),
    }
    return find_templates(facts, np.arange(len(rows)), lambda numbers: [rows[i] for i in numbers])


def members(rows: Sequence[Texts]) -> list[list[int]]:
    return [template.rows for template in found(rows)]


def skeleton_of(dice: random.Random, fixed: int, slots: int) -> list[str | None]:
    """Fixed words with slots (None) among them, none beside another."""
    made: list[str | None] = [*some_words(dice, fixed)]
    places = sorted(dice.sample(range(fixed + 1), slots), reverse=True)
    for at in places:
        made.insert(at, None)
    return made


def filled(dice: random.Random, skeleton: list[str | None], most: int = 1) -> str:
    """Each slot with one word or more, fresh ones most of the time."""
    parts = []
    for word in skeleton:
        parts += [word] if word else [f"v{dice.randrange(10**9)}" for _ in range(dice.randint(1, most))]
    return " ".join(parts)


def unrelated(dice: random.Random, number: int) -> list[Texts]:
    return [(sentence(dice), passage(dice, 2)) for _ in range(number)]


# -- the longest common subsequence


def longest(a: list[str], b: list[str]) -> int:
    """Its length, by plain dynamic programming."""
    row = [0] * (len(b) + 1)
    for word in a:
        last = row
        row = [0]
        for j, other in enumerate(b):
            row.append(last[j] + 1 if word == other else max(last[j + 1], row[j]))
    return row[-1]


def is_subsequence(part: list[str], of: list[str]) -> bool:
    rest = iter(of)
    return all(word in rest for word in part)


LISTS = st.lists(st.sampled_from("abcde"), max_size=24)


@settings(max_examples=400, deadline=None)
@given(LISTS, LISTS)
def test_common_is_a_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    shared = common(a, b)
    assert is_subsequence(shared, a)
    assert is_subsequence(shared, b)
    assert len(shared) == longest(a, b) == len(common(b, a))


@pytest.mark.parametrize("seed", range(5))
def test_common_of_long_texts(seed: int) -> None:
    dice = random.Random(seed)
    a = some_words(dice, 300)
    b = [word for word in a if dice.random() < 0.7]
    for _ in range(60):
        b.insert(dice.randrange(len(b)), dice.choice(a))
    shared = common(a, b)
    assert len(shared) == longest(a, b)
    assert is_subsequence(shared, a)
    assert is_subsequence(shared, b)
    assert common(a, a) == a
    assert common(a, []) == []


# -- what is found


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_random_skeletons_are_found_and_unrelated_ones_are_not(seed: int) -> None:
    """Skeletons of 12 to 30 fixed words in question and answer, a slot of one word for every four of them or fewer."""
    dice = random.Random(seed)
    rows = unrelated(dice, 150)
    true: list[list[int]] = []
    for _ in range(4):
        fixed = [dice.randint(12, 30) for _ in range(2)]
        skeletons = [skeleton_of(dice, number, dice.randint(1, number // 4)) for number in fixed]
        number = dice.randint(5, 40)
        true.append([*range(len(rows), len(rows) + number)])
        rows += [(filled(dice, skeletons[0]), filled(dice, skeletons[1])) for _ in range(number)]
    order = dice.sample(range(len(rows)), len(rows))
    shuffled = [rows[i] for i in order]
    found_rows = [sorted(order[i] for i in template.rows) for template in found(shuffled)]
    assert sorted(found_rows) == true
    assert [len(of) for of in found_rows] == sorted(map(len, true), reverse=True)  # the largest first


@pytest.mark.parametrize("seed", range(5))
def test_skeletons_are_the_words_that_all_members_share(seed: int) -> None:
    dice = random.Random(seed)
    skeletons = [skeleton_of(dice, 14, 3), skeleton_of(dice, 20, 4)]
    rows: list[Texts] = [(filled(dice, skeletons[0], 2), filled(dice, skeletons[1], 2)) for _ in range(12)]
    [template] = found(rows)
    assert template.rows == [*range(12)]
    assert template.skeleton == [[word for word in of if word] for of in skeletons]


def test_texts_have_templates_too() -> None:
    dice = random.Random(20)
    skeleton = skeleton_of(dice, 40, 6)
    rows: list[Texts] = [*((passage(dice, 4),) for _ in range(40)), *((filled(dice, skeleton, 2),) for _ in range(9))]
    assert members(rows) == [[*range(40, 49)]]


def test_four_rows_are_no_template_and_five_are() -> None:
    dice = random.Random(21)
    skeletons = [skeleton_of(dice, 12, 2), skeleton_of(dice, 16, 2)]
    rows: list[Texts] = [(filled(dice, skeletons[0]), filled(dice, skeletons[1])) for _ in range(5)]
    assert members(unrelated(dice, 30) + rows[:-1]) == []
    assert members(unrelated(dice, 30) + rows) == [[*range(30, 35)]]


@pytest.mark.parametrize("field", [0, 1])
def test_slots_of_more_than_forty_percent_of_a_field_are_no_template(field: int) -> None:
    """30 words of which 18 are fixed, and 17 of 30; the other field is fixed but for a word."""
    dice = random.Random(22)
    for fixed, wanted in ((18, [[*range(20)]]), (17, [])):
        skeletons = [skeleton_of(dice, 20, 1), skeleton_of(dice, 20, 1)]
        skeletons[field] = skeleton_of(dice, fixed, 30 - fixed)
        rows: list[Texts] = [(filled(dice, skeletons[0]), filled(dice, skeletons[1])) for _ in range(20)]
        assert members(rows) == wanted


def test_templated_questions_with_answers_of_their_own_are_none() -> None:
    dice = random.Random(23)
    skeleton = skeleton_of(dice, 12, 2)
    rows: list[Texts] = [(filled(dice, skeleton), passage(dice, 2)) for _ in range(60)]
    assert members(rows) == []
    assert members([(a, b) for b, a in rows]) == []  # nor one answer for questions that differ
    assert members([(question, "the same answer for every one of them") for question, _ in rows]) == [[*range(60)]]


def test_an_answer_that_says_little_is_none() -> None:
    dice = random.Random(24)
    skeleton = skeleton_of(dice, 12, 2)
    short = " ".join(some_words(dice, MIN_FIXED - 1))
    assert members([(filled(dice, skeleton), short) for _ in range(20)]) == []
    assert members([(filled(dice, skeleton), short + " end") for _ in range(20)]) == [[*range(20)]]


def test_one_instruction_for_all_rows_is_no_template_and_hides_none() -> None:
    """512 rows have a long common opening and nothing else."""
    dice = random.Random(25)
    opening = " ".join(some_words(dice, 30))
    rows: list[Texts] = [(f"{opening} {passage(dice, 5)}", passage(dice, 3)) for _ in range(512)]
    skeletons = [skeleton_of(dice, 10, 2), skeleton_of(dice, 14, 2)]
    rows += [(f"{opening} {filled(dice, skeletons[0])}", filled(dice, skeletons[1])) for _ in range(30)]
    order = dice.sample(range(len(rows)), len(rows))
    [template] = found([rows[i] for i in order])
    assert sorted(order[i] for i in template.rows) == [*range(512, len(rows))]


def test_fillers_of_short_lists_that_repeat_are_slots_all_the_same() -> None:
    dice = random.Random(26)
    cities, seasons = ["Lyon", "Basel", "New York City", "Graz"], ["spring", "late summer", "autumn"]
    rows: list[Texts] = [
        (
            f"What is the weather like in {city} in the {season} of {1900 + i}?",
            f"In {city} the {season} of {1900 + i} is known to be mild, and most visitors like it very much.",
        )
        for i in range(24)
        for city in [dice.choice(cities)]
        for season in [dice.choice(seasons)]
    ]
    assert members(unrelated(dice, 50) + rows) == [[*range(50, 74)]]


def test_a_chapter_is_not_compared_with_another() -> None:
    dice = random.Random(27)
    skeleton = skeleton_of(dice, 4000, 10)
    assert members([(filled(dice, skeleton),) for _ in range(6)]) == []
    skeleton = skeleton_of(dice, 2000, 10)
    assert members([(filled(dice, skeleton),) for _ in range(6)]) == [[*range(6)]]


def test_a_row_with_a_field_that_is_too_long_is_not_read() -> None:
    dice = random.Random(28)
    skeleton = skeleton_of(dice, 7000, 10)
    rows: list[Texts] = [(filled(dice, skeleton),) for _ in range(6)]
    asked: list[int] = []
    signature = signatures_of([row[0] for row in rows])
    facts = {
        "signature": signature,
        "form": np.hstack([forms([""] * 6), forms([row[0] for row in rows])]),
        "num_words": np.array([7010] * 5 + [6000]),
    }

    def take(numbers: list[int]) -> list[Texts]:
        asked.extend(numbers)
        return [rows[i] for i in numbers]

    assert find_templates(facts, np.arange(6), take) == []
    assert set(asked) <= {5}


def test_a_question_and_an_answer_may_be_that_long_each() -> None:
    dice = random.Random(30)
    skeletons = [skeleton_of(dice, 1900, 9), skeleton_of(dice, 1900, 9)]
    rows: list[Texts] = [(filled(dice, skeletons[0]), filled(dice, skeletons[1])) for _ in range(6)]
    assert members(rows) == [[*range(6)]]


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_of_more_words_than_fit_has_the_same_templates(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    rows = unrelated(dice, 60)
    for _ in range(3):
        skeletons = [skeleton_of(dice, 16, 3), skeleton_of(dice, 20, 5)]
        rows += [(filled(dice, skeletons[0]), filled(dice, skeletons[1])) for _ in range(dice.randint(5, 30))]
    wanted = found(rows)
    assert len(wanted) == 3
    monkeypatch.setattr(module, "KNOWN", 0)
    assert found(rows) == wanted


def test_a_large_cluster_is_given_up_where_no_skeleton_has_five_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(29)
    of_all = skeleton_of(dice, 20, 4)
    fields = [[some_words(dice, 30)] for _ in range(200)]
    fields[150:170] = [[filled(dice, of_all).split()] for _ in range(20)]
    read: list[int] = []

    def words_of(rows: list[int]) -> list[list[list[str]]]:
        read.append(len(rows))
        return [fields[row] for row in rows]

    [template] = module._refine([*range(200)], words_of)
    assert template.rows == [*range(150, 170)]
    assert len(read) == 177  # each of the others by itself, but for the last four
    for held, skeletons in ((0, 32), (8000, 54)):  # 54 of 146 rows that are left
        read.clear()
        monkeypatch.setattr(module, "HELD", held)
        assert module._refine([*range(200)], words_of) == []
        assert len(read) == skeletons
    monkeypatch.setattr(module, "HELD", 0)  # a template that is found begins the count anew
    assert [of.rows for of in module._refine([*range(140, 200)], words_of)] == [[*range(150, 170)]]


def test_alike_asks_for_the_share_of_the_longer_one_in_each_field() -> None:
    ten = [f"w{i}" for i in range(10)]
    assert FIXED_SHARE == 0.6
    assert alike([ten], [[*ten[:6], "a", "b", "c", "d"]])
    assert not alike([ten], [[*ten[:5], "a", "b", "c", "d", "e"]])
    assert not alike([ten], [ten[:5]])  # all of its words, but half of the longer one's
    assert not alike([ten], [ten[::-1]])  # the same words in another order
    assert not alike([ten, ten], [ten, ten[::-1]])
    assert alike([ten, ten[:1]], [ten, ten[:1]])


# -- what is shown


@pytest.mark.parametrize("seed", range(10))
def test_pieces_are_the_fixed_words_and_the_slots_in_turns(seed: int) -> None:
    dice = random.Random(seed)
    skeleton = skeleton_of(dice, 12, dice.randint(1, 4))
    fillers: list[list[str]] = []
    texts = []
    for _ in range(5):
        fillers.append(
            [" ".join(f"v{dice.randrange(10**9)}" for _ in range(dice.randint(1, 3))) for w in skeleton if not w]
        )
        rest = iter(fillers[-1])
        texts.append(" ".join(word or next(rest) for word in skeleton))
    pieces = skeleton_pieces([word for word in skeleton if word], texts)
    assert [piece["slot"] for piece in pieces if "slot" in piece] == [list(of) for of in zip(*fillers, strict=True)]
    first = iter(fillers[0])
    assert " ".join(piece.get("fixed") or next(first) for piece in pieces) == texts[0]
    assert all(a.keys() != b.keys() for a, b in pairwise(pieces))


def test_pieces_are_written_as_the_first_text_is() -> None:
    texts = ["What IS the capital of France today?", "What is the capital of Burkina Faso today?"]
    skeleton = words("what is the capital of today")
    assert skeleton_pieces(skeleton, texts) == [
        {"fixed": "What IS the capital of"},
        {"slot": ["France", "Burkina Faso"]},
        {"fixed": "today"},
    ]


def test_pieces_hold_five_fillers_at_most_and_no_filler_twice() -> None:
    texts = [f"the {name} is here" for name in ["a1", "a1", "b", "c", "d", "e", "f", "f"]]
    assert skeleton_pieces(["the", "is", "here"], texts)[1] == {"slot": ["a1", "b", "c", "d", "e"]}


def test_fillers_are_as_written_where_case_folding_makes_more_letters() -> None:
    """Of a ligature three, of ß two."""
    texts = ["the eﬃcient one is here", "Die Größe: the große one is here"]
    assert skeleton_pieces(["the", "is", "here"], texts) == [
        {"slot": ["Die Größe:"]},
        {"fixed": "the"},
        {"slot": ["eﬃcient one", "große one"]},
        {"fixed": "is here"},
    ]


def test_a_text_without_the_words_is_passed_over() -> None:
    other = "something else stands here"
    assert skeleton_pieces(["the", "is", "here"], ["the red one is here", other])[1] == {"slot": ["red one"]}
    assert skeleton_pieces(["the", "is", "here"], [other]) == [{"fixed": "the is here"}]
