"""Files without a [[source]]: what is guessed of each, and that it is said."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from data.guess import asked_in, guess, guessed_sources, questions_of
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")


def settings_of(source: SourceConfig) -> dict[str, Any]:
    """What differs from the defaults."""
    return {name: value for name, value in vars(source).items() if value != getattr(SourceConfig(), name)}


def rows(source: SourceConfig) -> list[dict[str, Any]]:
    checked = check_sources([source])[0]
    return [row for file in list_files(checked, Path(".")) for row in read_file(file, checked)]


RECORD = {"id": "7", "Question": "Why is it so?", "answer": "It is so by law.", "category": "law", "note": "x" * 200}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "question and answer": (
        RECORD,
        {"question": "Question", "answer": "answer", "category": "category"},
        "column 'Question' is the question, 'answer' the answer",
    ),
    "prompt and completion": (
        {"completion": "c", "prompt": "p", "difficulty": "hard", "context": "k"},
        {"question": "prompt", "answer": "completion", "difficulty": "difficulty", "context": "context"},
        "column 'prompt' is the question, 'completion' the answer",
    ),
    "q and a": ({"q": "why?", "a": "so"}, {"question": "q", "answer": "a"}, "'q' is the question, 'a' the answer"),
    "alpaca": (
        {"instruction": "Say it.", "input": "", "output": "It."},
        {"preset": "alpaca"},
        "instruction + input is the question, output the answer",
    ),
    "text": ({"path": "x", "text": "A long text."}, {"kind": "text", "text": "text"}, "column 'text' is a text"),
    "title and body": ({"title": "T", "body": "B"}, {"kind": "text", "text": "body"}, "column 'body' is a text"),
    "the longest": (
        {"key": "k", "remarks": "the longest column there is"},
        {"kind": "text", "text": "remarks"},
        "column 'remarks' is a text",
    ),
}


def as_csv(record: dict[str, Any]) -> bytes:
    import csv

    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([list(record), list(record.values())])
    return buffer.getvalue().encode()


WRITERS: dict[str, Any] = {
    "x.csv": as_csv,
    "x.csv.gz": lambda record: gzip.compress(as_csv(record)),
    "x.jsonl": lambda record: json.dumps(record).encode() + b"\n",
    "x.json": lambda record: json.dumps([record]).encode(),
    "nested.json": lambda record: json.dumps({"version": 1, "data": [record]}).encode(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", WRITERS)
def test_columns_tell_what_a_table_is(name: str, shape: str, tmp_path: Path) -> None:
    record, wanted, said = SHAPES[shape]
    path = tmp_path / name
    path.write_bytes(WRITERS[name](record))
    source, line = guess(path)
    assert settings_of(source) == {"path": str(path), **wanted}
    assert line == f"{path}: {said}" or line.endswith(said)
    [row] = rows(source)
    assert row["reason"] is None


def test_parquet_tells_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"question": ["why?"], "reply": ["so"], "other": [1]}), path)
    source, _ = guess(path)
    assert settings_of(source) == {"path": str(path), "question": "question", "answer": "reply"}


def test_squad_and_texts_and_archives(tmp_path: Path) -> None:
    article = {
        "title": "T",
        "paragraphs": [{"context": "c", "qas": [{"question": "why?", "answers": [{"text": "so"}]}]}],
    }
    (tmp_path / "s.json").write_text(json.dumps({"data": [article]}))
    source, line = guess(tmp_path / "s.json")
    assert source.preset == "squad"
    assert "SQuAD" in line
    assert [row["answer"] for row in rows(source)] == ["so"]
    for name in ("a.txt", "README", "b.md"):
        (tmp_path / name).write_text("A text.\n")
        source, line = guess(tmp_path / name)
        assert settings_of(source) == {"path": str(tmp_path / name), "kind": "text"}
        assert line.endswith("a text")
        assert [row["text"] for row in rows(source)] == ["A text.\n"]
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("one.txt", "A text.")
        archive.writestr("two.txt", "Another.")
    source, line = guess(tmp_path / "z.zip")
    assert "each member" in line
    assert [row["text"] for row in rows(source)] == ["A text.", "Another."]


DAMAGED = {
    "x.csv.gz": gzip.compress(b"question,answer\nwhy?,so\n" * 99)[:12],  # not a byte of the first line
    "x.parquet": b"no parquet at all",
    "x.json": b"[",
    "list.json": b'["x", "y"]',
    "empty.jsonl": b"\n\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_read_is_said_and_left_to_the_reader(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    source, line = guess(tmp_path / name)
    assert "nothing in it could be read as a row" in line
    assert all(row["reason"] for row in rows(source))


def test_a_folder_stands_for_its_files_in_order_and_each_source_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/x.csv", "a.csv", "c.jsonl.gz", "picture.png", "x.csv"):
        content = as_csv(RECORD) if ".csv" in name else gzip.compress(json.dumps(RECORD).encode())
        (tmp_path / name).write_bytes(content)
    sources, lines = guessed_sources([str(tmp_path)])
    assert [source.path for source in sources] == [
        str(tmp_path / name) for name in ("a.csv", "b/x.csv", "c.jsonl.gz", "x.csv")
    ]
    assert len({source.name for source in sources}) == 4
    assert len(lines) == 4


def test_an_archive_in_a_folder_is_read_as_one_that_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("z.zip", "more/Y.ZIP"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("one.txt", f"A text of {name}.")
            archive.writestr("in/two.md", "Another.")
    (tmp_path / "x.csv").write_bytes(as_csv(RECORD))
    (tmp_path / "figure.png").write_bytes(b"no text")
    sources, lines = guessed_sources([str(tmp_path)])
    assert [Path(source.path).name for source in sources] == ["Y.ZIP", "x.csv", "z.zip"]
    assert ["each member" in line for line in lines] == [True, False, True]
    alone, _ = guessed_sources([str(tmp_path / "z.zip")])
    assert rows(sources[2]) == rows(alone[0])
    assert [row["text"] for row in rows(sources[2])] == ["Another.", "A text of z.zip."]
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"broken\.zip cannot be read as a zip archive"):
        for source in guessed_sources([str(tmp_path)])[0]:
            list_files(source, Path("."))


MISTAKES: dict[str, tuple[bytes | None, str]] = {
    "none.csv": (None, "no such file"),
    "": (None, "no file in it has a name that ends in one of"),
    "zero.csv": (b"", "source 'zero': .*is empty"),
    "n.jsonl": (b'{"a1": 1, "b2": 2}\n', "n.jsonl: none of its columns .a1, b2. looks like"),
    "z.zip": (b"no archive", "cannot be read as a zip archive"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name: str, tmp_path: Path) -> None:
    content, said = MISTAKES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as found:
        for source in guessed_sources([str(tmp_path / name)])[0]:
            list_files(source, Path("."))
    assert "\n" not in str(found.value)


def test_questions_of_files_bear_the_path_of_their_file(tmp_path: Path) -> None:
    assert [*questions_of([])] == []
    assert asked_in([]) is None
    (tmp_path / "exam.jsonl").write_text('{"question": "Why is the sky so blue at noon in May?", "answer": "Air."}\n')
    [row] = questions_of([str(tmp_path / "exam.jsonl")])
    assert row["source"] == str(tmp_path / "exam.jsonl")
    asked = asked_in([str(tmp_path / "exam.jsonl")])
    assert asked is not None
    assert asked.names == [row["source"]]
    (tmp_path / "t.txt").write_text("No question.")
    with pytest.raises(UserError, match="no question in it"):
        [*questions_of([str(tmp_path / "t.txt")])]


@pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder")
def test_real_files_are_what_they_are() -> None:
    wanted = {
        "human/gsm8k_test.jsonl.gz": {"question": "question", "answer": "answer"},
        "human/medquad_gard.csv.gz": {"question": "question", "answer": "answer"},
        "human/opentriviaqa.csv.gz": {"question": "question", "answer": "answer", "category": "category"},
        "llm/alpaca_5000.json.gz": {"preset": "alpaca"},
        "multilingual/xquad.en.json.gz": {"preset": "squad"},
        "quantum/platypus_en_docs.jsonl.gz": {"kind": "text", "text": "text"},
        "books/345_dracula.txt.gz": {"kind": "text"},
    }
    for name, settings in wanted.items():
        source, _ = guess(CORPORA / name)
        assert settings_of(source) == {"path": str(CORPORA / name), **settings}


def test_an_archive_is_what_its_first_member_is(tmp_path: Path) -> None:
    rows = "question,answer\nWhy is it so late?,Because the clock is fast.\nWho says so?,Everybody who was asked.\n"
    for name, member, content in (("qa.zip", "part/a.csv", rows), ("texts.zip", "a.txt", "It was late, as always.\n")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, content)
    sources, lines = guessed_sources([str(tmp_path)])
    assert [(source.kind, source.question) for source in sources] == [("qa", "question"), ("text", None)]
    assert "'question' is the question" in lines[0]
    assert "each member of the archive is a text" in lines[1]
    read = [
        [row["answer"] or row["text"] for file in list_files(s, Path()) for row in read_file(file, s)] for s in sources
    ]
    assert read == [["Because the clock is fast.", "Everybody who was asked."], ["It was late, as always.\n"]]
