"""Prompts in, new tokens out: batched, with a key/value cache, greedy or sampled.

pad the prompts on the right -> one forward over all of them -> pick a token per row -> forward it -> ... until every
row has stopped at eos, was ended, reached max_new_tokens, or filled the model's context (prompt + new tokens = seq_len)
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from model.cache import Cache
from model.decoder import Decoder
from model.sampling import choose, penalised


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
    eos_id: int | Sequence[int],
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
        eos_id: What ends a row, one token or any of several.
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

    lengths_B = torch.tensor([len(prompts[row]) for row in rows])
    width = int(lengths_B.max())
    ids_BT = torch.tensor([prompts[row] + [0] * (width - len(prompts[row])) for row in rows], device=device)
    slots = width + max(limits[row] for row in rows)
    cache = Cache(shape, len(rows), slots, model.head.dtype, device)
    random: torch.Generator | list[torch.Generator] = torch.Generator(device=device).manual_seed(seed)
    if row_seeds is not None:
        random = [torch.Generator().manual_seed(row_seeds[row]) for row in rows]

    seen_BV = None
    if repetition_penalty != 1.0:
        seen_BV = torch.zeros(len(rows), shape.vocab_size, dtype=torch.bool, device=device)
        for i, row in enumerate(rows):
            seen_BV[i, prompts[row]] = True

    ends_row = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    training = model.training
    model.eval()
    try:
        going = set(rows)
        for step in itertools.count():
            hidden_BTD = model(ids_BT, cache=cache)
            if step == 0:
                cache.lengths_B.copy_(lengths_B)
                hidden_BTD = hidden_BTD[torch.arange(len(rows)), lengths_B - 1, None]
            logits_BV = model.logits(hidden_BTD[:, 0]).float()
            if seen_BV is not None:
                logits_BV = penalised(logits_BV, seen_BV, repetition_penalty)
            logits_BV[:, list(banned)] = -torch.inf
            if step < min_new_tokens:
                logits_BV[:, ends_row] = -torch.inf
            next_B = choose(logits_BV, temperature, top_k, top_p, random, min_p)
            if seen_BV is not None:
                seen_BV.scatter_(1, next_B[:, None], True)
            for row, token in zip(rows, next_B.tolist(), strict=True):
                if row not in going:
                    continue
                if token in ends_row:
                    results[row].stopped = True
                else:
                    results[row].ids.append(token)
                    if on_token is not None:
                        on_token(row, token)
                    results[row].ended = ends is not None and ends(row, results[row].ids)
                if token in ends_row or results[row].ended or len(results[row].ids) == limits[row]:
                    going.discard(row)
            if not going:
                break
            ids_BT = next_B[:, None]  # rows that have ended go on unread
    finally:
        model.train(training)
    return results
