"""Near duplicates are what a comparison of all pairs finds, and nothing else."""

import random
from collections.abc import Callable

import numpy as np
import pytest

import data.detect.near as module
from data.detect.near import JACCARD, Groups, Search, near_duplicates, similarity
from data.detect.sketch import word_hashes
from data.detect.words import words
from tests.data.made_rows import WORDS, passage, signatures_of, some_words


def shingles(text: str) -> set[tuple[str, ...]]:
    of = words(text)
    return {tuple(of[i : i + 3]) for i in range(len(of) - 2)} if len(of) >= 3 else {tuple(of)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def found(texts: list[str], rows: list[int] | None = None) -> list[tuple[int, int]]:
    sizes = np.diff(word_hashes(texts)[1])
    chosen = np.arange(len(texts)) if rows is None else np.array(rows, np.int64)
    return near_duplicates(signatures_of(texts), chosen, sizes, lambda numbers: [texts[i] for i in numbers])


def clusters(number: int, pairs: list[tuple[int, int]]) -> set[frozenset[int]]:
    """By plain sets, those of one row left out."""
    of = [{i} for i in range(number)]
    for i, j in pairs:
        if of[i] is not of[j]:
            of[i] |= of[j]
            for k in of[i]:
                of[k] = of[i]
    return {frozenset(one) for one in of if len(one) > 1}


def edited(dice: random.Random, text: str) -> str:
    """Words replaced, dropped, added or swapped: from none to one in eight."""
    of = text.split()
    for _ in range(dice.randint(0, max(1, len(of) // 8))):
        at = dice.randrange(len(of))
        match dice.randrange(4):
            case 0:
                of[at] = dice.choice(WORDS)
            case 1:
                of.insert(at, dice.choice(WORDS))
            case 2 if len(of) > 3:
                del of[at]
            case _:
                other = dice.randrange(len(of))
                of[at], of[other] = of[other], of[at]
    return " ".join(of)


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_all_pairs(seed: int) -> None:
    dice = random.Random(seed)
    texts = [" ".join(some_words(dice, dice.randint(4, 120))) for _ in range(60)]
    while len(texts) < 350:  # copies of copies: chains, and similarities on both sides of the bound
        texts.append(edited(dice, dice.choice(texts)))
    dice.shuffle(texts)
    sets = [shingles(text) for text in texts]
    true = [(i, j, jaccard(sets[i], sets[j])) for j in range(len(texts)) for i in range(j) if sets[i] & sets[j]]
    near = [(i, j) for i, j, similar in true if similar >= JACCARD]
    assert len(near) > 100
    assert sum(0.5 < similar < JACCARD for _, _, similar in true) > 100
    pairs = found(texts)
    assert set(pairs) <= set(near)  # no pair below
    assert clusters(len(texts), pairs) == clusters(len(texts), near)  # and none forgotten


@pytest.mark.parametrize(("shared", "number", "near"), [(12, 15, True), (11, 14, False)])
def test_four_fifths_are_near_and_less_is_not(shared: int, number: int, near: bool) -> None:
    """A text and its beginning, by their 3-grams; ten pairs, all of them candidates or most."""
    for seed in range(10):
        text = some_words(random.Random(seed), number + 2)
        texts = [" ".join(text), " ".join(text[: shared + 2])]
        assert jaccard(*map(shingles, texts)) == shared / number
        assert found(texts) == ([(0, 1)] if near else [])


def test_words_count_and_neither_case_nor_signs_do() -> None:
    dice = random.Random(9)
    texts = [passage(dice, 4) for _ in range(20)]
    texts[5] = texts[3].upper().replace(".", " !?\n")
    texts[11] = "漢字仮名交じり文は言葉の間に空白を置かないので一字が一語である。"
    texts[17] = texts[11].replace("。", "")
    assert sorted(found(texts)) == [(3, 5), (11, 17)]
    texts[5] = " ".join(sorted(texts[5].split()))  # the same words in another order
    assert found(texts) == [(11, 17)]


def test_only_the_rows_that_are_named_are_compared() -> None:
    dice = random.Random(10)
    text = passage(dice, 3)
    texts = [text, text + " too", passage(dice, 3), text + " again"]
    assert clusters(4, found(texts)) == {frozenset([0, 1, 3])}
    assert found(texts, [0, 2, 3]) == [(0, 3)]
    assert found(texts, [1, 2]) == []
    assert found(texts, []) == []


def test_short_texts_are_near_only_where_their_words_are_equal() -> None:
    assert sorted(found(["yes", "no", "Yes.", "yes no", "yes, no!", "no yes"])) == [(0, 2), (3, 4)]


def one_bucket(dice: random.Random, number: int) -> list[str]:
    """A text of 60 words with a word of its own at the end of each: all are near each other."""
    common = " ".join(some_words(dice, 60))
    return [f"{common} tail{i}" for i in range(number)]


def test_a_bucket_of_thousands_is_one_cluster_at_a_cost_that_grows_with_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    real: Callable[[np.ndarray, np.ndarray], float] = similarity

    def counted(a: np.ndarray, b: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return real(a, b)

    monkeypatch.setattr(module, "similarity", counted)
    texts = one_bucket(random.Random(11), 3000)
    assert len(found(texts)) == len(texts) - 1
    assert calls < 2 * len(texts)


def test_what_is_kept_of_shingles_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(12)
    texts = one_bucket(dice, 40) + [edited(dice, passage(dice, 3)) for _ in range(40)]
    expected = found(texts)
    monkeypatch.setattr(module, "CACHED", 0)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    assert found(texts) == expected


def test_refused_pairs_of_rows_without_patience_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One form all over, below the bound: each row is refused 64 times."""
    dice = random.Random(14)
    form = some_words(dice, 60)
    texts = []
    for _ in range(400):
        of = form[:]
        of[5], of[30], of[55] = some_words(dice, 3)
        texts.append(" ".join(of))
    seen: list[module.Search] = []
    monkeypatch.setattr(module, "COMPARED", 0)
    monkeypatch.setattr(module, "Search", lambda *args: seen.append(Search(*args)) or seen[0])  # type: ignore[func-returns-value]
    found(texts)
    [search] = seen
    assert sum(search.failed.values()) > 60 * 300
    assert sum(map(len, search.refused.values())) < 64 * 65  # the last rows have few behind them


def test_rows_that_are_linked_already_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(13)
    texts = [text for _ in range(20) for text in one_bucket(dice, 50)]
    dice.shuffle(texts)
    monkeypatch.setattr(module, "CACHED", 0)
    monkeypatch.setattr(module, "AT_ONCE", 16)
    read = 0

    def take(numbers: list[int]) -> list[str]:
        nonlocal read
        read += len(numbers)
        return [texts[i] for i in numbers]

    sizes = np.diff(word_hashes(texts)[1])
    pairs = near_duplicates(signatures_of(texts), np.arange(len(texts)), sizes, take)
    assert len(pairs) == len(texts) - 20
    assert read <= 4 * len(pairs)  # of 50 rows there are 1,225 pairs


@pytest.mark.parametrize("pairs_kept", [1, 50, 5000])
def test_how_many_pairs_are_kept_at_a_time_changes_no_cluster(pairs_kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(pairs_kept)
    texts = [passage(dice, 3) for _ in range(40)]
    texts += [edited(dice, text) for text in texts for _ in range(dice.randint(0, 12))]
    expected = clusters(len(texts), found(texts))
    kept, real = list[int](), module._similar

    def counted(*args: object) -> np.ndarray:
        kept.append(len(pairs := real(*args)))  # type: ignore[arg-type]
        return pairs

    monkeypatch.setattr(module, "PAIRS_KEPT", pairs_kept)
    monkeypatch.setattr(module, "_similar", counted)
    assert clusters(len(texts), found(texts)) == expected
    assert max(kept) <= pairs_kept + 13 * 12 // 2  # one bucket more than there is room for


@pytest.mark.parametrize("seed", range(20))
def test_similarity_is_jaccard_from_the_bound_on(seed: int) -> None:
    dice = np.random.default_rng(seed)
    a, b = (np.unique(dice.integers(0, 40, dice.integers(1, 60)).astype(np.uint64)) for _ in range(2))
    one, other = set(a.tolist()), set(b.tolist())
    true = len(one & other) / len(one | other)
    assert similarity(a, a) == 1.0
    assert similarity(a, b) == (true if min(len(a), len(b)) >= JACCARD * max(len(a), len(b)) else 0.0)
    assert (similarity(a, b) >= JACCARD) == (true >= JACCARD)


def test_groups_are_known_by_their_smallest_member() -> None:
    groups = Groups(8)
    for i, j in ((6, 2), (7, 6), (3, 4), (2, 7)):
        groups.join(i, j)
    assert groups.labels().tolist() == [0, 1, 2, 3, 3, 5, 2, 2]
    assert [groups.find(i) for i in range(8)] == [0, 1, 2, 3, 3, 5, 2, 2]
