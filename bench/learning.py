"""What a model has learned after a number of tokens and seconds: the default recipe against a plain one.

    python bench/learning.py --json bench/results/learning-embedded.json
    python bench/learning.py --config configs/quantum.toml --json bench/results/learning-quantum.json

Both train the same shape on the same documents in the same precision, compiled or not alike, and are judged on the test
split: bits per byte of each document, run alone. No setting of the default recipe was chosen on it. It is what
train.py does: packed rows with a document mask, a new order each epoch, its optimizers, rates and schedule as `--plan`
prints them, and the mean of the last epochs' weights. The *plain recipe* is what a short script does: all documents
behind each other in one fixed order, cut into rows, no mask; AdamW with decay 0.1 on matrices, cosine to a tenth. Its
learning rate is the best of a grid that is doubled or halved until the best stands inside it, for the first seed and on
the test split itself, in its favour. The default
recipe is also run with half the epochs, under a schedule of that length: whether the plain recipe's end is reached in
half its time. Prints each run's figures and medians over seeds; of each run's epochs (and means) the validation split
chooses the one that counts.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import torch
from tqdm import tqdm

from bench.machine import facts, tell
from common.errors import run_command
from common.runs import run_folder
from config import Config, load_command
from data.loader import IGNORE, Batch, Step, batches, epoch_plan
from data.tokens import Tokens
from eval.losses import document_losses, summary
from model.config import Shape, count_parameters, resolve_shape
from model.decoder import Decoder
from model.huggingface import save_model
from model.loss import weighted_nll
from tokenizer.bpe import load_tokenizer
from tokenizer.encode import build_store
from tokenizer.template import BOS, EOS, PAD
from train import make_inputs
from training.average import best_mean, last_epochs
from training.config import TrainConfig
from training.distributed import World
from training.optimizer import learning_rate, make_optimizers, set_learning_rates
from training.plan import RunPlan, derive
from training.step import LossFunction, autocast, loss_function, prefetched, train_step

FIRST_RATES = (0.002, 0.004, 0.008)


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        preset: model shape
        epochs: passes over the training split
        seeds: how many, from 0
        plain_lr: learning rate of the plain recipe; by default searched
        recipe: which of the two to run
        json: file to write the results to
    """

    preset: str = "tiny"
    epochs: int = 4
    seeds: int = 3
    plain_lr: float | None = None
    recipe: Literal["both", "default", "plain"] = "both"
    json: str | None = None


@dataclass(frozen=True)
class Setting:
    """What both recipes have in common."""

    train: Tokens
    val: Tokens  # chooses among a run's epochs, and averages of them
    held_out: Tokens  # what is reported
    shape: Shape
    epochs: int
    weights: dict[str, float]
    device: torch.device


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, options=Options)
    options: Options = config.args.options
    setting = inputs(config, options)
    curves: dict[str, list[list[dict[str, float]]]] = {}
    searched: dict[str, float] = {}
    if options.recipe != "plain":
        half = replace(setting, epochs=half_of(setting.epochs))
        curves["default"] = [default_recipe(setting, config.train, seed) for seed in range(options.seeds)]
        curves["default, half"] = [default_recipe(half, config.train, seed) for seed in range(options.seeds)]
    if options.recipe != "default":
        lr, first, searched = plain_rate(setting, config.train, options.plain_lr)
        curves["plain"] = [first] + [plain_recipe(setting, config.train, lr, seed) for seed in range(1, options.seeds)]
    result = {
        **facts(),
        "run": config.run,
        "parameters": count_parameters(setting.shape),
        "preset": options.preset,
        "seq_len": setting.shape.seq_len,
        "epochs": options.epochs,
        "half_epochs": half_of(options.epochs),
        "train_tokens": setting.train.num_targets,
        "held_out_documents": len(setting.held_out),
        "plain_rates": searched,
        "curves": curves,
        **conclusion(curves),
    }
    tell(result, lines(result), options.json)


def inputs(config: Config, options: Options) -> Setting:
    """Corpus, tokenizer and tokens, made where they are missing."""
    config.model = replace(config.model, preset=options.preset)
    if config.args.run is None and not config.source:
        config.run = "bench-learning"
    folder = run_folder(config.run)
    if not (folder / "tokenizer" / "tokenizer.json").exists():  # a finished run is taken as it is
        make_inputs(config)
    train, val, held_out = (
        build_store(folder / "corpus", split, folder / "tokenizer", folder / "tokens", quiet=True)
        for split in ("train", "val", "test")
    )
    shape = resolve_shape(config.model, load_tokenizer(folder / "tokenizer").vocab_size)
    manifest = json.loads((folder / "corpus" / "manifest.json").read_text(encoding="utf-8"))
    weights = {source["name"]: source["weight"] for source in manifest["sources"] if source["weight"] != 1}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Setting(train, val, held_out, shape, options.epochs, weights, device)


