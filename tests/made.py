"""What several tests make: a checkpoint of a model that stands in the test; the gradients of a real micro-batch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench.data_speed import synthetic_tokens
from data.loader import batches, epoch_plan
from model.decoder import Decoder
from training.save import snapshot, tokenizer_files, write_checkpoint
from training.step import autocast, loss_function, to_device


def save_checkpoint(
    path: Path,
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    tokenizer_folder: Path,
    state: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    """`snapshot` and `write_checkpoint` of a model that is not sharded, one behind the other."""
    taken = snapshot(model, optimizers, copy=False)
    assert taken is not None
    write_checkpoint(path, taken, tokenizer_files(tokenizer_folder, model.shape.seq_len), json.dumps(state), provenance)


def loss_and_gradients(
    model: Decoder, device: torch.device, precision: str, compiled: bool, seed: int = 0
) -> tuple[float, list[torch.Tensor]]:
    """Mean loss and gradients, on the CPU, of one packed micro-batch of made documents in a new order a seed."""
    tokens = synthetic_tokens(200, mean_tokens=90, sigma=0.8, seed=seed)
    plan = epoch_plan(tokens, model.shape.seq_len, seed, 0)
    step, _ = next(batches(plan, tokens, 4, 4, {"epoch": 0, "step": 0}))
    model = model.to(device)
    with autocast(device, precision):
        loss = loss_function(model, compiled)(*to_device(step.micro_batches[0], device)) / step.weight_sum
    return float(loss.detach()), [g.cpu() for g in torch.autograd.grad(loss, list(model.parameters()))]


def farthest(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest distance of a gradient from the expected one, as a share of that one's norm."""
    return max(float((a - b).norm() / b.norm().clamp(min=1e-9)) for a, b in zip(found, expected, strict=True))


def assert_compiled_is_plain(
    model: Decoder,
    device: torch.device,
    precision: str,
    tolerance: float,
    loss_tolerance: float,
    recomputed: bool = False,
) -> None:
    """Loss and every gradient of a compiled micro-batch are those of a plain one; without the document mask they would
    be ten tolerances apart. recomputed: activations of the compiled one."""
    loss, gradients = loss_and_gradients(model, device, precision, compiled=False)
    model.activation_checkpointing = recomputed
    compiled_loss, compiled = loss_and_gradients(model, device, precision, compiled=True)
    assert abs(compiled_loss - loss) <= loss_tolerance * abs(loss)
    assert farthest(compiled, gradients) < tolerance
    forward = model.forward

    def unmasked(ids: torch.Tensor, positions: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        return forward(ids, positions, documents * 0)

    with patch.object(model, "forward", unmasked):
        assert farthest(loss_and_gradients(model, device, precision, compiled=False)[1], gradients) > 10 * tolerance
