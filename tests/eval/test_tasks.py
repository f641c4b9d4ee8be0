"""Tasks for lm-eval: what is written, and that lm-eval's figures on them are loam's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from eval import tasks
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import held_out
from eval.opened import open_own
from tokenizer.template import IN_TEXT

from .conftest import SEQ_LEN, make_rows, make_run
from .test_judged import RECORDS, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run_of_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that fit the context."""
    rows = make_rows(60, seed=21)
    rows += [{**row, "text": row["text"][:100]} for row in make_rows(40, seed=22) if row["kind"] == "text"]
    test = [{**row, "text": row["text"][:100]} for row in make_rows(80, seed=23) if row["kind"] == "text"]
    return make_run(tmp_path_factory.mktemp("tasks") / "runs" / "t", rows, test, steps=(2, 40))


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["eval/tasks.py", *words])
    tasks.main()


def test_a_task_for_answers_for_ranking_and_for_texts(
    run_of_texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", RECORDS)
    main(monkeypatch, "q.jsonl", "--data", str(run_of_texts), "--out", "made", "--name", "things")
    told = capsys.readouterr().out
    assert f"wrote things_answers, things_ranking, things_texts to made: {len(RECORDS)} questions, 20 texts" in told
    assert "--tasks things_answers,things_ranking --apply_chat_template" in told
    rows = {name: [json.loads(line) for line in (tmp_path / f"made/things_{name}.jsonl").open()]
            for name in ("answers", "ranking", "texts")}  # fmt: skip
    assert [row["question"] for row in rows["answers"]] == [record["question"] for record in RECORDS]
    assert [row["choices"][0] for row in rows["ranking"]] == [record["reference"] for record in RECORDS]
    assert all(len(set(row["choices"])) == 5 for row in rows["ranking"])
    held = held_out([run_of_texts / "corpus"], []).table["text"].to_pylist()
    assert sorted(row["text"] for row in rows["texts"]) == sorted(held)
    content = (tmp_path / "made/things_answers.yaml").read_text()
    assert '"process_results": !function loam_scores.process_results' in content


def test_only_what_there_is_to_ask_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", [{"question": f"Who is number {i}?", "keywords": ["x"]} for i in range(3)])
    main(monkeypatch, "q.jsonl", "--out", "made")
    assert sorted(path.name for path in Path("made").iterdir()) == [
        "loam_answers.jsonl", "loam_answers.yaml", "loam_scores.py"]  # fmt: skip
    write(tmp_path / "q.jsonl", [{"question": "Who?"}])
    with pytest.raises(UserError, match="there is nothing to ask"):
        main(monkeypatch, "q.jsonl", "--out", "none")
    with pytest.raises(UserError, match="name a file of questions, or --data"):
        main(monkeypatch)
    with pytest.raises(UserError, match="--name 'a b'"):
        main(monkeypatch, "q.jsonl", "--name", "a b")


def test_lm_eval_says_what_loam_says(
    run_of_texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: EvalConfig
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "q.jsonl", RECORDS)
    main(monkeypatch, "q.jsonl", "--data", str(run_of_texts), "--out", "made", "--max_new_tokens", "12")
    found = figures("loam_texts", run_of_texts / "ckpt2", tmp_path)
    opened = open_own(run_of_texts / "ckpt2", torch.device("cpu"), True, None)
    table = held_out([run_of_texts / "corpus"], []).table
    assert opened.losses(table).num_targets.sum(axis=1).max() <= SEQ_LEN
    assert found["bits_per_byte,none"] == pytest.approx(opened.losses(table).bits_per_byte([IN_TEXT]), abs=1e-3)
    settings = EvalConfig(**{**quick.__dict__, "questions": str(file)})
    told = compare([run_of_texts / "ckpt1", run_of_texts / "ckpt2"], settings)["scores"][1]["all"]["scores"]
    found = figures("loam_answers", run_of_texts / "ckpt2", tmp_path, "--apply_chat_template")
    assert found["token_f1,none"] == pytest.approx(told["token_f1"]["mean"], abs=1e-6)
    assert found["keyword_recall,none"] == pytest.approx(told["keyword_recall"]["mean"], abs=1e-6)


def figures(task: str, checkpoint: Path, folder: Path, *more: str) -> dict[str, Any]:
    """What the command that eval/tasks.py names prints."""
    settings = f"pretrained={checkpoint},dtype=float32,add_bos_token=False"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", settings, "--include_path", "made",
               "--tasks", task, "--device", "cpu", "--batch_size", "1", "--output_path", "out", *more]  # fmt: skip
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONPATH": places}
    environment = os.environ | offline
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=600)
    newest = max((folder / "out").rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())["results"][task]
