"""The folder: rows come out of Arrow's way as they went in, and accounts that do not add up stop everything."""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.writing as writing
from common.errors import UserError
from common.files import fingerprint
from data.corpus import EXACT, OUT, Corpus
from data.sources import SourceConfig
from data.split import SPLITS, order_key
from data.writing import check_accounts, write_corpus
from tests.data.made_rows import natural_qa, qa, stored, text

SOURCES = [SourceConfig(name="s")]


def corpus_of(rows: list[dict], folder: Path, seed: int = 0) -> Corpus:
    """Each row of its own group; splits by lot, none of them empty."""
    folder.mkdir(exist_ok=True)
    corpus = Corpus(stored(rows, folder), ["s"])
    num = len(corpus.store)
    corpus.split[:] = np.random.default_rng(seed).permutation(np.arange(num) % 3)
    corpus.split[~corpus.store.facts["usable"]] = OUT
    corpus.group[:] = np.arange(num)
    return corpus


def written(corpus: Corpus, folder: Path) -> dict:
    more = {"sources": [{"rows": corpus.num_read}]}
    return write_corpus(corpus, folder, 0, SOURCES, more)


words = st.text(min_size=1, max_size=40).filter(lambda value: value.strip() != "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(words, words, st.none() | st.text(max_size=20)), min_size=12, max_size=30))
def test_every_text_is_written_as_it_is(fields: list[tuple[str, str, str | None]]) -> None:
    rows = [
        qa(f"question {i} {question}", answer * 3, category=label) for i, (question, answer, label) in enumerate(fields)
    ]
    rows.append(text("a text \x00 with\u2028 all\r\n sorts \ud7ff\U0010ffff of ends " * 40))
    with TemporaryDirectory() as name:
        corpus = corpus_of(rows, Path(name))
        written(corpus, Path(name) / "out")
        tables = [pq.read_table(Path(name) / f"out/{split}-00000.parquet") for split in SPLITS]
        wanted = {row["id"]: row for _, row in corpus.store.stream() if row["reason"] is None}
    found = [row for table in tables for row in table.to_pylist()]
    assert len(found) == len(wanted)
    for row in found:
        one = wanted[row["id"]]
        assert {key: row[key] for key in row if key != "group"} == {key: one[key] for key in row if key != "group"}
        assert row["group"] == row["id"]


def test_small_row_groups_hold_the_same_rows_in_the_order_of_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(natural_qa(random.Random(1), 300), tmp_path / "store")
    one = written(corpus, tmp_path / "one")
    whole = {name: pq.read_table(tmp_path / f"one/{name}-00000.parquet").to_pylist() for name in SPLITS}
    for rows, size in ((7, 1 << 20), (4096, 1), (4096, 3000)):
        monkeypatch.setattr(writing, "ROWS", rows)
        monkeypatch.setattr(writing, "BYTES", size)
        again = written(corpus, tmp_path / f"{rows}-{size}")
        assert again["fingerprint"] == one["fingerprint"]
        for name in SPLITS:
            found = pq.read_table(tmp_path / f"{rows}-{size}" / f"{name}-00000.parquet").to_pylist()
            assert found == whole[name]
    for of in whole.values():
        assert [row["id"] for row in of] == sorted((row["id"] for row in of), key=lambda one: order_key(one, 0))
    seen = {name: [[row[key] for key in writing.SEEN] for row in of] for name, of in whole.items()}
    assert one["fingerprint"] == fingerprint(1, {name: fingerprint(of) for name, of in seen.items()}, [("s", 1.0)])


def test_quarantine_is_in_the_order_of_files_and_counted(tmp_path: Path) -> None:
    rows = [*natural_qa(random.Random(2), 30), qa("why?", ""), qa("", "nothing")]
    corpus = corpus_of(rows, tmp_path / "store")
    corpus.drop(np.array([4, 9]), EXACT, np.array([2, 3]))
    corpus.drop(np.array([5]), said=("overlaps_train", "here it is: {}"))
    manifest = written(corpus, tmp_path / "out")
    found = pq.read_table(tmp_path / "out/quarantine-00000.parquet").to_pylist()
    origins = [row["origin"] for row in corpus.store.take(range(32))]
    assert {(row["origin"], row["reason"], row["detail"]) for row in found if row["reason"] != "empty"} == {
        (origins[4], "exact_duplicate", f"equals {origins[2]}"),
        (origins[9], "exact_duplicate", f"equals {origins[3]}"),
        (origins[5], "overlaps_train", "here it is: {}"),
    }
    assert manifest["quarantine"]["reasons"] == {"exact_duplicate": 2, "empty": 2, "overlaps_train": 1}
    assert manifest["quarantine"]["rows"] == 5
    assert sum(split["documents"] for split in manifest["splits"].values()) == 27
    for reason, first in manifest["quarantine"]["first"].items():
        [row, *_] = (row for row in found if row["reason"] == reason)
        assert first == f"{row['origin']}: {row['detail']}"


def test_accounts_that_do_not_add_up_stop_everything(tmp_path: Path) -> None:
    corpus = corpus_of(natural_qa(random.Random(3), 30), tmp_path / "store")
    manifest = written(corpus, tmp_path / "out")
    check_accounts(corpus, manifest)
    lost = json.loads(json.dumps(manifest))
    lost["splits"]["val"]["documents"] -= 1
    with pytest.raises(AssertionError, match="rows are missing"):
        check_accounts(corpus, lost)
    corpus.group[corpus.of("val")[0]] = corpus.group[corpus.of("train")[0]]
    with pytest.raises(AssertionError, match="a group is in two splits"):
        check_accounts(corpus, manifest)
    with pytest.raises(AssertionError, match="a group is in two splits"):
        written(corpus, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_empty_split_and_another_corpus_are_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    corpus = corpus_of([*natural_qa(random.Random(4), 30), qa("why?", "")], tmp_path / "store")
    written(corpus, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    corpus.drop(corpus.of("test")[:1], said=("gap", "none"))
    with pytest.raises(UserError, match="nothing is overwritten"):
        written(corpus, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    manifest = (tmp_path / "out" / "manifest.json").read_bytes()
    (tmp_path / "out" / "manifest.json").write_bytes(manifest[:-9])
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        written(corpus, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_bytes(manifest)
    num = len(corpus.of("val"))
    corpus.drop(corpus.of("val"), EXACT, corpus.of("train")[:num])
    with pytest.raises(UserError, match=f"the val split is empty after cleaning: exact_duplicate {num}, "):
        written(corpus, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]