def default_recipe(setting: Setting, asked: TrainConfig, seed: int, steps: int | None = None) -> list[dict[str, float]]:
    """The curve of what train.py would do: one point an epoch. `steps`: end after so many, inside the last epoch."""
    config = replace(asked, epochs=setting.epochs, seed=seed)
    plan, described = derive(config, setting.shape, setting.train, setting.weights, World(0, 1, setting.device))
    plan = replace(plan, total_steps=steps or plan.total_steps)
    if seed == 0:
        print(f"{setting.epochs} epochs:", *described, sep="\n")

    def epoch_of(epoch: int) -> Iterator[Step]:
        rows = epoch_plan(setting.train, setting.shape.seq_len, seed, epoch, setting.weights)
        state = {"epoch": epoch, "step": 0}
        left = plan.total_steps - epoch * plan.steps_per_epoch  # epochs differ by a step, as their packing does
        taken = batches(
            rows,
            setting.train,
            plan.rows_per_step,
            plan.micro_batch,
            state,
            prompt_weight=config.prompt_loss_weight,
        )
        yield from (step for step, _ in islice(taken, None if steps is None else left))

    torch.manual_seed(seed)
    model = Decoder(setting.shape).to(setting.device)
    return curve(
        setting, config, plan, model, loss_function(model, plan.compile), epoch_of, f"default, seed {seed}", True
    )


