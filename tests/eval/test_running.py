"""Every command of the evaluation on a run that is being trained: it changes nothing, says the same twice, and goes."""

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chat
from common.files import file_sha256
from common.runs import locked
from eval import check, compare, tasks

from .sound import make_sound_run

PAGE = "compare-ckpt1-ckpt2.html"  # the only file that a command leaves in a run, and says so
QUICK = ["--resamples", "1000", "--num_answers", "3", "--samples", "1", "--max_new_tokens", "12", "--device", "cpu"]
COMMANDS: dict[str, tuple[Callable[[], None], list[str]]] = {
    "compare": (compare.main, ["compare.py", "ckpt1", "ckpt2", "--run", "a", "--json", "out/result.json", *QUICK]),
    "check": (check.main, ["check.py", "ckpt2", "--run", "a", "--json", "out/result.json"]),
    "tasks": (tasks.main, ["tasks.py", "--data", "a", "--out", "out"]),
    "chat": (chat.main, ["chat.py", "a/ckpt2", "--question", "What color has sky 1-2?", "--temperature", "2",
                         "--max_new_tokens", "20", "--device", "cpu"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    return make_sound_run(tmp_path_factory.mktemp("finished") / "runs" / "a", rows)


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """runs/a while its training writes a fourth checkpoint: held, a part of the weights, half a line of the log."""
    copy = tmp_path / "runs" / "a"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    with locked(copy):
        half = copy / ".ckpt4.99.tmp"
        half.mkdir()
        (half / "model.safetensors").write_bytes((copy / "ckpt2" / "model.safetensors").read_bytes()[:1000])
        with (copy / "metrics.jsonl").open("a") as file:
            file.write('{"event": "step", "step": 103, "lo')
        yield copy


def said(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What the command prints, and the content of the files that it writes."""
    main, argv = COMMANDS[name]
    monkeypatch.setattr(sys, "argv", argv)
    main()
    written = [*Path("out").iterdir(), *Path("runs/a").glob(PAGE)]
    return {"printed": capsys.readouterr().out, **{path.name: file_sha256(path) for path in sorted(written)}}


def state(run: Path) -> dict[str, Any]:
    """Hash and time of every file, compare's page aside; a folder has neither."""
    return {str(path.relative_to(run)): (file_sha256(path), path.stat().st_mtime_ns) if path.is_file() else None
            for path in run.rglob("*") if path.name != PAGE}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_changes_no_file_of_the_run_and_says_the_same_twice(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(run)
    first = said(name, monkeypatch, capsys)
    assert state(run) == before
    assert said(name, monkeypatch, capsys) == first
    assert state(run) == before
    assert first["printed"].strip()
    assert "warning" not in first["printed"]  # half a line of a log that grows is no damage
    assert set(first) - {"printed"} == {
        "compare": {"result.json", PAGE}, "check": {"result.json"}, "chat": set(),
        "tasks": {"loam_answers.jsonl", "loam_answers.yaml", "loam_ranking.jsonl", "loam_ranking.yaml",
                  "loam_texts.jsonl", "loam_texts.yaml", "loam_scores.py"}}[name]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_the_same_while_the_run_goes_on(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log grows by pieces of lines, and a checkpoint comes and goes, thousands of times in one command."""
    expected = said(name, monkeypatch, capsys)
    over, rounds = threading.Event(), 0

    def train() -> None:
        nonlocal rounds
        line = json.dumps({"event": "step", "step": 104, "epoch": 4, "loss": 0.1, "tokens": 10**6}) + "\n"
        with (run / "metrics.jsonl").open("a") as log:
            log.write('ss": 0.1, "epoch": 4, "tokens": 1000000}\n')
            while not over.wait(0.001):
                log.write(line[:30])
                log.flush()
                log.write(line[30:])
                temporary = run / ".ckpt4.99.tmp"
                shutil.copytree(run / "ckpt3", temporary, dirs_exist_ok=True)
                temporary.rename(run / "ckpt4")
                shutil.rmtree(run / "ckpt4")
                rounds += 1

    training = threading.Thread(target=train)
    training.start()
    told = []
    try:
        for _ in range(100):
            told.append(said(name, monkeypatch, capsys))
            if rounds > 1:
                break
    finally:
        over.set()
        training.join()
    for files in (*told, expected):
        files.pop(PAGE, None)  # its curve is as long as the log
    assert all(found == expected for found in told)
    assert rounds > 1
