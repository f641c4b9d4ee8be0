"""Pretrain a model on the run's corpus: `torchrun train.py --epochs 10`, or `python train.py`.

Fine-tune a checkpoint on answers: `torchrun train.py --stage finetune --init-from ckpt10 --config my-qa.toml`.

The story of a run, from top to bottom: inputs (corpus, tokenizer and tokens are made where they are missing), the plan,
model and optimizer, then epochs of steps, each epoch ending with a checkpoint, a validation and a few samples; at the
end a diagnosis. The same command continues a run that was interrupted. Exit code 75: stopped by a signal, saved.
"""

import os

# Threads that wait for each other should sleep soon, not spin: on two cores that something else also uses, a step took
# 7.8 s spinning and 0.8 s like this. Read by OpenMP when torch is loaded, so it stands before that.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import sys
import time
from collections.abc import Collection
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from common.errors import MachineError, UserError, run_command
from common.files import file_sha256
from common.runs import CHANGEABLE, InUse, run_folder
from config import Config, load_command
from data.loader import about_corpus, batches, epoch_plan, num_steps
from data.tokens import Tokens, open_tokens
from eval.epoch import finish_epoch, keep_average
from eval.ngrams import counted, ngram_bits_per_byte
from model.config import resolve_shape
from tokenizer.bpe import load_tokenizer
from tokenizer.config import SMALLEST
from tokenizer.dialog import Dialog, open_dialog
from tokenizer.encode import has_store, sound_store
from tokenizer.invariants import broken_invariants
from tokenizer.responses import sound_responses
from training import distributed
from training.build import make_model
from training.checkpoint import git_revision, newest_resumable, restore
from training.distributed import World
from training.forecast import earlier_runs, forecast_lines
from training.measure import seconds_per_step
from training.metrics import MetricsLog, diagnosis, read_metrics
from training.optimizer import learning_rate, set_learning_rates
from training.plan import check_memory, derive, time_line
from training.preflight import preflight
from training.rehearsal import rehearse
from training.resume import beginning, check_resume, cut_back, refuse_to_overwrite, state_of, tell_continued
from training.run import Run, finite, go_back, save, settle, write_steps
from training.save import check_room, foreign_files, tokenizer_files
from training.signals import Stopped, stop_requests
from training.start import has_start, open_start, provenance, source_of, start_shapes, take
from training.step import loss_function, prefetched, train_step
from training.trouble import SLOWER, Recent

INTERRUPTED = 75  # "temporary failure, run it again", as sysexits.h numbers it
STOPPED = "stopped"  # a file in the run's folder that says the same to a script behind torchrun, which exits with 1
LOG_EVERY = {
    "cpu": 1,
    "mps": 10,
    "cuda": 20,
}  # steps between reads of the loss: reading it waits for the device


def train(
    config: Config, plan_only: bool = False, resume: bool = False, accepted: Collection[str] = ()
) -> dict[str, Any]:
    """Train a run; returns {"folder", "epochs": [epoch events; of rank 0], "interrupted"}. Raises
    UserError.

    accepted: what may differ from the run that is continued: keys of [train], "corpus".
    """
    folder = run_folder(config.run)
    if has_start(config.train):
        shape = start_shapes(config.train, config.model, source_of(config.train, folder))[1]
    else:
        shape = resolve_shape(config.model, config.tokenizer.vocab_size or SMALLEST)
    world = distributed.start(config.train.device, config.train.deterministic)
    try:
        if resume:
            distributed.on_main(world, lambda: check_resume(folder))
        check_memory(config.train, shape, world)  # an impossible model is refused before a corpus is made for it
        distributed.on_main(world, lambda: make_inputs(config, accepted))
        with ExitStack() as held:
            distributed.on_main(world, lambda: hold(held, config, plan_only, accepted))
            run = open_run(config, world, plan_only, accepted)
            if run is None:
                return {"folder": None, "epochs": [], "interrupted": False}
            if world.is_main:
                (run.folder / STOPPED).unlink(missing_ok=True)
            with stop_requests(run.stop):  # to the very end: an echo of the signal must not kill what is being saved
                interrupted = train_until_stopped(run)
                if interrupted and world.is_main:
                    (run.folder / STOPPED).touch()
            epochs = read_metrics(run.folder / "metrics.jsonl", "epoch") if world.is_main else []
            return {"folder": run.folder, "epochs": epochs, "interrupted": interrupted}
    except RuntimeError as error:  # what gloo and nccl raise where the other end is gone
        if lost := distributed.lost_ranks(world):
            raise MachineError(
                f"{' and '.join(lost)} has ended, so this rank stops too; what was saved is sound, and the same "
                f"command goes on from it ({' '.join(str(error).split())[:80]})"
            ) from error
        raise
    finally:
        distributed.stop()


