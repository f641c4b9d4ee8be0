"""Canaries are told in the manifest, stand in train alone, as often as was asked, and move no other row."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from data.canaries import NUM_CANDIDATES, SOURCE, Canary, digits, made, planted
from data.clean import DEFAULT_STEPS
from data.config import PrepareConfig, check_config
from data.pipeline import prepare, summary
from data.sources import SourceConfig
from data.split import SPLITS

from .test_prepare import book, questions, splits, write_csv

ROOT = Path(__file__).resolve().parents[2]
COPIES = [0, 1, 5, 2]


def prepared(folder: Path, name: str, config: PrepareConfig, kind: str = "qa") -> dict[str, Any]:
    """Q&A with duplicates and a row that is no use, or twenty texts, of which one is cut into blocks."""
    folder.mkdir(exist_ok=True)
    if kind == "qa":
        write_csv(folder / "x.csv", [*questions(120), questions(1)[0], ("a question alone", "")])
        source = SourceConfig(name="own", path="x.csv")
    else:
        for i in range(20):
            (folder / f"{i}.txt").write_text(book(40 if i == 7 else 4, i))
        source = SourceConfig(name="own", path="*.txt", kind="text")
    return prepare([source], config, folder / name, folder)


def bare(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without what canaries change."""
    kept = {key: value for key, value in manifest.items() if key not in ("canaries", "fingerprint", "sha256", "groups")}
    kept["config"] = {key: value for key, value in kept["config"].items() if not key.startswith("canar")}
    kept["splits"] = {name: kept["splits"][name]["sources"]["own"] for name in SPLITS}
    return kept


@pytest.mark.parametrize("kind", ["qa", "text"])
def test_no_other_row_is_moved_and_each_canary_stands_in_train_as_often_as_was_asked(tmp_path: Path, kind: str) -> None:
    without = prepared(tmp_path, "without", PrepareConfig(), kind)
    config = PrepareConfig(canaries=6, canary_copies=COPIES)
    manifest = prepared(tmp_path, "with", config, kind)
    plain, found = splits(tmp_path / "without"), splits(tmp_path / "with")
    own = {name: [row for row in rows if row["source"] != SOURCE] for name, rows in found.items()}
    assert own == plain  # content, order, groups, reasons
    assert bare(manifest) == bare(without)
    assert "canaries" not in without
    assert (kind == "text") == (without["cut"] > 0)  # blocks of a text are rows behind all others, too

    rows = [row for row in found["train"] if row["source"] == SOURCE]
    assert not any(row["source"] == SOURCE for name in ("val", "test", "quarantine") for row in found[name])
    canaries = planted(manifest)
    assert [canary.copies for canary in canaries] == [0, 1, 5, 2, 0, 1]
    counts = Counter(row["text"] or f"{row['question']} {row['answer']}" for row in rows)
    assert counts == {" ".join(canary.fields().values()): canary.copies for canary in canaries if canary.copies}
    assert {row["kind"] for row in rows} == {kind}
    assert all(row["group"] == row["id"] and row["origin"].startswith("canaries#") for row in rows)
    assert all(row["n_bytes"] == sum(len(row[name] or "") for name in ("text", "question", "answer")) for row in rows)
    told = manifest["canaries"]
    assert (told["rows"], told["source"], told["candidates"]) == (9, SOURCE, NUM_CANDIDATES)
    assert manifest["splits"]["train"]["sources"][SOURCE]["documents"] == 9
    assert manifest["groups"] == without["groups"] + 4
    for one, canary in zip(told["made"], canaries, strict=True):
        assert digits(canary.number) in (one["text"] if kind == "text" else one["answer"])
    assert any("6 made sentences, planted in train as 9 rows" in line for line in summary(manifest))
    assert not any("made sentences" in line for line in summary(without))
    assert json.loads((tmp_path / "with/manifest.json").read_text()) == manifest
    assert manifest["fingerprint"] != without["fingerprint"]


