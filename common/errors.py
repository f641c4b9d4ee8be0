"""User errors: raised anywhere as `UserError`, shown as one line, exit code 2, no traceback.

A mistake of ours is an `assert` or any other exception and keeps its traceback.
"""

import errno
import os
import sys
from collections.abc import Callable

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """What a user did wrong, in one line: what is wrong, where (file, row, flag), what to do."""


class MachineError(UserError):
    """A `UserError` of the machine that this process runs on, which rank 0 may not share: every rank says its own."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` becomes one line on stderr (rank 0 speaks for all) and exit code 2."""
    try:
        main()
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        if rank == "0":
            print(f"error: {error}", file=sys.stderr)
        elif isinstance(error, MachineError):
            print(f"error on rank {rank}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (`| head`) went away: not worth a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        print(f"error: {error.filename or 'a file'}: cannot be written ({error.strerror})", file=sys.stderr)
        sys.exit(2)
