"""The cleaning steps that prepare can be told to run: the audit's detectors, acting.

    [prepare]
    steps = ["html_to_text", "fix_mojibake", "empty", "too_short", "repetition", "exact_duplicate", "near_duplicate",
             "template", "cut_boilerplate"]

Four sorts, in this order, so that nothing that a model is judged by teaches the cleaning (invariant 1; the names stand
in data/clean.py):
  repairs   of one row's texts: html_to_text fix_mojibake strip_control cut_furniture
  checks    of one row: empty too_short length repetition refusal mojibake control_characters markup pii secret
  alike     which rows are copies: exact_duplicate near_duplicate (data/pipeline.py)
  fitted    on the training split, applied to all: template truncated language boilerplate cut_boilerplate;
            contamination is fitted on the files of `questions` alone
A row that a step rejects goes to quarantine with the step's name and its evidence.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from data.clean import Verdict
from data.columns import Row
from data.detect.boilerplate import SAMPLE, cuttable, stock_phrases, stock_spans, without
from data.detect.contamination import Questions, held_questions
from data.detect.furniture import without_furniture
from data.detect.languages import SAMPLED, MainLanguage, main_language, other_language
from data.detect.markup import find_markup
from data.detect.signs import SourceHabits, habit, signs, source_habits, truncated
from data.detect.templates import Fields, Skeletons, find_templates, row_fields
from data.facts import compared_fields, compared_text
from data.fitting import FittedStep, Training
from data.repairs import fix_mojibake, html_to_text, strip_control
from data.store import Store

_REPAIRS: dict[str, Callable[[str], str]] = {
    "html_to_text": html_to_text,
    "fix_mojibake": fix_mojibake,
    "strip_control": strip_control,
    "cut_furniture": without_furniture,
}
FIELDS = ("text", "context", "question", "answer")
# How the bodies of posts begin (Stack Exchange): whatever they are about, their own tags are markup.
_POST = re.compile(r"\s*<(?:p|pre|blockquote|ol|ul|h[1-6])>", re.I)


def repair(row: Row, name: str) -> None:
    """Run a repair on each text of a row, in place. Running heads are a book's: cut_furniture leaves Q&A alone.

    html_to_text is for posts and for what the audit names; an answer that shows HTML stays, and what it would empty.
    """
    for column in ("text",) if name == "cut_furniture" else FIELDS:
        text = row[column]
        if not text:
            continue
        if name != "html_to_text":
            row[column] = _REPAIRS[name](text)
        elif _POST.match(text) or find_markup(text, row["question"] or ""):
            repaired = html_to_text(text)
            row[column] = repaired if repaired.strip() else text


def check(row: Row, name: str) -> Verdict:
    """Whether a row shows a sign of this kind (data/detect/signs.py)."""
    found = next((sign for sign in signs(row) if sign.kind == name), None)
    return (name, f"{found.field}: {found.detail}") if found else None


def body_name(row: Row) -> str:
    """The field that a model learns to write."""
    return "text" if row["kind"] == "text" else "answer"


# -- templates


@dataclass
class Templates:
    """What the training split taught: rows that stay or go by their numbers, and skeletons for all other rows."""

    rows: np.ndarray  # int64 (N,), those that have a template, ascending; not ids, which copies share
    of: np.ndarray  # int32 (N,), the template of each that goes; -1 for one that stays
    shown: list[str]
    skeletons: list[Skeletons]

    def decided(self, row: int) -> int | None:
        """The number of the template by which a training row goes, -1 for one that stays; None for any other row."""
        at = int(np.searchsorted(self.rows, row))
        return int(self.of[at]) if at < len(self.rows) and self.rows[at] == row else None


def fit_templates(training: Training, keep: int) -> Templates:
    """Templates of the training rows; the first `keep` of each, by content, stay."""
    store = training.store
    rows, of = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    fitted = Templates(rows[0], of[0], [], [])
    for is_text in (False, True):
        some = training.rows[store.facts["is_text"][training.rows] == is_text]
        found = find_templates(store.facts, some, partial(_compared, store))
        if not found:
            continue
        fitted.skeletons.append(Skeletons([template.skeleton for template in found]))
        for template in found:
            rows.append(np.array(template.rows))
            of.append(np.full(len(template.rows), len(fitted.shown), np.int32))
            of[-1][:keep] = -1
            fitted.shown.append(f"one of {len(template.rows):,}: {_shown(template.skeleton)}")
    fitted.rows = np.concatenate(rows)
    order = np.argsort(fitted.rows)
    fitted.rows, fitted.of = fitted.rows[order], np.concatenate(of)[order]
    return fitted


def _compared(store: Store, rows: list[int]) -> Iterator[tuple[str, ...]]:
    return map(compared_fields, store.each(rows))


def _shown(skeleton: Fields) -> str:
    return " / ".join(" ".join(words) for words in skeleton)[:300]


def apply_templates(row: Row, fitted: Templates) -> Verdict:
    """Training rows by what was decided; a row of another split goes when it has a skeleton of the training split."""
    decided = fitted.decided(row["number"])
    if decided is None:
        fields = row_fields(compared_fields(row))
        for skeletons in fitted.skeletons:
            if (found := skeletons.match(fields)) is not None:
                return "template", f"as in the training split: {_shown(found)}"
    elif decided >= 0:
        return "template", fitted.shown[decided]
    return None


# -- boilerplate, ends, languages


def fit_stock(training: Training) -> dict[str, np.ndarray]:
    """Stock phrases of each source."""
    fitted = {}
    for source, of in training.by_source().items():
        sample = of.first(SAMPLE)
        texts = ([row[body_name(row)] or "" for row in batch] for batch in sample.batches())
        fitted[source] = stock_phrases(texts, len(sample))
    return fitted


def drop_boilerplate(row: Row, stock: dict[str, np.ndarray]) -> Verdict:
    """Reject a row that holds a stock phrase."""
    text = row[body_name(row)]
    spans = stock_spans(text, stock[row["source"]]) if row["source"] in stock else []
    return ("boilerplate", f"{spans[0].where}: {text[spans[0].start : spans[0].end][:300]!r}") if spans else None


def cut_boilerplate(row: Row, stock: dict[str, np.ndarray]) -> Verdict:
    """Cut stock phrases out of a row, where what is left is good text; reject it where nothing else is in it."""
    name = body_name(row)
    spans = stock_spans(row[name], stock[row["source"]]) if row["source"] in stock else []
    spans = cuttable(row[name], spans)
    left = without(row[name], spans)
    if not any(map(str.isalnum, left)) and spans:
        return "boilerplate", f"nothing but stock phrases: {row[name][:300]!r}"
    row[name] = left
    return None


def fit_habits(training: Training) -> dict[str, SourceHabits]:
    """How the texts of each source end."""
    return {source: source_habits(Counter(map(habit, of.first(SAMPLE)))) for source, of in training.by_source().items()}


def drop_truncated(row: Row, habits: dict[str, SourceHabits]) -> Verdict:
    """Reject a row whose text is cut off."""
    found = truncated(row, habits.get(row["source"]))
    return ("truncated", f"{found.field}: {found.detail}") if found else None


def fit_languages(training: Training) -> dict[str, MainLanguage]:
    """The main language of each source."""
    found = {}
    for source, of in training.by_source().items():
        if main := main_language([compared_text(row) for row in of.first(SAMPLED)]):
            found[source] = main
    return found


def drop_language(row: Row, fitted: dict[str, MainLanguage]) -> Verdict:
    """Reject a row that is not in its source's main language."""
    main = fitted.get(row["source"])
    code = other_language(compared_text(row), main) if main else ""
    return ("language", f"{code}, where its source is {main.code}") if main and code else None


def drop_contaminated(row: Row, questions: Questions | None) -> Verdict:
    """Reject a row that holds one of the questions."""
    held = next(held_questions(questions, [""], [row]), None) if questions else None
    return ("contamination", f"holds a question of {held[1][1]}") if held else None


def _given(training: Training, questions: Questions | None) -> Questions | None:
    return questions


def fitted_steps(names: list[str], keep: int, questions: Questions | None) -> list[FittedStep]:
    """The fitted steps among `names`, in their order."""
    known: dict[str, tuple[Callable[[Training], Any], Callable[[Row, Any], Verdict]]] = {
        "template": (partial(fit_templates, keep=keep), apply_templates),
        "truncated": (fit_habits, drop_truncated),
        "language": (fit_languages, drop_language),
        "boilerplate": (fit_stock, drop_boilerplate),
        "cut_boilerplate": (fit_stock, cut_boilerplate),
        "contamination": (partial(_given, questions=questions), drop_contaminated),
    }
    return [FittedStep(name, *known[name]) for name in names if name in known]
