"""How large should a vocabulary be? Short trainings at sizes a factor of 2 apart, in bits per byte of held-out text.

    LOAM_CORPORA=... python bench/vocabulary.py --json bench/results/vocabulary.json

Each is the default recipe of train.py on one corpus, one shape, one seed. Sizes are compared twice: after equal epochs,
so the same bytes seen, and after equal training FLOPs, those of 4,096 tokens, for whoever has a budget. A step holds
the same bytes at every size, to a row. Bits per byte are of the validation split, which they compare across tokenizers.
Runs that the JSON file holds already are not run again; `--report true` only prints: the figures, and what rules would
have chosen, with the bits per byte that the choice loses against the best size of the corpus.
"""

import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import pyarrow as pa
import torch

from bench.forecast import CONTEXT, SHAPES, corpus_config, read, sized
from bench.learning import Setting, default_recipe
from bench.machine import facts
from common.errors import run_command
from common.runs import run_folder
from config import load_command
from data.loader import epoch_plan, num_steps
from data.packing import pack
from data.prepare import prepare_run
from data.tokens import Tokens
from eval.losses import content_bytes
from model.config import count_parameters
from tokenizer.config import SMALLEST
from tokenizer.encode import encode_table, read_corpus
from tokenizer.sample import training_texts
from tokenizer.sweep import train_sizes
from training.config import TrainConfig
from training.plan import run_flops

MIDDLE = 4096  # the size whose FLOPs all have where FLOPs are equal
# corpus, shape, epochs, sizes as far as the text supports them. Small corpora are seen more often.
RUNS = [
    ("novel", "nano", 8, [1024, 2048, MIDDLE, 8000]),
    ("novel", "nano", 2, [1024, 2048, MIDDLE, 8000]),
    ("textbooks", "nano", 3, [1024, 2048, MIDDLE, 8192, 14000]),
    ("embedded", "nano", 2, [2048, MIDDLE, 8192, 16384]),
    ("embedded", "tiny", 2, [MIDDLE, 8192]),
    ("medicine", "nano", 1, [MIDDLE, 8192]),
    ("textbooks", "nano", 10, [MIDDLE, 8192]),
]
STEPS_PER_EPOCH = 400  # as train.py aims at
SIZE = ("corpus", "shape", "epochs", "compared")  # what sizes are compared within
KEY = (*SIZE, "vocab_size", "seed")


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        json: file of the runs' ends, read and added to
        seeds: how many, from 0
        corpora: only these, separated by commas
        shapes: only these, separated by commas
        report: print what the file holds and run nothing
    """

    json: str = "bench/results/vocabulary.json"
    seeds: int = 2
    corpora: str | None = None
    shapes: str | None = None
    report: bool = False


def main() -> None:
    """The command."""
    options: Options = load_command(None, __doc__, options=Options).args.options
    file = Path(options.json)
    if not options.report:
        collect(file, options)
    print(*report(read(file)), sep="\n")


def collect(file: Path, options: Options) -> None:
    """Run what the file does not hold yet, one seed after the other, and write it after each run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for seed, (corpus, shape, epochs, sizes), compared in product(range(options.seeds), RUNS, ("epochs", "flops")):
        if options.corpora and corpus not in options.corpora.split(","):
            continue
        if options.shapes and shape not in options.shapes.split(","):
            continue
        for size in sizes:
            points = read(file)
            held = {tuple(point[name] for name in KEY): point for point in points}
            if (corpus, shape, epochs, compared, size, seed) in held:
                continue
            if compared == "flops" and size == MIDDLE:  # the same run
                points.append({**held[corpus, shape, epochs, "epochs", size, seed], "compared": compared})
            else:
                points.append(train_one(corpus, shape, epochs, compared, size, seed, sizes))
            file.write_text(json.dumps({"points": points}, indent=1) + "\n", encoding="utf-8")


@lru_cache
def open_sizes(corpus: str, sizes: tuple[int, ...]) -> dict[int, tuple[Tokens, Tokens]]:
    """Training and validation split of a corpus, which is made if it is missing, in tokens of each size."""
    config = corpus_config(corpus, f"bench-vocabulary-{corpus}")
    folder = run_folder(config.run) / "corpus"
    if not (folder / "manifest.json").exists():
        prepare_run(config)
    scratch = folder.with_name(".bench-vocabulary.tmp")
    toks = train_sizes(lambda: training_texts(folder, config.tokenizer), list(sizes), config.tokenizer, scratch)
    train, val = (pa.concat_tables(read_corpus(folder, split)) for split in ("train", "val"))
    return {size: (encode_table(train, tok), encode_table(val, tok)) for size, tok in toks.items()}


