"""A whole run in small: it learns, says the same whatever the number of processes, and loses nothing when stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train as train_script
from common.errors import UserError
from config import Config
from eval import epoch as epoch_end
from training.checkpoint import load_for_inference, read_meta, verify
from training.metrics import read_metrics

REPOSITORY = Path(__file__).resolve().parents[2]


def steps_of(run: str = "t") -> list[dict[str, Any]]:
    return read_metrics(Path("runs") / run / "metrics.jsonl", "step")


def epochs_of(run: str = "t") -> list[dict[str, Any]]:
    return read_metrics(Path("runs") / run / "metrics.jsonl", "epoch")


def weights_of(name: str, run: str = "t") -> bytes:
    return (Path("runs") / run / name / "model.safetensors").read_bytes()


def copy_of(config: Config, run: str, **changes: Any) -> Config:
    """The same inputs under another run name, with other [train] settings."""
    shutil.copytree(
        Path("runs") / config.run, Path("runs") / run, ignore=shutil.ignore_patterns("ckpt*", "*.jsonl", "config.toml")
    )
    return replace(config, run=run, train=replace(config.train, **changes))


def test_a_run_learns_and_leaves_a_checkpoint_an_epoch(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    result = train_script.train(config)
    epochs = epochs_of()
    assert result["epochs"] == epochs
    assert [e["checkpoint"] for e in epochs] == ["ckpt1", "ckpt2"]
    assert epochs[1]["val_loss"] < epochs[0]["val_loss"] < np.log(320)
    assert epochs[1]["val_ppl"] == pytest.approx(np.exp(epochs[1]["val_loss"]))
    steps = steps_of()
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    # Tokens per second are of the step that they stand beside: the steps' times add up to the time that was trained.
    assert sum(s["targets"] / s["tokens_per_s"] for s in steps) == pytest.approx(epochs[-1]["seconds"], rel=0.02)
    assert read_meta(Path("runs/t/ckpt2"))["metrics"]["val_bpb"] == epochs[1]["val_bpb"]
    for name in ("ckpt1", "ckpt2"):
        model, tok, meta = load_for_inference(Path("runs/t") / name)
        assert model.shape.vocab_size == tok.vocab_size
        assert meta["config"]["train"]["epochs"] == 2
    out = capsys.readouterr().out
    assert "best epoch" in out
    assert "eval/compare.py ckpt1 ckpt2" in out


def test_same_seed_same_weights_and_another_seed_others(config: Config) -> None:
    train_script.train(config)
    train_script.train(copy_of(config, "again"))
    train_script.train(copy_of(config, "other", seed=1))
    assert weights_of("ckpt2") == weights_of("ckpt2", "again")
    assert weights_of("ckpt2") != weights_of("ckpt2", "other")


def test_accumulation_gives_the_same_loss_curve(config: Config) -> None:
    """fp32 sums in another order differ in the last bits: by 3.3e-6 at most in these two epochs; 1e-4 is allowed."""
    whole = replace(config, train=replace(config.train, micro_batch=8))
    train_script.train(whole)
    for micro_batch in (2, 3):
        run = f"micro{micro_batch}"
        train_script.train(copy_of(config, run, micro_batch=micro_batch))
        assert_same_curve(steps_of(), steps_of(run))


@pytest.mark.parametrize("extra", [[], ["--micro_batch", "1"]])
def test_two_processes_give_the_loss_curve_of_one(config: Config, extra: list[str]) -> None:
    train_script.train(config)
    two = copy_of(config, "two")
    with two.claimed("train"):
        pass
    torchrun(["--run-name", "two", *extra], processes=2)
    assert_same_curve(steps_of(), steps_of("two"))
    one, many = epochs_of()[-1], epochs_of("two")[-1]
    assert many["val_loss"] == pytest.approx(one["val_loss"], abs=1e-4)
    assert (many["val_documents"], many["val_tokens"]) == (one["val_documents"], one["val_tokens"])


def assert_same_curve(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert [(s["step"], s["lr"], s["tokens"]) for s in first] == [(s["step"], s["lr"], s["tokens"]) for s in second]
    assert [s["loss"] for s in second] == pytest.approx([s["loss"] for s in first], abs=1e-4)


def test_a_users_mistake_is_said_once_and_ends_all_ranks(config: Config) -> None:
    with config.claimed("train"):
        pass
    Path("runs/t/metrics.jsonl").touch()
    done = torchrun(["--run-name", "t", "--epochs", "7"], processes=2, expected=1)  # torchrun makes 1 of our 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        "error: runs/t already holds the output of another configuration ([train] epochs: 2 -> 7): nothing is "
        "overwritten; take another name with --run, or go on with --change epochs"
    ]
    assert "Connection" not in done.stderr  # no rank was left waiting for another


def torchrun(
    arguments: list[str], processes: int = 1, timeout: float = 240, expected: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
               str(REPOSITORY / "train.py"), *arguments]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == expected, done.stderr[-3000:]
    return done


class StopAt:
    """Sends this process a signal when the given step has been taken, by way of the function that takes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number, self.taken, self.original = step, number, 0, train_script.train_step
        monkeypatch.setattr(train_script, "train_step", self)

    def __call__(self, *args: Any) -> Any:
        result = self.original(*args)
        self.taken += 1
        if self.taken == self.step:
            os.kill(os.getpid(), self.number)
        return result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [3, "last of epoch 1"])
