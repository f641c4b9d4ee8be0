"""A signal at any moment: everything done until then is saved, the same command ends with the same weights."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import eval.validation as validation_module
import train as train_script
from config import Config
from training import samples
from training.checkpoint import verify
from training.metrics import read_metrics
from training.signals import Stopped, StopRequest, stop_requests


def accumulating(config: Config) -> Config:
    """Four micro-batches a step."""
    return replace(config, train=replace(config.train, batch_tokens=48 * 4, micro_batch=1, samples=2))


def steps() -> list[int]:
    return [s["step"] for s in read_metrics(Path("runs/t/metrics.jsonl"), "step")]


def saved() -> list[str]:
    return sorted(p.name for p in Path("runs/t").iterdir() if p.name.startswith(("ckpt", "step-")))


def weights() -> bytes:
    return Path("runs/t/ckpt2/model.safetensors").read_bytes()


def whole_run(config: Config) -> tuple[bytes, list[float], list[float]]:
    """Weights, losses and validation of the run that nobody disturbs; its output is removed."""
    import shutil

    train_script.train(config)
    found = weights(), losses(), [e["val_loss"] for e in read_metrics(Path("runs/t/metrics.jsonl"), "epoch")]
    for path in [*Path("runs/t").glob("ckpt*"), *Path("runs/t").glob("step-*")]:
        shutil.rmtree(path)
    Path("runs/t/metrics.jsonl").unlink()
    return found


def losses() -> list[float]:
    return [s["loss"] for s in read_metrics(Path("runs/t/metrics.jsonl"), "step")]


def assert_goes_on_to(config: Config, whole: tuple[bytes, list[float], list[float]]) -> None:
    assert not train_script.train(config, resume=bool(saved()))["interrupted"]
    epochs = read_metrics(Path("runs/t/metrics.jsonl"), "epoch")
    assert (weights(), losses(), [e["val_loss"] for e in epochs]) == whole


class OnCall:
    """Sends this process a signal in the given call of a function, before it does its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> None:
        self.calls, self.call, self.original = 0, call, getattr(module, name)
        monkeypatch.setattr(module, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.original(*args, **kwargs)


@pytest.mark.parametrize("micro_batch", [2, 4])
def test_between_micro_batches_the_step_is_given_up_and_the_one_before_is_saved(
    config: Config, monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    config = accumulating(config)
    whole = whole_run(config)
    original = train_script.loss_function

    def loss_function(*args: Any) -> Any:
        loss_of, asked = original(*args), {"times": 0}

        def counted(*batch: Any) -> Any:
            asked["times"] += 1
            if asked["times"] == 2 + 4 * 5 + micro_batch:  # two for the rehearsal, five steps of four
                os.kill(os.getpid(), signal.SIGTERM)
            return loss_of(*batch)

        return counted

    with monkeypatch.context() as patched:
        patched.setattr(train_script, "loss_function", loss_function)
        assert train_script.train(config)["interrupted"]
    # In the last micro-batch nobody asks any more: the step is finished.
    done = 6 if micro_batch == 4 else 5
    assert steps() == list(range(1, done + 1))
    assert saved() == [f"step-{done:06d}"]
    assert_goes_on_to(config, whole)


def test_in_the_validation_the_epoch_is_saved_already_and_is_validated_later(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = accumulating(config)
    whole = whole_run(config)
    with monkeypatch.context() as patched:
        OnCall(patched, validation_module, "document_losses", 1)
        assert train_script.train(config)["interrupted"]
    assert "in the validation of epoch 1, saved as ckpt1" in capsys.readouterr().out
    assert saved() == ["ckpt1"]
    assert not read_metrics(Path("runs/t/metrics.jsonl"), "epoch")
    assert_goes_on_to(config, whole)


def test_while_samples_are_made_the_epoch_is_saved_and_judged(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = accumulating(config)
    whole = whole_run(config)
    with monkeypatch.context() as patched:
        OnCall(patched, samples, "generate", 1)
        assert train_script.train(config)["interrupted"]
    assert saved() == ["ckpt1"]
    assert [e["epoch"] for e in read_metrics(Path("runs/t/metrics.jsonl"), "epoch")] == [1]
    assert_goes_on_to(config, whole)


@pytest.mark.parametrize("resumed", [False, True])
def test_in_a_first_step_that_takes_long_the_signal_leaves_at_once(
    config: Config, monkeypatch: pytest.MonkeyPatch, resumed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the compiler does: nothing in it asks whether a signal came."""
    config = accumulating(config)
    whole = whole_run(config)
    if resumed:
        with monkeypatch.context() as patched:
            OnCall(patched, train_script, "train_step", 4)
            assert train_script.train(config)["interrupted"]
        assert saved() == ["step-000003"]  # the fourth was given up
    original = train_script.loss_function

    def loss_function(*args: Any) -> Any:
        loss_of, asked = original(*args), {"times": 0}

        def long(*batch: Any) -> Any:
            asked["times"] += 1
            if asked["times"] == 3:  # behind the rehearsal
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError("the signal did not leave")
            return loss_of(*batch)

        return long

    with monkeypatch.context() as patched:
        patched.setattr(train_script, "loss_function", loss_function)
        assert train_script.train(config)["interrupted"]
    assert "before there was a new step to save" in capsys.readouterr().out
    assert saved() == (["step-000003"] if resumed else [])
    assert_goes_on_to(config, whole)


def test_in_the_first_step_among_others_the_signal_waits_for_them_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training import signals

    monkeypatch.setattr(signals, "PATIENCE", 0.01)
    request = StopRequest()
    with stop_requests(request), pytest.raises(Stopped), request.at_once(alone=False):
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.wanted()  # it did not leave at once
        signal.pause()  # the alarm ends this; without one the test would hang
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_second_signal_leaves_at_once_and_the_last_good_checkpoint_stays(config: Config) -> None:
    """In a process of its own, whose second signal comes while the first one's save is being written."""
    import subprocess
    import sys
    import textwrap

    repository = Path(__file__).resolve().parents[2]
    with config.claimed("train"):
        pass
    script = f"""
        import ctypes, os, signal, sys, time
        from training import run, signals
        import train
        signals.ECHO_SECONDS = 0.0
        taken, written, step, write = 0, 0, train.train_step, run.write_checkpoint

        def train_step(*args):
            global taken
            result, taken = step(*args), taken + 1
            if taken == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return result

        def write_checkpoint(*args):
            global written
            written += 1
            if written == 2:
                time.sleep(1)  # the watching thread must have read the first: both in one read are one wish
                os.kill(os.getpid(), signal.SIGTERM)
                # A wait that no signal ends, as in a collective whose other side is gone: a lock taken twice, in C.
                mutex = ctypes.create_string_buffer(64)
                for _ in range(2):
                    ctypes.CDLL(None).pthread_mutex_lock(mutex)
            write(*args)

        train.train_step, run.write_checkpoint = train_step, write_checkpoint
        sys.argv = ["train.py", "--run", "{config.run}", "--save_steps", "5"]
        train.run_command(train.main)
    """
    Path("twice.py").write_text(textwrap.dedent(script))
    done = subprocess.run([sys.executable, "twice.py"], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM, done.stderr[-2000:]
    assert saved() == ["step-000005"]
    assert verify(Path("runs/t/step-000005"), to_resume=True)["step"] == 5
    train_script.train(config)
    assert saved()[:2] == ["ckpt1", "ckpt2"]
