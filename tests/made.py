"""What several tests make: a checkpoint of a model that stands in the test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from model.decoder import Decoder
from training.save import snapshot, write_checkpoint


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
    write_checkpoint(path, taken, tokenizer_folder, json.dumps(state), provenance)
