"""Killed at random moments and started again, a run ends as if nothing had been."""

from dataclasses import replace
from typing import Literal

import pytest

from config import Config
from tests.faults.kill import campaign

SEED = 20261121
KILLS = 20


def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(config: Config) -> None:
    config = replace(config, train=replace(config.train, save_steps=3, micro_batch=2, samples=1))
    found = campaign(config, KILLS, SEED)
    print(*found.lines(), f"seed {SEED}", sep="\n")
    assert not found.failures, "\n".join(found.lines())
    assert found.kills >= KILLS
    assert found.phases["saving"] >= KILLS / 10, found.lines()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_that_are_killed_together_end_with_the_same_bytes(
    config: Config, parallel: Literal["ddp", "fsdp"]
) -> None:
    config = replace(config, train=replace(config.train, save_steps=3, samples=0, epochs=1, parallel=parallel))
    found = campaign(config, 3, SEED, ranks=2)
    print(*found.lines(), f"seed {SEED}", sep="\n")
    assert not found.failures, "\n".join(found.lines())
