"""The loader: what stands in a batch, who sees which rows, and that an epoch depends on (seed, epoch) alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.loader import IGNORE, Batch, assemble, batches, epoch_plan, row_weights
from data.packing import Plan, pack
from data.tokens import INDEX_SCHEMA, Tokens, from_index


def make_tokens(lengths: list[int], prompts: list[int] | None = None, sources: list[str] | None = None) -> Tokens:
    """Documents whose ids tell where they come from: document d, token i -> 100 * d + i + 10."""
    n = len(lengths)
    ids = np.concatenate([100 * d + np.arange(length) + 10 for d, length in enumerate(lengths)]).astype(np.uint32)
    columns = {
        "offset": np.cumsum(lengths) - np.asarray(lengths),
        "length": lengths,
        "prompt": prompts or [1] * n,
        "source": sources or ["a"] * n,
    }
    empty = {
        "bytes_text": [0] * n,
        "bytes_context": [0] * n,
        "bytes_question": [0] * n,
        "bytes_answer": [0] * n,
    }
    table = pa.table(
        [pa.array({**empty, **columns}.get(field.name, [None] * n), field.type) for field in INDEX_SCHEMA],
        schema=INDEX_SCHEMA,
    )
    return from_index(ids, table)


def all_pairs(tokens: Tokens) -> list[tuple[int, int]]:
    return [
        (int(d[i]), int(d[i + 1])) for k in range(len(tokens)) for d in [tokens.document(k)] for i in range(len(d) - 1)
    ]


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 1), (1, 3), (2, 2), (3, 4)])
def test_ranks_together_see_every_input_target_pair_once(world_size: int, micro_batch: int) -> None:
    tokens = make_tokens(np.random.default_rng(1).integers(2, 40, size=50).tolist())
    plan = epoch_plan(tokens, 16, seed=0, epoch=3)
    seen = []
    for rank in range(world_size):
        for step, _ in batches(plan, tokens, 5, micro_batch, {"epoch": 3, "step": 0}, rank, world_size):
            for batch in step.micro_batches:
                assert batch.ids.shape == (micro_batch, 16)
                there = batch.targets != IGNORE
                seen += list(zip(batch.ids[there].tolist(), batch.targets[there].tolist(), strict=True))
                assert there.sum() == batch.num_targets
    assert sorted(seen) == sorted(all_pairs(tokens))


def test_positions_restart_and_no_target_crosses_a_document() -> None:
    tokens = make_tokens([5, 3, 9, 4])
    plan = pack(tokens.lengths, 8)
    batch = assemble(plan, np.arange(len(plan)), tokens)
    there = batch.targets != IGNORE
    assert (batch.targets[there] == batch.ids[there] + 1).all()  # the next token of the same document
    assert (batch.ids[there] // 100 == batch.owners[there]).all()
    for row in range(len(plan)):
        for piece in range(batch.documents[row].max() + 1):
            inside = batch.documents[row] == piece
            assert batch.positions[row][inside].tolist() == list(range(inside.sum()))
    assert (batch.documents[~there] == -1).all()
    assert (batch.weights[~there] == 0).all()


def assembled_plainly(plan: Plan, rows: np.ndarray, tokens: Tokens, prompt_weight: float, num_rows: int) -> Batch:
    """What `assemble` is to return, one piece after the other."""
    shape = (max(num_rows, len(rows)), plan.seq_len)
    batch = Batch(
        ids=np.zeros(shape, np.int64),
        targets=np.full(shape, IGNORE, np.int64),
        weights=np.zeros(shape, np.float32),
        positions=np.zeros(shape, np.int64),
        documents=np.full(shape, -1, np.int32),
        owners=np.full(shape, -1, np.int64),
        num_targets=0,
    )
    for i, row in enumerate(rows):
        place = 0
        for number, piece in enumerate(range(plan.row_starts[row], plan.row_starts[row + 1])):
            document, start, length = plan.documents[piece], plan.starts[piece], plan.lengths[piece]
            at = slice(place, place + length)
            ids = tokens.document(document)
            batch.ids[i, at] = ids[start : start + length]
            batch.targets[i, at] = ids[start + 1 : start + length + 1]
            in_prompt = np.arange(start + 1, start + length + 1) < tokens.prompts[document]
            batch.weights[i, at] = np.where(in_prompt, prompt_weight, 1.0)
            batch.positions[i, at] = np.arange(length)
            batch.documents[i, at] = number
            batch.owners[i, at] = document
            batch.num_targets += length
            place += length
    return batch


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(lambda found: max(found) > 1),
    seq_len=st.integers(1, 40),
    prompt_weight=st.sampled_from([1.0, 0.25, 0.0]),
    num_rows=st.integers(0, 6),
    data=st.data(),
)
def test_a_batch_is_its_pieces_one_after_the_other(
    lengths: list[int], seq_len: int, prompt_weight: float, num_rows: int, data: st.DataObject
) -> None:
    tokens = make_tokens(lengths, prompts=[data.draw(st.integers(0, length)) for length in lengths])
    plan = pack(tokens.lengths, seq_len)
    rows = np.asarray(data.draw(st.lists(st.integers(0, len(plan) - 1), max_size=5)), dtype=np.int64)
    found = assemble(plan, rows, tokens, prompt_weight, num_rows)
    wanted = assembled_plainly(plan, rows, tokens, prompt_weight, num_rows)
    assert found.num_targets == wanted.num_targets
    for name in ("ids", "targets", "weights", "positions", "documents", "owners"):
        assert getattr(found, name).dtype == getattr(wanted, name).dtype
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_sources_are_numbered_by_name() -> None:
    names = ["web", "Zoo", "é", "faq", "web", "faq"]
    tokens = make_tokens([3] * 6, sources=names)
    assert tokens.source_names == sorted(set(names))
    assert [tokens.source_names[i] for i in tokens.sources] == names


def test_an_eos_inside_a_document_does_not_split_it() -> None:
    """Turns of a conversation end with eos each; they are one document, and positions run on."""
    tokens = make_tokens([7])
    tokens.ids[3] = 2  # <|eos|>
    batch = assemble(pack(tokens.lengths, 8), np.arange(1), tokens)
    assert batch.documents[0, :6].tolist() == [0] * 6
    assert batch.positions[0, :6].tolist() == list(range(6))


def test_prompt_tokens_bear_the_prompt_weight_and_row_weights_count_them() -> None:
    tokens = make_tokens([12, 30, 7], prompts=[5, 20, 1])
    plan = pack(tokens.lengths, 8)
    batch = assemble(plan, np.arange(len(plan)), tokens, prompt_weight=0.25)
    there = batch.targets != IGNORE
    position_in_document = batch.targets % 100 - 10
    prompt = np.asarray([5, 20, 1])[np.maximum(batch.owners, 0)]
    expected = np.where(position_in_document < prompt, 0.25, 1.0)
    assert (batch.weights[there] == expected[there]).all()
    assert np.allclose(row_weights(plan, tokens, 0.25), batch.weights.sum(axis=1))


def test_weight_sum_of_a_step_is_the_global_batch_on_every_rank() -> None:
    tokens = make_tokens([9] * 20, prompts=[4] * 20)
    plan = epoch_plan(tokens, 16, 0, 0)
    start = {"epoch": 0, "step": 0}
    alone = [step.weight_sum for step, _ in batches(plan, tokens, 4, 4, start, prompt_weight=0.5)]
    for rank in range(2):
        steps = [s for s, _ in batches(plan, tokens, 4, 1, start, rank, 2, prompt_weight=0.5)]
        assert [s.weight_sum for s in steps] == alone
    both = [
        sum(b.weights.sum() for s in part for b in s.micro_batches)
        for part in zip(*([s for s, _ in batches(plan, tokens, 4, 1, start, r, 2, 0.5)] for r in range(2)), strict=True)
    ]
    assert np.allclose(both, alone)


def test_handing_the_state_back_resumes_at_the_next_step() -> None:
    tokens = make_tokens([9] * 30)
    plan = epoch_plan(tokens, 16, 0, 0)
    whole = list(batches(plan, tokens, 3, 3, {"epoch": 0, "step": 0}))
    _, state = whole[1]
    rest = list(batches(plan, tokens, 3, 3, state))
    assert [s for _, s in rest] == [s for _, s in whole[2:]]
    assert all(
        (a.micro_batches[0].ids == b.micro_batches[0].ids).all() for (a, _), (b, _) in zip(rest, whole[2:], strict=True)
    )


def test_an_epochs_order_is_a_function_of_seed_and_epoch() -> None:
    tokens = make_tokens([9, 5, 7, 12, 3] * 10)

    def order(seed: int, epoch: int) -> list[int]:
        return epoch_plan(tokens, 16, seed, epoch).documents.tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_a_source_of_weight_two_and_a_half_is_seen_so_often() -> None:
    tokens = make_tokens([6] * 400, sources=["a", "b"] * 200)
    documents = epoch_plan(tokens, 16, 0, 0, {"b": 2.5}).documents
    seen = np.bincount(documents, minlength=400)
    assert (seen[0::2] == 1).all()
    assert set(seen[1::2]) == {2, 3}
    assert 2.3 < seen[1::2].mean() < 2.7
