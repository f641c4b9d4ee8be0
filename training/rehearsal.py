"""One micro-batch of the run's shape before the run, so that a lack of memory shows in seconds and not at midnight.

In: the model on its device and the plan. Out: nothing, or a `MachineError` that says what to change. Weights, optimizer
and random numbers are left as they were; what the compiler makes stays.
"""

import torch

from common.errors import MachineError
from data.loader import IGNORE
from model.decoder import Decoder
from training import sharding
from training.config import TrainConfig
from training.distributed import GradientSync
from training.memory import out_of_memory
from training.plan import RunPlan
from training.step import LossFunction, autocast

MOMENTS = 8  # bytes a parameter of optimizer state, at most; a run that begins has none yet


def rehearse(
    config: TrainConfig,
    plan: RunPlan,
    model: Decoder,
    optimizers: list[torch.optim.Optimizer],
    loss_of: LossFunction,
    sync: GradientSync,
) -> None:
    """Forward and backward of rows that are one document each, the costliest there are. Every rank calls it."""
    device, shape = model.norm.weight.device, (plan.micro_batch, plan.seq_len)
    ids = torch.zeros(shape, dtype=torch.int64, device=device)
    targets = torch.full_like(ids, IGNORE)
    targets[:, :-1] = 0
    positions = torch.arange(plan.seq_len, device=device).expand(shape).contiguous()
    try:
        rows = [sharding.local(parameter) for parameter in model.parameters() if parameter.requires_grad]
        missing = 0 if any(optimizer.state for optimizer in optimizers) else MOMENTS * sum(r.numel() for r in rows)
        reserved = torch.empty(missing, dtype=torch.uint8, device=device)
        devices = [device] if device.type == "cuda" else []
        last = min(2, -(-plan.rows_per_step // plan.micro_batch))  # the second finds gradients there
        for number in range(1, last + 1):
            with torch.random.fork_rng(devices=devices), autocast(device, plan.precision):
                loss = loss_of(ids, targets, (targets != IGNORE).float(), positions, torch.zeros_like(ids).int())
            # Of a replicated model ranks need not meet here; a sharded one gives back at the end what it gathered.
            with sync(number == last and sharding.is_sharded(model)):
                (loss * 0.0).backward()
        loss.item()  # waits for the device
        del reserved
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise MachineError(_what_to_change(config, plan)) from None
    finally:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)


def _what_to_change(config: TrainConfig, plan: RunPlan) -> str:
    hints = [f"--micro_batch {plan.micro_batch // 2}"] if plan.micro_batch > 1 else []
    hints += [] if config.activation_checkpointing else ["--activation_checkpointing true"]
    hints += [] if config.parallel == "fsdp" else ["more processes with --parallel fsdp"]
    return (
        f"a micro-batch of {plan.micro_batch} rows of {plan.seq_len} does not fit into this machine's memory; nothing "
        f"was trained. Try {', '.join(hints)}, a smaller --model.preset or a shorter --model.seq_len"
    )
