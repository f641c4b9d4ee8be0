"""How much a server answers: requests and tokens a second and the time to the first token, at 1, 8 and 32 clients.

    python bench/serve_speed.py --json bench/results/serve-speed.json

A real `serve.py` in a process of its own, of a checkpoint of random weights, on loopback; each client streams one
request after the other, prompts of 32 tokens and answers of 64. Clients, server and whatever else runs share the
machine. Nothing may be lost: every answer has all its tokens, and the ledger says the same.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py

import httpx
import torch

from bench.machine import facts, tell
from common.errors import run_command
from common.files import file_sha256
from config import load_command
from model.config import PRESETS, ModelConfig, count_parameters, resolve_shape
from model.decoder import Decoder
from server.ledger import LEDGER
from tokenizer.bpe import train_tokenizer
from tokenizer.config import TokenizerConfig
from training.save import snapshot, tokenizer_files, write_checkpoint

FIRST_ORDINARY = 300  # an id behind special tokens and bytes, of which prompts are made


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        presets: model shapes, one after the other
        clients: at a time
        requests: of each client
        prompt: tokens
        answer: tokens
        rows: that the server answers together
        turns: of all numbers of clients; medians over them are told
        precision: of the weights
        json: file to write the results to
    """

    presets: list[str] = field(default_factory=lambda: ["small", "seed-126m"])
    clients: list[int] = field(default_factory=lambda: [1, 8, 32])
    requests: int = 4
    prompt: int = 32
    answer: int = 64
    rows: int = 32
    turns: int = 3
    precision: str = "fp32"
    json: str | None = None


@dataclass(frozen=True)
class Answer:
    """One request as its client saw it."""

    first: float  # seconds to the first piece of text
    tokens: int


def main() -> None:
    """The command."""
    options: Options = load_command(None, __doc__, options=Options).args.options
    results, lines = [], []
    for preset in options.presets:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = make_checkpoint(Path(folder) / "speed", preset)
            found = measure(Path(folder), checkpoint, options)
        parameters = count_parameters(PRESETS[preset])
        results.append({"preset": preset, "parameters": parameters, "levels": found})
        lines += [f"{preset}, {parameters:,} parameters:", *map(line_of, found)]
    settings = {name: getattr(options, name) for name in ("requests", "prompt", "answer", "rows", "turns", "precision")}
    tell({**facts(), **settings, "results": results}, lines, options.json)


def measure(folder: Path, checkpoint: Path, options: Options) -> list[dict[str, Any]]:
    """Turns of all numbers of clients against one server; AssertionError where a token is lost."""
    flags = ["--rows", str(options.rows), "--queue", "256", "--log", "false", "--precision", options.precision]
    turns: list[dict[int, dict[str, float]]] = []
    with running_server(folder, checkpoint, *flags) as (process, url, _):
        asyncio.run(load(url, options, 8))  # warms up
        for _ in range(options.turns):
            turns.append({number: summary(*asyncio.run(load(url, options, number))) for number in options.clients})
        process.terminate()
        process.wait(60)
    asked = options.requests * options.answer * (8 + options.turns * sum(options.clients))
    with contextlib.closing(sqlite3.connect(folder / LEDGER)) as db:
        [(charged,)] = db.execute("SELECT sum(completion_tokens) FROM requests WHERE status = 'completed'")
    assert charged == asked, f"{asked:,} tokens were asked for, and the ledger holds {charged:,}"
    return [
        {"clients": number, **{key: round(statistics.median(turn[number][key] for turn in turns), 4)
                               for key in turns[0][number]}}
        for number in options.clients
    ]  # fmt: skip


