"""User errors: raised anywhere as `UserError`, shown as one line, exit code 2, no traceback.

A mistake of ours is an `assert` or any other exception and keeps its traceback.
"""

import errno
import os
import re
import sys
from collections.abc import Callable

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


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` becomes one line on stderr (of one process a machine) and exit code 2."""
    try:
        main()
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        if isinstance(error, MachineError) and rank != "0":
            print(f"error on rank {rank}: {error}", file=sys.stderr)
        elif os.environ.get("LOCAL_RANK", rank) == "0" and not isinstance(error, ToldElsewhere):
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (`| head`) went away: not worth a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = unwritable(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
