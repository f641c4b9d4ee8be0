"""A run in progress: what its parts need, its log, its checkpoints, and its way back out of trouble.

In: the parts that `train.py` puts together. Out: steps in metrics.jsonl, checkpoints in the run's folder, or a run that
stands where its newest sound checkpoint did. What all ranks must call together says so.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from common.errors import UserError
from common.files import write_json
from data.loader import epoch_plan
from data.tokens import Tokens
from model.config import Shape
from model.decoder import Decoder
from tokenizer.dialog import Dialog
from training import distributed
from training.build import make_model
from training.checkpoint import newest_resumable, prune, restore
from training.distributed import World
from training.metrics import MetricsLog
from training.plan import RunPlan
from training.resume import beginning, cut_back, state_of
from training.save import Saver, TokenizerFiles, snapshot, write_checkpoint
from training.sharding import local
from training.signals import Stopped, StopRequest
from training.start import Start
from training.trouble import GO_BACKS, IN_A_ROW, SLOWER, Recent, documents_of, gave_up

if TYPE_CHECKING:
    from config import Config


@dataclass
class Run:
    """What every part of a run's story needs."""

    config: "Config"
    world: World
    folder: Path
    dialog: Dialog
    tokenizer_files: TokenizerFiles  # that go into each checkpoint
    start: Start | None  # what the run begins with, where that is not nothing
    shape: Shape  # its seq_len is that of the rows
    plan: RunPlan
    train: Tokens
    val: Tokens
    model: Decoder
    optimizers: list[torch.optim.Optimizer]
    log: MetricsLog
    provenance: dict[str, Any]
    state: dict[str, Any]
    validated: bool  # the epoch that the state ends with is in the log already
    sync: distributed.GradientSync
    recent: Recent
    saved_step: int  # of the newest checkpoint, written or being written: nothing to save where it is the state's
    safe_step: int  # of the newest that is on disk: nothing to lose where it is the state's
    saver: Saver = field(default_factory=Saver)
    stop: StopRequest = field(default_factory=StopRequest)

    def leave_if_stopped(self) -> None:
        """Raise `Stopped` on all ranks if a signal came to one. All must ask."""
        if distributed.any_rank(self.stop.wanted()):
            raise Stopped

    def say(self, line: str) -> None:
        """Print once, above the progress bar."""
        if self.world.is_main:
            tqdm.write(line)


def write_steps(
    run: Run, pending: list[tuple[dict[str, Any], tuple[torch.Tensor, ...]]], seconds: float, bar: tqdm
) -> bool:
    """Read the waiting losses from the device and log them. True: too many updates in a row were left out."""
    if not pending:
        return False
    scalars = torch.stack([torch.stack([each.float() for each in taken]) for _, taken in pending]).tolist()
    rate = sum(event["targets"] for event, _ in pending) / max(seconds, 1e-9)
    for (event, _), (loss, norm, left_out) in zip(pending, scalars, strict=True):
        weight, cursor = event.pop("weight"), event.pop("cursor")
        if left_out:
            run.state["left_out"].append([cursor["epoch"], cursor["step"]])
            run.say(f"step {event['step']:,}: the update is left out (loss {loss:.3g}, gradient norm {norm:.3g})")
            event = {**event, "left_out": True}
        elif weight > 0:
            run.state["left_out"] = []
            run.state["nats"] += loss * weight
            run.state["weight"] += weight
        told = {"loss": loss, "grad_norm": norm} if weight > 0 else {"loss": math.nan, "grad_norm": math.nan}
        known = {name: value if math.isfinite(value) else None for name, value in told.items()}
        run.log.write("step", **event, **known, tokens_per_s=round(rate, 1))
        if len(run.state["left_out"]) >= IN_A_ROW:
            return True
    bar.set_postfix_str(f"epoch {event['epoch']} loss {loss:.3f} {rate:,.0f} tok/s", refresh=False)
    return False


