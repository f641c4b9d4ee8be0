"""User errors: raised anywhere as `UserError`, shown as one line, exit code 2, no traceback.

A mistake of ours is an `assert` or any other exception and keeps its traceback. Ctrl-C is the word "interrupted" and
exit code 130, from the script's first import on. A script that used daft ends with the exit code that it has earned.
"""

import atexit
import errno
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

ENDED_BY_SIGINT = 130  # what a shell makes of a process that SIGINT ended
GRACE = 1.0  # seconds in which daft's processes give back shared memory after an error: 1 of 6 had left some without it
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
    own_process = main.__module__ == "__main__"  # not called by a test, or by whoever goes on afterwards
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
        _end(2, own_process, error)
    except KeyboardInterrupt:  # it has passed through all context managers: temporary files and the run's lock are gone
        _leave()
    except BrokenPipeError:  # the reader (`| head`) went away: not worth a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _end(1, own_process)
    except SystemExit:
        raise
    except BaseException as error:
        line = unwritable(error) if isinstance(error, Exception) else None
        if line is None:
            if own_process and _daft_is_here():
                sys.excepthook(type(error), error, error.__traceback__)
                _end(1, own_process, error)
            raise
        print(f"error: {line}", file=sys.stderr)
        _end(2, own_process, error)
    if own_process and _daft_is_here():
        _end(0, own_process)


def _daft_is_here() -> bool:
    return "daft" in sys.modules


def _end(code: int, own_process: bool, error: BaseException | None = None) -> None:
    """As sys.exit(code); where daft's threads are, without Python's own end.

    They hold Python objects, and may still read when a query failed. At its end Python 3.11 stops such a thread by
    pthread_exit, which Rust takes for an exception: SIGABRT ("FATAL: exception not rethrown") after 9 of 10 failed
    queries, SIGSEGV after 1 of 10 good ones.
    """
    if not (own_process and _daft_is_here()):
        sys.exit(code)
    if error is not None:
        traceback.clear_frames(error.__traceback__)  # closes the query
        time.sleep(GRACE)
    atexit._run_exitfuncs()  # Ray says goodbye there; nothing else of Python's end is needed
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 1
    except OSError as error:  # a full disk, as Python itself would say it
        with suppress(OSError):
            print(
                f"error: the terminal or file that this is printed to takes no more ({error.strerror})", file=sys.stderr
            )
        code = code or 2
    os._exit(code)


def _leave(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Say it and end without Python's own end, into which daft's threads would run: it aborts the interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError, RuntimeError):  # the terminal is gone, the stream closed, or inside a print
        if speaks():
            print("interrupted", file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(ENDED_BY_SIGINT)
