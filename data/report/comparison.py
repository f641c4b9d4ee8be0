"""Two versions of a corpus by their audits: what got better, what came, what went.

    audit, against -> `comparison`         verdict, amounts, kinds, sources and steps side by side
                   -> `compare_lines`      that as lines for a terminal
                   -> `write_comparison`   that as one page

`against` is the version before, `audit` the one after: `data/audit.py AFTER --against BEFORE`.
"""

from pathlib import Path
from typing import Any

from data.report.summary import LENGTHS, LINES, Audit, cell, fitting, render_page
from data.report.view import count, funnel_view, grade_view, histogram_view, part, percent, size, title

MOST_KINDS, MOST_SOURCES = 10, 6  # lines of the terminal; with all other lines, at least nine are left for steps


def compare_lines(audit: Audit, against: Audit) -> list[str]:
    """What changed from `against` (before) to `audit` (after), in at most LINES lines for a terminal."""
    change = comparison(audit, against)
    lines = [change["verdict"], *(f"  note: {note}" for note in change["notes"]), ""]
    lines.append(f"{'':<22}{'before':>20}{'after':>20}{'change':>20}")
    for name, before, after, difference in change["amounts"]:
        lines.append(f"{name:<22}{before:>20}{after:>20}{difference:>20}")
    kinds, sources = change["kinds"], change["sources"]
    if kinds:
        lines += ["", f"{'findings, of all rows':<22}{'before':>20}{'after':>20}{'points':>20}"]
        lines += [f"  {_sides(kind, kind['kind'])}{100 * kind['change']:>+20.1f}" for kind in kinds[:MOST_KINDS]]
        lines += _more(len(kinds) - MOST_KINDS)
    lines += ["", f"{'tokens a row':<24}" + "".join(f"{key:>{wide}}" for key, wide in LENGTHS) + f"{'too long':>14}"]
    lines += [_length_line("before", against), _length_line("after", audit)]
    lines += ["", "sources (+ new, - gone, ~ changed)"]
    lines += [f"  {sign} {cell(name, 30)} {amount}" for sign, name, amount in sources[:MOST_SOURCES]]
    lines += _more(len(sources) - MOST_SOURCES)
    lines += ["", f"{'rows left after':<22}{'before':>20}{'after':>20}"]
    steps = [step for step in change["steps"] if step["changed"]]
    room = LINES - len(lines)
    shown = steps if len(steps) <= room else steps[: room - 1]
    lines += [f"  {_sides(step, step['step'])}" for step in shown]
    return [fitting(line) for line in [*lines, *_more(len(steps) - len(shown))]]


def _sides(item: dict[str, Any], name: str) -> str:
    """Name, rows and share before, rows and share after."""
    before, after = (f"{count(item[f'rows_{side}'])} {percent(item[side]):>6}" for side in ("before", "after"))
    return f"{cell(name, 20)}{before:>20}{after:>20}"


def _more(number: int) -> list[str]:
    return [f"  (and {number} more)"] if number > 0 else []


def _length_line(name: str, audit: Audit) -> str:
    values = _all_lengths(audit)
    cells = "".join(f"{count(values.get(key)):>{wide}}" for key, wide in LENGTHS)
    return f"  {name:<22}{cells}{percent(values.get('cut_share')):>14}"


def _all_lengths(audit: Audit) -> dict[str, Any]:
    return (audit.get("lengths") or {}).get("all") or {}


