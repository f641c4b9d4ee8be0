"""Muon: momentum, then each matrix's update replaced by the nearest orthogonal one (Jordan et al., 2024).

    gradient -> Nesterov momentum -> Newton-Schulz -> decay and update of the weights

The same arithmetic as torch.optim.Muon. It differs in how it is carried out: matrices of one shape go through the
Newton-Schulz iteration in batches of at most MUON_BATCH numbers, so a model of 4 layers starts 3 chains of products
instead of 28, and a large one takes little memory beside its matrices; on hardware without bfloat16 products the
iteration runs in float32; of several processes each iterates its share of the matrices.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.config import MUON_BATCH
from training.sharding import all_rows, local, own_rows

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, steepest at 0; singular values end between 0.7 and 1.2
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for 2-D parameters.

    Args:
        params: matrices, or groups of them.
        lr: size of the update: a singular value of about lr x sqrt(max(1, rows / columns)).
        weight_decay: share of lr by which weights shrink each step.
        momentum: of the gradients; Nesterov's form.
        dtype: of the Newton-Schulz products; bfloat16 where the hardware is fast at it.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient; where `found_inf` is set and 1, none, without waiting for it.

        The gradients are overwritten: updates in memory of their own would take as much as AdamW's second moment. The
        flag's name is the one by which torch's fused optimizers are told the same.
        """
        skip: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
            # Of a sharded matrix a rank holds some rows; only the iteration needs the others'.
            momenta = [local(self._momentum(parameter)) for parameter in matrices]
            grads = [local(parameter.grad) for parameter in matrices if parameter.grad is not None]
            if skip is not None:  # then a momentum is its own gradient, and stays as it is
                for momentum, grad in zip(momenta, grads, strict=True):
                    torch.where(skip > 0, momentum, grad, out=grad)
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            torch._foreach_lerp_(grads, momenta, group["momentum"])  # the updates, from here on
            if group["weight_decay"] > 0:
                left: float | Tensor = 1 - group["lr"] * group["weight_decay"]
                if skip is not None:
                    left = torch.where(skip > 0, 1.0, left)
                torch._foreach_mul_([local(parameter) for parameter in matrices], left)
            whole = [all_rows(rows.to(self.dtype), like) for rows, like in zip(grads, matrices, strict=True)]
            for parameter, update in zip(matrices, divided(whole, self.dtype), strict=True):
                rows, columns = parameter.shape
                mine = local(own_rows(update, parameter))
                if skip is not None:
                    mine = torch.where(skip > 0, 0.0, mine)
                local(parameter).add_(mine, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def divided(matrices: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """`orthogonalised` of matrices that all ranks hold: each rank does its share and gives the result to all."""
    if not dist.is_initialized():
        return orthogonalised(matrices, dtype)
    owners = shares([tuple(matrix.shape) for matrix in matrices], dist.get_world_size())
    mine = orthogonalised([matrices[n] for n in owners[dist.get_rank()]], dtype)
    sizes = [sum(matrices[n].numel() for n in owned) for owned in owners]
    sent = torch.empty(max(sizes), dtype=dtype, device=matrices[0].device)
    if mine:
        torch.cat([result.reshape(-1) for result in mine], out=sent[: sizes[dist.get_rank()]])
    received = [torch.empty_like(sent) for _ in owners]
    dist.all_gather(received, sent)
    found: list[Tensor] = [torch.empty(0)] * len(matrices)
    for owned, size, flat in zip(owners, sizes, received, strict=True):
        for n, part in zip(owned, flat[:size].split([matrices[n].numel() for n in owned]), strict=True):
            found[n] = part.view(matrices[n].shape)
    return found


def shares(shapes: list[tuple[int, ...]], num_ranks: int) -> list[list[int]]:
    """Which matrices each rank iterates: the costliest first, each to the rank with the least work so far."""
    cost = [min(shape) ** 2 * (2 * max(shape) + min(shape)) for shape in shapes]
    owners: list[list[int]] = [[] for _ in range(num_ranks)]
    load = [0] * num_ranks
    for n in sorted(range(len(shapes)), key=lambda n: -cost[n]):
        rank = load.index(min(load))
        owners[rank].append(n)
        load[rank] += cost[n]
    return owners


def orthogonalised(matrices: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Each matrix U S V' as about U V'; those of one shape are iterated together.

    The list that was given is changed and returned, so that each matrix's memory is free once its result is there.
    """
    shapes = [(min(m.shape), max(m.shape)) for m in matrices]
    for shape in dict.fromkeys(shapes):
        members = [number for number, other in enumerate(shapes) if other == shape]
        size = max(1, MUON_BATCH // (shape[0] * shape[1]))
        for batch in (members[start : start + size] for start in range(0, len(members), size)):
            wide = [matrices[n].T if _is_tall(matrices[n]) else matrices[n] for n in batch]
            for number, result in zip(batch, newton_schulz(torch.stack(wide).to(dtype)), strict=True):
                matrices[number] = result.T if _is_tall(matrices[number]) else result
    return matrices


def newton_schulz(x_nRC: Tensor) -> Tensor:
    """Singular values of each wide matrix (R <= C) of a batch moved towards 1."""
    a, b, c = COEFFICIENTS
    x_nRC = x_nRC / x_nRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram_nRR = x_nRC @ x_nRC.mT
        polynomial_nRR = torch.baddbmm(gram_nRR, gram_nRR, gram_nRR, beta=b, alpha=c)
        x_nRC = torch.baddbmm(x_nRC, polynomial_nRR, x_nRC, beta=a)
    return x_nRC


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
