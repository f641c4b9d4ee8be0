"""Pretrain a model on the run's corpus: `torchrun train.py --epochs 10`, or `python train.py`.

The story of a run, from top to bottom: inputs (corpus, tokenizer and tokens are made where they are missing), the plan,
model and optimizer, then epochs of steps, each epoch ending with a checkpoint, a validation and a few samples; at the
end a diagnosis. The same command continues a run that was interrupted. Exit code 75: stopped by a signal, saved.
"""

import os

# Threads that wait for each other should sleep soon, not spin: on two cores that something else also uses, a step took
# 7.8 s spinning and 0.8 s like this. Read by OpenMP when torch is loaded, so it stands before that.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import json
import math
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from common.errors import UserError, run_command
from common.files import file_sha256
from common.runs import averages, checkpoints, run_folder
from config import Config, load_command
from data.loader import batches, epoch_plan, num_steps
from data.tokens import Tokens
from eval.losses import document_losses, summary
from eval.ngrams import ngram_bits_per_byte
from model.config import Shape, resolve_shape
from model.decoder import Decoder
from tokenizer.bpe import SMALLEST, Tokenizer, load_tokenizer
from tokenizer.encode import build_store
from training import distributed, sharding
from training.average import best_mean, last_epochs, name_of
from training.build import make_model
from training.checkpoint import (
    git_revision,
    newest_resumable,
    prune,
    restore,
    save_checkpoint,
    save_for_use,
    update_metrics,
)
from training.distributed import World
from training.forecast import earlier_runs, forecast_lines
from training.measure import seconds_per_step
from training.metrics import MetricsLog, diagnosis, read_metrics
from training.optimizer import learning_rate, set_learning_rates
from training.plan import RunPlan, derive, time_line
from training.samples import first_documents, sample_lines
from training.signals import StopRequest, stop_requests
from training.step import autocast, loss_function, prefetched, train_step

INTERRUPTED = 75  # "temporary failure, run it again", as sysexits.h numbers it
STOPPED = "stopped"  # a file in the run's folder that says the same to a script behind torchrun, which exits with 1
LOG_EVERY = {
    "cpu": 1,
    "mps": 10,
    "cuda": 20,
}  # steps between reads of the loss: reading it waits for the device


@dataclass
class Run:
    """What every part of a run's story needs."""

    config: Config
    world: World
    folder: Path
    tok: Tokenizer
    shape: Shape
    plan: RunPlan
    train: Tokens
    val: Tokens
    model: Decoder
    optimizers: list[torch.optim.Optimizer]
    log: MetricsLog
    provenance: dict[str, Any]
    state: dict[str, Any]
    validated: bool  # the epoch that the state ends with is in the log already
    sync: distributed.GradientSync

    def say(self, line: str) -> None:
        """Print once, above the progress bar."""
        if self.world.is_main:
            tqdm.write(line)


def train(config: Config, plan_only: bool = False, resume: bool = False) -> dict[str, Any]:
    """Train a run; returns {"folder", "epochs": [epoch events], "interrupted"}. Raises UserError."""
    resolve_shape(config.model, SMALLEST)  # an impossible model is refused before a corpus is made for it
    world = distributed.start(config.train.device, config.train.deterministic)
    try:
        distributed.on_main(world, lambda: make_inputs(config))
        with ExitStack() as held:
            distributed.on_main(world, lambda: held.enter_context(config.claimed("train", write=not plan_only)))
            run = open_run(config, world, plan_only, resume)
            if run is None:
                return {"folder": None, "epochs": [], "interrupted": False}
            if world.is_main:
                (run.folder / STOPPED).unlink(missing_ok=True)
            with stop_requests() as stop:
                interrupted = train_epochs(run, stop)
            run.log.close()
            if interrupted and world.is_main:
                (run.folder / STOPPED).touch()
            distributed.barrier()  # rank 0 has written the last epoch before the others read it
            epochs = read_metrics(run.folder / "metrics.jsonl", "epoch")
            if not interrupted:
                conclude(run, epochs)
            return {"folder": run.folder, "epochs": epochs, "interrupted": interrupted}
    finally:
        distributed.stop()


