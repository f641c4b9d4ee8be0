"""Means of the last epochs' weights: where epochs repeat a small corpus, better than any of the epochs.

In: the epoch checkpoints of a run that is done. Out: the mean of some, to be put into the model and validated.
Weights that circle around a minimum are nearer to it on average (Izmailov et al., 2018). Figures in docs/decisions.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from model.decoder import Decoder
from training.distributed import unless_out_of_memory
from training.sharding import local, own_rows

MOST = 5  # epochs; of ten epochs the last four were best


def last_epochs(folder: Path, epochs: int) -> list[Path]:
    """The checkpoints that are worth averaging, the newest first: of half the epochs, at most MOST; none missing."""
    found = []
    for epoch in range(epochs, max(epochs // 2, epochs - MOST), -1):
        if not (folder / f"ckpt{epoch}" / "model.safetensors").exists():
            break
        found.append(folder / f"ckpt{epoch}")
    return found


def mean(paths: list[Path]) -> dict[str, Tensor]:
    """The mean of the checkpoints' weights, float32 on the CPU, by the decoder's names."""
    total: dict[str, Tensor] = {}
    for path in paths:
        with safe_open(path / "model.safetensors", framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                name, weight = key.removeprefix("model."), file.get_tensor(key).float()
                total[name] = total[name].add_(weight) if name in total else weight
    return {name: weight.div_(len(paths)) for name, weight in total.items()}


@torch.no_grad()
def put(weights: dict[str, Tensor], model: Decoder) -> None:
    """Give a model these weights; a sharded one takes its own rows."""
    for name, parameter in model.named_parameters():
        local(parameter).copy_(local(own_rows(weights[name], parameter)))


def best_mean(
    paths: list[Path], model: Decoder, validated: Callable[[], dict[str, Any] | None]
) -> tuple[list[Path], dict[str, Any]] | None:
    """Of the means of the first 2, 3, ... checkpoints the one with the lowest val_loss: what it is the mean of, and its
    figures. The model ends with its weights. `validated` gives the figures of the model, None where it cannot. Returns
    None for fewer than two paths, or where memory sufficed for no mean or its validation."""
    found = []
    for number in range(2, len(paths) + 1):
        if put_mean(paths[:number], model) and (figures := validated()) is not None:
            found.append((paths[:number], figures))
    best = min(found, key=lambda each: each[1]["val_loss"], default=None)
    return best if best is not None and put_mean(best[0], model) else None


def put_mean(paths: list[Path], model: Decoder) -> bool:
    """Give a model the mean of these checkpoints; False, on all ranks, where one has no memory for it."""
    weights = unless_out_of_memory(lambda: mean(paths))
    if weights is not None:
        put(weights, model)
    return weights is not None


def name_of(paths: list[Path]) -> str:
    """The folder's name of an average: ckpt7-10 of ckpt10, ckpt9, ckpt8, ckpt7."""
    first, last = (path.name.removeprefix("ckpt") for path in (paths[-1], paths[0]))
    return f"ckpt{first}-{last}"
