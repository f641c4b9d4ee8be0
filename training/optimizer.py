"""AdamW with decay on matrices only, and the learning rate of each step: linear warm-up, then cosine to `min_lr`."""

import math

import torch
from torch import nn

from training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig, lr: float) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov and Hutter 2019); the embedding (and so a tied head) and the norms are not decayed."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (decayed if is_matrix else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=1e-8, fused=fused)


def learning_rate(step: int, total_steps: int, lr: float, min_lr: float, warmup_ratio: float) -> float:
    """Rate of update `step` (from 0): never 0 in the warm-up, `lr` at its end, `min_lr` at the last step."""
    warmup = min(total_steps - 1, max(1, round(warmup_ratio * total_steps))) if warmup_ratio > 0 else 0
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - 1 - warmup)
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
