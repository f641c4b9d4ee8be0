"""Training by several processes on this machine, which talk through gloo, and what their runs are held to.

In: a config, the number of ranks, and what becomes of one of them (NaN, no memory, a signal). Out: each rank's whole
weights, the run's folder, and what each printed.
"""

import os
import shutil
import signal
import socket
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import train as train_script
from config import Config
from model.decoder import Decoder
from training import distributed, sharding
from training.checkpoint import load_for_inference, verify
from training.metrics import read_metrics

# Sums in another order differ in the last bits of fp32. Seen over 18 steps: losses (6 to 3) by 1.0e-6 at most, gradient
# norms (about 2) by 1.2e-5, weights and optimizer state by 3.4e-6. Ten times that is allowed.
LOSS_TOLERANCE = 1e-5
NORM_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 3e-5


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
            for job in as_completed(jobs, timeout=180):
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
    failing: tuple[str, str, int] | None = None,
    error: Exception | None = None,
    concluded: bool = False,
) -> dict[str, torch.Tensor]:
    """One rank's part of a run, as torchrun would start it; a signal reaches the last rank after step `stop_at`.

    bad: what becomes NaN (loss, gradients, weights), on which rank, in which step. failing: a module, its function
    that raises `error` (none: it finds no memory), and on which rank. concluded: as a run is, with an average. What it
    prints is left in the file said-<rank>.
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

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error or torch.OutOfMemoryError("planted")

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
        patch(".".join(failing[:2]), fail) if failing and rank == failing[2] else nullcontext(),
    ):
        train_script.train(config, plan_only=plan_only)
    return weights


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


def assert_same_on_all_ranks(weights: list[dict[str, torch.Tensor]]) -> None:
    """Bit for bit, and equal to what was saved: else ranks would drift apart."""
    saved = load_for_inference(Path("runs/many/ckpt1"))[0].state_dict()
    for rank, own in enumerate(weights):
        assert own.keys() == saved.keys()
        assert all(torch.equal(own[name], saved[name]) for name in saved), f"rank {rank}"
