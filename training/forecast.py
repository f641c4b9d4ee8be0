"""How good a run will be: expected bits per byte, from a law that was fitted to many small runs.

In: what an n-gram model of the same split reaches, the model's size, tokens and epochs. Out: the expected bits per byte
of held-out documents. The form is that of Hoffmann et al. (2022), with a repeated epoch worth less than a new one
(Muennighoff et al. 2023):

    bits per byte = ngram^k x (floor + a / parameters^alpha + b / worth^beta)
    worth = tokens x (1 + s + s^2 + ... ), a term an epoch

`bench/forecast.py` makes the runs and fits the constants.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Law:
    """Constants of the law, in units of a million parameters and a million tokens. Floats, or tensors while fitted."""

    k: Any
    floor: Any
    a: Any
    alpha: Any
    b: Any
    beta: Any
    s: Any

    def __call__(self, ngram: Any, parameters: Any, tokens: Any, epochs: Any) -> Any:
        """Bits per byte of held-out documents. ngram: an n-gram model's; tokens: targets of an epoch."""
        worth = tokens / 1e6 * (1 - self.s**epochs) / (1 - self.s)
        size = parameters / 1e6
        return ngram**self.k * (self.floor + self.a * size**-self.alpha + self.b * worth**-self.beta)
