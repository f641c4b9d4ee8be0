"""prepare: every row accounted for, nothing leaks, nothing depends on order, nothing half-written."""

import csv
import json
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data.gather as gather
from common.errors import UserError
from data.clean import normal
from data.config import PrepareConfig, check_config
from data.fitting import FittedStep, Training
from data.pipeline import prepare, summary
from data.sources import SourceConfig, check_sources

ROOT = Path(__file__).resolve().parents[2]


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ("question", "answer")) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def questions(num: int, seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    say = lambda: " ".join(f"w{rng.randrange(10**5)}" for _ in range(7))  # noqa: E731
    return [(say(), say()) for _ in range(num)]


def book(num_paragraphs: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(500)]
    return "".join(" ".join(rng.choices(words, k=40)) + "\n\n" for _ in range(num_paragraphs))


def splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    names = ("train", "val", "test", "quarantine")
    return {name: pq.read_table(folder / f"{name}-00000.parquet").to_pylist() for name in names}


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] if row["text"] is not None else f"{row['question']}|{row['answer']}" for row in rows]


def test_every_row_is_in_one_split_or_in_quarantine_with_its_place_and_reason(tmp_path: Path) -> None:
    rows = [*questions(100), ("only a question", ""), ("a?", "b"), questions(1)[0], ("ragged",)]
    write_csv(tmp_path / "x.csv", rows)
    (tmp_path / "y.jsonl").write_bytes(
        b"\n".join(json.dumps({"question": q, "answer": a}).encode() for q, a in questions(50, 1))
        + b'\n{"broken\n\xff\n'
    )
    manifest = prepare(
        [SourceConfig(path="*.csv"), SourceConfig(path="y.jsonl")], PrepareConfig(), tmp_path / "out", tmp_path
    )
    found = splits(tmp_path / "out")
    assert manifest["rows_read"] == 156
    assert sum(len(of) for of in found.values()) == 156
    assert manifest["quarantine"]["rows"] == 6
    assert manifest["quarantine"]["reasons"] == dict.fromkeys(
        ["empty", "too_short", "exact_duplicate", "ragged", "broken_json", "encoding"], 1
    )
    assert {row["reason"]: f"{row['origin']}: {row['detail']}" for row in found["quarantine"]} == manifest[
        "quarantine"
    ]["first"]
    assert Counter(row["reason"] for row in found["quarantine"]) == manifest["quarantine"]["reasons"]
    places = {row["reason"]: row["origin"].rpartition("/")[2] for row in found["quarantine"]}
    assert places["empty"] == "x.csv:102"
    assert places["ragged"] == "x.csv:105"
    assert places["broken_json"] == "y.jsonl:51"
    assert manifest["splits"]["train"]["documents"] == len(found["train"])
    assert manifest["splits"]["val"]["bytes"] == sum(row["n_bytes"] for row in found["val"])
    everything = Counter(texts([*found["train"], *found["val"], *found["test"]]))
    assert everything == Counter(f"{q}|{a}" for q, a in questions(100) + questions(50, 1))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    assert any("6 of 156" in line for line in summary(manifest))


def test_files_have_the_documented_columns_and_types(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [(q, a, "C", "") for q, a in questions(30)], ("question", "answer", "cat", "level"))
    source = SourceConfig(path="x.csv", category="cat", difficulty="level")
    prepare([source], PrepareConfig(), tmp_path / "out", tmp_path)
    names = [
        "id",
        "source",
        "kind",
        "text",
        "context",
        "question",
        "answer",
        "category",
        "difficulty",
        "group",
        "n_bytes",
        "origin",
    ]
    for split in ("train", "val", "test"):
        schema = pq.read_schema(tmp_path / "out" / f"{split}-00000.parquet")
        assert schema.names == names
        assert all(field.type == (pa.int64() if field.name == "n_bytes" else pa.string()) for field in schema)
    row = splits(tmp_path / "out")["train"][0]
    assert (row["text"], row["context"], row["category"], row["difficulty"]) == (None, None, "C", None)
    assert row["n_bytes"] == len(row["question"].encode()) + len(row["answer"].encode())
    assert pq.read_schema(tmp_path / "out" / "quarantine-00000.parquet").names == [*names, "reason", "detail", "raw"]


