"""Steps that learn: from the training rows alone; what they change, reject or make equal is where it belongs."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data.engine as engine
from data.columns import Row
from data.facts import COUNTED, FACTS, measured
from data.fitting import FittedStep, Training, changed, equal_to_earlier, run_step
from data.store import Store
from tests.data.made_rows import natural_qa, qa, stored, text


def numbers_of(store: Store, texts: list[str]) -> np.ndarray:
    """The numbers of the rows with these texts."""
    found = {row["text"]: number for number, row in store.stream()}
    return np.array(sorted(found[one] for one in texts))


def contents(store: Store, rows: np.ndarray) -> list[str]:
    return sorted(row["text"] for row in store.take(rows.tolist()))


def test_a_step_sees_the_training_rows_alone_and_cleans_all(tmp_path: Path) -> None:
    train, others = (
        ["HEAD one is the first", "HEAD two is the next"],
        ["HEAD three is another", "HEAD ", "four is none"],
    )
    store = stored([text(one) for one in [*train, *others]], tmp_path)
    inside, outside = numbers_of(store, train), numbers_of(store, others)
    before = {name: values.copy() for name, values in store.facts.items()}
    seen: list[str] = []

    def fit(rows: Training) -> str:
        assert len(rows) == 2
        seen.extend(one["text"] for one in rows)
        return seen[0][:5]  # the "boilerplate"

    def apply(one: Row, head: str) -> tuple[str, str] | None:
        one["text"] = one["text"].removeprefix(head)
        return None if one["text"] else ("empty", "nothing is left")

    run_step(store, inside, outside, FittedStep("heads", fit, apply), ["s"], "native")
    assert sorted(seen) == sorted(train)
    assert contents(store, inside) == ["one is the first", "two is the next"]
    assert contents(store, outside) == ["", "four is none", "three is another"]
    [gone] = [row for _, row in store.stream() if not row["text"]]
    assert (gone["reason"], gone["detail"]) == ("empty", "nothing is left")
    for number, row in store.stream():
        fact = {name: values[number] for name, values in store.facts.items()}
        assert fact["id"].hex().ljust(32, "0") == row["id"]
        assert fact["n_bytes"] == len(row["text"].encode()) == row["n_bytes"]
        assert bool(fact["usable"]) == bool(row["text"])
        assert fact["place"] == before["place"][number]
        assert (fact["id"] == before["id"][number]) == (row["text"] == "four is none")
        again = measured([row], [0], ["s"])
        assert np.array_equal(fact["signature"], np.frombuffer(again.column("signature")[0].as_py(), np.uint16))


def test_rows_that_a_step_leaves_as_they_are_are_not_written_again(tmp_path: Path) -> None:
    store = stored(natural_qa(random.Random(1), 40), tmp_path)
    before, size = store.take(range(40)), store.path.stat().st_size
    step = FittedStep("none", lambda rows: None, lambda row, _: None)
    run_step(store, np.arange(30), np.arange(30, 40), step, ["s"], "native")
    assert store.take(range(40)) == before
    assert store.path.stat().st_size == size


def shouted(row: Row, odd: Any) -> tuple[str, str] | None:
    """Changes some rows, rejects others, leaves the rest."""
    kind = int(row["id"], 16) % 3
    if kind == 0:
        row["answer"] = row["answer"].upper()
    return ("odd", f"by {odd}") if kind == 1 else None


def test_other_processes_make_of_rows_what_this_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = natural_qa(random.Random(2), 3000)
    found = []
    for name, least in (("here", 1 << 60), ("there", 0)):
        (tmp_path / name).mkdir()
        store = stored(rows, tmp_path / name, batch=500)
        monkeypatch.setattr(engine, "HERE_BYTES", least)
        monkeypatch.setattr(engine, "ALONE_BYTES", least)
        step = FittedStep("shouted", lambda rows: "lot", shouted)
        run_step(store, np.arange(2000), np.arange(2000, 2500), step, ["s"], "native")
        found.append((store.take(range(3000)), {fact: values.tolist() for fact, values in store.facts.items()}))
    assert found[0] == found[1]
    kept = [row for row in found[0][0][:2500] if row["reason"] is None]
    assert 1500 < len(kept) < 1850
    assert [row["reason"] for row in found[0][0][2500:]] == [None] * 500
    assert any(row["answer"].isupper() for row in kept)


def test_a_line_for_each_row_with_facts_of_those_that_changed() -> None:
    rows = [qa(f"Question number {i}?", "An answer.", id=f"{i:032x}", key="", n_bytes=1, reason=None) for i in range(9)]
    texts = [f"{100 + i}\t{json.dumps(row)}" for i, row in enumerate(rows)]
    made = changed(texts, shouted, "lot", ("s",))
    assert made.num_rows == 9
    assert made.column("number").to_pylist() == [None if i % 3 == 2 else 100 + i for i in range(9)]
    assert set(made.schema.names) == {*FACTS.names, "number"} - {"place", *COUNTED}


def test_training_rows_come_in_the_order_of_content_and_by_source(tmp_path: Path) -> None:
    dice = random.Random(3)
    rows = [{**row, "source": dice.choice(["a", "b"])} for row in natural_qa(dice, 2500)]
    store = stored(rows, tmp_path, batch=600, sources=["a", "b", "c"])
    chosen = np.flatnonzero(np.random.default_rng(3).random(2500) < 0.7)
    training = Training(store, chosen)
    assert [row["id"] for row in training] == [store.take([i])[0]["id"] for i in chosen.tolist()]
    parts = training.by_source()
    assert sorted(parts) == ["a", "b"]
    for source, part in parts.items():
        assert {row["source"] for row in part} == {source}
        assert [row["id"] for row in part.first(5)] == [row["id"] for row in part][:5]
    assert sum(map(len, parts.values())) == len(training)
    assert Training(store, chosen[:0]).by_source() == {}


def test_what_equals_a_row_of_an_earlier_split_is_named_once(tmp_path: Path) -> None:
    train, val = ["a b and more text", "c and more text"], ["a  b and more text ", "d and more text"]
    test = ["c and  more text", "d and more text ", "e and more text"]
    store = stored(map(text, [*train, *val, *test]), tmp_path)
    splits = [numbers_of(store, of) for of in (train, val, test)]
    found = [(i, j, contents(store, rows)) for i, j, rows in equal_to_earlier(store, splits)]
    assert found == [(0, 1, val[:1]), (0, 2, test[:1]), (1, 2, test[1:2])]
