"""Boilerplate: phrases that many rows repeat are found and cut out; what rows have of their own is not."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.detect.boilerplate import (
    Span,
    least_rows,
    opening,
    phrase_keys,
    pieces,
    stock_phrases,
    stock_rows,
    stock_spans,
    without,
)
from tests.data.made_rows import passage, sentence, some_words


def stock_of(texts: list[str], batch: int = 64) -> np.ndarray:
    return stock_phrases([texts[i : i + batch] for i in range(0, len(texts), batch)], len(texts))


def shown(text: str, stock: np.ndarray) -> list[tuple[str, str]]:
    return [(span.where, text[span.start : span.end].strip()) for span in stock_spans(text, stock)]


def flagged(texts: list[str]) -> list[int]:
    return np.flatnonzero(stock_rows(texts, stock_of(texts))).tolist()


@pytest.mark.parametrize(
    ("rows", "least"),
    [
        (3, 4),
        (19, 20),
        (20, 3),
        (59, 3),
        (60, 3),
        (100, 5),
        (200, 10),
        (1000, 10),
        (5000, 10),
        (10_000, 20),
        (100_000, 200),
    ],
)
def test_a_phrase_of_one_row_in_500_is_stock_and_of_few_rows_one_in_20(rows: int, least: int) -> None:
    assert least_rows(rows) == least


@pytest.mark.parametrize("number", [40, 100, 400])
def test_a_sentence_is_stock_from_the_least_number_of_rows_on(number: int) -> None:
    dice = random.Random(number)
    stock = sentence(dice)
    least = least_rows(number)
    for times, found in ((least - 1, 0), (least, least)):
        texts = [passage(dice, 3) for _ in range(number)]
        chosen = sorted(dice.sample(range(number), times))
        for i in chosen:
            texts[i] += f" {stock}"
        assert flagged(texts) == chosen[:found]


def planted(dice: random.Random, number: int, where: str, phrase: str) -> tuple[list[str], list[str]]:
    """Texts of which each second one has a phrase, and the same without it."""
    plain = [passage(dice, 3) for _ in range(number)]
    texts = list(plain)
    for i in range(0, number, 2):
        sentences = [plain[i][a:b].strip() for a, b in pieces(plain[i])]
        match where:
            case "opening":
                texts[i] = f"{phrase} {plain[i]}"
            case "ending":
                texts[i] = f"{plain[i]} {phrase}"
            case "sentence":
                texts[i] = " ".join([sentences[0], phrase, *sentences[1:]])
            case "passage":  # inside a sentence
                texts[i] = f"{sentence(dice)[:-1]} {phrase} {plain[i]}"
    return texts, plain


@pytest.mark.parametrize("where", ["opening", "ending", "sentence"])
@pytest.mark.parametrize("seed", range(3))
def test_spans_cut_out_leave_the_rest(where: str, seed: int) -> None:
    dice = random.Random(seed)
    phrase = f"{' '.join(some_words(dice, 4))}," if where == "opening" else sentence(dice, 3, 20)
    texts, plain = planted(dice, 60, where, phrase)
    stock = stock_of(texts)
    assert np.flatnonzero(stock_rows(texts, stock)).tolist() == [*range(0, 60, 2)]
    for i, text in enumerate(texts):
        spans = stock_spans(text, stock)
        assert [text[span.start : span.end].strip() for span in spans] == ([] if i % 2 else [phrase])
        assert [span.where for span in spans] == ([] if i % 2 else ["opening" if where == "opening" else "sentence"])
        assert without(text, spans) == plain[i]


@pytest.mark.parametrize("words", [7, 8, 24])
def test_words_in_a_row_are_a_passage_from_eight_on(words: int) -> None:
    dice = random.Random(words)
    phrase = " ".join(some_words(dice, words))
    texts, _ = planted(dice, 60, "passage", phrase)
    stock = stock_of(texts)
    for i in range(60):
        assert shown(texts[i], stock) == ([("passage", phrase)] if words >= 8 and i % 2 == 0 else [])


@pytest.mark.parametrize("where", ["ending", "sentence", "opening"])
def test_a_phrase_takes_no_word_of_its_neighbours_along(where: str) -> None:
    """Own sentences end and begin with one of two words: eight words across the border repeat in many rows, too."""
    dice = random.Random(8)
    phrase = "Well then my good friend," if where == "opening" else "I hope that this helps you and yours."
    own = lambda: f"{dice.choice(['He', 'She'])} {' '.join(some_words(dice, 9))} {dice.choice(['went', 'came'])}."  # noqa: E731
    texts, rest = [], []
    for _ in range(80):
        one, other = own(), own()
        rest.append(f"{one} {other}")
        texts.append(
            {"ending": f"{one} {other} {phrase}", "sentence": f"{one} {phrase} {other}"}.get(
                where, f"{phrase} {one} {other}"
            )
        )
    stock = stock_of(texts)
    assert [without(text, stock_spans(text, stock)) for text in texts] == rest


def test_an_opening_ends_at_the_first_mark_of_a_clause() -> None:
    assert opening("Based on what you say, it is a cold.") == len("Based on what you say,")
    assert opening("In short - no - it is not.") == len("In short - no - ")
    assert opening("  Sure! Here it is: a cold.") == len("  Sure! Here it is:")  # a mark behind three words or more
    assert opening("  Sure! Here it is.") == 0
    assert opening("No. No. No. No. It was.") == len("No. No. No.")
    assert opening("No mark at all") == 0
    assert opening("It is nothing else.") == 0
    assert opening("") == 0


def test_two_words_are_no_phrase_and_three_are() -> None:
    dice = random.Random(1)
    for phrase, found in (
        ("Good day.", []),
        ("A good day.", [*range(0, 60, 2)]),
        ("Of course,", []),
        ("Oh of course,", [*range(0, 60, 2)]),
    ):
        texts, _ = planted(dice, 60, "opening", phrase)
        assert flagged(texts) == found, phrase


def test_digits_alone_are_none() -> None:
    dice = random.Random(2)
    for phrase, found in (("10 + 20 + 30 = 60.", []), ("10 + 20 apples + 30 = 60.", [*range(0, 60, 2)])):
        texts, _ = planted(dice, 60, "sentence", phrase)
        assert flagged(texts) == found


def test_a_whole_answer_is_none_and_one_beside_another_sentence_is() -> None:
    dice = random.Random(3)
    phrase = "That is not known."
    texts = [phrase if i % 2 else passage(dice, 2) for i in range(60)]
    assert flagged(texts) == []
    texts = [f"{phrase} {sentence(dice)}" if i % 2 else passage(dice, 2) for i in range(60)]
    assert flagged(texts) == [*range(1, 60, 2)]


def test_case_signs_and_white_space_do_not_make_another_phrase() -> None:
    dice = random.Random(4)
    ways = ["I hope this helps you!", "I HOPE this helps you.", "I hope  this helps you…", "i hope, this helps you!!"]
    texts = [f"{passage(dice, 2)} {ways[i % 4]}" if i % 3 == 0 else passage(dice, 2) for i in range(90)]
    stock = stock_of(texts)
    assert np.flatnonzero(stock_rows(texts, stock)).tolist() == [*range(0, 90, 3)]
    assert {without(text, stock_spans(text, stock)).count(".") for text in texts} == {2}


def test_a_phrase_counts_once_a_row() -> None:
    dice = random.Random(5)
    phrase = sentence(dice)
    texts = [passage(dice, 3) for _ in range(100)]
    texts[8] += f" {phrase}" * 20
    assert flagged(texts) == []


def test_the_order_of_rows_and_batches_changes_nothing() -> None:
    dice = random.Random(6)
    texts, _ = planted(dice, 100, "sentence", sentence(dice))
    expected = stock_of(texts, 100)
    assert len(expected)
    dice.shuffle(texts)
    assert np.array_equal(stock_of(texts, 7), expected)
    assert len(stock_phrases([], 0)) == 0


@pytest.mark.parametrize("texts", [[], ["yes"], ["", ""], ["漢字。"], ["no clause and one sentence"]])
def test_texts_without_any_phrase(texts: list[str]) -> None:
    """Answers of one word, as trivia has them: a thousand in a row hold no sentence beside another."""
    keys, offsets = phrase_keys(texts)
    assert keys.tolist() == []
    assert offsets.tolist() == [0] * (len(texts) + 1)
    assert flagged(texts * 40) == []


def test_scripts_without_spaces_have_sentences() -> None:
    dice = random.Random(7)
    signs = [chr(c) for c in range(0x4E00, 0x5000)]
    line = lambda: "".join(dice.choice(signs) for _ in range(12)) + "。"  # noqa: E731
    phrase = line()
    texts = [line() + (phrase if i % 2 else line()) + line() for i in range(60)]
    stock = stock_of(texts)
    assert [shown(text, stock) for text in texts] == [[("sentence", phrase)] if i % 2 else [] for i in range(60)]


@pytest.mark.parametrize("own", ["plain", "Größe", "İstanbul", "eﬃcient"])
def test_a_passage_is_found_where_case_folding_makes_more_letters(own: str) -> None:
    dice = random.Random(own)
    stock = " ".join(some_words(dice, 10))
    texts = [f"{sentence(dice)[:-1]} {own} {stock} {own} {sentence(dice)}" for _ in range(40)]
    assert flagged(texts) == list(range(40))
    assert all([f"{own} {stock} {own}"] == [found for _, found in shown(text, stock_of(texts))] for text in texts)


@settings(max_examples=200, deadline=None)
@given(st.text("ab .,!?\n漢。İﬁ", max_size=60))
def test_pieces_are_the_text_in_order(text: str) -> None:
    found = pieces(text)
    assert all(text[a:b].strip() for a, b in found)
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())
    assert all(end <= start for (_, end), (start, _) in pairwise(found))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab .,漢İﬁ1", max_size=40), min_size=3, max_size=8))
def test_spans_stand_in_order_and_apart_in_rows_that_are_flagged(texts: list[str]) -> None:
    stock = stock_of(texts * 3)
    for text, holds in zip(texts, stock_rows(texts, stock).tolist(), strict=True):
        spans = stock_spans(text, stock)
        assert all(a.end <= b.start for a, b in pairwise(spans))
        assert all(0 <= span.start < span.end <= len(text) for span in spans)
        assert holds == bool(spans)


def test_without_joins_what_is_left_by_one_space() -> None:
    assert without("a b c d", [Span(2, 4, "sentence")]) == "a c d"
    assert without("  a\n b ", []) == "  a\n b "
    assert without("a b", [Span(0, 3, "passage")]) == ""


# -- stock sentences inside of others


def run_on(dice: random.Random, stock: str, number: int) -> tuple[list[str], set[int], set[int]]:
    """Texts; those with the stock sentence on its own, and those with it behind a line that has no full stop."""
    texts = [passage(dice, 3) for _ in range(number)]
    chosen = dice.sample(range(number), number // 4)
    alone, inside = set(chosen[: number // 8]), set(chosen[number // 8 :])
    for i in alone:
        texts[i] += f" {stock}"
    for i in inside:
        first, second = sentence(dice)[:-1], sentence(dice)
        texts[i] = f"{first} {stock} {second}"
    return texts, alone, inside


@pytest.mark.parametrize("words", [3, 5, 7])
def test_a_short_stock_sentence_is_found_where_the_line_before_has_no_full_stop(words: int) -> None:
    dice = random.Random()
    stock_sentence = " ".join(some_words(dice, words)).capitalize() + "."
    texts, alone, inside = run_on(dice, stock_sentence, 400)
    stock = stock_of(texts)
    assert set(flagged(texts)) == alone | inside
    for i in alone | inside:
        assert [text for _, text in shown(texts[i], stock)] == [stock_sentence]
        left = without(texts[i], stock_spans(texts[i], stock))
        assert stock_sentence not in left
        assert len(left.split()) == len(texts[i].split()) - words


def test_only_a_whole_stock_sentence_with_a_capital_counts_inside_of_another() -> None:
    dice = random.Random()
    words = some_words(dice, 4)
    stock_sentence = " ".join(words).capitalize() + "."
    texts, _, _ = run_on(dice, stock_sentence, 400)
    stock = stock_of(texts)
    first, last = sentence(dice)[:-1], sentence(dice)
    for clean in (
        f"{first} {' '.join(words)}. {last}",  # no capital: words of the sentence itself
        f"{first} {stock_sentence[:-1]} and more. {last}",  # the sentence goes on
        f"{first} {' '.join(words[:2]).capitalize()}. {last}",
    ):
        assert flagged([*texts, clean])[-1] < len(texts)
        assert stock_spans(clean, stock) == []
    assert flagged([*texts, f"{first} {stock_sentence} {last}"])[-1] == len(texts)


def test_the_pronoun_is_no_capital_that_begins_a_sentence() -> None:
    dice = random.Random()
    texts = [passage(dice, 3) for _ in range(400)]
    for i in range(0, 400, 10):
        texts[i] += " I do not know."
    for i in range(5, 400, 10):
        texts[i] += f" {sentence(dice)[:-1]} and I do not know."
    assert flagged(texts) == list(range(0, 400, 10))


def test_where_a_phrase_stands_inside_of_sentences_only_nothing_is_stock() -> None:
    """So that names, and what follows them, are no boilerplate in a source that repeats no sentence."""
    dice = random.Random()
    texts = [passage(dice, 2) for _ in range(400)]
    for i in range(0, 400, 3):
        texts[i] = f"{sentence(dice)[:-1]} Doctor Bako said so. {sentence(dice)}"
    assert flagged(texts) == []
