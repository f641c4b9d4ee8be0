"""Logits in, token ids out: which token comes next."""

from collections.abc import Sequence

import torch
from torch import Tensor


def penalised(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Logits of the tokens in `seen_BV` (bool) made less likely, by a penalty above 1, or more, by one below."""
    return torch.where(seen_BV, torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty), logits_BV)


def choose(
    logits_BV: Tensor,
    temperature: float,
    top_k: int,
    top_p: float,
    random: torch.Generator | Sequence[torch.Generator],
    min_p: float = 0.0,
) -> Tensor:
    """One token id per row, (B,): the likeliest at temperature 0, else sampled after top-k, then top-p, then min-p.

    random: for all rows, or one (of the CPU) for each.
    """
    if temperature <= 0.0:
        return logits_BV.argmax(dim=-1)
    logits_BV, order_BV = (logits_BV / temperature).sort(dim=-1, descending=True)
    if top_k > 0:
        logits_BV[:, top_k:] = -torch.inf
    probs_BV = logits_BV.softmax(dim=-1)
    # A token stays while those before it have less than top_p: the first always stays.
    before_BV = probs_BV.cumsum(dim=-1) - probs_BV
    before_BV[:, 0] = -1.0
    probs_BV = probs_BV.masked_fill(before_BV >= top_p, 0.0) if top_p < 1.0 else probs_BV
    probs_BV = probs_BV.masked_fill(probs_BV < min_p * probs_BV[:, :1], 0.0) if min_p > 0.0 else probs_BV
    if isinstance(random, torch.Generator):
        return order_BV.gather(1, torch.multinomial(probs_BV, 1, generator=random)).squeeze(1)
    drawn_B = torch.stack([torch.rand((), generator=of, dtype=torch.float64) for of in random])
    sums_BV = probs_BV.cpu().double().cumsum(dim=-1)
    place_B1 = torch.searchsorted(sums_BV, (drawn_B * sums_BV[:, -1]).unsqueeze(1), right=True)
    return order_BV.gather(1, place_B1.to(order_BV.device)).squeeze(1)