def plain_recipe(setting: Setting, asked: TrainConfig, lr: float, seed: int) -> list[dict[str, float]]:
    """The curve of the plain recipe at one learning rate; batch, precision and the like are as asked."""
    own = {"optimizer": "adamw", "weight_decay": 0.1, "embedding_lr": None, "min_lr": None}
    config = replace(asked, epochs=setting.epochs, seed=seed, lr=lr, **own)  # type: ignore[arg-type]
    plan, _ = derive(config, setting.shape, setting.train, setting.weights, World(0, 1, setting.device))
    ids, targets = concatenated(setting, seed)
    size, micro = plan.rows_per_step, plan.micro_batch
    plan = replace(plan, total_steps=-(-len(ids) // size) * setting.epochs)

    def epoch_of(_: int) -> Iterator[Step]:
        for start in range(0, len(ids), size):
            parts = [
                slice(at, min(at + micro, start + size)) for at in range(start, min(start + size, len(ids)), micro)
            ]
            some = [plain_batch(ids[part], targets[part]) for part in parts]
            yield Step(some, float(sum(batch.num_targets for batch in some)), sum(batch.num_targets for batch in some))

    torch.manual_seed(seed)
    model = Decoder(setting.shape).to(setting.device)

    def loss_of(ids: Any, targets: Any, weights: Any, positions: Any, documents: Any) -> torch.Tensor:
        return weighted_nll(model(ids), model.head, targets, weights)

    compiled = torch.compile(loss_of, dynamic=False) if plan.compile else loss_of
    return curve(setting, config, plan, model, compiled, epoch_of, f"plain, lr {lr:g}, seed {seed}")


def concatenated(setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R,T) of inputs and their targets: documents in one order, cut wherever a row is full."""
    tokens, T = setting.train, setting.shape.seq_len
    rows = epoch_plan(tokens, T, seed, 0, setting.weights)  # the same documents, as often as their source's weight says
    documents = np.random.default_rng(seed).permutation(rows.documents[rows.starts == 0])
    stream = np.concatenate([tokens.document(int(number)) for number in documents]).astype(np.int64)
    whole = (len(stream) - 1) // T * T
    return stream[:whole].reshape(-1, T), stream[1 : whole + 1].reshape(-1, T)


def plain_batch(ids: np.ndarray, targets: np.ndarray) -> Batch:
    """Whole rows as a batch in which every position counts."""
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy()
    documents = np.zeros(ids.shape, dtype=np.int32)
    weights = (targets != IGNORE).astype(np.float32)
    return Batch(ids, targets, weights, positions, documents, documents.astype(np.int64), int(weights.sum()))


def plain_rate(
    setting: Setting, asked: TrainConfig, rate: float | None
) -> tuple[float, list[dict[str, float]], dict[str, float]]:
    """The plain recipe's best rate, its curve for seed 0, and the grid: rate -> final bits per byte."""
    if rate is not None:
        return rate, plain_recipe(setting, asked, rate, 0), {}
    found = {lr: plain_recipe(setting, asked, lr, 0) for lr in FIRST_RATES}

    def final(lr: float) -> float:
        return found[lr][-1]["bits_per_byte"]

    while (best := min(found, key=final)) in (min(found), max(found)):
        lr = best / 2 if best == min(found) else best * 2
        found[lr] = plain_recipe(setting, asked, lr, 0)
    return best, found[best], {f"{lr:g}": final(lr) for lr in sorted(found)}


def curve(
    setting: Setting,
    config: TrainConfig,
    plan: RunPlan,
    model: Decoder,
    loss_of: LossFunction,
    epoch_of: Any,
    name: str,
    averages: bool = False,
) -> list[dict[str, float]]:
    """Train; after each epoch its held-out bits per byte, target tokens and seconds of training so far.

    The last point is the one that the validation split prefers: an epoch, or with `averages` a mean of the last ones.
    """
    optimizers = make_optimizers(model, config, plan.lr, plan.embedding_lr, plan.weight_decay, plan.precision)
    points, chosen_by, number, tokens, seconds = [], [], 0, 0, 0.0

    def judged(documents: Tokens) -> dict[str, Any]:
        with autocast(setting.device, plan.precision):
            found = summary(document_losses(model, documents, setting.shape.seq_len, setting.device))
        return {"val_loss": found["loss"], "bits_per_byte": found["bits_per_byte"]}

    with tqdm(total=plan.total_steps, desc=name, mininterval=10, leave=False) as bar, TemporaryDirectory() as folder:
        for epoch in range(1, setting.epochs + 1):
            model.train()
            started = time.perf_counter()
            for step in prefetched(epoch_of(epoch - 1)):
                lr = learning_rate(number, plan.total_steps, plan.lr, plan.min_lr, config.warmup_ratio)
                set_learning_rates(optimizers, lr / plan.lr)
                loss, _, _ = train_step(
                    model, optimizers, loss_of, step, setting.device, plan.precision, config.grad_clip
                )
                number, tokens = number + 1, tokens + step.num_targets
                bar.update(1)
            loss.item()  # waits for the device
            seconds += time.perf_counter() - started
            model.eval()
            bits = judged(setting.held_out)["bits_per_byte"]
            points.append({"epoch": epoch, "tokens": tokens, "seconds": seconds, "bits_per_byte": bits})
            chosen_by.append(judged(setting.val)["val_loss"])
            (Path(folder) / f"ckpt{epoch}").mkdir()
            save_model(model, Path(folder) / f"ckpt{epoch}", eos_id=EOS, bos_id=BOS, pad_id=PAD)
        end = points[chosen_by.index(min(chosen_by))]
        paths = last_epochs(Path(folder), setting.epochs) if averages else []
        best = best_mean(paths, model, lambda: judged(setting.val))
        if best is not None and best[1]["val_loss"] < min(chosen_by):
            end = {"averaged": len(best[0]), "bits_per_byte": judged(setting.held_out)["bits_per_byte"]}
    points.append({**points[-1], **end, "tokens": tokens, "seconds": seconds})
    print(
        f"{name}: " + ", ".join(f"{point['bits_per_byte']:.4f}" for point in points) + f" in {seconds:.0f} s",
        flush=True,
    )
    return points


def conclusion(curves: dict[str, list[list[dict[str, float]]]]) -> dict[str, Any]:
    """Final figures over seeds, and how the two recipes compare where both were run."""
    finals = {name: [points[-1]["bits_per_byte"] for points in seeds] for name, seeds in curves.items()}
    found: dict[str, Any] = {
        "final": {
            name: {"median": statistics.median(v), "lowest": min(v), "highest": max(v)} for name, v in finals.items()
        }
    }
    if "plain" in curves and "default" in curves:
        ended = {name: statistics.median(points[-1]["seconds"] for points in seeds) for name, seeds in curves.items()}
        found["lower_at_equal_epochs"] = 1 - statistics.median(finals["default"]) / statistics.median(finals["plain"])
        found["share_of_wall_time"] = ended["default, half"] / ended["plain"]
    return found


def half_of(epochs: int) -> int:
    """Half the epochs, whole."""
    return max(1, epochs // 2)


def lines(result: dict[str, Any]) -> list[str]:
    """The result in lines."""
    found = [
        f"{result['date']}, commit {result['commit']}, {result['device']}, {result['threads']} threads",
        f"{result['parameters']:,} parameters, {result['train_tokens']:,} target tokens an epoch, {result['epochs']} "
        f"epochs, {result['held_out_documents']:,} held-out documents",
    ]
    for name, final in result["final"].items():
        found.append(f"{name}: {final['median']:.4f} bits per byte ({final['lowest']:.4f} to {final['highest']:.4f})")
    if "share_of_wall_time" in result:
        found.append(
            f"the default recipe ends {result['lower_at_equal_epochs']:.1%} lower; with {result['half_epochs']} epochs "
            f"it ends at {result['final']['default, half']['median']:.4f}, in {result['share_of_wall_time']:.0%} of "
            "the plain one's training time"
        )
    return found


if __name__ == "__main__":
    run_command(main)
