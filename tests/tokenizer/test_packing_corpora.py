"""Packing real documents, tokenized for real: 99% and more of the positions carry a target.

Needs the folder of real corpora that LOAM_CORPORA names (see docs/own-data.md for their public origin).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.packing import pack, shuffle_rows
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files
from tokenizer.bpe import Tokenizer
from tokenizer.byte_level import train_bpe
from tokenizer.template import render

CORPORA = Path(os.environ.get("LOAM_CORPORA", "/nonexistent"))
pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")

SOURCES: dict[str, dict[str, Any]] = {
    "human/gsm8k_train.jsonl.gz": {},
    "human/nq_open_dev.jsonl.gz": {},
    "human/medquad_gard.csv.gz": {},
    "llm/alpaca_5000.json.gz": {"preset": "alpaca"},
    "llm/chatdoctor5k.json.gz": {"preset": "alpaca"},
    "llm/codealpaca_new.json.gz": {"preset": "alpaca"},
    "multilingual/xquad.en.json.gz": {"preset": "squad"},
    "multilingual/chatterbot_pairs.csv.gz": {},
    "books/*.txt.gz": {"kind": "text"},
    "quantum/platypus_en_docs.jsonl.gz": {"kind": "text"},
    "code/cirq_ops_python.txt.gz": {"kind": "text", "split": "^# FILE: "},
}


def documents(path: str) -> Iterator[dict[str, Any]]:
    [source] = check_sources([SourceConfig(path=str(CORPORA / path), **SOURCES[path])])
    for file in list_files(source, Path(".")):
        yield from (row for row in read_file(file, source) if not row["reason"])


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    texts = (row[name][:5000] for path in SOURCES for row in list(documents(path))[:400]
             for name in ("text", "question", "answer") if row[name])  # fmt: skip
    return Tokenizer(train_bpe(texts, 4096, 2, show_progress=False))


@pytest.mark.parametrize("path", SOURCES)
def test_at_1024_positions_99_percent_are_filled_and_no_token_is_lost(path: str, tok: Tokenizer) -> None:
    lengths = np.asarray([len(render(tok, row)) for row in documents(path)])
    generator = np.random.default_rng(0)
    plan = shuffle_rows(pack(lengths, 1024, generator.permutation(len(lengths))), generator)
    assert plan.lengths.sum() == (lengths - 1).sum()
    assert plan.fill >= 0.99, f"{plan.fill:.4f} of {len(plan)} rows"
