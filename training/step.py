"""One optimizer step: micro-batches forward and backward, gradients summed over ranks, clipped, applied.

The invariant: loss = sum of w * nll over the global batch / sum of w over the global batch. The loader knows the
global sum of weights before the step, so each rank divides by it before going backward, and summing gradients over
micro-batches and ranks gives the gradient of that one mean. Nothing here waits for the device, unless the
model is sharded: then it is asked whether to leave an update out.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from data.loader import Batch, Step
from model.decoder import Decoder
from model.loss import weighted_nll
from training import sharding
from training.distributed import GradientSync, alone, clip_gradients, num_ranks, sum_scalars
from training.signals import Stopped
from training.trouble import Recent

LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
T = TypeVar("T")


def loss_function(model: Decoder, compiled: bool) -> LossFunction:
    """(ids, targets, weights, positions, documents), each (B, T) -> sum of w * nll, a float32 scalar."""

    def summed_loss(ids: Tensor, targets: Tensor, weights: Tensor, positions: Tensor, documents: Tensor) -> Tensor:
        return weighted_nll(model(ids, positions, documents), model.head, targets, weights)

    if compiled and sharding.is_sharded(model):  # weights come and go between the layers: a graph for each
        for layer in model.layers:
            layer.compile(dynamic=False)
        return summed_loss
    # Micro-batches have one fixed shape, so one graph serves the whole run.
    return torch.compile(summed_loss, dynamic=False) if compiled else summed_loss


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 autocast, or nothing for fp32. Weights, gradients and optimizer stay in fp32 either way."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A batch's arrays as tensors on the device; copied from pinned memory without waiting on CUDA."""
    arrays = (batch.ids, batch.targets, batch.weights, batch.positions, batch.documents)
    tensors = (torch.from_numpy(array) for array in arrays)
    if device.type == "cuda":
        ids, targets, weights, positions, documents = (t.pin_memory().to(device, non_blocking=True) for t in tensors)
    else:
        ids, targets, weights, positions, documents = (t.to(device) for t in tensors)
    return ids, targets, weights, positions, documents


def train_step(
    model: Decoder,
    optimizers: list[torch.optim.Optimizer],
    loss_of: LossFunction,
    step: Step,
    device: torch.device,
    precision: str,
    grad_clip: float,
    sync: GradientSync = alone,
    between: Callable[[], None] = lambda: None,
    recent: Recent | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One update. Returns the global batch's loss, the norm of its gradient, and whether the update was left out, as
    `recent` judged: scalars on the device, the same on all ranks.

    between: called between micro-batches, as often on every rank. Where it raises `Stopped` nothing has changed.
    """
    loss = torch.zeros((), device=device)
    if step.weight_sum == 0:  # no target counts: 0/0 would be NaN, and weight decay alone is no step
        return loss, torch.zeros_like(loss), torch.zeros_like(loss, dtype=torch.bool)
    try:
        for number, batch in enumerate(step.micro_batches, 1):
            if number > 1:
                between()
            with autocast(device, precision):
                share = loss_of(*to_device(batch, device)) / step.weight_sum
            with sync(number == len(step.micro_batches)):
                share.backward()
            loss += share.detach()
    except Stopped:
        sharding.give_up(model)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        raise
    norm = clip_gradients(model, grad_clip)
    # Ranks whose arithmetic differs in a last bit must judge alike, so the norm is their mean.
    loss, norm = sum_scalars(torch.stack((loss, norm / num_ranks())))
    left_out = recent.harmful(loss, norm) if recent else torch.zeros_like(loss, dtype=torch.bool)
    # Asking the GPU would stop it between two steps. Of sharded models steps are long, and torch's fused optimizer
    # takes no flag beside shards.
    waits = device.type != "cuda" or sharding.is_sharded(model)
    update(optimizers, left_out if recent else None, waits)
    return loss, norm, left_out


def update(optimizers: list[torch.optim.Optimizer], left_out: Tensor | None, waits: bool) -> None:
    """Every optimizer's step, unless it is to be left out; and the end of the gradients.

    left_out: a boolean scalar on the device; waits: read it. Else the optimizers look at it themselves, on the device.
    """
    flag = left_out.float() if left_out is not None and not waits else None
    for optimizer in optimizers:
        if left_out is None or not waits or not bool(left_out):
            optimizer.found_inf = flag  # type: ignore[attr-defined]  # the name under which torch's fused ones look
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """The same items; the next one is made by a thread while the current one is used."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, source, end)
            yield item  # type: ignore[misc]
