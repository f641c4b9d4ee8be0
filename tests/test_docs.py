"""The documents say what is there: every test that they name exists."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["reliability.md"])
def test_every_test_that_a_document_names_exists(name: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (REPOSITORY / "docs" / name).read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, function in named:
        assert f"def {function}(" in (REPOSITORY / file).read_text(encoding="utf-8"), f"{file}::{function}"


def test_every_row_of_a_promise_names_a_test() -> None:
    text = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(promises) > 20
    assert [line for line in promises if "`tests/" not in line] == []
