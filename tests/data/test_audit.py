"""The command: what it guesses and says, what it writes, and that a mistake is one line and exit code 2."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from data.audit import main
from tests.data.made_rows import natural_qa, passage, write_jsonl

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a corpus of 30 rows, of which 3 are copies, another version of it, and a text."""
    monkeypatch.chdir(tmp_path)
    rows = natural_qa(random.Random(1), 27)
    write_jsonl(tmp_path / "new.jsonl", [*rows, *rows[:3]])
    write_jsonl(tmp_path / "old.jsonl", [*rows[:20], *rows[:10]])
    (tmp_path / "book.txt").write_text(passage(random.Random(2), 40))
    return tmp_path


def audited(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["data/audit.py", *words])
    main()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_files_are_guessed_and_said_and_report_and_page_are_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audited(monkeypatch, "new.jsonl", "book.txt")
    told = capsys.readouterr().out
    assert "new.jsonl: column 'question' is the question, 'answer' the answer\nbook.txt: a text\n" in told
    assert "grade " in told
    assert "json: audit.json\npage: audit.html\nnext: python data/prepare.py" in told
    found = read(folder / "audit.json")
    assert found["rows"] == 31
    assert [(f["kind"], f["count"]) for f in found["findings"]] == [("exact_duplicate", 3)]
    page = (folder / "audit.html").read_text()
    assert page.startswith("<!doctype html>")
    assert found["findings"][0]["rows"][0].partition(":")[0] == "new.jsonl"


def test_out_and_json_name_the_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited(monkeypatch, "new.jsonl", "--out", "deep/report", "--json", "elsewhere/found.json", "--seq-len", "7")
    assert (folder / "deep/report/audit.html").exists()
    assert read(folder / "elsewhere/found.json")["seq_len"] == 7
    assert not (folder / "audit.json").exists()
    audited(monkeypatch, "new.jsonl", "--out", "deep/report")
    assert read(folder / "deep/report/audit.json")["seq_len"] == 512


def test_another_version_stands_beside_this_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audited(monkeypatch, "new.jsonl", "--against", "old.jsonl,book.txt")
    told = capsys.readouterr().out
    assert "old.jsonl: column 'question'" in told
    assert read(folder / "audit.json")["rows"] == 30
    page = (folder / "audit.html").read_text()
    assert "exact" in page
    assert "31" in page


def test_a_configuration_names_sources_and_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "new.jsonl").rename(folder / "sub/rows.jsonl")
    (folder / "sub/my.toml").write_text('[[source]]\nname = "mine"\npath = "*.jsonl"\n[prepare]\nmin_bytes = 1000\n')
    audited(monkeypatch, "--config", "sub/my.toml")
    found = read(folder / "runs/my/audit.json")
    assert [source["name"] for source in found["sources"]] == ["mine"]
    assert {f["kind"] for f in found["findings"]} >= {"too_short"}
    audited(monkeypatch, "old.jsonl", "--run", "other")
    assert read(folder / "runs/other/audit.json")["rows"] == 30


def test_questions_of_an_evaluation_are_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in (folder / "new.jsonl").read_text().splitlines()]
    long = next(row for row in rows if len(row["question"].split()) >= 8)
    write_jsonl(folder / "exam.jsonl", [long])
    audited(monkeypatch, "new.jsonl", "--questions", "exam.jsonl")
    [finding] = [f for f in read(folder / "audit.json")["findings"] if f["kind"] == "contamination"]
    wanted = [f"new.jsonl:{i}" for i, row in enumerate(rows, 1) if row["question"] == long["question"]]
    assert sorted(finding["rows"]) == sorted(wanted)
    assert "exam.jsonl:1" in finding["examples"][0]["detail"]


