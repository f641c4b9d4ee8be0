"""How fast training is, against the machine's own matrix rate and against the `transformers` Trainer.

    python bench/train_speed.py --shape small --json bench/results/small.json

Every contender trains the same shape on the same documents, in a process of its own; they take turns, so that what else
the machine does hits all of them. Counted are positions, and apart from them *useful* tokens: positions with a target.
FLOPs are those of the useful tokens: 6 x multiplying parameters, and the pairs of attention inside documents.

The corpus is the embedded one, or that of --run or --config. "trainer padded" is fed a document a row, padded to the
context; "trainer packed" rows cut from all documents in a line. Needs `pip install -e '.[bench]'` for the Trainer.
"""

import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # contenders wait for their turn without taking the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from bench.contenders import Task, serve
from bench.machine import facts, matrix_rates, tell
from common.errors import UserError, run_command
from common.runs import run_folder
from config import Config, load_command
from data.loader import epoch_plan
from model.config import PRESETS, Shape, count_parameters, flops_per_token
from tokenizer.bpe import load_tokenizer
from tokenizer.encode import build_store
from train import make_inputs
from training.plan import attended, choose_precision

VOCABULARY = 8192  # most tokens of the benchmark's own tokenizer: it is trained on 2.5 MB
CPU_POSITIONS, CUDA_POSITIONS = 4096, 65536  # a step, by default


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        shape: a preset of model/config.py
        precision: auto takes bf16 where the hardware is fast at it
        positions: of a step, in whole rows; by default 4,096 on a CPU, 65,536 on CUDA
        steps: of a contender's turn
        turns: of each contender; the first, which warms up, is not counted
        compiled: also measure both sides under torch.compile
        trainer: also measure the transformers Trainer
        optimizer: of loam; adamw is what the Trainer has, muon is what a run has by default
        json: file to write the results to
    """

    shape: str = "small"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    positions: int | None = None
    steps: int = 4
    turns: int = 6
    compiled: bool = True
    trainer: bool = True
    optimizer: Literal["muon", "adamw"] = "adamw"
    json: str | None = None


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, options=Options)
    options: Options = config.args.options
    if options.shape not in PRESETS:
        raise UserError(f"--shape {options.shape}: choose one of {', '.join(PRESETS)}")
    if options.turns < 2 or options.steps < 1:
        raise UserError("--turns must be 2 or more and --steps 1 or more")
    if options.trainer and not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")):
        raise UserError("the Trainer needs: pip install -e '.[bench]'; without it: --trainer false")
    result = measure(config, options)
    tell(result, table(result), options.json)


def measure(config: Config, options: Options) -> dict[str, Any]:
    """Everything that the table and the JSON file hold."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape, run = inputs(config, options)
    precision, _ = choose_precision(options.precision, device)
    positions = options.positions or (CUDA_POSITIONS if device.type == "cuda" else CPU_POSITIONS)
    task = Task(run, shape, max(1, positions // shape.seq_len), precision, device.type, options.optimizer)
    names = ["loam"] + (["trainer padded", "trainer packed"] if options.trainer else [])
    names += [f"{name} compiled" for name in names] if options.compiled else []

    tokens = build_store(run / "corpus", "train", run / "tokenizer", run / "tokens", quiet=True)
    keys = attended(epoch_plan(tokens, shape.seq_len, 0, 0))
    flops = flops_per_token(shape, keys)
    rates = {name: matrix_rates(device, getattr(torch, name)) for name in ("bfloat16", "float32")}
    rate = max(rates["bfloat16" if precision == "bf16" else "float32"].values())

    measured = take_turns(names, task, options)
    rows = [summary(name, turns, task, flops, rate) for name, turns in measured.items()]
    best = max(
        (name for name in names if name.startswith("loam")), key=lambda name: by_name(rows, name)["useful_tokens_per_s"]
    )
    ratios = {name: ratio(measured, name) for name in names if name.startswith("trainer")}
    return {
        **facts(),
        "shape": options.shape,
        "parameters": count_parameters(shape),
        "precision": precision,
        "optimizer": options.optimizer,
        "positions_a_step": task.rows * shape.seq_len,
        "documents": {"number": len(tokens), "mean_tokens": float(tokens.lengths.mean()), "attended": keys},
        "flops_per_token": flops,
        "matrix_rates": {name: {str(n): r for n, r in found.items()} for name, found in rates.items()},
        "contenders": rows,
        "share_of_matrix_rate": by_name(rows, best)["share_of_matrix_rate"],
        "ratio_vs_trainer_tokens": against_best(measured, best, "trainer packed", "positions"),
        "ratio_vs_trainer_useful_tokens": against_best(measured, best, "trainer padded", "useful"),
        "ratios": ratios,
    }


def inputs(config: Config, options: Options) -> tuple[Shape, Path]:
    """The shape, and the folder of the run whose corpus and tokenizer are used; made where they are missing."""
    shape = PRESETS[options.shape]
    if config.args.run is None and not config.source:
        config.run = f"bench-{min(VOCABULARY, shape.vocab_size)}"
        config.tokenizer = replace(config.tokenizer, vocab_size=min(VOCABULARY, shape.vocab_size))
    run = run_folder(config.run).resolve()
    if not (run / "tokenizer" / "tokenizer.json").exists():  # a finished run is taken as it is
        make_inputs(config)
    vocab_size = load_tokenizer(run / "tokenizer").vocab_size
    if vocab_size > shape.vocab_size:
        raise UserError(f"run '{config.run}' has {vocab_size:,} tokens, shape {options.shape} {shape.vocab_size:,}")
    return shape, run


def take_turns(names: list[str], task: Task, options: Options) -> dict[str, list[dict[str, Any]]]:
    """Of each contender: when it was ready, its turns (the first one warms up), and what it said at the end."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    measured: dict[str, list[dict[str, Any]]] = {}
    try:
        for name in names:  # one after the other: each has the machine for itself while it gets ready
            pipes[name], theirs = context.Pipe()
            arguments = (theirs, name, task, time.time())
            processes.append(context.Process(target=serve, args=arguments, daemon=not name.startswith("trainer")))
            processes[-1].start()
            theirs.close()
            measured[name] = [_answer(pipes[name], name)]
        for turn in range(options.turns):
            for name in names:
                pipes[name].send(options.steps)
                measured[name].append(_answer(pipes[name], name))
                print(f"turn {turn} {name}: {sum(measured[name][-1]['seconds']):.2f} s", file=sys.stderr, flush=True)
        for name in names:
            pipes[name].send(0)
            measured[name].append(_answer(pipes[name], name))
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(timeout=20)
            if process.is_alive():
                process.terminate()
    return measured


def _answer(pipe: Any, name: str) -> dict[str, Any]:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        raise UserError(f"the contender '{name}' ended: what it said stands above") from None


def summary(name: str, turns: list[dict[str, Any]], task: Task, flops: float, rate: float) -> dict[str, Any]:
    """Medians over the turns of one contender."""
    (ready, warming), counted, end = turns[:2], turns[2:-1], turns[-1]
    positions = task.rows * task.shape.seq_len
    seconds = [sum(turn["seconds"]) / len(turn["seconds"]) for turn in counted]
    useful = [turn["targets"] / sum(turn["seconds"]) for turn in counted]
    return {
        "name": name,
        "positions_per_s": positions / statistics.median(seconds),
        "positions_per_s_spread": [positions / max(seconds), positions / min(seconds)],
        "useful_tokens_per_s": statistics.median(useful),
        "useful_share": sum(turn["targets"] for turn in counted)
        / sum(positions * len(turn["seconds"]) for turn in counted),
        "share_of_matrix_rate": statistics.median(useful) * flops / rate,
        "peak_bytes": end["peak_bytes"],
        "seconds_to_ready": ready["ready"],
        "seconds_to_compile": max(0.0, warming["seconds"][0] - statistics.median(seconds))
        if "compiled" in name
        else 0.0,
    }


def ratio(measured: dict[str, list[dict[str, Any]]], name: str, own: str | None = None) -> dict[str, float]:
    """loam against the Trainer `name`: median over the turns of the quotient in one turn.

    own: which of loam; by default the one that is compiled if the Trainer is.
    """
    own = own or ("loam compiled" if name.endswith("compiled") else "loam")
    pairs = list(zip(measured[own][2:-1], measured[name][2:-1], strict=True))
    return {
        "positions": statistics.median(sum(b["seconds"]) / sum(a["seconds"]) for a, b in pairs),
        "useful": statistics.median(
            a["targets"] / sum(a["seconds"]) / (b["targets"] / sum(b["seconds"])) for a, b in pairs
        ),
    }


def against_best(measured: dict[str, list[dict[str, Any]]], own: str, peer: str, what: str) -> float | None:
    """loam's best against the faster one of the Trainer's, compiled or not, on the same rows; None where none ran."""
    return min((ratio(measured, name, own)[what] for name in measured if name.startswith(peer)), default=None)


def by_name(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The row of a contender."""
    return next(row for row in rows if row["name"] == name)


def table(result: dict[str, Any]) -> list[str]:
    """The result in lines."""
    rates = {name: max(found.values()) / 1e9 for name, found in result["matrix_rates"].items()}
    machine = f"{result['device']}, {result['threads']} threads, torch {result['torch']}"
    documents = f"documents of {result['documents']['mean_tokens']:.0f} tokens on average"
    heads = ("positions/s", "useful/s", "useful", "of rate", "peak MiB", "ready s", "compile s")
    lines = [
        f"{result['date']}, commit {result['commit']}, {machine}",
        f"matrix rate: {rates['bfloat16']:,.0f} GFLOP/s in bf16, {rates['float32']:,.0f} in fp32",
        f"shape {result['shape']}: {result['parameters']:,} parameters, {result['flops_per_token'] / 1e6:.1f} MFLOP a "
        f"useful token; {result['precision']}, {result['positions_a_step']:,} positions a step, {documents}",
        f"{'':26}" + "".join(f"{head:>12}" for head in heads),
    ]
    for row in result["contenders"]:
        cells = (
            f"{row['positions_per_s']:,.0f}",
            f"{row['useful_tokens_per_s']:,.0f}",
            f"{row['useful_share']:.1%}",
            f"{row['share_of_matrix_rate']:.1%}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['seconds_to_ready']:.1f}",
            f"{row['seconds_to_compile']:.1f}",
        )
        lines.append(f"{row['name']:26}" + "".join(f"{cell:>12}" for cell in cells))
    for name, found in result["ratios"].items():
        lines.append(
            f"loam / {name}: {found['positions']:.2f} x the positions, {found['useful']:.2f} x the useful tokens"
        )
    return lines


if __name__ == "__main__":
    run_command(main)
