"""What an audit says of its findings: figures, examples, clusters and grade, each against a plain count."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.auditing import AuditConfig, audit
from data.conclusions import SHOWN
from data.figures import length_table
from data.sources import SourceConfig
from tests.data.made_rows import english, english_qa, qa, text, write_jsonl


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audited(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    write_jsonl(Path("x.jsonl"), rows)
    return audit([SourceConfig(path="x.jsonl", **more)], AuditConfig())


def finding(report: dict[str, Any], kind: str) -> dict[str, Any]:
    [found] = [found for found in report["findings"] if found["kind"] == kind]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_table_of_lengths_is_a_plain_count(seed: int) -> None:
    dice = np.random.default_rng(seed)
    tokens = dice.integers(1, (100, 600, 3000, 128, 513)[seed], dice.integers(1, 400))
    table = length_table(tokens, 200)
    edges = [(0, 128), (129, 256), (257, 384), (385, 512), (513, 10**9)]
    wanted = [sum(low <= n <= high for n in tokens.tolist()) for low, high in edges]
    assert [bucket["rows"] for bucket in table["buckets"]] == wanted
    assert [bucket["share"] for bucket in table["buckets"]] == pytest.approx([n / len(tokens) for n in wanted])
    assert [(bucket["from"], bucket["to"]) for bucket in table["buckets"]] == [*edges[:-1], (513, None)]
    assert (table["rows"], table["min"], table["max"]) == (len(tokens), tokens.min(), tokens.max())
    assert table["mean"] == pytest.approx(tokens.mean())
    assert table["median"] == pytest.approx(np.median(tokens))
    assert table["cut_share"] == pytest.approx(sum(n > 200 for n in tokens.tolist()) / len(tokens))


def test_no_rows_have_a_table_of_noughts() -> None:
    table = length_table(np.zeros(0, np.int64), 512)
    assert (table["rows"], table["max"], table["mean"], table["cut_share"]) == (0, 0, 0.0, 0.0)
    assert [bucket["rows"] for bucket in table["buckets"]] == [0] * 5


def test_tokens_are_near_those_of_a_real_tokenizer(in_folder: Path) -> None:
    """Estimates of a thousand rows and counts of a tokenizer trained on the same text: within a tenth."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rows = english_qa(random.Random(1), 1000)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=8192, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((f"{row['question']}\n{row['answer']}" for row in rows), trainer)
    tokenizer.save("tokenizer.json")
    estimated = audited(rows)
    counted = audit([SourceConfig(path="x.jsonl")], AuditConfig(tokenizer="tokenizer.json"))
    exact = sum(len(tokenizer.encode(row[name]).ids) for row in rows for name in ("question", "answer"))
    assert (counted["tokens"], counted["tokens_estimated"]) == (exact, False)
    assert estimated["tokens_estimated"]
    assert estimated["tokens"] == pytest.approx(exact, rel=0.1)


def grade(refused: int, rows: int = 100) -> str:
    found = english_qa(random.Random(2), rows)
    for row in found[:refused]:
        row["answer"] = "I'm sorry, but as an AI language model I cannot help with that request. " + row["answer"]
    return str(audited(found)["grade"]["letter"])


def test_the_grade_falls_with_the_share_that_is_left() -> None:
    """Of rows a little longer than the others; the bounds are shares of tokens: 95, 85, 65, 40 and 15%."""
    assert [grade(refused) for refused in (0, 2, 8, 20, 40, 65, 95)] == ["A", "A", "B", "C", "D", "E", "F"]


def test_a_secret_and_a_share_of_one_percent_are_reasons() -> None:
    rows = english_qa(random.Random(3), 300)
    rows[5]["answer"] += " The key is AKIA" + "QZ3MX7WPLK4TY2VB" + " as ever."
    rows[6]["answer"] = ""
    report = audited(rows)
    reasons = " ".join(report["grade"]["reasons"])
    assert "secret" in reasons
    assert "empty" not in reasons
    for row in rows[10:14]:
        row["answer"] = ""
    assert "1.7% of rows (5): empty" in " ".join(audited(rows)["grade"]["reasons"])


