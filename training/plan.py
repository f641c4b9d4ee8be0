"""The plan of a run: what the settings leave open is derived from corpus, model and machine, each with its reason.

In: settings, training tokens, the model's shape, the world. Out: a `RunPlan`, and lines that say what will happen, what
it will cost, and whether model and corpus fit each other. `--plan` prints them and stops.
"""

import math
import os
import shutil
import sysconfig
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from data.loader import epoch_plan, num_steps
from data.packing import Plan, pack
from data.tokens import Tokens
from model.attention import flex_available
from model.config import PRESETS, Shape, count_parameters, flops_per_token, memory_estimate, state_bytes
from training import distributed
from training.cgroup import left_in_cgroup
from training.config import TrainConfig
from training.distributed import World
from training.lora import TARGETS, lora_parameters, lora_state_bytes
from training.optimizer import sum_of_rates
from training.sharding import saved_bytes

STEPS_PER_EPOCH = 400
AS_BEGUN = "as the run began"
LORA_LR = 0.01  # of AdamW, for adapters: the best of five at ranks 4 and 16 (docs/decisions.md)
MUON_LR = 0.02  # for every width, and for what AdamW moves beside it
SHRINKING, MOST_DECAY = 1.0, 1.0  # of an epoch, as a power of e; the largest decay
MEMORY_SHARE = 0.6  # of what is free; the rest is for the allocator's slack and everything else on the machine
CPU_MICRO_TOKENS = 4096  # a bound on memory; larger ones were not measured
ASKED_ANYWAY = 3.0  # the estimate is up to 2.5 times what was measured (a vocabulary of 500,000); who names a
# micro-batch may know that it fits
COMPILE_FLOPS = 1e14  # about five minutes on two cores, of which compiling saves a fifth
ASSUMED_SHARE = {
    "cpu": 0.35,
    "cuda": 0.40,
    "mps": 0.25,
}  # of the matrix rate that a step reaches, for time estimates


@dataclass(frozen=True)
class RunPlan:
    """Everything a run needs that follows from its inputs."""

    seq_len: int
    rows_per_step: int
    epoch_rows: int  # of the first epoch; others differ by their packing
    micro_batch: int
    epoch_targets: int  # tokens that are predicted in an epoch
    steps_per_epoch: int
    total_steps: int
    lr: float  # of the layers' matrices, at its peak
    embedding_lr: float  # of the rest
    weight_decay: float  # of the layers' matrices
    min_lr: float
    precision: str  # "bf16" | "fp32"
    compile: bool
    weights: dict[str, float]  # of sources, where not 1

    @property
    def step_rows(self) -> int:
        """Rows of a step of the first epoch; `rows_per_step` may be more where a step is an epoch."""
        return min(self.rows_per_step, self.epoch_rows)