def make_inputs(config: Config) -> None:
    """Make corpus and tokenizer where they are missing, with a line that says so."""
    config.check()
    folder = run_folder(config.run)
    if not (folder / "corpus" / "manifest.json").exists():
        from data.prepare import prepare_run  # the data engine is needed only here

        print(f"run '{config.run}' has no corpus yet: preparing it first, as `python data/prepare.py` would")
        prepare_run(config)
    if not (folder / "tokenizer" / "tokenizer.json").exists():
        from tokenizer.train import train as train_tokenizer

        print(f"run '{config.run}' has no tokenizer yet: training it first, as `python tokenizer/train.py` would")
        train_tokenizer(config)


def open_run(config: Config, world: World, plan_only: bool, resume: bool) -> Run | None:
    """Tokens, plan, model, optimizers and the state to start from; None after `--plan`."""
    folder = run_folder(config.run)
    tok = load_tokenizer(folder / "tokenizer")
    stores = {split: open_store(folder, split, world) for split in ("train", "val")}
    shape = resolve_shape(config.model, tok.vocab_size)
    manifest = json.loads((folder / "corpus" / "manifest.json").read_text(encoding="utf-8"))
    weights = {source["name"]: source["weight"] for source in manifest["sources"] if source["weight"] != 1}
    plan, lines = derive(config.train, shape, stores["train"], weights, world)
    if world.is_main:
        print(*lines, sep="\n")
    if plan_only:
        seconds = seconds_per_step(config.train, plan, shape, stores["train"], world)
        if world.is_main:
            print(time_line(plan, seconds))
            if config.train.prompt_loss_weight > 0:  # an n-gram model counts prompts like the rest
                ngram = ngram_bits_per_byte(stores["train"], stores["val"], tok.vocab_size)
                tokenizer = file_sha256(folder / "tokenizer" / "tokenizer.json")
                earlier = earlier_runs(folder.parent, manifest["fingerprint"], tokenizer)
                print(*forecast_lines(ngram, shape, plan.epoch_targets, config.train.epochs, earlier), sep="\n")
        return None

    model, optimizers = make_model(config.train, plan, shape, world)
    inputs = {
        "corpus": manifest["fingerprint"],
        "tokenizer": file_sha256(folder / "tokenizer" / "tokenizer.json"),
    }
    machine = {"torch": torch.__version__, "device": world.device.type, "threads": torch.get_num_threads(),
               "processes": world.size, "micro_batch": plan.micro_batch, "precision": plan.precision,
               "compile": plan.compile, **({"parallel": config.train.parallel} if world.size > 1 else {})}  # fmt: skip
    state = starting_state(folder, {"inputs": inputs, "machine": machine}, world, resume, model, optimizers)
    validated = cut_back(folder / "metrics.jsonl", state, world)
    distributed.barrier()  # rank 0 cuts the log only when all have read it
    log = MetricsLog(folder / "metrics.jsonl" if world.is_main else None, state["metrics_bytes"])
    settings = {name: asdict(getattr(config, name)) for name in ("prepare", "tokenizer", "model", "train")}
    provenance = {**inputs, "run": config.run, "git": git_revision(), "config": settings, "machine": machine}
    return Run(config, world, folder, tok, shape, plan, stores["train"], stores["val"],
               model, optimizers, log, provenance, state, validated, distributed.gradient_sync(model))  # fmt: skip


def open_store(folder: Path, split: str, world: World) -> Tokens:
    """A split's tokens; rank 0 encodes them where there is no store yet."""
    where = (folder / "corpus", split, folder / "tokenizer", folder / "tokens")
    distributed.on_main(world, lambda: build_store(*where))
    return build_store(*where, quiet=True)


