"""Readers: fields survive byte for byte, and whatever cannot be read is a row with its reason."""

import csv
import gzip
import io
import json
import random
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.columns import Row
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files


def rows(path: Path, content: bytes | None = None, **config: Any) -> list[Row]:
    if content is not None:
        path.write_bytes(content)
    source = check_sources([SourceConfig(path=path.name, **config)])[0]
    return [row for file in list_files(source, path.parent) for row in read_file(file, source)]


def good(found: list[Row]) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in found if not row["reason"]]


def reasons(found: list[Row]) -> list[tuple[str, str]]:
    return [(row["origin"].rpartition("/")[2], row["reason"]) for row in found if row["reason"]]


# -- CSV

HARD = 'a\r\nb\n\n# not a comment\n\ttab, "quoted" \r end \x0b\x0c\u2028 é 漢 \x00'


def test_hard_fields_survive_csv_byte_for_byte(tmp_path: Path) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["question", "answer"], [HARD, "  spaced  "], ["#x", "\n"]])
    found = rows(tmp_path / "x.csv", buffer.getvalue().encode())
    assert good(found) == [(HARD, "  spaced  "), ("#x", "\n")]


# A NUL in so short a file would make it binary; one in a longer file is tested above.
FIELD = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from('\r\n\t",#'), max_size=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from(",;\t"),
)
def test_valid_csv_reads_as_pythons_csv_module_reads_it(
    tmp_path: Path, table: list[tuple[str, str]], quoting: Any, ending: str, delimiter: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting, lineterminator=ending, delimiter=delimiter)
    writer.writerows([("question", "answer"), *table])
    content = buffer.getvalue().encode()
    expected = list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter))[1:]
    found = rows(tmp_path / "x.csv", content, delimiter=delimiter)
    assert good(found) == [tuple(row) for row in expected if len(row) == 2]
    # Python 3.11 writes "\r" unquoted where lines end in "\n", so even a written table may be ragged.
    assert len(reasons(found)) == sum(len(row) not in (0, 2) for row in expected)


def test_ragged_rows_are_named_by_their_first_line_and_the_others_stay(tmp_path: Path) -> None:
    content = b'question,answer\nq1,"two\nlines"\n\nq2\nq3,a3,extra\nq4,"over\nlines",x\nq5,a5\n'
    found = rows(tmp_path / "x.csv", content)
    assert good(found) == [("q1", "two\nlines"), ("q5", "a5")]
    assert reasons(found) == [("x.csv:5", "ragged"), ("x.csv:6", "ragged"), ("x.csv:7", "ragged")]
    assert found[-2]["raw"] == 'q4,"over\nlines",x\n'
    assert [row["origin"].rpartition(":")[2] for row in found if not row["reason"]] == ["2", "9"]


def test_a_quote_that_never_closes_is_named_and_the_rows_before_it_stay(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.csv", b'question,answer\nq1,a1\nq2,"a2\nq3,a3\n')
    assert good(found) == [("q1", "a1")]
    assert reasons(found) == [("x.csv:3", "unclosed_quote")]


def test_tsv_separates_by_tabs(tmp_path: Path) -> None:
    assert good(rows(tmp_path / "x.tsv", b"question\tanswer\na,b\tc\n")) == [("a,b", "c")]


def test_a_field_longer_than_the_csv_modules_limit_is_read(tmp_path: Path) -> None:
    assert len(rows(tmp_path / "x.csv", b"question,answer\nq," + b"x" * 200_000)[0]["answer"]) == 200_000


# -- encodings


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_rows_with_invalid_bytes_go_to_quarantine_and_the_others_stay(tmp_path: Path, name: str) -> None:
    lines = {
        "x.csv": b"question,answer\nq1,a1\nq2,caf\xe9\nq3,caf\xc3\xa9\n",
        "x.jsonl": b'{}\n{"question":"q1","answer":"a1"}\n{"question":"q2","answer":"caf\xe9"}\n'
        b'{"question":"q3","answer":"caf\xc3\xa9"}\n',
    }
    found = rows(tmp_path / name, lines[name])
    assert good(found) == [("q1", "a1"), ("q3", "café")]
    bad = next(row for row in found if row["reason"] == "encoding")
    assert "caf\\xe9" in bad["raw"]
    assert "0xe9" in bad["detail"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-32", "latin-1"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json"])
