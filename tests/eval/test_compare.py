"""Comparisons of small real checkpoints, whole: figures, verdicts, what is refused, and that nothing is changed."""

import errno
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import file_sha256
from eval import compare as compare_script
from eval import outputs
from eval.compare import compare, default_page
from eval.config import EvalConfig
from eval.losses import RESPONSES, document_losses, summary
from eval.verdict import print_result, table_rows
from tests.made import save_checkpoint
from tokenizer.encode import encode_table
from training.checkpoint import load_for_inference

from .conftest import SEQ_LEN, make_model, make_rows, make_run, make_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result(run: Path, quick: EvalConfig) -> dict[str, Any]:
    return compare([run / "ckpt1", run / "ckpt2"], quick)


@pytest.fixture(scope="module")
def other_run(run: Path, rows: list[dict[str, Any]]) -> Path:
    """runs/b: another corpus, another tokenizer; it trained on two of a's test documents."""
    leaked = make_rows(48, seed=2)[:2]
    return make_run(run.parent / "b", [*make_rows(60, seed=3), *leaked], make_rows(24, seed=4), 300, (20,))


def printed(result: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    print_result(result, lines.append)
    return lines


def test_the_figures_are_those_of_the_losses_on_the_whole_test_split(run: Path, result: dict[str, Any]) -> None:
    for name, facts in zip(("ckpt1", "ckpt2"), result["checkpoints"], strict=True):
        model, tok, _ = load_for_inference(run / name)
        losses = document_losses(model, encode_table(make_table(make_rows(48, seed=2)), tok), SEQ_LEN, batch_rows=1)
        expected = summary(losses)
        assert facts["name"] == name
        assert facts["val_bpb"] == pytest.approx(expected["bits_per_byte"], rel=1e-5)
        assert facts["val_loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert facts["val_ppl"] == pytest.approx(math.exp(expected["loss"]), rel=1e-4)
        assert facts["bpb_answer"] == pytest.approx(expected["bpb_answer"], rel=1e-5)
        assert (facts["num_documents"], facts["num_tokens"]) == (48, expected["num_tokens"])
        low, high = facts["val_bpb_ci95"]
        assert low < facts["val_bpb"] < high


def test_the_better_checkpoint_is_found_whatever_the_order(
    run: Path, quick: EvalConfig, result: dict[str, Any]
) -> None:
    (pair,) = result["pairs"]
    a, b = result["checkpoints"]
    assert (pair["a"], pair["b"], pair["better"]) == ("ckpt1", "ckpt2", "ckpt2")
    assert pair["delta_bpb"] == pytest.approx(b["val_bpb"] - a["val_bpb"])
    assert pair["ci95"][0] < pair["delta_bpb"] < pair["ci95"][1] < 0
    assert pair["verdict"].startswith("ckpt2 is better than ckpt1: ")
    assert "48 documents in 24 groups" in pair["verdict"]
    (turned,) = compare([run / "ckpt2", run / "ckpt1"], quick)["pairs"]
    assert turned["better"] == "ckpt2"
    assert turned["delta_bpb"] == pytest.approx(-pair["delta_bpb"])
    assert turned["ci95"] == pytest.approx([-pair["ci95"][1], -pair["ci95"][0]])


def test_the_same_command_gives_the_same_output_and_changes_no_checkpoint(
    run: Path, quick: EvalConfig, result: dict[str, Any]
) -> None:
    before = {path: file_sha256(path) for path in sorted(run.rglob("*")) if path.is_file()}
    again = compare([run / "ckpt1", run / "ckpt2"], quick)
    assert json.dumps(again) == json.dumps(result)
    assert {path: file_sha256(path) for path in sorted(run.rglob("*")) if path.is_file()} == before


def test_batch_size_does_not_matter(run: Path, result: dict[str, Any]) -> None:
    config = EvalConfig(resamples=1000, num_answers=3, max_new_tokens=12, device="cpu", batch_rows=1)
    other = compare([run / "ckpt1", run / "ckpt2"], config)
    assert other["answers"] == result["answers"]
    for ours, theirs in zip(result["checkpoints"], other["checkpoints"], strict=True):
        assert ours["val_bpb"] == pytest.approx(theirs["val_bpb"], rel=3e-5)  # float32 sums in another order
    np.testing.assert_allclose(result["pairs"][0]["ci95"], other["pairs"][0]["ci95"], rtol=3e-4)


def test_three_checkpoints_of_two_runs_and_tokenizers(run: Path, other_run: Path, quick: EvalConfig) -> None:
    result = compare([run / "ckpt1", run / "ckpt2", other_run / "ckpt1"], quick)
    assert [(pair["a"], pair["b"]) for pair in result["pairs"]] == [
        ("a/ckpt1", "a/ckpt2"), ("a/ckpt1", "b/ckpt1"), ("a/ckpt2", "b/ckpt1")]  # fmt: skip
    assert result["held_out"]["num_removed"] == 2  # b trained on them
    assert result["held_out"]["num_documents"] == 48 + 24 - 2
    assert result["perplexity_comparable"] is False
    assert any("NOT COMPARABLE" in note for note in result["notes"])
    head, *lines = table_rows(result)
    assert "perplexity *" in head
    assert "* not comparable: the tokenizers differ" in lines
    assert all(line.count(" *") == 2 for line in lines[:3])
    assert set(lines) <= set(printed(result))
    tokens = {facts["name"]: facts["num_tokens"] for facts in result["checkpoints"]}
    assert tokens["a/ckpt1"] == tokens["a/ckpt2"] != tokens["b/ckpt1"]
    assert len({facts["num_bytes"] for facts in result["checkpoints"]}) == 1


def test_one_tokenizer_leaves_perplexity_unmarked(result: dict[str, Any]) -> None:
    assert result["perplexity_comparable"] is True
    assert not any("*" in line for line in table_rows(result))


def test_a_checkpoint_trained_on_responses_only_is_compared_on_answers(
    tmp_path: Path, rows: list[dict[str, Any]], quick: EvalConfig
) -> None:
    run = make_run(tmp_path / "r", rows, make_rows(48, seed=2), steps=(2, 10), prompt_loss_weight=0.0)
    result = compare([run / "ckpt1", run / "ckpt2"], quick)
    model, tok, _ = load_for_inference(run / "ckpt2")
    losses = document_losses(model, encode_table(make_table(make_rows(48, seed=2)), tok), SEQ_LEN)
    assert result["measured_on"] == "answers and texts"
    assert result["checkpoints"][1]["val_bpb"] == pytest.approx(losses.bits_per_byte(RESPONSES), rel=1e-5)
    assert result["checkpoints"][1]["val_bpb"] != pytest.approx(losses.bits_per_byte(), rel=1e-3)
    assert any("responses only" in note for note in result["notes"])


def test_equal_weights_cannot_be_told_apart(run: Path, tmp_path: Path, quick: EvalConfig) -> None:
    twin = tmp_path / "a"
    shutil.copytree(run, twin)
    (pair,) = compare([run / "ckpt2", twin / "ckpt2"], quick)["pairs"]
    assert pair["better"] is None
    assert pair["delta_bpb"] == 0.0
    assert pair["verdict"].startswith("cannot tell")


def test_few_groups_are_never_called_a_difference(
    tmp_path: Path, rows: list[dict[str, Any]], quick: EvalConfig
) -> None:
    run = make_run(tmp_path / "few", rows, make_rows(18, seed=2))
    (pair,) = compare([run / "ckpt1", run / "ckpt2"], quick)["pairs"]
    assert pair["ci95"][1] < 0  # the interval alone would say that they differ
    assert pair["better"] is None
    assert pair["verdict"].startswith("cannot tell ckpt2 from ckpt1: 9 groups are too few")


def test_a_checkpoint_away_from_its_corpus_needs_data_and_is_marked(
    run: Path, tmp_path: Path, quick: EvalConfig
) -> None:
    for name in ("ckpt1", "ckpt2"):
        shutil.copytree(run / name, tmp_path / name)
    paths = [tmp_path / "ckpt1", tmp_path / "ckpt2"]
    with pytest.raises(UserError, match="--data RUN_OR_FOLDER"):
        compare(paths, quick)
    result = compare(paths, quick, data=run / "corpus")
    assert any("may have seen" in note and "ckpt1, ckpt2" in note for note in result["notes"])


def test_a_corpus_of_another_fingerprint_is_not_taken_for_the_one_trained_on(
    run: Path, tmp_path: Path, quick: EvalConfig
) -> None:
    copy = tmp_path / "a"
    shutil.copytree(run, copy)
    manifest = json.loads((copy / "corpus" / "manifest.json").read_text())
    (copy / "corpus" / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "made again"}))
    with pytest.raises(UserError, match="--data"):
        compare([copy / "ckpt1", copy / "ckpt2"], quick)


