"""What a plan derives: decay from the run's length, compiling from its work."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from model.config import PRESETS, count_parameters, memory_estimate
from training import plan
from training.config import TrainConfig
from training.distributed import World
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


def test_a_micro_batch_is_the_largest_that_fits_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, config, world = PRESETS["small"], TrainConfig(), World(0, 1, torch.device("cpu"))

    def chosen(free: float, config: TrainConfig = config) -> int:
        monkeypatch.setattr(plan, "free_memory", lambda device: int(free))
        return plan._micro_batch(config, shape, 8, "fp32", world)[0]

    need = [memory_estimate(shape, rows, muon_ranks=1) for rows in range(9)]
    assert chosen(1e12) == 8
    assert chosen(1.01 * need[8] / plan.MEMORY_SHARE) == 8
    assert chosen(0.99 * need[8] / plan.MEMORY_SHARE) == 4  # two of one size, not seven and one
    assert chosen(1.01 * need[1]) == 1
    assert chosen(1e9, replace(config, micro_batch=3)) == 3
    with pytest.raises(UserError, match=r"a step of one row needs about .* try --activation_checkpointing true"):
        chosen(0.99 * need[1])


def test_what_docs_scaling_says_of_one_gpu_is_what_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0, 1, torch.device("cuda"))
    monkeypatch.setattr(plan, "free_memory", lambda device: 24 * 2**30)
    assert plan._micro_batch(TrainConfig(), PRESETS["1b"], 1, "bf16", world)[0] == 1
    with pytest.raises(UserError, match=r"24\.8 GiB and 24\.0 GiB are free"):
        plan._micro_batch(TrainConfig(optimizer="adamw"), PRESETS["1b"], 1, "bf16", world)


def test_shards_take_less_memory_and_the_plan_says_so() -> None:
    shape, config = PRESETS["seed-126m"], TrainConfig(parallel="fsdp")
    cpu = torch.device("cpu")
    assert plan._memory(config, shape, 2, 2, "fp32", World(0, 1, cpu)) == memory_estimate(shape, 2, muon_ranks=1)
    whole = memory_estimate(shape, 2, muon_ranks=8)
    assert plan._memory(replace(config, parallel="ddp"), shape, 2, 2, "fp32", World(0, 8, cpu)) == whole
    sharded = [plan._memory(config, shape, 2, 2, "fp32", World(0, size, cpu)) for size in (2, 8, 64)]
    assert whole > sharded[0] > sharded[1] > sharded[2] > whole - 16 * count_parameters(shape)
    # Several micro-batches keep gradients and weights whole until the last one.
    assert plan._memory(config, shape, 2, 4, "fp32", World(0, 8, cpu)) > sharded[1]


def test_processes_without_rows_are_named() -> None:
    world = World(0, 8, torch.device("cpu"))
    assert "6 have nothing to do" in plan._processes(TrainConfig(), world, 2)
    assert "nothing to do" not in plan._processes(TrainConfig(), world, 8)
