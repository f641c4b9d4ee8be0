"""Packing drops nothing, repeats nothing, and pads next to nothing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.packing import best_fit, cut, pack, shuffle_rows

document_lengths = st.lists(st.integers(0, 200), max_size=60)


@given(document_lengths, st.integers(1, 64))
def test_each_token_but_bos_is_a_target_exactly_once(lengths: list[int], seq_len: int) -> None:
    plan = pack(np.asarray(lengths, dtype=np.int64), seq_len)
    seen = [
        (document, start + i + 1)
        for document, start, length in zip(plan.documents, plan.starts, plan.lengths, strict=True)
        for i in range(length)
    ]
    wanted = [(document, i) for document, length in enumerate(lengths) for i in range(1, length)]
    assert sorted(seen) == wanted


@given(document_lengths, st.integers(1, 64))
def test_no_row_is_longer_than_seq_len_and_none_is_empty(lengths: list[int], seq_len: int) -> None:
    plan = pack(np.asarray(lengths, dtype=np.int64), seq_len)
    used = [plan.lengths[a:b].sum() for a, b in pairwise(plan.row_starts)]
    assert all(0 < size <= seq_len for size in used)


def test_a_piece_starts_with_the_last_token_of_the_one_before() -> None:
    documents, starts, lengths = cut(np.asarray([11]), 4)  # 11 tokens: 10 targets
    assert documents.tolist() == [0, 0, 0]
    assert starts.tolist() == [
        0,
        4,
        8,
    ]  # token 4 is the last target of the first piece and the first input of the next
    assert lengths.tolist() == [4, 4, 2]


def test_while_more_pieces_arrive_the_oldest_goes_first_and_at_the_end_the_longest() -> None:
    order, _ = best_fit(np.asarray([2, 5, 3, 1, 1]), seq_len=20, window=3)
    assert order.tolist()[:2] == [0, 1]
    order, _ = best_fit(np.asarray([2, 5, 3]), seq_len=20)
    assert order.tolist() == [1, 2, 0]


def test_a_piece_that_fills_the_row_exactly_is_taken() -> None:
    order, rows = best_fit(np.asarray([6, 5, 3, 4, 1]), seq_len=10)
    assert [order[a:b].tolist() for a, b in pairwise(rows)] == [[0, 3], [1, 2, 4]]


def test_two_pieces_that_fill_the_row_go_before_a_longer_one_that_does_not() -> None:
    order, rows = best_fit(np.asarray([7, 6, 4]), seq_len=10)
    assert [order[a:b].tolist() for a, b in pairwise(rows)] == [[1, 2], [0]]


def test_one_piece_of_half_the_row_does_not_pair_with_itself() -> None:
    order, rows = best_fit(np.asarray([5, 7]), seq_len=10)
    assert [order[a:b].tolist() for a, b in pairwise(rows)] == [[1], [0]]
    order, rows = best_fit(np.asarray([5, 7, 5]), seq_len=10)
    assert [order[a:b].tolist() for a, b in pairwise(rows)] == [[0, 2], [1]]


def test_a_window_of_one_keeps_the_order_of_arrival() -> None:
    order, _ = best_fit(np.asarray([6, 5, 3, 4, 1]), seq_len=10, window=1)
    assert order.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_rows_are_the_same_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    plan = pack(generator.integers(2, 90, size=200), 64)
    shuffled = shuffle_rows(plan, generator)

    def rows(p):  # type: ignore[no-untyped-def]
        spans = pairwise(p.row_starts)
        return sorted(tuple(zip(p.documents[a:b], p.starts[a:b], p.lengths[a:b], strict=True)) for a, b in spans)

    assert rows(shuffled) == rows(plan)
    assert shuffled.documents.tolist() != plan.documents.tolist()


def test_question_and_answer_lengths_fill_99_percent_of_the_positions() -> None:
    lengths = np.random.default_rng(0).lognormal(4.2, 0.5, size=5000).astype(np.int64) + 3  # median about 70 tokens
    assert pack(lengths, 512).fill >= 0.99