def test_what_cannot_be_compared_is_one_clear_line(run: Path, tmp_path: Path, quick: EvalConfig) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    damaged = tmp_path / "damaged"
    shutil.copytree(run / "ckpt2", damaged)
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    for paths, message in (
        ([run / "ckpt1"], "two or more"),
        ([run / "ckpt1", run / "ckpt2", run / "." / "ckpt1"], "given twice"),
        ([run / "ckpt1", foreign], r"no loam\.json"),
        ([run / "ckpt1", damaged], "sha256 differs"),
    ):
        with pytest.raises(UserError, match=message) as error:
            compare(paths, quick, data=run / "corpus")
        assert "\n" not in str(error.value)


def test_a_diverged_checkpoint_is_named(run: Path, tmp_path: Path, quick: EvalConfig) -> None:
    shutil.copytree(run, tmp_path / "a")
    meta = json.loads((run / "ckpt1" / "loam.json").read_text())
    model = make_model(int(make_model_vocab(run)))
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    optimizer = torch.optim.AdamW(model.parameters())
    del meta["files"], meta["format"]
    save_checkpoint(tmp_path / "a" / "ckpt3", model, [optimizer], run / "tokenizer", {"step": 9}, meta)
    with pytest.raises(UserError, match=r"ckpt3: its losses are not finite"):
        compare([tmp_path / "a" / "ckpt1", tmp_path / "a" / "ckpt3"], quick)


