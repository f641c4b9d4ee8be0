"""What compare says of memorisation: of a model that says training text, of one that does not, of planted canaries."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.auditing import AuditConfig, audit
from data.canaries import Canary
from data.sources import SourceConfig
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import read_manifest
from eval.memorised import exposure_rows, memorised, memorised_rows
from eval.report import write_page
from eval.verdict import print_result
from tests.data.made_rows import natural_qa, passage, write_jsonl

from .conftest import make_rows, make_run

LONG = "The old lighthouse keeper counted every lamp along the amber shore before the winter storms came in at last."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = make_rows(60, seed=11)
    rows[0] = {**rows[0], "text": f"Once upon a time. {LONG} And then it was spring."}
    return (
        make_run(tmp_path_factory.mktemp("memory") / "runs" / "m", rows, make_rows(24, seed=12), steps=(1, 1))
        / "corpus"
    )


def test_words_from_the_training_text_are_found_and_others_are_not(corpus: Path) -> None:
    said = [[f"Well: {LONG}", "nothing of it at all"], ["Zebras quietly juggle nine violet umbrellas.", ""]]
    first, second = memorised(said, ["What is held out here is new."], [corpus, corpus])
    assert first is not None
    assert second is not None
    longest = first["verbatim"]["longest"]
    assert longest == len(LONG) + 1  # with the space in front of it
    assert first["verbatim"]["share_in_runs_50"] == pytest.approx(longest / sum(len(text) for text in said[0]))
    [own, other] = first["answers"]
    assert said[0][0][own["start"] : own["end"]] == f" {LONG}"
    assert own["spans"] == [(5, 6 + len(LONG))]
    assert (other["longest"], other["spans"]) == (0, [])
    assert second["verbatim"]["longest"] == 0
    assert first["references"] == second["references"]
    assert first["references"]["verbatim"]["num_answers"] == 1
    rows = memorised_rows(["a", "b"], [first, second])
    assert [row[0] for row in rows[1:]] == ["a", "b", "the references"]
    assert rows[1][1] == f"{longest} bytes"
    assert rows[2][-1] == "1.00, 1.00 of 6 words"  # Zebras quietly juggle nine violet umbrellas
    [silent] = memorised([[""]], [""], [corpus])
    assert memorised_rows(["a"], [silent])[1][-1] == ""


def test_a_checkpoint_without_its_corpus_has_no_figures(corpus: Path) -> None:
    here, away = memorised([["a"], ["b"]], [""], [corpus, None])
    assert here is not None
    assert away is None
    assert [row[0] for row in memorised_rows(["a", "b"], [here, away])] == ["memorised", "a"]  # no reference either
    assert memorised_rows(["a"], [None]) == []


def test_compare_tells_of_runs_and_of_canaries(corpus: Path, quick: EvalConfig) -> None:
    run = corpus.parent
    manifest = json.loads((corpus / "manifest.json").read_text())
    made = [vars(Canary("Amber Stone", 4821094 % 1000, "text", copies)) for copies in (0, 4)]
    (corpus / "manifest.json").write_text(json.dumps({**manifest, "canaries": {"rows": 4, "made": made}}))
    try:
        result = compare([run / "ckpt1", run / "ckpt2"], replace(quick, canary_candidates=20))
    finally:
        (corpus / "manifest.json").write_text(json.dumps(manifest))
    for told in result["memorised"]:
        assert told["figures"]["verbatim"]["num_answers"] == quick.num_answers
        assert [of["copies"] for of in told["exposure"]["by_copies"]] == [0, 4]
        assert 0 <= told["exposure"]["by_copies"][0]["mean_bits"] <= told["exposure"]["most_bits"]
    assert all("longest" in said["verbatim"] for item in result["answers"] for said in item["answers"])
    lines: list[str] = []
    print_result(result, lines.append)
    assert any(line.startswith("memorised") for line in lines)
    words = [told["figures"]["diversity"]["num_1"] for told in result["memorised"]]
    write_page(run / "p.html", result, [], [read_manifest(corpus)])
    page = (run / "p.html").read_text(encoding="utf-8")
    for number in words:
        assert any(line.endswith(f" of {number:,} words") for line in lines)
        assert f" of {number:,} words</td>" in page
    assert any(line.startswith("exposure of canaries, bits") for line in lines)
    assert max(map(len, lines)) <= 100


def test_without_canaries_there_is_no_exposure(corpus: Path, quick: EvalConfig) -> None:
    result: dict[str, Any] = compare([corpus.parent / "ckpt1", corpus.parent / "ckpt2"], quick)
    assert [told["exposure"] for told in result["memorised"]] == [None, None]
    assert exposure_rows(["a"], [None]) == []


CLOSING = "Please ask a doctor if it does not go away by itself."


def assistants(number: int, every: int) -> list[dict[str, Any]]:
    """Rows of a corpus; each so-manieth answer ends with the same sentence."""
    rows = natural_qa(random.Random(3), number)
    for i, row in enumerate(rows):
        row |= {"id": f"{i:04}", "group": f"g{i}", "source": "s", "origin": f"made:{i}"}
        row["answer"] += f" {CLOSING}" if every and i % every == 0 else ""
    return rows


def test_what_the_audit_names_as_boilerplate_of_the_same_rows_is_what_compare_counts(
    tmp_path: Path, quick: EvalConfig
) -> None:
    rows = assistants(300, every=10)
    file = write_jsonl(tmp_path / "x.jsonl", [{name: row[name] for name in ("question", "answer")} for row in rows])
    source = SourceConfig(path=str(file), kind="qa", question="question", answer="answer")
    [finding] = [f for f in audit([source], AuditConfig())["findings"] if f["kind"] == "boilerplate"]
    assert finding["count"] == 30
    named = [{"text": c["text"], "where": c["where"], "rows": c["count"]} for c in finding["clusters"]]
    assert named == [{"text": CLOSING, "where": "ending", "rows": 30}]
    run = make_run(tmp_path / "runs" / "s", [*rows, *rows[:5]], make_rows(24, seed=12), steps=(1, 1))
    for told in compare([run / "ckpt1", run / "ckpt2"], quick)["memorised"]:
        for figures in (told["figures"]["boilerplate"], told["figures"]["references"]["boilerplate"]):
            assert figures["training_share"] == 0.1  # rows that stand twice count once, as in the audit
            assert [{**one, "answers": 0} for one in named] == figures["training"]
            assert figures["share"] == 0.0
    said = [[f"Take rest. {CLOSING}", "Take rest.", f"{CLOSING} Take rest."]]
    [told] = memorised(said, [passage(random.Random(5), 2)], [run / "corpus"])
    assert told is not None
    assert told["boilerplate"]["share"] == 2 / 3
    assert told["boilerplate"]["training"] == [{**named[0], "answers": 2}]
    assert told["references"]["boilerplate"]["share"] == 0.0


def test_answers_are_searched_for_what_is_stock_in_any_compared_corpus(tmp_path: Path) -> None:
    """One corpus was cleaned of its boilerplate: its list is empty, and the model may say it nevertheless."""
    raw, clean = (
        make_run(tmp_path / "runs" / name, assistants(100, every), make_rows(8, seed=12), steps=(1,)) / "corpus"
        for name, every in (("raw", 10), ("clean", 0))
    )
    answers = [f"Take rest. {CLOSING}", "Take rest."]
    of_raw, of_clean = memorised([answers, answers], ["New."], [raw, clean])
    assert of_raw is not None
    assert of_clean is not None
    assert (of_raw["boilerplate"].pop("training_share"), of_clean["boilerplate"].pop("training_share")) == (0.1, 0.0)
    assert of_raw["boilerplate"] == of_clean["boilerplate"]
    assert of_raw["boilerplate"]["share"] == 0.5
    assert of_raw["boilerplate"]["training"] == [{"text": CLOSING, "where": "ending", "rows": 10, "answers": 1}]
    [alone] = memorised([answers], ["New."], [clean])
    assert alone is not None
    assert (alone["boilerplate"]["share"], alone["boilerplate"]["training"]) == (0.0, [])
