"""The data benchmark measures what it says: counts add up, and each figure is there. Timings are not tested."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import long_words
from bench.data_speed import measure_loader, measure_tokenize, synthetic_tokens, table
from bench.long_words import long_line, measure_long
from bench.tokenizer_speed import measure_tokenizers, speed_line, usable_cores
from data.writing import DOCUMENT_SCHEMA
from tokenizer.bpe import load_tokenizer, train_tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.encode import FIELDS

SIDES = ("library", "loam")
WORDS = "Prose, é.\nMore of it. " + " ".join(f"{a}{b}" for a in "abcdefgh" for b in ("one", "two", "three", "four")) * 3
ROWS: list[dict[str, str]] = [
    {"id": "1", "kind": "qa", "source": "a", "question": "Why is it so?", "answer": "Because."},
    {"id": "2", "kind": "qa", "source": "a", "context": "Given.", "question": "What?", "answer": ""},
    {"id": "3", "kind": "text", "source": "b", "text": WORDS},
]


def make_run(folder: Path) -> Path:
    (folder / "corpus").mkdir(parents=True)
    columns = {field.name: pa.array([row.get(field.name) for row in ROWS], field.type) for field in DOCUMENT_SCHEMA}
    columns["n_bytes"] = pa.array([sum(len(row.get(name, "").encode()) for name in FIELDS) for row in ROWS])
    pq.write_table(pa.table(columns), folder / "corpus" / "train-00000.parquet")
    texts = iter(["Why is it so? Because. Given. What? Prose, é. More of it."] * 20)
    train_tokenizer(texts, 1000, TokenizerConfig(vocab_size=280), folder / "tokenizer")
    return folder


def test_tokenize_counts_the_fields_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = make_run(tmp_path / "tiny")
    found = measure_tokenize(run, turns=2)
    fields = [row[name] for row in ROWS for name in ("text", "context", "question", "answer") if name in row]
    assert (found["documents"], found["texts"]) == (3, len(fields))
    assert found["bytes"] == sum(len(field.encode()) for field in fields)
    assert set(found["seconds"]) == {"encode_batch", "build_store", "encode_batch_fast"}
    assert all(len(taken) == 2 for taken in found["seconds"].values())
    assert found["ratio_vs_encode_batch"] > 0
    assert sorted(path.name for path in run.iterdir()) == ["corpus", "tokenizer", "tokens"]


def test_the_loader_is_measured_at_every_shape(tmp_path: Path) -> None:
    tokens = synthetic_tokens(400, mean_tokens=60, sigma=0.8, seed=0)
    assert tokens.offsets[-1] + tokens.lengths[-1] == len(tokens.ids)
    assert 50 < tokens.lengths.mean() < 70
    found = measure_loader(tokens, turns=1)
    assert (found["documents"], found["tokens"]) == (400, len(tokens.ids))
    assert [plan["seq_len"] for plan in found["plans"]] == [256, 512]
    assert all(0.9 < plan["fill"] <= 1 and plan["peak_bytes"] >= plan["kept_bytes"] > 0 for plan in found["plans"])
    assert [(rate["seq_len"], rate["micro_batch_positions"]) for rate in found["batches"]] == [
        (256, 4096), (256, 65536), (512, 4096), (512, 65536),
    ]  # fmt: skip
    assert all(rate["positions_per_s"]["batches"] > 0 for rate in found["batches"][::2])
    long = measure_long(load_tokenizer(make_run(tmp_path / "long") / "tokenizer"), 1, (100, 1000))
    tokenized = [measure_tokenize(make_run(tmp_path / "tiny"), 1)]
    facts = {"device": "CPU", "threads": 1, "commit": "none"}
    speeds = [{**SPEED, "backend": backend} for backend in ("tokenizers", "sentencepiece")]
    assert len(table({**facts, "tokenize": tokenized, "loader": found, "long_words": long, "tokenizers": speeds})) == 22


SPEED = {"what": "training", "cores": 1, "mb_per_s": {"library": 4.0, "loam": 3.8}, "ratio": 0.95}


def test_each_backend_is_trained_and_encodes_on_one_core_and_on_all(tmp_path: Path) -> None:
    run = make_run(tmp_path / "tiny")
    found = measure_tokenizers(run, 310, turns=1)
    cores = sorted({1, len(usable_cores())})
    assert [(one["backend"], one["what"], one["cores"]) for one in found] == [
        (backend, what, some)
        for backend in ("tokenizers", "sentencepiece")
        for what in ("training", "encoding")
        for some in cores
    ]
    fields = [row[name] for row in ROWS for name in ("text", "context", "question", "answer") if name in row]
    assert {one["bytes"] for one in found} == {sum(len(field.encode()) for field in fields)}
    assert all(len(one["seconds"][side]) == 1 and min(one["seconds"][side]) > 0 for one in found for side in SIDES)
    assert sorted(path.name for path in run.iterdir()) == ["corpus", "tokenizer"]
    assert speed_line({**SPEED, "backend": "tokenizers"}) == (
        "  training by tokenizers, 1 cores: 3.80 MB/s, the library alone 4.00: 95%"
    )


def test_every_kind_of_long_word_is_encoded_in_every_size(tmp_path: Path) -> None:
    tok = load_tokenizer(make_run(tmp_path / "tiny") / "tokenizer")
    found = measure_long(tok, turns=1, sizes=(50, 500))
    assert [one["kind"] for one in found] == ["letter", "space", "digit"]
    assert [one["tokens_of_longest"] for one in found] == [len(tok.encode(text * 500)) for text in "a 7"]
    assert all(one["bytes"] == [50, 500] and min(one["mb_per_s"]) > 0 for one in found)
    assert long_line({**found[0], "mb_per_s": [1.5, 2.5], "exponent": 0.9}) == (
        "  one letter over and over, MB/s by bytes: 50: 1.5, 500: 2.5; time grows as bytes^0.9"
    )


def test_the_exponent_is_the_slope_of_time_over_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tok = load_tokenizer(make_run(tmp_path / "tiny") / "tokenizer")
    clock = [0.0]

    def encode(text: str) -> list[int]:
        clock[0] += len(text) ** 2
        return []

    monkeypatch.setattr(tok, "encode", encode)
    monkeypatch.setattr(long_words.time, "perf_counter", lambda: clock[0])
    assert [one["exponent"] for one in measure_long(tok, turns=2, sizes=(10, 100, 1000))] == [2.0, 2.0, 2.0]