def test_content_decides_not_the_order_or_the_names_of_files_nor_the_readers_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*questions(300), *[(f"{q} ", a) for q, a in questions(20)]]
    rows += [
        (f"{q} again", "an answer that is longer than fifty bytes, and shared by these rows")
        for q, _ in questions(15, 3)
    ]
    source = SourceConfig(name="s", path="*.csv")
    found = []
    for i, order in enumerate([rows, rows[::-1], random.Random(5).sample(rows, len(rows))]):
        folder = tmp_path / str(i)
        folder.mkdir()
        for part in range(i + 1):  # one file, two, three
            write_csv(folder / f"{'zya'[part]}.csv", order[part :: i + 1])
        manifest = prepare([source], PrepareConfig(), folder / "out", folder)
        strip = lambda of: [{key: value for key, value in row.items() if key != "origin"} for row in of]  # noqa: E731
        found.append(
            (manifest["fingerprint"], {n: strip(of) for n, of in splits(folder / "out").items() if n != "quarantine"})
        )
    assert found[0] == found[1] == found[2]

    real = gather.map_rows

    def shuffled(*given: Any) -> Iterator[pa.RecordBatch]:
        """Rows of all files mixed, in batches of other sizes."""
        table = pa.Table.from_batches(real(*given))
        table = table.take(random.Random(1).sample(range(len(table)), len(table)))
        yield from table.combine_chunks().to_batches(max_chunksize=37)

    monkeypatch.setattr(gather, "map_rows", shuffled)
    prepare([source], PrepareConfig(), tmp_path / "shuffled", tmp_path / "2")
    assert splits(tmp_path / "shuffled") == splits(tmp_path / "2" / "out")
    assert (tmp_path / "shuffled/manifest.json").read_text() == (tmp_path / "2/out/manifest.json").read_text()