MISTAKES = {
    "no such file": (["none.csv"], "no such file: none.csv"),
    "an empty file": (["zero.csv"], "source 'zero': zero.csv is empty"),
    "a folder without files": (["empty"], "empty: no file in it has a name that ends in one of"),
    "files and a configuration": (["new.jsonl", "--config", "my.toml"], "name files or --config, not both"),
    "no such configuration": (["--config", "none.toml"], "none.toml"),
    "a flag that is none": (["new.jsonl", "--wrong", "1"], "--wrong"),
    "no number": (["new.jsonl", "--seq_len", "x"], "--seq_len: expected a whole number, got 'x'"),
    "no context": (["new.jsonl", "--seq-len", "0"], "--seq_len is a number of tokens, 1 or more, not 0"),
    "no engine": (["new.jsonl", "--engine", "spark"], "--engine: expected one of native, ray"),
    "out is a file": (["new.jsonl", "--out", "book.txt"], "--out book.txt: "),
    "out cannot be": (["new.jsonl", "--out", "/proc/none"], "--out /proc/none: "),
    "json cannot be": (["new.jsonl", "--json", "book.txt/x.json"], "--json book.txt/x.json: "),
    "json is a folder": (["new.jsonl", "--json", "empty"], "--json empty: "),
    "no other version": (["new.jsonl", "--against", "none.csv"], "no such file: none.csv"),
    "no questions": (["new.jsonl", "--questions", "book.txt"], "book.txt: no question in it"),
    "no such questions": (["new.jsonl", "--questions", "none.csv"], "no such file: none.csv"),
    "no tokenizer": (["new.jsonl", "--tokenizer", "none.json"], "--tokenizer none.json: no such file"),
    "another tokenizer": (["new.jsonl", "--tokenizer", "new.jsonl"], "--tokenizer new.jsonl: "),
    "no list": (["object.json"], "source 'object': object.json: holds"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "zero.csv").touch()
    (folder / "empty").mkdir()
    (folder / "my.toml").write_text('[[source]]\npath = "new.jsonl"\n')
    (folder / "object.json").write_text('{"a": [1], "b": [2]}')
    words, said = MISTAKES[case]
    with pytest.raises(UserError) as found:
        audited(monkeypatch, *words)
    assert said in str(found.value)
    assert "\n" not in str(found.value)
    assert "grade" not in capsys.readouterr().out
    assert not (folder / "audit.json").exists()


def test_an_engine_that_is_not_installed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="--engine ray needs the package ray"):
        audited(monkeypatch, "new.jsonl", "--engine", "ray")


def test_as_a_user_types_it(folder: Path) -> None:
    """A process of its own: exit codes, the one line, and nothing else on the terminal."""
    script = [sys.executable, str(REPOSITORY / "data/audit.py")]
    good = subprocess.run([*script, "new.jsonl"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert (good.returncode, good.stderr) == (0, "")
    assert all(len(line) <= 100 for line in good.stdout.splitlines() if not line.startswith("next: "))
    bad = subprocess.run([*script, "none.csv"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert (bad.returncode, bad.stderr) == (2, "error: no such file: none.csv\n")


def test_another_version_of_which_nothing_can_be_read_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "old.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(UserError, match=r"--against old\.png: no row of it can be read: binary: "):
        audited(monkeypatch, "new.jsonl", "--against", "old.png")
    assert "better" not in capsys.readouterr().out


def test_why_a_file_is_not_read_is_said_in_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "old.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    audited(monkeypatch, "old.png")
    assert re.search(r"binary: .* NUL bytes", capsys.readouterr().out)


def test_an_encoding_that_was_detected_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(
        f"Was kostet das Gerät Nummer {i}?,Es kostet ungefähr {i} Euro für jeden Käufer.\n" for i in range(40)
    )
    (folder / "l1.csv").write_bytes(f"question,answer\n{rows}".encode("cp1252"))
    audited(monkeypatch, "l1.csv")
    assert re.search(r"read in another encoding: l1\.csv (cp1252|latin-1|iso-8859-1)", capsys.readouterr().out)
    audited(monkeypatch, "new.jsonl")
    assert "another encoding" not in capsys.readouterr().out


def test_a_column_of_addresses_is_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "pages.jsonl").open("w") as file:
        for i in range(20):
            said = passage(random.Random(i), 1)
            file.write(json.dumps({"source_url": f"https://example.org/{'x' * 200}/{i}", "said": said}) + "\n")
    audited(monkeypatch, "pages.jsonl")
    assert "example.org" not in json.dumps(read(folder / "audit.json")["sample"])
