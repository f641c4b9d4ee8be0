"""Ctrl-C at any moment of a command but a run's training (tests/training/test_signals.py): the word "interrupted", exit
code 130, and what was begun is cleared up."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.runs import locked
from tests.test_commands import CSV, GOOD_ROWS, REPOSITORY, run, write

SCRIPTS = ["train.py", "chat.py", "serve.py", "data/audit.py", "data/prepare.py", "tokenizer/train.py",
           "eval/compare.py", "bench/audit_quality.py", "bench/data_speed.py", "bench/forecast.py",
           "bench/learning.py", "bench/save_speed.py", "bench/train_speed.py"]  # fmt: skip
# Short waits: a signal that comes just before a long one is heard only when that ends.
TELL_AND_WAIT = "import time\nprint('here', flush=True)\n[time.sleep(0.1) for _ in range(600)]\n"


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that gets SIGINT as soon as it has said "here" on a line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "path")}
    with subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            said = next((line for line in process.stdout if line.strip() == "here"), "")
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert said, errors
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def assert_quiet(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1:] == ["interrupted"], done.stderr
    assert "Traceback" not in done.stderr
    assert "Fatal" not in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_during_imports_a_command_ends_with_one_word(tmp_path: Path, script: str) -> None:
    """The first package that takes long is one that waits until the signal comes."""
    (tmp_path / "path").mkdir()
    for name in ("torch", "pyarrow", "numpy"):
        write(tmp_path / "path", {f"{name}.py": TELL_AND_WAIT})
    done = interrupted(tmp_path, str(REPOSITORY / script), "--help")
    assert_quiet(done)
    assert done.stderr == "interrupted\n"


def test_a_command_that_nohup_started_is_not_interrupted_during_imports() -> None:
    code = """
import signal
from common.errors import leave_when_interrupted

signal.signal(signal.SIGINT, signal.SIG_IGN)
leave_when_interrupted()
signal.raise_signal(signal.SIGINT)
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_command_that_asked_is_interrupted_as_usual_once_it_runs(tmp_path: Path) -> None:
    """Not as during imports: `finally` is gone through."""
    (tmp_path / "script.py").write_text(f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from common.errors import leave_when_interrupted, run_command
leave_when_interrupted()

def main():
    try:
        {TELL_AND_WAIT.replace(chr(10), "; ")}
    finally:
        print("cleared up")

run_command(main)
""")
    done = interrupted(tmp_path, "script.py")
    assert_quiet(done)
    assert done.stdout == "cleared up\n"


def test_while_the_tokenizer_is_trained_nobody_waits_for_its_end(tmp_path: Path) -> None:
    """The trainer reads texts, and merges pairs, where no signal is heard."""
    write(tmp_path, {"my.toml": f"[[source]]\n{CSV}", "a.csv": GOOD_ROWS})
    assert run(tmp_path, "data/prepare.py", "--config", "my.toml").returncode == 0
    (tmp_path / "script.py").write_text(f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import tokenizer.train as script
from common.errors import run_command

def sample_texts(corpus, sample, end):
    yield "a"
    {TELL_AND_WAIT.replace(chr(10), "; ")}

script.sample_texts = sample_texts
sys.argv = ["tokenizer/train.py", "--config", "my.toml"]
run_command(script.main)
""")
    assert_quiet(interrupted(tmp_path, "script.py"))
    assert {path.name for path in (tmp_path / "runs/my").iterdir()} == {".lock", "config.toml", "corpus"}


# -- prepare: daft's threads read while the signal comes


@pytest.mark.parametrize("name", ["gather.read_file", "pipeline.group_documents", "writing._write_split"])
def test_prepare_ends_with_one_word_clears_up_and_can_be_run_again(tmp_path: Path, name: str) -> None:
    """While daft reads (Python's usual end would run into its threads, which aborts it), when daft has ended, and when
    a temporary folder is there."""
    write(tmp_path, {"my.toml": f"[[source]]\n{CSV}", "a.csv": GOOD_ROWS})
    (tmp_path / "script.py").write_text(f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from common.errors import run_command
from data import gather, pipeline, prepare, writing

original = {name}

def read_file(file, source):
    for number, row in enumerate(original(file, source)):
        if number == 0:
            print("here", flush=True)
        time.sleep(0.05)  # a reader that is busy when the signal comes, and goes on being busy
        yield row

def waiting(*args):
    {TELL_AND_WAIT.replace(chr(10), "; ")}
    return original(*args)

{name} = {"read_file" if name == "gather.read_file" else "waiting"}
sys.argv = ["data/prepare.py", "--config", "my.toml"]
run_command(prepare.main)
""")
    assert_quiet(interrupted(tmp_path, "script.py"))
    left = {path.name for path in (tmp_path / "runs/my").iterdir()}
    assert left == {".lock", "config.toml"}
    with locked(tmp_path / "runs/my"):
        pass
    done = run(tmp_path, "data/prepare.py", "--config", "my.toml")
    assert done.returncode == 0, done.stderr
