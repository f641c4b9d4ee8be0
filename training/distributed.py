"""One process or many, by torchrun's environment: which rank this is, on which device, and what ranks tell each other.

Gradients are summed over ranks once per optimizer step. Because each rank divides by the *global* sum of target
weights before it goes backward, the sum over ranks is the gradient of the global mean, for 1 process or N.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from common.errors import UserError

# Rank 0 may prepare a corpus or write a large checkpoint while the others wait for it.
TIMEOUT = timedelta(minutes=60)


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Rank 0 prints, writes and prepares."""
        return self.rank == 0


def start(device: str = "auto", deterministic: bool = False) -> World:
    """Join the group that torchrun describes (gloo on CPU, nccl on CUDA); without torchrun: a world of one."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no CUDA device that torch can use; take --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps: this machine has none; take --device cpu")
    found = torch.device(device, int(os.environ.get("LOCAL_RANK", 0))) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(found)
    if size > 1 and not dist.is_initialized():
        # gloo beside nccl: ranks agree on flags through the CPU, so that no step waits for the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    return World(rank, size, found)


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))  # by gloo, also on CUDA machines


def sum_gradients(model: nn.Module) -> None:
    """Sum every gradient over ranks, in place; a rank that had nothing to compute counts as zero."""
    if not dist.is_initialized():
        return
    works = []
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        works.append(dist.all_reduce(parameter.grad, async_op=True))
    for work in works:
        work.wait()


def sum_number(value: float) -> float:
    """Sum of a number over ranks, in float64, through the CPU."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(tensor)
    return float(tensor)


def smallest(value: float) -> float:
    """Smallest of a number over ranks."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return float(tensor)


def on_main(world: World, action: Callable[[], object]) -> None:
    """Run `action` on rank 0 while the others wait; its UserError ends all ranks, and only rank 0 says why."""
    error: UserError | None = None
    if world.is_main:
        try:
            action()
        except UserError as raised:
            error = raised
    if any_rank(error is not None):
        raise error or UserError("rank 0 stopped")


def any_rank(flag: bool) -> bool:
    """True on all ranks if it is true on one."""
    return sum_number(float(flag)) > 0


def sum_array(array: np.ndarray) -> np.ndarray:
    """Elementwise sum over ranks, in float64."""
    if not dist.is_initialized():
        return array
    tensor = torch.from_numpy(array.astype(np.float64))
    dist.all_reduce(tensor)
    return tensor.numpy()
