"""The document mask in its three forms: boolean, FlexAttention's function, blocks of queries on CPU."""

from itertools import pairwise

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from model.attention import BLOCK_QUERIES, Block, attend, build_mask, document_mask, document_mask_mod


def random_documents(rows: int, columns: int, mean_length: int, seed: int) -> torch.Tensor:
    """Runs of documents 0, 1, 2, ... of random lengths in each row, then padding (-1) over a random tail."""
    random = torch.Generator().manual_seed(seed)
    documents = torch.full((rows, columns), -1, dtype=torch.int32)
    for row in range(rows):
        lengths = torch.randint(1, 2 * mean_length, (columns,), generator=random)
        numbers = torch.repeat_interleave(torch.arange(columns), lengths)[:columns]
        filled = int(torch.randint(columns // 2, columns + 1, (), generator=random))
        documents[row, :filled] = numbers[:filled].int()
    return documents


def test_mask_is_the_stated_rule_pair_by_pair() -> None:
    documents = random_documents(3, 24, 4, seed=0)
    mask = document_mask(documents)
    for b, row in enumerate(documents.tolist()):
        for t in range(24):
            for s in range(24):
                allowed = s == t or (s < t and row[s] == row[t] and row[t] >= 0)
                assert mask[b, 0, t, s].item() == allowed


@pytest.mark.parametrize("seed", range(4))
def test_flex_mask_function_equals_the_boolean_mask(seed: int) -> None:
    documents = random_documents(3, 160, 30, seed)
    flex = create_mask(document_mask_mod(documents), 3, 1, 160, 160, device="cpu")
    assert torch.equal(flex, document_mask(documents))


@pytest.mark.parametrize(
    ("columns", "mean_length"), [(100, 20), (BLOCK_QUERIES * 2, 40), (BLOCK_QUERIES * 3 + 50, 400)]
)
def test_blocks_leave_out_no_allowed_pair_and_add_none(columns: int, mean_length: int) -> None:
    documents = random_documents(3, columns, mean_length, seed=1)
    blocks = build_mask(documents, torch.float32)
    assert isinstance(blocks, list)
    covered = torch.zeros(3, 1, columns, columns, dtype=torch.bool)
    for block in blocks:
        assert isinstance(block, Block)
        covered[:, :, block.queries, block.keys] = block.mask_B1TS == 0
    assert torch.equal(covered, document_mask(documents))
    assert all(before.queries.stop == after.queries.start for before, after in pairwise(blocks))
    assert (blocks[0].queries.start, blocks[-1].queries.stop) == (0, columns)


def test_attention_in_blocks_equals_attention_over_all_pairs() -> None:
    torch.manual_seed(0)
    T = 2 * BLOCK_QUERIES + 30
    documents = random_documents(2, T, 100, seed=2)
    q, k, v = torch.randn(2, 4, T, 8), torch.randn(2, 2, T, 8), torch.randn(2, 2, T, 8)
    k, v = k.requires_grad_(), v.requires_grad_()
    scores = q @ k.repeat_interleave(2, dim=1).transpose(2, 3) / 8**0.5
    scores = scores.masked_fill(~document_mask(documents), -torch.inf)
    expected = scores.softmax(dim=-1) @ v.repeat_interleave(2, dim=1)
    found = attend(q, k, v, build_mask(documents, torch.float32))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, (k, v), direction), torch.autograd.grad(expected, (k, v), direction), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_row_of_padding_gives_finite_numbers() -> None:
    torch.manual_seed(0)
    documents = torch.full((1, 16), -1)
    q, k, v = torch.randn(3, 1, 2, 16, 8).unbind()
    q.requires_grad_()
    y = attend(q, k, v, build_mask(documents, torch.float32))
    y.sum().backward()
    torch.testing.assert_close(y, v)  # each padding token sees itself alone
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
