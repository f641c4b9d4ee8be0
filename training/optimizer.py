"""Who updates which weights, and the learning rate of each step: linear warm-up, then cosine to `min_lr`.

Muon moves the layers' matrices, AdamW the rest: embedding, head, norms. One schedule turns both rates alike: each
group keeps its own peak, and every step sets a share of it.
"""

import math

import torch
from torch import nn

from training.config import TrainConfig
from training.lora import is_adapted
from training.muon import Muon


def make_optimizers(
    model: nn.Module,
    config: TrainConfig,
    lr: float,
    embedding_lr: float,
    weight_decay: float,
    precision: str = "fp32",
) -> list[torch.optim.Optimizer]:
    """Muon and AdamW, or AdamW alone; of what is trained. Decay is on the layers' matrices only.

    lr, weight_decay: peak rate and decay of the layers' matrices. embedding_lr: peak rate of everything else.
    precision: of Muon's products. Low-rank adapters get AdamW, whatever the config asks for.
    """
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in names.items() if name.startswith("layers.") and p.ndim == 2]
    rest = [p for name, p in names.items() if not (name.startswith("layers.") and p.ndim == 2)]
    others = {"params": rest, "lr": embedding_lr, "weight_decay": 0.0}
    if config.optimizer == "muon" and not is_adapted(model):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        optimizers = [Muon(matrices, lr, weight_decay, config.momentum, dtype), _adamw([others], config)]
    else:
        optimizers = [_adamw([{"params": matrices, "lr": lr, "weight_decay": weight_decay}, others], config)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _adamw(groups: list[dict[str, object]], config: TrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW (Loshchilov and Hutter, 2019)."""
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])  # type: ignore[attr-defined]
    groups = [group for group in groups if group["params"]]  # adapters leave nothing for the second
    return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=1e-8, fused=fused)


def learning_rate(step: int, total_steps: int, lr: float, min_lr: float, warmup_ratio: float) -> float:
    """Rate of update `step` (from 0): never 0 in the warm-up, `lr` at its end, `min_lr` at the last step."""
    warmup = warmup_steps(total_steps, warmup_ratio)
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - 1 - warmup)
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def sum_of_rates(total_steps: int, lr: float, min_lr: float, warmup_ratio: float) -> float:
    """Sum of `learning_rate` over all steps, without walking them: a plan may ask for a million epochs."""
    warmup = warmup_steps(total_steps, warmup_ratio)
    falling = total_steps - warmup  # a half cosine from lr to min_lr, both ends included, is symmetric about its middle
    return lr * warmup / 2 + (falling * (lr + min_lr) / 2 if falling > 1 else lr)


def warmup_steps(total_steps: int, warmup_ratio: float) -> int:
    """Steps before the one that has the whole rate."""
    return min(total_steps - 1, max(1, round(warmup_ratio * total_steps))) if warmup_ratio > 0 else 0


def set_learning_rates(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Give every group this share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
