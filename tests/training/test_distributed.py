"""Many processes: the same training as with one, whatever their number and the way they share the work.

Ranks are processes on this machine that talk through gloo. All runs here have what is awkward: several micro-batches
a step, rows that do not divide among the ranks (so that some get empty micro-batches), parameters whose rows do not
divide among them either, and gradients that take several buckets.
"""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

import train as train_script
from common.errors import UserError
from config import Config
from model.config import PRESETS, count_parameters
from model.decoder import Decoder
from tests.training.ranks import Ranks, again, assert_same_on_all_ranks, assert_same_training, curve
from training import distributed, sharding
from training.checkpoint import load_for_inference

# bf16: weights by 3.9% of the way that training went, optimizer state by 1.8% of its norm. Twice that is allowed.
BF16_ASTRAY = 0.08


@pytest.fixture
def one(awkward: Config, trained: dict[str, Path]) -> Config:
    """Settings of the awkward run `t`, trained by one process: once, then copied."""
    if "by one" in trained:
        shutil.copytree(trained["by one"], Path("runs/t"), dirs_exist_ok=True)
    else:
        train_script.train(awkward)
        trained["by one"] = Path("runs/t").absolute()
    return awkward


@pytest.fixture(scope="module")
def trained() -> dict[str, Path]:
    return {}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_many_processes_train_as_one_does(ranks: Ranks, one: Config, parallel: Any, size: int) -> None:
    weights = ranks.train(again(one, "many", parallel=parallel), size)
    assert_same_training("t", "many")
    assert_same_on_all_ranks(weights)


def test_adamw_on_four_shards_trains_as_on_one(ranks: Ranks, awkward: Config) -> None:
    awkward = replace(awkward, train=replace(awkward.train, optimizer="adamw"))
    train_script.train(awkward)
    assert_same_on_all_ranks(ranks.train(again(awkward, "many", parallel="fsdp"), 4))
    assert_same_training("t", "many")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_recomputed_activations_change_nothing(ranks: Ranks, one: Config, parallel: Any) -> None:
    ranks.train(again(one, "many", parallel=parallel, activation_checkpointing=True), 2)
    assert_same_training("t", "many")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_compiled_steps_give_the_same_curve(ranks: Ranks, one: Config, parallel: Any) -> None:
    """Graphs are traced, and run without a code generator, which takes a minute."""
    ranks.train(again(one, "many", parallel=parallel, compile=True), 2, compiler="aot_eager")
    assert_same_training("t", "many")


def test_bf16_shards_agree_with_one_process_to_the_rounding_of_bf16(ranks: Ranks, awkward: Config) -> None:
    # A gradient whose sign was rounded moves a weight by twice the rate.
    awkward = replace(awkward, train=replace(awkward.train, precision="bf16", embedding_lr=0.01))
    train_script.train(awkward)
    ranks.train(again(awkward, "many", parallel="fsdp"), 2)
    one, many = curve("t"), curve("many")
    assert [s["loss"] for s in many] == pytest.approx([s["loss"] for s in one], abs=0.005)
    assert [s["grad_norm"] for s in many] == pytest.approx([s["grad_norm"] for s in one], rel=0.02)
    folders = [Path("runs") / run / "ckpt1" for run in ("t", "many")]
    torch.manual_seed(awkward.train.seed)
    start = Decoder(load_for_inference(folders[0])[0].shape).state_dict()
    expected, found = (load_for_inference(folder)[0].state_dict() for folder in folders)
    for name, value in expected.items():  # how far rounding led astray, of the way that training went
        astray = float((found[name] - value).norm() / (value - start[name]).norm())
        assert astray < BF16_ASTRAY, f"{name}: {astray}"
    expected, found = (load_file(folder / "trainer" / "optimizer.safetensors") for folder in folders)
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= BF16_ASTRAY / 2 * float(value.norm()), name


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_plan_of_many_processes_is_timed_by_all_and_told_by_one(ranks: Ranks, one: Config, parallel: Any) -> None:
    ranks.train(again(one, "many", parallel=parallel), 2, plan_only=True)
    assert [path for path in Path("runs/many").iterdir() if path.name.startswith(("ckpt", "step"))] == []
    plan = Path("said-0").read_text()
    assert f"2 processes ({parallel})" in plan
    assert "measured here and now:" in plan
    assert Path("said-1").read_text() == ""


