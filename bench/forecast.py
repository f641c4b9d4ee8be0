"""Many small trainings on corpora of many kinds, and the law fitted to their ends, which `--plan` forecasts with.

    LOAM_CORPORA=... python bench/forecast.py --json bench/results/forecast.json

Each training is the default recipe of train.py on one corpus, one shape, one number of epochs. Its end is held-out bits
per byte; beside it stands what an n-gram model of the same split reaches, which is how the law knows the corpus. Runs
that the JSON file holds already are not run again, so it grows as often as the script is called; `--fit` only fits.
Printed are the law's constants, which stand in training/forecast.py, and its error on corpora that a fit has not seen.
"""

import json
import math
import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch

from bench.learning import Setting, default_recipe
from bench.machine import facts
from common.errors import UserError, run_command
from common.runs import run_folder
from config import Config, load_command
from data.sources import SourceConfig
from eval.ngrams import ngram_bits_per_byte
from model.config import Shape, count_parameters
from tokenizer.bpe import load_tokenizer
from tokenizer.encode import build_store
from train import make_inputs
from training.config import TrainConfig
from training.forecast import Law

# Settings of the sources, and their files under LOAM_CORPORA; the embedded corpus needs none.
TEXT, ALPACA, SQUAD = {"kind": "text"}, {"preset": "alpaca"}, {"preset": "squad"}
CORPORA: dict[str, tuple[dict[str, str], list[str]]] = {
    "embedded": ({}, []),
    "word-problems": ({}, ["human/gsm8k_train.jsonl.gz"]),
    "instructions": (ALPACA, ["llm/alpaca_5000.json.gz"]),
    "code": (ALPACA, ["llm/codealpaca_new.json.gz"]),
    "medicine": ({}, ["human/medquad_gard.csv.gz"]),
    "novels": (
        TEXT,
        [
            "books/1342_pride_and_prejudice.txt.gz",
            "books/2489_moby_dick.txt.gz",
            "books/345_dracula.txt.gz",
            "books/1400_great_expectations.txt.gz",
        ],
    ),
    "novel": (TEXT, ["books/84_frankenstein_or_the_modern_prometheus.txt.gz"]),
    "textbooks": (TEXT, ["quantum/qiskit_textbook_en.txt.gz", "quantum/quantum_book_batra.txt.gz"]),
    "chinese": (SQUAD, ["multilingual/xquad.zh.json.gz"]),
    "quantum": ({}, ["quantum/quantum_qa_batra.csv.gz"]),
    "trivia": ({}, ["human/opentriviaqa.csv.gz"]),
}
# layers, width, query heads, key/value heads, feed-forward width
SHAPES = {
    "nano": (2, 64, 2, 1, 192),
    "tiny": (4, 128, 4, 2, 384),
    "small": (6, 256, 4, 2, 768),
}
CONTEXT = 256
NAMES = tuple(field.name for field in fields(Law))
START = (0.0, -0.7, -1.5, -1.0, -1.5, -1.0, 1.0)  # of a fit: logarithms of the law's constants, the logit of s
# What is run, the cheap ones first: corpus, shape, epochs.
LITTLE = ("quantum", "novel", "chinese", "instructions", "textbooks")
MEDIUM = ("code", "embedded", "novels")
LARGE = ("word-problems", "medicine", "trivia")
RUNS = [
    *((corpus, "tiny", epochs) for epochs in (1, 3) for corpus in LITTLE),
    *((corpus, "nano", epochs) for corpus in LITTLE for epochs in (2, 6)),
    *((corpus, "tiny", 2) for corpus in MEDIUM + LARGE),
    *((corpus, "tiny", 10) for corpus in LITTLE),
    *((corpus, "nano", 2) for corpus in MEDIUM + LARGE),
    *((corpus, "small", 3) for corpus in LITTLE),
    *((corpus, "tiny", 5) for corpus in MEDIUM[:2]),
    (MEDIUM[0], "small", 1),
    (LITTLE[0], "small", 10),
]


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        json: file of the runs' ends, read and added to
        corpora: only these, separated by commas
        shapes: only these, separated by commas
        fit: fit only what the file holds
    """

    json: str = "bench/results/forecast.json"
    corpora: str | None = None
    shapes: str | None = None
    fit: bool = False


def main() -> None:
    """The command."""
    options: Options = load_command(None, __doc__, options=Options).args.options
    file = Path(options.json)
    if not options.fit:
        collect(file, options)
    print(*report(read(file)), sep="\n")


def collect(file: Path, options: Options) -> None:
    """Run what the file does not hold yet, and write it after each run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for corpus, shape, epochs in RUNS:
        if options.corpora and corpus not in options.corpora.split(","):
            continue
        if options.shapes and shape not in options.shapes.split(","):
            continue
        points = read(file)
        if any((p["corpus"], p["shape"], p["epochs"]) == (corpus, shape, epochs) for p in points):
            continue
        setting, ngram = open_corpus(corpus, shape)
        points.append(train_one(setting, ngram, corpus, shape, epochs))
        file.write_text(json.dumps({"points": points}, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> list[dict[str, Any]]:
    """The ends that a file holds."""
    return json.loads(file.read_text(encoding="utf-8"))["points"] if file.exists() else []


def corpus_config(corpus: str, run: str) -> Config:
    """Settings of a run on one of CORPORA; UserError where its files are not known."""
    folder = os.environ.get("LOAM_CORPORA")
    settings, paths = CORPORA[corpus]
    if paths and not folder:
        raise UserError("LOAM_CORPORA: set it to the folder that holds the corpora (see configs/quantum.toml)")
    sources = [
        SourceConfig(name=Path(path).name.split(".")[0], path=f"{folder}/{path}", **settings)  # type: ignore[arg-type]
        for path in paths
    ]
    return Config(run=run, source=sources)


def sized(shape: str, vocab_size: int) -> Shape:
    """One of SHAPES with a vocabulary."""
    layers, width, heads, kv_heads, inner = SHAPES[shape]
    return Shape(vocab_size, layers, width, heads, kv_heads, width // heads, inner, CONTEXT)


def open_corpus(corpus: str, shape: str) -> tuple[Setting, float]:
    """Tokens of a corpus, made where they are missing, with a shape; and the n-gram model's bits per byte."""
    config = corpus_config(corpus, f"bench-forecast-{corpus}")
    make_inputs(config)
    run = run_folder(config.run)
    train, val = (
        build_store(run / "corpus", split, run / "tokenizer", run / "tokens", quiet=True) for split in ("train", "val")
    )
    vocab_size = load_tokenizer(run / "tokenizer").vocab_size
    ngram = ngram_bits_per_byte(train, val, vocab_size)
    return Setting(train, val, val, sized(shape, vocab_size), 0, {}, torch.device("cpu")), ngram


def train_one(setting: Setting, ngram: float, corpus: str, shape: str, epochs: int) -> dict[str, Any]:
    """The end of one training."""
    end = default_recipe(replace(setting, epochs=epochs), TrainConfig(), seed=0)[-1]
    return {
        **facts(),
        "corpus": corpus,
        "shape": shape,
        "epochs": epochs,
        "parameters": count_parameters(setting.shape),
        "vocab_size": setting.shape.vocab_size,
        "tokens": setting.train.num_targets,
        "val_documents": len(setting.held_out),
        "ngram_bits_per_byte": round(ngram, 5),
        "bits_per_byte": round(end["bits_per_byte"], 5),
        "seconds": round(end["seconds"], 1),
    }


def fit(points: list[dict[str, Any]]) -> Law:
    """The law with the smallest sum of squared relative errors over these ends."""
    columns = ("ngram_bits_per_byte", "parameters", "tokens", "epochs", "bits_per_byte")
    *inputs, found = (torch.tensor([float(p[name]) for p in points], dtype=torch.float64) for name in columns)
    # All constants are positive and s is below 1, so they are searched as logarithms, s as a logit.
    raw = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=2000, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def law() -> Law:
        return Law(*(torch.sigmoid(x) if name == "s" else torch.exp(x) for name, x in zip(NAMES, raw, strict=True)))

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        # A weak pull to where it starts keeps constants finite that few runs tell apart.
        pull = 1e-4 * ((raw - raw.new_tensor(START)) ** 2).mean()
        value = (law()(*inputs).log() - found.log()).square().mean() + pull
        value.backward()
        return value

    optimizer.step(loss)
    found_law = law()
    return Law(*(float(getattr(found_law, name).detach()) for name in NAMES))


def unseen_errors(points: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Corpus -> relative errors (as logarithms) of a law that was fitted to all other corpora."""
    found = {}
    for corpus in dict.fromkeys(p["corpus"] for p in points):
        law = fit([p for p in points if p["corpus"] != corpus])
        found[corpus] = [math.log(apply(law, p) / p["bits_per_byte"]) for p in points if p["corpus"] == corpus]
    return found


def moved_errors(points: list[dict[str, Any]]) -> list[float]:
    """Errors on the runs of a corpus of a law that was fitted to all others and moved through one other run of it."""
    return [a - b for found in unseen_errors(points).values() for a in found for b in found if a is not b]


def apply(law: Law, point: dict[str, Any]) -> float:
    """What a law expects of a run."""
    return law(point["ngram_bits_per_byte"], point["parameters"], point["tokens"], point["epochs"])


def report(points: list[dict[str, Any]]) -> list[str]:
    """Each run beside its law, the error on unseen corpora, and the constants."""
    law, unseen = fit(points), unseen_errors(points)
    lines = [f"{'corpus':14} {'shape':6} epochs  tokens  n-gram  found  fitted"]
    for p in sorted(points, key=lambda p: (p["corpus"], p["shape"], p["epochs"])):
        lines.append(
            f"{p['corpus']:14} {p['shape']:6} {p['epochs']:6} {p['tokens'] / 1e6:6.2f}M "
            f"{p['ngram_bits_per_byte']:7.3f} {p['bits_per_byte']:6.3f} {apply(law, p):7.3f}"
        )
    errors = [error for found in unseen.values() for error in found]
    spread = math.sqrt(sum(error**2 for error in errors) / len(errors))
    moved = moved_errors(points)
    spread_moved = math.sqrt(sum(error**2 for error in moved) / len(moved))
    within = math.sqrt(sum(math.log(apply(law, p) / p["bits_per_byte"]) ** 2 for p in points) / len(points))
    return [
        *lines,
        *(f"unseen {corpus:14} " + " ".join(f"{error:+.1%}" for error in found) for corpus, found in unseen.items()),
        f"{len(points)} runs of {len(unseen)} corpora: error {within:.1%} where seen, {spread:.1%} on corpora unseen, "
        f"{spread_moved:.1%} moved through one run",
        f"SPREAD, SPREAD_MOVED = {spread:.4f}, {spread_moved:.4f}",
        "LAW = Law(" + ", ".join(f"{name}={getattr(law, name):.4g}" for name in NAMES) + ")",
    ]


if __name__ == "__main__":
    run_command(main)
