"""One process or many, by torchrun's environment: which rank this is, on which device, and what ranks tell each other.

Gradients are summed over ranks once per optimizer step. Because each rank divides by the *global* sum of target
weights before it goes backward, the sum over ranks is the gradient of the global mean, for 1 process or N.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.errors import MachineError, ToldElsewhere, UserError, unwritable
from training import sharding
from training.memory import out_of_memory

# Rank 0 may prepare a corpus or write a large checkpoint while the others wait for it.
TIMEOUT = timedelta(minutes=60)
BUCKET_BYTES = 25 << 20
LOOKING_SECONDS = 5.0

T = TypeVar("T")
GradientSync = Callable[[bool], AbstractContextManager[None]]


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device
    processes: tuple[tuple[str, int], ...] = ()  # host and process of each rank, where there are several

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
        raise MachineError("device cuda: this machine has no CUDA device that torch can use; take --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise MachineError("device mps: this machine has none; take --device cpu")
    if device == "mps" and size > 1:
        raise UserError(f"device mps: one process only, not {size}; run plain `python train.py`")
    found = torch.device(device, int(os.environ.get("LOCAL_RANK", 0))) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(found)
    if size > 1 and not dist.is_initialized():
        # gloo beside nccl: ranks agree on flags through the CPU, so that no step waits for the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    return World(rank, size, found, _processes(size))


def _processes(size: int) -> tuple[tuple[str, int], ...]:
    if size == 1:
        return ()
    everybody: list[Any] = [None] * size
    dist.all_gather_object(everybody, (socket.gethostname(), os.getpid()))
    return tuple(everybody)


def lost_ranks(world: World) -> list[str]:
    """Ranks on this host whose process has ended, in words. On other hosts nobody here can know.

    A connection breaks a moment before its process has ended, so it looks for a while.
    """
    here = socket.gethostname()
    until = time.monotonic() + LOOKING_SECONDS if world.processes else 0.0
    while True:
        lost = [
            f"rank {rank} (process {process} on {host})"
            for rank, (host, process) in enumerate(world.processes)
            if host == here and rank != world.rank and not _lives(process)
        ]
        if lost or time.monotonic() > until:
            return lost
        time.sleep(0.05)


def _lives(process: int) -> bool:
    """A process that has ended is a zombie until who started it has looked."""
    if not Path("/proc/self/stat").exists():  # not Linux
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))  # by gloo, also on CUDA machines


class GradientBuckets:
    """Sums gradients over ranks, a bucket of them at a time, while the backward pass is still making the next ones.

    A bucket is launched when the last of its gradients has arrived, and in the same order on all ranks. The buckets are
    the same in every step, so a resumed run adds in the same order as one that was not interrupted; torch's
    DistributedDataParallel cuts them anew after its first step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], bucket_bytes: int) -> None:
        self._buckets: list[list[nn.Parameter]] = []
        self._bucket_of: dict[nn.Parameter, int] = {}
        self._missing: list[int] = []  # gradients that each bucket waits for; empty: only accumulate
        self._works: list[Any] = []
        room = 0
        # The backward pass goes from the last layer to the first; a tied head is the embedding, and done at the end.
        for parameter in reversed(list(parameters)):
            size = parameter.numel() * parameter.element_size()
            if size > room:
                self._buckets.append([])
                room = bucket_bytes
            room -= size
            self._buckets[-1].append(parameter)
            self._bucket_of[parameter] = len(self._buckets) - 1
            parameter.register_post_accumulate_grad_hook(self._arrived)

    @contextmanager
    def backward(self, last: bool) -> Iterator[None]:
        """Around a backward; after a step's last one every gradient is the sum over ranks."""
        if not last:
            yield
            return
        self._missing = [len(bucket) for bucket in self._buckets]
        yield
        assert len(self._works) == len(self._buckets), "a parameter got no gradient"
        for work in self._works:
            work.wait()
        self._missing, self._works = [], []

    def _arrived(self, parameter: Tensor) -> None:
        if not self._missing:
            return
        self._missing[self._bucket_of[cast(nn.Parameter, parameter)]] -= 1
        while len(self._works) < len(self._buckets) and self._missing[len(self._works)] == 0:
            self._works.append(self._sum(self._buckets[len(self._works)]))

    def _sum(self, bucket: list[nn.Parameter]) -> Any:
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) if len(bucket) > 1 else gradients[0].flatten()
        for parameter, piece in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = piece.view_as(parameter)  # and what it was before is free again
        return dist.all_reduce(flat, async_op=True)


