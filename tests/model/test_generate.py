"""Cached generation is the uncached forward, row by row: alone or in a batch, whatever the lengths."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from model.cache import Cache
from model.config import Shape
from model.decoder import Decoder
from model.generate import Generation, generate
from model.sampling import choose, penalised

SHAPE = Shape(
    vocab_size=83,
    num_layers=2,
    hidden_size=48,
    num_heads=4,
    num_kv_heads=2,
    head_dim=12,
    intermediate_size=64,
    seq_len=48,
)
NO_EOS = -1
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [20, 21, 22], [3] * 15]


def make_model(seed: int = 0, **changes) -> Decoder:
    """Larger weights than a fresh decoder's: clear winners among the logits, and outputs that hang on every input."""
    torch.manual_seed(seed)
    model = Decoder(replace(SHAPE, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@torch.no_grad()
def greedy_without_cache(model: Decoder, prompt: list[int], num_new: int) -> list[int]:
    ids = list(prompt)
    for _ in range(num_new):
        ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("seed", range(3))
def test_batch_of_ragged_prompts_gives_the_uncached_tokens_of_each(seed: int) -> None:
    model = make_model(seed)
    batch = generate(model, PROMPTS, 20, NO_EOS)
    for prompt, result in zip(PROMPTS, batch, strict=True):
        assert result.ids == greedy_without_cache(model, prompt, 20)
        assert generate(model, [prompt], 20, NO_EOS)[0] == result
    assert len({tuple(result.ids) for result in batch}) == len(batch)  # else nothing was compared


def new_cache(num_rows: int, num_slots: int) -> Cache:
    return Cache(SHAPE, num_rows, num_slots, torch.float32, torch.device("cpu"))


@torch.no_grad()
def test_cached_logits_equal_the_uncached_forward_token_by_token_and_in_pieces() -> None:
    model = make_model()
    ids = torch.randint(0, SHAPE.vocab_size, (2, 30))
    whole = model.logits(model(ids))
    for sizes in ([1] * 30, [10, 1, 1, 5, 13]):
        cache = new_cache(2, 30)
        parts = [model.logits(model(part, cache=cache)) for part in ids.split(sizes, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_of_several_lengths_go_on_where_each_ends_and_see_nothing_behind_it() -> None:
    model = make_model()
    ids = torch.randint(0, SHAPE.vocab_size, (3, 20))
    whole = model.logits(model(ids))
    lengths = torch.tensor([12, 3, 7])
    for junk in (0, 44):  # whatever the padding holds
        cache = new_cache(3, 20)
        padded = torch.where(torch.arange(12) < lengths[:, None], ids[:, :12], junk)
        model(padded, cache=cache)
        cache.lengths_B.copy_(lengths)
        for size in (1, 5, 2):  # tokens at a time
            columns = cache.lengths_B[:, None] + torch.arange(size)
            found = model.logits(model(ids.gather(1, columns), cache=cache))
            expected = whole[torch.arange(3)[:, None], columns]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_part_of_a_cache_and_a_row_that_was_moved_go_on_as_before() -> None:
    model = make_model()
    ids = torch.randint(0, SHAPE.vocab_size, (2, 20))
    whole = model.logits(model(ids))
    cache = new_cache(4, 20)
    model(ids[:, :15], cache=cache.rows(2, 4))
    assert cache.lengths_B.tolist() == [0, 0, 15, 15]
    cache.move(3, 1)
    assert cache.lengths_B.tolist() == [0, 15, 15, 0]
    assert not cache.keys_LBKSE[:, 3].any()
    assert not cache.values_LBKSE[:, 3].any()
    found = model.logits(model(ids[:, 15:].flip(0), cache=cache.rows(1, 3)))
    torch.testing.assert_close(found, whole[:, 15:].flip(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@torch.no_grad()
def test_bfloat16_rows_of_several_lengths_stay_near_float32(autocast: bool) -> None:
    """Weights in bfloat16, or autocast's products; the cache is float32 either way."""
    model = make_model()
    ids = torch.randint(0, SHAPE.vocab_size, (3, 20))
    lengths = torch.tensor([12, 3, 7])
    columns = lengths[:, None] + torch.arange(2)
    expected = model(ids)[torch.arange(3)[:, None], columns]
    model = model if autocast else model.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        cache = Cache(SHAPE, 3, 20, model.head.dtype, torch.device("cpu"))
        model(ids[:, :12], cache=cache)
        cache.lengths_B.copy_(lengths)
        found = model(ids.gather(1, columns), cache=cache).float()
        said = generate(model, PROMPTS, 5, NO_EOS)
    assert cache.keys_LBKSE.dtype == torch.float32
    assert (found - expected).pow(2).mean() < 0.05**2 * expected.pow(2).mean()
    assert [len(row.ids) for row in said] == [5] * len(PROMPTS)


def test_row_stops_at_eos_which_is_not_returned_and_others_go_on() -> None:
    model = make_model()
    free = generate(model, PROMPTS, 20, NO_EOS)
    eos = free[1].ids[4]
    stopped = generate(model, PROMPTS, 20, eos)
    for before, after in zip(free, stopped, strict=True):
        cut = before.ids.index(eos) if eos in before.ids else None
        assert after == Generation(before.ids[:cut], cut is not None)
    assert stopped[1].stopped
    assert not all(result.stopped for result in stopped)


def test_generation_ends_where_the_context_is_full() -> None:
    model = make_model()
    results = generate(model, [[1] * 40, [2] * 47, [3] * 48, [4] * 60, [5]], 100, NO_EOS)
    assert [len(result.ids) for result in results] == [8, 1, 0, 0, 47]
    assert not any(result.stopped for result in results)
    assert results[0].ids == greedy_without_cache(model, [1] * 40, 8)


def test_on_token_sees_the_returned_tokens_in_order() -> None:
    model = make_model()
    eos = generate(model, PROMPTS, 20, NO_EOS)[1].ids[4]
    seen: dict[int, list[int]] = {row: [] for row in range(len(PROMPTS))}
    results = generate(model, PROMPTS, 20, eos, on_token=lambda row, token: seen[row].append(token))
    assert list(seen.values()) == [result.ids for result in results]


def test_sampling_repeats_with_its_seed_and_leaves_global_random_numbers_alone() -> None:
    model = make_model()
    state = torch.get_rng_state()
    one = generate(model, PROMPTS, 20, NO_EOS, temperature=1.0, seed=1)
    assert one == generate(model, PROMPTS, 20, NO_EOS, temperature=1.0, seed=1)
    assert one != generate(model, PROMPTS, 20, NO_EOS, temperature=1.0, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_generation_leaves_training_mode_as_it_was_and_ignores_dropout() -> None:
    model = make_model(dropout=0.5)
    expected = generate(model.eval(), PROMPTS, 10, NO_EOS)
    assert not model.training
    assert generate(model.train(), PROMPTS, 10, NO_EOS) == expected
    assert model.training


def draws(logits: Tensor, number: int = 4000, by_row: bool = False, **settings) -> Tensor:
    """Shares with which each token is drawn."""
    random: Any = torch.Generator().manual_seed(0)
    if by_row:
        random = [torch.Generator().manual_seed(seed) for seed in range(number)]
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | settings
    tokens = choose(logits.expand(number, -1).clone(), **defaults, random=random)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / number


def test_with_a_seed_a_row_what_a_row_samples_does_not_depend_on_the_others() -> None:
    model = make_model()
    seeds = [7 + row for row in range(len(PROMPTS))]
    sampled = partial(generate, model, max_new_tokens=20, eos_id=NO_EOS, temperature=1.0)
    together = sampled(PROMPTS, row_seeds=seeds)
    assert together == [sampled([prompt], row_seeds=[of])[0] for prompt, of in zip(PROMPTS, seeds, strict=True)]
    assert together == sampled(PROMPTS[::-1], row_seeds=seeds[::-1])[::-1]
    assert together != sampled(PROMPTS, row_seeds=[of + 1 for of in seeds])
    full = [1] * model.shape.seq_len  # is left out, and the seeds stay with their rows
    assert sampled([full, *PROMPTS], row_seeds=[0, *seeds])[1:] == together


@pytest.mark.parametrize("by_row", [False, True])
def test_sampling_follows_the_probabilities_and_its_limits(by_row: bool) -> None:
    probs = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
    logits = probs.log()

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0.0)  # 4,000 draws: deviation at most 0.008

    close(draws(logits, by_row=by_row), probs)
    close(draws(logits, by_row=by_row, temperature=0.5), probs**2 / (probs**2).sum())
    close(draws(logits, by_row=by_row, top_k=2), torch.tensor([0, 4 / 7, 0, 3 / 7, 0]))
    close(draws(logits, by_row=by_row, top_p=0.6), torch.tensor([0, 4 / 7, 0, 3 / 7, 0]))
    close(draws(logits, by_row=by_row, top_k=99), probs)
    close(draws(logits, by_row=by_row, min_p=0.5), torch.tensor([0, 4 / 7, 0, 3 / 7, 0]))
    close(draws(logits, by_row=by_row, top_k=4, min_p=0.3), torch.tensor([0, 8 / 17, 0, 6 / 17, 3 / 17]))
    assert draws(logits, by_row=by_row, min_p=1.0)[1] == 1
    assert draws(logits, by_row=by_row, top_k=1)[1] == 1
    assert draws(logits, by_row=by_row, top_p=0.0)[1] == 1
    assert draws(logits, by_row=by_row, temperature=0.0)[1] == 1


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e-39, 5e-324])
def test_the_coldest_sampling_is_the_likeliest_token(by_row: bool, temperature: float) -> None:
    """Logits over the last two leave float32: what came then was an index behind the vocabulary."""
    logits = torch.tensor([-3.0, 0.5, 90.0, 89.0])
    for limits in ({}, {"top_k": 2}, {"top_p": 0.9}, {"min_p": 0.5}):
        assert draws(logits, by_row=by_row, temperature=temperature, **limits)[2] == 1


def test_banned_tokens_are_never_chosen_greedy_or_sampled() -> None:
    model = make_model()
    usual = generate(model, PROMPTS, 10, NO_EOS)
    banned = sorted({token for said in usual for token in said.ids})
    for temperature in (0.0, 1.0):
        for said in generate(model, PROMPTS, 10, NO_EOS, temperature=temperature, banned=banned):
            assert len(said.ids) == 10
            assert not set(said.ids) & set(banned)


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    logits, ids = torch.randn(4, 83), torch.randint(0, 83, (4, 20))
    seen = torch.zeros(4, 83, dtype=torch.bool).scatter_(1, ids, True)
    for penalty in (0.5, 1.3, 2.0):
        theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
        assert torch.equal(penalised(logits, seen, penalty), theirs)


def test_a_row_repeats_less_under_a_penalty_and_its_prompt_counts() -> None:
    model = make_model()
    usual = generate(model, PROMPTS, 20, NO_EOS)
    strong = generate(model, PROMPTS, 20, NO_EOS, repetition_penalty=1e6)
    assert any(len(set(said.ids)) < 20 for said in usual)  # else there is nothing to prevent
    for prompt, said in zip(PROMPTS, strong, strict=True):
        assert len({*prompt, *said.ids}) == len(set(prompt)) + 20
        assert generate(model, [prompt], 20, NO_EOS, repetition_penalty=1e6)[0] == said  # nothing of other rows
    assert generate(model, PROMPTS, 20, NO_EOS, repetition_penalty=1.0) == usual


def test_eos_is_not_chosen_before_the_least_number_of_tokens() -> None:
    model = make_model()
    usual = generate(model, PROMPTS, 20, NO_EOS)
    eos = usual[1].ids[3]
    assert len(generate(model, PROMPTS, 20, eos)[1].ids) <= 3
    for least in (5, 12):
        for said in generate(model, PROMPTS, 20, eos, min_new_tokens=least):
            assert len(said.ids) >= least
            assert eos not in said.ids


def test_the_caller_ends_a_row_and_the_others_go_on() -> None:
    model = make_model()
    usual = generate(model, PROMPTS, 12, NO_EOS)
    asked: list[tuple[int, int]] = []

    def ends(row: int, ids: list[int]) -> bool:
        asked.append((row, len(ids)))
        return row == 1 and len(ids) == 4

    found = generate(model, PROMPTS, 12, NO_EOS, ends=ends)
    assert [said.ids for said in found] == [said.ids[: 4 if row == 1 else 12] for row, said in enumerate(usual)]
    assert [said.ended for said in found] == [False, True, False, False]
    assert not any(said.stopped for said in found)
    assert (1, 5) not in asked


def test_any_of_several_tokens_ends_a_row_and_none_of_them_before_the_fewest() -> None:
    model = make_model()
    free = generate(model, PROMPTS[:1], 12, NO_EOS)[0].ids
    place = next(i for i in range(1, 12) if free[i] not in free[:i])
    said = generate(model, PROMPTS[:1], 12, [NO_EOS, free[place]])[0]
    assert (said.ids, said.stopped, said.ended) == (free[:place], True, False)
    later = generate(model, PROMPTS[:1], 12, [free[0], free[place]], min_new_tokens=12)[0]
    assert len(later.ids) == 12
    assert not {free[0], free[place]} & set(later.ids)
