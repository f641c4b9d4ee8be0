"""The drawings of the comparison's page: losses over the run, bits per byte with intervals, bars by category.

1. `curves_of` reads the loss curves of the compared runs from their metrics.jsonl
2. matplotlib draws them as SVG; its colours are then replaced by CSS variables, so that the page's theme decides
3. `bars` places a bar a checkpoint for each category as shares of its axis; the template draws them as wide as it can
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.breakdown import OTHERS
from eval.tables import by_level
from training.metrics import read_metrics

POINTS = 300  # of a curve: more cannot be seen
SERIES = 8  # colours in the template: --series-0 to --series-7, then again from the start
INK, FAINT = "#010203", "#010204"  # stand for CSS variables until the SVG is finished
LINES = ("-", "--", ":", "-.")  # of a run, so that colour is not all that tells runs apart
SIZE = (4.9, 3.2)  # inches of 72 units: a phone has room for about as many pixels, a desk for 1.6 times as many
NAMES_AT = (9, -16)  # points above the mark, of one run and of a second, so that names do not cover each other
NAMED = 6  # checkpoints of a curve that have room for their names
MOST_VALUES = 8  # categories with bars; a table has the others
PITCHES = ((3, 16), (8, 9), (20, 6))  # up to so many checkpoints a bar and its gap are so many pixels high


@dataclass
class Curve:
    """Losses of one run, x in tokens seen."""

    run: str
    train_x: list[float]
    train_loss: list[float]  # mean over the steps that a point stands for
    val_x: list[float]
    val_loss: list[float]
    marked: list[tuple[int, str, float, float]]  # compared checkpoints: number among all, name, x, validation loss


def curves_of(paths: Sequence[Path]) -> list[Curve]:
    """Curves of the runs that the checkpoints lie in; a run without metrics.jsonl has none."""
    curves = []
    for run in dict.fromkeys(path.parent for path in paths):
        # A step that was left out may have no loss.
        steps = [event for event in read_metrics(run / "metrics.jsonl", "step") if event["loss"] is not None]
        epochs = read_metrics(run / "metrics.jsonl", "epoch")
        if not steps:
            continue
        tokens_at = {event["step"]: event["tokens"] for event in steps}
        known = [event for event in epochs if event.get("step") in tokens_at]
        compared = {path.name: number for number, path in enumerate(paths) if path.parent == run}
        blocks = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
        curves.append(
            Curve(
                run=run.name,
                train_x=[float(steps[block[-1]]["tokens"]) for block in blocks],
                train_loss=[float(np.mean([steps[i]["loss"] for i in block])) for block in blocks],
                val_x=[float(tokens_at[event["step"]]) for event in known],
                val_loss=[event["val_loss"] for event in known],
                marked=[
                    (compared[event["checkpoint"]], event["checkpoint"], tokens_at[event["step"]], event["val_loss"])
                    for event in known
                    if event["checkpoint"] in compared
                ],
            )
        )
    return curves


def loss_chart(curves: Sequence[Curve]) -> str:
    """Training loss (thin) and validation loss (dots) of each run, the compared checkpoints named."""
    figure, axes = _figure()
    biggest = max(curve.train_x[-1] for curve in curves)
    unit, word = next((u, w) for u, w in ((1e9, "billion "), (1e6, "million "), (1e3, "thousand "), (0, ""))
                      if biggest >= u)  # fmt: skip
    scale = unit or 1.0
    for i, curve in enumerate(curves):
        # One run: neutral lines, and the colours are the checkpoints'; several: each in its first checkpoint's colour.
        colour = _series(curve.marked[0][0]) if len(curves) > 1 and curve.marked else INK
        suffix = f", {curve.run}" if len(curves) > 1 else ""
        axes.plot([x / scale for x in curve.train_x], curve.train_loss, color=colour, linewidth=1, alpha=0.5,
                  linestyle=LINES[i % len(LINES)], label=f"training{suffix}")  # fmt: skip
        axes.plot([x / scale for x in curve.val_x], curve.val_loss, color=colour, linewidth=1.8, marker="o",
                  markersize=3.5, linestyle=LINES[i % len(LINES)], label=f"validation{suffix}")  # fmt: skip
        lowest = min((y for _, _, _, y in curve.marked), default=None)
        for place, (number, name, x, y) in enumerate(curve.marked):
            axes.plot([x / scale], [y], marker="o", markersize=9, color=_series(number), linestyle="none")
            if len(curve.marked) > NAMED and place not in (0, len(curve.marked) - 1) and y != lowest:
                continue
            if len(curves) > len(NAMES_AT):
                continue  # they end where the others end: the legend names the runs
            at = (0, NAMES_AT[i])
            axes.annotate(name, (x / scale, y), xytext=at, textcoords="offset points", ha="center", color=INK)
    values = [loss for curve in curves for loss in [*curve.train_loss, *curve.val_loss]]
    low, high = min(values), max(values)
    axes.set_ylim(low - (0.05 if len(curves) == 1 else 0.15) * (high - low or 1), high + 0.1 * (high - low or 1))
    axes.margins(x=0.08)
    axes.set_xlabel(f"{word}tokens seen")
    axes.set_ylabel("loss, nats per token")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return _svg(figure, "Training and validation loss over tokens seen")


def interval_chart(checkpoints: Sequence[dict[str, Any]]) -> str:
    """Bits per byte of each checkpoint with its interval."""
    figure, axes = _figure(max(SIZE[1], 0.8 + 0.3 * len(checkpoints)))
    for i, each in enumerate(checkpoints):
        low, high = each["val_bpb_ci95"]
        y = len(checkpoints) - 1 - i
        axes.plot([low, high], [y, y], color=_series(i), linewidth=2.5, solid_capstyle="butt")
        axes.plot([each["val_bpb"]], [y], marker="o", markersize=6, color=_series(i))
        axes.annotate(f"{each['val_bpb']:.4f}", (high, y), xytext=(6, 0), textcoords="offset points",
                      va="center", color=INK)  # fmt: skip
    axes.grid(visible=False)  # a line would run through each figure
    axes.set_yticks(range(len(checkpoints)), [str(each["name"]) for each in reversed(checkpoints)])
    axes.set_ylim(-0.6, len(checkpoints) - 0.4)
    first, last = (pick(each["val_bpb_ci95"][side] for each in checkpoints) for side, pick in ((0, min), (1, max)))
    axes.set_xlim(first - 0.08 * (last - first), last + 0.25 * (last - first))  # the last figure stands behind its line
    axes.set_xlabel("bits per byte (lower is better), 95% interval")
    return _svg(figure, "Bits per byte of each checkpoint with its 95% interval")


class Bar(NamedTuple):
    """A checkpoint's figure for one category."""

    value: float
    ci95: Sequence[float] | None
    baseline: float | None = None  # the best one of the same documents