def comparison(audit: Audit, against: Audit) -> dict[str, Any]:
    """What both kinds of comparison show: verdict, notes, amounts, kinds by size of change, sources, steps."""
    before, after = ((each.get("grade") or {}) for each in (against, audit))
    old, new = before.get("usable_share"), after.get("usable_share")
    word = "as good"
    if old is not None and new is not None and abs(new - old) >= 0.0005:  # half of the last digit shown
        word = "better" if new > old else "worse"
    letters = f"grade {before.get('letter') or '?'} -> {after.get('letter') or '?'}"
    verdict = f"{letters}: {word}, {percent(old)} -> {percent(new)} of the tokens are usable"
    notes = []
    if bool(audit.get("tokens_estimated")) != bool(against.get("tokens_estimated")):
        notes.append("tokens are estimated on one side and counted on the other: they do not compare")
    if audit.get("seq_len") != against.get("seq_len"):
        notes.append(f"seq_len is {against.get('seq_len')} before and {audit.get('seq_len')} after")
    amounts = [
        (key, show(against.get(key)), show(audit.get(key)), _difference(against.get(key), audit.get(key)))
        for key, show in (("rows", count), ("tokens", count), ("bytes", size))
    ]
    found = [_by_kind(each) for each in (against, audit)]
    kinds: list[dict[str, Any]] = []
    for kind in dict.fromkeys([*found[0], *found[1]]):
        rows = [side.get(kind, 0) for side in found]
        share = [part(n, each.get("rows")) for n, each in zip(rows, (against, audit), strict=True)]
        kinds.append({"kind": kind, "title": title(kind), "rows_before": rows[0], "rows_after": rows[1],
                      "before": share[0], "after": share[1], "change": share[1] - share[0]})  # fmt: skip
    kinds.sort(key=lambda kind: (-abs(kind["change"]), -kind["after"]))
    return {"verdict": verdict, "word": word, "notes": notes, "amounts": amounts, "kinds": kinds,
            "sources": _source_changes(against, audit), "steps": _step_pairs(against, audit)}  # fmt: skip


def _by_kind(audit: Audit) -> dict[str, int]:
    rows: dict[str, int] = {}
    for finding in audit.get("findings") or []:
        kind = str(finding.get("kind"))
        rows[kind] = rows.get(kind, 0) + (finding.get("count") or 0)
    return rows


def _difference(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "?"
    if not before:
        return f"{after:+,}" if after else "0"
    return f"{after - before:+,} ({(after - before) / before:+.0%})"


def _source_changes(before: Audit, after: Audit) -> list[tuple[str, str, str]]:
    """(+ came, - went, ~ changed, = as before; name; rows), the changes first."""
    rows = [{str(s.get("name")): s for s in each.get("sources") or []} for each in (before, after)]
    changes = []
    for name in dict.fromkeys([*rows[1], *rows[0]]):
        old, new = (side.get(name) for side in rows)
        if old is None or new is None:
            present = new if old is None else old
            changes.append(("+" if old is None else "-", name, f"{count((present or {}).get('rows'))} rows"))
        elif (old.get("rows"), old.get("bytes")) == (new.get("rows"), new.get("bytes")):
            changes.append(("=", name, f"{count(new.get('rows'))} rows"))
        else:
            amount = f"{count(old.get('rows'))} -> {count(new.get('rows'))} rows"
            changes.append(("~", name, f"{amount}, {size(old.get('bytes'))} -> {size(new.get('bytes'))}"))
    return sorted(changes, key=lambda change: "+-~=".index(change[0]))


def _step_pairs(before: Audit, after: Audit) -> list[dict[str, Any]]:
    """The steps of both funnels, in order; a step that one of them lacks left there what the step before it left."""
    views = [{step["step"]: step for step in funnel_view(each.get("funnel") or [])} for each in (before, after)]
    order = list(views[0])
    for i, name in enumerate(views[1]):
        if name not in order:  # behind the step that it follows there
            order.insert(order.index(list(views[1])[i - 1]) + 1 if i else 0, name)
    last: list[dict[str, Any]] = [{"rows": 0, "left": 0.0, "taken": 0.0, "lost": 0}] * 2
    pairs: list[dict[str, Any]] = []
    for name in order:
        sides = [view.get(name) or {**last[i], "taken": 0.0, "lost": 0} for i, view in enumerate(views)]
        last = sides
        pairs.append({"step": name, "title": "Read" if name == "read" else title(name),
                      "rows_before": sides[0]["rows"], "rows_after": sides[1]["rows"],
                      "before": sides[0]["left"], "after": sides[1]["left"], "sides": sides,
                      "changed": not pairs or any(side["lost"] for side in sides)})  # fmt: skip
    return pairs


# -- the page


def write_comparison(audit: Audit, against: Audit, path: Path) -> None:
    """Write what changed from `against` (before) to `audit` (after) as one HTML file."""
    change = comparison(audit, against)
    widest = max([kind[side] for kind in change["kinds"] for side in ("before", "after")], default=0.0)
    render_page(
        "audit_comparison.html",
        path,
        change=change,
        widest=widest or 1.0,
        versions=[
            {"name": name, "grade": grade_view(each), "lengths": _all_lengths(each),
             "histogram": histogram_view(_all_lengths(each), each.get("seq_len"))}
            for name, each in (("before", against), ("after", audit))
        ],
    )  # fmt: skip
