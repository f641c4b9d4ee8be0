"""The rows that audit and prepare are measured on are as many, as long and as flawed as they are said to be."""

import json
from pathlib import Path

import pytest

from bench.cleaning_scale import ENDING, cleaning_line, made_rows, measured, write_rows
from common.errors import UserError

NUMBER = 20_000


def test_rows_have_the_flaws_that_are_named_in_their_shares() -> None:
    rows = [*made_rows(NUMBER, 300)]
    assert len(rows) == NUMBER
    answers = [row["answer"] for row in rows]
    share = {
        "copies": NUMBER - len({*answers}),
        "template": sum(answer.startswith("As far as anybody has counted") for answer in answers),
        "ending": sum(answer.endswith(ENDING) for answer in answers),
    }
    assert {name: round(100 * number / NUMBER) for name, number in share.items()} == {
        "copies": 3, "template": 5, "ending": 10,
    }  # fmt: skip


@pytest.mark.parametrize("row_bytes", [300, 1000])
def test_rows_are_about_as_long_as_asked_and_the_same_each_time(row_bytes: int, tmp_path: Path) -> None:
    size = write_rows(tmp_path / "a.jsonl", 500, row_bytes)
    write_rows(tmp_path / "b.jsonl", 500, row_bytes)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert len(content) == size
    assert content == (tmp_path / "b.jsonl").read_bytes()
    rows = [json.loads(line) for line in content.splitlines()]
    assert 0.8 < sum(len(row["question"]) + len(row["answer"]) for row in rows) / len(rows) / row_bytes < 1.25


def test_memory_of_children_counts_and_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; {}; time.sleep(1.5)"
    child = f"subprocess.Popen([sys.executable, '-c', {code.format('x = bytearray(200 << 20)')!r}])"
    found = measured(["python", "-c", code.format(child)], tmp_path)
    assert 200 << 20 < found["peak_bytes"] < 400 << 20
    assert found["seconds"] >= 1.5
    with pytest.raises(UserError, match="exit code 3"):
        measured(["python", "-c", "raise SystemExit(3)"], tmp_path)


def test_the_line_names_both_commands() -> None:
    figures = {"seconds": 7.6, "peak_bytes": 3 << 29}
    line = cleaning_line({"rows": 1_000_000, "bytes": 5e8, "audit": figures, "prepare": figures})
    assert line == "1,000,000 rows, 500 MB: audit 8 s, 1.50 GiB; prepare 8 s, 1.50 GiB"