def test_declared_encodings_and_byte_order_marks_are_decoded(tmp_path: Path, encoding: str, name: str) -> None:
    row = {"question": "Où?", "answer": "là\n"}
    text = {
        "x.csv": 'question,answer\nOù?,"là\n"\n',
        "x.jsonl": json.dumps(row, ensure_ascii=False) + "\n",
        "x.json": json.dumps([row], ensure_ascii=False),
    }[name]
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    assert good(rows(tmp_path / name, text.encode(encoding), encoding=declared)) == [("Où?", "là\n")]


def test_text_with_a_byte_order_mark_starts_after_it(tmp_path: Path) -> None:
    assert rows(tmp_path / "x.txt", b"\xef\xbb\xbfhi\r\n", kind="text")[0]["text"] == "hi\r\n"


def test_half_a_surrogate_pair_in_an_escape_is_an_encoding_problem(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", b'{"question":"q","answer":"\\ud800"}\n')
    assert [row["reason"] for row in found] == ["encoding"]
    assert all(isinstance(value, str | None) and (value or "").encode() is not None for value in found[0].values())


# -- JSON


def test_a_broken_json_line_is_quarantined_and_the_rest_survives(tmp_path: Path) -> None:
    content = '{"question":"a\u2028b\\n","answer":"1"}\n\n{"question": broken\n[1]\n{"question":"c","answer":"2"}\n'
    found = rows(tmp_path / "x.jsonl", content.encode())
    assert good(found) == [("a\u2028b\n", "1"), ("c", "2")]  # U+2028 ends no line
    assert reasons(found) == [("x.jsonl:3", "broken_json"), ("x.jsonl:4", "not_a_row")]
    assert found[1]["raw"] == '{"question": broken'


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"version": 1, "data": rows}])
def test_json_may_be_an_array_or_an_object_that_holds_one_list(tmp_path: Path, wrap: Any) -> None:
    content = json.dumps(wrap([{"question": "q", "answer": "a"}, 5]), indent=1).encode()
    found = rows(tmp_path / "x.json", content)
    assert good(found) == [("q", "a")]
    assert reasons(found) == [("x.json#2", "not_a_row")]


def test_json_lines_in_a_json_file_are_read_and_broken_json_is_one_row(tmp_path: Path) -> None:
    assert good(rows(tmp_path / "x.json", b'{"question":"q","answer":"a"}\n' * 2)) == [("q", "a")] * 2
    assert reasons(rows(tmp_path / "y.json", b'[{"question": "q",')) == [("y.json", "broken_json")]


def test_presets_read_nested_squad_and_alpaca(tmp_path: Path) -> None:
    qas = [{"question": "q1", "answers": [{"text": "a1"}, {"text": "a2"}]}, {"question": "q2", "answers": []}]
    squad = {"version": "1", "data": [{"title": "T", "paragraphs": [{"context": "C", "qas": qas}]}]}
    found = rows(tmp_path / "x.json", json.dumps(squad).encode(), preset="squad")
    assert [(row["context"], row["question"], row["answer"], row["category"]) for row in found] == [
        ("C", "q1", "a1", "T"),
        ("C", "q2", None, "T"),
    ]
    assert found[0]["note"] == "answer is a list: the first was taken"
    alpaca = [{"instruction": "i", "input": "x", "output": "o"}, {"instruction": "i", "input": "", "output": "o"}]
    assert good(rows(tmp_path / "y.json", json.dumps(alpaca).encode(), preset="alpaca")) == [("i\nx", "o"), ("i", "o")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "i", "input": None, "output": "o"}, ("i", "o")),
        ({"instruction": "i", "output": "o"}, ("i", "o")),
        ({"instruction": "i", "input": 3, "output": "o"}, ("i\n3", "o")),
        ({"instruction": None, "input": "x y z", "output": "o"}, "empty"),
        ({"instruction": "", "input": "x y z", "output": "o"}, "empty"),
        ({"instruction": "i", "input": ["a"], "output": "o"}, "not_text"),
        ({"instruction": "i", "input": {"a": "b"}, "output": "o"}, "not_text"),
        ({"instruction": ["a"], "input": "", "output": "o"}, "not_text"),
    ],
)
def test_alpaca_rows_hold_no_invented_text(tmp_path: Path, record: dict[str, Any], expected: Any) -> None:
    filler = {"instruction": "i", "input": "", "output": "o"}
    found = rows(tmp_path / "x.json", json.dumps([filler, record]).encode(), preset="alpaca")[1]
    assert (found["reason"] or (found["question"], found["answer"])) == expected
    assert not found["reason"] or json.loads(found["raw"]) == record


