"""The report as one HTML file: no script, no request, light and dark, from a phone's width to a desk's.

In: what report.json holds. Out: what jinja2 makes of `templates/tokenizer.html`, in the styles of the audit's page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.report.summary import render_page
from data.report.view import part
from tokenizer.advice import alone_line, gap_line

TITLES = {
    "source": "By source",
    "category": "By category",
    "language": "By language",
    "length": "By length of document",
}
TOKENS_SHOWN = 12  # of a list, before the fold
BARS_SHOWN = 4  # side by side, this tokenizer's first; a table has all


def write_page(report: dict[str, Any], path: Path) -> None:
    """Render a report to `path`."""
    vocabulary = report["vocabulary"]
    most = max((band["tokens"] for band in vocabulary["bands"]), default=0)
    render_page(
        "tokenizer.html",
        path,
        Path(__file__).parent / "templates",
        report=report,
        splits=[("training", report["train"]), ("validation", report["val"]), ("test", report["test"])],
        dimensions=[(key, TITLES[key], compression_bars(rows)) for key, rows in report["by"].items() if rows],
        vocabulary=vocabulary,
        bands=[{**band, "share": part(band["tokens"], vocabulary["tokens"]), "bar": part(band["tokens"], most)}
               for band in vocabulary["bands"]],
        token_lists=[
            ("Pieces that a longer token always replaces", vocabulary["pieces_never"], vocabulary["pieces"]),
            ("Glitch tokens", vocabulary["glitch_never"], vocabulary["glitch"]),
            (f"Used fewer than {vocabulary['rare_under']} times", vocabulary["rare"], vocabulary["rare_tokens"]),
            ("Tokens of few documents", vocabulary["local"], vocabulary["local_tokens"]),
        ],
        tokens_shown=TOKENS_SHOWN,
        named=report["key_terms"],
        against=report["against"],
        gap_line=gap_line(report["gap"]) if report["gap"]["percent"] is not None else None,
        alone_line=None if report["against"] else alone_line(report),
        sources=against_bars(report["against"]),
        bars_shown=BARS_SHOWN,
    )  # fmt: skip


def compression_bars(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with bytes per token of training and held-out text as shares of the largest; None where there is no text."""
    sides = ("train", "held_out")
    most = max((row[side]["bytes_per_token"] for row in rows for side in sides), default=0)
    return [
        {**row, "bars": [part(row[side]["bytes_per_token"], most) if row[side]["tokens"] else None for side in sides]}
        for row in rows
    ]


def against_bars(sections: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each source of the test split the bytes per token of all tokenizers, this one first."""
    if not sections:
        return []
    rows = []
    for i, source in enumerate(sections[0]["by_source"]):
        figures = [source["own_bytes_per_token"], *(of["by_source"][i]["bytes_per_token"] for of in sections)]
        rows.append({**source, "figures": figures})
    most = max((figure or 0 for row in rows for figure in row["figures"]), default=0)
    return [{**row, "bars": [part(figure, most) for figure in row["figures"]]} for row in rows]