def starting_state(
    folder: Path,
    made_with: dict[str, Any],
    world: World,
    resume: bool,
    model: Decoder,
    optimizers: list[torch.optim.Optimizer],
) -> dict[str, Any]:
    """State of the newest sound checkpoint, put into model and optimizers; or the state before the first step."""
    # Rank 0 chooses for all: on a network's file system another rank may not see the newest one yet.
    found = distributed.from_main(world, lambda: newest_resumable(folder))
    if found is None:
        if there := checkpoints(folder):
            raise UserError(
                f"{folder} holds {', '.join(path.name for path in there)}, and none of them can be continued from "
                "(damaged, or without trainer/): nothing is overwritten, start another run with --run"
            )
        if resume:
            raise UserError(f"--resume: {folder} holds no checkpoint to continue from; leave the flag out to start")
        return {"step": 0, "cursor": {"epoch": 0, "step": 0}, "nats": 0.0, "weight": 0.0, "tokens": 0,
                "seconds": 0.0, "metrics_bytes": 0, **made_with}  # fmt: skip
    path, state = found
    for name, value in made_with["inputs"].items():
        if state["inputs"][name] != value:
            raise UserError(
                f"{path} was trained on another {name} ({state['inputs'][name][:12]}, now {value[:12]}): "
                "its run cannot go on; start another with --run"
            )
    restore(path, model, optimizers)
    if world.is_main:
        print(f"continuing from {path}: {state['step']:,} steps and {state['cursor']['epoch']} whole epochs are done")
        changes = [f"{k} {state['machine'].get(k)} -> {v}" for k, v in made_with["machine"].items()
                   if state["machine"].get(k) != v]  # fmt: skip
        if changes:
            print(f"warning: {', '.join(changes)}: the result will agree to rounding, not bit for bit")
    state["machine"] = made_with["machine"]
    return state


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


def train_epochs(run: Run, stop: StopRequest) -> bool:
    """All epochs that are left. True if a signal ended them early; everything done until then is saved."""
    loss_of = loss_function(run.model, run.plan.compile)
    epochs = run.config.train.epochs
    total = run.plan.total_steps
    seconds = 0.2 if sys.stderr.isatty() else 30  # between updates of the bar: a scheduler's log wants few lines
    done = min(total, run.state["step"])
    with tqdm(total=total, initial=done, unit="step", mininterval=seconds, disable=not run.world.is_main) as bar:
        if run.state["cursor"]["step"] == 0 and run.state["step"] > 0:
            if not run.validated:
                finish_epoch(run, run.state["cursor"]["epoch"])
            run.state.update(nats=0.0, weight=0.0)
        for epoch in range(run.state["cursor"]["epoch"], epochs):
            if train_epoch(run, epoch, loss_of, bar, stop):
                return True
            run.state["cursor"] = {"epoch": epoch + 1, "step": 0}
            save(run, f"ckpt{epoch + 1}")  # before anything that can fail is tried
            finish_epoch(run, epoch + 1)
            run.state.update(nats=0.0, weight=0.0)
            if epoch + 1 < epochs and distributed.any_rank(stop.signal is not None):
                run.say(f"stopped after epoch {epoch + 1}, saved as ckpt{epoch + 1}")
                return True
    return False


def train_epoch(run: Run, epoch: int, loss_of: Any, bar: tqdm, stop: StopRequest) -> bool:
    """The steps of one epoch from the cursor on. True if a signal ended it; then a step-* checkpoint is there."""
    options, plan, world, state = run.config.train, run.plan, run.world, run.state
    rows = epoch_plan(run.train, run.shape.seq_len, options.seed, epoch, plan.weights)
    steps = batches(rows, run.train, plan.rows_per_step, plan.micro_batch, state["cursor"], world.rank, world.size,
                    options.prompt_loss_weight)  # fmt: skip
    last_step = num_steps(rows, plan.rows_per_step)
    pending: list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]] = []
    started = read_at = saved_at = time.monotonic()
    seconds_before = state["seconds"]
    run.model.train()
    for step, cursor in prefetched(steps):
        lr = learning_rate(state["step"], plan.total_steps, plan.lr, plan.min_lr, options.warmup_ratio)
        set_learning_rates(run.optimizers, lr / plan.lr)
        if run.shape.dropout > 0:  # other masks on each rank and step, the same ones after a resume
            torch.manual_seed(hash((options.seed, world.rank, state["step"])) % 2**63)
        loss, norm = train_step(
            run.model, run.optimizers, loss_of, step, world.device, plan.precision, options.grad_clip, run.sync
        )
        state.update(step=state["step"] + 1, cursor=cursor, tokens=state["tokens"] + step.num_targets)
        event = {"step": state["step"], "epoch": epoch + 1, "lr": lr, "tokens": state["tokens"]}
        pending.append(({**event, "weight": step.weight_sum, "targets": step.num_targets}, loss, norm))
        bar.update(1)
        due = options.save_minutes > 0 and time.monotonic() - saved_at > 60 * options.save_minutes
        stopping, due = distributed.any_of(stop.signal is not None, due)
        saving = cursor["step"] < last_step and (stopping or due)
        if len(pending) >= LOG_EVERY[world.device.type] or saving or stopping or cursor["step"] == last_step:
            now = time.monotonic()
            write_steps(run, pending, now - read_at, bar)
            pending, read_at = [], now
            state["seconds"] = seconds_before + now - started
        if saving:
            save(run, f"step-{state['step']:06d}")
            saved_at = time.monotonic()
        if stopping and cursor["step"] < last_step:
            run.say(f"stopped by {stop.signal or 'another rank'} at step {state['step']:,}, saved")
            return True
    return False


