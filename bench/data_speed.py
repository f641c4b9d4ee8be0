"""How fast a corpus becomes tokens, an epoch's plan and batches.

    python bench/data_speed.py --json bench/results/data.json

Tokenize: the whole way from the run's Parquet files to an opened token store (reading, template, encoding, writing,
index) against `tokenizers`' `encode_batch` alone, on the same texts, held in memory, with the same tokenizer, already
open. They take turns, each in a process of its own, so that what else the machine does hits both.

Loader: documents of synthetic lengths, log-normal with the spread of the run's own documents. Timed are the plan of an
epoch, its memory, the wait for the first step, and the positions a second of one thread that assembles batches.

Long words: texts of one letter, space or digit, of 10 KB to 10 MB (bench/long_words.py); --long true measures no more.

Tokenizers: training and encoding by each backend, on one core and on all, against its library alone
(bench/tokenizer_speed.py); --tokenizers true measures no more.

The corpus is the embedded one, or that of --run or --config.

    python bench/data_speed.py --rows 100000,1000000 --json bench/results/cleaning.json

instead makes so many rows and has them audited and prepared (bench/cleaning_scale.py).
"""

import multiprocessing
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()


import numpy as np
import pyarrow as pa
import tokenizers
import torch

from bench.cleaning_scale import cleaning_line, measure_cleaning
from bench.long_words import long_line, measure_long
from bench.machine import facts, tell
from bench.tokenizer_speed import measure_tokenizers, speed_line, texts_of
from common.errors import UserError, run_command
from common.runs import run_folder
from config import Config, load_command
from data.loader import batches, epoch_plan, row_weights
from data.packing import Plan
from data.tokens import Tokens, id_dtype
from tokenizer.bpe import load_tokenizer
from tokenizer.encode import build_store
from train import make_inputs
from training.step import to_device

VOCABULARY = 8192  # of the benchmark's own tokenizer, as in train_speed.py
SHAPES = {"tiny": 256, "small": 512}  # contexts of the presets
MICRO_BATCHES = (4096, 65536)  # positions: the defaults on a CPU and on CUDA
MEASURED_POSITIONS = 8_000_000  # a turn of the loader, at most


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        turns: of each side; medians are reported
        documents: synthetic documents of the loader's epoch
        mean_tokens: of a synthetic document
        rows: sizes of corpora, with commas between them, that are made, audited and prepared, and nothing else
        row_bytes: of a made row
        long: encode texts of one character over and over, and nothing else
        tokenizers: train and encode by each backend, and nothing else
        json: file to write the results to
    """

    turns: int = 5
    documents: int = 500_000
    mean_tokens: int = 200
    rows: str | None = None
    row_bytes: int = 500
    long: bool = False
    tokenizers: bool = False
    json: str | None = None


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, options=Options)
    options: Options = config.args.options
    if options.turns < 1 or options.documents < 1 or options.mean_tokens < 3:
        raise UserError("--turns and --documents must be 1 or more, --mean_tokens 3 or more")
    if options.rows:
        sizes = [int(one) for one in options.rows.split(",") if one.strip().isdecimal()]
        if not sizes or min(sizes) < 100 or options.row_bytes < 100:
            raise UserError("--rows is numbers with commas between them, 100 or more each; --row_bytes is 100 or more")
        found = measure_cleaning(sizes, options.row_bytes)
        tell({**facts(), "cleaning": found}, [cleaning_line(one) for one in found], options.json)
        return
    if options.long:
        words = measure_long(load_tokenizer(ready_run(config) / "tokenizer"), options.turns)
        tell({**facts(), "long_words": words}, [long_line(one) for one in words], options.json)
        return
    if options.tokenizers:
        speeds = measure_tokenizers(ready_run(config), VOCABULARY, options.turns)
        tell({**facts(), "tokenizers": speeds}, [speed_line(one) for one in speeds], options.json)
        return
    result = measure(config, options)
    tell(result, table(result), options.json)


def ready_run(config: Config) -> Path:
    """The folder of the run that is measured, with corpus and tokenizer."""
    if config.args.run is None and not config.source:
        config.run = f"bench-{VOCABULARY}"
        config.tokenizer = replace(config.tokenizer, vocab_size=VOCABULARY)
    run = run_folder(config.run)
    if not (run / "tokenizer" / "tokenizer.json").exists():  # settings of a run that is there do not matter here
        make_inputs(config)
    return run


def measure(config: Config, options: Options) -> dict[str, Any]:
    """Everything that the table and the JSON file hold."""
    run = ready_run(config)
    tokens = build_store(run / "corpus", "train", run / "tokenizer", run / "tokens", quiet=True)
    made = synthetic_tokens(options.documents, options.mean_tokens, log_spread(tokens), seed=0)
    return {
        **facts(),
        "tokenize": [measure_tokenize(run, options.turns)],
        "loader": measure_loader(made, options.turns),
        "long_words": measure_long(load_tokenizer(run / "tokenizer"), options.turns),
        "tokenizers": measure_tokenizers(run, VOCABULARY, options.turns),
    }


def take_turns(contenders: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each contender's turns, A B A B ..."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def measure_tokenize(run: Path, turns: int) -> dict[str, Any]:
    """build_store of a run's training split against encode_batch (and encode_batch_fast) on the same fields."""
    seconds: dict[str, list[float]] = {"encode_batch": [], "build_store": [], "encode_batch_fast": []}
    # A process for each turn, as a run has one: the seventh store built in one takes a quarter longer than the first,
    # and a tokenizer that has seen the texts knows their words.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    for _ in range(turns):
        for name, taken in seconds.items():
            with ProcessPoolExecutor(1, mp_context=processes) as process:
                taken.append(process.submit(one_turn, name, run).result())
    texts, tokens = texts_of(run), build_store(run / "corpus", "train", run / "tokenizer", run / "tokens", quiet=True)
    num_bytes, num_tokens = sum(len(text.encode()) for text in texts), len(tokens.ids)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "corpus": run.name,
        "vocab_size": load_tokenizer(run / "tokenizer").vocab_size,
        "documents": len(tokens),
        "texts": len(texts),
        "bytes": num_bytes,
        "tokens": num_tokens,
        "seconds": {name: [round(s, 4) for s in taken] for name, taken in seconds.items()},
        "mb_per_s": {name: num_bytes / s / 1e6 for name, s in median.items()},
        "tokens_per_s": {name: num_tokens / s for name, s in median.items()},
        # Of each turn, so that a neighbour's load hits both sides of a ratio.
        "ratio_vs_encode_batch": statistics.median(
            theirs / ours for theirs, ours in zip(seconds["encode_batch"], seconds["build_store"], strict=True)
        ),
    }


