"""The embedded corpus: large enough to learn from, the same in every process, nothing of a machine in it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from data.embedded import difficulty, records

ROOT = Path(__file__).resolve().parents[2]
DIGEST = """
import hashlib, json, sys
sys.path.insert(0, {root!r})
{before}
from data.embedded import records
modules = set(sys.modules)
found = [list(records(part)) for part in ("docstrings", "prose")]
print(hashlib.sha256(json.dumps(found).encode()).hexdigest())
"""


def test_it_is_the_same_in_every_process_whatever_its_hash_seed_environment_and_imports() -> None:
    digests = set()
    for seed, before in (("1", ""), ("2", "import curses, numpy, xml.dom.minidom, asyncio; sys.path.insert(0, '/')")):
        code = DIGEST.format(root=str(ROOT), before=before)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "HOME": "/" + seed, "COLUMNS": seed + "0", "TERM": "dumb"}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(result.stdout)
    found = [list(records(part)) for part in ("docstrings", "prose")]
    digests.add(hashlib.sha256(json.dumps(found).encode()).hexdigest() + "\n")
    assert len(digests) == 1


def test_it_holds_thousands_of_questions_and_their_signatures() -> None:
    rows = dict(records("docstrings"))
    assert len(rows) > 5000
    assert len({row["question"] for row in rows.values()}) == len(rows)
    join = rows[":os.path.join"]
    assert join["question"] == "What does `os.path.join` do?"
    assert (join["answer"] or "").startswith("`os.path.join(a, *p)`\n\nJoin two or more pathname components")
    assert join["category"] == "os"
    assert (rows[":len"]["answer"] or "").startswith("`len(obj, /)`\n\n")  # written in C
    assert (rows[":json.encoder.JSONEncoder.default"]["answer"] or "").startswith(
        "`json.encoder.JSONEncoder.default(o)`"
    )  # no self
    assert {row["difficulty"] for row in rows.values()} == {"easy", "medium", "hard"}
    size = sum(len((row["question"] or "") + (row["answer"] or "")) for row in rows.values())
    size += sum(len(row["text"] or "") for _, row in records("prose"))
    assert 1_500_000 < size < 4_000_000


def test_it_holds_no_address_no_private_name_and_only_unicode() -> None:
    for part in ("docstrings", "prose"):
        for where, row in records(part):
            text = "\n".join(value for value in row.values() if value)
            text.encode()
            assert " at 0x" not in text
            assert not where.startswith((":_", ":test.", ":this", ":antigravity"))


def test_difficulty_grows_with_the_docstring() -> None:
    assert [difficulty("x" * size) for size in (199, 200, 799, 800)] == ["easy", "medium", "medium", "hard"]
