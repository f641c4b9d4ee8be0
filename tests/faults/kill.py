"""Runs that are killed with SIGKILL at random moments and started again, until they are done.

In: a run whose inputs are there, and a seed. Out: for each kill the phase that it hit, and whether the run that was
killed ended like the one that nobody disturbed: the same bytes of model.safetensors, each step once in metrics.jsonl
with the same loss, the same validation. Each attempt is a process of its own, forked from one that has imported torch.
"""

import json
import mmap
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from config import Config

PHASES = ("loading", "step", "accumulation", "validation", "saving", "between")
LOADING, STEP, ACCUMULATION, VALIDATION, SAVING, BETWEEN = range(6)
# Places in the shared page: phase of each thread; monotonic nanoseconds of the first step, of the save's begin.
MAIN, WRITER, STARTED, SAVE_BEGUN = 0, 1, 8, 16
REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST = 120.0  # seconds that an attempt may take, hanging or not
KILLS = (1, 4)  # of one run: at least and at most
INTO_SAVES = 0.3  # share of the kills that wait for the next save, and for a random while in it
SAVE_SECONDS = 0.03  # at most this while


@dataclass
class Campaign:
    """What was done, and what went wrong."""

    runs: int = 0
    kills: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    bytes_compared: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Campaign") -> None:
        """Count another one's with these."""
        self.runs, self.kills = self.runs + other.runs, self.kills + other.kills
        self.bytes_compared += other.bytes_compared
        self.phases.update(other.phases)
        self.failures += other.failures

    def lines(self) -> list[str]:
        """The report."""
        shares = ", ".join(f"{self.phases[name]} {name}" for name in PHASES)
        return [
            f"{self.runs} runs, {self.kills} kills ({shares})",
            f"{self.bytes_compared:,} bytes compared, {len(self.failures)} runs ended differently",
            *self.failures,
        ]


@dataclass(frozen=True)
class Aim:
    """When to kill."""

    after: float | None  # seconds from the first step on; None: never
    from_start: bool = False  # ... from the process's start on
    into_save: float | None = None  # then as soon as a checkpoint has been written for so many seconds


def campaign(
    config: Config, kills: int, seed: int, say: Callable[[str], None] = lambda line: None, ranks: int = 1
) -> Campaign:
    """Kill copies of a run at least so many times in all, each time all of its ranks. The run's own folder stays as it
    is."""
    draw, found = random.Random(seed), Campaign()
    whole = replace(config, run="undisturbed")
    _copy_inputs(config, whole)
    duration = _attempt(whole, Aim(None), ranks)
    assert duration is not None, "the run that nobody disturbs did not end"
    expected = outcome(whole)
    while found.kills < kills:
        run = replace(config, run=f"killed-{found.runs}")
        _copy_inputs(config, run)
        left = draw.randint(*KILLS)
        done = False
        while not done:
            after = draw.uniform(0, duration) if left > 0 else None
            aim = Aim(after, draw.random() < 0.2, draw.uniform(0, SAVE_SECONDS) if draw.random() < INTO_SAVES else None)
            done = _attempt(run, aim, ranks, found.phases) is not None
            if not done:
                left, found.kills = left - 1, found.kills + 1
        found.runs += 1
        ended = outcome(run)
        found.bytes_compared += len(ended["weights"])
        different = [name for name in expected if ended[name] != expected[name]]
        if different:
            found.failures.append(f"seed {seed}, {run.run}: {', '.join(different)} differ")
        else:
            shutil.rmtree(Path("runs") / run.run)
        say(f"{found.kills} of {kills} kills, {len(found.failures)} different")
    return found


def outcome(config: Config) -> dict[str, Any]:
    """What two runs must agree on: the last weights, steps, epochs."""
    folder = Path("runs") / config.run
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": (folder / f"ckpt{config.train.epochs}" / "model.safetensors").read_bytes(),
        "steps": [(e["step"], e["loss"], e["grad_norm"], e["lr"]) for e in events if e["event"] == "step"],
        "epochs": [(e["epoch"], e["train_loss"], e["val_loss"]) for e in events if e["event"] == "epoch"],
        "checkpoints": sorted(path.name for path in folder.glob("ckpt*")),
    }


def _copy_inputs(config: Config, other: Config) -> None:
    for name in ("corpus", "tokenizer", "tokens"):
        if (Path("runs") / config.run / name).exists():
            shutil.copytree(Path("runs") / config.run / name, Path("runs") / other.run / name)


