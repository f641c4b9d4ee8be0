"""Means of answers' scores, how sure they are, and what the baselines reach: all, by category, by difficulty.

In: questions, the scores of one answer each (scores.py, ranking.py), and under a name each the scores of baselines'
answers to the same questions; ranking's level of chance is a baseline like others. Out: plain dicts, and `lines` of a
table for a terminal. Sampled answers have means alone (`sample_means`, `sample_line`).

Each figure is a mean over the questions that have that score, with its number of questions. Intervals are bootstrapped
over groups of questions: those of one group are no independent evidence (a question without a group is its own). All
columns see the same draws, so that a model is compared with a baseline on the same questions. Questions are sorted by
what they hold, so that no figure depends on their order, not in its last digit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.text import one_line
from eval.bootstrap import FEWEST_GROUPS, effective_groups, enough, group_sums, interval, resample
from eval.questions import Question, group_of
from eval.scores import FORM, GRADES, RANKS, SCORES

LABELS = {
    "keyword_recall": "keyword recall",
    "token_f1": "F1",
    "rouge_l": "ROUGE-L",
    "exact_match": "exact match",
    "code_parses": "code parses",
    "ranked_first": "ranked first",
    "reciprocal_rank": "reciprocal rank",
    "stopped": "stops by itself",
    "empty": "empty",
    "too_short": "too short",
    "repeats": "repeats itself",
    "leaves_template": "leaves template",
    "copies_prompt": "copies prompt",
}
SHOWN_BY_PART = ("keyword_recall", "token_f1", "ranked_first", "exact_match", "code_parses")
IN_A_ROW = 2  # of them, the first that there are
WIDTH = 100
NAME = 24  # columns for a category's name
PARTS_SHOWN = 30
LEVELS = ("easy", "medium", "hard")  # difficulties in their order; others follow by name

Scored = Mapping[str, Any]


def tables(
    questions: Sequence[Question],
    scored: Sequence[Scored],
    baselines: Mapping[str, Sequence[Scored] | None],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """{"all": part, "by_category": [part], "by_difficulty": [part], "keywords", "keywords_in_prompt", "unknown"}.

    baselines: None for one whose answers are not known; their names are "unknown".

    A part: {"name", "num_questions", "num_groups", "scores": {score: {"mean", "ci95", "num_questions", "num_groups",
    "baselines", "best_baseline", "beats"}}}. ci95: None below FEWEST_GROUPS groups of questions. beats: above every
    baseline, by paired intervals; it and best_baseline: None where that is not known. Ranks have chance alone to beat.
    """
    unknown = [name for name, rows in baselines.items() if rows is None]
    columns = {
        "": scored,
        **{name: [{}] * len(questions) if rows is None else rows for name, rows in baselines.items()},
    }
    order = sorted(range(len(questions)), key=lambda i: _content(questions[i]))
    for name, rows in columns.items():
        assert len(rows) == len(questions), (
            f"{name or 'the model'} has {len(rows)} answers to {len(questions)} questions"
        )
    values = {
        score: np.array([[_number(rows[i].get(score)) for i in order] for rows in columns.values()], dtype=float).T
        for score in SCORES
    }
    questions = [questions[i] for i in order]
    names = list(baselines)
    groups = np.array([group_of(question) for question in questions])

    def part(name: str, chosen: np.ndarray) -> dict[str, Any]:
        there = {score: of_score[chosen] for score, of_score in values.items()}
        cells = _cells(there, groups[chosen], names, resamples, seed)
        for cell in [cell for score, cell in cells.items() if unknown and score not in RANKS]:
            cell |= {"best_baseline": None, "beats": None}
        return {
            "name": name,
            "num_questions": len(chosen),
            "num_groups": len(set(groups[chosen].tolist())),
            "scores": cells,
        }

    def parts(labels: list[str | None]) -> list[dict[str, Any]]:
        if not any(labels):
            return []
        named = np.array([label or "(none)" for label in labels])
        return [part(str(name), np.flatnonzero(named == name)) for name in sorted(set(named), key=by_level)]

    return {
        "all": part("all", np.arange(len(questions))),
        "by_category": parts([question.category for question in questions]),
        "by_difficulty": parts([question.difficulty for question in questions]),
        "keywords": sum(len(question.keywords) for question in questions),
        "keywords_in_prompt": sum(len(row.get("keywords_in_prompt", ())) for row in scored),
        "unknown": unknown,
    }


def sample_means(samples: Sequence[Scored]) -> dict[str, float]:
    """Scores of all sampled answers -> the mean of each that any has, over those that have it, in whatever order."""
    found = {score: [float(row[score]) for row in samples if row.get(score) is not None] for score in SCORES}
    return {score: math.fsum(values) / len(values) for score, values in found.items() if values}


def _content(question: Question) -> str:
    """All of a question but where it stands."""
    return repr(replace(question, document="", source=""))


def _number(value: float | bool | None) -> float:
    return np.nan if value is None else float(value)


def by_level(name: str) -> tuple[int, str]:
    """Key that sorts difficulties in their order, and other names by name behind them."""
    level = name.casefold()
    return (LEVELS.index(level) if level in LEVELS else len(LEVELS), level + name)


def _cells(
    values: dict[str, np.ndarray], groups: np.ndarray, names: list[str], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Scores (questions, 1 + baselines), nan where there is none -> figures of those that the model has."""
    cells: dict[str, dict[str, Any]] = {}
    together: dict[bytes, list[tuple[str, int]]] = {}  # columns that the same questions have are drawn together
    for score, columns in values.items():
        has = ~np.isnan(columns)
        if not has[:, 0].any():
            continue
        own = columns[has[:, 0], 0]
        means = {name: float(columns[has[:, k], k].mean()) for k, name in enumerate(names, 1) if has[:, k].any()}
        cells[score] = {
            "mean": float(own.mean()),
            "ci95": None,
            "num_questions": len(own),
            "num_groups": len(set(groups[has[:, 0]].tolist())),
            "baselines": {name: means.get(name) for name in names},
            "best_baseline": max(means.values(), default=None),
            "beats": None,
        }
        same = [k for k in range(has.shape[1]) if np.array_equal(has[:, k], has[:, 0])]
        together.setdefault(has[:, 0].tobytes(), []).extend((score, k) for k in same)
    for mask, wanted in together.items():
        chosen = np.frombuffer(mask, dtype=bool)
        sizes = group_sums(np.ones(chosen.sum()), groups[chosen])
        if not enough(sizes):
            continue
        drawn = np.stack([values[score][chosen, k] for score, k in wanted], axis=1)
        figures = resample(group_sums(drawn, groups[chosen]), sizes, resamples, seed)
        effective = effective_groups(sizes)
        column = {key: (drawn[:, i], figures[:, i]) for i, key in enumerate(wanted)}
        for score in {score for score, _ in wanted}:
            own, resampled = column[score, 0]
            cells[score]["ci95"] = list(_interval(own, resampled, effective))
            against = [column[score, k] for k in range(1, 1 + len(names)) if (score, k) in column]
            if (
                score in GRADES
                and against
                and len(against) == sum(m is not None for m in cells[score]["baselines"].values())
            ):
                cells[score]["beats"] = all(interval(resampled - others, effective)[0] > 0 for _, others in against)
    return cells