def test_stock_phrases_that_take_a_third_of_the_rows_cost_a_letter() -> None:
    dice = random.Random(4)
    rows = english_qa(dice, 100)
    assert audited(rows)["grade"]["letter"] == "A"
    for row in rows[:40]:
        row["answer"] += " Please ask your doctor before you do anything else."
    assert audited(rows)["grade"]["letter"] == "B"


@pytest.mark.parametrize("seed", range(3))
def test_examples_show_the_evidence_of_long_texts(seed: int) -> None:
    """An address deep in a text: the excerpt holds it, and its span marks it."""
    dice = random.Random(seed)
    rows = [text(" ".join(english(dice) for _ in range(60))) for _ in range(20)]
    address = "jane.smith@hospital-records.org"
    at = len(rows[7]["text"]) * seed // 3
    rows[7]["text"] = f"{rows[7]['text'][:at]} Write to {address} today. {rows[7]['text'][at:]}"
    [example] = finding(audited(rows, kind="text"), "pii")["examples"]
    assert example["row"] == "x.jsonl:8"
    assert example["field"] == "text"
    assert example["text"][slice(*example["span"])] == address
    assert example["text"] in rows[7]["text"]
    assert len(example["text"]) <= SHOWN + 1


def test_at_most_five_examples_spread_over_the_rows() -> None:
    rows = english_qa(random.Random(5), 200)
    for row in rows[::2]:
        row["answer"] = ""
    found = finding(audited(rows), "empty")
    assert found["count"] == 100
    assert len(found["examples"]) == 5
    places = [found["rows"].index(example["row"]) for example in found["examples"]]
    assert places == [0, 20, 40, 60, 80]


def test_clusters_show_their_members_side_by_side() -> None:
    dice = random.Random(6)
    rows = english_qa(dice, 60)
    rows += [{**rows[4]}, {**rows[4]}, {**rows[9], "answer": rows[9]["answer"] + " Today."}]
    report = audited(rows)
    [same] = finding(report, "exact_duplicate")["clusters"]
    assert same["count"] == 3
    assert set(same["rows"]) == {"x.jsonl:5", "x.jsonl:61", "x.jsonl:62"}
    assert {member["question"] for member in same["members"]} == {rows[4]["question"]}
    [near] = finding(report, "near_duplicate")["clusters"]
    assert near["rows"] == ["x.jsonl:63", "x.jsonl:10"]  # the one that stays first
    assert [member["answer"] for member in near["members"]] == [rows[62]["answer"], rows[9]["answer"]]
    assert finding(report, "near_duplicate")["rows"] == ["x.jsonl:10"]


def test_conflicting_and_repeated_answers_show_what_differs() -> None:
    dice = random.Random(7)
    rows = english_qa(dice, 60)
    answers = ["It is the one.", "It is the other.", "it is  the other."]
    rows += [qa("What is it, then, and why?", answer) for answer in answers]
    rows += [qa("What is it, then, and why?", "In another context.", context="Given this.")]
    long = f"{english(dice)} {english(dice)}"
    rows += [{**row, "answer": long} for row in english_qa(dice, 6)]
    rows += [{**row, "answer": "In 1912."} for row in english_qa(dice, 6)]  # short: rightly that of many
    report = audited(rows, context="context")
    [conflict] = finding(report, "conflicting_answers")["clusters"]
    assert conflict["question"] == "What is it, then, and why?"
    assert set(conflict["answers"]) <= set(answers)
    assert set(finding(report, "conflicting_answers")["rows"]) == {"x.jsonl:61", "x.jsonl:62", "x.jsonl:63"}
    [repeated] = finding(report, "repeated_answer")["clusters"]
    assert (repeated["answer"], repeated["count"]) == (long, 6)
    assert len(repeated["questions"]) == 5


