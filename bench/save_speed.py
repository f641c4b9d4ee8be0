"""How long a step waits for a checkpoint: one that is written while it waits, against one that a thread writes.

    python bench/save_speed.py --preset seed-126m --json bench/results/save-speed-seed-126m.json

Blocking: all files written, hashed, flushed to disk and renamed, as at the end of an epoch. In the background: the copy
of weights, optimizer and random numbers that training waits for, into the memory of the copy before; and, apart, how
long the thread writes. In turns; medians are reported. The disk is that of the temporary folder (TMPDIR).
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()


import torch

from bench.machine import facts, tell
from common.errors import run_command
from config import load_command
from model.config import count_parameters, resolve_shape
from model.decoder import Decoder
from training.config import TrainConfig
from training.optimizer import make_optimizers
from training.save import Saver, TokenizerFiles, snapshot, write_checkpoint


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        preset: model shape
        turns: of each side
        json: file to write the results to
    """

    preset: str = "seed-126m"
    turns: int = 5
    json: str | None = None


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, options=Options)
    options: Options = config.args.options
    shape = resolve_shape(replace(config.model, preset=options.preset), 16384)
    torch.manual_seed(0)
    model = Decoder(shape)
    optimizers = make_optimizers(model, TrainConfig(), 1e-2, 1e-2, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = TokenizerFiles({"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"})
        turns = [measure(model, optimizers, Path(folder), tokenizer, Saver()) for _ in range(options.turns)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    result = {
        **facts(),
        "preset": options.preset,
        "parameters": count_parameters(shape),
        "vocab_size": shape.vocab_size,
        **{name: round(value, 4) for name, value in medians.items()},
        "share_of_blocking": round(medians["waits_seconds"] / medians["blocking_seconds"], 4),
    }
    told = (
        f"{options.preset}, {result['parameters']:,} parameters, {medians['bytes'] / 1e6:,.0f} MB: a step waits "
        f"{medians['waits_seconds']:.3f} s for a copy ({result['share_of_blocking']:.1%} of the "
        f"{medians['blocking_seconds']:.2f} s that a save takes), a thread writes for {medians['writes_seconds']:.2f} s"
    )
    tell(result, [told], options.json)


def measure(
    model: Decoder, optimizers: list[torch.optim.Optimizer], folder: Path, tokenizer: TokenizerFiles, saver: Saver
) -> dict[str, float]:
    """Seconds of one blocking save, of the second copy, and of its writing."""
    meta: dict[str, Any] = {"corpus": "", "tokenizer": "", "epoch": 0, "step": 0}
    state = json.dumps({"step": 0})
    began = time.perf_counter()
    taken = snapshot(model, optimizers, copy=False)
    assert taken is not None
    write_checkpoint(folder / "blocking", taken, tokenizer, state, meta)
    blocking = time.perf_counter() - began
    memory = snapshot(model, optimizers)
    began = time.perf_counter()
    copied = snapshot(model, optimizers, into=memory)
    assert copied is not None
    saver.start(lambda: write_checkpoint(folder / "background", copied, tokenizer, state, meta), copied)
    waits = time.perf_counter() - began
    saver.wait()
    writes = time.perf_counter() - began - waits
    size = sum(file.stat().st_size for file in (folder / "background").rglob("*") if file.is_file())
    for name in ("blocking", "background"):
        shutil.rmtree(folder / name)
    return {"blocking_seconds": blocking, "waits_seconds": waits, "writes_seconds": writes, "bytes": float(size)}


if __name__ == "__main__":
    run_command(main)