def _interval(values: np.ndarray, figures: np.ndarray, effective: float) -> tuple[float, float]:
    """95% interval of a mean of values between 0 and 1, in so many groups.

    Where all are 0 or all are 1 the bootstrap sees no spread. Then the end is the share at which that many groups would
    still all be alike once in 40 (Clopper and Pearson, 1934): of right answers in 50 groups 0.93 to 1.
    """
    if (values == values[0]).all() and values[0] in (0.0, 1.0):
        away = 1 - 0.025 ** (1 / effective)
        return (0.0, away) if values[0] == 0 else (1 - away, 1.0)
    low, high = interval(figures, effective)
    return max(0.0, low), min(1.0, high)


# -- for a terminal


def lines(found: dict[str, Any], name: str = "") -> list[str]:
    """The tables as lines of at most WIDTH columns. `name`: the checkpoint's."""
    everything = found["all"]
    shown = [f"{name + ': ' if name else ''}answers to {everything['num_questions']:,} questions"]
    if everything["num_groups"] < everything["num_questions"]:
        shown[0] += f" in {everything['num_groups']:,} groups"
    if found["keywords_in_prompt"]:
        shown.append(
            f"{found['keywords_in_prompt']:,} of {found['keywords']:,} keywords are not counted: they stand in the "
            "question or its context"
        )
    shown += ["", *_aligned(_overall(everything))]
    if found["unknown"]:
        shown.append(
            f"{', '.join(found['unknown'])}: not known, as its training corpus is not here, nor what is above all"
        )
    for title, parts in (("category", found["by_category"]), ("difficulty", found["by_difficulty"])):
        scores = [score for score in SHOWN_BY_PART if score in everything["scores"]][:IN_A_ROW]
        if parts and scores:
            shown += ["", *_aligned(_by_part(title, parts, scores))]
            if len(parts) > PARTS_SHOWN:
                shown.append(f"and {len(parts) - PARTS_SHOWN} smaller ones")
    if found["by_category"] or found["by_difficulty"]:
        shown.append(f"base: the best baseline; no interval: fewer than {FEWEST_GROUPS} groups of questions")
    return [line[:WIDTH] for line in shown]


