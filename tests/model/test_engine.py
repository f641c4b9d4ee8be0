"""Rows that answer together: each is what it would be alone, whenever it joins, whoever leaves."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model import engine as engine_module
from model.decoder import Decoder
from model.engine import Engine, Event, Request
from model.generate import generate
from tests.model.test_generate import SHAPE, make_model

NEAR = 1e-3  # logits that lie closer than this may change places by rounding; the model's are wider apart by far


def random_request(rng: random.Random, **changes) -> Request:
    prompt = [rng.randrange(SHAPE.vocab_size) for _ in range(rng.choice([1, 2, 5, 11, 30, 46]))]
    settings: dict[str, Any] = {"max_new_tokens": rng.choice([1, 3, 8, 40]), "eos": []}
    return Request(prompt, **(settings | changes))


def serve(engine: Engine, requests: list[Request], rng: random.Random) -> dict[int, list[Event]]:
    """Each request's events, by its place in `requests`; they join at random steps, as soon as there is room."""
    said: dict[int, list[Event]] = {}
    places: dict[int, int] = {}
    coming = list(enumerate(requests))
    for _ in range(5000):
        while coming and engine.has_room() and rng.random() < 0.5:
            place, request = coming.pop(0)
            places[engine.add(request)] = place
        for event in engine.step():
            said.setdefault(places[event.row], []).append(event)
        if not coming and not engine.num_rows():
            return said
    raise AssertionError("the engine does not end")


def tokens(events: list[Event]) -> list[int]:
    return [event.token for event in events if event.token is not None]


def alone(model: Decoder, request: Request) -> list[Event]:
    return serve(Engine(model, max_rows=1), [request], random.Random(0))[0]


@torch.no_grad()
def logits_along(model: Decoder, prompt: list[int], said: list[int]) -> Tensor:
    """What a plain forward gives in front of each token of the answer."""
    return model.logits(model(torch.tensor([prompt + said])))[0, len(prompt) - 1 : len(prompt) + len(said) - 1]


def assert_same_but_for_near_ties(model: Decoder, request: Request, found: list[int], expected: list[int]) -> None:
    """Equal, or two tokens whose logits lie within NEAR part them."""
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            logits_V = logits_along(model, request.prompt, expected[: place + 1])[-1]
            assert abs(logits_V[one] - logits_V[other]) < NEAR
            return
    assert len(found) == len(expected)


