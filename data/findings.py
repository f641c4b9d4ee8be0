"""What the audit can find, what each finding means for a row, and what to do about it.

A kind is removable where its rows are no loss: `prepare` drops them when it is told so. Others are cut or repaired in
the row, or are information. FUNNEL is the order in which rows leave: a row is counted at the first that names it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data.clean import DEFAULT_STEPS, STEPS


class Kind(NamedTuple):
    """How a finding is shown. `step`: what of [prepare] steps acts on it (data/steps.py); empty: nothing does."""

    removable: bool
    advice: str
    step: str


KINDS: dict[str, Kind] = {
    "filtered": Kind(True, "left out, as keep_if of the [[source]] says", ""),
    "unreadable": Kind(True, "mend the file, or name its format, columns or encoding in the [[source]]", ""),
    "encoding": Kind(True, "name the file's encoding in its [[source]]", ""),
    "empty": Kind(True, "dropped: there is nothing to learn", "empty"),
    "too_short": Kind(True, "dropped below min_bytes", "too_short"),
    "exact_duplicate": Kind(True, "one of each is kept", "exact_duplicate"),
    "near_duplicate": Kind(True, "the longest of each cluster is kept", "near_duplicate"),
    "template": Kind(True, "a few of each are kept: a model learns the form only", "template"),
    "repetition": Kind(True, "drop: a model learns loops from loops", "repetition"),
    "refusal": Kind(True, "drop: answers of an assistant about itself", "refusal"),
    "truncated": Kind(True, "drop, or find the whole text: a model learns to stop there", "truncated"),
    "mojibake": Kind(False, "repair: the text was decoded with a wrong encoding", "fix_mojibake"),
    "control_characters": Kind(False, "strip them", "strip_control"),
    "markup": Kind(False, "turn HTML to text; mend broken LaTeX by hand", "html_to_text"),
    "boilerplate": Kind(False, "cut the phrases out, or drop the rows", "cut_boilerplate"),
    "page_furniture": Kind(False, "cut them out", "cut_furniture"),
    "conflicting_answers": Kind(False, "keep one, or say in the question what differs", ""),
    "repeated_answer": Kind(False, "look whether one answer fits all of these questions", ""),
    "language": Kind(False, "drop other languages, or make them a source of their own", "language"),
    "pii": Kind(False, "mask or drop before anyone gets the model", "pii"),
    "secret": Kind(False, "revoke it, then drop the row", "secret"),
    "contamination": Kind(False, "drop from training what an evaluation asks", "contamination"),
}  # fmt: skip


def recommended(found: Iterable[str]) -> list[str]:
    """The steps of prepare that act on what was found, and those that it takes anyway, in their order."""
    wanted = {*DEFAULT_STEPS, *(KINDS[kind].step for kind in found)}
    return [step for step in STEPS if step in wanted]


# The order in which rows leave. Repairs and information take none.
FUNNEL = [name for name, kind in KINDS.items() if kind.removable]


@dataclass
class Finding:
    """Rows of one kind. detail: evidence in words, for some or all of the rows; spans: (field, start, end)."""

    kind: str
    rows: list[int]
    details: dict[int, str] = field(default_factory=dict)
    spans: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    clusters: list[dict[str, Any]] = field(default_factory=list)  # rows as numbers
    removed: list[int] | None = None  # those of the rows that would go; None: all, where the kind is removable
