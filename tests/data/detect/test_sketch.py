"""Hashes and signatures: functions of a text's words alone, and as near to the true similarity as 100 places allow."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.detect import sketch
from data.detect.sketch import EMPTY, NUM_HASHES, mix, ngrams, signatures, sorted_buckets, word_hashes
from data.detect.words import words
from tests.data.made_rows import WORDS, some_words

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\t.,!_-aAbB1漢字éİßﬁ\0ไ"), max_size=25)


def hashes_of(texts: list[str]) -> list[list[int]]:
    hashes, offsets = word_hashes(texts)
    assert len(offsets) == len(texts) + 1
    assert offsets[0] == 0
    assert offsets[-1] == len(hashes)
    return [hashes[a:b].tolist() for a, b in pairwise(offsets.tolist())]


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=6))
def test_hashes_are_those_of_the_words_one_by_one_whatever_the_chunk(texts: list[str]) -> None:
    alone = [[hashes_of([word])[0][0] for word in words(text)] for text in texts]
    assert hashes_of(texts) == alone


def test_words_that_differ_have_other_hashes_and_equal_ones_the_same_wherever_they_stand() -> None:
    assert len({hashes_of([word])[0][0] for word in WORDS}) == len(WORDS)
    dice = random.Random(1)
    texts = [" ".join(some_words(dice, dice.randint(0, 40))) for _ in range(50)]
    texts[7] = texts[31] = "É " + texts[7]  # one that is not ASCII among others that are
    found = hashes_of(texts)
    assert found[7] == found[31]
    known = {word: value for text, of in zip(texts, found, strict=True) for word, value in zip(words(text), of)}  # noqa: B905
    assert all(of == [known[word] for word in words(text)] for text, of in zip(texts, found, strict=True))


def test_case_punctuation_and_white_space_change_no_hash() -> None:
    plain = hashes_of(["the cat s red_hat cost 3 50"])
    assert hashes_of(["  The CAT's, red_hat\n\tcost (3.50)!"]) == plain
    assert hashes_of(["The cat’s red_hat cost 3,50 – "]) == plain
    assert hashes_of(["the cats red_hat cost 3 50"]) != plain


def test_no_text_has_no_hash_and_signs_alone_have_some() -> None:
    assert hashes_of([]) == []
    assert hashes_of(["", " \n", "?!"]) == [[], [], hashes_of(["?"])[0] + hashes_of(["!"])[0]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=5), st.integers(1, 5))
def test_ngrams_are_equal_where_their_words_are(texts: list[list[str]], n: int) -> None:
    grams, offsets = ngrams(*word_hashes([" ".join(text) for text in texts]), n)
    plain = [
        [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] if len(text) >= n else [tuple(text)][: len(text)]
        for text in texts
    ]
    assert np.diff(offsets).tolist() == [len(of) for of in plain]
    flat = [gram for of in plain for gram in of]
    names: dict[tuple[str, ...], int] = {}
    for gram, value in zip(flat, grams.tolist(), strict=True):
        assert names.setdefault(gram, value) == value
    assert len(set(names.values())) == len(names)


def test_a_short_text_is_one_ngram_that_a_longer_text_does_not_have() -> None:
    grams, offsets = ngrams(*word_hashes(["a b", "a b c"]), 3)
    assert np.diff(offsets).tolist() == [1, 1]
    assert grams[0] != grams[1]


def pair(dice: random.Random, number: int, changed: int) -> tuple[str, str]:
    one = some_words(dice, number)
    other = list(one)
    for at in dice.sample(range(number), changed):
        other[at] = dice.choice(WORDS)
    return " ".join(one), " ".join(other)


def jaccard(a: str, b: str, n: int) -> float:
    one, other = ({tuple(of[i : i + n]) for i in range(len(of) - n + 1)} for of in (words(a), words(b)))
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_of_signatures_estimates_jaccard(seed: int) -> None:
    """100 places of a share J: a standard deviation of at most 0.05, so a mean error of at most 0.04; and no bias."""
    dice = random.Random(seed)
    pairs = [pair(dice, dice.randint(20, 200), dice.randint(0, 20)) for _ in range(300)]
    true = np.array([jaccard(a, b, 2) for a, b in pairs])
    grams = ngrams(*word_hashes([text for both in pairs for text in both]), 2)
    found = signatures(*grams)
    agreement = (found[::2] == found[1::2]).mean(axis=1)
    assert true.min() < 0.2
    assert true.max() == 1.0
    assert np.abs(agreement - true).mean() < 0.04
    assert abs((agreement - true).mean()) < 0.01
    assert (agreement[true == 1] == 1).all()


def test_unrelated_texts_agree_in_hardly_any_place_and_a_text_without_words_is_empty() -> None:
    dice = random.Random(4)
    texts = [" ".join(f"w{dice.randrange(10**9)}" for _ in range(60)) for _ in range(100)]
    found = signatures(*ngrams(*word_hashes([*texts, ""]), 2))
    assert found.shape == (101, NUM_HASHES)
    assert (found[-1] == EMPTY).all()
    agreement = (found[:-1, None] == found[None, :-1]).sum(axis=2)[~np.eye(100, dtype=bool)]
    assert agreement.mean() < 0.05  # 100 places, each equal by chance once in 65,536
    assert agreement.max() <= 2


def test_mix_is_a_permutation_of_what_it_was_given() -> None:
    values = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)
    assert abs((mix(values) >> np.uint64(63)).mean() - 0.5) < 0.01


def test_buckets_are_the_rows_that_agree_in_all_places() -> None:
    dice = np.random.default_rng(5)
    signature = dice.integers(0, 4, (300, NUM_HASHES), dtype=np.uint16)
    rows = np.sort(dice.choice(300, 200, replace=False))
    for place, width in ((0, 1), (7, 2), (40, 4), (97, 3)):
        plain: dict[tuple[int, ...], list[int]] = {}
        for row in rows.tolist():
            plain.setdefault(tuple(signature[row, place : place + width].tolist()), []).append(row)
        order, ends = sorted_buckets(signature, rows, place, width)
        found = [part.tolist() for part in np.split(order, ends[:-1])]
        assert sorted(found) == sorted(of for of in plain.values() if len(of) > 1)
    order, ends = sorted_buckets(signature, rows[:0], 0, 2)
    assert len(order) == len(ends) == 0


def test_long_texts_are_hashed_piece_by_piece_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(8)
    texts = [" ".join(f"w{rng.randrange(999)}" for _ in range(rng.randrange(0, 400))) for _ in range(30)]
    texts[4] = "x" * 5000
    whole = word_hashes(texts)
    for piece in (64, 1000, 4999):
        monkeypatch.setattr(sketch, "PIECE", piece)
        for found, expected in zip(word_hashes(texts), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
