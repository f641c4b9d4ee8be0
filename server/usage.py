"""Who used what: `python server/usage.py` sums the ledger by key and model, `--csv FILE` writes its rows.

A row is a request that an engine began: id (that of the answer), key, model, status, prompt and completion tokens
charged, price, cost and margin by the table that the server ran with, when it began (UTC) and how many seconds it took.
A running server may be writing meanwhile; what is told is the ledger at one moment.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from common.errors import UserError, run_command
from common.files import atomic_file
from config import load_command
from server.ledger import LEDGER, Ledger
from server.prices import amount

COLUMNS = ("id", "key", "model", "status", "prompt_tokens", "completion_tokens", "price", "cost", "margin", "currency",
           "began", "seconds")  # fmt: skip

WHERE = """WHERE (:key IS NULL OR key = :key) AND (:since IS NULL OR began >= :since)
           AND (:before IS NULL OR began < :before)"""


@dataclass
class UsageOptions:
    """Which rows, and where they go.

    Args:
        csv: write the rows to this file; - is the terminal
        key: of this key only
        since: from this day on (UTC), as 2026-11-01
        before: before this day
        ledger: the file
    """

    csv: str | None = None
    key: str | None = None
    since: str | None = None
    before: str | None = None
    ledger: str = LEDGER


def usage_rows(ledger: Ledger, options: UsageOptions) -> Iterator[dict[str, Any]]:
    """Rows of the ledger, oldest first, amounts as decimal numbers."""
    query = f"SELECT * FROM requests {WHERE} ORDER BY began, id"
    for row in ledger.read(query, _chosen(options)):
        found = dict(row)
        found["margin"] = amount(row["price"] - row["cost"])
        found |= {name: amount(row[name]) for name in ("price", "cost")}
        found["began"] = datetime.fromtimestamp(row["began"], UTC).isoformat(timespec="milliseconds")
        found["seconds"] = f"{row['seconds']:.3f}"
        yield {name: found[name] for name in COLUMNS}


def write_csv(ledger: Ledger, options: UsageOptions, file: TextIO) -> int:
    """All rows; their number."""
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    number = 0
    for row in usage_rows(ledger, options):
        writer.writerow(row)
        number += 1
    return number


def usage_lines(ledger: Ledger, options: UsageOptions) -> list[str]:
    """A line a key and model: requests, tokens, price, cost, margin."""
    # Amounts in two parts: SQLite's whole numbers end at nine million of a currency.
    sums = ", ".join(
        f"sum({name} / 1000000) AS {name}_millions, sum({name} % 1000000) AS {name}_rest" for name in ("price", "cost")
    )
    query = f"""SELECT key, model, currency, count(*) AS number, sum(status = 'completed') AS completed,
               sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion, {sums}
               FROM requests {WHERE} GROUP BY key, model, currency ORDER BY key, model, currency"""
    lines = []
    for found in ledger.read(query, _chosen(options)):
        row = dict(found)
        for name in ("price", "cost"):
            row[name] = row[f"{name}_millions"] * 10**6 + row[f"{name}_rest"]
        line = (
            f"{row['key'] or '(no key)'}  {row['model']}  {row['number']:,} requests ({row['completed']:,} completed), "
            f"{row['prompt']:,} + {row['completion']:,} tokens"
        )
        if row["price"] or row["cost"]:
            margin = row["price"] - row["cost"]
            share = f" ({margin / row['price']:.1%})" if row["price"] else ""
            line += f", price {amount(row['price'])} {row['currency']}, cost {amount(row['cost'])}"
            line += f", margin {amount(margin)}{share}"
        lines.append(line)
    return lines


def _chosen(options: UsageOptions) -> dict[str, Any]:
    """Values for `WHERE`."""
    days = {name: _seconds(name, getattr(options, name)) for name in ("since", "before")}
    return {"key": options.key, **days}


def _seconds(name: str, day: str | None) -> float | None:
    if day is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            raise ValueError
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise UserError(f"--{name} {day}: expected a day, as in 2026-11-01") from None


def main() -> None:
    """The command."""
    options: UsageOptions = load_command(None, description=__doc__, options=UsageOptions).args.options
    if not Path(options.ledger).is_file():
        raise UserError(f"{options.ledger}: no such ledger; `python serve.py CKPT` makes one, --ledger names another")
    ledger = Ledger(Path(options.ledger))
    if options.csv == "-":
        write_csv(ledger, options, sys.stdout)
    elif options.csv is not None:
        target = Path(options.csv)
        with atomic_file(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            number = write_csv(ledger, options, file)
        print(f"{number:,} rows: {target}")
    else:
        print(*(usage_lines(ledger, options) or ["nothing was used"]), sep="\n")
        print("next: python server/usage.py --csv usage.csv")
    ledger.close()


if __name__ == "__main__":
    run_command(main)
