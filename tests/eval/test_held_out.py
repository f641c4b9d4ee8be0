"""Which documents comparisons rest on: none that a compared run trained on."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from eval.held_out import BLOCK, find_corpus, held_out

from .conftest import make_rows, make_table


def corpus(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    for name, rows in (("train", train), ("test", test)):
        pq.write_table(make_table(rows), folder / f"{name}-00000.parquet")
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": folder.name}))
    return folder


def ids(table: Any) -> list[str]:
    return table["id"].to_pylist()


def test_one_run_keeps_its_whole_test_split(tmp_path: Path) -> None:
    test = make_rows(20, seed=2)
    a = corpus(tmp_path / "a", make_rows(20, seed=1), test)
    found = held_out([a], [a])
    assert ids(found.table) == [row["id"] for row in test]
    assert (found.num_found, found.num_removed, found.num_left_out, len({*found.groups})) == (20, 0, 0, 10)


def test_what_another_run_trained_on_is_removed_with_its_group(tmp_path: Path) -> None:
    test = make_rows(20, seed=2)
    a = corpus(tmp_path / "a", make_rows(20, seed=1), test)
    b = corpus(tmp_path / "b", [*make_rows(8, seed=3), test[5]], make_rows(8, seed=4))
    found = held_out([a, b], [a, b])
    assert test[5]["id"] not in ids(found.table)
    assert test[4]["id"] not in ids(found.table)  # of the same group
    assert found.num_removed == 2
    assert found.num_found == 28
    assert len(found.table) == 26


def test_content_that_differs_in_case_and_spaces_is_the_same_content(tmp_path: Path) -> None:
    test = make_rows(20, seed=2)
    respelled = {**test[6], "id": "other", "group": "other", "question": f"  {test[6]['question'].upper()} "}
    a = corpus(tmp_path / "a", make_rows(20, seed=1), test)
    b = corpus(tmp_path / "b", [respelled], make_rows(4, seed=4))
    assert {test[6]["id"], test[7]["id"]}.isdisjoint(ids(held_out([a], [a, b]).table))


def test_a_group_of_which_the_other_run_saw_a_relative_is_removed(tmp_path: Path) -> None:
    test = make_rows(20, seed=2)
    relative = {**make_rows(1, seed=9)[0], "group": test[0]["group"]}
    a = corpus(tmp_path / "a", make_rows(20, seed=1), test)
    b = corpus(tmp_path / "b", [relative], make_rows(4, seed=4))
    assert {test[0]["id"], test[1]["id"]}.isdisjoint(ids(held_out([a], [a, b]).table))


BOOK = "".join(f"Sentence number {i} of the book is about item {i * 7919 % 1000}.\n" for i in range(400))


def block(name: str, text: str) -> dict[str, Any]:
    return {"kind": "text", "source": "book", "text": text, "id": f"{name}-{len(text)}", "group": f"book/{name}"}


@pytest.mark.parametrize(
    ("trained", "removed"),
    [
        ({"kind": "text", "text": BOOK, "id": "whole", "group": "book"}, True),
        (block("train", BOOK[: len(BOOK) * 96 // 100]), True),  # cut further on: it saw the start of the test block
        (block("train", BOOK[: len(BOOK) * 90 // 100]), False),
    ],
)
def test_a_block_of_a_book_is_removed_where_the_other_run_trained_on_that_page(
    tmp_path: Path, trained: dict[str, Any], removed: bool
) -> None:
    tested = block("test", BOOK[len(BOOK) * 92 // 100 :])
    a = corpus(tmp_path / "a", make_rows(4, seed=1), [tested, *make_rows(4, seed=2)])
    b = corpus(tmp_path / "b", [trained], make_rows(4, seed=4))
    found = ids(held_out([a], [a, b]).table)
    assert (not any(name.startswith(tested["id"]) for name in found)) == removed
    assert len(found) >= 4


def test_a_document_that_both_test_splits_hold_counts_once(tmp_path: Path) -> None:
    test = make_rows(12, seed=2)
    a = corpus(tmp_path / "a", make_rows(8, seed=1), test)
    b = corpus(tmp_path / "b", make_rows(8, seed=3), [*test[:6], *make_rows(4, seed=4)])
    found = held_out([a, b], [a, b])
    assert sorted(ids(found.table)) == sorted({*(row["id"] for row in test), *(f"4-{i}" for i in range(4))})


def test_nothing_left_is_one_clear_line(tmp_path: Path) -> None:
    test = make_rows(4, seed=2)
    a = corpus(tmp_path / "a", make_rows(4, seed=1), test)
    b = corpus(tmp_path / "b", test, make_rows(4, seed=4))
    with pytest.raises(UserError, match="--data") as error:
        held_out([a], [a, b])
    assert "\n" not in str(error.value)


def test_a_limit_takes_whole_groups_by_seed_not_by_order(tmp_path: Path) -> None:
    test = make_rows(40, seed=2)
    a = corpus(tmp_path / "a", make_rows(4, seed=1), test)
    b = corpus(tmp_path / "b", make_rows(4, seed=1), test[::-1])
    found = held_out([a], [a], limit=10, seed=0)
    assert len(found.table) == 10
    assert len({*found.groups}) == 5
    assert found.num_left_out == 30
    assert set(ids(found.table)) == set(ids(held_out([b], [b], limit=10, seed=0).table))
    assert set(ids(found.table)) != set(ids(held_out([a], [a], limit=10, seed=1).table))


def test_a_long_text_becomes_blocks_that_join_to_the_text(tmp_path: Path) -> None:
    long = "".join(f"Zeile {i} über Äpfel 白い.\n" for i in range(900))
    unbroken = "漢" * 5000
    rows = [block("test", long), {**block("test", unbroken), "group": "other/test"}, *make_rows(4, seed=2)]
    a = corpus(tmp_path / "a", make_rows(4, seed=1), rows)
    found = held_out([a], [a])
    for row in rows[:2]:
        parts = [r for r in found.table.to_pylist() if r["id"].startswith(row["id"] + "/")]
        assert "".join(part["text"] for part in parts) == row["text"]
        sizes = [len(part["text"].encode()) for part in parts]
        assert min(sizes) > BLOCK / 2
        assert max(sizes) < 2 * BLOCK
    assert found.num_cut == 2
    assert len({*found.groups}) == len(found.table) - 2  # each block is a group; the four rows make two


def test_a_long_text_with_relatives_stays_one_piece_of_evidence(tmp_path: Path) -> None:
    rows = [block("test", BOOK), {**make_rows(1, seed=2)[0], "group": "book/test"}]
    a = corpus(tmp_path / "a", make_rows(4, seed=1), rows)
    found = held_out([a], [a])
    assert len({*found.groups}) == 1
    assert len(found.table) == 2


def test_data_names_a_run_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a = corpus(tmp_path / "runs" / "a" / "corpus", make_rows(4, seed=1), make_rows(4, seed=2))
    for name in ("a", "runs/a", str(a)):
        assert find_corpus(name).resolve() == a
    with pytest.raises(UserError, match="--data nowhere"):
        find_corpus("nowhere")
