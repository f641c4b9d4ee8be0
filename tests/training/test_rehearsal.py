"""Memory that does not suffice is found before the run, and leaves no trace where it does."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train as train_script
from config import Config
from training.rehearsal import rehearse

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_batch_that_does_not_fit_is_one_line_before_the_first_step(config: Config) -> None:
    """The limit is real: this process may take 400 MB more than it has, and the batch takes gigabytes."""
    config = replace(config, train=replace(config.train, micro_batch=8))
    with config.claimed("train"):
        pass
    script = f"""
        import dataclasses, resource, sys
        import torch
        from training import plan, run
        import train
        plan.free_memory = lambda device: 1 << 50  # the estimate alone would have refused it
        opened = train.open_run

        def open_run(*args):
            run = opened(*args)
            run.plan = dataclasses.replace(run.plan, micro_batch=4096)  # more than the epoch has rows
            has = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + 400_000_000, resource.RLIM_INFINITY))
            return run

        train.open_run = open_run
        sys.argv = ["train.py", "--run", "{config.run}", "--model.seq_len", "48", "--samples", "0"]
        torch.set_num_threads(1)
        train.run_command(train.main)
    """
    Path("limited.py").write_text(textwrap.dedent(script))
    done = subprocess.run([sys.executable, "limited.py"], capture_output=True, text=True, timeout=120,
                          env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "OMP_NUM_THREADS": "1"})  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr[-2000:]
    assert "does not fit into this machine's memory; nothing was trained. Try --micro_batch" in last
    assert not list(Path("runs/t").glob("ckpt*"))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_rehearsal_changes_nothing(config: Config, monkeypatch: pytest.MonkeyPatch, dropout: float) -> None:
    config = replace(config, model=replace(config.model, dropout=dropout), train=replace(config.train, epochs=1))
    seen: list[int] = []

    def checked(settings: Any, plan: Any, model: Any, optimizers: Any, loss_of: Any, sync: Any) -> None:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        random = torch.get_rng_state()
        rehearse(settings, plan, model, optimizers, loss_of, sync)
        assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
        assert not any(optimizer.state for optimizer in optimizers)
        assert torch.equal(torch.get_rng_state(), random)
        seen.append(1)

    monkeypatch.setattr(train_script, "rehearse", checked)
    train_script.train(config)
    assert seen == [1]
