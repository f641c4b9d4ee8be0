"""The learning benchmark's plain recipe sees every token once an epoch, in rows without a mask."""

import numpy as np
import torch

from bench.learning import Setting, concatenated, conclusion, plain_batch
from data.loader import IGNORE
from model.config import PRESETS
from tests.bench.test_train_speed import DOCUMENTS, tokens_of


def test_concatenated_rows_hold_all_documents_in_one_order() -> None:
    tokens = tokens_of(DOCUMENTS * 100)
    setting = Setting(tokens, tokens, tokens, PRESETS["tiny"], epochs=1, weights={}, device=torch.device("cpu"))
    ids, targets = concatenated(setting, seed=0)
    stream = ids.reshape(-1)
    total = sum(len(document) for document in DOCUMENTS) * 100
    assert total - 256 <= len(stream) < total  # but for the last row, which is not full
    assert (targets.reshape(-1)[:-1] == stream[1:]).all()
    assert abs(np.count_nonzero(stream == 1) - 300) <= 256 / 3  # a bos a document
    assert (concatenated(setting, seed=0)[0] == ids).all()
    assert (concatenated(setting, seed=1)[0] != ids).any()


def test_plain_batch_counts_what_is_not_ignored() -> None:
    batch = plain_batch(np.array([[1, 5, 6]]), np.array([[5, 6, IGNORE]]))
    assert batch.num_targets == 2
    assert batch.weights.tolist() == [[1.0, 1.0, 0.0]]


def test_conclusion_compares_medians_of_the_ends() -> None:
    def ends(*values: float, seconds: float) -> list[list[dict[str, float]]]:
        return [[{"bits_per_byte": 9.0, "seconds": 1.0}, {"bits_per_byte": v, "seconds": seconds}] for v in values]

    found = conclusion(
        {
            "default": ends(0.9, 0.8, 1.7, seconds=50.0),
            "default, half": ends(1.0, 1.0, 1.0, seconds=25.0),
            "plain": ends(1.0, 1.2, 0.5, seconds=100.0),
        }
    )
    assert abs(found["lower_at_equal_epochs"] - 0.1) < 1e-9
    assert found["share_of_wall_time"] == 0.25
    assert found["final"]["default"] == {"median": 0.9, "lowest": 0.8, "highest": 1.7}
