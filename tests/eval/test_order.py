"""What a comparison finds of a checkpoint does not depend on the order of documents or checkpoints (of questions:
test_judged.py)."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from eval.compare import compare
from eval.config import EvalConfig

FIGURES = ("val_bpb", "val_loss", "bpb_text", "bpb_question", "bpb_answer", "train_bpb", "gap_bpb")


@pytest.fixture(scope="module")
def settings(quick: EvalConfig) -> EvalConfig:
    return replace(quick, num_answers=8, samples=2, train_documents=40)


@pytest.fixture(scope="module")
def result(run: Path, settings: EvalConfig) -> dict[str, Any]:
    return compare([run / "ckpt1", run / "ckpt2"], settings)


def said(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Texts, greedy and sampled, and scores by checkpoint and document."""
    return {(answer["checkpoint"], item["document"]):
            {"greedy": answer["text"], "samples": [sample["text"] for sample in answer["samples"]],
             "scores": answer["scores"]}
            for item in result["answers"] for answer in item["answers"]}  # fmt: skip


def same(first: dict[str, Any], other: dict[str, Any]) -> None:
    """Texts to the letter; figures as float32 sums in another order allow."""
    assert len(said(first)) == 2 * len(first["answers"]) > 0
    assert said(first) == said(other)
    figures = {facts["name"]: facts for facts in other["checkpoints"]}
    for facts in first["checkpoints"]:
        for name in FIGURES:
            assert facts[name] == pytest.approx(figures[facts["name"]][name], rel=3e-5, abs=3e-5), name
        np.testing.assert_allclose(facts["val_bpb_ci95"], figures[facts["name"]]["val_bpb_ci95"], rtol=3e-4)


def test_the_order_of_documents_does_not_matter(
    run: Path, result: dict[str, Any], settings: EvalConfig, tmp_path: Path
) -> None:
    """The held-out ones in another order and in two files. Of those that were trained on the first are measured:
    prepare writes a split in an order that content decides."""
    copy = tmp_path / "a"
    shutil.copytree(run, copy)
    file = copy / "corpus" / "test-00000.parquet"
    table = pq.read_table(file)
    table = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(table.slice(0, 20), file)
    pq.write_table(table.slice(20), copy / "corpus" / "test-00001.parquet")
    other = compare([copy / "ckpt1", copy / "ckpt2"], settings)
    same(result, other)
    for first, second in zip(result["pairs"], other["pairs"], strict=True):
        np.testing.assert_allclose(first["ci95"], second["ci95"], rtol=3e-4)
        assert first["better"] == second["better"]
    assert other["memorised"] == result["memorised"]


def test_the_order_of_checkpoints_does_not_matter(run: Path, result: dict[str, Any], settings: EvalConfig) -> None:
    turned = compare([run / "ckpt2", run / "ckpt1"], settings)
    same(result, turned)
    [pair], [other] = result["pairs"], turned["pairs"]
    assert (pair["better"], pair["delta_bpb"]) == (other["better"], pytest.approx(-other["delta_bpb"]))