def make_inputs(config: Config, accepted: Collection[str] = ()) -> None:
    """Make corpus and tokenizer where they are missing, with a line that says so, or take what the run starts from."""
    config.check(accepted)
    folder = run_folder(config.run)
    if not (folder / "corpus" / "manifest.json").exists():
        from data.prepare import prepare_run  # the data engine is needed only here

        print(f"run '{config.run}' has no corpus yet: preparing it first, as `python data/prepare.py` would")
        prepare_run(config)
    if has_start(config.train):
        with config.claimed("tokenizer"):
            take(config.train, folder)
    elif not (folder / "tokenizer" / "tokenizer.json").exists():
        from tokenizer.train import train as train_tokenizer

        print(f"run '{config.run}' has no tokenizer yet: training it first, as `python tokenizer/train.py` would")
        train_tokenizer(config)


def hold(held: ExitStack, config: Config, plan_only: bool, accepted: Collection[str]) -> None:
    """Hold the run for as long as `held` is open; a plan of one that another command holds only reads, if it can."""
    try:
        held.enter_context(config.claimed("train", not plan_only, accepted))
    except InUse as error:
        folder = run_folder(config.run)
        places = [(folder / "corpus", split, folder / "tokenizer", folder / "tokens") for split in ("train", "val")]
        if not plan_only or not all(has_store(*place) for place in places):
            raise
        print(f"note: {error.who}; the plan only reads")


