"""Going on with a run in awkward circumstances: what may differ, what may not, and epochs without figures."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import train as train_script
from common.errors import UserError
from common.files import file_sha256
from config import Config
from eval import epoch as epoch_end
from training.checkpoint import read_meta, sealed, verify
from training.metrics import read_metrics


def events(kind: str) -> list[dict[str, Any]]:
    return read_metrics(Path("runs/t/metrics.jsonl"), kind)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original, counted = train_script.train_step, {"steps": 0}

    def step(*args: Any) -> Any:
        result = original(*args)
        counted["steps"] += 1
        if counted["steps"] == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(train_script, "train_step", step)


def test_a_run_that_an_older_version_began_goes_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        assert train_script.train(config)["interrupted"]
    (path,) = Path("runs/t").glob("step-*")
    file = path / "trainer" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(
        json.dumps({k: v for k, v in state.items() if k not in ("recent", "left_out", "passed_over", "went_back")})
    )
    meta = {**read_meta(path), "files": {**read_meta(path)["files"], "trainer/state.json": file_sha256(file)}}
    (path / "loam.json").write_text(json.dumps(sealed(meta)))
    train_script.train(config, resume=True)
    assert [s["step"] for s in events("step")] == list(range(1, len(events("step")) + 1))
    verify(Path("runs/t/ckpt2"), to_resume=True)


def change_corpus() -> None:
    manifest = Path("runs/t/corpus/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "fingerprint": "another"}))


def test_another_corpus_is_accepted_by_name_and_the_epoch_begins_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 20)
        assert train_script.train(config)["interrupted"]
    first = read_meta(Path("runs/t/ckpt1"))["metrics"]
    in_first = sum(s["epoch"] == 1 for s in events("step"))
    assert in_first < 20
    change_corpus()
    with pytest.raises(UserError, match=r"another corpus .* accept it with --change corpus"):
        train_script.train(config)
    train_script.train(config, accepted={"corpus"})
    assert read_meta(Path("runs/t/ckpt1"))["metrics"] == first  # judged by its own weights, once
    assert [e["epoch"] for e in events("epoch")] == [1, 2]
    steps = events("step")
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    assert sum(s["epoch"] == 2 for s in steps) == (20 - in_first) + in_first  # what was done of it, and all of it
    train_script.train(config)  # the new corpus is what the run has now


@pytest.mark.parametrize("key", ["optimizer", "seed", "batch_tokens", "nonsense"])
def test_what_a_run_cannot_change_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--run", "t", "--change", f"lr,{key}"])
    with pytest.raises(SystemExit) as ended:
        train_script.run_command(train_script.main)
    assert ended.value.code == 2
    assert f"error: --change {key}: a run can only go on with another corpus, epochs, lr" in capsys.readouterr().err


def test_more_epochs_are_accepted_by_name(config: Config) -> None:
    train_script.train(config)
    longer = replace(config, train=replace(config.train, epochs=3))
    with pytest.raises(UserError, match="or go on with --change epochs"):
        train_script.train(longer)
    train_script.train(longer, accepted={"epochs"})
    assert [e["epoch"] for e in events("epoch")] == [1, 2, 3]
    with pytest.raises(UserError, match=r"seed: 0 -> 1\): nothing is overwritten; take another name with --run$"):
        train_script.train(replace(longer, train=replace(longer.train, seed=1)))


@pytest.mark.parametrize("found", [None, {"val_loss": float("nan")}])
def test_a_run_whose_validations_give_nothing_ends_all_the_same(
    config: Config, monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(epoch_end, "validate", lambda *_: found)
        assert train_script.train(replace(config, train=replace(config.train, epochs=3)))["epochs"] == []
    assert [e["epoch"] for e in events("unvalidated")] == [1, 2, 3]
    assert sorted(p.name for p in Path("runs/t").glob("ckpt*")) == ["ckpt1", "ckpt2", "ckpt3"]
    assert "NaN" not in Path("runs/t/ckpt3/loam.json").read_text()
    # With memory again, the last epoch is validated by the same command.
    train_script.train(replace(config, train=replace(config.train, epochs=3)))
    assert [e["epoch"] for e in events("epoch")] == [3]


def test_a_signal_in_the_last_samples_does_not_break_the_end(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(config, train=replace(config.train, epochs=4, samples=2))
    original, calls = epoch_end.sample_lines, {"number": 0}

    def lines(*args: Any) -> Any:
        calls["number"] += 1
        if calls["number"] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    monkeypatch.setattr(epoch_end, "sample_lines", lines)
    assert train_script.train(config)["interrupted"]
    assert [e["epoch"] for e in events("epoch")] == [1, 2, 3, 4]
    assert not train_script.train(config)["interrupted"]  # the same command does what is left
    assert [e["epoch"] for e in events("epoch")] == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_log_that_was_cut_inside_a_line_or_ends_in_zeros_does_not_stop_the_run(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        assert train_script.train(config)["interrupted"]
    log = Path("runs/t/metrics.jsonl")
    content = log.read_bytes()
    log.write_bytes(content[:-100] if damage == "cut" else content + b"\0" * 50 + b"\n")
    train_script.train(config)
    assert ("is shorter than when" in capsys.readouterr().out) == (damage == "cut")
    steps = [s["step"] for s in events("step")]
    assert steps == [n for n in range(1, steps[-1] + 1) if damage == "zeros" or n != 5]
    assert "damaged" not in capsys.readouterr().out
