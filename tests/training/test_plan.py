"""What a plan derives: decay from the run's length, compiling from its work."""

import math
import random
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from common.errors import UserError
from data.loader import epoch_plan, num_steps
from data.tokens import Tokens
from model.config import PRESETS, Shape, count_parameters, memory_estimate
from training import optimizer, plan
from training.config import MOST, MOST_EPOCHS, TrainConfig
from training.distributed import World
from training.optimizer import learning_rate, sum_of_rates
from training.plan import check_memory, choose_compile, default_decay, derive


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


def absurd(**sizes: int) -> Shape:
    return replace(PRESETS["tiny"], **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [{"seq_len": 10**7}, {"seq_len": 10**9}, {"num_layers": 10**9}])
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_context_or_model_that_no_machine_holds_is_refused_before_its_rows_are_packed(
    sizes: dict[str, int], micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "epoch_plan", lambda *_: pytest.fail("rows were packed"))
    config, world = TrainConfig(micro_batch=micro_batch), World(0, 1, torch.device("cpu"))
    with pytest.raises(UserError, match=r"a step of one row needs about .* GiB are free"):
        derive(config, absurd(**sizes), made([30, 40]), {}, world)


def test_an_estimate_that_is_a_little_too_large_does_not_stop_who_names_a_micro_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(0, 1, torch.device("cpu"))
    needed = memory_estimate(PRESETS["tiny"], 1, "fp32", muon_ranks=1)
    monkeypatch.setattr(plan, "free_memory", lambda device: int(needed / 1.5))
    check_memory(TrainConfig(precision="fp32", micro_batch=1), PRESETS["tiny"], world)
    with pytest.raises(UserError, match="a step of one row"):
        check_memory(TrainConfig(precision="fp32"), PRESETS["tiny"], world)


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("total_steps", [1, 2, 3, 20, 1259])
def test_the_sum_of_rates_is_that_of_its_steps(total_steps: int, warmup_ratio: float) -> None:
    lr, min_lr = 0.02 * random.random(), 0.001 * random.random()
    rates = [learning_rate(step, total_steps, lr, min_lr, warmup_ratio) for step in range(total_steps)]
    assert sum_of_rates(total_steps, lr, min_lr, warmup_ratio) == pytest.approx(sum(rates), rel=1e-12)


def test_the_decay_of_a_million_epochs_is_counted_without_walking_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "learning_rate", lambda *_: pytest.fail("a step was walked"))
    config = TrainConfig(epochs=MOST_EPOCHS)
    few = default_decay(replace(config, epochs=1000), 0.02, 0.002, 400 * 1000)
    assert default_decay(config, 0.02, 0.002, 400 * MOST_EPOCHS) == pytest.approx(few, rel=1e-3)


def test_the_micro_batches_are_the_fewest_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against trying each number of them in turn."""
    shape, world = PRESETS["tiny"], World(0, 1, torch.device("cuda"))  # no bound but memory's
    need = [memory_estimate(shape, rows, "fp32", device="cuda", muon_ranks=1) for rows in range(41)]
    for _ in range(100):
        rows, free = random.randint(1, 40), int(need[1] + random.random() * need[40])
        monkeypatch.setattr(plan, "free_memory", lambda device, free=free: free)
        fitting = [n for n in range(1, rows + 1) if need[-(-rows // n)] <= free * plan.MEMORY_SHARE]
        assert plan._micro_batch(TrainConfig(), shape, rows, "fp32", world)[0] == -(-rows // (fitting or [rows])[0])


def made(lengths: list[int]) -> Tokens:
    """Documents of so many tokens, all of one source."""
    sizes = np.asarray(lengths, dtype=np.int64)
    table = pa.table({"offset": np.cumsum(sizes) - sizes})
    zeros = np.zeros(len(sizes), dtype=np.int32)
    return Tokens(np.zeros(sizes.sum(), np.uint16), np.cumsum(sizes) - sizes, sizes, sizes * 0, zeros, ["made"], table)


@pytest.mark.parametrize("batch_tokens", [256 * 20, 99_999_999_999_999, MOST - 1])
def test_a_batch_larger_than_an_epoch_is_one_step_an_epoch_and_the_plan_says_so(batch_tokens: int) -> None:
    tokens = made([129] * 20)  # ten rows of 256
    config, world = TrainConfig(epochs=3, batch_tokens=batch_tokens), World(0, 1, torch.device("cpu"))
    found, lines = derive(config, PRESETS["tiny"], tokens, {}, world)
    assert (found.epoch_rows, found.step_rows, found.steps_per_epoch, found.total_steps) == (10, 10, 1, 3)
    assert found.micro_batch <= 10
    assert any(f"{batch_tokens:,} are more than an epoch has: one step is a whole epoch" in line for line in lines)
    for epoch in range(1, 20):  # also where another order packs a little worse
        rows = epoch_plan(made([129] * 18 + [100] * 3), 256, 0, epoch)
        assert num_steps(rows, found.rows_per_step) == 1
    for seed in range(20):  # and where a weight draws more documents than in the first
        config = TrainConfig(epochs=3, batch_tokens=10_000_000, seed=seed)
        drawn, _ = derive(config, PRESETS["tiny"], made([129] * 100), {"made": 0.5}, world)
        for epoch in range(3):
            assert num_steps(epoch_plan(made([129] * 100), 256, seed, epoch, {"made": 0.5}), drawn.rows_per_step) == 1


def test_a_batch_that_an_epoch_holds_is_as_it_was_asked_for() -> None:
    config, world = TrainConfig(batch_tokens=256 * 10), World(0, 1, torch.device("cpu"))
    found, lines = derive(config, PRESETS["tiny"], made([129] * 20), {}, world)
    assert (found.rows_per_step, found.step_rows) == (10, 10)
    assert not any("whole epoch" in line for line in lines)


def test_steps_of_several_epochs_are_said_to_be_about_so_many() -> None:
    """Epochs of other orders have a row more or less, so their steps are counted from the first alone."""
    world, tokens = World(0, 1, torch.device("cpu")), made([129] * 20)
    for epochs, said in ((1, "steps: 5 in one epoch,"), (3, "steps: about 5 an epoch x 3 epochs = about 15,")):
        config = TrainConfig(epochs=epochs, batch_tokens=512)
        assert any(line.startswith(said) for line in derive(config, PRESETS["tiny"], tokens, {}, world)[1])