def test_a_signal_saves_and_the_same_command_ends_with_the_same_weights(
    config: Config, monkeypatch: pytest.MonkeyPatch, step: Any, number: int
) -> None:
    train_script.train(copy_of(config, "whole"))
    if step == "last of epoch 1":
        step = max(s["step"] for s in steps_of("whole") if s["epoch"] == 1)
    stopped = StopAt(monkeypatch, step, number)
    assert train_script.train(config)["interrupted"]
    assert stopped.taken == step
    saved = [path for path in Path("runs/t").iterdir() if path.name.startswith(("ckpt", "step-"))]
    assert [verify(path)["step"] for path in saved] == [step]
    load_for_inference(saved[0])
    assert not train_script.train(config, resume=True)["interrupted"]
    assert weights_of("ckpt2") == weights_of("ckpt2", "whole")
    assert [s["loss"] for s in steps_of()] == [s["loss"] for s in steps_of("whole")]
    timeless = [{k: v for k, v in e.items() if "seconds" not in k} for e in epochs_of()]
    assert timeless == [{k: v for k, v in e.items() if "seconds" not in k} for e in epochs_of("whole")]


def test_a_crash_in_validation_keeps_the_epochs_checkpoint_and_resumes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_script.train(copy_of(config, "whole"))

    def crash(*_: Any, **__: Any) -> None:
        raise MemoryError("validation does not fit")

    with monkeypatch.context() as patched:
        patched.setattr(epoch_end, "validate", crash)
        with pytest.raises(MemoryError):
            train_script.train(config)
    load_for_inference(Path("runs/t/ckpt1"))
    train_script.train(config)
    assert weights_of("ckpt2") == weights_of("ckpt2", "whole")
    assert [e["val_loss"] for e in epochs_of()] == [e["val_loss"] for e in epochs_of("whole")]


