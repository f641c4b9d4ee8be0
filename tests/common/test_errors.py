"""What a command shows: one line for a user's mistake, a traceback for ours."""

import errno
from typing import Any

import pytest

from common.errors import MachineError, ToldElsewhere, UserError, run_command


def raising(error: BaseException):  # type: ignore[no-untyped-def]
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("epochs 0: must be more than 0"), "error: epochs 0: must be more than 0\n"),
        (OSError(errno.EROFS, "read-only", "runs/a"), "error: runs/a: cannot be written (read-only)\n"),
        (PermissionError(errno.EACCES, "denied", "runs"), "error: runs: cannot be written (denied)\n"),
        (OSError(errno.ENOSPC, "no space"), "error: a file: cannot be written (no space)\n"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_line_and_exit_code_2(
    error: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(raising(error))
    assert caught.value.code == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("rank", "local_rank", "error", "said"),
    [
        (1, 1, UserError("said by rank 0"), ""),
        (8, 0, UserError("this machine lacks it"), "error: this machine lacks it\n"),
        (1, 1, MachineError("only here"), "error on rank 1: only here\n"),
        (8, 0, MachineError("only here"), "error on rank 8: only here\n"),
        (8, 0, ToldElsewhere("rank 0 stopped"), ""),
    ],
)
def test_one_process_of_a_machine_speaks_and_who_alone_knows(
    rank: int, local_rank: int, error: UserError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    with pytest.raises(SystemExit) as caught:
        run_command(raising(error))
    assert caught.value.code == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [AssertionError("ours"), OSError(errno.EIO, "ours"), KeyError("ours")])
def test_a_mistake_of_ours_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(raising(error))