def make_model_vocab(run: Path) -> int:
    return json.loads((run / "ckpt1" / "config.json").read_text())["vocab_size"]


def test_answers_are_to_the_same_questions_with_reference_and_whether_they_stopped(result: dict[str, Any]) -> None:
    known = {row["question"]: row["answer"] for row in make_rows(48, seed=2) if row.get("question")}
    assert len(result["answers"]) == 3
    for item in result["answers"]:
        assert known[item["question"]] == item["reference"]
        assert [said["checkpoint"] for said in item["answers"]] == ["ckpt1", "ckpt2"]
        for said in item["answers"]:
            assert said["stopped"] or 0 < said["tokens"] <= 12


def test_a_corpus_without_questions_gives_continuations(tmp_path: Path, quick: EvalConfig) -> None:
    texts = [row for row in make_rows(160, seed=1) if row["kind"] == "text"]
    tests = [row for row in make_rows(100, seed=2) if row["kind"] == "text"]
    result = compare([(run := make_run(tmp_path / "t", texts, tests, 300)) / "ckpt1", run / "ckpt2"], quick)
    assert result["answers"]
    by_id = {row["id"]: row["text"] for row in tests}
    for item in result["answers"]:
        text = by_id[item["document"]]
        assert item["question"] is None
        assert text.startswith(item["beginning"] + item["reference"])
        assert item["reference"]
    assert "question" not in table_rows(result)[0]


def test_the_table_fits_a_terminal_and_every_figure_says_its_data(result: dict[str, Any]) -> None:
    lines = printed(result)
    assert max(len(line) for line in lines) <= 100
    documents = next(line for line in lines if line.startswith("documents "))
    assert documents.split()[1:] == ["48", "36", "36", "12", "12", "48", "48", "48"]
    size = next(line for line in lines if line.startswith("bytes "))
    assert size.split()[1] == f"{result['held_out']['num_bytes']:,}"


def test_the_command_writes_page_and_json_and_says_where(run: Path, tmp_path: Path) -> None:
    page = run / "compare-ckpt1-ckpt2.html"
    out = command(run, "ckpt1", "ckpt2", "--run", "a", "--json", str(tmp_path / "out.json"), *QUICK)
    assert out.returncode == 0, out.stderr
    assert "page: runs/a/compare-ckpt1-ckpt2.html" in out.stdout
    assert "ckpt2 is better than ckpt1" in out.stdout
    assert "next: python chat.py runs/a/ckpt2" in out.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"name", "path", "val_bpb", "val_ppl", "val_loss"} <= set(written["checkpoints"][0])
    assert {"a", "b", "delta_bpb", "ci95", "verdict"} <= set(written["pairs"][0])
    assert page.read_text().startswith("<!doctype html>")
    page.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt1", "ckpt9", "--run", "a"], "runs/a holds ckpt1, ckpt2"),
        (["ckpt1", "ckpt2", "--run", "a", "--json", "no/where.json"], "--json no/where.json"),
    ],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(run: Path, arguments: list[str], message: str) -> None:
    before = sorted(run.rglob("*"))
    out = command(run, *arguments, *QUICK)
    assert out.returncode == 2
    assert message in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1
    assert sorted(run.rglob("*")) == before


QUICK = ("--resamples", "1000", "--num-answers", "1", "--max-new-tokens", "8", "--device", "cpu")


