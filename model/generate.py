"""Prompts in, new tokens out: batched, with a key/value cache, greedy or sampled.

left-pad the prompts -> one forward over all of them -> pick a token per row -> forward it -> ... until every
row has stopped at eos, was ended, reached max_new_tokens, or filled the model's context (prompt + new tokens = seq_len)
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.attention import Cache
from model.decoder import Decoder


@dataclass
class Generation:
    """What followed one prompt: the new tokens without eos, and what ended them: the model (at eos), the caller
    (`ends`), or neither, as there was no more room."""

    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    ended: bool = False


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: list[list[int]],
    max_new_tokens: int,
    eos_id: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    on_token: Callable[[int, int], None] | None = None,
    banned: Sequence[int] = (),
    row_seeds: Sequence[int] | None = None,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    ends: Callable[[int, list[int]], bool] | None = None,
) -> list[Generation]:
    """Continue each prompt. Greedy at temperature 0: then a row's tokens do not depend on the others.

    Args:
        prompts: Token ids, of any lengths, none empty. One that fills seq_len by itself yields no tokens.
        top_k: Sample from the k likeliest tokens only; 0: from all.
        top_p: Sample from the fewest likeliest tokens that together have this probability.
        seed: Of the sampling, for the batch as a whole; torch's global random numbers are left alone.
        row_seeds: A seed for each prompt in place of one for the batch: then what a row samples does not depend on the
            others either.
        banned: Token ids that are never chosen, such as the markers of a template.
        on_token: Called with (row, token id) as each token comes, eos excepted.
        min_p: Sample from tokens with at least this share of the likeliest one's probability (arXiv 2407.01082).
        repetition_penalty: Logits of tokens that the row holds, its prompt's too, are divided by it where above 0 and
            multiplied where below (CTRL, arXiv 1909.05858), before anything else; 1: they are not.
        min_new_tokens: eos is not chosen before so many.
        ends: Called with (row, its new ids) behind each token; true ends the row.

    A row ends at eos, by `ends`, after max_new_tokens, or when prompt and new tokens are seq_len tokens together.
    """
    assert all(prompts), "each prompt holds at least one token"
    shape, device = model.shape, model.head.device
    results = [Generation() for _ in prompts]
    limits = [min(max_new_tokens, shape.seq_len - len(prompt)) for prompt in prompts]
    rows = [row for row, limit in enumerate(limits) if limit > 0]
    if not rows:
        return results

    width = max(len(prompts[row]) for row in rows)
    starts_B = torch.tensor([width - len(prompts[row]) for row in rows], device=device)
    ids_BT = torch.tensor([[0] * (width - len(prompts[row])) + prompts[row] for row in rows], device=device)
    slots = width + max(limits[row] for row in rows)
    cache = Cache(shape.num_layers, starts_B, shape.num_kv_heads, slots, shape.head_dim, model.head.dtype)
    random: torch.Generator | list[torch.Generator] = torch.Generator(device=device).manual_seed(seed)
    if row_seeds is not None:
        random = [torch.Generator().manual_seed(row_seeds[row]) for row in rows]

    seen_BV = None
    if repetition_penalty != 1.0:
        seen_BV = torch.zeros(len(rows), shape.vocab_size, dtype=torch.bool, device=device)
        for i, row in enumerate(rows):
            seen_BV[i, prompts[row]] = True

    training = model.training
    model.eval()
    try:
        going = set(rows)
        for step in itertools.count():
            logits_BV = model.logits(model(ids_BT, cache=cache)[:, -1]).float()
            if seen_BV is not None:
                logits_BV = penalised(logits_BV, seen_BV, repetition_penalty)
            logits_BV[:, list(banned)] = -torch.inf
            if step < min_new_tokens:
                logits_BV[:, eos_id] = -torch.inf
            next_B = choose(logits_BV, temperature, top_k, top_p, random, min_p)
            if seen_BV is not None:
                seen_BV.scatter_(1, next_B[:, None], True)
            for row, token in zip(rows, next_B.tolist(), strict=True):
                if row not in going:
                    continue
                if token == eos_id:
                    results[row].stopped = True
                else:
                    results[row].ids.append(token)
                    if on_token is not None:
                        on_token(row, token)
                    results[row].ended = ends is not None and ends(row, results[row].ids)
                if token == eos_id or results[row].ended or len(results[row].ids) == limits[row]:
                    going.discard(row)
            if not going:
                break
            ids_BT = next_B[:, None]  # rows that have ended go on unread: their columns keep the others aligned
    finally:
        model.train(training)
    return results


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
