"""A model's figures on the validation split, in the middle of a run: it may lack memory, and it may be told to stop.

In: the model on its device, the split's tokens, this process among its peers. Out: the sums of `eval/losses.py` over
all ranks as the figures of an epoch. Every rank calls it, and all leave it alike.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from data.tokens import Tokens
from eval.losses import document_losses, summary
from model.decoder import Decoder
from training import distributed
from training.distributed import World
from training.memory import out_of_memory
from training.signals import Stopped


class TooLarge(Exception):
    """A rank had no memory for a pass; all ranks know."""


def validate(
    model: Decoder,
    tokens: Tokens,
    world: World,
    rows: int,
    stopping: Callable[[], bool] = lambda: False,
    seq_len: int | None = None,
) -> dict[str, Any] | None:
    """Figures of all documents, under the caller's autocast; None where no row fits into memory.

    rows: of seq_len tokens (by default the model's context) at a time and rank; halved until they fit. Raises
    `Stopped` on all ranks, between two passes, when `stopping` is true on one.
    """

    def ask(too_large: bool = False) -> None:
        stop, too_large = distributed.any_of(stopping(), too_large)
        if stop:
            raise Stopped
        if too_large:
            raise TooLarge

    while rows > 0:
        try:
            losses = document_losses(model, tokens, seq_len or model.shape.seq_len, world.device, rows, world.rank,
                                     world.size, between=ask)  # fmt: skip
            ask()
        except TooLarge:
            rows //= 2
            continue
        except Exception as error:
            if not out_of_memory(error):
                raise
            with suppress(TooLarge):  # this rank's own: the others are at their next question
                ask(too_large=True)
            rows //= 2
            continue
        found = summary(losses.map(distributed.sum_array))
        names = {"val_loss": "loss", "val_bpb": "bits_per_byte", "val_ppl": "perplexity",
                 "val_documents": "num_documents", "val_tokens": "num_tokens", "val_bytes": "num_bytes"}  # fmt: skip
        return {name: found[theirs] for name, theirs in names.items()}
    return None
