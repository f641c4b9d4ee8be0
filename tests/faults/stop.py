"""How long a run takes to leave after a SIGTERM that comes at the worst moment of each thing it does.

    python tests/faults/stop.py --run NAME --preset seed-126m --json stop.json

NAME is a run whose tokenizer and documents are used: so many that an epoch has two steps of two micro-batches, each of
4,096 positions. Each signal comes as the named thing begins, to a run of its own that is compiled; torchrun would kill
it 30 s later. What must be on disk then is looked at: the last step that was finished.
"""

import argparse
import json
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from bench.machine import facts
from config import Config
from model.config import ModelConfig, count_parameters, resolve_shape
from tests.faults.kill import ACCUMULATION, MAIN, PHASES, SAVING, STARTED, STEP, VALIDATION, life, read_time
from tokenizer.bpe import load_tokenizer
from training.checkpoint import newest_resumable
from training.config import TrainConfig

MICRO = 4096  # positions of a micro-batch on a CPU
STEPS = 2  # an epoch
TEMPLATE = 6  # control tokens of a document, at most
LONGEST = 900.0  # seconds to wait for a moment


@dataclass(frozen=True)
class Moment:
    """When the signal comes, and the step that must be saved (None: there is none yet)."""

    name: str
    has_come: Callable[[int, float, int], bool]  # phase, when the first step ended (0: not yet), epochs in the log
    step: int | None
    later: float = 0.0  # seconds


MOMENTS = (
    Moment("first step, which compiles", lambda phase, started, epochs: phase == STEP and not started, None, 5.0),
    Moment("first micro-batch", lambda phase, started, epochs: phase == STEP and started > 0, 1),
    Moment("last micro-batch", lambda phase, started, epochs: phase == ACCUMULATION and started > 0, 2),
    Moment("save at an epoch's end", lambda phase, started, epochs: phase == SAVING, STEPS),
    Moment("validation", lambda phase, started, epochs: phase == VALIDATION and epochs == 0, STEPS),
    Moment("samples", lambda phase, started, epochs: phase == VALIDATION and epochs == 1, STEPS),
)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="whose documents and tokenizer are used")
    parser.add_argument("--preset", default="seed-126m")
    parser.add_argument("--compile", type=json.loads, default=True)
    parser.add_argument("--json", help="file to write the report to")
    options = parser.parse_args()
    source = (Path("runs") / options.run).resolve()
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        model = ModelConfig(preset=options.preset)
        shape = resolve_shape(model, load_tokenizer(source / "tokenizer").vocab_size)
        rows = 2 * STEPS * MICRO // shape.seq_len
        copy_part(source, Path("part"), rows * shape.seq_len)
        settings = TrainConfig(epochs=2, batch_tokens=2 * MICRO, micro_batch=MICRO // shape.seq_len, samples=2,
                               compile=options.compile, device="cpu", sample_tokens=128)  # fmt: skip
        found = [measure(Config(run="t", model=model, train=settings), moment, threads) for moment in MOMENTS]
    report = {**facts(), "preset": options.preset, "parameters": count_parameters(shape), "compile": options.compile,
              "longest_seconds": max(each["seconds"] for each in found), "moments": found}  # fmt: skip
    print(f"{options.preset}, {report['parameters']:,} parameters: at most {report['longest_seconds']:.1f} s")
    if options.json:
        (REPOSITORY / options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def copy_part(source: Path, part: Path, num_tokens: int) -> None:
    """The tokenizer and as many documents as make about that many tokens, of either split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(source / "tokenizer", part / "tokenizer")
    (part / "corpus").mkdir()
    manifest = json.loads((source / "corpus" / "manifest.json").read_text(encoding="utf-8"))
    for each in manifest["sources"]:
        each["weight"] = 1.0
    del manifest["sha256"]  # of files that hold more
    (part / "corpus" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    tok = load_tokenizer(source / "tokenizer")
    for split in ("train", "val"):
        table = pa.concat_tables(pq.read_table(file) for file in sorted((source / "corpus").glob(f"{split}-*.parquet")))
        kept, total = 0, 0
        for row in table.to_pylist():
            text = " ".join(row[name] or "" for name in ("text", "question", "answer"))
            if total + (length := len(tok.encode(text)) + TEMPLATE) > 0.9 * num_tokens:
                break
            kept, total = kept + 1, total + length
        pq.write_table(table.slice(0, kept), part / "corpus" / f"{split}-00000.parquet")


def measure(config: Config, moment: Moment, threads: int) -> dict[str, Any]:
    """One run, one signal."""
    shutil.rmtree("runs", ignore_errors=True)
    shutil.copytree("part", Path("runs") / config.run)
    page, log = Path("page"), Path("runs") / config.run / "metrics.jsonl"
    page.write_bytes(b"\0" * mmap.PAGESIZE)
    process = get_context("spawn").Process(target=life, args=(config, str(Path.cwd()), str(page), 0, 1, 0, threads))
    with page.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        process.start()
        assert process.pid is not None
        begun = time.monotonic()
        while process.is_alive() and time.monotonic() - begun < LONGEST:
            epochs = log.read_text().count('"event": "epoch"') if log.exists() else 0
            if moment.has_come(shared[MAIN], read_time(shared, STARTED), epochs):
                break
            process.join(0.002)
        process.join(moment.later if config.train.compile else 0.0)
        phase = PHASES[shared[MAIN]]
        signalled = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        process.join(LONGEST)
        seconds = time.monotonic() - signalled
    said = Path(f"{config.run}.said-0").read_text()
    assert process.exitcode == 0, said[-2000:]  # train() returns; the command's code would be 75
    newest = newest_resumable(Path("runs") / config.run, hashes=True)
    step = json.loads((newest[0] / "trainer" / "state.json").read_text())["step"] if newest else None
    assert step == moment.step, f"{moment.name}: step {step} is saved, not {moment.step}\n{said[-2000:]}"
    print(f"{moment.name}: {seconds:.1f} s (in phase {phase}; saved: step {step})", flush=True)
    return {"moment": moment.name, "seconds": round(seconds, 2), "saved_step": step}


if __name__ == "__main__":
    main()
