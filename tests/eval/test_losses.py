"""Losses of documents against a slow plain computation, and what they must not depend on."""

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from data.tokens import Tokens, from_index
from eval.losses import CONTENT, DocumentLosses, document_losses, summary
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer
from tokenizer.encode import encode_table
from tokenizer.template import EOS, IN_ANSWER, IN_CONTEXT, IN_QUESTION, IN_TEXT, MARKER, NUM_SPECIAL, render

from .conftest import SEQ_LEN, make_model, make_rows, make_table

# Packed and separate runs multiply in another order: float32 sums of 32 values differ by about 1e-6 relative, through
# two layers. The largest difference seen over 20 seeds was 3e-6 of a document's nats.
RTOL = 3e-5


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    rows = make_rows(24, seed=5)
    long = "The wall and the river. " * 40  # cut into several pieces of SEQ_LEN
    special = {"kind": "qa", "id": "s", "question": "What is <|eos|>?", "answer": "<|assistant|> é 白い 🦊"}
    return [*rows, {"kind": "text", "id": "long", "text": long}, special]


@pytest.fixture(scope="module")
def model(tok: Tokenizer) -> Decoder:
    return make_model(tok.vocab_size, seed=3)


@pytest.fixture(scope="module")
def tokens(tok: Tokenizer, documents: list[dict[str, Any]]) -> Tokens:
    return encode_table(make_table(documents), tok)


@pytest.fixture(scope="module")
def losses(model: Decoder, tokens: Tokens) -> DocumentLosses:
    return document_losses(model, tokens, SEQ_LEN, batch_rows=4)


def plain(model: Decoder, tok: Tokenizer, row: dict[str, Any]) -> dict[str, Any]:
    """One document alone, one window at a time, torch's own cross entropy, roles by counting the fields' tokens."""
    ids = render(tok, row)
    nats: dict[str, float] = dict.fromkeys(("text", "context", "question", "answer", "marker"), 0.0)
    fields = ["text"] if row.get("text") is not None else ["context", "question", "answer"]
    names: list[str] = []
    for field in fields:
        if row.get(field) is not None:
            names += ["marker", *[field] * len(tok.encode(row[field]))]
    names.append("marker")  # eos
    if row.get("text") is None:
        names = ["marker", *names]  # bos before the first marker
    assert len(names) == len(ids)
    for start in range(0, len(ids) - 1, SEQ_LEN):
        window = torch.tensor([ids[start : start + SEQ_LEN + 1]])
        with torch.no_grad():
            logits = model.logits(model(window[:, :-1]))[0]
        nll = F.cross_entropy(logits.double(), window[0, 1:], reduction="none")
        for offset, value in enumerate(nll.tolist()):
            nats[names[start + 1 + offset]] += value
    content = [row.get(field) or "" for field in ("text", "context", "question", "answer")]
    return {"nats": nats, "bytes": sum(len(part.encode()) for part in content), "targets": len(ids) - 1}


def test_every_document_costs_what_a_plain_computation_of_it_alone_says(
    model: Decoder, tok: Tokenizer, documents: list[dict[str, Any]], losses: DocumentLosses
) -> None:
    columns = {"marker": MARKER, "text": IN_TEXT, "context": IN_CONTEXT, "question": IN_QUESTION, "answer": IN_ANSWER}
    for i, row in enumerate(documents):
        expected = plain(model, tok, row)
        for name, column in columns.items():
            assert losses.nats[i, column] == pytest.approx(expected["nats"][name], rel=RTOL, abs=1e-6), (i, name)
        content = sum(value for name, value in expected["nats"].items() if name != "marker")
        assert losses.bits()[i] / losses.bytes()[i] == pytest.approx(
            content / math.log(2) / expected["bytes"], rel=RTOL
        )
        assert losses.num_targets[i].sum() == expected["targets"]


