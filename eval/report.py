"""The comparison as one HTML file: nothing is fetched from anywhere, light and dark, from a phone's width to a desk's.

In: the result of `eval.compare.compare`, the loss curves of its runs, the manifests of the corpora judged on. Out: what
jinja2 makes of `templates/compare.html`; everything that comes from data is escaped. charts.py draws.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.charts import Curve, interval_chart, loss_chart
from eval.marks import pieces
from eval.memorised import exposure_rows, memorised_rows
from eval.scores import SCORES
from eval.tables import LABELS, SHOWN_BY_PART
from eval.verdict import PARTS, shown_pairs


def write_page(
    path: Path, result: dict[str, Any], curves: Sequence[Curve], manifests: Sequence[dict[str, Any]]
) -> None:
    """Render the comparison (`eval.compare.compare`'s result) to `path`."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    checkpoints = result["checkpoints"]
    names = [checkpoint["name"] for checkpoint in checkpoints]
    parts = [part for part in PARTS if checkpoints[0][f"bytes_{part}"]]
    page = environment.get_template("compare.html").render(
        result=result,
        checkpoints=checkpoints,
        names=names,
        parts=parts if len(parts) > 1 else [],
        pairs=shown_pairs(result),
        trained=any(checkpoint["train_bpb"] is not None for checkpoint in checkpoints),
        breakdown=[(label, told) for label, told in result["breakdown"].items() if len(told) > 1],
        **scores_shown(result["scores"]),
        memorised=memorised_rows(names, [told["figures"] for told in result["memorised"]]) if result["answers"] else [],
        exposures=exposure_rows(names, [told["exposure"] for told in result["memorised"]]),
        pieces=pieces,
        loss_chart=Markup(loss_chart(curves)) if curves else None,
        interval_chart=Markup(interval_chart(checkpoints)),
        settings=settings_table(checkpoints),
        manifests=list(zip(result["held_out"]["corpora"], manifests, strict=True)),
        stopped=[sum(item["answers"][k]["stopped"] for item in result["answers"]) for k in range(len(checkpoints))],
    )
    path.write_text(page, encoding="utf-8")


def scores_shown(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores as rows with a cell for each checkpoint, and for the baselines of the first; the same by category and
    difficulty."""
    parts = [table["all"]["scores"] for table in told]
    there = [score for score in SCORES if any(score in part for part in parts)]
    names = list(parts[0][there[0]]["baselines"]) if there and there[0] in parts[0] else []
    rows = []
    for score in there:
        cells = [part.get(score) for part in parts]
        first = next(cell for cell in cells if cell)
        figures = [first["baselines"].get(name) for name in names]
        rows.append({"label": LABELS[score], "number": first["num_questions"], "cells": cells, "baselines": figures})
    shown = [score for score in SHOWN_BY_PART if score in there]
    by = []
    for title in ("category", "difficulty"):
        of_each = [{part["name"]: part for part in table[f"by_{title}"]} for table in told]
        if of_each and of_each[0]:
            lines = [
                {"name": name, "number": part["num_questions"],
                 "cells": [each[name]["scores"].get(score) for score in shown for each in of_each]}
                for name, part in of_each[0].items()
            ]  # fmt: skip
            by.append((title, {"scores": [{"label": LABELS[score]} for score in shown], "rows": lines}))
    not_counted = told[0]["keywords_in_prompt"] if told else 0
    return {"score_rows": rows, "baseline_names": names, "score_parts": by, "not_counted": not_counted}


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
