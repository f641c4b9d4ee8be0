"""Read, clean, deduplicate and split a corpus: files -> runs/<run>/corpus/.

Without --config the corpus is the documentation of the Python that runs this. What is read and how is in the TOML file's
[[source]] entries; see configs/own-data.toml.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room

from common.errors import run_command
from config import load_command
from data.pipeline import prepare, summary


def main() -> None:
    """The command line."""
    settings = load_command("prepare", description=__doc__)
    folder = settings.claim() / "corpus"
    if not settings.source:
        print("no [[source]] is named: taking the embedded corpus, this Python's own documentation")
    manifest = prepare(settings.source, settings.prepare, folder, settings.base)
    print("\n".join(summary(manifest)))
    print(f"wrote  {folder} (fingerprint {manifest['fingerprint']})")
    print(f"next:  python tokenizer/train.py --run {settings.run}")


if __name__ == "__main__":
    run_command(main)
