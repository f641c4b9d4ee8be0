"""A checkpoint of random weights with a long context, and real servers of it on loopback."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from bench.serve_speed import running_server
from common.files import file_sha256
from tests.eval.conftest import make_model, make_rows, make_tokenizer
from tests.made import save_checkpoint
from tokenizer.dialog import Dialog, open_dialog

ROOT = Path(__file__).resolve().parents[2]
SEQ_LEN = 4096  # so that an answer may last for seconds
NAME = "a/ckpt1"


def make_checkpoint(run: Path, seq_len: int = SEQ_LEN) -> Path:
    """RUN/ckpt1, random."""
    rows = make_rows(120, seed=1)
    tok = make_tokenizer(run / "tokenizer", 320, rows)
    model = make_model(tok.vocab_size, seed=3, seq_len=seq_len)
    with torch.no_grad():  # else it says its last token again: 10 to 14 different ones among 24
        for parameter in model.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12.0)
    digest = file_sha256(run / "tokenizer" / "tokenizer.json")
    provenance = {
        "corpus": "made",
        "tokenizer": digest,
        "run": run.name,
        "config": {},
        "epoch": 1,
        "step": 1,
        "tokens": 1,
    }
    save_checkpoint(run / "ckpt1", model, [], run / "tokenizer", {"step": 1}, provenance)
    return run / "ckpt1"


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    said: list[str]  # lines, as they come

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        settings = {"max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **settings)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def server(folder: Path, checkpoint: Path, *flags: str) -> Iterator[Running]:
    """A server in a folder, on a free port; killed at the end if it still runs."""
    with running_server(folder, checkpoint, *flags) as (process, url, said):
        yield Running(process, url, folder, said)


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `true` returns once that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("served") / "a")


@pytest.fixture(scope="session")
def dialog(checkpoint: Path) -> Dialog:
    return open_dialog(checkpoint)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Running]:
    """A server that many tests share: four rows, no keys."""
    with server(tmp_path_factory.mktemp("server"), checkpoint, "--rows", "4") as found:
        yield found


@pytest.fixture(scope="session")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with running.client() as found:
        yield found
