"""Many processes: the same training as with one, whatever their number and the way they share the work.

Ranks are processes on this machine that talk through gloo. All runs here have what is awkward: several micro-batches
a step, rows that do not divide among the ranks (so that some get empty micro-batches), parameters whose rows do not
divide among them either, and gradients that take several buckets.
"""

import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

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
from training import distributed, sharding
from training.checkpoint import load_for_inference, verify
from training.metrics import read_metrics
from training.trouble import IN_A_ROW

# Sums in another order differ in the last bits of fp32. Seen over 18 steps: losses (6 to 3) by 1.0e-6 at most, gradient
# norms (about 2) by 1.2e-5, weights and optimizer state by 3.4e-6. Ten times that is allowed.
LOSS_TOLERANCE = 1e-5
NORM_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 3e-5
# bf16: weights by 3.9% of the way that training went, optimizer state by 1.8% of its norm. Twice that is allowed.
BF16_ASTRAY = 0.08


class Ranks:
    """A process a rank, started once: importing torch takes longer than most tests here.

    Rank 3 is always the same process: torch remembers how tensors are cut for the rank that it was first.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.start()

    def start(self) -> None:
        self.pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(self.number)]

    def kill(self) -> None:
        """A rank that waits for one that failed would wait for ever."""
        for pool in self.pools:
            for process in list(pool._processes.values()):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def train(self, config: Config, size: int, **options: Any) -> list[dict[str, torch.Tensor]]:
        """Train with `size` ranks in this process's folder; returns each rank's whole weights at the end."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        jobs = [
            pool.submit(train_rank, rank, size, port, Path.cwd(), config, **options)
            for rank, pool in enumerate(self.pools[:size])
        ]
        try:
            for job in as_completed(jobs, timeout=60):
                job.result()  # the first that fails, not the first rank
            return [job.result() for job in jobs]
        except Exception:
            self.kill()
            self.start()
            raise


