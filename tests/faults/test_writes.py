"""A disk that is full, or a folder that takes nothing, at any write: one line, the last good checkpoint stays, and the
run ends with the same bytes once there is room."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import train as train_script
from common import files
from common.errors import UserError, run_command, unwritable
from config import Config
from model import huggingface
from training import metrics, save
from training.checkpoint import checkpoints, verify
from training.metrics import read_metrics

EVERY = int(os.environ.get("LOAM_WRITES", "12"))  # of a run's writes one in so many is refused; a campaign takes all
MOST_WRITES = 400


class Disk:
    """Counts what writes to a run's folder, and refuses from the given write on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.writes, self.full_from = 0, MOST_WRITES
        self.error = number
        for module, name in ((os, "fsync"), (os, "replace"), (shutil, "copyfile")):
            self._wrap(monkeypatch, module, name)
        for module in (save, huggingface):
            self._wrap(monkeypatch, module, "save_file", rust=True)
        self._wrap(monkeypatch, Path, "write_text")
        self._wrap(monkeypatch, Path, "mkdir")
        self._wrap(monkeypatch, metrics.MetricsLog, "sync")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, rust: bool = False) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            if self.writes >= self.full_from:
                if rust:
                    raise SafetensorError(f"I/O error: {os.strerror(self.error)} (os error {self.error})")
                raise OSError(self.error, os.strerror(self.error), "a-file")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)


def exit_code(config: Config) -> Any:
    """Of the command."""
    try:
        run_command(lambda: print(train_script.train(config)["folder"]))
    except SystemExit as ended:
        return ended.code
    return 0


def remove_output() -> None:
    for path in [*Path("runs/t").glob("ckpt*"), *Path("runs/t").glob("step-*"), *Path("runs/t").glob(".*.tmp")]:
        shutil.rmtree(path)
    for name in ("metrics.jsonl", "config.toml"):
        Path(f"runs/t/{name}").unlink(missing_ok=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_at_any_write_loses_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    config = replace(config, train=replace(config.train, save_steps=7, epochs=1, samples=0))
    with monkeypatch.context() as patched:
        disk = Disk(patched, number)
        train_script.train(config)
        all_writes = disk.writes
    whole = Path("runs/t/ckpt1/model.safetensors").read_bytes()
    assert 20 < all_writes < MOST_WRITES
    for full_from in range(1 + number % EVERY, all_writes + 1, EVERY):
        remove_output()
        with monkeypatch.context() as patched:
            disk = Disk(patched, number)
            disk.full_from = full_from
            code = exit_code(config)
        said = capsys.readouterr()
        if code == 0:  # nothing was refused after all, or only to remove an old checkpoint
            assert disk.writes < full_from or "an old checkpoint could not be removed" in said.out, full_from
        else:
            last = said.err.strip().splitlines()[-1]
            assert (code, last[:7]) == (2, "error: "), (full_from, last)
            assert os.strerror(number) in last, (full_from, last)
        for path in checkpoints(Path("runs/t")):
            verify(path)
        train_script.train(config)
        assert Path("runs/t/ckpt1/model.safetensors").read_bytes() == whole, full_from
        steps = read_metrics(Path("runs/t/metrics.jsonl"), "step")
        assert [s["step"] for s in steps] == list(range(1, len(steps) + 1)), full_from


def test_what_rust_and_python_say_of_a_full_disk_is_the_same_line() -> None:
    python = OSError(errno.ENOSPC, "No space left on device", "x")
    assert unwritable(python) == "x: cannot be written (No space left on device)"
    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert unwritable(rust) == "a file: cannot be written (No space left on device)"
    assert unwritable(OSError(errno.ENOENT, "No such file", "x")) is None
    assert unwritable(ValueError("28")) is None


def test_safetensors_really_says_so(tmp_path: Path) -> None:
    """A process that may write 100 KB a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SafetensorError, match=r"\(os error 27\)") as error:
            save_file({"x": torch.zeros(1 << 20)}, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert unwritable(error.value) == "a file: cannot be written (File too large)"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system: the refused writes above stand for it")
    yield disk
    os.chdir("/")  # not inside any more
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(
    config: Config, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(save, "SPARE_BYTES", -(1 << 30))  # else the room is counted first
    config = replace(config, train=replace(config.train, epochs=6, samples=0, average=False))
    train_script.train(replace(config, train=replace(config.train, epochs=6)))
    whole = Path("runs/t/ckpt6/model.safetensors").read_bytes()
    remove_output()
    shutil.copytree("runs", small_disk / "runs")
    monkeypatch.chdir(small_disk)
    filler = Path("filler")
    filler.write_bytes(b"0" * (shutil.disk_usage(".").free - 900_000))  # room for two checkpoints and a half
    assert exit_code(config) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    sound = [path for path in checkpoints(Path("runs/t"))]
    assert sound
    for path in sound:
        verify(path)
    filler.unlink()
    assert exit_code(config) == 0
    assert Path("runs/t/ckpt6/model.safetensors").read_bytes() == whole


def test_the_newest_checkpoint_is_the_one_with_the_most_steps_whatever_the_clock_says(config: Config) -> None:
    train_script.train(config)
    for age, path in enumerate(sorted(Path("runs/t").rglob("*"), reverse=True)):
        os.utime(path, (10_000 + age, 10_000 + age))  # 1970, and the newest the oldest
    from training.checkpoint import newest_resumable

    found = newest_resumable(Path("runs/t"))
    assert found is not None
    assert found[0].name == "ckpt2"


def test_a_clock_that_goes_back_changes_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = [2e9]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    config = replace(config, train=replace(config.train, save_minutes=1e-6))
    train_script.train(config)
    expected = (
        Path("runs/t/ckpt2/model.safetensors").read_bytes(),
        sorted(p.name for p in Path("runs/t").glob("ckpt*")),
    )
    remove_output()
    monkeypatch.setattr(time, "time", back)
    train_script.train(config)
    found = (Path("runs/t/ckpt2/model.safetensors").read_bytes(), sorted(p.name for p in Path("runs/t").glob("ckpt*")))
    assert found == expected
    epochs = read_metrics(Path("runs/t/metrics.jsonl"), "epoch")
    assert all(0 < e["seconds"] < 3600 and 0 <= e["validation_seconds"] < 3600 for e in epochs)
    assert all(0 < s["tokens_per_s"] < 1e9 for s in read_metrics(Path("runs/t/metrics.jsonl"), "step"))


@pytest.mark.parametrize("change", ["vanished", "changed"])
def test_a_corpus_file_that_is_not_what_was_prepared_stops_the_next_start(config: Config, change: str) -> None:
    import json

    manifest = Path("runs/t/corpus/manifest.json")
    file = Path("runs/t/corpus/train-00000.parquet")
    hashes = {"sha256": {path.name: files.file_sha256(path) for path in file.parent.glob("*.parquet")}}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **hashes}))
    train_script.train(config)
    if change == "vanished":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    with pytest.raises(UserError, match=r"train-\*\.parquet" if change == "vanished" else r"train-00000\.parquet"):
        train_script.train(config)


def test_two_commands_on_one_run_and_the_second_is_told_who_holds_it(config: Config) -> None:
    with config.claimed("train"), pytest.raises(UserError, match=rf"in use by process {os.getpid()} on "):
        train_script.train(config)
