"""A sound checkpoint for the tests of eval/check.py, and how faults are planted into copies of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from common.files import file_sha256, read_json
from eval.losses import document_losses, summary
from tests.eval.conftest import SEQ_LEN, make_rows, make_run, make_table
from tokenizer.encode import encode_table
from training.checkpoint import load_for_inference, sealed, update_metrics


def make_sound_run(run: Path, rows: list[dict[str, Any]]) -> Path:
    """A run whose checkpoints state their validation loss: ckpt1 hardly trained, ckpt2 and ckpt3 well."""
    make_run(run, rows, make_rows(8, seed=2), steps=(2, 40, 60))
    for checkpoint in sorted(run.glob("ckpt*")):
        model, tok, _ = load_for_inference(checkpoint)
        figures = summary(document_losses(model, encode_table(make_table(rows[:4]), tok), SEQ_LEN))
        update_metrics(checkpoint, {"val_loss": figures["loss"], "val_tokens": figures["num_tokens"]})
    return run


def copy_run(run: Path, to: Path) -> Path:
    """The run's folder again, and in it the checkpoint that is to be damaged."""
    shutil.copytree(run, to)
    return to / "ckpt3"


def reseal(checkpoint: Path) -> None:
    """Hashes as if what is there had been written so: a fault that no hash tells."""
    meta = read_json(checkpoint / "loam.json")
    files = {name: file_sha256(checkpoint / name) for name in meta["files"] if (checkpoint / name).exists()}
    (checkpoint / "loam.json").write_text(json.dumps(sealed({**meta, "files": files})))


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = read_json(file)
    change(content)
    file.write_text(json.dumps(content))


def edit_weights(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, file, metadata={"format": "pt"})


def statuses(result: dict[str, Any], status: str) -> list[str]:
    """Names of the lines that have it."""
    return [line["name"] for line in result["lines"] if line["status"] == status]


def line_of(result: dict[str, Any], name: str) -> dict[str, Any]:
    (line,) = [line for line in result["lines"] if line["name"] == name]
    return line