def _attempt(config: Config, aim: Aim, ranks: int, phases: Counter[str] | None = None) -> float | None:
    """Start or continue a run, and kill it as aimed at. Returns the seconds from the first step to the end; None if it
    was killed."""
    page = Path(f"{config.run}.page")
    page.write_bytes(b"\0" * mmap.PAGESIZE)
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # for the server's imports
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.kill", "train"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=life, args=(config, str(Path.cwd()), str(page), rank, ranks, port))
        for rank in range(ranks)
    ]
    with page.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        for process in processes:
            process.start()
        begun = time.monotonic()
        killed = False
        while any(process.is_alive() for process in processes) and not killed:
            now = time.monotonic()
            killed = now - begun > LONGEST or _is_time(aim, shared, now, begun)
            if not killed:
                processes[0].join(0.0005)
        if killed and all(process.is_alive() for process in processes) and any([*map(_kill, processes)]):
            for process in processes:
                process.join()
            assert time.monotonic() - begun < LONGEST, f"{config.run} hangs"
            if phases is not None:
                writing = shared[WRITER] == SAVING or shared[MAIN] == SAVING
                phases[PHASES[SAVING if writing else shared[MAIN]]] += 1
            return None
        ended = time.monotonic()
        for rank, process in enumerate(processes):
            process.join()
            _must_have_ended_well(process, config, rank)
        return ended - (read_time(shared, STARTED) or ended)


def _kill(process: BaseProcess) -> bool:
    """False: it has ended by itself meanwhile."""
    assert process.pid is not None
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _is_time(aim: Aim, shared: mmap.mmap, now: float, begun: float) -> bool:
    since = begun if aim.from_start else read_time(shared, STARTED)
    if aim.after is None or not since or now - since < aim.after:
        return False
    saving = read_time(shared, SAVE_BEGUN)
    return aim.into_save is None or (shared[WRITER] == SAVING and now - saving >= aim.into_save)


def _must_have_ended_well(process: BaseProcess, config: Config, rank: int) -> None:
    said = Path(f"{config.run}.said-{rank}")
    assert process.exitcode == 0, f"{config.run} ended with {process.exitcode}: {said.read_text()[-2000:]}"


def read_time(shared: mmap.mmap, place: int) -> float:
    return int.from_bytes(shared[place : place + 8], "little") / 1e9


def _note_time(shared: mmap.mmap, place: int) -> None:
    shared[place : place + 8] = time.monotonic_ns().to_bytes(8, "little")


def life(config: Config, folder: str, page: str, rank: int, ranks: int, port: int, threads: int = 1) -> None:
    """One rank's part of a run: trains; rank 0 marks what it is doing in the shared page."""
    import torch

    import train as train_script
    from eval import epoch as epoch_end
    from training import run as run_module

    os.chdir(folder)
    if ranks > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
    said = os.open(f"{config.run}.said-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    torch.set_num_threads(threads)
    with open(page, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE if rank == 0 else mmap.ACCESS_COPY)

    def marked(module: Any, name: str, phase: int, place: int = MAIN) -> None:
        original = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before, shared[place] = shared[place], phase
            if place == WRITER:
                _note_time(shared, SAVE_BEGUN)
            try:
                return original(*args, **kwargs)
            finally:
                shared[place] = before

        setattr(module, name, wrapped)

    marked(run_module, "write_checkpoint", SAVING, WRITER)
    marked(run_module, "prune", SAVING, WRITER)
    marked(run_module, "snapshot", SAVING)
    marked(epoch_end, "update_metrics", SAVING)
    marked(epoch_end, "validate", VALIDATION)
    marked(epoch_end, "say_samples", VALIDATION)
    step = train_script.train_step

    def train_step(model: Any, optimizers: Any, loss_of: Any, batch: Any, *rest: Any) -> Any:
        asked = 0

        def counted(*inputs: Any) -> Any:
            nonlocal asked
            asked += 1
            shared[MAIN] = STEP if asked == 1 else ACCUMULATION
            return loss_of(*inputs)

        shared[MAIN] = STEP
        result = step(model, optimizers, counted, batch, *rest)
        shared[MAIN] = BETWEEN
        if not read_time(shared, STARTED):
            _note_time(shared, STARTED)
        return result

    train_script.train_step = train_step  # type: ignore[assignment]
    train_script.train(config)
