"""The comparison as one HTML file: nothing is fetched from anywhere, light and dark, from a phone's width to a desk's.

In: the result of `eval.compare.compare`, the loss curves of its runs, the manifests of the corpora judged on. Out: what
jinja2 makes of `templates/compare.html`; everything that comes from data is escaped. charts.py draws.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.text import one_line
from data.report.view import count, part, percent, title
from eval.charts import Bar, Curve, bars, interval_chart, loss_chart
from eval.marks import pieces
from eval.memorised import exposure_rows, memorised_rows
from eval.scores import SCORES
from eval.tables import IN_A_ROW, LABELS, SHOWN_BY_PART, sample_line
from eval.verdict import PARTS, seeds_told, shown_pairs

VERDICTS = 3  # that stand first; of more the closest
SIDE_BY_SIDE = 3  # checkpoints whose answers have room beside each other; of more one steps from one to the next
BARS = ("category", "difficulty")
TEMPLATES = ("eval/templates", "data/report/templates")  # the page's own, and what it shares with the audit's
# Reasons for which rows leave once there are splits, in their order; before these come the steps, in theirs.
LATE = ("near_duplicate", "gap", "equal_to_train", "equal_to_val", "overlaps_train")


def write_page(
    path: Path, result: dict[str, Any], curves: Sequence[Curve], manifests: Sequence[dict[str, Any]]
) -> None:
    """Render the comparison (`eval.compare.compare`'s result) to `path`."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    templates = FileSystemLoader([Path(__file__).parents[1] / folder for folder in TEMPLATES])
    environment = Environment(loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "count": count}
    checkpoints = result["checkpoints"]
    names = [checkpoint["name"] for checkpoint in checkpoints]
    parts = [part for part in PARTS if checkpoints[0][f"bytes_{part}"]]
    pairs = shown_pairs(result)
    page = environment.get_template("compare.html").render(
        result=result,
        checkpoints=checkpoints,
        names=names,
        parts=parts if len(parts) > 1 else [],
        pairs=sorted(pairs, key=lambda pair: abs(pair["delta_bpb"])) if len(pairs) > VERDICTS else pairs,
        num_verdicts=VERDICTS,
        seeds=seeds_told(result),
        trained=any(checkpoint["train_bpb"] is not None for checkpoint in checkpoints),
        breakdown=[(label, told) for label, told in result["breakdown"].items() if len(told) > 1],
        bpb_bars=bpb_bars(result["breakdown"]),
        best=min(range(len(checkpoints)), key=lambda k: checkpoints[k]["val_bpb"]),
        stepped=len(checkpoints) > SIDE_BY_SIDE,
        **scores_shown(result["scores"]),
        sampled=[
            (table["checkpoint"], sample_line(table["samples"], result["settings"]["samples"]))
            for table in result["scores"]
            if table["samples"]
        ],
        memorised=memorised_rows(names, [told["figures"] for told in result["memorised"]]) if result["answers"] else [],
        exposures=exposure_rows(names, [told["exposure"] for told in result["memorised"]]),
        pieces=pieces,
        loss_chart=Markup(loss_chart(curves)) if curves else None,
        interval_chart=Markup(interval_chart(checkpoints)),
        settings=settings_table(checkpoints),
        corpora=[
            {
                "name": name,
                "manifest": manifest,
                "funnel": data_funnel(manifest),
                "splits": splits_shown(manifest),
                "first": first_of_each(manifest),
            }
            for name, manifest in zip(result["held_out"]["corpora"], manifests, strict=True)
        ],
        stopped=[sum(item["answers"][k]["stopped"] for item in result["answers"]) for k in range(len(checkpoints))],
    )
    path.write_text(page, encoding="utf-8")


def scores_shown(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores as rows with a cell for each checkpoint, and for each baseline, of the first checkpoint that has one; the
    same by category and difficulty."""
    parts = [table["all"]["scores"] for table in told]
    there = [score for score in SCORES if any(score in part for part in parts)]
    against = [cell["baselines"] for part in parts for cell in part.values()]
    names = [name for name in dict.fromkeys(name for one in against for name in one)
             if any(one.get(name) is not None for one in against)]  # fmt: skip
    rows = []
    for score in there:
        cells = [part.get(score) for part in parts]
        number = next(cell["num_questions"] for cell in cells if cell)
        figures = _first_known(cells, names)
        rows.append({"label": LABELS[score], "number": number, "cells": cells, "baselines": figures})
    by = []
    for score in [score for score in SHOWN_BY_PART if score in there]:
        for label in BARS:
            of_each = [{part["name"]: part["scores"].get(score) for part in table[f"by_{label}"]} for table in told]
            numbers = {part["name"]: part["num_questions"] for table in told[:1] for part in table[f"by_{label}"]}
            lines = [(name, number, [each[name] for each in of_each]) for name, number in numbers.items()]
            if lines := [line for line in lines if any(line[2])]:
                drawn = [
                    (name, number, [None if cell is None else _bar(cell) for cell in cells])
                    for name, number, cells in lines
                ]
                told_lines = [(*line, _first_known(line[2], names)) for line in lines]
                by.append({"by": label, "score": score, "label": LABELS[score], "rows": told_lines,
                           "bars": bars(drawn, label == "difficulty")})  # fmt: skip
    main = [score for score in SHOWN_BY_PART if score in there][:IN_A_ROW]
    not_counted = told[0]["keywords_in_prompt"] if told else 0
    return {"score_rows": rows, "baseline_names": names, "score_parts": by, "main_scores": main,
            "not_counted": not_counted, "unknown": [table["checkpoint"] for table in told if table["unknown"]],
            "known": next((table["checkpoint"] for table in told if not table["unknown"]), None)}  # fmt: skip


def _first_known(cells: Sequence[dict[str, Any] | None], names: Sequence[str]) -> list[float | None]:
    """Of each baseline the first cell's mean that has one."""
    found = [[cell["baselines"][name] for cell in cells if cell and name in cell["baselines"]] for name in names]
    return [next((mean for mean in of_each if mean is not None), None) for of_each in found]


def _bar(cell: dict[str, Any]) -> Bar:
    return Bar(cell["mean"], cell["ci95"], cell["best_baseline"])


def bpb_bars(breakdown: dict[str, list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """(label, bars) of what the breakdown has by category and by difficulty."""
    drawn = []
    for label in BARS:
        if told := breakdown.get(label, []):
            rows = [
                (of["value"], of["documents"],
                 [None if bpb is None else Bar(bpb, of["ci95"] and of["ci95"][k]) for k, bpb in enumerate(of["bpb"])])
                for of in told
            ]  # fmt: skip
            drawn.append((label, bars(rows, label == "difficulty")))
    return drawn


def data_funnel(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows read, what cutting and planting added, what left for which reason: {"title", "rows", "lost", "left",
    "taken"}; lost is negative where rows came, left and taken are shares of all rows that there ever were."""
    if "rows_read" not in manifest:
        return []
    quarantine = manifest.get("quarantine", {}).get("reasons", {})
    steps = manifest.get("config", {}).get("steps", [])
    order = {reason: place for place, reason in enumerate([*steps, *(name for name in LATE if name not in steps)])}
    changes = [("Blocks of cut texts", -manifest.get("pieces_added", 0)),
               ("Planted canaries", -manifest.get("canaries", {}).get("rows", 0))]  # fmt: skip
    changes = [change for change in changes if change[1]]
    changes += [(title(reason), quarantine[reason]) for reason in sorted(quarantine, key=lambda r: order.get(r, -1))]
    rows = manifest["rows_read"]
    whole = rows - sum(lost for _, lost in changes if lost < 0)
    view = [{"title": "Read", "rows": rows, "lost": 0, "left": part(rows, whole), "taken": 0.0}]
    for name, lost in changes:
        rows -= lost
        view.append({"title": name, "rows": rows, "lost": lost, "left": part(rows, whole), "taken": part(lost, whole)})
    return view


def splits_shown(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Documents and bytes of each split, with its share of all documents."""
    splits = manifest.get("splits", {})
    total = sum(split["documents"] for split in splits.values())
    return [{"name": name, **split, "share": part(split["documents"], total)} for name, split in splits.items()]


def first_of_each(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """(reason, where the first row that left for it stands, and why)."""
    found = manifest.get("quarantine", {}).get("first", {})
    return [(title(reason), one_line(str(where), 200)) for reason, where in found.items()]


def settings_table(checkpoints: Sequence[dict[str, Any]]) -> list[tuple[str, list[Any], bool]]:
    """Every setting of the compared checkpoints as (section.key, value of each, whether they differ)."""
    flat = [
        {f"{section}.{key}": value for section, keys in each["config"].items() for key, value in keys.items()}
        for each in checkpoints
    ]
    rows = []
    for key in sorted({key for each in flat for key in each}):
        values = [each.get(key) for each in flat]
        if any(value is not None for value in values):
            rows.append((key, ["default" if v is None else v for v in values], len({str(v) for v in values}) > 1))
    return rows
