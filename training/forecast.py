"""How good a run will be: expected bits per byte, from a law that was fitted to many small runs.

In: what an n-gram model of the same split reaches, the model's shape, tokens and epochs. Out: the expected bits per
byte of held-out documents with an interval, and lines that weigh other sizes and numbers of epochs. The form is that of
Hoffmann et al. (2022), with a repeated epoch worth less than a new one (Muennighoff et al. 2023):

    bits per byte = ngram^k x (floor + a / parameters^alpha + b / worth^beta)
    worth = tokens x (1 + s + s^2 + ... ), a term an epoch

What an n-gram model makes of a corpus says only so much about what a network will. Runs of the same corpus that have
ended say more: where there are any, the law is moved to go through them.
`bench/forecast.py` makes the runs and fits the constants; figures in docs/decisions.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.runs import averages, checkpoints
from model.config import PRESETS, Shape, count_parameters, flops_per_token
from model.huggingface import load_shape
from training.checkpoint import read_meta
from training.config import TrainConfig


@dataclass(frozen=True)
class Law:
    """Constants of the law, in units of a million parameters and a million tokens. Floats, or tensors while fitted."""

    k: Any
    floor: Any
    a: Any
    alpha: Any
    b: Any
    beta: Any
    s: Any

    def __call__(self, ngram: Any, parameters: Any, tokens: Any, epochs: Any) -> Any:
        """Bits per byte of held-out documents. ngram: an n-gram model's; tokens: targets of an epoch."""
        worth = tokens / 1e6 * (1 - self.s**epochs) / (1 - self.s)
        size = parameters / 1e6
        return ngram**self.k * (self.floor + self.a * size**-self.alpha + self.b * worth**-self.beta)


# Fitted by bench/forecast.py to its runs, which had this range of parameters, of target tokens and of epochs.
LAW = Law(k=1.062, floor=0.5097, a=0.1433, alpha=0.1951, b=0.2868, beta=0.1877, s=0.8829)
SPREAD = 0.1228  # standard deviation of the relative error on corpora that a fit had not seen
SPREAD_MOVED = 0.0613  # the same of a law that was moved through one run of that corpus
RUNS, CORPORA, CONTEXT = 46, 11, 256
RANGE = ((2e5, 6e6), (1e5, 1.5e6), (1, 10))
NAMES = ("parameters", "target tokens an epoch", "epochs")  # of RANGE's entries
OTHER_EPOCHS = (1, 3, 5, 10)
QUANTILE = 1.28  # of a normal distribution: 8 of 10 lie within so many standard deviations


@dataclass(frozen=True)
class Earlier:
    """How another run of the same corpus ended."""

    run: str
    parameters: int
    epochs: int
    bits_per_byte: float


def earlier_runs(run: Path, corpus: str, tokenizer: str, optimizer: str, seq_len: int) -> list[Earlier]:
    """The runs beside `run` that have ended, learned prompts too, and were trained on this corpus with this tokenizer,
    by their fingerprints, with the same optimizer and context."""
    found = []
    for folder in sorted(path for path in run.parent.glob("*") if path.is_dir() and path != run):
        epochs = [path for path in checkpoints(folder) if path.name.startswith("ckpt")]
        try:
            metas = [read_meta(path) for path in (*epochs, *averages(folder))]
            if not epochs or (metas[0]["corpus"], metas[0]["tokenizer"]) != (corpus, tokenizer):
                continue
            config = metas[len(epochs) - 1]["config"]["train"]
            shape = load_shape(epochs[-1])
            if len(epochs) < config["epochs"] or not config["prompt_loss_weight"] > 0:
                continue
            if (config["optimizer"], shape.seq_len) != (optimizer, seq_len):
                continue
            ends = [meta["metrics"]["val_bpb"] for meta in metas if "val_bpb" in meta.get("metrics", {})]
            if all(map(math.isfinite, ends)):
                found.append(Earlier(folder.name, count_parameters(shape), config["epochs"], min(ends)))
        except (UserError, OSError, KeyError, TypeError, ValueError):  # damaged, or not ours: no reason not to plan
            continue
    return found