def test_bits_per_byte_do_not_move_when_only_eos_becomes_dearer(
    model: Decoder, tokens: Tokens, losses: DocumentLosses, monkeypatch: pytest.MonkeyPatch
) -> None:
    import eval.losses

    true_nll = eval.losses.token_nll

    def dear_eos(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return true_nll(hidden, head, targets) + 100.0 * ((targets >= 0) & (targets < NUM_SPECIAL))

    monkeypatch.setattr(eval.losses, "token_nll", dear_eos)
    dear = document_losses(model, tokens, SEQ_LEN, batch_rows=4)
    assert np.array_equal(dear.bits(), losses.bits())
    assert summary(dear)["bits_per_byte"] == summary(losses)["bits_per_byte"]
    assert summary(dear)["loss"] > summary(losses)["loss"] + 1.0  # the loss per token does count markers
    assert (tokens.ids == EOS).sum() == len(tokens)  # and there was an eos to count in each document


def test_bytes_are_those_of_the_corpus_not_of_decoded_tokens(tokens: Tokens, losses: DocumentLosses) -> None:
    table = tokens.table.set_column(
        tokens.table.schema.get_field_index("bytes_answer"),
        "bytes_answer",
        pa.array(tokens.table["bytes_answer"].to_numpy() * 2),
    )
    doubled = from_index(tokens.ids, table)
    model = make_model(int(tokens.ids.max()) + 1, seed=3)
    assert document_losses(model, doubled, SEQ_LEN).bytes([IN_ANSWER]).sum() == 2 * losses.bytes([IN_ANSWER]).sum()


def test_batch_size_does_not_matter(model: Decoder, tokens: Tokens, losses: DocumentLosses) -> None:
    for batch_rows in (1, 3, 1000):
        other = document_losses(model, tokens, SEQ_LEN, batch_rows=batch_rows)
        np.testing.assert_allclose(other.nats, losses.nats, rtol=RTOL, atol=1e-6)
        assert np.array_equal(other.num_targets, losses.num_targets)


def test_order_of_documents_does_not_matter(
    model: Decoder, tok: Tokenizer, documents: list[dict[str, Any]], losses: DocumentLosses
) -> None:
    order = np.random.default_rng(0).permutation(len(documents))
    moved = encode_table(make_table([documents[i] for i in order]), tok)
    other = document_losses(model, moved, SEQ_LEN, batch_rows=4)
    np.testing.assert_allclose(other.nats, losses.nats[order], rtol=RTOL, atol=1e-6)
    assert summary(other)["bits_per_byte"] == pytest.approx(summary(losses)["bits_per_byte"], rel=RTOL)


def test_the_shares_of_three_ranks_add_up_to_the_whole(model: Decoder, tokens: Tokens, losses: DocumentLosses) -> None:
    shares = [document_losses(model, tokens, SEQ_LEN, batch_rows=2, rank=r, world_size=3) for r in range(3)]
    sums = iter([np.sum([share.num_targets for share in shares], axis=0), np.sum([s.nats for s in shares], axis=0)])
    whole = shares[0].map(lambda array: next(sums))  # what a sum over ranks would return, array by array
    np.testing.assert_allclose(whole.nats, losses.nats, rtol=RTOL, atol=1e-6)
    assert np.array_equal(whole.num_targets, losses.num_targets)
    assert np.array_equal(whole.num_bytes, losses.num_bytes)  # known to every rank, and not tripled


def test_summary_divides_sums_by_sums(losses: DocumentLosses) -> None:
    figures = summary(losses)
    total = losses.nats[:, list(CONTENT)].sum() / math.log(2) / losses.num_bytes[:, list(CONTENT)].sum()
    assert figures["bits_per_byte"] == pytest.approx(total, rel=1e-12)
    mean_of_means = float(np.mean(losses.bits() / losses.bytes()))
    assert abs(figures["bits_per_byte"] - mean_of_means) > 1e-3  # the documents are uneven enough to tell them apart
    assert figures["loss"] == pytest.approx(losses.nats.sum() / losses.num_targets.sum())
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["num_tokens"] == losses.num_targets.sum()
    assert figures["documents_question"] == figures["documents_answer"] == 19
    parts = [figures[f"bytes_{name}"] for name in ("text", "context", "question", "answer")]
    assert sum(parts) == figures["num_bytes"]


def test_the_models_mode_is_put_back(model: Decoder, tokens: Tokens) -> None:
    model.train()
    document_losses(model, tokens, SEQ_LEN)
    assert model.training
    model.eval()


def test_losses_import_no_data_engine_and_no_reader() -> None:
    source = Path(__file__).parents[2] / "eval" / "losses.py"
    modules = {
        name
        for node in ast.walk(ast.parse(source.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    rooms = {"data.loader", "data.packing", "data.tokens", "model.decoder", "model.loss", "tokenizer.template"}
    assert {name for name in modules if "." in name} - {"collections.abc"} == rooms