def open_run(config: Config, world: World, plan_only: bool, accepted: Collection[str] = ()) -> Run | None:
    """Tokens, plan, model, optimizers and the state to start from; None after `--plan`."""
    folder = run_folder(config.run)
    start = distributed.on_all(world, lambda: open_start(config.train, config.model, folder))
    # Others' config.json, which may name what ends an answer, lies in the start alone.
    dialog = distributed.on_all(world, lambda: open_dialog(start.folder if start else folder / "tokenizer"))
    if start:
        shape, context = start.rows, start.shape.seq_len
    else:
        shape = distributed.on_all(world, lambda: resolve_shape(config.model, dialog.vocab_size))
        context = shape.seq_len
    if config.train.stage == "finetune":
        stores = {split: open_responses(config, dialog, shape.seq_len, split, world) for split in ("train", "val")}
    else:
        stores = {split: open_store(folder, split, world) for split in ("train", "val")}
    if start and not start.own:
        tokenizer = distributed.on_all(world, lambda: foreign_files(folder / "tokenizer", folder / "init", dialog))
    else:
        tokenizer = distributed.on_all(world, lambda: tokenizer_files(folder / "tokenizer", context))
    corpus, weights = distributed.from_main(world, lambda: about_corpus(folder / "corpus" / "manifest.json"))
    # Rank 0 chooses for all: on a network's file system another rank may not see the newest one yet.
    found = distributed.from_main(world, lambda: newest_resumable(folder, config.train.verify and not plan_only))
    plan, lines = derive(config.train, shape, stores["train"], weights, world, found[1]["machine"] if found else {})
    if world.is_main:
        print(*lines, sep="\n")
        for line in broken_invariants(start.folder) if start and not start.own else ():
            print(f"warning: {line}")
        if config.train.stage == "finetune":
            print(*preflight(stores["train"], dialog, shape.seq_len, sys.stdout.isatty()), sep="\n")
    inputs = {
        "corpus": corpus,
        "tokenizer": file_sha256(folder / "tokenizer" / "tokenizer.json"),
    }
    began_with = provenance(start) if start else {}
    if plan_only:
        if world.is_main:
            try:
                check_room(folder, shape, config.train.optimizer == "muon")
            except UserError as error:
                print(f"warning: {error}")
        seconds = seconds_per_step(config.train, plan, shape, stores["train"], world, start)
        if world.is_main:
            print(time_line(plan, seconds, world.size if config.train.parallel == "ddp" else 1))
            if config.train.prompt_loss_weight > 0:  # an n-gram model counts prompts like the rest
                ngram = ngram_bits_per_byte(stores["train"], stores["val"], dialog.vocab_size)
                earlier = earlier_runs(folder, **inputs, optimizer=config.train.optimizer, seq_len=shape.seq_len)
                what = counted(stores["train"])
                print(*forecast_lines(ngram, shape, plan.epoch_targets, config.train, earlier, what), sep="\n")
        return None

    model, optimizers = distributed.on_all(world, lambda: make_model(config.train, plan, shape, world, start))
    machine = {"torch": torch.__version__, "device": world.device.type, "threads": torch.get_num_threads(),
               "processes": world.size, "micro_batch": plan.micro_batch, "precision": plan.precision,
               "compile": plan.compile, **({"parallel": config.train.parallel} if world.size > 1 else {})}  # fmt: skip
    made_with = {"inputs": inputs, "machine": machine}
    if found is None:
        distributed.on_main(world, lambda: refuse_to_overwrite(folder))
        state = beginning(made_with)
    else:
        state = state_of(found, made_with, world, accepted)
        distributed.on_all(world, lambda: restore(found[0], model, optimizers))
        tell_continued(found, made_with, world)
    validated = cut_back(folder / "metrics.jsonl", state, world)
    log = MetricsLog(folder / "metrics.jsonl" if world.is_main else None, state["metrics_bytes"])
    settings = {name: asdict(getattr(config, name)) for name in ("prepare", "tokenizer", "model", "train")}
    if start:
        settings["model"] = asdict(start.rows)
    made_of = {**inputs, **began_with, "run": config.run, "git": git_revision(), "config": settings, "machine": machine}
    return Run(config, world, folder, dialog, tokenizer, start, shape, plan, stores["train"], stores["val"],
               model, optimizers, log, made_of, state, validated, distributed.gradient_sync(model),
               Recent(world.device, state["recent"]), saved_step=state["step"], safe_step=state["step"])  # fmt: skip


def open_store(folder: Path, split: str, world: World) -> Tokens:
    """A split's tokens; rank 0 encodes them where there is no store yet."""
    where = (folder / "corpus", split, folder / "tokenizer", folder / "tokens")
    stem = distributed.from_main(world, lambda: sound_store(*where))
    return distributed.on_all(world, lambda: open_tokens(stem, load_tokenizer(folder / "tokenizer").vocab_size))


def open_responses(config: Config, dialog: Dialog, seq_len: int, split: str, world: World) -> Tokens:
    """A split's rows to fine-tune on; rank 0 renders them where there are none yet, and says what became of it."""
    folder = run_folder(config.run)
    policy = config.train.long_rows
    stem, counts = distributed.from_main(
        world,
        lambda: sound_responses(
            folder / "corpus", split, folder / "tokenizer", dialog, seq_len, folder / "tokens", policy
        ),
    )
    if world.is_main:
        print(*(f"{split}: {line}" for line in counts.lines()), sep="\n")
    return distributed.on_all(world, lambda: open_tokens(stem, dialog.vocab_size))


def train_until_stopped(run: Run) -> bool:
    """All that is left of the run. True if a signal ended it early; everything done until then is saved."""
    try:
        interrupted = train_epochs(run)
    except Stopped:  # alone, perhaps: no rank waits for another here
        run.say(f"stopped by {run.stop.signal} before there was a new step to save")
        interrupted = True
    finally:
        try:
            settle(run)
        finally:
            run.log.close()
    if interrupted:
        return True
    # Rank 0 has written the last epoch before the others read it, and reads the log for all, who go on by what it says.
    epochs = distributed.from_main(run.world, lambda: read_metrics(run.folder / "metrics.jsonl", "epoch"))
    try:
        conclude(run, epochs)
    except Stopped:
        run.say(
            f"stopped by {run.stop.signal or 'another rank'} after the last epoch: all of them are saved and judged"
        )
        return True
    return False


