"""Serve checkpoints over HTTP: `python serve.py ckpt6`, or several, `python serve.py ckpt1 ckpt6`.

OpenAI's API (/v1/models, /v1/completions, /v1/chat/completions) and a page to talk to them, on http://127.0.0.1:8000.
Each checkpoint is checked first, as `python eval/check.py` does, and is a model of the name RUN/ckptN. Keys are made
with `python server/keys.py create NAME`; who used what is told by `python server/usage.py`. docs/serving.md says more.

Ctrl-C or SIGTERM stops it when the answers that are on their way have ended.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py

if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from functools import partial

from common.errors import run_command
from common.runs import find_checkpoint
from config import load_command
from server.run import ServeOptions, serve


def main() -> None:
    """The command."""
    args = load_command(None, description=__doc__, positional={"checkpoints": "+"}, options=ServeOptions).args
    paths = [find_checkpoint(name, args.run) for name in args.checkpoints]
    if serve(paths, args.options, partial(print, flush=True)) == "SIGINT":
        raise KeyboardInterrupt


if __name__ == "__main__":
    run_command(main)
