"""Split: no group on two sides, quotas in bytes, content and seed decide, cut texts join to the original."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.split import CUT_MIN_BYTES, GAP_MAX_BYTES, SPLITS, Plan, cut_text, plan_split


def plan(
    sizes: list[int], groups: list[int] | None = None, text: bool = False, near: list[int] | None = None, seed: int = 0
) -> Plan:
    num = len(sizes)
    own = list(range(num))
    ids = sorted(f"{i * 2654435761 % 2**32:08x}" for i in range(num))
    labels = np.array(groups or own)
    near_labels = np.array(near or own)
    return plan_split(ids, np.array(sizes), np.full(num, text), labels, near_labels, 0.05, 0.05, seed)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 40)), min_size=1, max_size=150),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_no_group_is_on_two_sides_every_document_has_one_and_order_plays_no_part(
    documents: list[tuple[int, int]], seed: int, rng: random.Random
) -> None:
    sizes = np.array([size for size, _ in documents])
    first = {group: i for i, (_, group) in reversed(list(enumerate(documents)))}
    groups = np.array([first[group] for _, group in documents])
    ids = [hashlib.sha256(f"{i}".encode()).hexdigest() for i in range(len(documents))]
    text, near = np.zeros(len(ids), bool), np.arange(len(ids))
    try:
        made = plan_split(ids, sizes, text, groups, near, 0.05, 0.05, seed)
    except UserError:
        return
    assert set(made.splits) == set(SPLITS)
    for group in set(groups):
        assert len(set(made.splits[groups == group])) == 1
    assert sizes[made.splits == "train"].sum() * 2 > sizes.sum()
    order = rng.sample(range(len(ids)), len(ids))
    again = plan_split([ids[i] for i in order], sizes[order], text, groups[order], near, 0.05, 0.05, seed)
    assert list(again.splits) == list(made.splits[order])


def test_splits_are_filled_to_their_quota_in_bytes_not_in_documents() -> None:
    sizes = [10] * 5000 + [1000] * 500
    made = plan(sizes)
    for name in ("val", "test"):
        share = np.array(sizes)[made.splits == name].sum() / sum(sizes)
        assert 0.048 < share <= 0.05


def test_a_huge_group_is_trained_on() -> None:
    groups = [0] * 300 + list(range(300, 1000))
    for seed in range(20):
        assert set(plan([100] * 1000, groups, seed=seed).splits[:300]) == {"train"}


def test_another_seed_is_another_split_and_adding_rows_moves_few() -> None:
    first = plan([100] * 2000)
    assert (plan([100] * 2000, seed=1).splits == first.splits).mean() < 0.95
    ids = sorted(f"{i * 2654435761 % 2**32:08x}" for i in range(2200))
    before = dict(zip(sorted(f"{i * 2654435761 % 2**32:08x}" for i in range(2000)), first.splits, strict=True))
    after = dict(zip(ids, plan([100] * 2200).splits, strict=True))
    held_out = [identity for identity, split in before.items() if split != "train"]
    assert np.mean([after[identity] != "train" for identity in held_out]) > 0.8


@pytest.mark.parametrize("num", [5, 20])
def test_a_small_corpus_has_no_empty_split(num: int) -> None:
    for seed in range(20):
        made = plan([100 + i for i in range(num)], seed=seed)
        assert {name: int((made.splits == name).sum()) for name in ("val", "test")} == {"val": 1, "test": 1}


@pytest.mark.parametrize(("sizes", "groups"), [([10], [0]), ([10, 10], [0, 1]), ([10] * 20, [0] * 20)])
def test_what_cannot_be_split_is_refused_in_one_line(sizes: list[int], groups: list[int]) -> None:
    with pytest.raises(UserError, match="would be empty") as caught:
        plan(sizes, groups)
    assert "\n" not in str(caught.value)


# -- long texts


def test_a_text_over_two_percent_is_cut_and_a_shorter_or_tiny_one_is_not() -> None:
    sizes = [1000] * 500 + [20_000, 9_000]
    made = plan(sizes, text=True)
    assert list(made.splits[500:]).count("cut") == 1
    assert made.splits[500] == "cut"
    assert "cut" not in plan([CUT_MIN_BYTES - 1] * 20, text=True).splits
    assert "cut" not in plan(sizes, text=False).splits


def test_of_near_duplicates_of_a_cut_text_only_the_longest_stays() -> None:
    made = plan([50_000, 51_000, 900, 800, 700], [0, 0, 2, 3, 4], text=True, near=[0, 0, 2, 3, 4])
    assert list(made.splits[:2]) == ["near_duplicate", "cut"]
    assert made.keepers[0] == 1


def test_a_long_text_that_belongs_to_others_is_not_cut() -> None:
    sizes = [50_000, 900, *[500] * 200]
    groups = [0, 0, *range(2, 202)]
    made = plan(sizes, groups, text=True, near=list(range(202)))
    assert list(made.splits[:2]) == ["train", "train"]


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1, max_size=300) | st.text(alphabet="ab \n\r", min_size=50, max_size=3000),
    st.sampled_from([0.05, 0.2, 0.4]),
)
def test_blocks_join_to_the_text_in_order(text: str, share: float) -> None:
    blocks = cut_text(text, share, 0.05)
    assert "".join(text[start:end] for _, start, end in blocks) == text
    order = iter(["train", "gap", "val", "gap", "test"])
    assert all(name in order for name, _, _ in blocks)  # each is found after the one before


def test_a_book_is_cut_at_paragraphs_with_a_gap_between_the_splits() -> None:
    rng = random.Random(0)
    paragraphs = [" ".join("w" * rng.randrange(2, 9) for _ in range(60)) + "\r\n\r\n" for _ in range(2000)]
    text = "".join(paragraphs)
    blocks = cut_text(text, 0.05, 0.05)
    assert [name for name, _, _ in blocks] == ["train", "gap", "val", "gap", "test"]
    for name, start, end in blocks:
        assert start == 0 or text[:start].endswith("\r\n\r\n")
        if name in ("val", "test"):
            assert 0.045 < (end - start) / len(text) < 0.055
        if name == "gap":
            assert 0.7 * GAP_MAX_BYTES < end - start < 1.5 * GAP_MAX_BYTES


@pytest.mark.parametrize(
    ("text", "ending"),
    [("line of a poem\n" * 1000, "\n"), ("word " * 3000, " "), ("字" * 9000, "字"), ("e\u0301" * 4000, "\u0301")],
)
def test_without_paragraphs_it_is_cut_at_lines_words_or_characters(text: str, ending: str) -> None:
    blocks = cut_text(text, 0.05, 0.05)
    assert len(blocks) == 5
    assert all(text[:end].endswith(ending) for _, _, end in blocks)
    assert "".join(text[start:end] for _, start, end in blocks) == text
