"""Sharding by FSDP2: each rank keeps its rows of every parameter, gradient and optimizer state, in float32.

    shard(model, ...)         each layer, then the rest, become sharded; before the optimizer is made
    no_sync(model, last)      gradients are reduced, and weights given back, only in a step's last backward
    gathered(model)           whole weights on every rank, for evaluation and samples
    whole(tensor)             a parameter or state as one process has it; a call that all ranks make
    own_rows(value, like)     the other way: what this rank keeps of it, without a call to the others
    local, all_rows           this rank's rows as a plain tensor, and all ranks' rows of one as the full tensor

A layer's weights are gathered when its forward or backward needs them and given back after it. What lies outside the
layers (embedding, final norm, head) is gathered by the decoder's forward and kept until its backward is over, so that
the loss, which is computed outside of the decoder, finds the whole head.

Precision: with bf16 a layer's weights are rounded before they travel, which halves the bytes. Its matrices would be
rounded by autocast anyway; its norms' weights are not, with one process: fp32 agrees to rounding, bf16 to bf16's.
Gradients travel and are summed in float32. GPUs (nccl) were not tried.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from model.config import Shape, count_parameters, outer_parameters, state_bytes
from model.decoder import Decoder


def shard(model: Decoder, device_type: str, num_ranks: int, precision: str) -> None:
    """Shard the model in place over all ranks; it is moved to its device layer by layer."""
    mesh = init_device_mesh(device_type, (num_ranks,))
    # The residual stream stays in float32, as it does under autocast: inputs are not cast.
    low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=low if precision == "bf16" else MixedPrecisionPolicy())
    fully_shard(model, mesh=mesh)
    for module in sharded_modules(model):
        # Each rank has divided by the global weight sum already: a plain sum, where FSDP would take the mean.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # else the factor is an operation that only nccl knows


def saved_bytes(shape: Shape, num_ranks: int, accumulates: bool, muon: bool) -> int:
    """Of the weights, gradients and moments that one process holds, those that a rank does not.

    What it holds besides its share: whole weights and gradients of what lies outside the layers and of two layers at a
    time; with several micro-batches of everything.
    """
    parameters = count_parameters(shape)
    outside = sum(prod(size) for size in outer_parameters(shape).values())
    layer = (parameters - outside) // shape.num_layers
    passing = 8 * (parameters if accumulates else min(parameters, outside + 2 * layer))
    state = state_bytes(shape, muon)
    return max(0, state - state // num_ranks - passing)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was called on the model."""
    return isinstance(model, FSDPModule)


def sharded_modules(model: nn.Module) -> list[FSDPModule]:
    """The decoder and its layers, once they are sharded."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def no_sync(model: nn.Module, last: bool) -> Iterator[None]:
    """Around a backward: unless it is the step's last one, whole gradients and weights stay where they are."""
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(last)
    model.set_reshard_after_backward(last)
    yield


def give_up(model: nn.Module) -> None:
    """Give back the whole weights that a step which is not finished has gathered. No step may follow."""
    for module in sharded_modules(model):
        module.reshard()
        module.set_requires_gradient_sync(True)
        module.set_reshard_after_backward(True)


def try_whole(model: Decoder, precision: str) -> bool:
    """True where this rank has room for what `gathered` takes beside what it holds; else it is out of memory, as torch
    says it. Without this, one rank would leave a gather in which the others wait. A probe: a system that promises more
    than it has, as Linux does on a CPU, says yes to nearly all."""
    if is_sharded(model):
        outside = sum(prod(size) for size in outer_parameters(model.shape).values())
        layer = (count_parameters(model.shape) - outside) // model.shape.num_layers
        sizes = [4 * outside] + [layer * (2 if precision == "bf16" else 4)] * model.shape.num_layers
        sizes.append(max(sizes))  # what a gather receives, before it is laid out as weights
        device = model.norm.weight.device
        held = [torch.empty(size, dtype=torch.uint8, device=device) for size in sizes]
        del held
    return True


@contextmanager
def gathered(model: Decoder) -> Iterator[None]:
    """Keep whole weights on every rank while the block runs, so that ranks may run forward as often as each likes.

    Takes the memory of one replica's weights, no more: gradients and optimizer state stay sharded. Layers that are
    compiled for training are not while it runs: each length of an answer would be compiled anew.
    """
    modules = sharded_modules(model)
    compiled = [layer._compiled_call_impl for layer in model.layers]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
    for layer in model.layers:
        layer._compiled_call_impl = None
    try:
        if modules:
            # One forward gathers all; what is left out is giving back. Autocast, for layers that are gathered in bf16.
            token = torch.zeros((1, 1), dtype=torch.int64, device=model.norm.weight.device)
            with torch.no_grad(), torch.autocast(token.device.type, dtype=torch.bfloat16):
                model(token)
        yield
    finally:
        for layer, call in zip(model.layers, compiled, strict=True):
            layer._compiled_call_impl = call
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of which this rank may hold some rows; every rank must ask for it, in the same order."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor on the device of `like`; if `like` is sharded, sharded in the same way."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def all_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Every rank's rows of a tensor that is sharded as `like` is, put together; every rank must ask for it."""
    if not isinstance(like, DTensor):
        return rows
    sharded = DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return sharded.full_tensor()


def local(tensor: Tensor) -> Tensor:
    """The rows that this rank holds, as a plain tensor that shares their memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