async def load(url: str, options: Options, number: int) -> tuple[list[Answer], float]:
    """So many clients at a time, each with its requests one after the other: answers, and seconds of it all."""
    limits = httpx.Limits(max_connections=number)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

        async def one(seed: int) -> list[Answer]:
            rng = random.Random(seed)
            return [await ask(client, rng, options) for _ in range(options.requests)]

        began = time.perf_counter()
        found = await asyncio.gather(*(one(seed) for seed in range(number)))
        seconds = time.perf_counter() - began
    answers = [answer for answers in found for answer in answers]
    assert [answer.tokens for answer in answers] == [options.answer] * (number * options.requests), "tokens are lost"
    return answers, seconds


async def ask(client: httpx.AsyncClient, rng: random.Random, options: Options) -> Answer:
    """One streamed completion."""
    prompt = [rng.randrange(FIRST_ORDINARY, 4096) for _ in range(options.prompt)]
    body = {"model": "speed/ckpt1", "prompt": prompt, "max_tokens": options.answer, "min_tokens": options.answer,
            "temperature": 1.0, "seed": rng.randrange(1 << 30), "stream": True,
            "stream_options": {"include_usage": True}}  # fmt: skip
    began, first, tokens = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            first = first or time.perf_counter() - began
            usage = json.loads(line[6:]).get("usage")
            tokens = usage["completion_tokens"] if usage else tokens
    return Answer(first, tokens)


def summary(answers: Sequence[Answer], seconds: float) -> dict[str, float]:
    """Figures of one number of clients in one turn."""
    firsts = sorted(answer.first for answer in answers)
    return {
        "requests_per_s": len(answers) / seconds,
        "tokens_per_s": sum(answer.tokens for answer in answers) / seconds,
        "first_token_median_s": statistics.median(firsts),
        "first_token_p95_s": firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))],
    }


def line_of(level: dict[str, Any]) -> str:
    """One line for people."""
    first, slow = (1000 * level[f"first_token_{name}_s"] for name in ("median", "p95"))
    return (
        f"  {level['clients']:3} clients: {level['requests_per_s']:6.2f} requests/s, {level['tokens_per_s']:7.1f} "
        f"tokens/s, first token {first:.0f} ms (95th: {slow:.0f} ms)"
    )


@contextlib.contextmanager
def running_server(
    folder: Path, checkpoint: Path, *flags: str
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`python serve.py` in a folder, on a free port: process, URL, and what it said; killed if it still runs."""
    command = [sys.executable, str(ROOT / "serve.py"), str(checkpoint), *flags, "--port", "0", "--quick", "true"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, bufsize=1,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"^serving .* at (http://\S+?)(;|$)", line.strip()):
                threading.Thread(
                    target=said.extend, args=(process.stdout,), daemon=True
                ).start()  # a full pipe stops it
                yield process, found[1], said
                return
        raise AssertionError("".join(said))
    finally:
        process.kill()
        process.wait(30)


def make_checkpoint(run: Path, preset: str) -> Path:
    """RUN/ckpt1 of random weights, with a tokenizer of the preset's size, trained on made words."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "s")]
    words = ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(40_000)]
    texts = [" ".join(rng.choices(words, k=200)) for _ in range(2000)]
    config = TokenizerConfig(vocab_size=PRESETS[preset].vocab_size, min_frequency=1)
    train_tokenizer(iter(texts), sum(map(len, texts)), config, run / "tokenizer")
    shape = resolve_shape(replace(ModelConfig(), preset=preset), PRESETS[preset].vocab_size)
    torch.manual_seed(0)
    model = Decoder(shape)
    provenance = {"corpus": "made words", "tokenizer": file_sha256(run / "tokenizer" / "tokenizer.json"),
                  "run": run.name, "config": {}, "epoch": 1, "step": 1, "tokens": 1}  # fmt: skip
    taken = snapshot(model, [], copy=False)
    assert taken is not None
    write_checkpoint(run / "ckpt1", taken, tokenizer_files(run / "tokenizer", shape.seq_len), "{}", provenance)
    return run / "ckpt1"


if __name__ == "__main__":
    run_command(main)