def train_epochs(run: Run) -> bool:
    """All epochs that are left. True if a signal ended them early; everything done until then is saved."""
    loss_of = loss_function(run.model, run.plan.compile)
    if run.state["cursor"]["epoch"] < run.config.train.epochs:
        muon = run.config.train.optimizer == "muon"
        distributed.on_main(run.world, lambda: check_room(run.folder, run.shape, muon))
        with run.stop.at_once(run.world.size == 1):
            rehearse(run.config.train, run.plan, run.model, run.optimizers, loss_of, run.sync)
    epochs = run.config.train.epochs
    seconds = 0.2 if sys.stderr.isatty() else 30  # between updates of the bar: a scheduler's log wants few lines
    with tqdm(total=run.plan.total_steps, unit="step", mininterval=seconds, disable=not run.world.is_main) as bar:
        while True:
            bar.n = min(bar.total, run.state["step"])
            epoch = run.state["cursor"]["epoch"]
            if run.state["cursor"]["step"] == 0 and epoch > 0:  # begun with, or gone back to, the end of an epoch
                if not run.validated and finish_epoch(run, epoch):
                    return True
                run.state.update(nats=0.0, weight=0.0)
            if epoch >= epochs:
                return False
            outcome = train_epoch(run, epoch, loss_of, bar)
            if outcome == "stopped":
                return True
            if outcome == "trouble" or not finite(run):
                go_back(run, epoch)
                continue
            run.state["cursor"] = {"epoch": epoch + 1, "step": 0}
            save(run, f"ckpt{epoch + 1}")  # before anything that can fail is tried
            if finish_epoch(run, epoch + 1):
                return True
            run.validated = True
            if distributed.any_rank(run.stop.wanted()):  # after the last one too: what is left takes a while
                run.say(f"stopped after epoch {epoch + 1}, saved as ckpt{epoch + 1}")
                return True


def train_epoch(run: Run, epoch: int, loss_of: Any, bar: tqdm) -> Literal["done", "stopped", "trouble"]:
    """The steps of one epoch from the cursor on. Stopped by a signal: what was done until then is saved. In trouble:
    too many steps in a row were left out."""
    options, plan, world, state, stop = run.config.train, run.plan, run.world, run.state, run.stop
    rows = epoch_plan(run.train, run.shape.seq_len, options.seed, epoch, plan.weights)
    steps = batches(rows, run.train, plan.rows_per_step, plan.micro_batch, state["cursor"], world.rank, world.size,
                    options.prompt_loss_weight)  # fmt: skip
    last_step = num_steps(rows, plan.rows_per_step)
    pending: list[tuple[dict[str, Any], tuple[torch.Tensor, ...]]] = []
    started = read_at = saved_at = time.monotonic()
    seconds_before = state["seconds"]
    run.model.train()
    for step, cursor in prefetched(steps):
        if [epoch, cursor["step"]] in state["passed_over"]:
            step.weight_sum = 0.0  # it takes its place, and changes nothing
        share = learning_rate(state["step"], plan.total_steps, plan.lr, plan.min_lr, options.warmup_ratio) / plan.lr
        share *= SLOWER ** state["went_back"]
        set_learning_rates(run.optimizers, share)
        if run.shape.dropout > 0:  # other masks on each rank and step, the same ones after a resume
            torch.manual_seed(hash((options.seed, world.rank, state["step"])) % 2**63)
        taken = None
        fresh = state["step"] == run.safe_step
        try:
            # Nothing to save yet, and the step may have to be compiled first: a signal need not wait for that.
            with stop.at_once(world.size == 1) if fresh else nullcontext():
                taken = train_step(run.model, run.optimizers, loss_of, step, world.device, plan.precision,
                                   options.grad_clip, run.sync, run.leave_if_stopped, run.recent)  # fmt: skip
        except Stopped:
            if fresh:
                raise
        if taken is not None:
            state.update(step=state["step"] + 1, cursor=cursor, tokens=state["tokens"] + step.num_targets)
            event = {"step": state["step"], "epoch": epoch + 1, "lr": share * plan.lr, "tokens": state["tokens"]}
            pending.append(({**event, "weight": step.weight_sum, "targets": step.num_targets, "cursor": cursor}, taken))
            bar.update(1)
        # By steps a save waits for the one before, so that what is saved does not depend on the clock.
        by_steps = options.save_steps > 0 and state["step"] % options.save_steps == 0
        by_clock = 0 < 60 * options.save_minutes < time.monotonic() - saved_at and not run.saver.busy()
        due = world.is_main and not state["left_out"] and (by_steps or by_clock)
        stopping, due = distributed.any_of(taken is None or stop.wanted(), due)
        at_end = state["cursor"]["step"] == last_step
        saving = not at_end and (stopping or due)
        if len(pending) >= LOG_EVERY[world.device.type] or saving or stopping or at_end:
            now = time.monotonic()
            in_trouble = write_steps(run, pending, now - read_at, bar)
            pending, read_at = [], now
            state["seconds"] = seconds_before + now - started
            if in_trouble:
                return "trouble"
        if saving:
            save(run, f"step-{state['step']:06d}", in_background=not stopping)
            saved_at = time.monotonic()
        if stopping and not at_end:
            saved = "saved" if state["step"] == run.saved_step else "not saved"
            run.say(f"stopped by {stop.signal or 'another rank'} at step {state['step']:,}, {saved}")
            return "stopped"
    return "done"