def one_turn(name: str, run: Path) -> float:
    """Seconds of one contender's turn: a store made anew, or a method of a tokenizer that is open already."""
    if name == "build_store":
        with tempfile.TemporaryDirectory(dir=run, prefix="bench-") as out:
            start = time.perf_counter()
            build_store(run / "corpus", "train", run / "tokenizer", Path(out), quiet=True)
            return time.perf_counter() - start
    texts, bpe = texts_of(run), tokenizers.Tokenizer.from_file(str(run / "tokenizer" / "tokenizer.json"))
    bpe.encode_special_tokens = True
    start = time.perf_counter()
    getattr(bpe, name)(texts, add_special_tokens=False)
    return time.perf_counter() - start


def log_spread(tokens: Tokens) -> float:
    """Standard deviation of the logarithm of the documents' lengths: the sigma of a log-normal fit."""
    return float(np.log(tokens.lengths).std())


def synthetic_tokens(num_documents: int, mean_tokens: float, sigma: float, seed: int) -> Tokens:
    """Documents of log-normal lengths, 3 tokens or more, and random ids; the first half of each is prompt."""
    generator = np.random.default_rng(seed)
    lengths = generator.lognormal(np.log(mean_tokens) - sigma**2 / 2, sigma, num_documents)
    whole = np.maximum(np.rint(lengths), 3).astype(np.int64)
    return Tokens(
        ids=generator.integers(6, VOCABULARY, int(whole.sum()), dtype=id_dtype(VOCABULARY)),
        offsets=np.cumsum(whole) - whole,
        lengths=whole,
        prompts=whole // 2,
        sources=np.zeros(num_documents, dtype=np.int32),
        source_names=["synthetic"],
        table=pa.table({}),
    )


def measure_loader(tokens: Tokens, turns: int) -> dict[str, Any]:
    """Plans and batches of every context and micro-batch."""
    sigma = log_spread(tokens)
    plans, rates = [], []
    for name, seq_len in SHAPES.items():
        plan, measured = measure_plan(tokens, seq_len, turns)
        plans.append({"shape": name, **measured})
        for positions in MICRO_BATCHES:
            rates.append({"shape": name, **measure_batches(plan, tokens, positions, turns)})
    return {
        "documents": len(tokens),
        "tokens": int(tokens.lengths.sum()),
        "lengths": f"log-normal, sigma {sigma:.2f}, mean {tokens.lengths.mean():.0f}, longest {tokens.lengths.max()}",
        "plans": plans,
        "batches": rates,
    }


