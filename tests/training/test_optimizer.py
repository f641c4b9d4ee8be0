"""The schedule's corners, and who is decayed."""

from itertools import pairwise

import pytest

from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from training.config import TrainConfig
from training.optimizer import learning_rate, make_optimizer


def rates(total: int, warmup: float) -> list[float]:
    return [learning_rate(step, total, 1.0, 0.1, warmup) for step in range(total)]


def test_rate_rises_to_the_peak_then_falls_to_min_lr_at_the_last_step() -> None:
    all_rates = rates(100, 0.1)
    assert 0 < all_rates[0] < all_rates[5] < all_rates[10] == 1.0
    assert all(a > b for a, b in pairwise(all_rates[10:]))
    assert all_rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
def test_a_run_of_very_few_steps_has_a_rate_in_every_step(total: int, warmup: float) -> None:
    assert all(0 < rate <= 1.0 for rate in rates(total, warmup))


def test_steps_beyond_the_planned_total_stay_at_min_lr() -> None:
    assert learning_rate(120, 100, 1.0, 0.1, 0.1) == pytest.approx(0.1)


def test_decay_is_on_matrices_only_and_every_parameter_is_optimised_once() -> None:
    model = Decoder(resolve_shape(ModelConfig(num_layers=1), 300))
    optimizer = make_optimizer(model, TrainConfig(weight_decay=0.3), 1e-3)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0.3 for p in g["params"]}
    seen = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim == 2 and "embed" not in name), name
