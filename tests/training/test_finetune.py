"""Fine-tuning by the same loop: answers alone are trained, from a copy of a checkpoint, exactly resumed, with adapters
or without."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import train as train_script
import training.start as start_module
from common.errors import UserError
from config import Config
from data.tokens import Tokens, open_tokens
from model.config import ModelConfig
from tests.training.conftest import write_corpus
from tests.training.ranks import LOSS_TOLERANCE, Ranks
from tokenizer.dialog import open_dialog
from tokenizer.responses import sound_responses
from training.checkpoint import load_for_inference, read_meta, verify
from training.config import TrainConfig
from training.metrics import read_metrics
from training.preflight import preflight
from training.start import open_start, source_of


@pytest.fixture
def tuning(config: Config) -> Config:
    """A run `ft` with a corpus of its own, that starts from an epoch of `t`."""
    train_script.train(replace(config, train=replace(config.train, epochs=1, samples=0, average=False)))
    write_corpus(Path("runs/ft/corpus"), {"train": 120, "val": 20, "test": 20})
    settings = {"stage": "finetune", "init_from": "t/ckpt1", "epochs": 2, "average": False, "samples": 2}
    return replace(
        config,
        run="ft",
        model=ModelConfig(),
        train=TrainConfig(**{**vars(config.train), **settings}),
    )


def adapted(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, lora_rank=4, **changes))


def weights(name: str, run: str = "ft") -> dict[str, torch.Tensor]:
    return load_file(Path("runs") / run / name / "model.safetensors")


def epochs_of(run: str = "ft") -> list[dict[str, Any]]:
    return read_metrics(Path("runs") / run / "metrics.jsonl", "epoch")


def validation_rows() -> Tokens:
    run = Path("runs/ft")
    dialog = open_dialog(run / "tokenizer")
    stem, _ = sound_responses(run / "corpus", "val", run / "tokenizer", dialog, 48, run / "tokens", "shorten")
    return open_tokens(stem, dialog.vocab_size)


def answers_loss(name: str) -> tuple[float, int]:
    """Mean nats of the validation split's trained targets, document by document, and how many there are."""
    model, _, _ = load_for_inference(Path("runs/ft") / name)
    tokens = validation_rows()
    assert tokens.trained is not None
    nats, number = 0.0, 0
    for i in range(len(tokens)):
        ids = torch.from_numpy(tokens.document(i).astype("int64"))
        place = slice(int(tokens.offsets[i]) + 1, int(tokens.offsets[i] + tokens.lengths[i]))
        marks = torch.from_numpy((tokens.trained[place] > 0).copy())
        with torch.no_grad():
            logits = model.logits(model(ids[None, :-1]))[0].float()
        each = F.cross_entropy(logits, ids[1:], reduction="none")[marks]
        nats, number = nats + float(each.double().sum()), number + int(marks.sum())
    return nats / number, number