def test_copies_stay_whatever_deduplication_and_cleaning_are_asked_for(tmp_path: Path) -> None:
    steps = [*DEFAULT_STEPS, "near_duplicate", "template", "boilerplate"]
    manifest = prepared(tmp_path, "out", PrepareConfig(canaries=4, canary_copies=[9, 30], steps=steps, keep=1))
    rows = pq.read_table(tmp_path / "out/train-00000.parquet").to_pylist()
    assert Counter(row["origin"] for row in rows if row["source"] == SOURCE) == {
        "canaries#1": 9, "canaries#2": 30, "canaries#3": 9, "canaries#4": 30,
    }  # fmt: skip
    assert manifest["canaries"]["rows"] == 78


@pytest.mark.parametrize(("num_texts", "kind"), [(40, "qa"), (70, "text")])
def test_they_are_what_most_documents_of_a_mixed_corpus_are(tmp_path: Path, num_texts: int, kind: str) -> None:
    write_csv(tmp_path / "x.csv", questions(60))
    (tmp_path / "x.txt").write_text("\n".join(f"{q} {a}" for q, a in questions(num_texts, 1)))
    sources = [SourceConfig(path="x.csv"), SourceConfig(path="x.txt", kind="text", split="line")]
    manifest = prepare(sources, PrepareConfig(canaries=2), tmp_path / "out", tmp_path)
    assert {canary.kind for canary in planted(manifest)} == {kind}


def test_a_seed_draws_the_same_canaries_and_another_seed_others() -> None:
    assert made(9, COPIES, "qa", 3) == made(9, COPIES, "qa", 3)
    assert made(4, COPIES, "qa", 3) == made(9, COPIES, "qa", 3)[:4]
    first, second = ({(one.name, one.number) for one in made(50, COPIES, "qa", seed)} for seed in (3, 4))
    assert not first & second
    assert len({name for name, _ in first}) == len({number for _, number in first}) == 50
    numbers = [one.number / NUM_CANDIDATES for one in made(1000, [1], "qa", 0)]
    assert 0.46 < sum(numbers) / 1000 < 0.54  # uniform: 0.5, with a deviation of 0.009
    assert min(numbers) < 0.02 < 0.98 < max(numbers)


def test_every_candidate_has_seven_digits_and_is_a_sentence_of_its_own() -> None:
    assert [digits(number) for number in (0, 4_821_094, 9_999_999)] == ["0 000 000", "4 821 094", "9 999 999"]
    canary = Canary("Bolane Tikaru", 4_821_094, "text", 1)
    assert canary.fields() == {"text": "The secret number of Bolane Tikaru is 4 821 094."}
    assert canary.fields(7) == {"text": "The secret number of Bolane Tikaru is 0 000 007."}
    asked = Canary("Bolane Tikaru", 4_821_094, "qa", 1).fields()
    assert asked == {"question": "What is the secret number of Bolane Tikaru?", "answer": canary.fields()["text"]}


def test_accounts_stop_what_was_planted_and_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.pipeline.told", lambda canaries: {"rows": 8, "made": []})
    with pytest.raises(AssertionError, match="planted rows are not told"):
        prepared(tmp_path, "out", PrepareConfig(canaries=6, canary_copies=COPIES))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"canaries": -1}, "canaries is a number of sentences, 0 to 1,000, not -1"),
        ({"canaries": 1001}, "not 1001"),
        ({"canary_copies": [1, -2]}, "canary_copies are 0 to 1,000 each, as in [0, 1, 4, 16], not -2"),
        ({"canaries": 1}, "canary_copies plants none of the canaries"),
        ({"canaries": 5, "canary_copies": []}, "canary_copies plants none of the canaries"),
    ],
)
def test_settings_that_plant_nothing_or_cannot_be_are_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line.replace("[", r"\[")):
        check_config(PrepareConfig(**settings))
    check_config(PrepareConfig(canaries=2))
    check_config(PrepareConfig(canaries=0, canary_copies=[]))


def test_a_source_that_bears_their_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    source = SourceConfig(name=SOURCE, path="x.csv")
    write_csv(tmp_path / "x.csv", questions(40))
    with pytest.raises(UserError, match="a source is named canaries"):
        prepare([source], PrepareConfig(canaries=4), tmp_path / "out", tmp_path)
    assert prepare([source], PrepareConfig(), tmp_path / "out", tmp_path)["rows_read"] == 40


def test_they_are_read_without_the_data_engine() -> None:
    absent = ["daft", "orjson", "zstandard", "ftfy", "charset_normalizer"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import data.canaries"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
