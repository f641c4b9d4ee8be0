"""A rank that dies takes nothing with it: the others say which it was and leave, and the run goes on."""

import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

import train as train_script
from config import Config
from training.checkpoint import verify
from training.metrics import read_metrics

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_SECONDS = 60.0


@pytest.mark.parametrize("dying", [0, 1])
def test_when_a_rank_dies_the_other_says_which_and_leaves_within_a_minute(config: Config, dying: int) -> None:
    config = replace(config, train=replace(config.train, save_steps=3))
    with config.claimed("train"):
        pass
    script = f"""
        import os, signal, sys, time
        import torch
        torch.set_num_threads(1)
        import train
        taken, step = 0, train.train_step

        def train_step(*args):
            global taken
            taken += 1
            if taken == 8 and os.environ["RANK"] == "{dying}":
                # Checkpoints are written behind the training: on a busy machine that of step 6 is not there yet.
                for _ in range(600):
                    if os.path.exists("runs/{config.run}/step-000006/loam.json"):
                        break
                    time.sleep(0.1)
                open("died", "w").write(str(time.time()))
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args)

        train.train_step = train_step
        sys.argv = ["train.py", "--run", "{config.run}", "--save_steps", "3"]
        try:
            train.run_command(train.main)
        finally:
            open("left-" + os.environ["RANK"], "w").write(str(time.time()))
    """
    Path("rank.py").write_text(textwrap.dedent(script))
    # Not torchrun, which would end the other rank by itself: each process is left to find out.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "RANK": str(rank),
                       "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2",
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        ranks.append(subprocess.Popen([sys.executable, "rank.py"], env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=240)[1] for process in ranks]
    other = 1 - dying
    assert ranks[dying].returncode == -9
    assert ranks[other].returncode == 2, said[other][-2000:]
    assert f"rank {dying} (process {ranks[dying].pid} on " in said[other].splitlines()[-1]
    assert "Traceback" not in said[other]
    took = float(Path(f"left-{other}").read_text()) - float(Path("died").read_text())
    assert 0 < took < MOST_SECONDS
    assert verify(Path("runs/t/step-000006"), to_resume=True)["step"] == 6
    train_script.train(config)  # by one process: the same batches, to rounding the same curve
    steps = read_metrics(Path("runs/t/metrics.jsonl"), "step")
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
