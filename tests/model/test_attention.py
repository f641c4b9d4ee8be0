"""The document mask: as a boolean, and as the function that FlexAttention asks for."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from model.attention import document_mask, document_mask_mod


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
