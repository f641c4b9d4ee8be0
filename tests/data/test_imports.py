"""What training loads of this room needs no package that only reading files needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_train_is_imported_without_the_packages_that_only_prepare_needs() -> None:
    absent = ["daft", "zstandard", "ftfy", "charset_normalizer"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import train"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
