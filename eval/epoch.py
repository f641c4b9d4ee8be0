"""The end of an epoch, and of a run: figures on the validation split, sample answers, the mean of the last epochs.

In: a run whose epoch is on disk. Out: an "epoch" line in metrics.jsonl, the same figures in the checkpoint's loam.json,
answers on the screen; at a run's end perhaps a checkpoint of averaged weights. A lack of memory leaves figures out and
a signal puts them off: neither ends a run. All ranks call what is here.
"""

import math
import time
from typing import Any

from common.runs import averages
from eval.validation import validate
from training import distributed, sharding
from training.average import best_mean, last_epochs, name_of
from training.checkpoint import update_metrics
from training.memory import out_of_memory
from training.run import Run
from training.samples import count_stops, first_documents, sample_lines
from training.save import snapshot, write_checkpoint
from training.signals import Stopped
from training.step import autocast


def finish_epoch(run: Run, epoch: int) -> bool:
    """Validate, log the epoch, add the figures to its checkpoint, print samples. True if a signal ended the validation:
    the epoch is saved, and validated when the run goes on."""
    run.model.eval()
    if distributed.unless_out_of_memory(lambda: sharding.try_whole(run.model, run.plan.precision)) is None:
        unvalidated(run, epoch, "no memory for whole weights on every rank, so it is not validated")
        return False
    try:
        with sharding.gathered(run.model):
            judge(run, epoch)
    except Stopped:
        run.say(
            f"stopped by {run.stop.signal or 'another rank'} in the validation of epoch {epoch}, saved as ckpt{epoch}"
        )
        return True
    return False


def judge(run: Run, epoch: int) -> None:
    """What `finish_epoch` does, on a model whose weights are whole on every rank."""
    world, started = run.world, time.monotonic()
    train_loss = run.state["nats"] / max(run.state["weight"], 1e-9)
    name = f"ckpt{epoch}"
    found = validated(run)
    if found is None or not math.isfinite(found["val_loss"]):
        unvalidated(run, epoch, "no memory to validate it" if found is None else "its validation loss is not finite")
        return
    metrics = {"train_loss": train_loss, **found}
    seconds = round(run.state["seconds"], 3)

    def keep() -> None:
        update_metrics(run.folder / name, metrics)  # before the log, whose line says that the epoch is judged
        run.log.write("epoch", epoch=epoch, step=run.state["step"], **metrics, checkpoint=name, seconds=seconds,
                      validation_seconds=round(time.monotonic() - started, 3))  # fmt: skip
        run.log.sync()

    distributed.on_main(world, keep)
    what = "the answers of " if run.val.trained is not None else ""
    run.say(
        f"epoch {epoch}: train loss {train_loss:.4f}, validation loss {metrics['val_loss']:.4f} (perplexity "
        f"{metrics['val_ppl']:.2f}), {metrics['val_bpb']:.4f} bits per byte on {what}"
        f"{metrics['val_documents']:,} documents, {metrics['val_tokens']:,} tokens -> {run.folder / name}"
    )
    if world.is_main:
        say_samples(run)


def say_samples(run: Run) -> None:
    """A few answers, on rank 0, and of fine-tuning how many end by themselves; cut short by a signal, left out where
    memory does not suffice."""
    documents = first_documents(run.folder / "corpus", run.config.train.samples)
    # Gathered layers are rounded already where training is in bf16; whole ones speak in fp32, as in chat.
    sharded = sharding.is_sharded(run.model)

    def leave(row: int, token: int) -> None:
        if run.stop.wanted():
            raise Stopped

    try:
        with autocast(run.world.device, run.plan.precision if sharded else "fp32"):
            for line in sample_lines(run.model, run.dialog, documents, run.config.train.sample_tokens, leave):
                run.say(line)
            if run.val.trained is not None and documents:
                stopped, asked, most = count_stops(run.model, run.dialog, run.val, run.plan.seq_len, leave)
                run.say(
                    f"  stops: {stopped} of {asked} answers end by themselves within {most} tokens, as 95% of the "
                    "validation split's do"
                )
    except Stopped:
        return
    except Exception as error:
        if not out_of_memory(error):
            raise
        run.say("  no memory for samples")


def unvalidated(run: Run, epoch: int, why: str) -> None:
    """Say and log that an epoch has no figures; it is saved, and the run goes on."""
    run.log.write("unvalidated", epoch=epoch, step=run.state["step"], checkpoint=f"ckpt{epoch}", why=why)
    run.say(f"epoch {epoch}: {why} -> {run.folder / f'ckpt{epoch}'}")


def validated(run: Run) -> dict[str, Any] | None:
    """Figures of the model, its weights whole on every rank, on the validation split; None: no memory for them. Raises
    `Stopped` on all ranks where a signal has come to one."""
    with autocast(run.world.device, run.plan.precision):
        return validate(run.model, run.val, run.world, run.plan.micro_batch, run.stop.wanted, run.plan.seq_len)


def keep_average(run: Run, epochs: list[dict[str, Any]]) -> str | None:
    """Keep the best mean of the last epochs' weights if it is better than each epoch; returns the checkpoint's name."""
    world, last = run.world, run.config.train.epochs
    if there := distributed.from_main(world, lambda: averages(run.folder)):  # the run was done before
        return there[-1].name
    model = run.model.eval()

    def judged() -> dict[str, Any] | None:
        if distributed.unless_out_of_memory(lambda: sharding.try_whole(model, run.plan.precision)) is None:
            return None
        with sharding.gathered(model):
            return validated(run)

    found = best_mean(distributed.from_main(world, lambda: last_epochs(run.folder, last)), model, judged)
    lowest = min((event["val_loss"] for event in epochs), default=math.inf)
    if found is None or not found[1]["val_loss"] < lowest:
        return None
    chosen, metrics = found
    name = name_of(chosen)
    where = {"epoch": last, "step": run.state["step"], "tokens": run.state["tokens"]}
    provenance = {**run.provenance, **where, "average_of": [path.name for path in chosen], "metrics": metrics}
    taken = snapshot(model, [], world.is_main, copy=False)

    def keep() -> None:
        assert taken is not None
        write_checkpoint(run.folder / name, taken, run.tokenizer_files, None, provenance)

    distributed.on_main(world, keep)
    run.say(
        f"the average of {len(chosen)} epochs' weights is better than each epoch: validation loss "
        f"{metrics['val_loss']:.4f}, {metrics['val_bpb']:.4f} bits per byte -> {run.folder / name}"
    )
    return name
