"""Updates that would do harm are left out on all ranks; a run that only does harm goes back, and then gives up."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train as train_script
from common.errors import UserError
from config import Config
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from training import trouble
from training.checkpoint import load_for_inference
from training.config import TrainConfig
from training.metrics import read_metrics
from training.optimizer import make_optimizers
from training.step import update
from training.trouble import IN_A_ROW, SIGMAS, WINDOW, Recent

CPU = torch.device("cpu")


def filled(seed: int, number: int = WINDOW) -> Recent:
    recent, random = Recent(CPU), np.random.default_rng(seed)
    for _ in range(number):
        assert not recent.harmful(*(torch.tensor(x) for x in random.normal((3.0, 1.0), (0.1, 0.2))))
    return recent


def harmful(recent: Recent, loss: float, norm: float) -> bool:
    return bool(recent.harmful(torch.tensor(loss), torch.tensor(norm)))


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_is_a_loss_and_a_norm_far_above_the_last_steps(seed: int) -> None:
    values = filled(seed).values.double()
    mean, deviation = values.mean(0).tolist(), values.std(0).tolist()
    below, above = ([m + x * SIGMAS * d for m, d in zip(mean, deviation, strict=True)] for x in (0.99, 1.01))
    assert harmful(filled(seed), above[0], above[1])
    assert not harmful(filled(seed), above[0], below[1])  # a rare document: a loss like no other, an ordinary gradient
    assert not harmful(filled(seed), below[0], above[1])
    assert not harmful(filled(seed), 0.0, 0.0)
    assert not harmful(filled(seed, WINDOW - 1), 100.0, 100.0)  # too few steps to judge by


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_harmful_from_the_first_step_and_not_remembered(bad: float) -> None:
    recent = filled(0, 5)
    before = recent.state()
    assert harmful(recent, bad, 1.0)
    assert harmful(recent, 3.0, bad)
    assert recent.state() == before


def test_a_new_level_of_the_loss_is_a_spike_only_for_so_long() -> None:
    recent = filled(0)
    flags = [harmful(recent, 6.0, 4.0) for _ in range(WINDOW)]
    assert flags[0]
    assert sum(flags) < IN_A_ROW


@pytest.mark.parametrize("number", [0, 5, WINDOW, 3 * WINDOW + 7])
def test_what_is_remembered_survives_json_exactly(number: int) -> None:
    recent = filled(1, number)
    again = Recent(CPU, json.loads(json.dumps(recent.state())))
    assert torch.equal(again.values, recent.values)
    assert torch.equal(again.number, recent.number)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), 1e30])
def test_an_update_that_is_left_out_changes_neither_weights_nor_optimizer(
    optimizer: Any, waits: bool, bad: float
) -> None:
    """waits False is how a GPU is told, without asking it."""

    def some_updates(flags: list[bool]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        shape = ModelConfig(num_layers=1, hidden_size=32, num_heads=2, num_kv_heads=1, seq_len=16)
        model = Decoder(resolve_shape(shape, 300))
        optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer), 1e-2, 1e-2, 0.1)
        random = torch.Generator().manual_seed(1)
        for flag in flags:
            for parameter in model.parameters():
                if flag:
                    parameter.grad = torch.full_like(parameter, bad)
                else:
                    parameter.grad = torch.randn(parameter.shape, generator=random)
            update(optimizers, torch.tensor(flag), waits)
        state = {f"{n}.{k}": v for o in optimizers for n, s in enumerate(o.state.values()) for k, v in s.items()}
        return {**{name: p.detach() for name, p in model.named_parameters()}, **state}

    left_out = some_updates([False, True, False, True, True, False])
    never_there = some_updates([False, False, False])
    assert left_out.keys() == never_there.keys()
    for name, value in left_out.items():
        assert torch.equal(value, never_there[name]), name


class Planted:
    """Makes losses NaN: of the steps (counted over the whole process) that `bad` holds, or while `bad` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: Any) -> None:
        self.bad, self.asked, original = bad, -1, train_script.loss_function  # the rehearsal asks first
        self.seen: list[Any] = []

        def loss_function(model: Decoder, compiled: bool) -> Any:
            loss_of = original(model, compiled)

            def planted(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
                self.asked += 1
                is_bad = self.asked > 0 and (self.bad(ids) if callable(self.bad) else self.asked in self.bad)
                return loss_of(ids, *rest) * (float("nan") if is_bad else 1.0)

            return planted

        monkeypatch.setattr(train_script, "loss_function", loss_function)


def events(kind: str) -> list[dict[str, Any]]:
    return read_metrics(Path("runs/t/metrics.jsonl"), kind)


def one_row(config: Config, **changes: Any) -> Config:
    """One micro-batch a step, as many steps as rows."""
    return replace(config, train=replace(config.train, batch_tokens=48, micro_batch=1, epochs=2, **changes))


def test_one_bad_step_is_left_out_and_said_and_the_run_goes_on(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Planted(monkeypatch, {3, 7})
    train_script.train(one_row(config))
    steps = events("step")
    assert [s["step"] for s in steps if s.get("left_out")] == [3, 7]
    assert [s["loss"] for s in steps if s.get("left_out")] == [None, None]
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    assert "step 3: the update is left out (loss nan" in capsys.readouterr().out
    assert np.isfinite([e["train_loss"] for e in events("epoch")]).all()
    assert not events("went_back")


def test_bad_steps_in_a_row_send_the_run_back_past_their_data_at_a_lower_rate(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a piece of data would that makes every model's loss NaN."""
    config = one_row(config, save_steps=10)
    train_script.train(replace(config, train=replace(config.train, epochs=1)), plan_only=True)
    seen: list[bytes] = []

    def bad(ids: torch.Tensor) -> bool:  # the data of steps 15 to 22, whenever it comes
        if (key := ids.numpy().tobytes()) not in seen:
            seen.append(key)
        return 14 <= seen.index(key) < 14 + IN_A_ROW

    Planted(monkeypatch, bad)
    train_script.train(config)
    (back,) = events("went_back")
    assert (back["step"], back["to_step"]) == (14 + IN_A_ROW, 10)
    assert back["passed_over"] == [[0, n] for n in range(15, 15 + IN_A_ROW)]
    steps = events("step")
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    whole_rate = [s["lr"] for s in steps[:10]]
    assert steps[10]["lr"] < 0.6 * max(whole_rate) or steps[10]["lr"] == pytest.approx(trouble.SLOWER * 0.01, rel=0.5)
    load_for_inference(Path("runs/t/ckpt2"))


def test_weights_that_became_nan_are_put_back(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config, original, counted = one_row(config, save_steps=10), train_script.train_step, {"steps": 0}

    def step(model: Decoder, *rest: Any) -> Any:
        counted["steps"] += 1
        if counted["steps"] == 15:
            with torch.no_grad():
                next(model.parameters())[0, 0] = float("nan")
        return original(model, *rest)

    monkeypatch.setattr(train_script, "train_step", step)
    train_script.train(config)
    assert [(e["step"], e["to_step"]) for e in events("went_back")] == [(14 + IN_A_ROW, 10)]
    for name in ("ckpt1", "ckpt2"):
        model, _, _ = load_for_inference(Path("runs/t") / name)
        assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_run_that_went_back_too_often_names_the_documents(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    Planted(monkeypatch, lambda ids: True)
    with pytest.raises(UserError, match=r"training diverged at step .*documents of the last one: \d-\d+ \(") as error:
        train_script.train(one_row(config))
    report = json.loads(Path("runs/t/trouble.json").read_text())
    assert len(report["left_out"]) == IN_A_ROW
    assert report["documents"][0]["id"] in str(error.value)
    assert not list(Path("runs/t").glob("ckpt*"))
    with pytest.raises(UserError, match="training diverged"):  # and again: nothing was written that hides it
        train_script.train(one_row(config))


def test_a_run_that_went_back_and_was_killed_ends_with_the_same_weights(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original = one_row(config, save_steps=10), train_script.train_step
    seen: list[bytes] = []

    def bad(ids: torch.Tensor) -> bool:
        if (key := ids.numpy().tobytes()) not in seen:
            seen.append(key)
        return 14 <= seen.index(key) < 14 + IN_A_ROW

    Planted(monkeypatch, bad)
    train_script.train(config)
    whole = (Path("runs/t/ckpt2/model.safetensors")).read_bytes()
    losses = [s["loss"] for s in events("step")]
    for path in [*Path("runs/t").glob("ckpt*"), *Path("runs/t").glob("step-*")]:
        shutil.rmtree(path)
    Path("runs/t/metrics.jsonl").unlink()
    Path("runs/t/config.toml").unlink()
    for crash_at in (24, 30):  # behind the way back, before and after the next save
        counted = {"steps": 0}

        def step(*args: Any, crash_at: int = crash_at, counted: dict[str, int] = counted) -> Any:
            counted["steps"] += 1
            if counted["steps"] == crash_at:
                raise RuntimeError("killed")
            return original(*args)

        monkeypatch.setattr(train_script, "train_step", step)
        with pytest.raises(RuntimeError, match="killed"):
            train_script.train(config)
    monkeypatch.setattr(train_script, "train_step", original)
    train_script.train(config)
    assert Path("runs/t/ckpt2/model.safetensors").read_bytes() == whole
    assert [s["loss"] for s in events("step")] == losses
