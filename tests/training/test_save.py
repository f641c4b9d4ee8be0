"""Checkpoints: what is written in the background is what was there, damage of any kind is named, a sound one stays."""

import errno
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train as train_script
from common.errors import UserError
from config import Config
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from tests.made import save_checkpoint
from training import metrics, save
from training import run as run_module
from training.checkpoint import newest_resumable, prune, read_meta, restore, sealed, verify
from training.config import TrainConfig
from training.optimizer import make_optimizers
from training.save import Saver, snapshot, tokenizer_files, write_checkpoint

FLIPS = 60  # random bits a test flips; seeds are in the names


def small() -> tuple[Decoder, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    shape = ModelConfig(num_layers=1, hidden_size=32, num_heads=2, num_kv_heads=1, seq_len=16)
    model = Decoder(resolve_shape(shape, 320))
    return model, make_optimizers(model, TrainConfig(), 1e-2, 1e-2, 0.1)


def learn(model: Decoder, optimizers: list[torch.optim.Optimizer]) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimizer in optimizers:
        optimizer.step()


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def meta(number: int) -> dict[str, Any]:
    return {"corpus": "c", "tokenizer": "t", "epoch": number, "step": number}


@pytest.fixture
def tokenizer(config: Config) -> Path:
    return Path("runs/t/tokenizer")


@pytest.fixture
def folder(tokenizer: Path) -> Path:
    """A run with three checkpoints of three different moments."""
    run = Path("runs/made")
    model, optimizers = small()
    for number in (1, 2, 3):
        learn(model, optimizers)
        save_checkpoint(run / f"ckpt{number}", model, optimizers, tokenizer, {"step": number}, meta(number))
    return run


def test_a_copy_is_written_as_it_was_while_the_model_goes_on(tokenizer: Path) -> None:
    model, optimizers = small()
    saver, memories = Saver(), set()
    for number in (1, 2, 3):  # the second and third into the memory of the one before
        learn(model, optimizers)
        save_checkpoint(Path(f"runs/blocking{number}"), model, optimizers, tokenizer, {"step": 1}, meta(number))
        taken = snapshot(model, optimizers, into=saver.taken)
        assert taken is not None
        memories.add(taken.weights["norm.weight"].data_ptr())
        learn(model, optimizers)
        path = Path(f"runs/background{number}")
        saver.start(lambda path=path, taken=taken, number=number: write_checkpoint(  # type: ignore[misc]
            path, taken, tokenizer_files(tokenizer, 16), json.dumps({"step": 1}), meta(number)), taken)  # fmt: skip
        saver.wait()
        blocking = content(Path(f"runs/blocking{number}"))
        assert content(path).keys() == blocking.keys()
        for name, data in content(path).items():
            if "rng" not in name and name != "loam.json":  # learning in between drew random numbers
                assert data == blocking[name], name
    assert len(memories) == 1


def test_what_fails_in_the_background_is_raised_by_the_next_wait() -> None:
    saver = Saver()

    def write() -> None:
        raise OSError(28, "No space left on device", "x")

    taken = snapshot(*small())
    assert taken is not None
    saver.start(write, taken)
    with pytest.raises(OSError, match="No space left"):
        saver.wait()
    saver.wait()  # and is not raised twice


@pytest.mark.parametrize("seed", range(3))
def test_every_flipped_bit_of_every_file_is_found_and_named(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    files = [name for name in content(folder / "ckpt3")]
    for number in range(FLIPS):
        name = files[number % len(files)]
        file = folder / "ckpt3" / name
        data = bytearray(file.read_bytes())
        place, bit = draw.randrange(len(data)), draw.randrange(8)
        sound = bytes(data)
        data[place] ^= 1 << bit
        file.write_bytes(data)
        same_json = name == "loam.json" and _same_json(sound, bytes(data))
        if not same_json:  # white space between two keys says nothing
            with pytest.raises(UserError, match=name.split("/")[-1].replace(".", r"\.")):
                verify(folder / "ckpt3", to_resume=True)
            found = newest_resumable(folder)
            assert found is not None
            assert found[0].name == "ckpt2", (name, place, bit)
        file.write_bytes(sound)
    assert verify(folder / "ckpt3", to_resume=True)["epoch"] == 3


def test_every_flipped_bit_of_loam_json_is_found(folder: Path) -> None:
    """All of them: a seal that is not there would else vouch for everything."""
    file = folder / "ckpt3" / "loam.json"
    sound = file.read_bytes()
    for place in range(len(sound)):
        for bit in range(8):
            data = bytearray(sound)
            data[place] ^= 1 << bit
            if not _same_json(sound, bytes(data)):
                file.write_bytes(data)
                with pytest.raises(UserError):
                    read_meta(folder / "ckpt3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": {}}, "names no model.safetensors"),
        ({"seal": None}, "is not what was written"),
        ({"files": {"../../../outside": "0"}}, "which is not a file of its folder"),
        ({"files": {"/proc/self/mem": "0"}}, "which is not a file of its folder"),
        ({"step": 10**400}, "is not what was written"),
    ],
)
def test_a_loam_json_that_leaves_out_or_leaves_the_folder_is_refused(
    folder: Path, change: dict[str, Any], said: str
) -> None:
    file = folder / "ckpt3" / "loam.json"
    meta = json.loads(file.read_text())
    if change.get("files"):
        change = {"files": {**meta["files"], **change["files"]}}
    made = sealed({**meta, **change}) if "files" in change else {**meta, **change}
    file.write_text(json.dumps(made))
    with pytest.raises(UserError, match=said):
        verify(folder / "ckpt3", to_resume=True)
    found = newest_resumable(folder)
    assert found is not None
    assert found[0].name == "ckpt2"


