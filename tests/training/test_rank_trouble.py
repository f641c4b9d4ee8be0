"""Trouble of one rank: NaN in its step, or no memory for what all of them do together. All ranks go the same way."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from config import Config
from tests.training.ranks import Ranks, again, assert_same_on_all_ranks, assert_same_training, curve
from training.metrics import read_metrics
from training.trouble import IN_A_ROW


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", ["loss", "gradients"])
def test_a_step_that_is_nan_on_one_rank_only_is_left_out_on_all(
    ranks: Ranks, awkward: Config, parallel: Any, kind: str
) -> None:
    for rank, run in ((0, "first"), (1, "many")):
        weights = ranks.train(again(awkward, run, parallel=parallel), 2, bad=(kind, rank, 4))
    assert_same_training("first", "many")  # left out on whichever rank it was
    assert_same_on_all_ranks(weights)
    assert [s["step"] for s in curve("many") if s.get("left_out")] == [4]
    assert "step 4: the update is left out" in Path("said-0").read_text()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_weights_that_became_nan_on_one_rank_only_are_put_back_on_all(
    ranks: Ranks, awkward: Config, parallel: Any
) -> None:
    weights = ranks.train(again(awkward, "many", parallel=parallel, save_steps=2), 2, bad=("weights", 1, 4))
    assert_same_on_all_ranks(weights)
    assert all(bool(value.isfinite().all()) for value in weights[1].values())
    (back,) = read_metrics(Path("runs/many/metrics.jsonl"), "went_back")
    assert back["to_step"] == (
        2 if parallel == "fsdp" else 4
    )  # rank 0, which saves, has all of them in ddp: sound ones
    assert back["step"] == 3 + IN_A_ROW


@pytest.mark.parametrize(
    ("place", "name", "said"),
    [
        ("training.sharding", "try_whole", "no memory for whole weights on every rank, so it is not validated"),
        ("eval.validation", "document_losses", "no memory to validate it"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_without_memory_for_the_validation_stops_no_other(
    ranks: Ranks, awkward: Config, place: str, name: str, said: str, rank: int
) -> None:
    """Ranks that disagreed would wait for each other until the pool's time is over."""
    weights = ranks.train(again(awkward, "many", parallel="fsdp"), 2, failing=(place, name, rank))
    assert_same_on_all_ranks(weights)
    assert said in Path("said-0").read_text()
    assert [e["epoch"] for e in read_metrics(Path("runs/many/metrics.jsonl"), "unvalidated")] == [1]


def test_a_rank_without_memory_for_a_mean_stops_no_other(ranks: Ranks, awkward: Config) -> None:
    config = replace(awkward, train=replace(awkward.train, epochs=4))
    ranks.train(again(config, "many", parallel="fsdp"), 2, failing=("training.average", "mean", 1), concluded=True)
    assert "next: python" in Path("said-0").read_text()
    assert not list(Path("runs/many").glob("ckpt*-*"))


def test_a_disk_without_room_for_the_figures_of_an_epoch_ends_all_ranks_in_words(ranks: Ranks, awkward: Config) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "planted")
    with pytest.raises(UserError, match=r"No space left on device|rank 0 stopped"):  # whichever rank is first
        ranks.train(again(awkward, "many"), 2, failing=("eval.epoch", "update_metrics", 0), error=full)
    assert Path("runs/many/ckpt1/loam.json").exists()
