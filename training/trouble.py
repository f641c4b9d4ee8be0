"""Steps that would do harm: which updates are left out, when a run goes back, and when it gives up.

An update is left out, on all ranks alike, when its loss or its gradient is not finite, or when both are spikes: more
than SIGMAS standard deviations above the mean of the last WINDOW steps. Left out means that weights and optimizer are
as if the step had not been; its place in the order of the data and in the schedule is taken. IN_A_ROW of them in a row
are more than bad luck with a batch: the run goes back to its newest sound checkpoint, passes over the data of those
steps, and goes on at SLOWER times the rate. After GO_BACKS times of that it stops and names the documents.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from data.packing import Plan
from data.tokens import Tokens

WINDOW = 128
SIGMAS = 6.0
IN_A_ROW = 8
SLOWER = 0.5
GO_BACKS = 3
NAMED = 5  # documents in the message; all are in trouble.json


class Recent:
    """Losses and gradient norms of the last WINDOW steps that were finite, on the device; float32."""

    def __init__(self, device: torch.device, remembered: dict[str, Any] | None = None) -> None:
        """remembered: what `state` returned."""
        remembered = remembered or {"number": 0, "values": [[0.0, 0.0]] * WINDOW}
        self.values = torch.tensor(remembered["values"], dtype=torch.float32, device=device)
        self.number = torch.tensor(remembered["number"], device=device)

    def state(self) -> dict[str, Any]:
        """All of it as plain JSON, exact."""
        return {"number": int(self.number), "values": self.values.tolist()}

    @torch.no_grad()
    def harmful(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether a step with this loss and norm (scalars, the same on all ranks) is to be left out: a boolean scalar
        on the device. Remembers them; a spike too, so that a new level is one only for so long."""
        now = torch.stack((loss, norm)).float()
        finite = now.isfinite().all()
        deviation, mean = torch.std_mean(self.values, dim=0)
        spike = (self.number >= WINDOW) & (now > mean + SIGMAS * deviation).all()
        here = (torch.arange(WINDOW, device=now.device) == self.number % WINDOW) & finite
        self.values = torch.where(here[:, None], now.nan_to_num(), self.values)
        self.number = self.number + finite
        return ~finite | spike


def documents_of(plan: Plan, tokens: Tokens, rows: np.ndarray) -> list[dict[str, Any]]:
    """The documents whose pieces stand in these rows of an epoch, in their order: id, source, number in the store."""
    numbers = np.concatenate([plan.documents[plan.row_starts[row] : plan.row_starts[row + 1]] for row in rows])
    ids = tokens.table["id"] if "id" in tokens.table.column_names else None
    return [
        {
            "number": n,
            "id": ids[n].as_py() if ids is not None else None,
            "source": tokens.source_names[tokens.sources[n]],
        }
        for n in dict.fromkeys(numbers.tolist())
    ]


def gave_up(step: int, report: str, documents: list[dict[str, Any]]) -> UserError:
    """The error that ends a run which went back too often."""
    named = ", ".join(f"{each['id']} ({each['source']})" for each in documents[:NAMED])
    more = f" and {len(documents) - NAMED} more" if len(documents) > NAMED else ""
    return UserError(
        f"training diverged at step {step:,}, after going back {GO_BACKS} times for updates that had to be left out; "
        f"the documents of the last one: {named}{more}, all of them in {report}. What was saved "
        "before is sound: look at those documents, or start another run with a lower --lr"
    )