def test_what_is_found_damaged_counts_as_sound_no_more(folder: Path) -> None:
    sound = {folder / "ckpt3", folder / "ckpt2"}
    (folder / "ckpt3" / "model.safetensors").write_bytes(b"")
    found = newest_resumable(folder, sound=sound)
    assert found is not None
    assert found[0].name == "ckpt2"
    assert sound == {folder / "ckpt2"}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_tokenizer_is_found_before_the_first_step(config: Config, content: str) -> None:
    Path("runs/t/tokenizer/tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer_config\.json is damaged"):
        train_script.train(config)
    assert not Path("runs/t/metrics.jsonl").exists()


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"sources": [{}], "fingerprint": "x"}'])
def test_a_damaged_manifest_is_one_line(config: Config, content: str) -> None:
    Path("runs/t/corpus/manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        train_script.train(config)


def test_a_log_that_takes_no_more_inside_an_epoch_is_a_warning(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines wait in memory until there is room; the save inside the epoch is left out."""
    full, opened = {"writes": 0}, metrics.MetricsLog.__init__

    class Filling:
        """The file behind a log: takes ten bytes of the first write, none of the second, then all."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            full["writes"] += 1
            if full["writes"] == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data[:10] if full["writes"] == 1 else data))

    def init(self: Any, *args: Any) -> None:
        opened(self, *args)
        self._file = Filling(self._file)

    monkeypatch.setattr(metrics.MetricsLog, "__init__", init)
    train_script.train(one_row(config, save_steps=5))
    said = "no checkpoint inside the epoch is saved: runs/t/metrics.jsonl: cannot be written (No space left on device)"
    assert f"warning: {said}" in capsys.readouterr().out
    steps = metrics.read_metrics(Path("runs/t/metrics.jsonl"), "step")
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))


