"""What the benchmark of generation makes of its turns, and that both sides answer the same folder."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.generate_speed import Options, Sides, measure, summary, table, take_turns, weight_bytes
from model.config import PRESETS
from model.decoder import Decoder

TINY = PRESETS["tiny"]


def test_medians_are_of_the_turns_and_ratios_of_each_turn() -> None:
    bytes_a_token = weight_bytes(TINY, torch.float32)
    turns = [
        {"loam": (0.1, 0.01), "transformers": (0.4, 0.03)},
        {"loam": (0.2, 0.02), "transformers": (0.4, 0.02)},
        {"loam": (0.4, 0.04), "transformers": (0.4, 0.10)},
    ]
    speeds = [bytes_a_token / 0.005, bytes_a_token / 0.01, bytes_a_token / 0.01]
    found = summary(turns, speeds, 2, Options(prompt_tokens=50), TINY, torch.float32)
    loam = found["sides"]["loam"]
    assert loam["prefill_tokens_per_s"] == 2 * 50 / 0.2
    assert loam["decode_tokens_per_s"] == 2 / 0.02
    assert loam["decode_tokens_per_s_spread"] == [2 / 0.04, 2 / 0.01]
    assert loam["share_of_memory_speed"] == pytest.approx(0.5)  # 0.5, 0.5, 0.25
    assert found["ratios"] == {"transformers": {"prefill": 2.0, "decode": 2.5}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_a_token_are_those_of_all_weights_but_the_looked_up_rows(dtype: torch.dtype) -> None:
    for tied in (True, False):
        model = Decoder(replace(TINY, tie_embeddings=tied)).to(dtype)
        looked_up = 0 if tied else model.embed_tokens.weight.nbytes
        assert weight_bytes(model.shape, dtype) == sum(weight.nbytes for weight in model.parameters()) - looked_up


def test_the_first_token_of_a_turn_is_the_prefill_and_the_rest_are_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("bench.generate_speed.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("bench.generate_speed.memory_speed", lambda device: 5.0)
    asked: list[str] = []

    def side(name: str, steps: list[float], tick: Callable[[], None]) -> None:
        asked.append(name)
        for taken in steps:
            clock[0] += taken * len(asked)  # each is slower than the one before
            tick()

    sides: Sides = {name: partial(side, name, steps) for name, steps in (("a", [8.0, 1, 2, 90]), ("b", [4.0, 3, 3]))}
    turns, speeds = take_turns(sides, Options(turns=2), torch.device("cpu"))
    assert asked == ["a", "b"] * 3  # the first turn warms up
    assert turns == [{"a": (24.0, 6.0), "b": (16.0, 12.0)}, {"a": (40.0, 10.0), "b": (24.0, 18.0)}]
    assert speeds == [5.0, 5.0]


def test_a_short_run_fills_the_table() -> None:
    pytest.importorskip("transformers")
    result = measure(Options(preset="tiny", precisions=["fp32"], rows=[1, 2], prompt_tokens=8, new_tokens=4, turns=1))
    assert [row["rows"] for row in result["measured"]] == [1, 2]
    assert result["ratio_vs_transformers"] == result["measured"][0]["ratios"]["transformers"]["decode"] > 0
    assert result["engine"]["fp32"]["ratio"] > 0
    assert len(table(result)) == 3 + 2 * 5 + 1