def derive(
    config: TrainConfig,
    shape: Shape,
    tokens: Tokens,
    weights: dict[str, float],
    world: World,
    began: Mapping[str, Any] | None = None,
) -> tuple[RunPlan, list[str]]:
    """The plan, and its explanation in lines. The same on all ranks but for memory that only this one sees.

    began: what the machine decided when a run that goes on was started ("precision", "compile", "micro_batch",
    "processes"). It decides again only what was asked for or is not possible here, so that the result is the same.
    """
    began = began or {}
    check_memory(config, shape, world)
    if len(tokens) == 0:
        raise UserError("the training split holds no documents: look at the quarantine that data/prepare.py wrote")
    first = epoch_plan(tokens, shape.seq_len, config.seed, 0, weights)
    if len(first) == 0:
        raise UserError("the sources' weights leave no document in the first epoch: raise a [[source]] weight")
    positions = len(first) * shape.seq_len
    batch_tokens = config.batch_tokens or _default_batch_tokens(positions, shape.seq_len)
    rows_per_step = max(1, round(batch_tokens / shape.seq_len))
    step_rows = min(rows_per_step, len(first))
    precision, why_precision = choose_precision(config.precision, world.device)
    if config.precision == "auto" and "precision" in began and world.device.type != "mps":
        precision, why_precision = began["precision"], AS_BEGUN
    if distributed.any_rank(precision == "fp32") and precision == "bf16":  # machines differ, the arithmetic must not
        precision, why_precision = "fp32", "another rank's machine is not fast at bf16"
    before = began.get("micro_batch") if began.get("processes") == world.size else None
    micro_batch, why_micro = _micro_batch(config, shape, -(-step_rows // world.size), precision, world, before)
    lr = config.lr or (
        LORA_LR if config.lora_rank else MUON_LR if config.optimizer == "muon" else 0.5 / shape.hidden_size
    )
    embedding_lr = config.embedding_lr or lr
    min_lr = lr / 10 if config.min_lr is None else config.min_lr
    if min_lr > lr:
        raise UserError(f"min_lr {min_lr}: is more than lr {lr:.2g}")
    steps = num_steps(first, rows_per_step)
    flops = run_flops(shape, first, config.epochs)
    compiled, why_compiled = choose_compile(config.compile, world.device, flops)
    if config.compile is None and began.get("compile") is False:
        compiled, why_compiled = False, AS_BEGUN
    if distributed.any_rank(not compiled) and compiled:
        compiled, why_compiled = False, "another rank's machine cannot compile"
    plan = RunPlan(
        seq_len=shape.seq_len,
        rows_per_step=rows_per_step,
        epoch_rows=len(first),
        micro_batch=micro_batch,
        epoch_targets=int(first.lengths.sum()),
        steps_per_epoch=steps,
        total_steps=steps * config.epochs,
        lr=lr,
        embedding_lr=embedding_lr,
        weight_decay=config.weight_decay
        if config.weight_decay is not None
        else default_decay(config, lr, min_lr, steps * config.epochs),
        min_lr=min_lr,
        precision=precision,
        compile=compiled,
        weights=weights,
    )
    return plan, [
        *_describe_work(plan, config, shape, tokens, first),
        f"precision {precision} ({why_precision}); device {world.device}, {_processes(config, world, step_rows)}",
        f"micro-batch {micro_batch} rows ({why_micro}), "
        f"{-(-step_rows // (micro_batch * world.size))} a step and process",
        f"compile {'on' if compiled else 'off'} ({why_compiled})",
        *_describe_time(plan, config, shape, flops, world),
        *(_advice(config, shape, plan.epoch_targets) if config.stage == "pretrain" else ()),
        *(_context_advice(first, tokens) if config.stage == "pretrain" else ()),
    ]


def _processes(config: TrainConfig, world: World, rows: int) -> str:
    if world.size > 1:
        idle = f", of which {world.size - rows} have nothing to do: a step has {rows} rows" if rows < world.size else ""
        return f"{world.size} processes ({config.parallel}){idle}"
    return "1 process (fsdp: nothing to shard)" if config.parallel == "fsdp" else "1 process"


def _describe_work(plan: RunPlan, config: TrainConfig, shape: Shape, tokens: Tokens, first: Plan) -> list[str]:
    batch = plan.step_rows * shape.seq_len
    why_batch = f"about {STEPS_PER_EPOCH} steps an epoch, at least 2 rows"
    if config.batch_tokens:
        why_batch = f"whole rows nearest to {config.batch_tokens:,}"
        if config.batch_tokens > plan.epoch_rows * shape.seq_len:
            why_batch = f"{config.batch_tokens:,} are more than an epoch has: one step is a whole epoch"
    of_width = "for every width" if config.optimizer == "muon" else "0.5 / hidden_size"
    why_lr = "as asked" if config.lr else "for every rank" if config.lora_rank else of_width
    optimizer = "adamw" if config.lora_rank else config.optimizer
    usual = "as usual" if optimizer == "adamw" else "each epoch shrinks weights to 1/e, at most 1"
    usual = "fine-tuning keeps what is there" if config.stage == "finetune" else usual
    why_decay = "as asked" if config.weight_decay is not None else usual
    why_rest = "as asked" if config.embedding_lr else "the same"
    rest = f", embedding and norms adamw {plan.embedding_lr:.3g} ({why_rest})" if not config.lora_rank else ""
    adapters = ""
    if config.lora_rank:
        number = lora_parameters(shape, config.lora_rank, config.lora_targets or TARGETS)
        adapters = f"; trained are {number:,} of adapters of rank {config.lora_rank}"
    weighted = "".join(f", {name} x {weight:g}" for name, weight in plan.weights.items())
    return [
        f"model: {count_parameters(shape):,} parameters ({shape.num_layers} layers, {shape.hidden_size} wide, "
        f"vocabulary {shape.vocab_size:,}, context {shape.seq_len}; tied weights counted once){adapters}",
        f"an epoch: {plan.epoch_targets:,} target tokens of {len(tokens):,} documents{weighted}, packed into "
        f"{len(first):,} rows of {shape.seq_len}, {first.fill:.2%} filled",
        f"steps: {_steps(plan, config.epochs)}, {plan.step_rows:,} rows = {batch:,} positions each ({why_batch})",
        f"learning rate: {optimizer} {plan.lr:.3g} ({why_lr}){rest}; warm-up {config.warmup_ratio:.0%}, then cosine to "
        f"{plan.min_lr / plan.lr:.0%}; weight decay {plan.weight_decay:.3g} ({why_decay})",
    ]


def _steps(plan: RunPlan, epochs: int) -> str:
    if epochs == 1:
        return f"{plan.total_steps:,} in one epoch"
    # Each epoch's order packs a little better or worse, by a step or so; only the first was packed here.
    return f"about {plan.steps_per_epoch:,} an epoch x {epochs:,} epochs = about {plan.total_steps:,}"


def default_decay(config: TrainConfig, lr: float, min_lr: float, total_steps: int) -> float:
    """Muon: so that each epoch shrinks what the weights were by e^-1, at most 1; adamw: 0.1; fine-tuning: none.

    Decay and rates multiply: an epoch shrinks weights by exp(-decay x sum of its rates). docs/decisions.md has figures.
    """
    if config.stage == "finetune":
        return 0.0
    if config.optimizer == "adamw":
        return 0.1
    rates = sum_of_rates(total_steps, lr, min_lr, config.warmup_ratio)
    return min(MOST_DECAY, SHRINKING * config.epochs / rates)


def run_flops(shape: Shape, first: Plan, epochs: int) -> float:
    """Floating-point operations of a run whose epochs are like the first."""
    return flops_per_token(shape, attended(first)) * float(first.lengths.sum()) * epochs


def attended(first: Plan) -> float:
    """Keys that a target token attends to, itself among them, on average."""
    lengths = first.lengths.astype(float)
    return float((lengths * (lengths + 1) / 2).sum() / lengths.sum())


def _describe_time(plan: RunPlan, config: TrainConfig, shape: Shape, flops: float, world: World) -> list[str]:
    rate = matrix_rate(world.device, plan.precision)
    share = ASSUMED_SHARE[world.device.type]
    seconds = flops / (rate * share * world.size)
    needed = _memory(config, shape, plan.micro_batch, -(-plan.step_rows // world.size), plan.precision, world)
    return [
        f"cost: {flops:.2e} FLOPs; memory about {needed / 2**30:.2f} GiB a process; about {_duration(seconds)} of "
        f"training if the step reaches {share:.0%} of the {rate / 1e9:,.0f} GFLOP/s measured now (an estimate)"
    ]


def time_line(plan: RunPlan, seconds: float, processes: int) -> str:
    """What a measured step says of the run."""
    rate = plan.step_rows * plan.seq_len / seconds
    ddp = f", and sums of gradients over {processes} processes" if processes > 1 else ""
    return (
        f"measured here and now: {seconds:.3g} s a step, so {rate:,.0f} positions a second and "
        f"{_duration(seconds * plan.total_steps)} of training; validation and checkpoints come on top{ddp}"
    )


def _advice(config: TrainConfig, shape: Shape, epoch_targets: int) -> list[str]:
    # Up to four epochs a repeated token is worth nearly a new one (Muennighoff et al. 2023); about 20 tokens a
    # parameter are compute-optimal (Hoffmann et al. 2022). A factor of 20 away from that, say so.
    worth = epoch_targets * min(config.epochs, 4)
    ratio = worth / count_parameters(shape)
    fits = min(PRESETS, key=lambda name: abs(math.log(worth / 20 / _parameters_of_preset(name, shape.vocab_size))))
    own = (shape.num_layers, shape.hidden_size)
    nearest = "this one" if own == (PRESETS[fits].num_layers, PRESETS[fits].hidden_size) else fits
    if ratio < 1:
        ends = "it will memorise" if config.epochs > 1 else "it sees too little to learn much"
        return [
            f"warning: the model is far too large for this corpus: {ratio:.2g} tokens a parameter (20 are usual, "
            f"repeats up to 4 epochs counted); {ends}; nearest preset: {nearest}"
        ]
    if ratio > 400:
        return [
            f"warning: the model is far too small for this corpus: {ratio:,.0f} tokens a parameter (20 are usual); "
            f"it will stop learning early; nearest preset: {nearest}"
        ]
    return [f"model and corpus: {ratio:.2g} tokens a parameter (20 are usual; repeats count up to 4 epochs)"]


def _context_advice(first: Plan, tokens: Tokens) -> list[str]:
    if first.fill >= 0.98:
        return []
    longer = {n: pack(tokens.lengths, n).fill for n in (2 * first.seq_len, 4 * first.seq_len)}
    others = ", ".join(f"--model.seq_len {n} {fill:.1%}" for n, fill in longer.items())
    return [
        f"warning: {1 - first.fill:.1%} of the positions stay empty, because documents near the context's length leave "
        f"gaps that no other fills; of longer contexts would be filled: {others}"
    ]


def _parameters_of_preset(name: str, vocab_size: int) -> int:
    preset = PRESETS[name]
    return count_parameters(preset) + (vocab_size - preset.vocab_size) * preset.hidden_size


def _default_batch_tokens(positions: int, seq_len: int) -> int:
    """Power of two nearest to a 400th of an epoch, 2 rows to 524,288 positions."""
    wanted = 2 ** round(math.log2(max(1.0, positions / STEPS_PER_EPOCH)))
    return min(524288, max(2 * seq_len, wanted))


def choose_precision(asked: str, device: torch.device) -> tuple[str, str]:
    """The precision ("bf16" | "fp32") that `asked` means on the device, and why."""
    if asked == "bf16" and device.type == "mps":
        raise UserError("precision bf16: not on mps, where loam trains in fp32 only")
    if asked != "auto":
        return asked, "as asked"
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device)[0] >= 8
        return ("bf16", "this GPU has bf16 matrix units") if fast else ("fp32", "this GPU has no bf16 matrix units")
    if device.type == "mps":
        return "fp32", "mps: slower and exact"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return ("bf16", "this CPU has bf16 instructions") if fast else ("fp32", "this CPU has no bf16 instructions")


def choose_compile(asked: bool | None, device: torch.device, flops: float) -> tuple[bool, str]:
    """Whether a run of that many FLOPs is compiled, and why. The same on every start of a run: nothing is timed."""
    if asked is not None:
        return asked, "as asked"
    if device.type != "cpu":
        return device.type == "cuda", f"the default on {device.type}"
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if compiler is None or not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return False, "no C++ compiler with Python's headers here"
    if flops < COMPILE_FLOPS:
        return (
            False,
            f"less than {COMPILE_FLOPS:.0e} FLOPs do not repay the compiling, half a minute; --compile true forces it",
        )
    return True, "half a minute once, then from torch's cache; --compile false leaves it out"


def _micro_batch(
    config: TrainConfig, shape: Shape, rows: int, precision: str, world: World, before: int | None = None
) -> tuple[int, str]:
    """Rows per forward pass: as few micro-batches as memory allows, all of one size; `before` if that still fits."""
    if config.micro_batch:
        return min(config.micro_batch, rows), "as asked"
    free = int(distributed.smallest(free_memory(world.device)))  # all ranks run the same micro-batches

    def need(micro: int) -> int:
        return _memory(config, shape, micro, rows, precision, world)

    if need(1) > free:
        raise _too_large(need(1), free, config, world)
    if before is not None and need(before) <= free:
        return before, AS_BEGUN
    number = 1
    if (
        rows > 1 and need(rows) > free * MEMORY_SHARE
    ):  # the fewest that fit, or one a row: more of them never take more memory
        numbers = range(2, rows)
        number = 2 + bisect_left(numbers, True, key=lambda number: need(-(-rows // number)) <= free * MEMORY_SHARE)
    by_memory = number > 1
    if world.device.type == "cpu":
        number = max(number, -(-rows * shape.seq_len // CPU_MICRO_TOKENS))
    micro = -(-rows // min(number, rows))
    why = f"{free / 2**30:.1f} GiB are free"
    if by_memory and not config.activation_checkpointing:
        why += "; --activation_checkpointing true would allow larger ones"
    return micro, why


def check_memory(config: TrainConfig, shape: Shape, world: World) -> None:
    """UserError where not even one row of a step fits, in whatever precision: asked before anything is made that is as
    large as the model or its context. All ranks call it."""
    free = int(distributed.smallest(free_memory(world.device)))
    precisions = ("bf16", "fp32") if config.precision == "auto" else (config.precision,)
    needed = min(_memory(config, shape, 1, 1, precision, world) for precision in precisions)
    if needed > free * (ASKED_ANYWAY if config.micro_batch else 1):
        raise _too_large(needed, free, config, world)


def _too_large(needed: int, free: int, config: TrainConfig, world: World) -> UserError:
    hint = "" if config.activation_checkpointing else " try --activation_checkpointing true,"
    hint += " --parallel fsdp," if config.parallel == "ddp" and world.size > 1 else ""
    return UserError(
        f"a step of one row needs about {needed / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB are free:{hint} "
        "a smaller --model.preset, a smaller --tokenizer.vocab_size or a shorter --model.seq_len"
    )


def _memory(config: TrainConfig, shape: Shape, micro_batch: int, rows: int, precision: str, world: World) -> int:
    """Bytes that one process takes for its `rows` rows of a step, `micro_batch` of them at a time."""
    muon = config.optimizer == "muon" and not config.lora_rank
    recomputed = config.activation_checkpointing
    dense = world.device.type != "cuda" or not flex_available()
    ranks = world.size if muon else 0
    whole = memory_estimate(shape, micro_batch, precision, recomputed, world.device.type, ranks, dense)
    if config.lora_rank:  # gradients and moments are the adapters' alone
        whole -= state_bytes(shape, muon) - lora_state_bytes(shape, config.lora_rank, config.lora_targets or TARGETS)
    if config.parallel != "fsdp" or world.size == 1:
        return whole
    return whole - saved_bytes(shape, world.size, micro_batch < rows, muon)


def free_memory(device: torch.device) -> int:
    """Bytes that this process may take: free on its GPU, or available in RAM shared by the processes of this node."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(free, left_in_cgroup()) // local


def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of a square matrix product, best of five, on this device now: takes well under a second."""
    size = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.ones(size, size, device=device, dtype=dtype)
    best = math.inf
    for _ in range(6):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
