"""The drawings of the comparison's page: losses over the run, bits per byte with intervals, bars by category.

1. `curves_of` reads the loss curves of the compared runs from their metrics.jsonl
2. matplotlib draws them as SVG; its colours are then replaced by CSS variables, so that the page's theme decides
3. `bpb_bars`, `score_bars`: bars as shares of the widest one, which the template draws, as wide as there is room
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.metrics import read_metrics

POINTS = 300  # of a curve: more cannot be seen
SERIES = 8  # colours in the template: --series-0 to --series-7, then again from the start
INK, FAINT = "#010203", "#010204"  # stand for CSS variables until the SVG is finished
LINES = ("-", "--", ":", "-.")  # of a run, so that colour is not all that tells runs apart
SIZE = (4.9, 3.2)  # inches of 72 units: a phone has room for about as many pixels, a desk for 1.6 times as many


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
        for number, name, x, y in curve.marked:
            axes.plot([x / scale], [y], marker="o", markersize=9, color=_series(number), linestyle="none")
            above = 9 if i % 2 == 0 else -16  # of two runs, so that their names do not cover each other
            axes.annotate(name, (x / scale, y), xytext=(0, above), textcoords="offset points", ha="center", color=INK)
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
    figure, axes = _figure()
    for i, each in enumerate(checkpoints):
        low, high = each["val_bpb_ci95"]
        y = len(checkpoints) - 1 - i
        axes.plot([low, high], [y, y], color=_series(i), linewidth=2.5, solid_capstyle="butt")
        axes.plot([each["val_bpb"]], [y], marker="o", markersize=6, color=_series(i))
        axes.annotate(f"{each['val_bpb']:.4f}", (each["val_bpb"], y), xytext=(0, 8), textcoords="offset points",
                      ha="center", color=INK)  # fmt: skip
    axes.set_yticks(range(len(checkpoints)), [str(each["name"]) for each in reversed(checkpoints)])
    axes.set_ylim(-0.6, len(checkpoints) - 0.3)
    axes.margins(x=0.15)
    axes.set_xlabel("bits per byte (lower is better), 95% interval")
    return _svg(figure, "Bits per byte of each checkpoint with its 95% interval")


def _figure() -> tuple[Any, Any]:
    """Empty axes without the frame's upper and right side. matplotlib is imported late: it takes half a second."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text (readable, searchable, in the page's font); a fixed salt makes the same page of the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "loam", "text.parse_math": False,
                                "font.size": 9.5})  # fmt: skip
    figure = Figure(figsize=SIZE, layout="constrained")
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
