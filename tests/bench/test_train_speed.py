"""What the speed benchmark counts: targets of padded and packed rows, medians over turns, ratios turn by turn."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.contenders import Task, packed_rows, padded_rows
from bench.train_speed import against_best, ratio, summary
from data.tokens import INDEX_SCHEMA, from_index
from model.config import PRESETS


def tokens_of(documents: list[list[int]]):
    lengths = [len(document) for document in documents]
    columns = {
        "offset": np.cumsum([0, *lengths[:-1]]),
        "length": lengths,
        "prompt": [0] * len(documents),
        "source": ["made"] * len(documents),
    }
    arrays = [pa.array(columns[name]) if name in columns else pa.nulls(len(documents)) for name in INDEX_SCHEMA.names]
    ids = np.asarray([number for document in documents for number in document], dtype=np.uint16)
    return from_index(ids, pa.table(arrays, names=INDEX_SCHEMA.names))


DOCUMENTS = [[1, 7, 8, 2], [1, 9, 2], [1, 5, 6, 7, 8, 9, 10, 2]]


def test_padded_rows_hold_one_document_each_cut_at_the_context() -> None:
    ids, labels = padded_rows(tokens_of(DOCUMENTS), 5)
    assert ids.tolist() == [[1, 7, 8, 2, 0], [1, 9, 2, 0, 0], [1, 5, 6, 7, 8]]
    assert labels.tolist() == [[1, 7, 8, 2, -100], [1, 9, 2, -100, -100], [1, 5, 6, 7, 8]]


def test_packed_rows_are_the_documents_in_a_line() -> None:
    ids, labels = packed_rows(tokens_of(DOCUMENTS), 5)
    assert ids.reshape(-1).tolist() == [number for document in DOCUMENTS for number in document]
    assert (ids == labels).all()


def made_turns(seconds: list[float], targets: int) -> list[dict]:
    turns = [{"seconds": [value, value], "targets": targets} for value in seconds]
    return [{"ready": 1.5}, *turns, {"peak_bytes": 1 << 20}]


def test_medians_leave_the_warming_turn_out() -> None:
    task = Task(Path("runs/x"), PRESETS["tiny"], rows=4, precision="fp32", device="cpu", optimizer="adamw")
    found = summary("loam compiled", made_turns([99.0, 1.0, 2.0, 4.0], targets=512), task, flops=1e6, rate=1e9)
    assert found["positions_per_s"] == 4 * 256 / 2.0
    assert found["positions_per_s_spread"] == [256.0, 1024.0]
    assert found["useful_tokens_per_s"] == 512 / 4.0  # two steps of 2 s
    assert found["useful_share"] == 512 / (2 * 1024)
    assert found["share_of_matrix_rate"] == 128.0 * 1e6 / 1e9
    assert found["seconds_to_compile"] == 97.0


def test_ratios_are_taken_turn_by_turn() -> None:
    measured = {
        "loam": made_turns([9.0, 1.0, 2.0, 3.0], targets=100),
        "loam compiled": made_turns([9.0, 1.0, 1.0, 1.0], targets=100),
        "trainer padded": made_turns([1.0, 3.0, 4.0, 12.0], targets=20),
    }
    assert ratio(measured, "trainer padded") == {"positions": 3.0, "useful": 15.0}


def test_the_headline_is_against_the_faster_of_the_trainers() -> None:
    measured = {
        "loam": made_turns([9.0, 2.0, 2.0, 2.0], targets=100),
        "loam compiled": made_turns([9.0, 1.0, 1.0, 1.0], targets=100),
        "trainer packed": made_turns([1.0, 3.0, 3.0, 3.0], targets=100),
        "trainer packed compiled": made_turns([1.0, 4.0, 4.0, 4.0], targets=100),  # compiling may not pay
    }
    assert against_best(measured, "loam compiled", "trainer packed", "positions") == 3.0
    assert against_best(measured, "loam compiled", "trainer padded", "useful") is None