def sample_line(means: Mapping[str, float], samples: int) -> str:
    """Means of so many sampled answers to each question, in words."""
    told = ", ".join(f"{LABELS[score]} {_figure(mean)}" for score, mean in means.items())
    return f"mean of {samples:,} sample{'s' if samples > 1 else ''} a question: {told}"


def _overall(part: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each score; baselines that answer no score are left out."""
    scores = part["scores"]
    names = [name for name in next(iter(scores.values()))["baselines"]] if scores else []
    names = [name for name in names if any(cell["baselines"][name] is not None for cell in scores.values())]
    yield ["score", "n", "mean", "95% interval", *(one_line(name, 12) for name in names), ""]
    for score in (*GRADES, *FORM):
        if (cell := scores.get(score)) is not None:
            against = [_figure(cell["baselines"][name]) for name in names]
            verdict = {True: "above all of them", False: "not above all", None: ""}[cell["beats"]]
            yield [LABELS[score], f"{cell['num_questions']:,}", _figure(cell["mean"]), _span(cell), *against, verdict]


def _by_part(title: str, parts: list[dict[str, Any]], scores: list[str]) -> Iterator[list[str]]:
    yield [title, "n", *(text for score in scores for text in (LABELS[score], "base")), "stops"]
    largest = sorted(parts, key=lambda part: -part["num_questions"])[:PARTS_SHOWN]
    for part in [part for part in parts if any(part is one for one in largest)]:
        row = [one_line(part["name"], NAME), f"{part['num_questions']:,}"]
        for score in scores:
            cell = part["scores"].get(score)
            row += [f"{_figure(cell['mean'])} {_span(cell):<12}", _figure(cell["best_baseline"])] if cell else ["", ""]
        stopped = part["scores"].get("stopped")
        yield [*row, f"{stopped['mean']:.0%}" if stopped else ""]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _span(cell: dict[str, Any]) -> str:
    return "" if cell["ci95"] is None else "[{:.2f}, {:.2f}]".format(*cell["ci95"])


def _aligned(rows: Iterator[list[str]]) -> list[str]:
    """Columns of one width; the first to the left, the others to the right."""
    table = list(rows)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]).rstrip() for row in table]