def train_one(
    corpus: str, shape: str, epochs: int, compared: str, size: int, seed: int, sizes: list[int]
) -> dict[str, Any]:
    """The end of one training: of `epochs`, or of the FLOPs that these take at the middle one of `sizes`."""
    opened = open_sizes(corpus, tuple(sizes))
    train, val = opened[size]
    one = {at: run_flops(sized(shape, at), epoch_plan(opened[at][0], CONTEXT, 0, 0), 1) for at in (size, MIDDLE)}
    rows = rows_per_step(len(pack(opened[MIDDLE][0].lengths, CONTEXT)), len(pack(train.lengths, CONTEXT)))
    an_epoch = num_steps(epoch_plan(train, CONTEXT, seed, 0), rows)
    steps = epochs * an_epoch if compared == "epochs" else round(an_epoch * epochs * one[MIDDLE] / one[size])
    setting = Setting(train, val, val, sized(shape, size), -(-steps // an_epoch), {}, torch.device("cpu"))
    end = default_recipe(setting, TrainConfig(batch_tokens=rows * CONTEXT), seed, steps)[-1]
    counts = np.bincount(train.ids, minlength=size)[SMALLEST:]
    num_bytes = [int(content_bytes(split).sum()) for split in (train, val)]
    return {
        **facts(),
        **dict(zip(KEY, (corpus, shape, epochs, compared, size, seed), strict=True)),
        "parameters": count_parameters(setting.shape),
        "train_bytes": num_bytes[0],
        "val_bytes": num_bytes[1],
        "tokens": train.num_targets,
        "seen": {f"p{share}": int(np.percentile(counts, share)) for share in (5, 25, 50)},  # merged tokens: how often
        "steps": steps,
        "rows_per_step": rows,
        "flops": one[size] * steps / an_epoch,
        "bits_per_byte": round(end["bits_per_byte"], 5),
        "seconds": round(end["seconds"], 1),
    }


def rows_per_step(middle: int, own: int) -> int:
    """Rows that hold as many bytes as train.py's do at the middle size; `middle`, `own`: rows of an epoch."""
    wanted = max(2, 2 ** round(math.log2(max(1.0, middle / STEPS_PER_EPOCH))))
    return max(1, round(wanted * own / middle))


def report(points: list[dict[str, Any]]) -> list[str]:
    """Bits per byte of each corpus and size, how far seeds lie apart, and what rules lose."""
    found, lines = means(points), []
    for key, sizes in found.items():
        best = min(sizes, key=lambda size: sizes[size])
        figures = ", ".join(f"{size} {bits:.4f}" for size, bits in sorted(sizes.items()))
        lines.append(f"{' '.join(map(str, key))}: {figures}; best {best}")
    lines.append(f"standard deviation over seeds: {seed_noise(points):.4f}")
    facts_of = {tuple(point[name] for name in SIZE): point for point in points}
    for name, rule in RULES.items():
        lost = {key: loss(sizes, rule(facts_of[key]["train_bytes"], SHAPES[key[1]][1])) for key, sizes in found.items()}
        for compared in ("epochs", "flops"):
            own = [value for key, value in lost.items() if key[3] == compared]
            lines.append(f"{name}, equal {compared}: mean loss {statistics.mean(own):.4f}, largest {max(own):.4f}")
    return lines


def means(points: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[int, float]]:
    """Corpus, shape, epochs, comparison -> size -> mean bits per byte over seeds."""

    def size_of(point: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(point[name] for name in SIZE)

    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for key, group in groupby(sorted(points, key=size_of), key=size_of):
        own = list(group)
        found[key] = {
            size: statistics.mean(point["bits_per_byte"] for point in own if point["vocab_size"] == size)
            for size in sorted({point["vocab_size"] for point in own})
        }
    return found


def seed_noise(points: list[dict[str, Any]]) -> float:
    """Standard deviation of runs that differ by their seed alone, pooled over all others' settings; nan without any."""
    by_cell: dict[tuple[Any, ...], list[float]] = {}
    for point in points:
        if point["compared"] == "flops" and point["vocab_size"] == MIDDLE:
            continue  # it stands there twice
        by_cell.setdefault(tuple(point[name] for name in KEY[:-1]), []).append(point["bits_per_byte"])
    several = [values for values in by_cell.values() if len(values) > 1]
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    freedom = sum(len(values) - 1 for values in several)
    return math.sqrt(squares / freedom) if freedom else math.nan


def loss(sizes: dict[int, float], wanted: float) -> float:
    """Bits per byte that the size nearest to `wanted` has above the best one."""
    nearest = min(sizes, key=lambda size: abs(math.log2(size / wanted)))
    return sizes[nearest] - min(sizes.values())


def root(factor: float, num_bytes: int, width: int) -> float:
    """A rule: in proportion to the root of the text's bytes."""
    return factor * math.sqrt(num_bytes)


def constant(size: float, num_bytes: int, width: int) -> float:
    """A rule: one size for all."""
    return size


# Name -> wanted size of (bytes of training text, width of the model).
RULES: dict[str, Callable[[int, int], float]] = {
    **{f"{factor:g} sqrt(bytes)": partial(root, factor) for factor in (1, 1.5, 2, 3, 4, 6)},
    **{str(size): partial(constant, size) for size in (1024, 2048, 4096, 8192)},
}


if __name__ == "__main__":
    run_command(main)