def forecast_lines(
    ngram: float,
    shape: Shape,
    tokens: int,
    config: TrainConfig,
    earlier: Sequence[Earlier] = (),
    counted: str = "the training split",
) -> list[str]:
    """What a run is expected to reach, how sure that is, and what other sizes and epochs would.

    ngram: bits per byte of the n-gram model (`eval/ngrams.py`) on the held-out documents, counted on what `counted`
    says; tokens: targets of an epoch; earlier: runs of the same corpus.
    """
    epochs = config.epochs
    ratios = [math.log(run.bits_per_byte / LAW(ngram, run.parameters, tokens, run.epochs)) for run in earlier]
    moved, spread = (math.exp(sum(ratios) / len(ratios)), SPREAD_MOVED) if ratios else (1.0, SPREAD)
    expected = moved * LAW(ngram, count_parameters(shape), tokens, epochs)
    low, high = (expected * math.exp(sign * QUANTILE * spread) for sign in (-1, 1))
    outside = "".join(
        f"; {text}: a guess" for text in (*_outside(shape, tokens, epochs), *_other_recipe(shape, config))
    )
    through = f", moved through {', '.join(run.run for run in earlier)}" if earlier else ""
    others = [
        f"{name} x {number} epochs {moved * bits:.2f} ({work:.2g} x the work)"
        for name, number, work, bits in other_choices(ngram, shape, tokens, epochs)
    ]
    return [
        f"an n-gram model counted on {counted} just now reaches {ngram:.3f} bits per byte on the held-out "
        "documents: a network that ends above that has learned less than counting",
        f"expected: {expected:.2f} bits per byte, {low:.2f} to {high:.2f} for 8 of 10 corpora (a law fitted to {RUNS} "
        f"runs on {CORPORA} corpora, context {CONTEXT}{through}{outside})",
        *([f"other choices, each the best of its work: {', '.join(others)}"] if others else []),
    ]


def other_choices(ngram: float, shape: Shape, tokens: int, epochs: int) -> list[tuple[str, int, float, float]]:
    """Presets and numbers of epochs that no cheaper choice equals: (preset, epochs, work relative to this run's, bits).

    Only what the law was fitted to, the least work first; none where this corpus is outside of that.
    """
    own = _work(shape) * epochs
    found = []
    for name, preset in PRESETS.items():
        sizes = replace(preset, vocab_size=shape.vocab_size, seq_len=shape.seq_len)
        for number in OTHER_EPOCHS:
            if not _outside(sizes, tokens, number):
                bits = LAW(ngram, count_parameters(sizes), tokens, number)
                found.append((_work(sizes) * number / own, bits, name, number))
    found.sort()
    best = [entry for i, entry in enumerate(found) if all(entry[1] < cheaper[1] for cheaper in found[:i])]
    return [
        (name, number, work, bits)
        for work, bits, name, number in best
        if (PRESETS[name].num_layers, PRESETS[name].hidden_size, number)
        != (shape.num_layers, shape.hidden_size, epochs)
    ]


def _outside(shape: Shape, tokens: int, epochs: int) -> list[str]:
    """What of a run the law was not fitted to, in words."""
    values = (count_parameters(shape), tokens, epochs)
    return [
        f"{value:,} {name} are outside the {low:,.0f} to {high:,.0f} of those runs"
        for value, name, (low, high) in zip(values, NAMES, RANGE, strict=True)
        if not low <= value <= high
    ]


def _other_recipe(shape: Shape, config: TrainConfig) -> list[str]:
    """What of a run's recipe those runs did not have, in words."""
    changed = {
        f"optimizer {config.optimizer}": config.optimizer != "muon",
        "a learning rate of its own": config.lr is not None or config.embedding_lr is not None,
        "dropout": shape.dropout > 0,
        "single epochs at the end": not config.average,
    }
    return [f"{what}, which those runs had not" for what, is_so in changed.items() if is_so]


def _work(shape: Shape) -> float:
    """FLOPs of a token, a quarter of the context attended on average."""
    return flops_per_token(shape, shape.seq_len / 4)
