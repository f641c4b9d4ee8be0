"""The vocabulary benchmark: equal bytes a step, an end inside an epoch, and what rules lose against the best size."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.learning import Setting, default_recipe
from bench.vocabulary import KEY, loss, means, report, rows_per_step, seed_noise
from model.config import PRESETS
from tests.tokenizer.test_encode import corpus_table
from tokenizer.bpe import Tokenizer, train_bpe
from tokenizer.encode import encode_table
from training.config import TrainConfig


def point(size: int, seed: int, bits: float, compared: str = "epochs") -> dict[str, Any]:
    key = dict(zip(KEY, ("novel", "nano", 2, compared, size, seed), strict=True))
    return {**key, "bits_per_byte": bits, "train_bytes": 1_000_000}


POINTS = [
    point(1024, 0, 2.0),
    point(1024, 1, 2.2),
    point(4096, 0, 1.9),
    point(4096, 1, 1.9),
    point(2048, 0, 1.8, "flops"),
]


def test_means_are_over_seeds_and_apart_for_each_comparison() -> None:
    found = means(POINTS)
    assert found["novel", "nano", 2, "epochs"] == {1024: pytest.approx(2.1), 4096: pytest.approx(1.9)}
    assert found["novel", "nano", 2, "flops"] == {2048: 1.8}


def test_seed_noise_pools_what_other_seeds_give() -> None:
    assert seed_noise(POINTS) == pytest.approx(math.sqrt((0.02 + 0.0) / 2))
    assert math.isnan(seed_noise(POINTS[-1:]))


def test_a_rule_loses_what_the_nearest_size_has_above_the_best() -> None:
    sizes = {1024: 2.1, 4096: 1.9, 16384: 2.0}
    assert loss(sizes, 5000) == 0
    assert loss(sizes, 10) == pytest.approx(0.2)
    assert loss(sizes, 9000) == pytest.approx(0.1)  # nearest by factors
    assert any(line.startswith("1024, equal epochs: mean loss 0.2000") for line in report(POINTS))


def test_a_step_holds_the_same_bytes_at_each_size() -> None:
    assert rows_per_step(3200, 3200) == 8
    assert rows_per_step(3200, 4000) == 10  # of shorter tokens
    assert rows_per_step(3200, 2000) == 5
    assert rows_per_step(10, 10) == 2


def test_a_recipe_ends_after_so_many_steps_at_the_schedules_end(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["It says this and that, and no more.", "Not that it matters."]
    tokens = encode_table(
        corpus_table([{"text": text} for text in texts * 20]), Tokenizer(train_bpe(texts, 270, 1, False))
    )
    shape = replace(
        PRESETS["tiny"], vocab_size=270, num_layers=1, hidden_size=32, head_dim=8, intermediate_size=32, seq_len=32
    )
    setting = Setting(tokens, tokens, tokens, shape, epochs=2, weights={}, device=torch.device("cpu"))
    rates: list[float] = []
    monkeypatch.setattr("bench.learning.set_learning_rates", lambda optimizers, share: rates.append(share))
    config = TrainConfig(batch_tokens=64, precision="fp32")
    whole = default_recipe(setting, config, 0)[-1]
    an_epoch, rates[:] = len(rates) // 2, []
    part = default_recipe(setting, config, 0, steps=an_epoch + 3)[-1]
    assert len(rates) == an_epoch + 3
    assert rates[-1] == pytest.approx(0.1)
    assert tokens.num_targets < part["tokens"] < whole["tokens"] == 2 * tokens.num_targets
    assert np.isfinite(part["bits_per_byte"])
