"""Averages of epochs: the mean is the mean, the best one is kept only if it is better, and it is a whole checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train as train_script
from common.errors import UserError
from common.runs import checkpoints, find_checkpoint
from config import Config
from eval import epoch as epoch_end
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from model.huggingface import save_model
from training.average import best_mean, last_epochs, mean, name_of, put
from training.checkpoint import load_for_inference, read_meta, verify


@pytest.mark.parametrize(
    ("epochs", "numbers"),
    [(1, [1]), (2, [2]), (3, [3, 2]), (4, [4, 3]), (5, [5, 4, 3]), (10, [10, 9, 8, 7, 6]), (40, [40, 39, 38, 37, 36])],
)
def test_half_of_the_epochs_are_tried_and_none_beyond_a_gap(tmp_path: Path, epochs: int, numbers: list[int]) -> None:
    for epoch in range(1, epochs + 1):
        (tmp_path / f"ckpt{epoch}").mkdir()
        (tmp_path / f"ckpt{epoch}" / "model.safetensors").touch()
    assert [path.name for path in last_epochs(tmp_path, epochs)] == [f"ckpt{number}" for number in numbers]
    if len(numbers) > 2:
        (tmp_path / f"ckpt{numbers[1]}" / "model.safetensors").unlink()
        assert [path.name for path in last_epochs(tmp_path, epochs)] == [f"ckpt{numbers[0]}"]


@pytest.mark.parametrize("tied", [True, False])
def test_the_mean_is_that_of_every_weight(tmp_path: Path, tied: bool) -> None:
    shape = resolve_shape(ModelConfig(num_layers=1, hidden_size=32, num_heads=2, tie_embeddings=tied), 300)
    models = [Decoder(shape) for _ in range(3)]
    paths = [tmp_path / f"ckpt{number}" for number in (3, 2, 1)]
    for model, path in zip(models, paths, strict=True):
        path.mkdir()
        save_model(model, path, eos_id=2, bos_id=1, pad_id=0)
    target = Decoder(shape)
    put(mean(paths), target)
    for name, weight in target.state_dict().items():
        expected = torch.stack([model.state_dict()[name] for model in models]).mean(0)
        torch.testing.assert_close(weight, expected)
    assert name_of(paths) == "ckpt1-3"


def test_the_mean_that_validates_best_is_left_in_the_model(tmp_path: Path) -> None:
    shape = resolve_shape(ModelConfig(num_layers=1, hidden_size=32, num_heads=2), 300)
    paths = [tmp_path / f"ckpt{number}" for number in (4, 3, 2)]
    for path in paths:
        path.mkdir()
        save_model(Decoder(shape), path, eos_id=2, bos_id=1, pad_id=0)
    model, losses = Decoder(shape), iter([1.0, 2.0])
    found = best_mean(paths, model, lambda: {"val_loss": next(losses)})
    assert found == (paths[:2], {"val_loss": 1.0})
    expected = mean(paths[:2])
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    assert best_mean(paths[:1], model, lambda: {"val_loss": 0.0}) is None


def run_of(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, epochs=4, samples=0, **changes))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Lets the average of a run appear this much better than it is."""
    bonus = {"loss": 0.0}

    def best_of(paths: list[Path], model: Decoder, validated: Any) -> Any:
        found = best_mean(paths, model, validated)
        assert found is not None
        return found[0], {**found[1], "val_loss": found[1]["val_loss"] + bonus["loss"]}

    monkeypatch.setattr(epoch_end, "best_mean", best_of)
    return bonus


def test_a_better_average_is_kept_as_a_checkpoint(
    config: Config, judged: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    judged["loss"] = -10.0
    epochs = train_script.train(run_of(config))["epochs"]
    run = Path("runs/t")
    assert "next: python eval/compare.py ckpt1 ckpt3-4" in capsys.readouterr().out
    path = find_checkpoint("ckpt3-4", "t")
    meta = verify(path)
    assert meta["average_of"] == ["ckpt4", "ckpt3"]
    assert (meta["epoch"], meta["step"]) == (4, epochs[-1]["step"])
    assert meta["metrics"]["val_documents"] == epochs[-1]["val_documents"]
    assert not (path / "trainer").exists()
    whole, parts = (
        load_file(path / "model.safetensors"),
        [load_file(run / f"ckpt{n}/model.safetensors") for n in (3, 4)],
    )
    assert all(torch.allclose(weight, (parts[0][name] + parts[1][name]) / 2) for name, weight in whole.items())
    load_for_inference(path)
    assert [path.name for path in checkpoints(run)] == ["ckpt1", "ckpt2", "ckpt3", "ckpt4"]  # nothing goes on from it
    assert read_meta(run / "ckpt4")["metrics"] != meta["metrics"]
    # The same command again does nothing twice.
    before = path.stat().st_mtime_ns
    train_script.train(run_of(config))
    assert path.stat().st_mtime_ns == before
    assert "next: python eval/compare.py ckpt1 ckpt3-4" in capsys.readouterr().out
    with pytest.raises(UserError, match="ckpt4, ckpt3-4"):
        find_checkpoint("ckpt9", "t")


def test_a_worse_average_is_not_kept_and_none_is_made_unasked(config: Config, judged: dict[str, float]) -> None:
    judged["loss"] = 10.0
    train_script.train(run_of(config))
    assert not list(Path("runs/t").glob("ckpt*-*"))
    judged["loss"] = -10.0
    train_script.train(run_of(config, average=False))  # the run is done; only the average is still to be made
    assert not list(Path("runs/t").glob("ckpt*-*"))
