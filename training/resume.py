"""Going on with a run: the state of its newest sound checkpoint, and where its log is cut.

In: the checkpoint that was chosen, what this start was made with, model and optimizers. Out: the state to go on from,
with weights, optimizers and random numbers put back bit for bit; or a refusal that says what differs.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.runs import checkpoints
from model.decoder import Decoder
from training.checkpoint import restore
from training.distributed import World

Found = tuple[Path, dict[str, Any]]  # a checkpoint and its trainer's state


def starting_state(
    folder: Path,
    found: Found | None,
    made_with: dict[str, Any],
    world: World,
    model: Decoder,
    optimizers: list[torch.optim.Optimizer],
    resume: bool = False,
    accepted: Collection[str] = (),
) -> dict[str, Any]:
    """State of the checkpoint that was found, put into model and optimizers; or the state before the first step.

    made_with: "inputs" (fingerprints, which must be the checkpoint's or be `accepted` by name) and "machine" (what
    makes the result agree bit for bit; a difference is a warning). resume: nothing to go on from is an error.
    """
    if found is None:
        _refuse_to_overwrite(folder, resume)
        return beginning(made_with)
    path, state = found
    for name, value in made_with["inputs"].items():
        if state["inputs"][name] == value:
            continue
        change = f"{path} was trained on another {name} ({state['inputs'][name][:12]}, now {value[:12]})"
        if name not in accepted:
            hint = f", or accept it with --change {name}" if name == "corpus" else ""
            raise UserError(f"{change}: its run cannot go on; start another with --run{hint}")
        if world.is_main:
            print(f"warning: {change}, as accepted: the epoch that it stands in begins again")
        state["cursor"]["step"] = 0
    restore(path, model, optimizers)
    if world.is_main:
        print(f"continuing from {path}: {state['step']:,} steps and {state['cursor']['epoch']} whole epochs are done")
        changes = [f"{k} {state['machine'].get(k)} -> {v}" for k, v in made_with["machine"].items()
                   if state["machine"].get(k) != v]  # fmt: skip
        if changes:
            print(f"warning: {', '.join(changes)}: the result will agree to rounding, not bit for bit")
    state.update(made_with)
    return state


def beginning(made_with: dict[str, Any]) -> dict[str, Any]:
    """The state before the first step.

    cursor: steps of the epoch that are done; nats, weight: of the epoch's losses so far; recent, left_out, passed_over,
    went_back: see training/trouble.py, places in the data as [epoch, step of it counted from 1].
    """
    return {
        "step": 0,
        "cursor": {"epoch": 0, "step": 0},
        "nats": 0.0,
        "weight": 0.0,
        "tokens": 0,
        "seconds": 0.0,
        "metrics_bytes": 0,
        "recent": None,
        "left_out": [],
        "passed_over": [],
        "went_back": 0,
        **made_with,
    }


def _refuse_to_overwrite(folder: Path, resume: bool) -> None:
    if there := checkpoints(folder):
        raise UserError(
            f"{folder} holds {', '.join(path.name for path in there)}, and none of them can be continued from "
            "(damaged, or without trainer/): nothing is overwritten, start another run with --run"
        )
    if resume:
        raise UserError(f"--resume: {folder} holds no checkpoint to continue from; leave the flag out to start")


def cut_back(metrics: Path, state: dict[str, Any], world: World) -> bool:
    """Set where the log is cut: at what the checkpoint had seen, and the validation of the epoch that it closes.

    Returns whether that validation is in the log; if not, it is to be done again.
    """
    content = metrics.read_bytes() if metrics.exists() else b""
    if len(content) < state["metrics_bytes"]:
        if world.is_main:
            print(
                f"warning: {metrics} is shorter than when the checkpoint was saved: earlier steps are missing from it"
            )
        state["metrics_bytes"] = len(content)
    line = content[state["metrics_bytes"] :].split(b"\n", 1)
    if state["cursor"]["step"] > 0 or len(line) < 2 or json.loads(line[0])["event"] != "epoch":
        return False
    state["metrics_bytes"] += len(line[0]) + 1
    return True
