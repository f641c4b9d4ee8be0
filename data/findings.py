"""What the audit can find, what each finding means for a row, and what to do about it.

A kind is removable where its rows are no loss: `prepare` drops them when it is told so. Others are cut or repaired in
the row, or are information. FUNNEL is the order in which rows leave: a row is counted at the first that names it.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """How a finding is shown. `setting`: what in the TOML file acts on it; empty: nothing does."""

    removable: bool
    advice: str
    setting: str


KINDS: dict[str, Kind] = {
    "unreadable": Kind(True, "mend the file, or name its format, columns or encoding in the [[source]]", ""),
    "encoding": Kind(True, "name the file's encoding in its [[source]]", 'encoding = "cp1252"'),
    "empty": Kind(True, "dropped: there is nothing to learn", "[prepare] steps: empty"),
    "too_short": Kind(True, "dropped below min_bytes", "[prepare] min_bytes = 8"),
    "exact_duplicate": Kind(True, "one of each is kept", "[prepare] steps: exact_duplicate"),
    "near_duplicate": Kind(True, "the longest of each cluster is kept", "[prepare] steps: near_duplicate"),
    "template": Kind(True, "a few of each are kept: a model learns the form only", "[prepare] steps: template"),
    "repetition": Kind(True, "drop: a model learns loops from loops", "[prepare] steps: repetition"),
    "refusal": Kind(True, "drop: answers of an assistant about itself", "[prepare] steps: refusal"),
    "truncated": Kind(True, "drop, or find the whole text: a model learns to stop there", "[prepare] steps: truncated"),
    "mojibake": Kind(False, "repair: the text was decoded with a wrong encoding", "[prepare] steps: fix_mojibake"),
    "control_characters": Kind(False, "strip them", "[prepare] steps: strip_control"),
    "markup": Kind(False, "turn HTML to text; mend broken LaTeX by hand", "[prepare] steps: html_to_text"),
    "boilerplate": Kind(False, "cut the phrases out, or drop the rows", "[prepare] steps: cut_boilerplate"),
    "page_furniture": Kind(False, "cut them out", "[prepare] steps: cut_furniture"),
    "conflicting_answers": Kind(False, "keep one, or say in the question what differs", ""),
    "repeated_answer": Kind(False, "look whether one answer fits all of these questions", ""),
    "language": Kind(False, "drop other languages, or make them a source of their own", "[prepare] languages"),
    "pii": Kind(False, "mask or drop before anyone gets the model", "[prepare] steps: pii"),
    "secret": Kind(False, "revoke it, then drop the row", "[prepare] steps: secret"),
    "contamination": Kind(False, "drop from training what an evaluation asks", "[prepare] steps: contamination"),
}  # fmt: skip
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