def test_a_run_goes_on_with_any_number_of_processes_and_either_way(ranks: Ranks, one: Config) -> None:
    moving = again(one, "moving")
    for size, parallel, stop in ((2, "fsdp", 2), (1, "ddp", 4), (4, "fsdp", 5), (2, "ddp", 0)):
        before = len(curve("moving"))
        ranks.train(
            replace(moving, train=replace(moving.train, parallel=cast(Any, parallel))), size, stop_at=stop - before
        )
        assert len(curve("moving")) == stop or stop == 0
    assert_same_training("t", "moving")


@pytest.mark.parametrize(("size", "parallel"), [(1, "ddp"), (2, "ddp")])
def test_a_checkpoint_of_four_shards_opens_elsewhere(ranks: Ranks, one: Config, size: int, parallel: Any) -> None:
    moving = again(one, "moving", parallel="fsdp")
    ranks.train(moving, 4, stop_at=3)
    ranks.train(replace(moving, train=replace(moving.train, parallel=parallel)), size)
    assert_same_training("t", "moving")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_resuming_on_four_processes_is_exact(ranks: Ranks, awkward: Config, parallel: Any) -> None:
    awkward = replace(awkward, train=replace(awkward.train, parallel=parallel))
    ranks.train(awkward, 4)
    stopped = again(awkward, "stopped")
    ranks.train(stopped, 4, stop_at=3)
    assert len(curve("stopped")) == 3
    ranks.train(stopped, 4)
    for name in ("model.safetensors", "trainer/optimizer.safetensors"):
        whole_run, resumed = (Path("runs") / run / "ckpt1" / name for run in ("t", "stopped"))
        assert whole_run.read_bytes() == resumed.read_bytes(), name


def test_fsdp_with_one_process_trains_as_ever_and_says_that_nothing_is_sharded(
    one: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    train_script.train(again(one, "alone", parallel="fsdp"))
    assert "1 process (fsdp: nothing to shard)" in capsys.readouterr().out
    assert (
        Path("runs/t/ckpt1/model.safetensors").read_bytes() == Path("runs/alone/ckpt1/model.safetensors").read_bytes()
    )


def test_several_processes_on_mps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UserError, match="device mps: one process only"):
        distributed.start("mps")


@pytest.mark.parametrize("rank", [0, 63])
def test_one_billion_parameters_divide_evenly_among_64_ranks(rank: int) -> None:
    """On the meta device, with a group that only pretends: nothing is allocated, nothing is sent."""
    torch.distributed.init_process_group("fake", rank=rank, world_size=64, store=FakeStore())
    try:
        with torch.device("meta"):
            model = Decoder(PRESETS["1b"])
        sharding.shard(model, "cpu", 64, "bf16")
        held = sum(sharding.local(parameter).numel() for parameter in model.parameters())
    finally:
        torch.distributed.destroy_process_group()
    assert held == pytest.approx(count_parameters(PRESETS["1b"]) / 64, rel=0.001)


@pytest.mark.parametrize("num_micro", [1, 3])
def test_a_step_reduces_gradients_once_however_many_micro_batches(num_micro: int) -> None:
    """And gathers each layer once more than there are micro-batches: weights stay between a backward and a forward."""
    torch.distributed.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        model = Decoder(replace(PRESETS["tiny"], vocab_size=64))
        sharding.shard(model, "cpu", 4, "fp32")
        sync, ids = distributed.gradient_sync(model), torch.zeros((1, 8), dtype=torch.int64)
        with Calls() as calls:
            for number in range(1, num_micro + 1):
                with sync(number == num_micro):
                    model(ids).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    layers = len(model.layers)
    assert calls.counts == {"_allgather_base_": 1 + layers * (1 + num_micro), "_reduce_scatter_base_": 1 + layers}


class Calls(TorchDispatchMode):
    """Counts what is asked of other ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, name, *_ = str(function).split(".")
        self.counts.update([name] if "c10d" in space else [])
        return function(*args, **(kwargs or {}))
