"""How right the audit of a corpus is: defects of known kind in clean real text, against the rows that it names.

    python bench/audit_quality.py --json bench/results/audit.json
    python bench/audit_quality.py --kind template,boilerplate --share 0.3 --source gsm8k --show 5
    python bench/audit_quality.py --clean

A cell is one kind of defect in one source at one share of its rows (bench/planting.py); the audit reads it from files.
Counted are rows of the findings of that kind. Precision: which share of the named rows is right. Recall: which share of
the rows that should be named is.
  exact duplicates  of each class of equal rows all but one should be named; which one stays is the audit's choice
  near duplicates   a named row is right if it has a partner at 0.8 or more. Where all rows of a cluster are named,
                    one is wrong: nothing of it stays. Missed is what a second pass over the rows that stay would
                    still find: in the order of the file, each row that is near an earlier one that stays. Rows named
                    as exact duplicates count as named; rows of fewer than 50 words count neither way
  all others        every row that bears the defect should be named

--clean audits gsm8k, nq_open, xquad.en and the books as they are, and tells each row that the audit would remove.
Needs the folder of real corpora that LOAM_CORPORA names (docs/own-data.md).
"""

import math
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from bench.machine import facts, tell
from bench.planted.sources import SOURCES, Row, clean_rows, corpora
from bench.planting import KINDS, ROWS, Origin, Planted, as_jsonl, origin, plant, write
from common.errors import UserError, run_command
from config import load_command
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files

SHARES = (0.01, 0.05, 0.3, 0.6)
HIGH_AIM = 0.98  # precision and recall that are aimed at, for kinds that are found between rows
AIM = 0.95  # and for the others
HIGH = ("exact_duplicate", "near_duplicate", "template", "boilerplate")
CLEAN_AIM = 0.01  # of the rows of a clean source that may be named as removable, at most
SHOWN = 3000  # characters of a field that are shown: a document of a book whole


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        kind: one kind or several with commas; by default all
        source: one source or several with commas; by default all that a kind is planted into
        share: one share of the rows; by default 0.01, 0.05, 0.3 and 0.6
        rows: of a cell
        seed: another seed plants other defects in other rows
        show: so many rows wrongly named, and so many missed, are printed with their text, of each cell
        json: file to write the results to
    """

    kind: str | None = None
    source: str | None = None
    share: float | None = None
    rows: int = ROWS
    seed: int = 0
    show: int = 0
    json: str | None = None


@dataclass
class Score:
    """Counts of one cell, and the rows that are wrong."""

    right: int
    wrong: int
    missed: int
    wrong_rows: list[int]
    missed_rows: list[int]

    @property
    def precision(self) -> float | None:
        """Share of the named rows that is right; None where none is named."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        """Share of the rows to name that is named; None where there are none."""
        return self.right / (self.right + self.missed) if self.right + self.missed else None


def main() -> None:
    """The command."""
    switch = {"clean": (False, "audit clean sources, unplanted, and tell what would be removed")}
    given = load_command(None, __doc__, flags=switch, options=Options).args
    options: Options = given.options
    if options.rows < 100 or options.show < 0:
        raise UserError("--rows must be 100 or more, --show 0 or more")
    result = measure_clean() if given.clean else measure(options)
    tell(result, clean_table(result) if given.clean else table(result), options.json)


def cells(options: Options) -> list[tuple[str, str, float]]:
    """Kind, source and share of each cell that is asked for. Raises UserError where that is none."""
    kinds = options.kind.split(",") if options.kind else list(KINDS)
    sources = options.source.split(",") if options.source else list(SOURCES)
    for name, given, known in (("kind", kinds, KINDS), ("source", sources, SOURCES)):
        if unknown := [one for one in given if one not in known]:
            raise UserError(f"--{name} {unknown[0]}: choose from {', '.join(known)}")
    shares = [options.share] if options.share is not None else list(SHARES)
    found = [(k, s, x) for k, s, x in product(kinds, sources, shares) if s in KINDS[k].sources]
    if not found:
        raise UserError(f"{', '.join(kinds)}: planted into {', '.join(KINDS[kinds[0]].sources)} only")
    return found


def measure(options: Options) -> dict[str, Any]:
    """Everything that the table and the JSON file hold."""
    rows = []
    for kind, source, share in cells(options):
        rows.append(measure_cell(kind, source, share, options))
        print("  ".join(cell_line(rows[-1]).split()), file=sys.stderr, flush=True)
    return {**facts(), "rows": options.rows, "seed": options.seed, "cells": rows, "kinds": by_kind(rows)}


def measure_cell(kind: str, source: str, share: float, options: Options) -> dict[str, Any]:
    """Plant, audit and score one cell."""
    planted = plant(kind, source, share, options.rows, options.seed)
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        sources, where = write(planted, Path(folder))
        start = time.perf_counter()
        found = run_audit(sources, Path(folder))
        seconds = time.perf_counter() - start
    flagged = named_rows(found, where)
    scored = score(planted, flagged)
    instead = Counter(k for i in scored.missed_rows for k, named in flagged.items() if i in named and k != kind)
    if options.show:
        show(planted, scored, flagged, evidence(found, kind, where), options.show)
    return {
        "kind": kind,
        "source": source,
        "share": share,
        "rows": len(planted.rows),
        "right": scored.right,
        "wrong": scored.wrong,
        "missed": scored.missed,
        "precision": scored.precision,
        "recall": scored.recall,
        "aim": aim(kind),
        "missed_named_as": dict(instead.most_common()),
        "seconds": round(seconds, 2),
    }


def run_audit(sources: list[SourceConfig], base: Path) -> dict[str, Any]:
    """What the audit finds in the files of `sources`."""
    from data.auditing import AuditConfig, audit

    return audit(sources, AuditConfig(), base)


def aim(kind: str) -> float:
    """Precision and recall that are aimed at."""
    return HIGH_AIM if kind in HIGH else AIM


# -- what is right


def named_rows(found: dict[str, Any], where: dict[Origin, int]) -> dict[str, set[int]]:
    """Kind -> rows of the planted source that its findings name. A row that no file has is the audit's mistake."""
    flagged: dict[str, set[int]] = defaultdict(set)
    files = {file for file, _ in where}
    for finding in found["findings"]:
        for shown in finding["rows"]:
            place = origin(shown)
            if place in where:
                flagged[finding["kind"]].add(where[place])
            elif place[0] in files and place[1]:  # a whole file may be named too
                raise AssertionError(f"the audit names {shown} ({finding['kind']}), and no row begins there")
    return flagged