def write_steps(
    run: Run, pending: list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]], seconds: float, bar: tqdm
) -> None:
    """Read the waiting losses from the device, sum them over ranks, log them."""
    losses = distributed.sum_array(torch.stack([loss for _, loss, _ in pending]).cpu().double().numpy())
    norms = torch.stack([norm for _, _, norm in pending]).tolist()
    for (event, _, _), loss, norm in zip(pending, losses.tolist(), norms, strict=True):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UserError(
                f"training diverged at step {event['step']:,}: loss {loss:.3g}, gradient norm {norm:.3g}; what was "
                f"saved in {run.folder} before is sound: start another run with a lower --lr (now {run.plan.lr:.3g})"
            )
    rate = sum(event["targets"] for event, _, _ in pending) / max(seconds, 1e-9)
    for (event, _, _), loss, norm in zip(pending, losses.tolist(), norms, strict=True):
        weight = event.pop("weight")
        run.state["nats"] += loss * weight
        run.state["weight"] += weight
        run.log.write("step", **event, loss=loss, grad_norm=norm, tokens_per_s=round(rate, 1))
    bar.set_postfix_str(f"epoch {event['epoch']} loss {loss:.3f} {rate:,.0f} tok/s", refresh=False)


def save(run: Run, name: str) -> None:
    """Write a checkpoint (rank 0); the others hand in their shards and wait until it is there."""
    run.state["metrics_bytes"] = run.log.sync()
    where = {
        "epoch": run.state["cursor"]["epoch"],
        "step": run.state["step"],
        "tokens": run.state["tokens"],
    }
    save_checkpoint(run.folder / name, run.model, run.optimizers, run.folder / "tokenizer", run.state,
                    {**run.provenance, **where}, run.world.is_main)  # fmt: skip
    if run.world.is_main:
        prune(run.folder)
    distributed.barrier()


def finish_epoch(run: Run, epoch: int) -> None:
    """Validate, log the epoch, add the figures to its checkpoint, print samples."""
    run.model.eval()
    with sharding.gathered(run.model):
        judge(run, epoch)


def judge(run: Run, epoch: int) -> None:
    """What `finish_epoch` does, on a model whose weights are whole on every rank."""
    world, started = run.world, time.monotonic()
    train_loss = run.state["nats"] / max(run.state["weight"], 1e-9)
    name = f"ckpt{epoch}"
    metrics = {"train_loss": train_loss, **validate(run)}
    seconds = round(run.state["seconds"], 3)
    if world.is_main:
        update_metrics(run.folder / name, metrics)  # before the log, whose line says that the epoch is judged
    run.log.write("epoch", epoch=epoch, step=run.state["step"], **metrics, checkpoint=name, seconds=seconds,
                  validation_seconds=round(time.monotonic() - started, 3))  # fmt: skip
    run.log.sync()
    run.say(
        f"epoch {epoch}: train loss {train_loss:.4f}, validation loss {metrics['val_loss']:.4f} (perplexity "
        f"{metrics['val_ppl']:.2f}), {metrics['val_bpb']:.4f} bits per byte on {metrics['val_documents']:,} documents, "
        f"{metrics['val_tokens']:,} tokens -> {run.folder / name}"
    )
    if world.is_main:
        documents = first_documents(run.folder / "corpus", run.config.train.samples)
        # Gathered layers are rounded already where training is in bf16; whole ones speak in fp32, as in chat.
        sharded = sharding.is_sharded(run.model)
        with autocast(world.device, run.plan.precision if sharded else "fp32"):
            for line in sample_lines(run.model, run.tok, documents, run.config.train.sample_tokens):
                run.say(line)