def conclude(run: Run, epochs: list[dict[str, Any]]) -> None:
    """The diagnosis, an average if it is better, and the next command."""
    trained = f"{run.state['tokens']:,} target tokens in {run.state['seconds']:,.0f} s"
    run.say(f"done: {len(epochs)} epochs, {run.state['step']:,} steps, {trained}")
    # A run that learns no prompts is not held against an n-gram model that counts them.
    counts = run.world.is_main and run.config.train.prompt_loss_weight > 0
    ngram = ngram_bits_per_byte(run.train, run.val, run.dialog.vocab_size) if counts else None
    for line in diagnosis(epochs, ngram, counted(run.train)):
        run.say(line)
    names = [event["checkpoint"] for event in epochs] or ["ckpt1"]
    last = f"ckpt{run.config.train.epochs}"
    best = min(epochs, key=lambda event: event["val_loss"])["checkpoint"] if epochs else last
    averages = run.config.train.average and not run.config.train.lora_rank  # adapters' means are not the weights'
    best = (keep_average(run, epochs) if averages else None) or best
    if run.start and run.config.train.stage == "finetune":
        name = run.config.run  # judged on the answers of its own corpus, not on the start's
        run.say(f"next: python eval/compare.py {name}/init {best} --run {name} --data {name}")
    elif best not in names[:1]:
        run.say(f"next: python eval/compare.py {names[0]} {best} --run {run.config.run}")
    else:
        run.say(f"next: python chat.py {best} --run {run.config.run}")


def main() -> None:
    """The command."""
    flags = {
        "plan": (False, "print what would happen and what it costs, and stop"),
        "resume": (False, "continue from the newest sound checkpoint; an error if there is none"),
        "change": (None, "what may differ from the run that goes on, separated by commas: corpus, epochs, lr, ..."),
    }
    config = load_command("train", __doc__, flags=flags)
    accepted = {name.strip().replace("-", "_") for name in (config.args.change or "").split(",") if name.strip()}
    if refused := accepted - {"corpus", *CHANGEABLE}:
        raise UserError(f"--change {min(refused)}: a run can only go on with another corpus, {', '.join(CHANGEABLE)}")
    result = train(config, config.args.plan, config.args.resume, accepted)
    if result["interrupted"]:
        print("run the same command again to go on")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run_command(main)
