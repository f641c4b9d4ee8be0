"""The schedule's corners, and who is decayed."""

from itertools import pairwise

import pytest

from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from training.config import TrainConfig
from training.optimizer import learning_rate, make_optimizers, set_learning_rates


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


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_decay_is_on_the_layers_matrices_and_every_parameter_is_optimised_once(optimizer: str, tied: bool) -> None:
    model = Decoder(resolve_shape(ModelConfig(num_layers=1, tie_embeddings=tied), 300))
    config = TrainConfig(optimizer=optimizer)  # type: ignore[arg-type]
    groups = [group for one in make_optimizers(model, config, 1e-2, 1e-3, 0.3) for group in one.param_groups]
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_matrix = name.startswith("layers.") and parameter.ndim == 2
        assert settings[id(parameter)] == ((1e-2, 0.3) if is_matrix else (1e-3, 0.0)), name


def test_one_schedule_turns_all_rates_alike() -> None:
    model = Decoder(resolve_shape(ModelConfig(num_layers=1), 300))
    optimizers = make_optimizers(model, TrainConfig(), 0.04, 0.008, 0.1)
    for share in (0.5, 0.25):  # a share of the peak, not of the rate before
        set_learning_rates(optimizers, share)
        assert [group["lr"] for one in optimizers for group in one.param_groups] == [0.04 * share, 0.008 * share]