def gradient_sync(model: nn.Module) -> GradientSync:
    """What goes around each backward of a step: `with sync(last): loss.backward()`.

    After the step's last one the gradients are the sums over ranks; before it ranks tell each other nothing.
    """
    if not dist.is_initialized():
        return alone
    if sharding.is_sharded(model):
        return lambda last: sharding.no_sync(model, last)
    return GradientBuckets((p for p in model.parameters() if p.requires_grad), BUCKET_BYTES).backward


def alone(last: bool) -> AbstractContextManager[None]:
    """The `GradientSync` of one process."""
    return nullcontext()


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale all gradients down to a common norm of at most `max_norm` (0: leave them); returns the norm before."""
    limit = max_norm if max_norm > 0 else float("inf")
    if not sharding.is_sharded(model):
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    # Every number stands on one rank, so the squares of the ranks' norms add up. No rank waits for its device.
    rows = [sharding.local(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    squared = torch.nn.utils.get_total_norm(rows).square()
    dist.all_reduce(squared)
    norm = squared.sqrt()
    torch._foreach_mul_(rows, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def num_ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_scalars(values: Tensor) -> Tensor:
    """Elementwise sum over ranks of a few numbers on the device, without waiting for it."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def smallest(value: float) -> float:
    """Smallest of a number over ranks."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return float(tensor)


def on_main(world: World, action: Callable[[], object]) -> None:
    """Run `action` on rank 0 while the others wait; its UserError ends all ranks, and only rank 0 says why. So does a
    disk that takes no more."""
    error: UserError | None = None
    if world.is_main:
        try:
            action()
        except UserError as raised:
            error = raised
        except Exception as raised:
            line = unwritable(raised)
            if line is None:
                raise
            error = UserError(line)
    if any_rank(error is not None):
        raise error or ToldElsewhere("rank 0 stopped")


def on_all(world: World, action: Callable[[], T]) -> T:
    """What `action` returns on each rank; a UserError of one ends all, and each that has one says its own."""
    found: list[T] = []
    error: UserError | None = None
    try:
        found.append(action())
    except UserError as raised:
        error = MachineError(str(raised)) if world.size > 1 and not world.is_main else raised
    if any_rank(error is not None):
        raise error or ToldElsewhere("another rank stopped")
    return found[0]


def unless_out_of_memory(action: Callable[[], T]) -> T | None:
    """What `action` returns on each rank; None on all of them where one has not the memory for it.

    action: makes no calls that ranks must make together, in which the others would wait for the one that left.
    """
    found: list[T] = []
    try:
        found.append(action())
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None if any_rank(not found) else found[0]


def from_main(world: World, make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, on all ranks."""
    found: list[Any] = [None]

    def keep() -> None:
        found[0] = make()

    on_main(world, keep)
    if dist.is_initialized():
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    return found[0]


def any_rank(flag: bool) -> bool:
    """True on all ranks if it is true on one."""
    return any_of(flag)[0]


def any_of(*flags: bool) -> list[bool]:
    """`any_rank` of several flags at once."""
    return (sum_array(np.asarray(flags, dtype=np.float64)) > 0).tolist()


def sum_array(array: np.ndarray) -> np.ndarray:
    """Elementwise sum over ranks, in float64."""
    if not dist.is_initialized():
        return array
    tensor = torch.from_numpy(array.astype(np.float64))
    dist.all_reduce(tensor)
    return tensor.numpy()
