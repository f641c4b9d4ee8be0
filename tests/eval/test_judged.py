"""Questions of a file or held out, answered and scored: each answer by itself, each baseline as what it is."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from eval.baselines import BASELINES, baseline_answers
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import HeldOut, read_manifest
from eval.judged import Asked, ask, judged
from eval.questions import prompt_text, read_questions
from eval.ranking import choose_distractors
from eval.report import scores_shown, write_page
from eval.scores import GRADES, score
from eval.tables import sample_line
from eval.verdict import print_result, score_rows
from tokenizer.bpe import Tokenizer

from .conftest import SEQ_LEN, make_rows, make_table

THINGS = ("sky", "stone", "river", "lamp", "door", "cat", "book", "ship", "tree", "wall", "road", "cup")
COLORS = ("blue", "grey", "green", "amber", "black", "rot", "grün", "white", "brown", "red", "wide", "full")
RECORDS: list[dict[str, Any]] = [
    {"question": f"What color has the {thing}?", "reference": f"The {thing} is {color}.", "keywords": [color, thing],
     "category": "things" if i % 2 else "others", "difficulty": "easy" if i < 6 else "hard"}
    for i, (thing, color) in enumerate(zip(THINGS, COLORS, strict=True))
]  # fmt: skip


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("questions") / "q.jsonl", RECORDS)


@pytest.fixture(scope="module")
def config(file: Path, quick: EvalConfig) -> EvalConfig:
    return replace(quick, questions=str(file), samples=2)


@pytest.fixture(scope="module")
def result(run: Path, config: EvalConfig) -> dict[str, Any]:
    return compare([run / "ckpt1", run / "ckpt2"], config)


def by_question(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found = json.loads(json.dumps(result["answers"]))
    for item in found:
        for said in item["answers"]:
            del said["ranking"]["nats_per_byte"]  # in its last digits it depends on what is beside it
    return {item["question"]: item["answers"] for item in found}


def test_every_question_of_the_file_is_asked_and_scored(result: dict[str, Any]) -> None:
    assert [item["question"] for item in result["answers"]] == [record["question"] for record in RECORDS]
    assert [table["checkpoint"] for table in result["scores"]] == ["ckpt1", "ckpt2"]
    for k, table in enumerate(result["scores"]):
        own = [item["answers"][k] for item in result["answers"]]
        f1 = table["all"]["scores"]["token_f1"]
        assert f1["mean"] == pytest.approx(sum(said["scores"]["token_f1"] for said in own) / len(RECORDS))
        assert set(f1["baselines"]) == {*BASELINES, "chance"}
        assert [part["name"] for part in table["by_difficulty"]] == ["easy", "hard"]
        assert table["keywords_in_prompt"] == len(RECORDS)  # the thing of each
        assert table["all"]["scores"]["ranked_first"]["baselines"]["chance"] == pytest.approx(1 / 5)
        samples = [sample for said in own for sample in said["samples"]]
        assert len(samples) == 2 * len(RECORDS)
        mean = table["samples"]["token_f1"]
        assert mean == pytest.approx(sum(sample["scores"]["token_f1"] for sample in samples) / len(samples))
    assert any(said["samples"][0] != said["samples"][1] for item in result["answers"] for said in item["answers"])


def test_answers_do_not_depend_on_the_order_of_questions_or_on_the_batch(
    run: Path, config: EvalConfig, result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "turned").mkdir()
    turned = write(tmp_path / "turned" / "q.jsonl", RECORDS[::-1])
    monkeypatch.setattr("eval.answers.TOGETHER", 5)
    other = compare([run / "ckpt1", run / "ckpt2"], replace(config, questions=str(turned), batch_rows=1))
    assert by_question(other) == by_question(result)
    assert json.dumps(other["scores"]) == json.dumps(result["scores"])


def test_the_same_command_samples_the_same_and_another_seed_does_not(
    run: Path, config: EvalConfig, result: dict[str, Any]
) -> None:
    again = compare([run / "ckpt1", run / "ckpt2"], config)
    assert json.dumps(again["answers"]) == json.dumps(result["answers"])
    other = compare([run / "ckpt1", run / "ckpt2"], replace(config, seed=1))
    assert by_question(other) != by_question(result)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_that_is_fed_in_as_a_model_gets_its_own_score_back(
    name: str, run: Path, file: Path, config: EvalConfig
) -> None:
    questions = read_questions(file)
    asked = Asked(questions, choose_distractors(questions, config.seed), str(file))
    texts = baseline_answers(questions, run / "corpus", config.seed)[name]
    said = [
        {"scores": score(question, text, None, prompt_text(question)), "samples": [{"scores": {}}] * 2,
         "ranking": {"ranked_first": None}}
        for question, text in zip(questions, texts, strict=True)
    ]  # fmt: skip
    [table] = judged(asked, [said], [run / "corpus"], config)
    scores = {grade: cell for grade, cell in table["all"]["scores"].items() if cell["baselines"].get(name) is not None}
    assert {"keyword_recall", "token_f1", "copies_prompt"} <= set(scores)
    for grade, cell in scores.items():
        assert cell["mean"] == pytest.approx(cell["baselines"][name]), grade
        if grade in GRADES:
            assert cell["beats"] is not True


def test_without_its_corpus_a_checkpoint_is_not_above_all_and_others_columns_stay(
    run: Path, file: Path, config: EvalConfig
) -> None:
    """The same answers of a checkpoint whose corpus is here, and of one whose is not, in both orders."""
    questions = read_questions(file)
    asked = Asked(questions, choose_distractors(questions, config.seed), str(file))
    said = [
        {"scores": score(q, q.reference, None, prompt_text(q)), "samples": [], "ranking": {"ranked_first": None}}
        for q in questions
    ]
    shown = []
    for corpora in ([None, run / "corpus"], [run / "corpus", None]):
        made = judged(asked, [said] * 2, corpora, config)
        found = [{"checkpoint": str(corpus), **table} for corpus, table in zip(corpora, made, strict=True)]
        beats = {table["checkpoint"]: table["all"]["scores"]["token_f1"]["beats"] for table in found}
        assert beats == {"None": None, str(run / "corpus"): True}
        shown.append(scores_shown(found))
        assert (shown[-1]["unknown"], shown[-1]["known"]) == (["None"], str(run / "corpus"))
    assert shown[0]["baseline_names"] == shown[1]["baseline_names"] == list(BASELINES)
    for first, other in zip(*(of["score_rows"] for of in shown), strict=True):
        assert first["baselines"] == other["baselines"]
    for first, other in zip(*(of["score_parts"] for of in shown), strict=True):
        assert [line[3] for line in first["rows"]] == [line[3] for line in other["rows"]]
        assert all(None not in line[3] for line in first["rows"])


def test_without_a_file_held_out_questions_are_asked(run: Path, quick: EvalConfig) -> None:
    result = compare([run / "ckpt1", run / "ckpt2"], quick)
    assert len(result["answers"]) == quick.num_answers
    assert all(said["samples"] == [] for item in result["answers"] for said in item["answers"])
    assert [table["samples"] for table in result["scores"]] == [None, None]
    assert result["scores"][0]["all"]["scores"]["ranked_first"]["num_questions"] == quick.num_answers
    group_of = {row["id"]: row["group"] for row in make_rows(48, seed=2)}
    assert [item["group"] for item in result["answers"]] == [group_of[item["document"]] for item in result["answers"]]
    none = compare([run / "ckpt1", run / "ckpt2"], replace(quick, num_answers=0))
    assert none["answers"] == []
    assert score_rows(none) == []


def test_blocks_of_a_long_text_are_groups_of_their_own(quick: EvalConfig, tok: Tokenizer) -> None:
    texts = [{"kind": "text", "id": f"b/{i}", "group": "b", "text": f"The river {i} is wide and grey."} for i in (1, 2)]
    documents = HeldOut(make_table(texts), ["b/1", "b/2"], [], 2, 0, 0, 1, {})
    asked = ask(quick, documents, [(tok, SEQ_LEN)])
    assert {question.document: question.group for question in asked.questions} == {"b/1": "b/1", "b/2": "b/2"}


def test_a_question_that_no_context_holds_is_named(tmp_path: Path, quick: EvalConfig, tok: Tokenizer) -> None:
    long = {"question": "What is it?", "context": "sky " * SEQ_LEN}
    file = write(tmp_path / "q.jsonl", [RECORDS[0], long])
    with pytest.raises(UserError, match=rf"^q\.jsonl:2: .* longer than a checkpoint's context of {SEQ_LEN} tokens"):
        ask(replace(quick, questions=str(file)), None, [(tok, SEQ_LEN)])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"none\.jsonl"):
        ask(replace(quick, questions=str(tmp_path / "none.jsonl")), None, [(tok, SEQ_LEN)])  # type: ignore[arg-type]


def test_the_terminal_shows_scores_of_each_and_eight_answers(result: dict[str, Any]) -> None:
    lines: list[str] = []
    print_result(result, lines.append)
    assert max(map(len, lines)) <= 100
    assert sum(line.endswith(f"answers to {len(RECORDS)} questions") for line in lines) == 2
    assert sum(bool(re.match(r"\d+\. ", line)) for line in lines) == 8
    assert f"and {len(RECORDS) - 8} more, on the page" in lines
    assert any("12 of 24 keywords are not counted" in line for line in lines)
    for k, name in enumerate(("ckpt1", "ckpt2")):
        f1 = [s["scores"]["token_f1"] for item in result["answers"] for s in item["answers"][k]["samples"]]
        [told] = [line for line in lines if line.startswith(f"{name}: mean of 2 samples a question: keyword recall ")]
        assert f", F1 {sum(f1) / len(f1):.2f}, " in told


def test_the_page_shows_means_of_samples(result: dict[str, Any], run: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", result, [], [read_manifest(run / "corpus")])
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    for table in result["scores"]:
        assert f"<p>{table['checkpoint']}: {sample_line(table['samples'], 2)}</p>" in page


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("top_p", 1.5), ("samples", -1), ("distractors", 0)])
def test_settings_out_of_bounds_are_one_line(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name} "):
        EvalConfig(**{name: value})  # type: ignore[arg-type]