def score(planted: Planted, flagged: dict[str, set[int]]) -> Score:
    """Compare what is named with the truth."""
    named = flagged.get(planted.kind, set())
    if planted.kind == "exact_duplicate":
        return score_exact(planted, named)
    if planted.kind == "near_duplicate":
        return score_near(planted, named | flagged.get("exact_duplicate", set()))
    named = named - planted.ignored
    wrong, missed = sorted(named - planted.positives), sorted(planted.positives - named)
    return Score(len(named & planted.positives), len(wrong), len(missed), wrong, missed)


def score_exact(planted: Planted, named: set[int]) -> Score:
    """Of each class all but one should be named."""
    right = 0
    wrong = sorted(named - planted.positives - planted.ignored)
    missed: list[int] = []
    for same in planted.classes:
        hit = len(named & same)
        right += min(hit, len(same) - 1)
        if hit == len(same):
            wrong.append(min(same))  # none of them stays
        missed += sorted(same - named)[1:]
    return Score(right, len(wrong), len(missed), wrong, missed)


def score_near(planted: Planted, removed: set[int]) -> Score:
    """What the removed rows leave, as the head of this file says."""
    partners: dict[int, set[int]] = defaultdict(set)
    for i, j in planted.near | planted.near_short:
        partners[i].add(j)
        partners[j].add(i)
    alone = sorted(i for i in removed - planted.ignored if not partners[i])
    right = removed - planted.ignored - set(alone)
    lost = [min(cluster) for cluster in clusters(planted.near | planted.near_short) if cluster <= removed]
    missed: set[int] = set()
    covered: dict[int, set[int]] = defaultdict(set)  # partners that stand before a row
    for i, j in planted.near:
        covered[max(i, j)].add(min(i, j))
    for i in sorted(covered):
        if i not in removed and covered[i] - removed - missed:
            missed.add(i)
    return Score(len(right) - len(lost), len(alone) + len(lost), len(missed), alone + lost, sorted(missed))


