"""The sweep: one training stands for all sizes, its figures are those of a run, and mistakes are one line."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.files import write_json
from config import Config
from data.loader import epoch_plan
from data.writing import DOCUMENT_SCHEMA
from model.config import ModelConfig, count_parameters, resolve_shape
from tests.tokenizer.test_encode import corpus_table
from tokenizer.bpe import Tokenizer, train_bpe
from tokenizer.config import SMALLEST, TokenizerConfig, default_vocab_size
from tokenizer.encode import encode_table
from tokenizer.patterns import Pattern
from tokenizer.report import make_report
from tokenizer.sample import training_texts
from tokenizer.sweep import count_tokens, parse_sizes, recommend, sweep, train_sizes, truncate_bpe
from tokenizer.train import main, train
from training.plan import attended, run_flops

LETTERS = ["a", "b", "aa", "ab", "é", "你好", "1", "\n", " the", " then", "def ", "    return x", "'ll"]
GENERATOR = random.Random(0)
TEXTS = ["".join(GENERATOR.choices(LETTERS, k=200)) for _ in range(60)]
ROWS = [{"text": text} for text in TEXTS[:40]] + [{"question": text, "answer": text[9:70]} for text in TEXTS[40:]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder with a corpus: 60 documents to train on, 20 to validate on; source a, Q&A, counts twice."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "default"
    (folder / "corpus").mkdir(parents=True)
    for split, rows in (("train", ROWS), ("val", ROWS[30:50]), ("test", ROWS[:3])):
        table = corpus_table(rows)
        sizes = [sum(len(text.encode()) for text in row.values()) for row in rows]
        field = DOCUMENT_SCHEMA.field("n_bytes")
        pq.write_table(table.append_column(field, [sizes]), folder / "corpus" / f"{split}-00000.parquet")
    sources = [{"name": "a", "weight": 2.0}, {"name": "b", "weight": 1.0}]
    write_json(folder / "corpus" / "manifest.json", {"fingerprint": "", "sources": sources})
    return folder


@pytest.mark.parametrize("min_frequency", [1, 2, 5])
@pytest.mark.parametrize("pattern", ["qwen2", "gpt2"])
def test_a_truncated_tokenizer_is_the_one_trained_at_that_size(pattern: Pattern, min_frequency: int) -> None:
    largest = train_bpe(TEXTS, 5000, min_frequency, False, pattern)
    most = largest.get_vocab_size()
    assert most < 5000  # so that its last merges are those that min_frequency ended
    for size in (SMALLEST, SMALLEST + 1, 270, 300, most - 1, most):
        assert truncate_bpe(largest, size).to_str() == train_bpe(TEXTS, size, min_frequency, False, pattern).to_str()


def test_the_figures_are_those_of_a_run_at_that_size(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(model=ModelConfig(seq_len=64, tie_embeddings=False))
    rows = sweep(config, "270,300", lambda: training_texts(run / "corpus", TokenizerConfig()))
    weights = {"a": 2.0}
    for row in rows:
        tok = Tokenizer(train_bpe(training_texts(run / "corpus", TokenizerConfig()), row.vocab_size, 2, False))
        compression = make_report(tok, run / "corpus", [])
        assert row.bytes_per_token == compression["train"]["bytes_per_token"]
        assert row.held_out_bytes_per_token == compression["val"]["bytes_per_token"]
        shape = resolve_shape(config.model, row.vocab_size)
        first = epoch_plan(encode_table(corpus_table(ROWS), tok), 64, 0, 0, weights)
        assert row.tokens_per_epoch == first.lengths.sum()
        assert row.flops_per_epoch == pytest.approx(run_flops(shape, first, 1), rel=1e-9)
        assert row.parameters == count_parameters(shape)
        assert row.embedding_share == pytest.approx(2 * row.vocab_size * 128 / row.parameters, abs=1e-4)
    written = json.loads((run / "tokenizer-sweep.json").read_text())
    assert [size["vocab_size"] for size in written["sizes"]] == [270, 300]
    assert f"--vocab_size {written['recommended']}" in capsys.readouterr().out
    assert not (run / "tokenizer").exists()


def test_the_next_command_has_the_sweeps_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(
        Config(tokenizer=TokenizerConfig(vocab_size=999, pattern="gpt2")),
        "270",
        lambda: training_texts(run / "corpus", TokenizerConfig()),
    )
    assert "next: python tokenizer/train.py --run default --vocab_size 270 --pattern gpt2\n" in capsys.readouterr().out


def test_a_tokenizer_that_is_there_is_no_obstacle_and_stays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(Config(tokenizer=TokenizerConfig(vocab_size=280)))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setattr("sys.argv", ["train.py", "--sweep", "270,300", "--pattern", "gpt2"])  # not that tokenizer's
    main()
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in run.rglob("*") if path.is_file()} - set(before) == {run / "tokenizer-sweep.json"}


def test_counts_do_not_depend_on_how_documents_are_read(
    run: Path, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = count_tokens(run / "corpus", "train", {400: tok}, 64, {"a": 2.0})[400]
    monkeypatch.setattr("tokenizer.encode.SLICE_BYTES", 1000)
    sliced = count_tokens(run / "corpus", "train", {400: tok}, 64, {"a": 2.0})[400]
    assert sliced == whole
    assert whole.attended == pytest.approx(
        attended(epoch_plan(encode_table(corpus_table(ROWS), tok), 64, 0, 0, {"a": 2.0}))
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "whole numbers"),
        ("many", "whole numbers"),
        ("300,,400", "whole numbers"),
        ("-300", "whole numbers"),
        ("300.5", "whole numbers"),
        ("9" * 5000, "whole numbers"),
        ("261,300", "262 or more"),
        ("300,2000000", "1,000,000 or fewer"),
        ("300,300", "ascend"),
        ("400,300", "ascend"),
    ],
)
def test_what_are_no_sizes_is_refused(asked: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_sizes(asked, TokenizerConfig())


def test_a_finished_tokenizer_has_one_size() -> None:
    with pytest.raises(UserError, match=r"own\.json is a finished tokenizer"):
        parse_sizes("300,400", TokenizerConfig(file="own.json"))


def test_sizes_of_sentencepiece_are_each_trained(tmp_path: Path) -> None:
    config = TokenizerConfig(backend="sentencepiece")
    toks = train_sizes(lambda: TEXTS, [270, 280], config, tmp_path / "scratch")
    assert [tok.vocab_size for tok in toks.values()] == [270, 280]
    assert all(tok.backend == "sentencepiece" and tok.decode(tok.encode(TEXTS[0])) == TEXTS[0] for tok in toks.values())
    with pytest.raises(UserError, match=r"supports \d+ tokens; ask"):
        train_sizes(lambda: TEXTS, [270, 5000], config, tmp_path / "scratch")


def test_sizes_may_be_spaced() -> None:
    assert parse_sizes(" 300, 400 ", TokenizerConfig()) == [300, 400]


@pytest.mark.parametrize("min_frequency", [2, 5])
def test_a_size_that_the_text_does_not_support_is_refused_with_the_one_it_does(
    min_frequency: int, tmp_path: Path
) -> None:
    most = train_bpe(TEXTS, 5000, min_frequency, False).get_vocab_size()
    config = TokenizerConfig(min_frequency=min_frequency)
    with pytest.raises(UserError, match=f"supports {most} tokens"):
        train_sizes(lambda: TEXTS, [300, most + 1], config, tmp_path / "scratch")
    assert list(train_sizes(lambda: TEXTS, [300, most], config, tmp_path / "scratch")) == [300, most]


def test_the_size_nearest_to_the_rule_is_recommended() -> None:
    assert default_vocab_size(2_000_000) == 4096
    assert recommend([512, 3000, 8000], 2_000_000)[0] == 3000
    assert recommend([512, 1024], 2_000_000)[0] == 1024