def test_answers_that_differ_in_case_and_space_do_not_conflict() -> None:
    rows = english_qa(random.Random(13), 40)
    rows += [qa("What is it, then, and why?", answer) for answer in ("It is the one.", "it is THE  one.")]
    report = audited(rows)
    assert [found["kind"] for found in report["findings"] if found["kind"] == "conflicting_answers"] == []
    rows[-1]["answer"] = "It is the one!"
    assert finding(audited(rows), "conflicting_answers")["count"] == 2


def test_a_row_leaves_once_at_the_first_step_that_names_it() -> None:
    rows = english_qa(random.Random(14), 40)
    refused = {**rows[0], "answer": "I'm sorry, but as an AI language model I cannot help with that request."}
    report = audited([*rows, refused, refused])
    steps = [(step["step"], step["rows"]) for step in report["funnel"]]
    assert steps == [("read", 42), ("exact_duplicate", 41), ("refusal", 40)]
    assert finding(report, "refusal")["count"] == 2
    assert [row["kind"] for row in report["sample"]["dropped"]] == ["exact_duplicate", "refusal"]


def test_a_phrase_is_stock_in_its_own_source_alone() -> None:
    rows = english_qa(random.Random(15), 120)
    for row in [*rows[:30], rows[60]]:
        row["answer"] += " I hope that this helps you and yours."
    write_jsonl(Path("x.jsonl"), rows[:60])
    write_jsonl(Path("y.jsonl"), rows[60:])
    report = audit([SourceConfig(path="x.jsonl"), SourceConfig(path="y.jsonl")], AuditConfig())
    found = finding(report, "boilerplate")
    assert (found["source"], found["count"]) == ("x", 30)


def test_templates_show_their_skeletons() -> None:
    rows = english_qa(random.Random(8), 60)
    for name in ["France", "Burkina Faso", "Peru", "Chad", "Laos", "Mali"]:
        rows.append(qa(f"What is the capital of {name} today?", f"The capital of {name} is a town by the sea."))
    [cluster] = finding(audited(rows), "template")["clusters"]
    assert cluster["count"] == 6
    question, answer = cluster["skeleton"]["question"], cluster["skeleton"]["answer"]
    assert [piece["fixed"] for piece in question if "fixed" in piece] == ["What is the capital of", "today"]
    assert [piece["fixed"] for piece in answer if "fixed" in piece] == ["The capital of", "is a town by the sea"]
    assert {*question[1]["slot"]} <= {"France", "Burkina Faso", "Peru", "Chad", "Laos", "Mali"}
    assert len(question[1]["slot"]) == 5


def test_phrases_of_very_many_rows_are_estimated_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    import data.detect.phrases as module

    rows = english_qa(random.Random(10), 400)
    for row in rows[:300]:
        row["answer"] += " I hope that this helps you and yours."
    counts = []
    for shown in (1000, 30):
        monkeypatch.setattr(module, "SHOWN_ROWS", shown)
        found = finding(audited(rows), "boilerplate")
        assert found["count"] == 300
        counts.append(found["clusters"][0]["count"])
    assert counts == [300, 300]


def test_values_that_start_alike_are_counted_together() -> None:
    rows = english_qa(random.Random(11), 50)
    for i, row in enumerate(rows):
        row["category"] = "x" * 80 + str(i % 3)
    report = audited(rows, category="category")
    assert report["balance"]["category"] == {"x" * 80: 50}
    assert report["balance"]["source"] == {"x": 50}


def test_of_each_kind_a_row_dropped_is_shown() -> None:
    dice = random.Random(12)
    rows = english_qa(dice, 100)
    rows[3]["answer"] = ""
    rows[5] = qa("a?", "b")
    for i in range(20, 60):
        rows[i] = {**rows[i - 20]} if i not in (23, 25) else rows[i]
    sample = audited(rows)["sample"]
    assert {row["kind"] for row in sample["dropped"]} == {"empty", "too_short", "exact_duplicate"}
    assert len(sample["dropped"]) == len(sample["kept"]) == 12
    assert not {row["row"] for row in sample["kept"]} & {row["row"] for row in sample["dropped"]}
    assert all(row["detail"] for row in sample["dropped"])
