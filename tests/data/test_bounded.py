"""Hostile files: what they unpack to, and how long their lines are, is bounded; each is a row that says so."""

import gzip
import io
import json
import resource
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data import bounded
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(3)]


def rows(path: Path, **config: Any) -> list[Any]:
    source = check_sources([SourceConfig(path=path.name, **config)])[0]
    return [row for file in list_files(source, path.parent) for row in read_file(file, source)]


def reasons(found: list[Any]) -> list[str | None]:
    return [row["reason"] for row in found]


def jsonl(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from data import readers

    monkeypatch.setattr(bounded, "UNQUESTIONED", 4_000_000)
    monkeypatch.setattr(bounded, "WHOLE", 50_000)
    for module in (bounded, readers):
        monkeypatch.setattr(module, "RECORD", 2_000)


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("suffix", [".gz", ".zst", ".zip", ".gz.zip"])
def test_a_bomb_keeps_the_rows_before_it_and_is_named(tmp_path: Path, suffix: str) -> None:
    content = jsonl(GOOD) + b"\n" * 30_000_000
    path = tmp_path / f"x.jsonl{suffix}"
    if suffix == ".zst":
        path.write_bytes(zstandard.compress(content))
    elif suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            inner = gzip.compress(content) if suffix.startswith(".gz") else content
            archive.writestr("x.jsonl" + suffix.removesuffix(".zip"), inner)
    found = rows(path)
    assert reasons(found) == [None, None, None, "unreadable"]
    assert "times as many" in found[-1]["detail"]


def most_bytes(path: Path) -> int:
    """Of the memory that a process of its own takes to read a file, beside what it takes for a small one."""
    script = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(REPOSITORY)!r})
        from tests.data.test_bounded import GOOD, jsonl, last_reason
        from data import bounded
        bounded.UNQUESTIONED = 64 << 20
        import pyarrow.parquet
        path = Path({str(path)!r})
        small = path.parent / "small.jsonl"
        small.write_bytes(jsonl(GOOD))
        last_reason(small)
        def peak():  # of this process alone: ru_maxrss would be that of the one that started it
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

        before = peak()
        found = last_reason(path)
        print(found, (peak() - before) * 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    reason, taken = done.stdout.split()[-2:]
    assert reason == "unreadable"
    return int(taken)


def last_reason(path: Path) -> str | None:
    """Of a file's last row; the rows before it are let go."""
    source = check_sources([SourceConfig(path=path.name)])[0]
    (file,) = list_files(source, path.parent)
    last = None
    for row in read_file(file, source):
        last = row["reason"]
    return last


@pytest.mark.parametrize("nested", [False, True])
def test_a_dictionary_that_many_rows_share_takes_bounded_memory(tmp_path: Path, nested: bool) -> None:
    """A few KB of Parquet: a text of a megabyte, and a thousand rows that name it; 1.6 GB if they were written out."""
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["a" * (1 << 20)]))
    answers = pa.ListArray.from_arrays(pa.array(range(1001), pa.int32()), shared) if nested else shared
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"question": shared, "answer": answers}), path, compression="zstd")
    assert path.stat().st_size < 5000
    assert most_bytes(path) < 200 << 20


def test_json_of_far_too_many_values_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "VALUES", 30_000)
    (tmp_path / "x.json").write_text("[" + ",".join(["[]"] * 20_000) + "]")
    (found,) = rows(tmp_path / "x.json")
    assert (found["reason"], "JSON values in one piece" in found["detail"]) == ("unreadable", True)
    (tmp_path / "y.json").write_text(json.dumps(GOOD * 500))
    assert reasons(rows(tmp_path / "y.json")) == [None] * 1500


@pytest.mark.usefixtures("small_bounds")
def test_text_that_packs_well_is_no_bomb(tmp_path: Path) -> None:
    content = jsonl(
        [{"question": f"What is {i}?", "answer": f"The same answer, {i * i}, once more. " * 30} for i in range(5000)]
    )
    assert len(content) > bounded.UNQUESTIONED
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(content, 19))
    assert 20 < len(content) / path.stat().st_size < bounded.RATIO
    assert reasons(rows(path)) == [None] * 5000


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("name", ["x.jsonl", "x.txt"])
def test_a_line_that_is_too_long_is_one_row_and_the_others_stay(tmp_path: Path, name: str) -> None:
    lines = jsonl(GOOD[:1]) + b'{"question": "' + b"a" * 30_000 + b'"}\n' + jsonl(GOOD[1:])
    (tmp_path / name).write_bytes(lines)
    text = {"kind": "text", "split": "line"} if name.endswith("txt") else {}
    found = rows(tmp_path / name, **text)
    assert reasons(found) == [None, "too_long", None, None]
    assert found[1]["detail"] == "a line of 30,017 characters; 2,000 at most"
    assert found[1]["origin"].endswith(f"{name}:2")
    assert len(found[1]["raw"]) <= 1000


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("filler", ["a" * 30_000, "an open quote, " + "then\nmany\nlines\n" * 1000])
def test_a_csv_row_that_is_too_long_ends_the_file(tmp_path: Path, filler: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'question,answer\nWhat is 0?,It is 0.\n"{filler}\nWhat is 1?,It is 1.\n')
    found = rows(path)
    assert reasons(found) == [None, "too_long"]
    assert "the rest is not read" in found[1]["detail"]
    assert found[1]["origin"].endswith("x.csv:3")


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.txt"])
def test_a_file_that_must_be_read_whole_has_a_largest_size(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps(GOOD * 1000))
    elif name.endswith("txt"):
        path.write_text("Prose. " * 10_000)
    else:
        pq.write_table(pa.table({"question": [str(i) * 20 for i in range(9000)], "answer": ["x"] * 9000}), path)
    found = rows(path, **({"kind": "text"} if name.endswith("txt") else {}))
    assert reasons(found) == ["unreadable"]
    assert "more than 50,000 bytes in one piece" in found[0]["detail"]


def test_lines_are_those_of_the_wrapper() -> None:
    content = "a\n\nb\r\nc\x0b\x0c\u2028d\n" + "e" * 5000 + "\nlast"
    for newline in ("", "\n"):
        plain, ours = (io.TextIOWrapper(io.BytesIO(content.encode()), "utf-8", newline=newline) for _ in range(2))
        assert list(bounded.lines_of(ours)) == list(plain)


def test_a_gigabyte_in_one_line_takes_bounded_memory(tmp_path: Path) -> None:
    """For real: a process that may take 1.2 GB of address space in all reads a line of 1 GB, packed and plain."""
    before = jsonl(GOOD * 100)  # more than is looked at to tell a table from bytes that are none
    (tmp_path / "x.jsonl").write_bytes(before)
    with (tmp_path / "x.jsonl").open("r+b") as file:  # a sparse file: a hole of NUL bytes in one line
        file.seek(len(before) + (1 << 30))
        file.write(b"\n" + jsonl(GOOD))
    script = f"""
        import sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from pathlib import Path
        from data.readers import read_file
        from data.sources import SourceConfig, check_sources, list_files
        import pyarrow, zstandard
        source = check_sources([SourceConfig(path="x.jsonl")])[0]
        for file in list_files(source, Path(".")):
            for row in read_file(file, source):
                print(row["reason"])
    """
    (tmp_path / "read.py").write_text(textwrap.dedent(script))
    limit = (1_200_000_000, 1_200_000_000)
    done = subprocess.run([sys.executable, "read.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))  # fmt: skip
    assert done.stdout.split() == ["None"] * 300 + ["too_long"] + ["None"] * 3, done.stderr[-2000:]
