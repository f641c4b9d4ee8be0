"""Runs with a small corpus, tokenizer and two checkpoints, made without data preparation and train.py."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.files import file_sha256
from data.loader import assemble
from data.packing import pack
from data.tokens import Tokens
from eval.config import EvalConfig
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from model.loss import weighted_nll
from tests.made import save_checkpoint
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.encode import encode_table

COLUMNS = ("id", "source", "kind", "text", "context", "question", "answer", "category", "difficulty", "group", "origin")
THINGS = ("sky", "stone", "river", "lamp", "door", "cat", "book", "ship", "tree", "wall", "road", "cup")
COLORS = ("rot", "grün", "blue", "black", "白い", "amber")
SEQ_LEN = 64


def make_rows(number: int, seed: int) -> list[dict[str, Any]]:
    """Q&A with and without context, and texts; two rows a group; text of several bytes a character."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(number):
        thing, color = generator.choice(THINGS), generator.choice(COLORS)
        if i % 4 == 0:
            words = " ".join(generator.choice(THINGS, size=int(generator.integers(6, 60))))
            row: dict[str, Any] = {"kind": "text", "source": "prose", "text": f"The {words} {i}."}
        else:
            context = f"Seen in {generator.choice(THINGS)} {seed}." if i % 4 == 1 else None
            row = {"kind": "qa", "source": "qa", "context": context, "answer": f"The {thing} is {color}.",
                   "question": f"What color has {thing} {seed}-{i}?"}  # fmt: skip
        rows.append({**row, "id": f"{seed}-{i}", "group": f"g{seed}-{i // 2}", "category": str(thing),
                     "origin": f"made:{i}"})  # fmt: skip
    return rows


def make_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS})


def make_tokenizer(folder: Path, vocab_size: int, rows: Sequence[dict[str, Any]]) -> Tokenizer:
    texts = [" ".join(filter(None, (row.get(n) for n in ("text", "question", "answer")))) for row in rows]
    train_tokenizer(iter(texts), sum(map(len, texts)), TokenizerConfig(vocab_size=vocab_size), folder)
    return load_tokenizer(folder)


def make_model(vocab_size: int, seed: int = 0, seq_len: int = SEQ_LEN) -> Decoder:
    torch.manual_seed(seed)
    config = ModelConfig(
        num_layers=2, hidden_size=32, num_heads=2, num_kv_heads=1, intermediate_size=64, seq_len=seq_len
    )
    return Decoder(resolve_shape(config, vocab_size)).eval()


def learn(model: Decoder, tokens: Tokens, steps: int) -> torch.optim.Optimizer:
    """A few full-batch steps of plain AdamW: enough to be far better than before."""
    plan = pack(tokens.lengths, model.shape.seq_len)
    batch = assemble(plan, np.arange(len(plan)), tokens)
    ids, targets, weights, positions, documents = (
        torch.from_numpy(a) for a in (batch.ids, batch.targets, batch.weights, batch.positions, batch.documents)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = weighted_nll(model(ids, positions, documents), model.head, targets, weights) / batch.num_targets
        loss.backward()
        optimizer.step()
    return optimizer


def make_run(
    run: Path,
    train: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]],
    vocab_size: int = 320,
    steps: Sequence[int] = (2, 30),
    prompt_loss_weight: float = 1.0,
    seed: int = 0,
) -> Path:
    """A run folder with ckpt1, ckpt2, ... after so many more steps each."""
    corpus = run / "corpus"
    corpus.mkdir(parents=True)
    for split, rows in (("train", train), ("val", train[:4]), ("test", test)):
        pq.write_table(make_table(rows), corpus / f"{split}-00000.parquet")
    splits = {name: {"documents": len(rows), "bytes": 1000} for name, rows in (("train", train), ("test", test))}
    manifest = {"fingerprint": f"corpus-of-{run.name}", "rows_read": len(train) + len(test), "splits": splits,
                "quarantine": {"rows": 1, "reasons": {"empty": 1}}}  # fmt: skip
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    tok = make_tokenizer(run / "tokenizer", vocab_size, train)
    (run / "config.toml").write_text("")
    tokens = encode_table(make_table(train), tok)
    model = make_model(tok.vocab_size, seed)
    events, total = [], 0
    for epoch, number in enumerate(steps, start=1):
        optimizer = learn(model, tokens, number)
        total += number
        provenance = {
            "corpus": manifest["fingerprint"],
            "tokenizer": file_sha256(run / "tokenizer" / "tokenizer.json"),
            "run": run.name,
            "config": {"train": {"prompt_loss_weight": prompt_loss_weight, "seed": seed}, "model": {"preset": "tiny"}},
            "epoch": epoch,
            "step": total,
            "tokens": total * tokens.num_targets,
        }
        save_checkpoint(run / f"ckpt{epoch}", model, [optimizer], run / "tokenizer", {"step": total}, provenance)
        events += [{"event": "step", "step": s, "epoch": epoch, "loss": 5.0 / s, "tokens": s * tokens.num_targets}
                   for s in range(total - number + 1, total + 1)]  # fmt: skip
        events.append({"event": "epoch", "epoch": epoch, "step": total, "val_loss": 5.0 / total,
                       "checkpoint": f"ckpt{epoch}"})  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return make_rows(120, seed=1)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    """runs/a: ckpt1 after 2 steps, ckpt2 after 30 more, and 48 test documents in 24 groups."""
    return make_run(tmp_path_factory.mktemp("work") / "runs" / "a", rows, make_rows(48, seed=2))


@pytest.fixture(scope="session")
def tok(run: Path) -> Tokenizer:
    return load_tokenizer(run / "tokenizer")


@pytest.fixture(scope="session")
def quick() -> EvalConfig:
    return EvalConfig(resamples=1000, num_answers=3, max_new_tokens=12, device="cpu")


def as_json(value: Any) -> str:
    """For comparing results whole."""
    return json.dumps(asdict(value) if hasattr(value, "__dataclass_fields__") else value, sort_keys=True)
