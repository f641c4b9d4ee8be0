"""What tokens cost: a TOML table of prices, and what the tokens cost the one who serves.

    currency = "EUR"

    [default]                  # of a million tokens, in that currency
    prompt = 0.20
    completion = 0.60
    prompt_cost = 0.05         # what they cost you (power, rent): the margin is the rest
    completion_cost = 0.25

    [model."default/ckpt6"]    # of one model; what it does not name is that of [default]
    completion = 1.20

Sums are whole numbers of a millionth of a millionth (PARTS) of the currency, so that no rounding adds up.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.runs import read_config

PARTS = 10**12  # of one unit of the currency
FIELDS = ("prompt", "completion", "prompt_cost", "completion_cost")
MOST = 1_000_000  # of a million tokens


@dataclass(frozen=True)
class Price:
    """Parts of the currency for one token."""

    prompt: int = 0
    completion: int = 0
    prompt_cost: int = 0
    completion_cost: int = 0
    currency: str = ""

    def price(self, num_prompt: int, num_completion: int) -> int:
        """What the client pays."""
        return self.prompt * num_prompt + self.completion * num_completion

    def cost(self, num_prompt: int, num_completion: int) -> int:
        """What the server's owner pays."""
        return self.prompt_cost * num_prompt + self.completion_cost * num_completion


FREE = Price()


def read_prices(path: Path, models: Sequence[str]) -> dict[str, Price]:
    """The price of each model; UserError for a table that is not as above."""
    read_config(path)  # says what is wrong with the file
    table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    for name in table:
        if name not in ("currency", "default", "model"):
            raise UserError(f"{path}: unknown key '{name}' (known: currency, [default], [model.\"RUN/ckpt1\"])")
    currency = table.get("currency", "")
    if not isinstance(currency, str) or len(currency) > 10:
        raise UserError(f'{path}: currency is a short text, as in currency = "EUR"')
    default = _section(path, "[default]", table.get("default", {}))
    own = table.get("model", {})
    if not isinstance(own, dict):
        raise UserError(f"{path}: 'model' is written [model.\"RUN/ckpt1\"]")
    sections = {name: _section(path, f'[model."{name}"]', section) for name, section in own.items()}
    if unknown := [name for name in sections if name not in models]:
        raise UserError(f'{path}: [model."{unknown[0]}"]: no such model is served (there are {", ".join(models)})')
    if free := [name for name in models if "default" not in table and name not in sections]:
        raise UserError(f'{path}: no price of {free[0]}: write [default], or [model."{free[0]}"], of 0 if it is free')
    return {name: Price(**{**default, **sections.get(name, {})}, currency=currency) for name in models}


def amount(parts: int) -> str:
    """Parts as a decimal number of the currency, all digits."""
    return format((Decimal(parts) / PARTS).normalize(), "f") if parts else "0"


def _section(path: Path, where: str, values: Any) -> dict[str, int]:
    if not isinstance(values, dict):
        raise UserError(f"{path}: {where} is a section")
    found = {}
    for name, value in values.items():
        if name not in FIELDS:
            raise UserError(f"{path}: {where} unknown key '{name}' (known: {', '.join(FIELDS)})")
        number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        if not number or not (Decimal(value).is_finite() and 0 <= value <= MOST):
            raise UserError(f"{path}: {where} {name}: a number from 0 to {MOST:,} is needed, of a million tokens")
        parts = Decimal(value) * PARTS / 10**6
        if parts != int(parts):
            raise UserError(f"{path}: {where} {name}: six digits behind the point are the most")
        found[name] = int(parts)
    return found