@pytest.fixture(params=[7, 64])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Prompts are read in pieces that cut them, or whole."""
    monkeypatch.setattr(engine_module, "PIECE", request.param)
    monkeypatch.setattr(engine_module, "PIECE_ALONE", request.param)
    return request.param


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_join_at_random_steps_say_what_generate_says_of_each_alone(seed: int, piece: int) -> None:
    model, rng = make_model(seed), random.Random(seed)
    requests = []
    for request in [random_request(rng) for _ in range(40)]:
        free = generate(model, [request.prompt], 40, -1)[0].ids
        requests.append(replace(request, eos=[rng.choice([*free, 0])]))
    engine = Engine(model, max_rows=5)
    said = serve(engine, requests, rng)
    ends = set()
    for place, request in enumerate(requests):
        expected = generate(model, [request.prompt], request.max_new_tokens, request.eos[0])[0]
        assert_same_but_for_near_ties(model, request, tokens(said[place]), expected.ids)
        ended = [event.ended for event in said[place]]
        assert ended[:-1] == [None] * (len(ended) - 1)
        assert ended[-1] == ("eos" if expected.stopped else "length")
        ends.add(ended[-1])
    assert ends == {"eos", "length"}
    assert not engine._cache.keys_LBKSE.any()  # nothing of anyone is left
    assert not engine._cache.values_LBKSE.any()


def test_sampled_rows_of_any_settings_draw_what_they_draw_alone(piece: int) -> None:
    model, rng = make_model(), random.Random(1)
    requests = [
        random_request(
            rng,
            eos=[rng.randrange(SHAPE.vocab_size)],
            temperature=rng.choice([0.0, 0.7, 1.5]),
            top_k=rng.choice([0, 5]),
            top_p=rng.choice([1.0, 0.8]),
            min_p=rng.choice([0.0, 0.1]),
            repetition_penalty=rng.choice([1.0, 1.3]),
            min_new_tokens=rng.choice([0, 4]),
            banned=rng.sample(range(SHAPE.vocab_size), 5),
            seed=rng.randrange(2**40),
            logprobs=rng.choice([None, 2]),
        )
        for _ in range(40)
    ]
    said = serve(Engine(model, max_rows=6), requests, rng)
    for place, request in enumerate(requests):
        assert tokens(said[place]) == tokens(alone(model, request))
        expected = generate(
            model,
            [request.prompt],
            request.max_new_tokens,
            request.eos[0],
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            min_new_tokens=request.min_new_tokens,
            banned=request.banned,
            row_seeds=[request.seed],
        )[0]
        assert tokens(said[place]) == expected.ids


def test_another_seed_draws_others() -> None:
    model = make_model()
    said = [tokens(alone(model, Request([5, 6], 20, [], temperature=1.0, seed=seed))) for seed in range(4)]
    assert len({tuple(ids) for ids in said}) == 4


def test_log_probabilities_are_those_of_a_plain_forward_without_banned_tokens() -> None:
    model, rng = make_model(), random.Random(2)
    banned = [3, 50, 51]
    others: dict[str, Any] = {"temperature": 0.7, "repetition_penalty": 1.5, "top_k": 9}
    requests = [random_request(rng, banned=banned, logprobs=rng.choice([0, 4]), **others) for _ in range(12)]
    said = serve(Engine(model, max_rows=4), requests, rng)
    for place, request in enumerate(requests):
        logits = logits_along(model, request.prompt, tokens(said[place]))
        logits[:, banned] = -torch.inf
        for event, logprobs_V in zip(said[place], logits.log_softmax(-1), strict=True):
            assert event.logprob == pytest.approx(logprobs_V[event.token].item(), abs=1e-4)
            values, ids = logprobs_V.topk(request.logprobs or 0)
            assert [token for token, _ in event.top] == ids.tolist()
            assert [value for _, value in event.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_no_log_probabilities_unless_asked_for() -> None:
    assert all(event.logprob is None and not event.top for event in alone(make_model(), Request([5], 8, [])))


@pytest.mark.parametrize("seed", range(3))
def test_a_row_that_is_dropped_frees_its_place_and_changes_nobody(seed: int, piece: int) -> None:
    model, rng = make_model(), random.Random(seed)
    engine = Engine(model, max_rows=4)
    requests = [random_request(rng) for _ in range(30)]
    said: dict[int, list[int]] = {}
    asked: dict[int, Request] = {}
    dropped: set[int] = set()
    for _ in range(400):
        while requests and engine.has_room():
            request = requests.pop()
            asked[engine.add(request)] = request
        assert not requests or engine.num_rows() == 4
        for event in engine.step():
            assert event.row not in dropped
            said.setdefault(event.row, []).extend(tokens([event]))
        living = sorted(set(asked) - dropped)
        if living and rng.random() < 0.2:  # one that answers, reads, waits, or has ended
            dropped.add(gone := rng.choice(living[-5:]))
            before = engine.num_rows()
            engine.drop(gone)
            engine.drop(gone)
            assert before - engine.num_rows() in (0, 1)
    assert engine.num_rows() == 0
    assert len(dropped) >= 3
    for row, request in asked.items():
        expected = generate(model, [request.prompt], request.max_new_tokens, -1)[0].ids
        found = said.get(row, [])
        assert_same_but_for_near_ties(model, request, found, expected[: len(found)] if row in dropped else expected)
    assert not engine._cache.keys_LBKSE.any()


def test_what_a_row_left_reaches_nobody_even_where_it_is_not_a_number() -> None:
    model = make_model()
    expected = tokens(alone(model, Request([7, 8, 9], 20, [])))
    engine = Engine(model, max_rows=2)
    long = engine.add(Request([1] * 40, 8, []))
    engine.step()
    engine._cache.keys_LBKSE[:, 0, :, :40] = torch.nan  # as a damaged model would leave them
    engine._cache.values_LBKSE[:, 0, :, :40] = torch.nan
    other = engine.add(Request([2] * 40, 8, []))
    engine.step()
    engine.drop(long)
    short = engine.add(Request([7, 8, 9], 20, []))
    found: dict[int, list[int]] = {other: [], short: []}
    while engine.num_rows():
        for event in engine.step():
            found[event.row] += tokens([event])
    assert found[short] == expected
    assert found[other] == tokens(alone(model, Request([2] * 40, 8, [])))[1:]


def test_prompts_that_leave_no_room_and_requests_for_nothing_are_refused() -> None:
    engine = Engine(make_model(), max_rows=1)
    for prompt in ([], [1] * SHAPE.seq_len, [1] * 100):
        with pytest.raises(ValueError, match="the prompt has"):
            engine.add(Request(prompt, 5, []))
    with pytest.raises(ValueError, match="max_new_tokens"):
        engine.add(Request([1], 0, []))
    assert engine.step() == []
    engine.add(Request([1] * (SHAPE.seq_len - 1), 5, []))
    assert not engine.has_room()
    with pytest.raises(ValueError, match="rows are taken"):
        engine.add(Request([1], 5, []))
    assert [event.ended for event in engine.step()] == ["length"]  # one token fills the context
    assert engine.has_room()
    with pytest.raises(ValueError, match="1 to 9"):
        Engine(make_model(), num_slots=10).add(Request([1] * 10, 5, []))


def test_a_long_prompt_holds_nobody_up_for_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "PIECE", 10)
    engine = Engine(make_model(), max_rows=3)
    first = engine.add(Request([1], 40, []))
    assert [event.row for event in engine.step()] == [first]
    long, short = engine.add(Request([2] * 37, 5, [])), engine.add(Request([3] * 4, 5, []))
    assert [{event.row for event in engine.step()} for _ in range(4)] == [{first}, {first}, {first}, {first, long}]
    assert {event.row for event in engine.step()} == {first, long, short}


def test_eos_ends_a_row_without_a_token_and_not_before_the_least_number() -> None:
    model = make_model()
    free = tokens(alone(model, Request([5], 20, [])))
    for least in (0, 6):
        said = alone(model, Request([5], 20, [free[2], 82], min_new_tokens=least))
        assert said[-1].ended == "eos" or least
        assert tokens(said)[:2] == free[:2]
        assert len(tokens(said)) == 2 if least == 0 else len(tokens(said)) >= 6
        assert not set(tokens(said)) & {free[2], 82}


def test_banned_tokens_are_of_their_row_alone() -> None:
    model = make_model()
    free = tokens(alone(model, Request([5], 10, [])))
    requests = [Request([5], 10, []), Request([5], 10, [], banned=free), Request([5], 10, [])]
    said = serve(Engine(model, max_rows=3), requests, random.Random(0))
    assert tokens(said[0]) == tokens(said[2]) == free
    assert len(tokens(said[1])) == 10
    assert not set(tokens(said[1])) & set(free)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 5, "logprobs": 2}])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_row_whose_logits_are_not_numbers_fails_alone(settings: dict[str, Any], number: float) -> None:
    model = make_model()
    request = Request([7, 8, 9], 20, [], **settings)
    expected = tokens(alone(model, request))
    engine = Engine(model, max_rows=2)
    lost, kept = engine.add(replace(request, prompt=[1, 2])), engine.add(request)
    found = {event.row: [event] for event in engine.step()}
    logits = model.logits

    def damaged(hidden_BD: Tensor) -> Tensor:
        found_BV = logits(hidden_BD).clone()
        found_BV[0, 3] = number
        return found_BV

    model.logits = damaged  # type: ignore[method-assign, assignment]
    events = engine.step()
    model.logits = logits  # type: ignore[method-assign]
    assert [event for event in events if event.row == lost] == [Event(lost, None, "failed")]
    while True:
        for event in events:
            found[event.row].append(event)
        if not engine.num_rows():
            break
        events = engine.step()
    assert tokens(found[kept]) == expected