def test_values_that_are_not_text_are_converted_or_quarantined_never_guessed(tmp_path: Path) -> None:
    values = [5, 1.5, True, None, ["x", "y"], [], {"a": 1}]
    content = "\n".join(json.dumps({"question": "q", "answer": value}) for value in values)
    found = rows(tmp_path / "x.jsonl", content.encode())
    assert [row["answer"] for row in found[:6]] == ["5", "1.5", "true", None, "x", None]
    assert found[6]["reason"] == "not_text"


# -- columns


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.csv", b"prompt,reply\np,r\n"), ("x.jsonl", b'{"prompt":"p","reply":"r"}'), ("x.parquet", None)],
)
def test_a_column_that_is_not_there_lists_those_that_are(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is None:
        pq.write_table(pa.table({"prompt": ["p"], "reply": ["r"]}), tmp_path / name)
    found = rows(tmp_path / name, content, question="prompt", answer="response")
    assert found[-1]["reason"] == "user_error"
    assert "no column 'response'; there are: prompt, reply" in found[-1]["detail"]
    assert good(rows(tmp_path / name, content, question="prompt", answer="reply")) == [("p", "r")]


def test_a_json_row_without_the_column_is_quarantined_when_others_have_it(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", b'{"question":"q","answer":"a"}\n{"question":"q"}\n')
    assert [row["reason"] for row in found] == [None, "missing_column"]


def test_optional_columns_are_filled_and_empty_cells_are_no_value(tmp_path: Path) -> None:
    content = b"question,answer,c,d,g,x\nq,a,cat,hard,7,ctx\nq,a,,,,\n"
    found = rows(tmp_path / "x.csv", content, category="c", difficulty="d", group="g", context="x")
    fields = [[row[key] for key in ("category", "difficulty", "group", "context")] for row in found]
    assert fields == [["cat", "hard", "7", "ctx"], [None] * 4]


# -- text

BOOK = "title\r\n\r\nChapter 1\r\none\r\n\r\nChapter 2\ntwo, Chapter 3 named inside\n\n"


def test_a_text_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    assert [row["text"] for row in rows(tmp_path / "x.md", BOOK.encode(), kind="text")] == [BOOK]


@pytest.mark.parametrize("pattern", [r"^Chapter", r"(?=^Chapter)", r"^"])
def test_documents_split_by_a_pattern_join_to_the_file(tmp_path: Path, pattern: str) -> None:
    found = rows(tmp_path / "x.txt", BOOK.encode(), kind="text", split=pattern)
    assert "".join(row["text"] for row in found) == BOOK
    if "Chapter" in pattern:
        assert [row["origin"].rpartition(":")[2] for row in found] == ["1", "3", "6"]


def test_a_line_is_a_document_without_its_line_end(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.txt", b"one \r\n\n\xff\n  two\x0c2", kind="text", split="line")
    assert [(row["text"], row["reason"]) for row in found] == [("one ", None), (None, "encoding"), ("  two\x0c2", None)]


def test_text_can_stand_in_a_column(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", b'{"body": "b\\r\\n", "path": "p"}', kind="text", text="body")
    assert [row["text"] for row in found] == ["b\r\n"]


# -- Parquet, compression, damage


def test_parquet_reads_text_numbers_lists_and_invalid_bytes(tmp_path: Path) -> None:
    raw = pa.array([b"q1", b"q2", b"bad \xe9"], pa.binary()).view(pa.string())
    table = pa.table({"question": raw, "answer": pa.array([["a1", "x"], ["a2"], ["a3"]]), "unused": [1, 2, 3]})
    pq.write_table(table, tmp_path / "x.parquet")
    found = rows(tmp_path / "x.parquet")
    assert good(found) == [("q1", "a1"), ("q2", "a2")]
    assert reasons(found) == [("x.parquet#3", "encoding")]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".zip"])
def test_every_format_reads_the_same_compressed(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"question": ["q"], "answer": ["é\r\n"]}), buffer)
    contents = {
        "x.csv": 'question,answer\nq,"é\r\n"\n'.encode(),
        "x.jsonl": '{"question":"q","answer":"é\\r\\n"}'.encode(),
        "x.json": '[{"question":"q","answer":"é\\r\\n"}]'.encode(),
        "x.parquet": buffer.getvalue(),
    }
    for name, content in contents.items():
        path = tmp_path / (name + suffix)
        if suffix == ".gz":
            content = gzip.compress(content)
        elif suffix == ".zst":  # two frames in a row, as `cat a.zst b.zst` makes
            compress = zstandard.ZstdCompressor().compress
            content = compress(content[:5]) + compress(content[5:])
        elif suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(name, content)
            content = path.read_bytes()
        assert good(rows(path, content)) == [("q", "é\r\n")], name