def command(run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "eval" / "compare.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], cwd=run.parents[1], capture_output=True, text=True, check=False
    )


def test_the_page_lies_in_the_run_or_here_when_there_is_none(run: Path, tmp_path: Path) -> None:
    assert default_page([run / "ckpt1", run / "ckpt2"]) == run / "compare-ckpt1-ckpt2.html"
    assert default_page([tmp_path / "x/ckpt1", tmp_path / "y/ckpt2"]) == Path("compare-x.ckpt1-y.ckpt2.html")
    long = default_page([tmp_path / ("漢" * 80) / "ckpt1", tmp_path / ("字" * 80) / "ckpt2"])
    assert len(long.name.encode()) < 240
    assert long.suffix == ".html"


@pytest.mark.parametrize(("given", "named"), [([], "--html"), (["--html", "a.html", "--json", "b.json"], "--html")])
def test_a_folder_that_cannot_be_written_is_said_before_losses_are_computed(
    run: Path, given: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only disk; a test may run as root, who may write to any other."""
    monkeypatch.chdir(run.parents[1])

    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(outputs, "TemporaryFile", refuse)
    monkeypatch.setattr(compare_script, "compare", lambda *_: pytest.fail("losses were computed"))
    monkeypatch.setattr(sys, "argv", ["compare.py", "ckpt1", "ckpt2", "--run", "a", *given])
    page = given[1] if given else "runs/a/compare-ckpt1-ckpt2.html"
    with pytest.raises(UserError) as error:
        compare_script.main()
    assert str(error.value) == f"{page}: cannot be written there; name another place with {named} FILE"


def test_runs_that_differ_by_their_seed_say_what_seeds_do_and_others_are_judged_by_it(
    tmp_path: Path, quick: EvalConfig
) -> None:
    train, test = make_rows(40, seed=1), make_rows(48, seed=2)
    runs = [make_run(tmp_path / str(seed) / "a", train, test, steps=(4,), seed=seed) for seed in range(3)]
    result = compare([run / "ckpt1" for run in runs], quick)
    assert result["held_out"]["corpora"] == [str(runs[0] / "corpus")]  # copies of one
    found = result["seed_noise"]
    figures = [each["val_bpb"] for each in result["checkpoints"]]
    assert found["deviation"] == pytest.approx(float(np.std(figures, ddof=1)))
    assert (found["num_runs"], found["of"]) == (3, [[each["name"] for each in result["checkpoints"]]])
    told = " ".join(" ".join(printed(result)).split())
    assert f"--seed_noise {found['deviation']:.2g} --seed_runs 3" in told
    assert "not of runs with another seed" in told
    assert "One run of each cannot tell" in told
    better = [pair for pair in result["pairs"] if pair["better"]]
    assert better
    assert all(", though they differ by their seed alone: " in pair["verdict"] for pair in better)
    given = compare([run / "ckpt1" for run in runs], replace(quick, seed_noise=found["deviation"], seed_runs=3))
    assert not any(pair["better"] for pair in given["pairs"])
    assert all("other seeds" in pair["verdict"] for pair in given["pairs"])
    assert "and of other seeds" in " ".join(" ".join(printed(given)).split())


def test_epochs_of_one_run_tell_nothing_of_seeds(result: dict[str, Any], run: Path, quick: EvalConfig) -> None:
    assert result["seed_noise"] is None
    assert "One run of each" not in " ".join(printed(result))
    given = compare([run / "ckpt1", run / "ckpt2"], replace(quick, seed_noise=5.0, seed_runs=5))
    assert given["pairs"] == result["pairs"]


def test_questions_that_a_run_trained_on_are_said(
    run: Path, other_run: Path, tmp_path: Path, quick: EvalConfig
) -> None:
    row = next(row for row in make_rows(60, seed=3) if row["kind"] == "qa" and row["context"] is None)
    file = tmp_path / "q.jsonl"
    asked = [{"question": row["question"].upper()}, {"question": "Who goes there?"}]
    file.write_text("".join(json.dumps(one) + "\n" for one in asked), encoding="utf-8")
    result = compare([run / "ckpt1", other_run / "ckpt1"], replace(quick, questions=str(file)))
    assert [table["known_questions"] for table in result["scores"]] == [0, 1]
    [note] = [note for note in result["notes"] if "stand in the training text" in note]
    assert "of the 2 questions" in note
    assert ": b/ckpt1 1;" in note
    assert not any(
        "stand in the training text" in note for note in compare([run / "ckpt1", run / "ckpt2"], quick)["notes"]
    )