def train_rank(
    rank: int,
    size: int,
    port: int,
    folder: Path,
    config: Config,
    stop_at: int = 0,
    compiler: str = "",
    plan_only: bool = False,
    bad: tuple[str, int, int] | None = None,
    no_memory: tuple[str, str, int] | None = None,
    concluded: bool = False,
) -> dict[str, torch.Tensor]:
    """One rank's part of a run, as torchrun would start it; a signal reaches the last rank after step `stop_at`.

    bad: what becomes NaN (loss, gradients, weights), on which rank, in which step. no_memory: a module, its function
    that finds no memory, and on which rank. concluded: as a run is, with an average. What it prints is left in the file
    said-<rank>.
    """
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
    weights: dict[str, torch.Tensor] = {}

    def step(*args: Any) -> Any:
        if is_bad("weights"):
            with torch.no_grad():
                sharding.local(args[0].layers[0].mlp.down_proj.weight)[0, 0] = float("nan")
        result, counted["steps"] = original(*args), counted["steps"] + 1
        if counted["steps"] == stop_at and rank == size - 1:  # one rank's signal stops all
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    def is_bad(kind: str) -> bool:
        return bad == (kind, rank, counted["steps"] + 1)

    def loss_function(model: Decoder, compiled: bool) -> Any:
        loss_of = make_loss(model, compiled)

        def planted(*inputs: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = loss_of(*inputs)
            if is_bad("gradients"):  # of a loss that is as it was
                loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss * float("nan") if is_bad("loss") else loss

        return planted

    def lacking(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("planted")

    def conclude(run: Any, epochs: Any) -> None:
        weights.update({name: sharding.whole(p).clone() for name, p in run.model.named_parameters()})

    original, counted, make_loss = train_script.train_step, {"steps": 0}, train_script.loss_function
    with (
        patch.object(train_script, "train_step", step),
        patch.object(train_script, "loss_function", loss_function),
        nullcontext() if concluded else patch.object(train_script, "conclude", conclude),
        patch.object(distributed, "BUCKET_BYTES", 16384),
        patch.object(torch, "compile", partial(torch.compile, backend=compiler) if compiler else torch.compile),
        Path(f"said-{rank}").open("w") as said,
        redirect_stdout(said),
        patch(".".join(no_memory[:2]), lacking) if no_memory and rank == no_memory[2] else nullcontext(),
    ):
        train_script.train(config, plan_only=plan_only)
    return weights


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    group = Ranks(4)
    yield group
    group.kill()


@pytest.fixture
def awkward(config: Config) -> Config:
    """7 rows a step, one a micro-batch; 18 numbers a head and 66 inside are no multiple of 4."""
    model = replace(config.model, hidden_size=36, intermediate_size=66)
    return replace(
        config,
        model=model,
        train=replace(config.train, batch_tokens=48 * 7, micro_batch=1, epochs=1, optimizer="muon", samples=0),
    )


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


def again(config: Config, run: str, **changes: Any) -> Config:
    """The same inputs, and no output, under another name."""
    left_out = shutil.ignore_patterns("ckpt*", "step-*", "*.jsonl", "config.toml")
    shutil.copytree(Path("runs") / config.run, Path("runs") / run, ignore=left_out)
    return replace(config, run=run, train=replace(config.train, **changes))


def curve(run: str) -> list[dict[str, Any]]:
    return read_metrics(Path("runs") / run / "metrics.jsonl", "step")


def assert_same_training(run: str, other: str) -> None:
    """Equal steps, losses, gradient norms, validation and weights, and the same tensors in the folder."""
    one, many = curve(run), curve(other)
    assert len(one) > 5
    assert [(s["step"], s["lr"], s["tokens"]) for s in one] == [(s["step"], s["lr"], s["tokens"]) for s in many]
    for key, tolerance in (("loss", LOSS_TOLERANCE), ("grad_norm", NORM_TOLERANCE)):
        assert [s[key] for s in many] == pytest.approx([s[key] for s in one], abs=tolerance), key
    ends = [read_metrics(Path("runs") / name / "metrics.jsonl", "epoch")[-1] for name in (run, other)]
    assert ends[1]["val_loss"] == pytest.approx(ends[0]["val_loss"], abs=LOSS_TOLERANCE)
    assert ends[1]["val_tokens"] == ends[0]["val_tokens"]
    assert_same_folder(Path("runs") / run / "ckpt1", Path("runs") / other / "ckpt1", WEIGHT_TOLERANCE)


def assert_same_folder(one: Path, many: Path, tolerance: float) -> None:
    assert sorted(p.relative_to(one) for p in one.rglob("*")) == sorted(p.relative_to(many) for p in many.rglob("*"))
    verify(many, to_resume=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (one / name).read_bytes() == (many / name).read_bytes()
    for name in ("model.safetensors", "trainer/optimizer.safetensors"):
        expected, found = load_file(one / name), load_file(many / name)
        assert {k: (v.shape, v.dtype) for k, v in expected.items()} == {k: (v.shape, v.dtype) for k, v in found.items()}
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=tolerance, rtol=1e-3, msg=f"{name} {key}")
    load_for_inference(many)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_many_processes_train_as_one_does(ranks: Ranks, one: Config, parallel: Any, size: int) -> None:
    weights = ranks.train(again(one, "many", parallel=parallel), size)
    assert_same_training("t", "many")
    assert_same_on_all_ranks(weights)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["loss", "gradients"])
def test_a_step_that_is_nan_on_one_rank_only_is_left_out_on_all(
    ranks: Ranks, awkward: Config, parallel: Any, kind: str
) -> None:
    for rank, run in ((0, "first"), (1, "many")):
        weights = ranks.train(again(awkward, run, parallel=parallel), 2, bad=(kind, rank, 4))
    assert_same_training("first", "many")  # left out on whichever rank it was
    assert_same_on_all_ranks(weights)
    assert [s["step"] for s in curve("many") if s.get("left_out")] == [4]
    assert "step 4: the update is left out" in Path("said-0").read_text()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_weights_that_became_nan_on_one_rank_only_are_put_back_on_all(
    ranks: Ranks, awkward: Config, parallel: Any
) -> None:
    weights = ranks.train(again(awkward, "many", parallel=parallel, save_steps=2), 2, bad=("weights", 1, 4))
    assert_same_on_all_ranks(weights)
    assert all(bool(value.isfinite().all()) for value in weights[1].values())
    (back,) = read_metrics(Path("runs/many/metrics.jsonl"), "went_back")
    assert back["to_step"] == (
        2 if parallel == "fsdp" else 4
    )  # rank 0, which saves, has all of them in ddp: sound ones
    assert back["step"] == 3 + IN_A_ROW


@pytest.mark.parametrize(
    ("place", "name", "said"),
    [
        ("training.sharding", "try_whole", "no memory for whole weights on every rank, so it is not validated"),
        ("eval.validation", "document_losses", "no memory to validate it"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_without_memory_for_the_validation_stops_no_other(
    ranks: Ranks, awkward: Config, place: str, name: str, said: str, rank: int
) -> None:
    """Ranks that disagreed would wait for each other until the pool's time is over."""
    weights = ranks.train(again(awkward, "many", parallel="fsdp"), 2, no_memory=(place, name, rank))
    assert_same_on_all_ranks(weights)
    assert said in Path("said-0").read_text()
    assert [e["epoch"] for e in read_metrics(Path("runs/many/metrics.jsonl"), "unvalidated")] == [1]


def test_a_rank_without_memory_for_a_mean_stops_no_other(ranks: Ranks, awkward: Config) -> None:
    config = replace(awkward, train=replace(awkward.train, epochs=4))
    ranks.train(again(config, "many", parallel="fsdp"), 2, no_memory=("training.average", "mean", 1), concluded=True)
    assert "next: python" in Path("said-0").read_text()
    assert not list(Path("runs/many").glob("ckpt*-*"))


def test_adamw_on_four_shards_trains_as_on_one(ranks: Ranks, awkward: Config) -> None:
    awkward = replace(awkward, train=replace(awkward.train, optimizer="adamw"))
    train_script.train(awkward)
    assert_same_on_all_ranks(ranks.train(again(awkward, "many", parallel="fsdp"), 4))
    assert_same_training("t", "many")


def assert_same_on_all_ranks(weights: list[dict[str, torch.Tensor]]) -> None:
    """Bit for bit, and equal to what was saved: else ranks would drift apart."""
    saved = load_for_inference(Path("runs/many/ckpt1"))[0].state_dict()
    for rank, own in enumerate(weights):
        assert own.keys() == saved.keys()
        assert all(torch.equal(own[name], saved[name]) for name in saved), f"rank {rank}"


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