def test_a_damaged_archive_keeps_the_rows_before_the_damage_and_says_where(tmp_path: Path) -> None:
    lines = "".join(f'{{"question":"{i}","answer":"{i * i}"}}\n' for i in range(200_000)).encode()
    compressed = gzip.compress(lines)
    for name, content in {"cut.jsonl.gz": compressed[: len(compressed) // 2], "no.jsonl.gz": lines[:100]}.items():
        found = rows(tmp_path / name, content)
        assert [row["reason"] for row in found if row["reason"]] == ["unreadable"]
        assert "\n" not in found[-1]["detail"]
        assert (len(found) > 10_000) == (name == "cut.jsonl.gz")
    assert "after 1" in found[-1]["detail"] or name == "no.jsonl.gz"


def test_a_zst_file_that_is_cut_short_says_so_and_one_of_two_frames_is_read_whole(tmp_path: Path) -> None:
    lines = [f'{{"question":"{i}","answer":"{i * i}"}}\n' for i in range(100_000)]
    compress = zstandard.ZstdCompressor().compress
    halves = ["".join(lines[:60_000]).encode(), "".join(lines[60_000:]).encode()]
    first, second = (compress(half) for half in halves)
    assert [q for q, _ in good(rows(tmp_path / "two.jsonl.zst", first + second))] == [str(i) for i in range(100_000)]
    assert rows(tmp_path / "two.txt.zst", first + second, kind="text")[0]["text"] == "".join(lines)

    for name, content in {"half": first[: len(first) // 2], "last": first + second[:-1], "start": first[:3]}.items():
        found = rows(tmp_path / f"{name}.jsonl.zst", content)
        assert [row["reason"] for row in found if row["reason"]] == ["unreadable"], name
        assert [q for q, _ in good(found)] == [str(i) for i in range(len(found) - 1)]
        assert (len(found) > 10_000) == (name != "start")
        whole = rows(tmp_path / f"{name}.txt.zst", content, kind="text")
        assert [row["reason"] for row in whole] == ["unreadable"], name
        assert "cut" in whole[0]["detail"]


def unpacked(suffix: str, content: bytes) -> bytes:
    """All that there is to be had of a file that is cut short, by the libraries themselves."""
    if suffix == ".gz":
        return zlib.decompressobj(31).decompress(content)
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.txt"])
def test_of_a_small_file_that_is_cut_short_every_row_before_the_break_is_read(
    tmp_path: Path, name: str, suffix: str
) -> None:
    dice = random.Random()  # another file each time
    words = [f"{dice.getrandbits(40):x}" for _ in range(20_000)]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    if name == "x.csv":
        lines = ["question,answer\n", *(f"{q},{a}\n" for q, a in pairs)]
    elif name == "x.jsonl":
        lines = [json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs]
    else:
        lines = [f"{q} {a}\n" for q, a in pairs]
    content = "".join(lines).encode()
    assert len(content) < 1 << 20
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    config: dict[str, Any] = {"kind": "text", "split": "line"} if name == "x.txt" else {}
    for end in sorted(dice.sample(range(1, len(packed)), 12)):
        found = rows(tmp_path / (name + suffix), packed[:end], **config)
        whole = unpacked(suffix, packed[:end]).count(b"\n") - (name == "x.csv")
        assert [row["reason"] for row in found] == [None] * max(0, whole) + ["unreadable"], end
        assert re.search("cut|ended before", found[-1]["detail"])
        if whole > 0:
            assert found[-1]["detail"].startswith(f"after {whole + (name == 'x.csv')}: ")
            assert (found[whole - 1]["text"] or found[whole - 1]["answer"]).split()[-1] == pairs[whole - 1][1]
    assert not any(row["reason"] for row in rows(tmp_path / (name + suffix), packed, **config))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_chapters_before_a_break_are_kept_and_the_one_that_it_is_in_is_not(tmp_path: Path, suffix: str) -> None:
    dice = random.Random()
    chapters = [f"CHAPTER {i}\n" + "".join(f"{dice.getrandbits(64):x} é\n" for _ in range(400)) for i in range(1, 40)]
    content = "".join(chapters).encode()
    packed = gzip.compress(content) if suffix == ".gz" else zstandard.compress(content)
    for end in (
        len(packed) // 3,
        dice.randrange(len(packed) // 2, len(packed)),
        len(packed) - 1,
    ):  # zstd: 128 kB blocks
        whole = max(0, len(re.findall(rb"(?m)^CHAPTER", unpacked(suffix, packed[:end]))) - 1)
        found = rows(tmp_path / f"x.txt{suffix}", packed[:end], kind="text", split="^CHAPTER ")
        assert [row["text"] for row in found] == [*chapters[:whole], None]
        assert found[-1]["reason"] == "unreadable"
        assert found[-1]["detail"].startswith(f"after {401 * (whole - 1) + 1}: ") or not whole
        [document] = rows(tmp_path / f"x.txt{suffix}", packed[:end], kind="text")
        assert document["reason"] == "unreadable"
    whole_file = rows(tmp_path / f"x.txt{suffix}", packed, kind="text", split="^CHAPTER ")
    assert [row["text"] for row in whole_file] == chapters


def test_the_encoding_of_a_file_that_is_cut_short_is_told_from_what_is_there(tmp_path: Path) -> None:
    words = ["вопрос", "ответ", "москва", "река", "город", "зима", "лето", "хлеб", "дом", "снег", "книга", "школа"]
    dice = random.Random()
    lines = [json.dumps({"question": f"{a} {b}?", "answer": f"{b} {c} {i}"}, ensure_ascii=False) + "\n"
             for i in range(3000) for a, b, c in [dice.choices(words, k=3)]]  # fmt: skip
    packed = gzip.compress("".join(lines).encode("cp1251"))
    found = rows(tmp_path / "x.jsonl.gz", packed[: len(packed) // 2])
    assert len(found) > 500
    assert {row["reason"] for row in found[:-1]} == {None}
    assert found[0]["note"].startswith("read as cp1251")
    assert found[0]["answer"] == json.loads(lines[0])["answer"]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json", "x.parquet", "x.txt", "x.csv.gz", "x.csv.zst"])
def test_binary_garbage_is_one_clear_row(tmp_path: Path, name: str) -> None:
    garbage = bytes((i * 7919 + i // 256 * 104729) % 256 for i in range(20_000))
    found = rows(tmp_path / name, garbage, kind="text" if name == "x.txt" else "qa")
    assert len(found) == 1
    assert found[0]["reason"] in ("binary", "unreadable")
    assert found[0]["detail"]


@pytest.mark.parametrize("content", [b"\n", b"\xef\xbb\xbf", b"question,answer\n"])
def test_a_file_that_holds_no_row_is_one_row_that_says_so(tmp_path: Path, content: bytes) -> None:
    assert reasons(rows(tmp_path / "x.csv", content)) == [("x.csv", "empty")]