def clusters(pairs: set[tuple[int, int]]) -> list[set[int]]:
    """Connected rows."""
    of: dict[int, set[int]] = {}
    for i, j in sorted(pairs):
        joined = of.get(i, {i}) | of.get(j, {j})
        for k in joined:
            of[k] = joined
    return list({id(cluster): cluster for cluster in of.values()}.values())


# -- what is told


def evidence(found: dict[str, Any], kind: str, where: dict[Origin, int]) -> dict[int, str]:
    """Row -> the words in which the audit explains it, of the examples that it gives."""
    examples = (example for f in found["findings"] if f["kind"] == kind for example in f.get("examples", ()))
    return {where[place]: e.get("detail", "") for e in examples if (place := origin(e["row"])) in where}


def show(planted: Planted, scored: Score, flagged: dict[str, set[int]], told: dict[int, str], count: int) -> None:
    """Print rows that are wrongly named or missed."""
    print(f"\n== {planted.kind} in {planted.source} at {planted.share:g}")
    for title, numbers in (("wrongly named", scored.wrong_rows), ("missed", scored.missed_rows)):
        for i in numbers[:count]:
            others = ", ".join(k for k, named in flagged.items() if i in named and k != planted.kind)
            notes = "; ".join(part for part in (told.get(i, ""), f"named as {others}" if others else "") if part)
            print(f"-- {title}: row {i}{f' ({notes})' if notes else ''}\n{shown(planted.rows[i])}")