def measure_plan(tokens: Tokens, seq_len: int, turns: int) -> tuple[Plan, dict[str, Any]]:
    """Seconds until an epoch's first step is there, and the memory that its plan takes while it is made and after."""
    plan = epoch_plan(tokens, seq_len, 0, 0)
    first_step = max(1, MICRO_BATCHES[0] // seq_len)
    seconds = take_turns(
        {
            "epoch_plan": lambda: epoch_plan(tokens, seq_len, 0, 1),
            "row_weights": lambda: row_weights(plan, tokens, 0.5),
            "first_step": lambda: next(batches(plan, tokens, first_step, first_step, {"epoch": 0, "step": 0})),
        },
        min(turns, 3),
    )
    tracemalloc.start()  # slows Python down, so apart from the time
    kept = epoch_plan(tokens, seq_len, 0, 1)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return plan, {
        "seq_len": seq_len,
        "rows": len(kept),
        "pieces": len(kept.lengths),
        "fill": kept.fill,
        "seconds": {name: statistics.median(taken) for name, taken in seconds.items()},
        "peak_bytes": peak,
        "kept_bytes": after,
        "peak_bytes_per_document": peak / len(tokens),
        "kept_bytes_per_document": after / len(tokens),
    }


def measure_batches(plan: Plan, tokens: Tokens, positions: int, turns: int) -> dict[str, Any]:
    """Positions and target tokens a second of one thread: batches alone, with weights, and as tensors on the CPU."""
    rows = max(1, positions // plan.seq_len)
    device = torch.device("cpu")

    def one_turn(prompt_weight: float, tensors: bool) -> tuple[float, float]:
        steps = batches(plan, tokens, rows, rows, {"epoch": 0, "step": 0}, prompt_weight=prompt_weight)
        item = next(steps, None)  # what an epoch needs once is measure_plan's
        seen = targets = 0
        start = time.perf_counter()
        while item is not None and seen < MEASURED_POSITIONS:
            item = next(steps, None)
            for batch in item[0].micro_batches if item else ():
                if tensors:
                    to_device(batch, device)
                seen += batch.ids.size
                targets += batch.num_targets
        taken = time.perf_counter() - start
        return seen / taken, targets / taken

    kinds = {"batches": (1.0, False), "weighted": (0.5, False), "to_device": (1.0, True)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(turns):
        for name, kind in kinds.items():
            found[name].append(one_turn(*kind))
    return {
        "seq_len": plan.seq_len,
        "micro_batch_positions": rows * plan.seq_len,
        "positions_per_s": {name: statistics.median(p for p, _ in pairs) for name, pairs in found.items()},
        "tokens_per_s": {name: statistics.median(t for _, t in pairs) for name, pairs in found.items()},
    }


def table(result: dict[str, Any]) -> list[str]:
    """The results as text."""
    lines = [f"{result['device']}, {result['threads']} threads, commit {result['commit']}"]
    for found in result["tokenize"]:
        lines += [
            "",
            f"tokenize {found['corpus']}: {found['bytes']:,} bytes in {found['texts']:,} texts, {found['tokens']:,} "
            f"tokens, vocabulary {found['vocab_size']:,}; medians of {len(found['seconds']['build_store'])} turns",
        ]
        for name, rate in found["mb_per_s"].items():
            lines.append(f"  {name:18} {rate:7.2f} MB/s {found['tokens_per_s'][name]:13,.0f} tokens/s")
        lines.append(f"  build_store has {found['ratio_vs_encode_batch']:.0%} of encode_batch's speed")
    lines += ["", *map(long_line, result["long_words"])]
    lines += ["", *map(speed_line, result["tokenizers"])]
    loader = result["loader"]
    lines += ["", f"loader: {loader['tokens']:,} tokens in {loader['documents']:,} documents ({loader['lengths']})"]
    for plan in loader["plans"]:
        seconds = plan["seconds"]
        lines.append(
            f"  {plan['shape']:6} rows of {plan['seq_len']}: plan {seconds['epoch_plan']:.2f} s, weights "
            f"{seconds['row_weights']:.2f} s, first step {seconds['first_step']:.2f} s; {plan['fill']:.2%} filled; "
            f"bytes a document: {plan['peak_bytes_per_document']:.0f}, {plan['kept_bytes_per_document']:.0f} kept"
        )
    for rate in loader["batches"]:
        kinds = ", ".join(f"{name} {value / 1e6:.1f}" for name, value in rate["positions_per_s"].items())
        lines.append(
            f"  {rate['shape']:6} {rate['micro_batch_positions']:6,} positions a step: million positions/s of one "
            f"thread: {kinds}"
        )
    return lines


if __name__ == "__main__":
    run_command(main)
