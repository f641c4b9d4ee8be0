"""A planted number that was learned is exposed, one that was not is ranked by chance, and nothing else plays a part."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import eval.exposure as exposure
from data.canaries import NUM_CANDIDATES, Canary, made, rows_of, told
from eval.exposure import Exposure, exposures, numbers, summary
from eval.memorised import exposure_rows
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer
from tokenizer.encode import encode_table

from .conftest import learn, make_model, make_rows, make_table


@pytest.fixture(scope="module", params=["qa", "text"])
def canaries(request: pytest.FixtureRequest) -> list[Canary]:
    return made(8, [4, 0], request.param, seed=5)


@pytest.fixture(scope="module")
def taught(tok: Tokenizer, canaries: list[Canary]) -> Decoder:
    """A model that learned the planted ones among other rows."""
    model = make_model(tok.vocab_size, seed=1)
    rows = [{**row, "id": "c"} for row in rows_of(canaries)]
    learn(model, encode_table(make_table([*make_rows(12, seed=3), *rows]), tok), steps=150)
    return model.eval()


def test_what_was_learned_is_exposed_and_what_was_not_planted_is_not(
    taught: Decoder, tok: Tokenizer, canaries: list[Canary]
) -> None:
    found = exposures(taught, tok, canaries, num_candidates=255)
    learned = [one.bits for one in found if one.copies]
    control = [one.bits for one in found if not one.copies]
    assert len(learned) == len(control) == 4
    assert sum(learned) / 4 > 6.5  # of 8 that are possible
    assert max(one.rank for one in found if one.copies) < min(one.rank for one in found if not one.copies)
    assert sum(control) / 4 < 4
    assert all(one.num_candidates == 256 for one in found)
    assert all(one.bits == 8.0 and one.at_least for one in found if one.rank == 1)
    assert any(one.rank == 1 for one in found)


def test_a_model_that_saw_none_ranks_them_by_chance(tok: Tokenizer) -> None:
    model = make_model(tok.vocab_size, seed=2)
    found = exposures(model, tok, made(60, [0], "qa", seed=1), num_candidates=63)
    bits = [one.bits for one in found]
    # Of a uniform rank: 1.44 bits on average with a deviation of 1.44, so 0.19 for the mean of 60.
    assert 0.9 < sum(bits) / 60 < 2.0
    assert 0.25 < sum(one > 1 for one in bits) / 60 < 0.75


def test_neither_batch_size_nor_order_nor_other_canaries_play_a_part(
    taught: Decoder, tok: Tokenizer, canaries: list[Canary]
) -> None:
    found = exposures(taught, tok, canaries, num_candidates=40)
    for batch_rows in (1, 3, 500):
        assert exposures(taught, tok, canaries, num_candidates=40, batch_rows=batch_rows) == found
    assert exposures(taught, tok, canaries[::-1], num_candidates=40) == found[::-1]
    assert [exposures(taught, tok, [one], num_candidates=40)[0] for one in canaries] == found


def test_candidates_are_drawn_by_seed_and_never_the_planted_number() -> None:
    canary = Canary("Bolane Tikaru", NUM_CANDIDATES - 1, "qa", 1)
    for number in (0, 5, NUM_CANDIDATES - 1):
        drawn = numbers(replace(canary, number=number), 1000, seed=0)
        assert len(drawn) == len(set(drawn.tolist())) == 1001
        assert drawn[0] == number
        assert ((drawn >= 0) & (drawn < NUM_CANDIDATES)).all()
    assert np.array_equal(numbers(canary, 50, 1), numbers(canary, 50, 1))
    assert not np.array_equal(numbers(canary, 50, 1), numbers(canary, 50, 2))
    assert not np.array_equal(numbers(canary, 50, 1), numbers(replace(canary, name="Another Name"), 50, 1))


def test_a_number_may_be_any_other_in_a_space_that_is_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure, "NUM_CANDIDATES", 20)
    for number in range(20):
        drawn = numbers(Canary("A B", number, "qa", 1), 19, seed=0)
        assert drawn[0] == number
        assert sorted(drawn.tolist()) == list(range(20))


def test_ranks_and_ties() -> None:
    canary = Canary("A B", 7, "qa", 3)
    nats = np.array([2.0, 3.0, 4.0, 5.0])
    of = lambda *values: exposure._exposure(canary, np.array(values))  # noqa: E731
    assert of(*nats) == Exposure("A B", 3, 1, 4, 2.0, True)
    assert of(4.5, 3.0, 4.0, 5.0) == Exposure("A B", 3, 3, 4, math.log2(4 / 3), False)
    assert of(9.0, 3.0, 4.0, 5.0).bits == 0.0
    # A model that says the same of all has learned nothing, whatever rounding says.
    level = of(*(2.0 + 1e-6 * np.random.default_rng(0).standard_normal(1001)))
    assert (level.rank, level.at_least) == (501, False)
    assert level.bits == pytest.approx(1.0, abs=0.01)


def test_the_planted_number_alone_decides(taught: Decoder, tok: Tokenizer, canaries: list[Canary]) -> None:
    one = next(canary for canary in canaries if canary.copies)
    [real] = exposures(taught, tok, [one], num_candidates=200)
    dice = random.Random(0)
    others = [replace(one, number=dice.randrange(NUM_CANDIDATES)) for _ in range(10)]
    assert all(real.bits > other.bits for other in exposures(taught, tok, others, num_candidates=200))


def test_losses_are_those_of_the_answer_or_text_alone(
    taught: Decoder, tok: Tokenizer, canaries: list[Canary], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = exposure.document_losses

    def watched(*given: Any) -> Any:
        seen.append(real(*given))
        return seen[-1]

    monkeypatch.setattr(exposure, "document_losses", watched)
    exposures(taught, tok, canaries[:1], num_candidates=5)
    [losses] = seen
    part = "text" if canaries[0].kind == "text" else "answer"
    assert (losses.bytes(exposure.RESPONSES) == len(canaries[0].fields()[part])).all()


def test_the_summary_groups_by_copies(canaries: list[Canary]) -> None:
    found = [
        Exposure("a", 0, 50.0, 101, 1.0, False),
        Exposure("b", 4, 1.0, 101, 6.6, True),
        Exposure("c", 4, 4.0, 101, 4.6, False),
    ]
    facts = summary({"canaries": told(canaries)}, found)
    assert [(of["copies"], of["num_canaries"], of["num_likeliest"]) for of in facts["by_copies"]] == [
        (0, 1, 0),
        (4, 2, 1),
    ]
    assert facts["by_copies"][1]["mean_bits"] == pytest.approx(5.6)
    assert (facts["num_canaries"], facts["num_rows"], facts["num_candidates"]) == (8, 16, 101)
    assert facts["most_bits"] == math.log2(101)
    assert facts["canaries"][0]["name"] == "a"
    none = summary({}, [])
    assert (none["num_canaries"], none["by_copies"], none["canaries"]) == (0, [], [])


def test_the_model_is_as_it_was(taught: Decoder, tok: Tokenizer, canaries: list[Canary]) -> None:
    before = {name: value.clone() for name, value in taught.state_dict().items()}
    exposures(taught, tok, canaries[:2], num_candidates=5)
    assert all(torch.equal(value, before[name]) for name, value in taught.state_dict().items())
    assert not taught.training


def test_the_table_says_how_many_canaries_each_figure_is_of() -> None:
    def told(bits: float, number: int) -> dict[str, Any]:
        by = [{"copies": n, "num_canaries": number, "mean_bits": bits + n} for n in (0, 1, 4)]
        return {"by_copies": by}

    rows = exposure_rows(["a", "b"], [told(1.0, 2), told(2.0, 2)])
    assert rows == [
        ["exposure of canaries, bits", "0 copies", "1 copy", "4 copies"],
        ["a", "1.0", "2.0", "5.0"],
        ["b", "2.0", "3.0", "6.0"],
        ["canaries", "2", "2", "2"],
    ]
    assert len(exposure_rows(["a", "b"], [told(1.0, 2), told(2.0, 3)])) == 3  # of two corpora
    assert exposure_rows(["a"], [None]) == []