def save(run: Run, name: str, in_background: bool = False) -> None:
    """Write a checkpoint (rank 0) unless there is one of this step; the other ranks hand in their shards.

    In the background: training waits only for a copy, and a save that fails is a warning, as another one will come.
    Else all ranks wait until it is on disk, and a failure ends the run.
    """
    if distributed.any_rank(not settle(run)):
        run.saved_step = -1
    if run.state["step"] == run.saved_step:
        return
    if not in_background and not finite(run):
        run.say(f"step {run.state['step']:,} is not saved: its weights are not finite")
        return
    try:
        metrics_bytes = distributed.from_main(run.world, run.log.sync)
    except UserError as error:  # a disk that is full, on all ranks alike
        if not in_background:
            raise
        run.say(f"warning: no checkpoint inside the epoch is saved: {error}")
        return
    run.state.update(metrics_bytes=metrics_bytes, recent=run.recent.state())
    where = {"epoch": run.state["cursor"]["epoch"], "step": run.state["step"], "tokens": run.state["tokens"]}
    path, state = run.folder / name, json.dumps(run.state)
    memory = run.saver.taken if in_background else None
    taken = snapshot(run.model, run.optimizers, run.world.is_main, copy=in_background, into=memory)

    def write() -> None:
        assert taken is not None
        if in_background and not taken.is_finite():  # else the ranks have looked, above
            raise UserError(f"{path}: its weights are not finite")
        write_checkpoint(path, taken, run.tokenizer_files, state, {**run.provenance, **where})
        run.saver.sound.add(path)
        try:
            prune(run.folder, run.saver.sound)
        except OSError as error:
            print(f"warning: {run.folder}: an old checkpoint could not be removed: {error}")

    if in_background:
        if taken is not None:
            run.saver.start(write, taken)
    else:
        distributed.on_main(run.world, write)
        run.safe_step = run.state["step"]
    run.saved_step = run.state["step"]


def finite(run: Run) -> bool:
    """Whether all weights are, on all ranks."""
    return not distributed.any_rank(not all(bool(local(p).isfinite().all()) for p in run.model.parameters()))


def settle(run: Run) -> bool:
    """Wait until nothing is being written in the background; say what failed there. False: something did."""
    try:
        run.saver.wait()
    except UserError as error:
        run.say(f"warning: a checkpoint inside the epoch was not saved: {error}")
        return False
    return True


def go_back(run: Run, epoch: int) -> None:
    """Put the run into the state of its newest sound checkpoint, or of its beginning; the data of the steps that were
    left out is passed over and the rate is lowered. UserError, which names documents, when that was done too often."""
    before, times = run.state, run.state["went_back"] + 1
    settle(run)
    if times > GO_BACKS:
        raise give_up(run, epoch)
    found = distributed.from_main(
        run.world, lambda: newest_resumable(run.folder, run.config.train.verify, run.saver.sound)
    )
    made_with = {name: before[name] for name in ("inputs", "machine")}
    if found is None:
        fresh, _ = make_model(run.config.train, run.plan, run.shape, run.world, run.start)
        run.model.load_state_dict(fresh.state_dict())
        for optimizer in run.optimizers:
            optimizer.state.clear()
        run.state = beginning(made_with)
    else:
        distributed.on_all(run.world, lambda: restore(found[0], run.model, run.optimizers))
        run.state = state_of(found, made_with, run.world, accepted=made_with["inputs"])
    run.state.update(went_back=times, passed_over=before["passed_over"] + before["left_out"], left_out=[])
    run.recent = Recent(run.world.device, run.state["recent"])
    distributed.on_main(run.world, run.log.sync)
    run.validated = cut_back(run.folder / "metrics.jsonl", run.state, run.world)
    run.log.cut(run.state["metrics_bytes"])
    run.log.write("went_back", step=before["step"], to_step=run.state["step"], passed_over=before["left_out"])
    run.saved_step = run.safe_step = run.state["step"]
    number = len(before["left_out"])
    why = f"{number} updates in a row were left out" if number >= IN_A_ROW else "weights are not finite"
    run.say(
        f"{why}: going back to {found[0] if found else 'the beginning'} (step {run.state['step']:,}), passing over the "
        f"data of {number} steps, at {SLOWER**times:g} times the learning rate"
    )


def give_up(run: Run, epoch: int) -> UserError:
    """The error that ends a run which went back too often; the documents of its last step are in trouble.json."""
    rows = epoch_plan(run.train, run.shape.seq_len, run.config.train.seed, epoch, run.plan.weights)
    last = run.state["left_out"][-1][1] if run.state["left_out"] else run.state["cursor"]["step"]  # counted from 1
    size = run.plan.rows_per_step
    documents = documents_of(rows, run.train, np.arange((last - 1) * size, min(last * size, len(rows))))
    report = run.folder / "trouble.json"
    if run.world.is_main:
        write_json(report, {"step": run.state["step"], "left_out": run.state["left_out"], "documents": documents})
    return gave_up(run.state["step"], str(report), documents)
