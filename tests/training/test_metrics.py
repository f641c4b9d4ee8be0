"""What the figures of a run mean in words, and a log that is cut back to what a checkpoint had seen."""

from pathlib import Path
from typing import Any

import pytest

from training.metrics import MetricsLog, diagnosis, read_metrics


def epochs(*val_losses: float, train_loss: float = 2.0) -> list[dict[str, Any]]:
    return [
        {"epoch": n, "val_loss": loss, "val_bpb": loss / 2, "train_loss": train_loss, "val_documents": 7}
        for n, loss in enumerate(val_losses, 1)
    ]


@pytest.mark.parametrize(
    ("losses", "says", "not_says"),
    [
        ((3.0, 2.5, 2.4), "still falling: 4.0% in the last epoch", "overfitting"),
        ((3.0, 2.5, 2.499), "flat: 0.0%", "falling"),
        ((3.0, 2.4, 2.5), "overfitting: validation loss rose by 4.2% since epoch 2", "flat"),
        ((3.0,), "one epoch alone", "flat"),
    ],
)
def test_the_trend_of_the_epochs(losses: tuple[float, ...], says: str, not_says: str) -> None:
    lines = "\n".join(diagnosis(epochs(*losses), ngram=1.4))
    assert says in lines
    assert not_says not in lines
    assert f"best epoch: {losses.index(min(losses)) + 1} of {len(losses)}" in lines
    assert "on 7 documents" in lines


def test_the_best_epoch_is_held_against_counting() -> None:
    assert "14.3% below" in "\n".join(diagnosis(epochs(3.0, 2.4), ngram=1.4))
    worse = "\n".join(diagnosis(epochs(3.0, 2.4), ngram=1.1))
    assert "has 1.1000: the network has learned less than counting does" in worse


def test_without_an_epoch_there_is_nothing_to_say() -> None:
    assert diagnosis([], ngram=1.4) == ["no epoch was finished: nothing to say yet"]


def test_the_log_is_cut_back_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write("step", step=1)
    kept = log.sync()
    log.write("step", step=2)
    log.close()
    with path.open("ab") as file:
        file.write(b'{"event": "step", "st')
    assert [event["step"] for event in read_metrics(path)] == [1, 2]
    again = MetricsLog(path, kept)
    again.write("epoch", step=3)
    again.close()
    assert [(event["event"], event["step"]) for event in read_metrics(path)] == [("step", 1), ("epoch", 3)]
    assert [event["step"] for event in read_metrics(path, "epoch")] == [3]
