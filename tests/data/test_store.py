"""Rows on disk: their numbers follow content alone, and every way to read them gives the same rows."""

import errno
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data.store as module
from data.facts import COUNTED, Settings, facts_of
from data.store import Store
from tests.data.made_rows import natural_qa, qa, stored, text

ODD = [
    "漢字\u2028かな\n二行",
    'Quote " and \\ backslash\ttab',
    "é\u0301 İ ﬁ 🇩🇪",
    "\x00\x01 and \x7f",
    "a" * 9_000,
    " x and\r\n y ",
]


def some_rows(seed: int, number: int = 60) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    rows = natural_qa(dice, number) + [text(odd) for odd in ODD] + [qa(odd, odd, category=odd) for odd in ODD]
    return [{**row, "origin": f"f:{i}"} for i, row in enumerate(rows)]


def content(store: Store) -> list[dict[str, Any]]:
    return store.take(range(len(store)))


def test_numbers_follow_content_and_not_the_way_in(tmp_path: Path) -> None:
    rows = some_rows(1)
    rows += [{**rows[3], "category": "b", "origin": "g:1"}, {**rows[3], "category": "a", "origin": "g:2"}]
    expected = None
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        dice = random.Random(seed)
        store = stored(dice.sample(rows, len(rows)), folder, batch=dice.randint(1, 100))
        found = (content(store), {name: values.tolist() for name, values in store.facts.items()})
        assert found[0] == sorted(found[0], key=lambda row: row["id"])
        assert expected in (None, found)
        expected = found


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    rows = some_rows(2)
    store = stored(rows, tmp_path)
    assert len(store) == len(rows)
    by_origin = {row["origin"]: row for row in content(store)}
    assert {name: {key: by_origin[name][key] for key in row} for row in rows for name in [row["origin"]]} == {
        row["origin"]: row for row in rows
    }


def test_facts_stand_beside_their_rows(tmp_path: Path) -> None:
    rows = [*some_rows(3), qa("", "nothing asked"), qa("why?", "x"), text("   ")]
    store = stored(rows, tmp_path)
    for number, row in enumerate(content(store)):
        fact = {name: values[number] for name, values in store.facts.items()}
        fields = [row[name] for name in ("text", "context", "question", "answer") if row[name]]
        assert fact["id"].hex().ljust(32, "0") == row["id"]  # NumPy drops zeros at the end
        assert bool(fact["usable"]) == (row["reason"] is None)
        assert bool(fact["is_text"]) == (row["kind"] == "text")
        assert fact["n_bytes"] == sum(len(field.encode()) for field in fields)
    assert store.facts["signature"].shape == (len(store), 100)
    assert int((~store.facts["usable"]).sum()) == 3


def test_take_stream_and_pieces_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(some_rows(4), tmp_path)
    whole = content(store)
    dice = np.random.default_rng(4)
    for piece_bytes in (1, 3000, 1 << 30):  # a row each, some, all in one
        monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
        for keep in (None, dice.random(len(store)) < 0.4, np.zeros(len(store), bool), np.ones(len(store), bool)):
            wanted = {i: row for i, row in enumerate(whole) if keep is None or keep[i]}
            assert dict(store.stream(keep)) == wanted
            lines = [line.partition("\t") for piece in store.pieces(keep) for line in piece()]
            assert {int(number): json.loads(row) for number, _, row in lines} == wanted
            assert len(lines) == len(wanted)
    order = dice.permutation(len(store)).tolist()
    assert store.take(order) == [whole[i] for i in order]
    assert store.take([5, 5, 0]) == [whole[5], whole[5], whole[0]]


def test_more_sources_than_two_bytes_tell_apart(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range((1 << 16) + 2)]
    store = stored([qa("Why is it so?", "As it was.", source=name) for name in names[-2:]], tmp_path, sources=names)
    assert sorted(store.facts["source"].tolist()) == [1 << 16, (1 << 16) + 1]


def test_batches_are_the_rows_in_their_order_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(some_rows(6), tmp_path)
    whole = content(store)
    order = np.random.default_rng(6).permutation(len(store))
    for rows, size in ((1, 1 << 20), (7, 1 << 20), (1000, 4000), (1000, 1 << 20)):
        monkeypatch.setattr(module, "TAKEN", rows)
        monkeypatch.setattr(module, "TAKEN_BYTES", size)
        batches = [*store.batches(order)]
        assert [row for batch in batches for row in batch] == [whole[i] for i in order]
        assert max(map(len, batches)) <= rows
        assert all(len(of) == 1 or sum(len(json.dumps(row)) for row in of) < 3 * size for of in batches)
        assert [*store.each(order.tolist())] == [whole[i] for i in order]
    assert [*store.each([])] == []


def test_pieces_are_read_again_and_again(tmp_path: Path) -> None:
    store = stored(some_rows(5), tmp_path)
    [piece] = store.pieces()
    assert [*piece()] == [*piece()]
    assert len([*piece()]) == len(store)


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path).sorted()
    assert len(store) == 0
    assert store.take([]) == []
    assert store.pieces() == []
    assert [*store.stream()] == []
    assert store.facts == {}


def test_a_batch_that_is_a_slice_keeps_its_own_facts(tmp_path: Path) -> None:
    rows = some_rows(6, 20)
    batch = facts_of([json.dumps(row) for row in rows], Settings(("s",), 8)).drop_columns(list(COUNTED))
    store = Store(tmp_path)
    for start in range(0, batch.num_rows, 6):
        store.add(batch.slice(start, 6))
    (tmp_path / "b").mkdir()
    other = stored(rows, tmp_path / "b")
    assert content(store.sorted()) == content(other)
    assert all(np.array_equal(store.facts[name], other.facts[name]) for name in store.facts)


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 16])
def test_facts_are_the_same_however_many_are_read_at_a_time(
    at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(9)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    wanted = stored(rows, tmp_path / "a")
    monkeypatch.setattr(module, "ROWS_READ", at_a_time)
    found = stored(random.Random(0).sample(rows, len(rows)), tmp_path / "b", batch=5)
    assert content(found) == content(wanted)
    for name in wanted.facts.keys() - {"place"}:
        np.testing.assert_array_equal(found.facts[name], wanted.facts[name])


def test_facts_leave_no_files_behind(tmp_path: Path) -> None:
    store = stored(some_rows(7), tmp_path)
    assert len(store)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    batch = facts_of([json.dumps(row) for row in some_rows(8)], Settings(("s",), 8)).drop_columns(list(COUNTED))
    store = Store(tmp_path)
    store.path = Path("/dev/full")
    with pytest.raises(OSError, match="/dev/full") as error:
        store.add(batch)
    assert error.value.errno == errno.ENOSPC


def test_a_full_disk_names_the_file_of_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = facts_of([json.dumps(row) for row in some_rows(8)], Settings(("s",), 8)).drop_columns(list(COUNTED))
    monkeypatch.setattr(Store, "_file", lambda self, fact: Path("/dev/full"))
    with pytest.raises(OSError, match="/dev/full"):
        Store(tmp_path).add(batch)
