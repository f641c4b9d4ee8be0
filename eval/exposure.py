"""How much of the planted canaries a checkpoint has memorised: the exposure of each (Carlini et al., 2019).

  1. canaries of a corpus, from its manifest: sentences with a random number (data/canaries.py)
  2. the same sentence with other numbers, drawn by seed: candidates that were never planted
  3. losses of all of them; the rank of the planted number among them, 1 the likeliest
  4. exposure = log2(candidates) - log2(rank), both of those that were looked at

The rank among a sample, as a share, estimates the rank among all ten million numbers. A checkpoint that has not seen
the number gives it any rank alike: exposure is then 1 bit or more half of the time, and 1.44 on average. Rank 1 of
1,001 says 10 bits *or more*: a larger sample would tell how much more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from data.canaries import NUM_CANDIDATES, Canary, planted
from eval.losses import RESPONSES, document_losses
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer
from tokenizer.encode import ABOUT, FIELDS, encode_table

CANDIDATES = 1000
# Nats that are no difference: of a sentence of 30 nats, other batches change 1e-4 (tests/eval/test_losses.py).
ALIKE = 1e-3


@dataclass(frozen=True)
class Exposure:
    """One canary and one checkpoint."""

    name: str
    copies: int  # in the training split; 0: a control
    rank: float  # of the planted number, 1 the likeliest; the middle of those that are equally likely
    num_candidates: int  # that were ranked, the planted one among them
    bits: float  # exposure
    at_least: bool  # it is the likeliest: a larger sample might say more


def exposures(
    model: Decoder,
    tok: Tokenizer,
    canaries: Sequence[Canary],
    num_candidates: int = CANDIDATES,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_rows: int | None = None,
) -> list[Exposure]:
    """Exposure of each canary, whichever others are measured beside it. Runs under the caller's autocast."""
    return [
        _exposure(canary, _nats(model, tok, canary, numbers(canary, num_candidates, seed), device, batch_rows))
        for canary in canaries
    ]


def summary(manifest: dict[str, Any], found: Sequence[Exposure]) -> dict[str, Any]:
    """For each number of copies how many canaries, their mean exposure, how many are the likeliest of all; 0 copies
    first, what nothing looks like. `canaries`: each one's own."""
    by_copies = []
    for copies in sorted({one.copies for one in found}):
        some = [one for one in found if one.copies == copies]
        by_copies.append(
            {
                "copies": copies,
                "num_canaries": len(some),
                "mean_bits": sum(one.bits for one in some) / len(some),
                "num_likeliest": sum(one.at_least for one in some),
            }
        )
    return {
        "num_canaries": len(planted(manifest)),
        "num_rows": manifest.get("canaries", {}).get("rows", 0),
        "num_candidates": found[0].num_candidates if found else 0,
        "most_bits": math.log2(found[0].num_candidates) if found else 0.0,
        "by_copies": by_copies,
        "canaries": [vars(one) for one in found],
    }


def numbers(canary: Canary, num_candidates: int, seed: int) -> np.ndarray:
    """The planted number, then others that differ from it and from each other, ascending; of this canary alone."""
    generator = np.random.default_rng([seed, canary.number, *canary.name.encode()])
    others = generator.choice(NUM_CANDIDATES - 1, size=num_candidates, replace=False)
    others = np.sort(others + (others >= canary.number))
    return np.concatenate([[canary.number], others])


def _nats(
    model: Decoder,
    tok: Tokenizer,
    canary: Canary,
    candidates: np.ndarray,
    device: torch.device | str,
    batch_rows: int | None,
) -> np.ndarray:
    """Nats of the sentence with each number, float64 (N,)."""
    rows = [canary.fields(number) for number in candidates.tolist()]
    columns = {name: [row.get(name) for row in rows] for name in (*FIELDS, *ABOUT)}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    losses = document_losses(model, encode_table(table, tok), model.shape.seq_len, device, batch_rows)
    return losses.nats[:, list(RESPONSES)].sum(axis=1)


def _exposure(canary: Canary, nats: np.ndarray) -> Exposure:
    """From the nats of the planted number, in front, and of the others."""
    lower, alike = int((nats[1:] < nats[0] - ALIKE).sum()), int((np.abs(nats[1:] - nats[0]) <= ALIKE).sum())
    rank = 1 + lower + alike / 2
    return Exposure(canary.name, canary.copies, rank, len(nats), math.log2(len(nats) / rank), rank == 1)
