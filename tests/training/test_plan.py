"""What a plan derives: decay from the run's length, compiling from its work."""

import math
import shutil

import pytest
import torch

from training import plan
from training.config import TrainConfig
from training.optimizer import learning_rate
from training.plan import choose_compile, default_decay


@pytest.mark.parametrize(("epochs", "steps"), [(1, 400), (3, 300), (10, 3000)])
def test_each_epoch_of_any_run_shrinks_weights_by_the_same_factor(epochs: int, steps: int) -> None:
    config, total_steps = TrainConfig(epochs=epochs), epochs * steps
    decay = default_decay(config, 0.02, 0.002, total_steps)
    left = 1.0
    for step in range(total_steps):
        left *= 1 - decay * learning_rate(step, total_steps, 0.02, 0.002, config.warmup_ratio)
    assert math.log(left) == pytest.approx(-plan.SHRINKING * epochs, rel=0.02)


@pytest.mark.parametrize("total_steps", [1, 2, 20])
def test_a_short_run_is_not_decayed_to_nothing(total_steps: int) -> None:
    assert default_decay(TrainConfig(epochs=1), 0.02, 0.002, total_steps) == plan.MOST_DECAY


def test_adamw_has_its_usual_decay() -> None:
    assert default_decay(TrainConfig(optimizer="adamw"), 0.004, 0.0004, 100) == 0.1


def test_only_long_runs_are_compiled_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(plan.Path, "exists", lambda path: True)
    assert choose_compile(None, cpu, plan.COMPILE_FLOPS)[0]
    assert not choose_compile(None, cpu, 0.9 * plan.COMPILE_FLOPS)[0]
    assert choose_compile(True, cpu, 0.0)[0]
    assert not choose_compile(False, cpu, 1e20)[0]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiled, why = choose_compile(None, cpu, 1e20)
    assert not compiled
    assert "compiler" in why
