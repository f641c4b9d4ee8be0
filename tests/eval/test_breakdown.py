"""Bits per byte by label, length and place: parts add up to the whole, and rest on the data that they name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.bootstrap import resample
from eval.breakdown import NONE, OTHERS, VALUES, breakdowns, by_position, labels_of, length_name
from eval.compare import compare
from eval.config import EvalConfig
from eval.gap import HeldOutSide, train_figures
from eval.losses import CONTENT, RESPONSES, DocumentLosses, PositionLosses, document_losses
from eval.verdict import training_line
from tokenizer.bpe import Tokenizer
from tokenizer.encode import encode_table
from tokenizer.template import IN_ANSWER, IN_QUESTION, IN_TEXT

from .conftest import SEQ_LEN, make_model, make_rows, make_table


@pytest.fixture(scope="module")
def measured(tok: Tokenizer) -> tuple[list[DocumentLosses], list[PositionLosses], Any, list[str]]:
    """Two models' losses of 60 documents in 30 groups."""
    rows = make_rows(60, seed=5)
    table = make_table(rows)
    tokens = encode_table(table, tok)
    positions = [PositionLosses(np.array(tok.token_bytes)) for _ in range(2)]
    losses = [
        document_losses(make_model(tok.vocab_size, seed), tokens, SEQ_LEN, batch_rows=4, by_position=of)
        for seed, of in enumerate(positions)
    ]
    return losses, positions, table, [row["group"] for row in rows]


@pytest.mark.parametrize("parts", [CONTENT, RESPONSES])
def test_the_values_of_a_label_add_up_to_the_whole(measured: Any, parts: tuple[int, ...]) -> None:
    losses, _, table, groups = measured
    found = breakdowns(losses, table, groups, parts, seed=0)
    assert set(found) == {"source", "category", "length"}  # difficulty tells none apart
    for told in found.values():
        assert sum(of["documents"] for of in told) == 60
        assert sum(of["bytes"] for of in told) == losses[0].bytes(parts).sum()
        for k, loss in enumerate(losses):
            bits = sum(of["bpb"][k] * of["bytes"] for of in told)
            assert bits == pytest.approx(loss.bits(parts).sum(), rel=1e-9)


def test_a_value_is_what_its_documents_alone_would_give(measured: Any) -> None:
    losses, _, table, groups = measured
    found = breakdowns(losses, table, groups, CONTENT, seed=0)
    [prose] = [of for of in found["source"] if of["value"] == "prose"]
    own = np.flatnonzero(np.array(table["source"].to_pylist()) == "prose")
    assert prose["documents"] == len(own)
    assert prose["bpb"] == pytest.approx([loss.select(own).bits_per_byte() for loss in losses])
    for (low, high), bpb in zip(prose["ci95"], prose["bpb"], strict=True):
        assert low < bpb < high
    few = [of for of in found["category"] if of["groups"] < 10]
    assert few
    assert all(of["ci95"] is None for of in few)


def test_places_add_up_to_the_whole_and_do_not_depend_on_the_batch(measured: Any, tok: Tokenizer) -> None:
    losses, positions, table, _ = measured
    told = by_position(positions, CONTENT)
    assert [of["value"] for of in told] == ["1 to 15 tokens", "16 to 63 tokens"]
    for k, loss in enumerate(losses):
        assert sum(of["bytes"][k] for of in told) == loss.bytes().sum()
        assert sum(of["bpb"][k] * of["bytes"][k] for of in told) == pytest.approx(loss.bits().sum(), rel=1e-6)
    answers = by_position(positions, RESPONSES)
    for k, loss in enumerate(losses):
        assert sum(of["bytes"][k] for of in answers) == loss.bytes(RESPONSES).sum() < loss.bytes().sum()
        bits = sum(of["bpb"][k] * of["bytes"][k] for of in answers if of["bytes"][k])
        assert bits == pytest.approx(loss.bits(RESPONSES).sum(), rel=1e-6)
    again = PositionLosses(np.array(tok.token_bytes))
    document_losses(make_model(tok.vocab_size, 0), encode_table(table, tok), SEQ_LEN, batch_rows=1, by_position=again)
    np.testing.assert_array_equal(again.num_bytes, positions[0].num_bytes)
    np.testing.assert_allclose(again.nats, positions[0].nats, rtol=3e-5)


