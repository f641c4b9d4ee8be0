"""Going on with a run: the state of its newest sound checkpoint, and where its log is cut.

In: the checkpoint that was chosen, and what this start was made with. Out: the state to go on from, or a refusal that
says what differs. Weights, optimizers and random numbers are put back by training/checkpoint.py.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.runs import checkpoints
from training import distributed
from training.distributed import World
from training.metrics import event_in

Found = tuple[Path, dict[str, Any]]  # a checkpoint and its trainer's state


def state_of(found: Found, made_with: dict[str, Any], world: World, accepted: Collection[str]) -> dict[str, Any]:
    """The state that a checkpoint leads to.

    made_with: "inputs" (fingerprints, which must be the checkpoint's or be `accepted` by name) and "machine" (what
    makes the result agree bit for bit; a difference is a warning).
    """
    path, stored = found
    state = {**beginning(made_with), **stored, **made_with}
    for name, value in made_with["inputs"].items():
        if stored["inputs"][name] == value:
            continue
        change = f"{path} was trained on another {name} ({stored['inputs'][name][:12]}, now {value[:12]})"
        if name not in accepted:
            hint = ", or accept it with --change corpus" if name == "corpus" else ""
            raise UserError(f"{change}: its run cannot go on; start another with --run{hint}")
        if world.is_main:
            print(f"warning: {change}, as accepted: the epoch that it stands in begins again")
        # Places in the old data mean nothing in the new one; the epoch before is not to be judged by these weights.
        began_again = state["cursor"]["step"] > 0
        state.update(cursor={**state["cursor"], "step": 0}, nats=0.0, weight=0.0, left_out=[], passed_over=[],
                     began_again=began_again)  # fmt: skip
    return state


def tell_continued(found: Found, made_with: dict[str, Any], world: World) -> None:
    """Say where the run goes on, and what is not as it was."""
    path, state = found
    if world.is_main:
        print(f"continuing from {path}: {state['step']:,} steps and {state['cursor']['epoch']} whole epochs are done")
        changes = [f"{k} {state['machine'].get(k)} -> {v}" for k, v in made_with["machine"].items()
                   if state["machine"].get(k) != v]  # fmt: skip
        if changes:
            print(f"warning: {', '.join(changes)}: the result will agree to rounding, not bit for bit")


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


def check_resume(folder: Path) -> None:
    """UserError for --resume where there is no checkpoint; the folder may be missing, and is not made."""
    if not folder.is_dir() or not checkpoints(folder):
        raise UserError(f"--resume: {folder} holds no checkpoint to continue from; leave the flag out to start")


def refuse_to_overwrite(folder: Path) -> None:
    """UserError where there are checkpoints, and none to go on from."""
    if there := checkpoints(folder):
        raise UserError(
            f"{folder} holds {', '.join(path.name for path in there)}, and none of them can be continued from "
            "(damaged, or without trainer/): nothing is overwritten, start another run with --run"
        )


def cut_back(metrics: Path, state: dict[str, Any], world: World) -> bool:
    """Set where the log is cut: at what the checkpoint had seen, and the validation of the epoch that it closes.

    Returns whether that validation is in the log; if not, it is to be done again. Rank 0 looks, all know.
    """
    state["metrics_bytes"], validated = distributed.from_main(world, lambda: _place_to_cut(metrics, state))
    return validated


def _place_to_cut(metrics: Path, state: dict[str, Any]) -> tuple[int, bool]:
    content = metrics.read_bytes() if metrics.exists() else b""
    kept = state["metrics_bytes"]
    if len(content) < kept:
        print(f"warning: {metrics} is shorter than when the checkpoint was saved: earlier steps are missing from it")
        kept = content.rfind(b"\n") + 1  # not inside a line: the next event would be glued to it
    if state.pop("began_again", False):
        return kept, True
    line = content[kept:].split(b"\n", 1)
    event = event_in(line[0]) if len(line) == 2 else None
    if state["cursor"]["step"] > 0 or event is None or event["event"] != "epoch":
        return kept, False
    return kept + len(line[0]) + 1, True
