"""What an audit says: findings by source, the funnel, lengths, a grade, examples, rows kept and dropped.

In: the rows (data/store.py) and the findings by row number. Out: the dict that audit.json holds (docs/audit.md).
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data.columns import Row
from data.detect.words import places, words
from data.estimate import token_counts
from data.facts import compared_fields
from data.figures import balance, length_tables, rows_of_sources, sizes_of, sources_told
from data.findings import FUNNEL, KINDS, Finding, recommended
from data.sources import InputFile, SourceConfig
from data.store import Store
from data.turns import shown

FORMAT = 1
SHOWN = 600  # characters of a field
EXAMPLES = 5
SAMPLED = 12  # rows kept and dropped that are shown
FILLERS = 5
MEMBERS = 3  # of a cluster, side by side
GRADES = (("A", 0.95), ("B", 0.85), ("C", 0.65), ("D", 0.4), ("E", 0.15), ("F", 0.0))
DROPPED = ("pii", "secret", "language", "contamination")  # found in a row, which its step drops as a whole
FIELDS = ("context", "question", "answer", "text")


def conclude(
    store: Store,
    findings: list[Finding],
    labels: dict[str, Counter[str]],
    files: list[tuple[InputFile, SourceConfig]],
    sources: list[SourceConfig],
    seq_len: int,
    tokenizer: Path | None = None,
    asked: bool = False,
) -> dict[str, Any]:
    """The whole of audit.json. tokenizer: a tokenizer.json that counts tokens; none: they are estimated.
    asked: whether questions of other files were looked for. labels: how many rows bear each category, difficulty."""
    names = [str(source.name) for source in sources]
    tokens, estimated = token_counts(store, names, tokenizer)
    findings = _merged(findings)
    left_by = _left_by(store, findings)
    funnel = _funnel(findings, left_by, tokens)
    kept = left_by == ""
    origins = _origins(store, findings)
    told = [_told(store, f, name, number, origins) for f in findings for number, name in enumerate(names)]
    # Without files of questions, sources hold each other's: which of them judges is the user's to say.
    step_kinds = [
        finding.kind
        for finding in findings
        if finding.rows and (asked or finding.kind != "contamination") and not _costly(finding, tokens)
    ]
    total, usable = int(tokens.sum()), int(tokens[kept].sum())
    return {
        "format": FORMAT,
        "rows": len(store),
        "bytes": int(store.facts["n_bytes"].sum()) if len(store) else 0,
        "tokens": total,
        "tokens_estimated": estimated,
        "seq_len": seq_len,
        "sources": sources_told(store, names, sources, files, tokens),
        "lengths": length_tables(store, names, tokens, seq_len),
        "funnel": funnel,
        "grade": _grade(findings, usable / total if total else 0.0, kept),
        "findings": [finding for finding in told if finding["count"]],
        "recommended": {"prepare": {"steps": recommended(step_kinds)}},
        "balance": balance({"source": rows_of_sources(store, names), **labels}),
        "sample": _sample(store, findings, left_by),
        "before_after": {
            "before": sizes_of(store, tokens, np.ones(len(store), bool)),
            "after": sizes_of(store, tokens, kept),
        },
    }


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """One of each kind, in the order of KINDS."""
    found: dict[str, Finding] = {}
    for finding in findings:
        one = found.setdefault(finding.kind, Finding(finding.kind, [], removed=None if finding.removed is None else []))
        one.rows = sorted({*one.rows, *finding.rows})
        one.details |= finding.details
        one.spans |= finding.spans
        one.clusters += finding.clusters
        if one.removed is not None:
            one.removed += finding.removed or []
    for one in found.values():
        one.clusters = sorted(one.clusters, key=lambda cluster: -cluster["count"])[:20]
    return [found[kind] for kind in KINDS if kind in found]


def _removed(finding: Finding) -> list[int]:
    if not KINDS[finding.kind].removable:
        return []
    return finding.rows if finding.removed is None else finding.removed


def _costly(finding: Finding, tokens: np.ndarray) -> bool:
    """Whether to drop its rows costs far more text than they are rows: a phone number in a textbook."""
    if finding.kind not in DROPPED or not len(tokens):
        return False
    share = int(tokens[finding.rows].sum()) / max(1, int(tokens.sum()))
    return share > 0.001 + 3 * len(finding.rows) / len(tokens)


def _left_by(store: Store, findings: list[Finding]) -> np.ndarray:
    """For each row the kind by which it leaves; "" for one that stays."""
    left = np.full(len(store), "", dtype=object)
    of = {finding.kind: finding for finding in findings}
    for kind in reversed(FUNNEL):
        if kind in of:
            left[_removed(of[kind])] = kind
    return left


def _funnel(findings: list[Finding], left_by: np.ndarray, tokens: np.ndarray) -> list[dict[str, Any]]:
    steps = [{"step": "read", "rows": len(left_by), "tokens": int(tokens.sum())}]
    gone = np.zeros(len(left_by), bool)
    for kind in FUNNEL:
        if any(finding.kind == kind for finding in findings):
            gone |= left_by == kind
            steps.append({"step": kind, "rows": int((~gone).sum()), "tokens": int(tokens[~gone].sum())})
    return steps


def _origins(store: Store, findings: list[Finding]) -> dict[int, str]:
    named = sorted({row for f in findings for row in [*f.rows, *(r for c in f.clusters for r in c["rows"])]})
    return {number: row["origin"] for number, row in zip(named, store.each(named), strict=True)}


# -- findings


def _told(store: Store, finding: Finding, source: str, number: int, origins: dict[int, str]) -> dict[str, Any]:
    """A finding as audit.json has it, of one source."""
    kind = KINDS[finding.kind]
    own = [row for row in finding.rows if store.facts["source"][row] == number]
    going = set(_removed(finding))
    told: dict[str, Any] = {
        "kind": finding.kind,
        "source": source,
        "count": len(own),
        "share": len(own) / max(1, int((store.facts["source"] == number).sum())) if len(store) else 0.0,
        "removable": kind.removable,
        "removed": sum(row in going for row in own),
        "advice": kind.advice,
        "setting": f"steps: {kind.step}" if kind.step else "",
        "rows": [origins[row] for row in own],
    }
    if not own:
        return told
    examples = [*own[:: max(1, len(own) // EXAMPLES)]][:EXAMPLES]
    told["examples"] = [
        _example(row, finding, taken) for row, taken in zip(examples, store.take(examples), strict=True)
    ]
    clusters = [c for c in finding.clusters if any(store.facts["source"][row] == number for row in c["rows"])]
    if clusters:
        told["clusters"] = [_cluster(store, cluster, origins) for cluster in clusters]
    return told


def _example(number: int, finding: Finding, row: Row) -> dict[str, Any]:
    example = {"row": row["origin"], "detail": finding.details.get(number, ""), **_fields(row), "span": None}
    name, start, end = finding.spans.get(number, ("", 0, 0))
    if end > start:
        cut = max(0, start - SHOWN // 2)
        example |= {"field": name, "span": [start - cut, end - cut], name: row[name][cut : max(end, cut + SHOWN)]}
    return example


def _fields(row: Row) -> dict[str, str]:
    return {name: shown(row[name])[:SHOWN] for name in FIELDS if row[name]}


def _cluster(store: Store, cluster: dict[str, Any], origins: dict[int, str]) -> dict[str, Any]:
    told = {"count": cluster["count"], "rows": [origins[row] for row in cluster["rows"]]}
    told |= {key: cluster[key][:SHOWN] for key in ("text", "where") if key in cluster}
    if not cluster["rows"]:
        return told
    rows = store.take(cluster["rows"][:FILLERS])
    if "words" in cluster:
        names = ("text",) if rows[0]["kind"] == "text" else ("question", "answer")
        fields = [compared_fields(row) for row in rows]
        told["skeleton"] = {
            name: skeleton_pieces(cluster["words"][i], [field[i] for field in fields]) for i, name in enumerate(names)
        }
    if cluster.get("members"):
        told["members"] = [{"row": row["origin"], **_fields(row)} for row in rows[:MEMBERS]]
    if "differ" in cluster:
        one, many = ("question", "answers") if cluster["differ"] == "answers" else ("answer", "questions")
        told |= {one: rows[0][one][:SHOWN], many: [row[many[:-1]][:SHOWN] for row in rows]}
    return told


def skeleton_pieces(skeleton: list[str], texts: list[str]) -> list[dict[str, Any]]:
    """{"fixed": text} and {"slot": fillers} in turns, as the first of `texts` that can be placed is written."""
    gaps: list[list[str]] = [[] for _ in range(len(skeleton) + 1)]
    fixed: list[str] = []
    for text in texts:
        at = _matched(skeleton, text)
        if at is None:
            continue
        ends = [0, *(end for _, end in at)]
        starts = [*(start for start, _ in at), len(text)]
        for gap, (start, end) in enumerate(zip(ends, starts, strict=True)):
            filler = text[start:end].strip()
            if words(filler) and any(c.isalnum() for c in filler) and filler not in gaps[gap]:
                gaps[gap].append(filler[:80])
        if not fixed:
            fixed = [text[start:end] for start, end in at]
    if not fixed:
        return [{"fixed": " ".join(skeleton)}]
    pieces: list[dict[str, Any]] = []
    for gap, fillers in enumerate(gaps):
        if fillers:
            pieces.append({"slot": fillers[:FILLERS]})
        if gap < len(fixed):
            if pieces and "fixed" in pieces[-1]:
                pieces[-1]["fixed"] += " " + fixed[gap]
            else:
                pieces.append({"fixed": fixed[gap]})
    return pieces


def _matched(skeleton: list[str], text: str) -> list[tuple[int, int]] | None:
    """Where a text has the words of a skeleton, in order; None where it does not."""
    found, wanted = list[tuple[int, int]](), iter(skeleton)
    word = next(wanted, None)
    for start, end, own in places(text):
        if word is not None and own == word:
            found.append((start, end))
            word = next(wanted, None)
    return found if word is None else None


# -- grade and sample


def _grade(findings: list[Finding], usable: float, kept: np.ndarray) -> dict[str, Any]:
    """By the share of tokens that is left; a letter less for each that spoils more than 30% of the rows left."""
    number = next(i for i, (_, least) in enumerate(GRADES) if usable >= least)
    reasons = []
    for finding in sorted(findings, key=lambda f: -len(f.rows)):
        share = len(finding.rows) / max(1, len(kept))
        if finding.kind != "filtered" and (share >= 0.01 or finding.kind in ("secret", "contamination")):
            reasons.append(f"{share:.1%} of rows ({len(finding.rows):,}): {finding.kind.replace('_', ' ')}")
        spoiled = kept[finding.rows].sum() / max(1, kept.sum())
        if finding.kind in ("boilerplate", "mojibake", "markup") and spoiled > 0.3 and number < len(GRADES) - 1:
            number += 1
    return {"letter": GRADES[number][0], "usable_share": usable, "reasons": reasons}


def _sample(store: Store, findings: list[Finding], left_by: np.ndarray) -> dict[str, Any]:
    """Rows kept and dropped, spread over all of them; of the dropped the kinds in turn."""
    kept = np.flatnonzero(left_by == "")
    kept = kept[:: max(1, len(kept) // SAMPLED)][:SAMPLED].tolist()
    of_kind = [np.flatnonzero(left_by == kind).tolist() for kind in FUNNEL]
    dropped = [rows[turn * len(rows) // SAMPLED] for turn in range(SAMPLED) for rows in of_kind if rows]
    dropped = list(dict.fromkeys(dropped))[:SAMPLED]
    details = {finding.kind: finding.details for finding in findings}
    return {
        "kept": [{"row": row["origin"], **_fields(row)} for row in store.take(kept)],
        "dropped": [
            {"row": row["origin"], "kind": left_by[i], "detail": details[left_by[i]].get(i, ""), **_fields(row)}
            for i, row in zip(dropped, store.take(dropped), strict=True)
        ],
    }