def bars(values: Sequence[tuple[str, int, Sequence[Bar | None]]], levels: bool = False) -> dict[str, Any]:
    """The MOST_VALUES largest of `values`, with bars as shares of an axis from 0 to "end".

    values: name, how many documents, a bar a checkpoint or None. levels: the names are difficulties, shown in their
    order; else the largest stands first. Returns {"rows", "end", "pitch", "few", "left_out", "of"}: pitch is CSS
    pixels from bar to bar, few whether there is room for their figures, left_out how many of all documents have no bar.
    """
    shown = sorted(values, key=lambda of: (of[0] == OTHERS, -of[1]))[:MOST_VALUES]
    if levels:
        shown.sort(key=lambda of: by_level(of[0]))
    there = [bar for _, _, row in shown for bar in row if bar is not None]
    end = _round_up(max((max(bar.value, *(bar.ci95 or ()), bar.baseline or 0) for bar in there), default=0))
    most = max(len(row) for _, _, row in shown)
    return {
        "rows": [
            {"name": name, "number": number, "bars": [bar and _shares(bar, end) for bar in row]}
            for name, number, row in shown
        ],
        "end": f"{end:g}",
        "pitch": next(pixels for up_to, pixels in PITCHES if most <= up_to),
        "few": most <= PITCHES[0][0],
        "left_out": sum(number for _, number, _ in values) - sum(number for _, number, _ in shown),
        "of": sum(number for _, number, _ in values),
    }


def _shares(bar: Bar, end: float) -> dict[str, Any]:
    """The figure, and where its bar, the ends of its interval and its baseline stand: percent of the axis."""
    low, high = (None, None) if bar.ci95 is None else (100 * each / end for each in bar.ci95)
    base = None if bar.baseline is None else 100 * bar.baseline / end
    return {**bar._asdict(), "percent": 100 * bar.value / end, "low": low, "high": high, "base": base}


def _round_up(value: float) -> float:
    """The next round number: one digit, 1.5 or 2.5 in the value's power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(s * power for s in (1, 1.5, 2, 2.5, *range(3, 11), 20) if s * power >= value))


def _figure(height: float = SIZE[1]) -> tuple[Any, Any]:
    """Empty axes without the frame's upper and right side. matplotlib is imported late: it takes half a second."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text (readable, searchable, in the page's font); a fixed salt makes the same page of the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "loam", "text.parse_math": False,
                                "font.size": 9.5})  # fmt: skip
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.6)
    axes.locator_params(nbins=6)
    return figure, axes


def _series(i: int) -> str:
    """Colour that stands for the CSS variable of series i."""
    return f"#0102{0x10 + i % SERIES:02x}"


def _svg(figure: Any, title: str) -> str:
    """The figure as inline SVG in the page's colours and font, without width, so that it fits its place."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in {
        INK: "--ink",
        FAINT: "--faint",
        **{_series(i): f"--series-{i}" for i in range(SERIES)},
    }.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{title}"', svg, count=1)
    # Links to names of formats inside an SVG are never fetched, but a page without any is easier to check.
    svg = re.sub(r'\s(xmlns:xlink|xmlns)="[^"]*"', "", svg).replace("xlink:href", "href")
    # Ids must not be shared by the page's two drawings.
    prefix = re.sub(r"\W", "", title)[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
