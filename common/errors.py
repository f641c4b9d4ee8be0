"""User errors: raised anywhere as `UserError`, shown as one line, exit code 2, no traceback.

A mistake of ours is an `assert` or any other exception and keeps its traceback. Ctrl-C is the word "interrupted" and
exit code 130, from the script's first import on.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

ENDED_BY_SIGINT = 130  # what a shell makes of a process that SIGINT ended
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def unwritable(error: BaseException) -> str | None:
    """The line for a user whose disk or folder takes no more; None for any other error.

    safetensors writes in Rust and reports the system's errors in words alone.
    """
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(found.group(1))
    if number not in UNWRITABLE:
        return None
    words = getattr(error, "strerror", None) or os.strerror(number)
    return f"{getattr(error, 'filename', None) or 'a file'}: cannot be written ({words})"


class UserError(ValueError):
    """What a user did wrong, in one line: what is wrong, where (file, row, flag), what to do."""


class MachineError(UserError):
    """A `UserError` of the machine that this process runs on, which rank 0 may not share: every rank says its own."""


class ToldElsewhere(UserError):
    """Another process has said what ends this one too."""


def speaks() -> bool:
    """Whether this process says what concerns all: one of a machine does."""
    return os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0"


def leave_when_interrupted() -> None:
    """Until `run_command` Ctrl-C ends the process at once: a script says so before its imports, which take seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else someone wants it ignored, as nohup does
        signal.signal(signal.SIGINT, _leave)


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` becomes one line on stderr (of one process a machine) and exit code 2."""
    try:
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there may be something to clear up
        main()
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        if isinstance(error, MachineError) and rank != "0":
            print(f"error on rank {rank}: {error}", file=sys.stderr)
        elif speaks() and not isinstance(error, ToldElsewhere):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # it has passed through all context managers: temporary files and the run's lock are gone
        _leave()
    except BrokenPipeError:  # the reader (`| head`) went away: not worth a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = unwritable(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def _leave(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Say it and end without Python's own end, into which daft's threads would run: it aborts the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError, RuntimeError):  # the terminal is gone, the stream closed, or inside a print
        if speaks():
            print("interrupted", file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(ENDED_BY_SIGINT)
