"""Sources: names, globs, environment variables, and one line for each mistake."""

import zipfile
from pathlib import Path

import pytest

from common.errors import UserError
from data.readers import read_file
from data.sources import SourceConfig, check_sources, expand_environment, list_files


def listed(source: SourceConfig, base: Path) -> list[str]:
    return [file.path.name for file in list_files(check_sources([source])[0], base)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("faq/*.csv.gz", "faq"),
        ("books/dracula.txt.gz", "dracula"),
        ("${DATA}/human/gsm8k.jsonl", "gsm8k"),
        ("${DATA}/*.csv", "source"),
        ("a/**/*.txt", "a"),
    ],
)
def test_a_source_without_a_name_is_called_after_its_path(path: str, name: str) -> None:
    assert check_sources([SourceConfig(path=path)])[0].name == name


def test_equal_names_from_paths_are_told_apart_and_equal_given_names_are_refused() -> None:
    names = [source.name for source in check_sources([SourceConfig(path="a/x.csv"), SourceConfig(path="b/x.csv")])]
    assert names == ["x", "x-2"]
    with pytest.raises(UserError, match="two sources have this name"):
        check_sources([SourceConfig(name="x", path="a.csv"), SourceConfig(name="x", path="b.csv")])


def test_a_glob_lists_its_files_sorted_and_a_plain_name_may_hold_glob_characters(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "[x].csv"):
        (tmp_path / name).write_text("question,answer\n")
    assert listed(SourceConfig(path="*.csv"), tmp_path) == ["[x].csv", "a.csv", "b.csv"]
    assert listed(SourceConfig(path="[x].csv"), tmp_path) == ["[x].csv"]


def test_environment_variables_expand_and_an_unset_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", "/data/x")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert expand_environment("${SOME_FOLDER}/a.csv", "source") == "/data/x/a.csv"
    with pytest.raises(UserError, match="NOT_SET, which is not set"):
        expand_environment("${NOT_SET}/a.csv", "source")


def test_a_zip_archive_lists_its_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("folder/b.txt", "b")
        archive.writestr("a.txt", "a")
    files = list_files(check_sources([SourceConfig(path="x.zip", kind="text")])[0], tmp_path)
    assert [file.member for file in files] == ["a.txt", "folder/b.txt"]


def test_members_and_names_that_leave_the_folder_are_read_and_nothing_is_written(tmp_path: Path) -> None:
    """A member is data under its own name: nothing is unpacked to a path, and no control character is shown."""
    inside, above = tmp_path / "a" / "b", "../../above.csv"
    inside.mkdir(parents=True)
    with zipfile.ZipFile(inside / "x.zip", "w") as archive:
        for name in (above, str(tmp_path / "absolute.csv"), "c\x1b[2J\n.csv"):
            archive.writestr(name, "question,answer\nWhat?,That.\n")
    source = check_sources([SourceConfig(name="../../up", path="x.zip")])[0]
    before = sorted(tmp_path.rglob("*"))
    files = list_files(source, inside)
    assert [[row["answer"] for row in read_file(file, source)] for file in files] == [["That."]] * 3
    assert sorted(tmp_path.rglob("*")) == before
    assert all(file.shown.isprintable() for file in files)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "utf-8-sig", "utf-16", "utf-32-le", "cp1252", "shift_jis", "gb18030"]
)
def test_encodings_of_text_are_accepted(encoding: str) -> None:
    assert check_sources([SourceConfig(path="x.csv", encoding=encoding)])[0].encoding == encoding


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SourceConfig(), "path is missing"),
        (SourceConfig(name="a\nb\x1b[31m", path="x.csv"), "holds what cannot be printed"),
        (SourceConfig(path="x.csv", kind="prose"), "kind is qa or text, not 'prose'"),  # type: ignore[arg-type]
        (SourceConfig(path="x.csv", preset="squat"), "preset is squad, alpaca or chat, not 'squat'"),  # type: ignore[arg-type]
        (SourceConfig(path="x.csv", format="xls"), "format is one of csv"),  # type: ignore[arg-type]
        (SourceConfig(path="x.csv", encoding="utf-9"), "no encoding 'utf-9'"),
        (SourceConfig(path="x.csv", encoding="hex"), "'hex'"),
        (SourceConfig(path="x.csv", encoding="rot13"), "'rot13'"),
        (SourceConfig(path="x.csv", encoding="idna"), "'idna'"),
        (SourceConfig(path="x.csv", encoding="undefined"), "'undefined'"),
        (SourceConfig(path="x.csv", encoding="a\0b"), "no encoding"),
        (SourceConfig(path="x.csv", weight=0), "weight is a number above 0"),
        (SourceConfig(path="x.csv", weight=1000.1), "weight is a number above 0, 1,000 at most, not 1000.1"),
        (SourceConfig(path="x.csv", weight=1e308), "1,000 at most, not 1e"),
        (SourceConfig(path="x.csv", weight=float("nan")), "1,000 at most, not nan"),
        (SourceConfig(path="x.csv", delimiter=";;"), "delimiter is one character"),
        (SourceConfig(path="x.json", preset="squad", question="q"), "leave out question"),
        (SourceConfig(path="x.txt", kind="text", answer="a"), "kind text has no answer"),
        (SourceConfig(path="x.csv", split="line"), "split is for kind text"),
        (SourceConfig(path="x.txt", kind="text", split="("), "no regular expression"),
        (SourceConfig(path="missing.csv"), "no such file"),
        (SourceConfig(path="*.missing"), "no file matches"),
        (SourceConfig(path="."), "is a folder"),
        (SourceConfig(path="empty.csv"), "is empty"),
        (SourceConfig(path="notes.txt"), "does not look like a table"),
        (SourceConfig(path="bad.zip"), "cannot be read as a zip"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_source(source: SourceConfig, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bad.zip").write_text("hello")
    with pytest.raises(UserError, match=message) as caught:
        list_files(check_sources([source])[0], tmp_path)
    assert "\n" not in str(caught.value)
    assert "source" in str(caught.value)