def shown(row: Row) -> str:
    """The fields of a row, each cut in its middle, what cannot be printed as an escape."""
    lines = []
    for name, value in row.items():
        text = repr(value)
        text = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} [...] {text[-SHOWN // 2 :]}"
        lines.append(f"   {name}: {text}")
    return "\n".join(lines)


def by_kind(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind: all cells together, and the worst of them."""
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        counts = {name: sum(row[name] for row in own) for name in ("right", "wrong", "missed")}
        all_of = Score(counts["right"], counts["wrong"], counts["missed"], [], [])
        worst = {n: min((r[n] for r in own if r[n] is not None), default=None) for n in ("precision", "recall")}
        below = sum(misses(row) for row in own)
        both = {"precision": all_of.precision, "recall": all_of.recall, "worst": worst}
        found.append({"kind": kind, **counts, **both, "aim": aim(kind), "cells": len(own), "below": below})
    return found


def misses(row: dict[str, Any]) -> bool:
    """Whether a cell misses the aim."""
    return any(row[name] is not None and row[name] < row["aim"] for name in ("precision", "recall"))


def cell_line(row: dict[str, Any]) -> str:
    """A cell as a line of the table."""
    instead = ", ".join(f"{kind} {count}" for kind, count in row["missed_named_as"].items())
    counts = f"{row['right']:>6}{row['wrong']:>6}{row['missed']:>7}"
    mark = "below" if misses(row) else ""
    first = f"{row['kind']:20}{row['source']:9}{row['share']:>6g}{row['rows']:>6}"
    last = f"{row['seconds']:>7.1f}  {mark:6}{'missed: ' + instead if instead else ''}"
    return f"{first}{part(row['precision'])}{part(row['recall'])}{row['aim']:>6}{counts}{last}".rstrip()


def part(value: float | None) -> str:
    """A share with three digits, rounded down: 0.9799 is below 0.98."""
    return f"{'-':>10}" if value is None else f"{math.floor(value * 1000 + 1e-9) / 1000:>10.3f}"


def table(result: dict[str, Any]) -> list[str]:
    """The result in lines."""
    lines = [f"{result['date']}, commit {result['commit']}, {result['device']}, seed {result['seed']}"]
    heads = f"{'precision':>10}{'recall':>10}{'aim':>6}{'right':>6}{'wrong':>6}{'missed':>7}"
    lines.append(f"{'kind':20}{'source':9}{'share':>6}{'rows':>6}{heads}{'s':>7}")
    lines += [cell_line(row) for row in result["cells"]]
    lines += ["", f"{'all cells of a kind':41}{heads}   worst precision, recall; cells below the aim"]
    for row in result["kinds"]:
        counts = f"{row['right']:>6}{row['wrong']:>6}{row['missed']:>7}"
        worst = f"{part(row['worst']['precision'])}{part(row['worst']['recall'])}"
        shares = f"{part(row['precision'])}{part(row['recall'])}{row['aim']:>6}"
        lines.append(f"{row['kind']:41}{shares}{counts}   {worst}   {row['below']} of {row['cells']}")
    return lines


# -- clean sources


def measure_clean() -> dict[str, Any]:
    """What the audit would remove of sources that nothing was planted into, and what else it finds there."""
    folder = corpora()
    with tempfile.TemporaryDirectory(prefix="audit-") as made:
        (Path(made) / "books.jsonl").write_text(as_jsonl(clean_rows("books"))[0], encoding="utf-8")
        sources = [
            SourceConfig(name="gsm8k", path=str(folder / "human/gsm8k_train.jsonl.gz")),
            SourceConfig(name="nq_open", path=str(folder / "human/nq_open_dev.jsonl.gz")),
            SourceConfig(name="xquad", path=str(folder / "multilingual/xquad.en.json.gz"), preset="squad"),
            SourceConfig(name="books", path=str(Path(made) / "books.jsonl"), kind="text"),
        ]
        rows = dict(read_rows(sources, Path(made)))
        start = time.perf_counter()
        found = run_audit(sources, Path(made))
        seconds = time.perf_counter() - start
    sizes = Counter(row["source"] for row in rows.values())
    named: dict[Origin, list[str]] = defaultdict(list)
    for finding in found["findings"]:
        if finding["removable"]:
            for one in dict.fromkeys(finding["rows"]):
                named[origin(one)].append(finding["kind"])
    order = {place: number for number, place in enumerate(rows)}
    per_source = Counter(rows[place]["source"] for place in named)
    return {
        **facts(),
        "seconds": round(seconds, 2),
        "aim": CLEAN_AIM,
        "sources": [
            {"source": name, "rows": size, "removable": per_source[name], "share": per_source[name] / size}
            for name, size in sizes.items()
        ],
        "findings": [{key: f[key] for key in ("kind", "source", "count", "removable")} for f in found["findings"]],
        "removable": [
            {"row": rows[place]["origin"], "source": rows[place]["source"], "kinds": kinds, "text": line(rows[place])}
            for place, kinds in sorted(named.items(), key=lambda item: order[item[0]])
        ],
    }


def read_rows(sources: list[SourceConfig], base: Path) -> Iterator[tuple[Origin, Row]]:
    """Every row of the sources, by its place."""
    for source in check_sources(sources):
        for file in list_files(source, base):
            for row in read_file(file, source):
                yield origin(row["origin"]), row


def line(row: Row) -> str:
    """The begin and the end of a row on one line."""
    text = " ".join(" | ".join(row[name] for name in ("text", "question", "answer") if row[name]).split())
    return text if len(text) <= 200 else f"{text[:120]} [...] {text[-75:]}"


def clean_table(result: dict[str, Any]) -> list[str]:
    """Each row that would be removed, and the shares."""
    lines = [f"{result['date']}, commit {result['commit']}, {result['device']}, {result['seconds']} s"]
    lines += [f"{row['row']} {', '.join(row['kinds'])}: {row['text']!r}" for row in result["removable"]]
    lines += ["", f"{'source':10}{'rows':>8}{'removable':>11}{'share':>9}{'at most':>9}"]
    for row in result["sources"]:
        mark = "  above" if row["share"] > result["aim"] else ""
        share = f"{row['share']:>9.2%}{result['aim']:>9.0%}"
        lines.append(f"{row['source']:10}{row['rows']:>8,}{row['removable']:>11,}{share}{mark}")
    lines += ["", "all findings, of rows to remove and others:"]
    for f in result["findings"]:
        lines.append(f"  {f['source']:10}{f['kind']:22}{f['count']:>8,}{'  removable' if f['removable'] else ''}")
    return lines


if __name__ == "__main__":
    run_command(main)
