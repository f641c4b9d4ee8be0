"""A run folder with a small corpus and tokenizer, made without the data room, so that training can be tested alone; and
the ranks that train on it together."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config import Config
from data.writing import DOCUMENT_SCHEMA
from model.config import ModelConfig
from tests.training.ranks import Ranks
from tokenizer.bpe import train_tokenizer
from tokenizer.config import TokenizerConfig
from training.config import TrainConfig

COLORS = ("red", "green", "blue", "black", "white", "amber", "violet", "grey")
DOCUMENT_STRINGS = [name for name in DOCUMENT_SCHEMA.names if name != "n_bytes"]
THINGS = ("sky", "stone", "river", "lamp", "door", "cat", "book", "ship", "tree", "wall", "road", "cup")


def make_rows(number: int, seed: int) -> list[dict[str, str]]:
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(number):
        thing, color = generator.choice(THINGS), generator.choice(COLORS)
        if i % 4 == 0:
            words = " ".join(generator.choice(THINGS, size=int(generator.integers(5, 90))))
            row = {"kind": "text", "source": "prose", "text": f"The {words}."}
        else:
            answer = f"The {thing} is {color}." + " It is so." * int(generator.integers(0, 4))
            row = {"kind": "qa", "source": "qa", "question": f"What color is the {thing} {i}?", "answer": answer}
        rows.append({**row, "id": f"{seed}-{i}", "group": f"{seed}-{i}", "category": str(thing), "origin": f"made:{i}"})
    return rows


def write_corpus(corpus: Path, sizes: dict[str, int]) -> None:
    corpus.mkdir(parents=True)
    for seed, (split, number) in enumerate(sizes.items()):
        rows = make_rows(number, seed)
        table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in DOCUMENT_STRINGS})
        pq.write_table(table, corpus / f"{split}-00000.parquet")
    sources = [{"name": "prose", "weight": 1.0}, {"name": "qa", "weight": 1.0}]
    (corpus / "manifest.json").write_text(json.dumps({"fingerprint": "made-for-tests", "sources": sources}))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings of a run `t` whose corpus and tokenizer are there; the working folder is a temporary one."""
    monkeypatch.chdir(tmp_path)
    config = small_config()
    make_inputs_of(config)
    return config


def small_config() -> Config:
    """The settings alone."""
    return Config(
        run="t",
        tokenizer=TokenizerConfig(vocab_size=320),
        model=ModelConfig(num_layers=2, hidden_size=32, num_heads=2, num_kv_heads=1, intermediate_size=64, seq_len=48),
        train=TrainConfig(epochs=2, batch_tokens=48 * 8, lr=0.01, precision="fp32", device="cpu", sample_tokens=8),
    )


def make_inputs_of(config: Config) -> None:
    run = Path("runs") / config.run
    write_corpus(run / "corpus", {"train": 160, "val": 24, "test": 24})
    texts = [" ".join(filter(None, (row.get(n) for n in ("text", "question", "answer")))) for row in make_rows(160, 0)]
    train_tokenizer(iter(texts), sum(map(len, texts)), config.tokenizer, run / "tokenizer")


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    group = Ranks(4)
    yield group
    group.kill()


@pytest.fixture
def awkward(config: Config) -> Config:
    """7 rows a step, one a micro-batch; 18 numbers a head and 66 inside are no multiple of 4."""
    model = replace(config.model, hidden_size=36, intermediate_size=66)
    return replace(
        config,
        model=model,
        train=replace(config.train, batch_tokens=48 * 7, micro_batch=1, epochs=1, optimizer="muon", samples=0),
    )