@pytest.mark.parametrize("rank", [0, 4])
def test_fine_tuning_learns_answers_and_its_figures_are_of_answers(
    tuning: Config, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    train_script.train(replace(tuning, train=replace(tuning.train, lora_rank=rank)))
    said = capsys.readouterr().out
    before, _ = answers_loss("init")
    for event in epochs_of():
        loss, number = answers_loss(event["checkpoint"])
        assert event["val_loss"] == pytest.approx(loss, rel=1e-4)
        assert event["val_tokens"] == number
    assert epochs_of()[-1]["val_loss"] < before - 0.1
    meta = read_meta(Path("runs/ft/ckpt2"))
    assert meta["config"]["train"]["prompt_loss_weight"] == 0
    assert meta["init"]["from"] == "runs/t/ckpt1"
    assert meta["dialog"] == "loam"
    assert "train: 90 rows of 120 documents" in said
    assert "30 texts left out" in said
    assert "[[" in said
    assert said.count("answers end by themselves within") == 2
    verify(Path("runs/ft/ckpt2"), to_resume=True)


def test_a_token_that_is_not_trained_gives_no_gradient(tuning: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    original = train_script.train_step

    def step(model: Any, optimizers: Any, loss_of: Any, step: Any, *rest: Any) -> Any:
        seen.append((step.weight_sum, float(sum(batch.weights.sum() for batch in step.micro_batches))))
        assert all(set(batch.weights.ravel().tolist()) <= {0.0, 1.0} for batch in step.micro_batches)
        assert step.weight_sum < step.num_targets
        return original(model, optimizers, loss_of, step, *rest)

    monkeypatch.setattr(train_script, "train_step", step)
    train_script.train(replace(tuning, train=replace(tuning.train, epochs=1, samples=0)))
    assert seen
    assert all(told == counted > 0 for told, counted in seen)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tuning: Config, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    tuning = replace(tuning, train=replace(tuning.train, lora_rank=rank, lora_dropout=0.1 if rank else 0.0, samples=0))
    shutil.copytree("runs/ft", "runs/again")
    train_script.train(tuning)
    other = replace(tuning, run="again")
    original, counted = train_script.train_step, {"steps": 0}

    def step(*args: Any) -> Any:
        result = original(*args)
        counted["steps"] += 1
        if counted["steps"] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(train_script, "train_step", step)
        assert train_script.train(other)["interrupted"]
    shutil.rmtree("runs/t")  # what it started from is not needed any more
    assert not train_script.train(other)["interrupted"]
    for name in ("ckpt1", "ckpt2"):
        one, two = weights(name), weights(name, "again")
        assert all(torch.equal(one[key], two[key]) for key in one)
    keep = ("event", "step", "epoch", "loss", "val_loss", "val_bpb")
    for kind in ("step", "epoch"):
        one_log, other_log = (read_metrics(Path("runs") / run / "metrics.jsonl", kind) for run in ("ft", "again"))
        assert [{k: e.get(k) for k in keep} for e in one_log] == [{k: e.get(k) for k in keep} for e in other_log]


def test_adapters_leave_the_embedding_and_stand_beside_the_merged_model(
    tuning: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    train_script.train(adapted(tuning, average=True, epochs=4))
    assert not list(Path("runs/ft").glob("ckpt*-*"))  # the mean of merged weights is not that of adapters
    assert "adapters of rank 4" in capsys.readouterr().out
    before, after = weights("init"), weights("ckpt4")
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    config = json.loads(Path("runs/ft/ckpt4/adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8.0)
    files = read_meta(Path("runs/ft/ckpt4"))["files"]
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= files.keys()
    state = load_file("runs/ft/ckpt4/trainer/optimizer.safetensors")
    assert {name.split(".")[-2] for name in state} == {"lora_A", "lora_B"}


@pytest.mark.parametrize(("parallel", "rank"), [("ddp", 0), ("ddp", 4), ("fsdp", 0), ("fsdp", 4)])
def test_processes_share_the_work_and_the_losses_are_those_of_one(
    tuning: Config, ranks: Ranks, parallel: Literal["ddp", "fsdp"], rank: int
) -> None:
    tuning = replace(tuning, train=replace(tuning.train, epochs=1, samples=0, lora_rank=rank))
    shutil.copytree("runs/ft", "runs/two")
    train_script.train(tuning)
    ranks.train(replace(tuning, run="two", train=replace(tuning.train, parallel=parallel)), 2)
    one, two = (
        [e["loss"] for e in read_metrics(Path("runs") / run / "metrics.jsonl", "step")] for run in ("ft", "two")
    )
    assert two == pytest.approx(one, rel=10 * LOSS_TOLERANCE)
    assert epochs_of("two")[0]["val_loss"] == pytest.approx(epochs_of()[0]["val_loss"], rel=10 * LOSS_TOLERANCE)


def test_the_plan_writes_no_checkpoint_and_shows_a_row(tuning: Config, capsys: pytest.CaptureFixture[str]) -> None:
    train_script.train(tuning, plan_only=True)
    said = capsys.readouterr().out
    assert "<|assistant|>[[" in said
    assert "<|eos|>]]" in said
    assert not list(Path("runs/ft").glob("ckpt*"))


def test_colours_tell_what_is_trained_on_a_terminal(tuning: Config) -> None:
    train_script.train(tuning, plan_only=True)
    dialog = open_dialog(Path("runs/ft/tokenizer"))
    line = preflight(validation_rows(), dialog, 48, colours=True)[-1]
    read, _, rest = line.partition("\x1b[32m")
    trained, _, behind = rest.partition("\x1b[0m")
    assert read.strip().startswith("\x1b[2m<|bos|><|user|>What color is the")
    assert trained.startswith("The ")
    assert trained.endswith("<|eos|>")
    assert behind == ""


MISTAKES = [
    ({"init_from": None}, {}, "--stage finetune needs a checkpoint"),
    ({"init_from": "t/ckpt9"}, {}, "no such checkpoint"),
    ({"init_from": "runs/t/metrics.jsonl"}, {}, "is a file; a run starts from a folder"),
    ({}, {"hidden_size": 64}, "has 32, and a start fixes all sizes"),
    ({}, {"preset": "small"}, "preset small, num_layers 6: .* has 2, and a start fixes all sizes"),
    ({}, {"seq_len": 4096}, "is 48"),
    ({"lora_rank": 999}, {}, "lora_rank 999"),
    ({"lora_rank": 4, "lora_targets": ["head"]}, {}, "lora_targets 'head'"),
]


@pytest.mark.parametrize(("changed", "model", "said"), MISTAKES)
def test_mistakes_are_one_line(tuning: Config, changed: dict[str, Any], model: dict[str, Any], said: str) -> None:
    wrong = replace(tuning, model=replace(tuning.model, **model), train=replace(tuning.train, **changed))
    with pytest.raises(UserError, match=said):
        train_script.train(wrong)
    assert not list(Path("runs/ft").glob("ckpt*"))


def test_settings_that_contradict_each_other_are_one_line() -> None:
    with pytest.raises(UserError, match="answers alone"):
        TrainConfig(stage="finetune", prompt_loss_weight=0.5)
    with pytest.raises(UserError, match="adapters are for --stage finetune"):
        TrainConfig(lora_rank=4)
    with pytest.raises(UserError, match="which lora_rank asks for"):
        TrainConfig(stage="finetune", lora_alpha=8.0)


def test_a_run_with_another_tokenizer_is_refused(tuning: Config) -> None:
    shutil.copytree("runs/t/tokenizer", "runs/ft/tokenizer")
    file = Path("runs/ft/tokenizer/tokenizer.json")
    file.write_text(file.read_text() + "\n")
    with pytest.raises(UserError, match="is not the tokenizer of"):
        train_script.train(tuning)


def test_a_start_that_was_changed_is_refused(tuning: Config) -> None:
    train_script.train(tuning, plan_only=True)
    file = Path("runs/ft/init/config.json")
    content = file.read_text()
    file.unlink()
    file.write_text(content + " ")
    with pytest.raises(UserError, match=r"config\.json is not what the run started from"):
        train_script.train(tuning)


def test_pretraining_goes_on_from_a_checkpoint_too(tuning: Config) -> None:
    more = replace(tuning, train=replace(tuning.train, stage="pretrain", prompt_loss_weight=1.0, epochs=1))
    train_script.train(more)
    _, _, meta = load_for_inference(Path("runs/ft/ckpt1"))
    assert meta["config"]["train"]["prompt_loss_weight"] == 1.0
    before = epochs_of("t")[0]["val_loss"]
    assert epochs_of()[0]["val_loss"] < before


def changed_start(config: Config, start: str) -> Config:
    return replace(config, train=replace(config.train, init_from=start, epochs=1, samples=0))


def test_another_start_takes_the_place_of_a_planned_one_until_the_run_has_begun(tuning: Config) -> None:
    train_script.train(tuning, plan_only=True)
    shutil.copytree("runs/t/ckpt1", "other")
    train_script.train(changed_start(tuning, "other"))
    assert read_meta(Path("runs/ft/ckpt1"))["init"]["from"] == "other"
    again = changed_start(tuning, "t/ckpt1")
    assert source_of(again.train, Path("runs/ft")) == Path("runs/ft/init")
    with pytest.raises(UserError, match="init_from: 'other' -> 't/ckpt1'"):
        train_script.train(again)


def test_a_planned_start_is_no_start_of_a_run_that_has_none(tuning: Config) -> None:
    train_script.train(tuning, plan_only=True)
    assert open_start(TrainConfig(), ModelConfig(), Path("runs/ft")) is None


def test_a_kill_between_the_tokenizer_and_the_start_leaves_a_run_that_begins(
    tuning: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = start_module.atomic_folder
    for killed in ("tokenizer", "init"):
        shutil.rmtree("runs/ft/tokenizer", ignore_errors=True)

        def folder(path: Path, killed: str = killed) -> Any:
            if path.name == killed:
                raise KeyboardInterrupt
            return original(path)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(start_module, "atomic_folder", folder)
            train_script.train(tuning)
        train_script.train(tuning, plan_only=True)
        shutil.rmtree("runs/ft/init")


def test_a_start_with_adapters_is_whole_in_its_copy(tuning: Config) -> None:
    train_script.train(adapted(tuning, epochs=1, samples=0))
    write_corpus(Path("runs/more/corpus"), {"train": 120, "val": 20, "test": 20})
    train_script.train(replace(changed_start(tuning, "ft/ckpt1"), run="more"), plan_only=True)
    verify(Path("runs/more/init"))
    load_for_inference(Path("runs/more/init"))


def test_a_transformers_folder_with_loams_template_is_loams(tuning: Config) -> None:
    shutil.copytree("runs/t/ckpt1", "bare")
    Path("bare/loam.json").unlink()
    train_script.train(changed_start(tuning, "bare"))
    assert read_meta(Path("runs/ft/ckpt1"))["dialog"] == "loam"
    load_for_inference(Path("runs/ft/ckpt1"))
