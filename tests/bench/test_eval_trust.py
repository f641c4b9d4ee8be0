"""The benchmark of comparisons counts what it says: halves, leaks, shares of trials. What it finds is not tested."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench import eval_trust
from bench.eval_trust import Options, aa, ab, lines, share, speed_part
from bench.trust_leak import FORMS, with_leak
from bench.trust_runs import part_of, put_training, training_documents
from common.errors import UserError
from data.config import PrepareConfig
from data.pipeline import prepare
from data.sources import SourceConfig
from eval.held_out import held_out, read_manifest
from eval.seed_noise import SeedNoise
from tokenizer.bpe import train_tokenizer
from tokenizer.config import TokenizerConfig


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of 30 different words each, in pairs of a group."""
    folder = tmp_path_factory.mktemp("trust")
    words = np.array([f"word{i}" for i in range(2000)])
    generator = np.random.default_rng(0)
    rows = [f"r{i},{i // 2},{' '.join(generator.choice(words, 30))}" for i in range(300)]
    (folder / "rows.csv").write_text("question,group,answer\n" + "\n".join(rows), encoding="utf-8")
    prepare([SourceConfig(path=str(folder / "rows.csv"))], PrepareConfig(val_share=0.1, test_share=0.2), folder / "c")
    return folder / "c"


def test_half_is_every_other_group_whole(corpus: Path) -> None:
    train = training_documents(corpus)
    half = part_of(train, 1, 2)
    groups = {*half["group"].to_pylist()}
    assert len(groups) == pytest.approx(len({*train["group"].to_pylist()}) / 2, abs=1)
    assert len(half) == sum(group in groups for group in train["group"].to_pylist())
    most = {*part_of(train, 9, 10)["group"].to_pylist()}
    assert len(most) == pytest.approx(0.9 * len({*train["group"].to_pylist()}), abs=1)


def test_other_training_documents_make_another_corpus(corpus: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    half = part_of(training_documents(corpus), 1, 2)
    put_training(other, half)
    before, after = read_manifest(corpus), read_manifest(other)
    assert after["fingerprint"] != before["fingerprint"]
    assert after["splits"]["train"]["documents"] == len(half)
    assert training_documents(other).equals(half)
    assert after["splits"]["test"] == before["splits"]["test"]


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_document_is_known_and_no_other(corpus: Path, tmp_path: Path, form: str) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    clean = part_of(training_documents(corpus), 1, 2)
    test = held_out([corpus], []).table
    leaked = test.take(pa.array([0, 5, 9]))
    put_training(other, with_leak(clean, leaked, FORMS[form]))
    assert read_manifest(other)["splits"]["train"]["documents"] == len(clean) + 3
    left = held_out([corpus], [corpus, other])
    named = {*test["id"].to_pylist()} - {*left.table["id"].to_pylist()}
    groups = {*leaked["group"].to_pylist()}
    assert named == {row["id"] for row in test.to_pylist() if row["group"] in groups}
    put_training(other, clean)
    assert held_out([corpus], [corpus, other]).known_to[str(other)] == 0


def test_a_share_is_of_trials_and_its_interval_of_runs() -> None:
    pairs = [(a, b) for a in range(10) for b in range(10) if a != b]
    found = share(pairs, [0 in pair for pair in pairs])  # one run of ten is in every find
    assert found["share"] == pytest.approx(18 / 90)
    low, high = found["ci95"]
    assert low == 0.0  # in a third of the draws that run is not there
    assert 0.4 < high < 0.8
    assert share(pairs, [False] * 90) == {"share": 0.0, "ci95": [0.0, 0.0]}


def test_lines_name_each_part() -> None:
    of = {"share": 0.04, "ci95": [0.01, 0.08]}
    told = lines(
        {
            "date": "d", "commit": "c", "device": "m", "threads": 2,
            "pairs": {
                "documents": 9, "groups": 8, "train_documents": {"all": 6, "half": 3},
                "bits_per_byte": {name: {"mean": 1.5, "seed_noise": {"deviation": 0.01, "num_runs": 24}}
                                  for name in ("all", "half")},
                "aa": {"all": {"trials": 10, "with_noise": of, "one_seed": of}},
                "ab": {"half": {"trials": 10, "with_noise": of, "one_seed": of, "wrong": 0, "wrong_one_seed": 3}},
            },
            "speed": {"questions": 200, "tokens": 25600, "parameters": 10, "seconds": 129.4},
        }
    )  # fmt: skip
    assert "called better 0 and 3 times of 10" in told[5]
    assert "called different with seed noise 4.0% [1.0%, 8.0%]" in told[4]
    assert told[-1].endswith("129 s (aim 240 s)")


def test_too_few_runs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["eval_trust.py", "--runs", "5"])
    with pytest.raises(UserError, match="--runs 5: must be 7 or more"):
        eval_trust.main()
    monkeypatch.setattr("sys.argv", ["eval_trust.py", "--parts", "pairs,other"])
    with pytest.raises(UserError, match="--parts other"):
        eval_trust.main()


def test_trials_draw_pairs_and_other_runs_for_the_noise() -> None:
    """A judge that calls a pair different where it lies further apart than twice the noise that it is given."""
    totals = np.concatenate([np.random.default_rng(0).normal(1.5, 0.01, 12), np.full(12, 1.3)])
    seen: list[tuple[tuple[int, int], SeedNoise | None]] = []

    def judged(pair: tuple[int, int], noise: SeedNoise | None, seed: int) -> str | None:
        seen.append((pair, noise))
        apart = totals[pair[1]] - totals[pair[0]]
        if noise is not None and abs(apart) < 2 * np.sqrt(2) * noise.deviation:
            return None
        return "second" if apart < 0 else "first"

    options = Options(runs=12, noise_runs=5, trials=50)
    equal = aa(range(12), totals, judged, options)
    assert equal["trials"] == 50
    assert equal["one_seed"]["share"] == 1.0
    assert equal["with_noise"]["share"] < 0.3
    assert all(a != b and {a, b} <= {*range(12)} for (a, b), _ in seen)
    noises = [noise for _, noise in seen if noise is not None]
    assert len({*noises}) > 40
    assert {noise.num_runs for noise in noises} == {5}
    seen.clear()
    better = ab(range(12), range(12, 24), totals, judged, options)
    assert better["with_noise"]["share"] == better["one_seed"]["share"] == 1.0
    assert (better["wrong"], better["wrong_one_seed"]) == (0, 0)
    assert all(a < 12 <= b for (a, b), _ in seen)
    worse = ab(range(12, 24), range(12), totals, judged, options)
    assert (worse["wrong"], worse["wrong_one_seed"], worse["with_noise"]["share"]) == (50, 50, 0.0)


def test_answers_are_timed_on_as_many_questions_as_there_are(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_trust, "QUESTIONS", 3)
    monkeypatch.setattr(eval_trust, "NEW_TOKENS", 2)
    train_tokenizer(iter(["some words of text"] * 9), 200, TokenizerConfig(vocab_size=270), corpus.parent / "tokenizer")
    base = corpus.parent / "base"
    base.mkdir()
    (base / "corpus").symlink_to(corpus)
    (base / "tokenizer").symlink_to(corpus.parent / "tokenizer")
    found = speed_part(base, 1)
    assert (found["questions"], found["layers"]) == (3, 1)
    assert 0 < found["tokens"] <= 6
    assert found["seconds"] > 0