def _same_json(a: bytes, b: bytes) -> bool:
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "swapped with another's"])
def test_every_damaged_file_is_found_and_named(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in content(folder / "ckpt3"):
        file = folder / "ckpt3" / name
        sound = file.read_bytes()
        other = (folder / "ckpt2" / name).read_bytes()
        if damage.startswith("swapped") and other == sound:
            continue  # config.json and the tokenizer are the same in every checkpoint
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes({"empty": b"", "truncated": sound[: len(sound) // 2]}.get(damage, other))
        found = newest_resumable(folder)
        assert found is not None, name
        assert found[0].name == "ckpt2", name
        assert "ckpt3" in capsys.readouterr().out
        file.write_bytes(sound)
    assert newest_resumable(folder)[0].name == "ckpt3"  # type: ignore[index]


def test_a_checkpoint_under_anothers_name_is_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / "ckpt3")
    (folder / "ckpt1").rename(folder / "ckpt3")
    assert newest_resumable(folder)[0].name == "ckpt2"  # type: ignore[index]
    assert "ckpt3 holds another checkpoint" in capsys.readouterr().out


def test_pruning_counts_sound_checkpoints_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizers = small()
    learn(model, optimizers)
    save_checkpoint(folder / "step-000004", model, optimizers, Path("runs/t/tokenizer"), {"step": 4}, meta(4))
    for damaged in ("ckpt3", "step-000004"):
        file = folder / damaged / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    prune(folder, set())
    assert [p.name for p in sorted(folder.iterdir()) if (p / "trainer").exists()] == [
        "ckpt1", "ckpt2", "ckpt3", "step-000004"]  # fmt: skip
    assert "it is left as it is" in capsys.readouterr().out


def test_pruning_keeps_two_and_drops_old_ones_inside_an_epoch_whole(folder: Path) -> None:
    model, optimizers = small()
    learn(model, optimizers)
    for step in (4, 5):
        save_checkpoint(folder / f"step-00000{step}", model, optimizers, Path("runs/t/tokenizer"), {"step": step},
                        meta(step))  # fmt: skip
    (folder / "step-000001").mkdir()
    shutil.copytree(folder / "step-000004", folder / "step-000001", dirs_exist_ok=True)  # under another's name: stays
    prune(folder, set())
    assert [p.name for p in sorted(folder.iterdir()) if (p / "trainer").exists()] == [
        "step-000001", "step-000004", "step-000005"]  # fmt: skip
    assert sorted(p.name for p in folder.glob("ckpt*")) == ["ckpt1", "ckpt2", "ckpt3"]
    assert not list(folder.glob("*/.*")) + list(folder.glob(".*"))


def test_restored_from_disk_is_what_was_saved(folder: Path) -> None:
    model, optimizers = small()
    restore(folder / "ckpt3", model, optimizers)
    taken = snapshot(model, optimizers)
    assert taken is not None
    write_checkpoint(
        Path("runs/again"),
        taken,
        tokenizer_files(Path("runs/t/tokenizer"), taken.shape.seq_len),
        json.dumps({"step": 3}),
        meta(3),
    )
    assert content(Path("runs/again")) == content(folder / "ckpt3")


def one_row(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, batch_tokens=48 * 4, epochs=1, **changes))


def space(monkeypatch: pytest.MonkeyPatch, free: list[int]) -> None:
    """The disk has so many bytes left, save by save; the last figure stays."""
    usage = shutil.disk_usage(".")

    def left(path: Any) -> Any:
        return usage._replace(free=free.pop(0) if len(free) > 1 else free[0])

    monkeypatch.setattr(save.shutil, "disk_usage", left)


def test_a_full_disk_inside_an_epoch_is_a_warning_with_the_missing_bytes(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space(monkeypatch, [1 << 40, 1000, 1 << 40])  # the first is asked for before the run
    train_script.train(one_row(config, save_steps=5))
    out = capsys.readouterr().out
    taken = snapshot(*small())
    assert taken is not None
    assert "warning: a checkpoint inside the epoch was not saved: runs/t: " in out
    assert "bytes are missing on its disk" in out
    verify(Path("runs/t/ckpt1"), to_resume=True)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_disk_without_room_for_one_checkpoint_is_said_before_the_first_step(
    config: Config, optimizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The room that is asked for is that of the first checkpoint, all but its random numbers and counts of steps."""
    config = one_row(config, optimizer=optimizer)
    asked: list[int] = []
    check = save.check_space

    def noted(folder: Path, needed: int) -> None:
        asked.append(needed)
        check(folder, needed)

    with monkeypatch.context() as patched:
        patched.setattr(save, "check_space", noted)
        train_script.train(replace(config, run="t"))
    assert 0 <= asked[1] - asked[0] < 20_000
    assert asked[1] > asked[0] - save.SPARE_BYTES > 100_000
    for path in [*Path("runs/t").glob("ckpt*"), Path("runs/t/metrics.jsonl")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    said = f"runs/t: 1 bytes are missing on its disk to save a checkpoint ({asked[0]:,} needed"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        space(patched, [asked[0] - 1])
        patched.setattr(train_script, "train_step", lambda *_: pytest.fail("a step was taken"))
        with pytest.raises(UserError) as error:
            train_script.train(config)
        assert said in str(error.value)
        train_script.train(config, plan_only=True)
        assert f"warning: {said}" in capsys.readouterr().out
    train_script.train(config)
    with monkeypatch.context() as patched:
        space(patched, [0])  # nothing is left to save
        train_script.train(config)


def test_a_full_disk_at_the_end_of_an_epoch_ends_the_run_and_the_one_before_stays(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = one_row(config, save_steps=5)
    train_script.train(replace(config, run="t"))
    whole = Path("runs/t/ckpt1/model.safetensors").read_bytes()
    for path in [*Path("runs/t").glob("ckpt*"), *Path("runs/t").glob("step-*"), Path("runs/t/metrics.jsonl")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with monkeypatch.context() as patched:
        space(patched, [1 << 40, 1 << 40, 1 << 40, 1 << 40, 1000])
        with pytest.raises(UserError, match="bytes are missing on its disk to save a checkpoint"):
            train_script.train(config)
    steps = sorted(path.name for path in Path("runs/t").glob("step-*"))
    assert steps == ["step-000010", "step-000015"]
    train_script.train(config, resume=True)
    assert Path("runs/t/ckpt1/model.safetensors").read_bytes() == whole


def test_weights_that_are_not_finite_are_not_saved_when_a_signal_comes(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, counted = train_script.train_step, {"steps": 0}

    def step(model: Decoder, *rest: Any) -> Any:
        counted["steps"] += 1
        if counted["steps"] == 7:
            with torch.no_grad():
                next(model.parameters())[0, 0] = float("nan")
        result = original(model, *rest)
        if counted["steps"] == 8:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(train_script, "train_step", step)
    assert train_script.train(one_row(config, save_steps=5))["interrupted"]
    assert "step 8 is not saved: its weights are not finite" in capsys.readouterr().out
    assert [path.name for path in Path("runs/t").glob("step-*")] == ["step-000005"]


def test_the_step_waits_for_a_copy_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step after a save begins while that is still being written: the writer waits for it here."""
    import threading

    stepped, original, write = threading.Event(), train_script.train_step, run_module.write_checkpoint
    waited: list[bool] = []

    def step(*args: Any) -> Any:
        result = original(*args)
        stepped.set()
        return result

    def slow(path: Path, *args: Any) -> None:
        if path.name.startswith("step-"):
            stepped.clear()
            waited.append(stepped.wait(timeout=60))
        write(path, *args)

    monkeypatch.setattr(train_script, "train_step", step)
    monkeypatch.setattr(run_module, "write_checkpoint", slow)
    train_script.train(one_row(config, save_steps=8))
    assert waited
    assert all(waited)
