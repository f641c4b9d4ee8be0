"""Read, clean, deduplicate and split a corpus: files -> runs/<run>/corpus/.

Without --config the corpus is the documentation of the Python that runs this. What is read, and how, stands in the TOML
file's [[source]] entries; see configs/own-data.toml.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from common.errors import UserError, run_command
from common.files import read_json
from config import Config, load_command
from data.pipeline import input_sizes, prepare, summary


def prepare_run(settings: Config) -> dict[str, Any]:
    """Make the corpus of a run, or say that it is there; returns its manifest."""
    with settings.claimed("prepare") as run:
        folder = run / "corpus"
        if (folder / "manifest.json").exists():
            made = read_json(folder / "manifest.json")
            if made["files"] != input_sizes(settings.source, settings.base):
                raise UserError(f"{folder} was made from other files ({_change(made, settings)}): take another --run")
            print(f"{folder} is there already, made with the same settings and files: nothing to do")
            return made
        if not settings.source:
            print("no [[source]] is named: taking the embedded corpus, this Python's own documentation")
        manifest = prepare(settings.source, settings.prepare, folder, settings.base)
    print("\n".join(summary(manifest)))
    print(f"wrote  {folder} (fingerprint {manifest['fingerprint']})")
    return manifest


def _change(made: dict[str, Any], settings: Config) -> str:
    """The first file that came, went or changed its size since the corpus was made."""
    before, now = dict(made["files"]), dict(input_sizes(settings.source, settings.base))
    name = min(name for name in {*before, *now} if before.get(name) != now.get(name))
    sizes = [f"{size:,} bytes" if size is not None else "absent" for size in (before.get(name), now.get(name))]
    return f"{name}: {sizes[0]} then, {sizes[1]} now"


def main() -> None:
    """The command line."""
    settings = load_command("prepare", description=__doc__)
    prepare_run(settings)
    print(f"next:  python tokenizer/train.py --run {settings.run}")


if __name__ == "__main__":
    run_command(main)