def validate(run: Run) -> dict[str, Any]:
    """Figures of the model, whose weights are whole on every rank, on the validation split."""
    world = run.world
    with autocast(world.device, run.plan.precision):
        losses = document_losses(run.model, run.val, run.shape.seq_len, world.device, batch_rows=run.plan.micro_batch,
                                 rank=world.rank, world_size=world.size)  # fmt: skip
    val = summary(losses.map(distributed.sum_array))
    return {
        "val_loss": val["loss"],
        "val_bpb": val["bits_per_byte"],
        "val_ppl": val["perplexity"],
        "val_documents": val["num_documents"],
        "val_tokens": val["num_tokens"],
        "val_bytes": val["num_bytes"],
    }


def keep_average(run: Run, epochs: list[dict[str, Any]]) -> str | None:
    """Keep the best mean of the last epochs' weights if it is better than each epoch; returns the checkpoint's name."""
    world, last = run.world, run.config.train.epochs
    if there := distributed.from_main(world, lambda: averages(run.folder)):  # the run was done before
        return there[-1].name
    model = run.model.eval()

    def validated() -> dict[str, Any]:
        with sharding.gathered(model):
            return validate(run)

    found = best_mean(distributed.from_main(world, lambda: last_epochs(run.folder, last)), model, validated)
    if found is None or found[1]["val_loss"] >= min(event["val_loss"] for event in epochs):
        return None
    chosen, metrics = found
    name = name_of(chosen)
    where = {"epoch": last, "step": run.state["step"], "tokens": run.state["tokens"]}
    provenance = {**run.provenance, **where, "average_of": [path.name for path in chosen], "metrics": metrics}
    save_for_use(run.folder / name, model, run.folder / "tokenizer", provenance, world.is_main)
    run.say(
        f"the average of {len(chosen)} epochs' weights is better than each epoch: validation loss "
        f"{metrics['val_loss']:.4f}, {metrics['val_bpb']:.4f} bits per byte -> {run.folder / name}"
    )
    return name


def conclude(run: Run, epochs: list[dict[str, Any]]) -> None:
    """The diagnosis, an average if it is better, and the next command."""
    trained = f"{run.state['tokens']:,} target tokens in {run.state['seconds']:,.0f} s"
    run.say(f"done: {len(epochs)} epochs, {run.state['step']:,} steps, {trained}")
    # A run that learns no prompts is not held against an n-gram model that counts them.
    counts = run.world.is_main and run.config.train.prompt_loss_weight > 0
    ngram = ngram_bits_per_byte(run.train, run.val, run.tok.vocab_size) if counts else None
    for line in diagnosis(epochs, ngram):
        run.say(line)
    names = [event["checkpoint"] for event in epochs]
    best = min(epochs, key=lambda event: event["val_loss"])["checkpoint"] if epochs else "ckpt1"
    best = (keep_average(run, epochs) if run.config.train.average else None) or best
    if best not in names[:1]:
        run.say(f"next: python eval/compare.py {names[0]} {best} --run {run.config.run}")
    else:
        run.say(f"next: python chat.py {best} --run {run.config.run}")


def main() -> None:
    """The command."""
    flags = {
        "plan": (False, "print what would happen and what it costs, and stop"),
        "resume": (False, "continue from the newest sound checkpoint; an error if there is none"),
    }
    config = load_command("train", __doc__, flags=flags)
    result = train(config, plan_only=config.args.plan, resume=config.args.resume)
    if result["interrupted"]:
        print("run the same command again to go on")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run_command(main)
