"""The n-gram model is a probability distribution, counts what stands there, and is exact on what it can know."""

import math

import numpy as np
import pyarrow as pa
import pytest

from data.tokens import Tokens, from_index
from eval import ngrams
from eval.losses import summary
from eval.ngrams import count, ngram_losses, some_tokens
from tokenizer.template import BOS, EOS

VOCAB = 40


def tokens_of(documents: list[list[int]]) -> Tokens:
    """Text documents of these content ids."""
    whole = [[BOS, *ids, EOS] for ids in documents]
    lengths = np.asarray([len(ids) for ids in whole])
    columns: dict[str, object] = {
        "offset": np.cumsum(lengths) - lengths,
        "length": lengths,
        "prompt": np.ones(len(whole), dtype=np.int64),
        **{name: ["x"] * len(whole) for name in ("id", "source", "kind", "category", "difficulty", "group")},
        **{f"bytes_{name}": np.zeros(len(whole), dtype=np.int64) for name in ("context", "question", "answer")},
        "bytes_text": lengths - 2,
    }
    return from_index(np.concatenate(whole).astype(np.uint16), pa.table(columns))


def random_documents(seed: int, number: int = 60) -> list[list[int]]:
    random = np.random.default_rng(seed)
    # A skewed chain, so that contexts tell something and some n-grams are frequent.
    documents = []
    for _ in range(number):
        ids = [int(random.integers(6, VOCAB))]
        for _ in range(int(random.integers(1, 30))):
            ids.append(6 + (ids[-1] * 3 + int(random.geometric(0.4))) % (VOCAB - 6))
        documents.append(ids)
    return documents


def nats_of(train: Tokens, ids: list[int], order: int) -> float:
    return float(ngram_losses(train, tokens_of([ids]), VOCAB, order).nats.sum())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_all_next_tokens_add_up_to_one(order: int) -> None:
    train = tokens_of(random_documents(0))
    for context in ([], [7], random_documents(0)[0][:4], random_documents(1)[0][:6], [39, 39, 39]):
        # p(w | context) = p(context w) / p(context), each of a document without its eos.
        total = 0.0
        for w in range(VOCAB):
            held_out = tokens_of([[*context, w]])
            held_out.ids = held_out.ids[:-1]  # the document without its eos
            held_out.lengths = held_out.lengths - 1
            nats = ngram_losses(train, held_out, VOCAB, order).nats.sum()
            before = tokens_of([[*context, w]])
            before.ids, before.lengths = before.ids[:-2], before.lengths - 2
            nats -= ngram_losses(train, before, VOCAB, order).nats.sum() if context else 0.0
            total += math.exp(-nats)
        assert total == pytest.approx(1, abs=1e-9)


def test_equal_to_a_plain_kneser_ney() -> None:
    train_documents, held_out = random_documents(2), random_documents(3, number=5)
    train = tokens_of(train_documents)
    for order in (1, 2, 4):
        expected = sum(plain_nats(train_documents, ids, order) for ids in held_out)
        assert sum(nats_of(train, ids, order) for ids in held_out) == pytest.approx(expected, rel=1e-9)


def plain_nats(train: list[list[int]], ids: list[int], order: int) -> float:
    """The definition, with dictionaries: contexts are padded with a start symbol in front of bos."""

    def grams(documents: list[list[int]], n: int) -> list[tuple[int, ...]]:
        found = []
        for document in documents:
            padded = [-1] * n + [BOS, *document, EOS]
            found += [tuple(padded[i - n + 1 : i + 1]) for i in range(n + 1, len(padded))]
        return found

    tables: dict[int, dict[tuple[int, ...], int]] = {}
    seen: list[tuple[int, ...]] = grams(train, order)
    for n in range(order, 0, -1):
        tables[n] = {}
        for gram in seen:
            tables[n][gram] = tables[n].get(gram, 0) + 1
        seen = [gram[1:] for gram in tables[n]]

    def probability(gram: tuple[int, ...]) -> float:
        n = len(gram)
        if n == 0:
            return 1 / VOCAB
        table = tables[n]
        n1, n2, n3, n4 = (max(1, sum(c == k for c in table.values())) for k in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        raw = (0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        discount = [
            min(max(d, low), high) for d, low, high in zip(raw, (0, 0.1, 0.1, 0.1), (0, 0.95, 1.9, 2.9), strict=True)
        ]
        same = {g: c for g, c in table.items() if g[:-1] == gram[:-1]}
        if not same:
            return probability(gram[1:])
        total = sum(same.values())
        left = sum(discount[min(c, 3)] for c in same.values()) / total
        own = (same[gram] - discount[min(same[gram], 3)]) / total if gram in same else 0.0
        return own + left * probability(gram[1:])

    return -sum(math.log(probability(gram)) for gram in grams([ids], order))


def test_markers_stand_apart_and_every_target_counts_once() -> None:
    train, held_out = tokens_of(random_documents(4)), tokens_of(random_documents(5))
    losses = ngram_losses(train, held_out, VOCAB)
    assert int(losses.num_targets.sum()) == held_out.num_targets
    assert losses.num_targets[:, 0].tolist() == [1] * len(held_out)  # eos
    assert np.isfinite(losses.nats).all()
    # What it has seen it knows better than what it has not.
    own = summary(ngram_losses(train, train, VOCAB))["bits_per_byte"]
    assert own < summary(losses)["bits_per_byte"] < math.log2(VOCAB)


def test_a_large_split_is_drawn_from_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "PIECE", 50)
    random = np.random.default_rng(0)
    documents = [random.integers(6, VOCAB, int(n)).tolist() for n in (5, 2000, 7, 3, 900, 12, 30, 30, 1)]
    train = tokens_of(documents)
    whole, depth = ngrams.some_tokens(train, most=10_000)
    assert whole.tolist() == train.ids.tolist()
    assert np.flatnonzero(depth == 0).tolist() == train.offsets.tolist()
    most = 1000
    some, depth = ngrams.some_tokens(train, most)
    assert most - 50 < len(some) <= most  # whatever the lengths are
    assert depth.max() < 50
    # What was drawn stands in the split in the same order, and reaches into its first and last third.
    pieces = np.split(some.astype(np.uint16), np.flatnonzero(depth == 0)[1:])
    stream, at, found = train.ids.tobytes(), 0, []
    for piece in pieces:
        at = stream.index(piece.tobytes(), at)
        found.append(at / len(stream))
    assert found[0] < 1 / 3 < 2 / 3 < found[-1]


def test_held_out_documents_in_several_passes_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out = tokens_of(random_documents(7)), tokens_of(random_documents(8))
    at_once = ngram_losses(train, held_out, VOCAB)
    monkeypatch.setattr(ngrams, "some_tokens", lambda tokens, most, all_of=ngrams.some_tokens: all_of(tokens, 10**9))
    monkeypatch.setattr(ngrams, "MOST_TOKENS", 40)
    again = ngram_losses(train, held_out, VOCAB)
    np.testing.assert_allclose(again.nats, at_once.nats, rtol=1e-12)
    assert (again.num_targets == at_once.num_targets).all()


def test_counts_are_of_one_document_each() -> None:
    orders = count(*some_tokens(tokens_of([[10, 11], [12]]), 100), 2)
    # Targets 10 11 eos 12 eos: five bigrams, all different; unigrams 10, 11, 12 once, eos behind two tokens.
    assert len(orders[0].grams) == 5
    assert len(orders[1].grams) == 4