def test_a_finished_run_is_left_alone_by_the_same_command_and_refuses_another(config: Config) -> None:
    train_script.train(config)
    before = {p: p.read_bytes() for p in Path("runs/t").rglob("*") if p.is_file()}
    train_script.train(config)
    assert {p: p.read_bytes() for p in Path("runs/t").rglob("*") if p.is_file()} == before
    with pytest.raises(UserError, match="--run"):
        train_script.train(replace(config, train=replace(config.train, epochs=5)))
    assert {p: p.read_bytes() for p in Path("runs/t").rglob("*") if p.is_file()} == before


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_taken(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_script.train(config)
    before = weights_of("ckpt2")
    file = Path("runs/t/ckpt2/model.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    capsys.readouterr()
    train_script.train(config)
    out = capsys.readouterr().out
    assert "ckpt2/model.safetensors is not the file that was written" in out
    assert "continuing from runs/t/ckpt1" in out
    assert weights_of("ckpt2") == before


def test_only_the_newest_two_checkpoints_can_be_resumed_from(config: Config) -> None:
    train_script.train(replace(config, train=replace(config.train, epochs=4)))
    assert [n for n in range(1, 5) if Path(f"runs/t/ckpt{n}/trainer").exists()] == [3, 4]
    for n in range(1, 5):
        load_for_inference(Path(f"runs/t/ckpt{n}"))


def test_resume_without_a_checkpoint_and_a_changed_corpus_are_refused(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for fresh in (config, replace(config, run="another")):
        with pytest.raises(UserError, match="no checkpoint to continue from"):
            train_script.train(fresh, resume=True)
    assert capsys.readouterr().out == ""  # nothing was planned or made for it
    assert not Path("runs/t/config.toml").exists()
    assert not Path("runs/another").exists()
    train_script.train(config)
    manifest = Path("runs/t/corpus/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "fingerprint": "changed"}))
    with pytest.raises(UserError, match="another corpus"):
        train_script.train(config)


def test_steps_whose_every_target_is_a_prompt_token_change_nothing_and_the_run_goes_on(config: Config) -> None:
    """Prompts longer than the row: whole batches without a weighted target, where 0/0 would be NaN."""
    short = replace(config, model=replace(config.model, seq_len=8))
    train_script.train(replace(short, train=replace(config.train, prompt_loss_weight=0.0, batch_tokens=8, epochs=1)))
    losses = [s["loss"] for s in steps_of()]
    assert None in losses  # such a step has none
    assert all(np.isfinite([loss for loss in losses if loss is not None]))
    assert np.isfinite(epochs_of()[-1]["val_loss"])


def test_bf16_runs_and_falls(config: Config) -> None:
    train_script.train(replace(config, train=replace(config.train, precision="bf16")))
    assert epochs_of()[-1]["val_loss"] < epochs_of()[0]["val_loss"]
    assert load_for_inference(Path("runs/t/ckpt2"))[0].head.dtype == torch.float32


def test_compiled_gives_the_eager_loss_curve(config: Config) -> None:
    small = replace(config.model, num_layers=1, num_heads=1)  # compiling takes its time by layers
    config = replace(config, model=small, train=replace(config.train, epochs=1))
    train_script.train(config)
    train_script.train(copy_of(config, "compiled", compile=True))
    assert_same_curve(steps_of(), steps_of("compiled"))
    names = load_for_inference(Path("runs/compiled/ckpt1"))[0].state_dict()
    assert not any("_orig_mod" in name for name in names)


def test_plan_says_what_would_happen_and_trains_nothing(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    train_script.train(config, plan_only=True)
    out = capsys.readouterr().out
    for word in ("parameters", "target tokens", "filled", "steps:", "FLOPs", "GiB", "micro-batch"):
        assert word in out
    assert not Path("runs/t/metrics.jsonl").exists()


def test_a_checkpoint_opens_in_transformers_with_our_logits(config: Config) -> None:
    transformers = pytest.importorskip("transformers")
    train_script.train(config)
    model, tok, _ = load_for_inference(Path("runs/t/ckpt2"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained("runs/t/ckpt2", dtype=torch.float32)
    auto = transformers.AutoTokenizer.from_pretrained("runs/t/ckpt2")
    ids = torch.tensor([auto("The red stone.")["input_ids"]])
    assert ids[0].tolist() == [1, *tok.encode("The red stone.")]
    with torch.no_grad():
        ours = model.logits(model(ids))
        assert torch.allclose(theirs(ids).logits, ours, atol=1e-4)


@pytest.mark.parametrize("name", ["optimizer.safetensors", "rng.safetensors"])
def test_a_checkpoint_without_its_trainer_files_is_passed_over(config: Config, name: str) -> None:
    train_script.train(config)
    (Path("runs/t/ckpt2/trainer") / name).unlink()
    before = weights_of("ckpt2")
    load_for_inference(Path("runs/t/ckpt2"))
    train_script.train(config)  # from ckpt1, to the same end
    assert weights_of("ckpt2") == before


def test_a_lost_log_is_begun_anew_and_the_run_goes_on(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    StopAt(monkeypatch, 3)
    train_script.train(config)
    Path("runs/t/metrics.jsonl").unlink()
    train_script.train(config)
    assert "earlier steps are missing" in capsys.readouterr().out
    assert steps_of()[0]["step"] == 4
    assert len(epochs_of()) == 2


def test_a_run_whose_checkpoints_cannot_be_continued_is_not_overwritten(config: Config) -> None:
    train_script.train(config)
    shutil.rmtree("runs/t/ckpt1/trainer")
    shutil.rmtree("runs/t/ckpt2/trainer")
    before = {p: p.read_bytes() for p in Path("runs/t").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="nothing is overwritten"):
        train_script.train(config)
    assert {p: p.read_bytes() for p in Path("runs/t").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"files": 3, "step": 1}'])
def test_a_damaged_loam_json_is_named_and_the_checkpoint_before_is_taken(
    config: Config, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    train_script.train(config)
    Path("runs/t/ckpt2/loam.json").write_text(content)
    with pytest.raises(UserError, match=r"loam\.json is damaged"):
        load_for_inference(Path("runs/t/ckpt2"))
    train_script.train(config)
    assert "continuing from runs/t/ckpt1" in capsys.readouterr().out
    load_for_inference(Path("runs/t/ckpt2"))


def test_divergence_ends_the_run_with_one_line_and_saves_nothing_of_it(config: Config) -> None:
    # Under Muon's bounded updates the norms keep any rate finite: AdamW's decay, lr x 0.1 > 2, makes weights grow.
    wild = replace(config, train=replace(config.train, optimizer="adamw", lr=1e5, grad_clip=0.0, epochs=5))
    with pytest.raises(UserError, match="training diverged at step"):
        train_script.train(wild)
    for name in Path("runs/t").glob("ckpt*"):
        model, _, _ = load_for_inference(name)
        assert all(torch.isfinite(p).all() for p in model.parameters())
    assert "NaN" not in Path("runs/t/metrics.jsonl").read_text()


def test_weights_that_leave_no_document_are_refused(config: Config) -> None:
    manifest = Path("runs/t/corpus/manifest.json")
    sources = [{"name": "prose", "weight": 1e-9}, {"name": "qa", "weight": 1e-9}]
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sources": sources}))
    with pytest.raises(UserError, match="weight"):
        train_script.train(config)
    assert not Path("runs/t/metrics.jsonl").exists()


def test_continuing_with_another_micro_batch_warns(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    StopAt(monkeypatch, 3)
    train_script.train(config)
    train_script.train(replace(config, train=replace(config.train, micro_batch=1)))
    assert "micro_batch 8 -> 1" in capsys.readouterr().out


def test_dropout_masks_are_those_of_the_step_so_resume_is_exact(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, model=replace(config.model, dropout=0.2))
    train_script.train(copy_of(config, "whole"))
    StopAt(monkeypatch, 5)
    assert train_script.train(config)["interrupted"]
    train_script.train(config)
    assert weights_of("ckpt2") == weights_of("ckpt2", "whole")


def test_an_echo_of_the_signal_does_not_kill_what_is_being_saved(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun forwards a SIGTERM that the scheduler sent to every process already."""
    twice = StopAt(monkeypatch, 3)
    original = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: (original(pid, number), original(pid, number)))
    assert train_script.train(config)["interrupted"]
    assert twice.taken == 3
    assert verify(Path("runs/t/step-000003"))["step"] == 3


def test_plan_leaves_the_runs_settings_alone(config: Config) -> None:
    train_script.train(replace(config, train=replace(config.train, epochs=7)), plan_only=True)
    assert not Path("runs/t/config.toml").exists()


def test_a_plan_of_a_run_that_is_in_use_only_reads_where_its_tokens_are_there(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with config.claimed("train"), pytest.raises(UserError, match="is in use by process"):
        train_script.train(config, plan_only=True)  # it would have to write tokens
    train_script.train(config, plan_only=True)
    with config.claimed("train"):
        before = {path: path.read_bytes() for path in Path("runs/t").rglob("*") if path.is_file()}
        capsys.readouterr()
        train_script.train(config, plan_only=True)
        assert {path: path.read_bytes() for path in Path("runs/t").rglob("*") if path.is_file()} == before
        out = capsys.readouterr().out
        assert "note: runs/t is in use by process" in out
        assert "only reads" in out
        assert "steps: " in out
        with pytest.raises(UserError, match="is in use by process"):
            train_script.train(config)