def test_a_place_is_the_number_of_tokens_in_front() -> None:
    sums = PositionLosses(np.array([0, 1, 5]))
    roles = np.array([IN_QUESTION, IN_ANSWER, IN_TEXT, IN_ANSWER])
    sums.add(np.array([1, 15, 16, 5000]), np.array([1, 2, 1, 2]), roles, np.log([2.0, 2.0, 4.0, 8.0]))
    assert [sums.bytes(place) for place in range(6)] == [6, 1, 0, 0, 0, 5]
    assert [sums.bytes(place, RESPONSES) for place in range(6)] == [5, 1, 0, 0, 0, 5]
    assert sums.bits_per_byte(0, RESPONSES) == pytest.approx(1 / 5)
    assert sums.bits_per_byte(0) == pytest.approx(2 / 6)
    assert sums.bits_per_byte(1) == pytest.approx(2)
    assert sums.bits_per_byte(2) is None
    assert sums.names()[0] == "1 to 15 tokens"
    assert sums.names()[-1] == "4,096 tokens and more"


def test_rare_values_are_told_together() -> None:
    rows = [{**row, "category": f"c{i % 40}" if i < 79 else None} for i, row in enumerate(make_rows(80, seed=6))]
    labels = labels_of(make_table(rows), np.arange(80))
    assert len(set(labels["category"])) == VALUES + 1
    assert OTHERS in labels["category"]
    assert set(labels["difficulty"]) == {NONE}


def test_lengths_are_bytes_up_to_and_with_their_bound() -> None:
    names = [length_name(number) for number in (1, 256, 257, 1024, 4096, 4097)]
    assert names[0] == names[1] == "up to 256 bytes"
    assert names[2] == names[3] == "257 to 1,024 bytes"
    assert names[4] == "1,025 to 4,096 bytes"
    assert names[5] == "over 4,096 bytes"


def test_compare_tells_the_gap_to_the_training_split(run: Path, rows: list[dict[str, Any]], quick: EvalConfig) -> None:
    [_, facts] = (result := compare([run / "ckpt1", run / "ckpt2"], quick))["checkpoints"]
    assert facts["train_documents"] == len(rows)
    assert facts["gap_bpb"] == pytest.approx(facts["val_bpb"] - facts["train_bpb"])
    assert facts["gap_bpb"] > 0
    low, high = facts["gap_ci95"]
    assert low < facts["gap_bpb"] < high
    told = f"ckpt2 {facts['train_bpb']:.4f} (held out: +{facts['gap_bpb']:.4f} [{low:+.4f}, {high:+.4f}])"
    assert told in training_line(result)
    assert {"source", "category", "length", "position"} <= set(result["breakdown"])
    without = EvalConfig(**{**quick.__dict__, "train_documents": 0})
    [_, facts] = (bare := compare([run / "ckpt1", run / "ckpt2"], without))["checkpoints"]
    assert (facts["train_bpb"], facts["gap_bpb"], facts["train_documents"]) == (None, None, 0)
    assert training_line(bare) == ""


@pytest.mark.parametrize("size", [1, 4])
def test_the_gap_is_as_sure_as_its_two_sides_and_counts_groups(size: int) -> None:
    """200 held-out groups of deviation 0.1 and 100 of training documents of 0.3, each of `size` equal documents."""
    generator = np.random.default_rng(0)
    bits = 80 * (1 + generator.normal(0, 0.3, 100)).repeat(size)
    nats, sizes = np.zeros((100 * size, 5)), np.zeros((100 * size, 5), np.int64)
    nats[:, IN_TEXT], sizes[:, IN_TEXT] = bits * np.log(2), 80
    sizes_G = np.full(200, 80.0)
    held_out = resample(80 * (1.5 + generator.normal(0, 0.1, (200, 1))), sizes_G, 4000, 0)[:, 0]
    groups = [str(i) for i in range(100) for _ in range(size)]
    losses = DocumentLosses(nats, sizes, sizes)
    told = train_figures(losses, groups, CONTENT, HeldOutSide(1.5, held_out, sizes_G), 0)
    assert told["train_documents"] == 100 * size
    assert told["gap_bpb"] == pytest.approx(1.5 - bits.mean() / 80)
    low, high = told["gap_ci95"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.1**2 / 200 + 0.3**2 / 100), rel=0.15)
    few = train_figures(losses, groups, CONTENT, HeldOutSide(1.5, held_out, sizes_G[:9]), 0)
    assert few["gap_bpb"] == told["gap_bpb"]
    assert few["gap_ci95"] is None
    wider = train_figures(losses, groups, CONTENT, HeldOutSide(1.5, held_out, sizes_G[:10]), 0)["gap_ci95"]
    assert wider[0] < low < high < wider[1]