def test_another_seed_is_another_split_and_another_fingerprint(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", questions(200))
    made = [prepare([SourceConfig(path="x.csv")], PrepareConfig(seed=s), tmp_path / str(s), tmp_path) for s in (0, 1)]
    assert made[0]["fingerprint"] != made[1]["fingerprint"]
    assert texts(splits(tmp_path / "0")["val"]) != texts(splits(tmp_path / "1")["val"])


def test_what_a_killed_prepare_left_behind_is_cleared_up(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", questions(60))
    (tmp_path / "run" / ".corpus.rows").mkdir(parents=True)
    (tmp_path / "run" / ".corpus.rows" / "rows.jsonl").write_text("not a row\n")
    manifest = prepare([SourceConfig(path="x.csv")], PrepareConfig(), tmp_path / "run" / "corpus", tmp_path)
    assert manifest["rows_read"] == 60
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["corpus"]


def test_a_corpus_of_other_content_is_not_overwritten(tmp_path: Path) -> None:
    source = SourceConfig(path="x.csv")
    write_csv(tmp_path / "x.csv", questions(100))
    first = prepare([source], PrepareConfig(), tmp_path / "out", tmp_path)
    assert prepare([source], PrepareConfig(), tmp_path / "out", tmp_path) == first
    write_csv(tmp_path / "x.csv", questions(101))
    with pytest.raises(UserError, match="nothing is overwritten"):
        prepare([source], PrepareConfig(), tmp_path / "out", tmp_path)
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == first


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.toml")), ids=lambda file: file.name)
def test_the_configurations_that_come_with_the_repository_name_valid_sources(file: Path) -> None:
    values = tomllib.loads(file.read_text())
    assert check_sources([SourceConfig(**source) for source in values.get("source", [])])
    check_config(PrepareConfig(**values.get("prepare", {})))


def test_the_example_for_own_data_prepares_a_folder_of_that_shape(tmp_path: Path) -> None:
    for folder in ("faq", "books"):
        (tmp_path / folder).mkdir()
    write_csv(tmp_path / "faq/a.csv", questions(50))
    (tmp_path / "books/b.txt").write_text(book(40))
    text = (ROOT / "configs/own-data.toml").read_text()
    values = tomllib.loads(text)
    manifest = prepare(
        [SourceConfig(**source) for source in values["source"]], PrepareConfig(), tmp_path / "out", tmp_path
    )
    assert [(source["name"], source["rows"]) for source in manifest["sources"]] == [("faq", 50), ("books", 1)]
    # What is commented out is an example too: every key that it shows exists.
    shown = re.findall(r"^# ?(\w+) = ", text.partition("[prepare]")[0], re.MULTILINE)
    assert set(shown) <= {field.name for field in fields(SourceConfig)}
    assert len(shown) > 8


def side_of(folder: Path) -> dict[str, set[str]]:
    """Question -> the splits that it stands in."""
    sides: dict[str, set[str]] = {}
    for name, rows in splits(folder).items():
        for row in rows:
            if name != "quarantine":
                sides.setdefault(row["question"], set()).add(name)
    return sides


def test_related_rows_stand_on_one_side_and_share_their_group(tmp_path: Path) -> None:
    rows: list[tuple[str, ...]] = [(q, a, "", "") for q, a in questions(400)]
    families = []
    for i, (q, a) in enumerate(questions(120, 7)):
        context = f"a context of family {i} " + "which is longer than fifty bytes " * 2
        kin: list[tuple[str, ...]] = [(f"{q} {k} {questions(1, 100 + i * 3 + k)[0][0]}", a, "", "") for k in range(3)]
        if i % 3 == 0:
            kin = [(*row[:2], context, "") for row in kin]
        elif i % 3 == 1:
            kin = [(*row[:3], f"g{i}") for row in kin]
        else:
            kin = [(f"{q} {' '.join(f'same{i}-{n}' for n in range(30))} {k}", a, "", "") for k in range(3)]
        families.append([row[0] for row in kin])
        rows += kin
    write_csv(tmp_path / "x.csv", rows, ("question", "answer", "passage", "unit"))
    source = SourceConfig(path="x.csv", context="passage", group="unit")
    prepare([source], PrepareConfig(val_share=0.2, test_share=0.2), tmp_path / "out", tmp_path)
    sides = side_of(tmp_path / "out")
    assert all(len(set.union(*(sides[question] for question in kin))) == 1 for kin in families)
    found = splits(tmp_path / "out")
    groups = {row["question"]: row["group"] for name in ("train", "val", "test") for row in found[name]}
    assert all(len({groups[question] for question in kin}) == 1 for kin in families)
    assert len({name for kin in families for name in sides[kin[0]]}) == 3


def test_thousands_of_rows_with_one_answer_or_one_instruction_are_no_group(tmp_path: Path) -> None:
    stock = "a stock answer that is longer than fifty bytes, as a refusal often is"
    write_csv(tmp_path / "x.csv", [(q, "true" if i % 2 else stock) for i, (q, _) in enumerate(questions(3000))])
    manifest = prepare([SourceConfig(path="x.csv")], PrepareConfig(), tmp_path / "out", tmp_path)
    assert manifest["groups"] == 3000
    assert manifest["shared_limit"] == 30


def test_a_corpus_of_twenty_rows_is_split_and_one_of_two_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", questions(20))
    manifest = prepare([SourceConfig(path="x.csv")], PrepareConfig(), tmp_path / "out", tmp_path)
    assert {name: split["documents"] for name, split in manifest["splits"].items()} == {
        "train": 18,
        "val": 1,
        "test": 1,
    }
    write_csv(tmp_path / "x.csv", questions(2))
    with pytest.raises(UserError, match="split would be empty"):
        prepare([SourceConfig(path="x.csv")], PrepareConfig(), tmp_path / "two", tmp_path)
    assert not (tmp_path / "two").exists()


def test_one_book_is_cut_into_blocks_that_join_to_it_and_share_no_group(tmp_path: Path) -> None:
    content = "\ufeff" + book(300).replace("\n", "\r\n")
    (tmp_path / "b.txt").write_bytes(content.encode())
    manifest = prepare([SourceConfig(path="b.txt", kind="text")], PrepareConfig(), tmp_path / "out", tmp_path)
    found = splits(tmp_path / "out")
    assert {name: len(rows) for name, rows in found.items()} == {"train": 1, "val": 1, "test": 1, "quarantine": 2}
    assert (manifest["rows_read"], manifest["pieces_added"], manifest["cut"]) == (1, 4, 1)
    assert [row["reason"] for row in found["quarantine"]] == ["gap", "gap"]
    pieces = sorted(
        (row for rows in found.values() for row in rows),
        key=lambda row: int(row["origin"].partition("[")[2].partition(":")[0]),
    )
    assert "".join(row["text"] for row in pieces) == content.removeprefix("\ufeff")
    assert len({row["group"] for row in pieces}) == 4
    assert len({row["group"].partition("/")[0] for row in pieces}) == 1


@pytest.mark.parametrize("alone", [True, False])
def test_two_editions_of_one_book_do_not_leak(tmp_path: Path, alone: bool) -> None:
    first = book(200)
    second = "Another edition.\n\n" + first.replace("word77 ", "word78 ")
    (tmp_path / "a.txt").write_text(first)
    (tmp_path / "b.txt").write_text(second)
    if not alone:
        for i in range(120):
            (tmp_path / f"other{i}.txt").write_text(book(200, i + 1))
    manifest = prepare([SourceConfig(path="*.txt", kind="text")], PrepareConfig(), tmp_path / "out", tmp_path)
    found = splits(tmp_path / "out")
    pages = {
        name: {page for row in rows for page in row["text"].split("\n\n") if "word77" not in page and len(page) > 20}
        for name, rows in found.items()
        if name != "quarantine"
    }
    assert not pages["train"] & pages["val"]
    assert not pages["train"] & pages["test"]
    assert not pages["val"] & pages["test"]
    assert manifest["quarantine"]["reasons"].get("near_duplicate", 0) == (1 if alone else 0)


def test_blocks_that_another_texts_training_block_holds_go_to_quarantine(tmp_path: Path) -> None:
    novel, other = book(200), book(400, 1)
    half = len(other) // 2
    anthology = other[:half] + novel.replace("\n\n", "\n") + other[half:]  # wrapped otherwise
    contents = {"anthology": anthology, "novel": novel, "apart": book(300, 2), "refrain": book(30, 3) * 7}
    for name, content in contents.items():
        (tmp_path / f"{name}.txt").write_text(content)
    manifest = prepare([SourceConfig(path="*.txt", kind="text")], PrepareConfig(), tmp_path / "out", tmp_path)
    found = splits(tmp_path / "out")
    moved = [row for row in found["quarantine"] if row["reason"] == "overlaps_train"]
    assert [row["origin"].rpartition("/")[2].partition("[")[0] for row in moved] == ["novel.txt"] * 2
    assert all("100%" in row["detail"] for row in moved)
    assert manifest["quarantine"]["reasons"] == {"gap": 8, "overlaps_train": 2}
    assert (len(found["val"]), len(found["test"])) == (3, 3)  # a text that repeats itself keeps its blocks
    pages = {page for row in found["train"] for page in row["text"].split("\n") if page}
    for name in ("val", "test"):
        own = [row for row in found[name] if "refrain" not in row["origin"]]
        assert len(own) == 2
        assert not pages & {page for row in own for page in row["text"].split("\n")}


def test_a_block_that_whole_documents_of_training_hold_goes_to_quarantine(tmp_path: Path) -> None:
    chapters = book(300, 1).split("\n\n")
    (tmp_path / "collected.txt").write_text(book(200) + book(300, 1))
    for i in range(100):  # too short to be cut
        (tmp_path / f"chapter{i}.txt").write_text("\n\n".join(chapters[3 * i : 3 * i + 3]))
    prepare([SourceConfig(path="*.txt", kind="text")], PrepareConfig(), tmp_path / "out", tmp_path)
    found = splits(tmp_path / "out")
    moved = [row for row in found["quarantine"] if row["reason"] == "overlaps_train"]
    assert ["collected" in row["origin"] for row in moved] == [True, True]
    assert not any("collected" in row["origin"] for row in found["val"] + found["test"])


def test_prepare_says_so_where_overlaps_leave_a_split_empty(tmp_path: Path) -> None:
    one, two = book(60, 1), book(60, 2)
    (tmp_path / "a.txt").write_text(one + book(200, 3) + two)
    (tmp_path / "b.txt").write_text(two + book(200, 4) + one)
    with pytest.raises(UserError, match=r"the val split is empty after cleaning: .*overlaps_train 4") as caught:
        prepare([SourceConfig(path="*.txt", kind="text")], PrepareConfig(), tmp_path / "out", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_fitted_step_runs_after_the_split_and_what_it_made_equal_to_train_is_dropped(tmp_path: Path) -> None:
    rows = questions(200)
    write_csv(tmp_path / "x.csv", rows)
    seen: list[str] = []

    def fit(train: Training) -> None:
        seen.extend(row["question"] for row in train)

    def apply(row: dict[str, Any], _: None) -> None:
        row["question"], row["answer"] = "all the same", "for every row"

    config = PrepareConfig()
    with pytest.raises(UserError, match=r"val split is empty after cleaning: equal_to_train 2\d"):
        prepare([SourceConfig(path="x.csv")], config, tmp_path / "out", tmp_path, [FittedStep("same", fit, apply)])
    assert not (tmp_path / "out").exists()
    prepare([SourceConfig(path="x.csv")], config, tmp_path / "out", tmp_path)
    assert sorted(seen) == sorted(row["question"] for row in splits(tmp_path / "out")["train"])

    def shorten(row: dict[str, Any], _: None) -> None:
        row["question"], row["answer"] = str(int(row["question"][1]) % 2 or row["question"]), "the same"

    step = FittedStep("shorten", lambda rows: None, shorten)
    manifest = prepare([SourceConfig(path="x.csv")], PrepareConfig(val_share=0.3), tmp_path / "short", tmp_path, [step])
    found = splits(tmp_path / "short")
    train = {normal(row["question"]) for row in found["train"]}
    assert "1" in train
    assert not any(normal(row["question"]) in train for row in found["val"] + found["test"])
    assert manifest["quarantine"]["reasons"]["equal_to_train"] > 20


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PrepareConfig(val_share=0), "val_share is a share"),
        (PrepareConfig(test_share=0.5), "test_share is a share"),
        (PrepareConfig(min_bytes=-1), "min_bytes"),
        (PrepareConfig(skip=["mojibake?"]), "no cleaning step 'mojibake\\?'"),
    ],
)
def test_settings_out_of_range_are_one_line(config: PrepareConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        prepare([], config, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            b"question,answer\nq,\nq2,\n",
            "no usable row: 2 read, all rejected \\(empty 2\\); the first: .*x.csv:2",
        ),
        ("x.csv", b"question,answer\n", "no usable row: 1 read, all rejected \\(empty 1\\)"),
        ("x.csv", b"prompt,answer\nq,a\n", "source 'x': .*x.csv: no column 'question'; there are: prompt, answer"),
        ("x.json", b"[", "broken_json"),
        ("x.json", b'{"a": 1}', "an object with 0 lists \\(a\\)"),
        ("x.csv.gz", b"not gzip at all", "unreadable"),
        ("x.csv", bytes(range(256)) * 40, "no usable row: 1 read, all rejected \\(binary 1\\)"),
        ("x.parquet", b"PAR1 not really", "unreadable"),
    ],
)
def test_unusable_files_stop_with_one_line_and_nothing_written(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        prepare([SourceConfig(path=name)], PrepareConfig(), tmp_path / "out", tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_command_prints_what_it_did_and_the_next_step_and_refuses_in_one_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "faq.csv", [*questions(60), ("empty", "")])
    (tmp_path / "faq.toml").write_text('[[source]]\npath = "faq.csv"\n[prepare]\nval_share = 0.1\n')
    (tmp_path / "bad.toml").write_text('[[source]]\npath = "faq.csv"\nqestion = "q"\n')
    (tmp_path / "gone.toml").write_text('[[source]]\npath = "gone.csv"\n')

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(ROOT / "data" / "prepare.py"), *words]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = command("--config", "faq.toml", "--test-share", "0.1")
    assert done.returncode == 0, done.stderr
    assert "61 rows in 1 file" in done.stdout
    assert "empty                    1" in done.stdout
    assert done.stdout.splitlines()[-1] == "next:  python tokenizer/train.py --run faq"
    assert (tmp_path / "runs/faq/corpus/manifest.json").exists()
    for words, message in (
        (["--config", "bad.toml"], "unknown key 'qestion'"),
        (["--config", "gone.toml"], "no such file: gone.csv"),
        (["--config", "faq.toml", "--run", "x", "--val-share", "0.9"], "val_share is a share"),
    ):
        failed = command(*words)
        assert failed.returncode == 2
        assert failed.stderr.count("\n") == 1, failed.stderr
        assert message in failed.stderr
    assert not (tmp_path / "runs/x/corpus").exists()
