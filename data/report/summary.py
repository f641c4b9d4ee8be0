"""An audit as lines for a terminal and as one page.

    audit (a dict, as audit.json holds it) -> `terminal_summary`   lines, at most LINES of COLUMNS
                                           -> `write_page`         one HTML file

The page asks nothing of anyone: the policy in its head forbids every request, every script and every style but the one
stylesheet, which it names by its hash. All text is escaped, and what cannot be seen in it is shown. An audit of hostile
or no rows gives lines and a page as any other. Two audits: data/report/comparison.py.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import atomic_file
from common.text import one_line
from data.report.pieces import visible, visible_in_mark
from data.report.view import (
    KINDS,
    balance_view,
    count,
    example_view,
    finding_view,
    funnel_view,
    grade_view,
    histogram_view,
    in_rows,
    largest_first,
    lengths_view,
    part,
    percent,
    rows_with_text,
    settings_view,
    size,
    source_view,
    title,
    total,
)

LINES, COLUMNS = 45, 100
BAR = 28  # characters
Audit = dict[str, Any]

# -- lines for a terminal


def terminal_summary(audit: Audit) -> list[str]:
    """The grade and why, what each step leaves, findings with what to do, lengths, sources; the largest first."""
    grade = audit.get("grade") or {}
    about = "about " if audit.get("tokens_estimated") else ""
    tokens = f"{about}{count(audit.get('tokens'))} tokens"
    head = [f"grade {grade.get('letter') or '?'}: {percent(grade.get('usable_share'))} of the tokens are usable"]
    head += [f"  - {reason}" for reason in (grade.get("reasons") or [])[:4]]
    sources = largest_first(audit.get("sources"), "rows")
    amount = f"{count(audit.get('rows'))} rows, {tokens}, {size(audit.get('bytes'))}"
    steps = _funnel_lines(audit.get("funnel") or [])
    head += ["", f"{amount} in {len(sources)} source{'s' if len(sources) != 1 else ''}", *steps]
    tail = ["", *_length_lines(audit), "", *_source_lines(sources)]
    findings = _findings_lines(largest_first(audit.get("findings"), "count"), LINES - len(head) - len(tail) - 1)
    return [fitting(line) for line in [*head, "", *findings, *tail]]


def _funnel_lines(steps: Sequence[Audit], most: int = 9) -> list[str]:
    view = funnel_view(steps)
    shown = [step for i, step in enumerate(view) if i == 0 or step["lost"]]
    if len(shown) > most:  # the steps that took most, in their order
        large = sorted(shown[1:], key=lambda step: -step["lost"])[: most - 2]
        shown = [step for step in shown if step is shown[0] or step in large or step is shown[-1]]
    lines = []
    for step in shown:
        some = 0 < step["left"] < 1  # neither an empty bar nor a full one
        bar = "#" * (min(BAR - 1, max(1, round(BAR * step["left"]))) if some else round(BAR * step["left"]))
        rows = f"{count(step['rows']):>11} rows {bar:.<{BAR}} {percent(step['left']):>6}"
        lines.append(f"  {cell(step['step'], 20)}{rows}{count(step['tokens']):>14} tokens")
    rest = len(view) - len(shown)
    return [*lines, f"  (and {rest} step{'s' if rest > 1 else ''} that took nothing or little)"] if rest else lines


def _findings_lines(findings: Sequence[Audit], room: int) -> list[str]:
    """One line for each finding with its figures and setting; the advice below, for as many as there is room for."""
    if not findings:
        return ["nothing was found"]
    listed = findings if len(findings) < room else findings[: room - 2]
    advised = room - 1 - len(listed) - (len(listed) < len(findings))
    lines = [f"{'findings':<22}{'source':<18}{'rows':>10} {'share':>6}   setting"]
    for i, finding in enumerate(listed):
        figures = f"{count(finding.get('count')):>10} {percent(finding.get('share')):>6}"
        name, source = cell(str(finding.get("kind")), 20), cell(str(finding.get("source")), 17)
        lines.append(f"  {name}{source} {figures}   {finding.get('setting') or '-'}")
        if i < advised and finding.get("advice"):
            lines.append(f"      {_reason(finding) or finding['advice']}")
    left = len(findings) - len(listed)
    return [*lines, f"  (and {left} more findings, with fewer rows)"] if left else lines


def _reason(finding: Audit) -> str:
    """Why a file was not read, in place of advice; else ""."""
    examples = finding.get("examples") if finding.get("kind") in ("unreadable", "encoding") else None
    return str(examples[0].get("detail") or "") if examples else ""


LENGTHS = (("mean", 8), ("median", 8), ("p95", 8), ("p99", 8), ("max", 10))


def _length_lines(audit: Audit, most: int = 4) -> list[str]:
    lengths = audit.get("lengths") or {}
    names = sorted((name for name in lengths if name != "all"), key=lambda name: -(lengths[name].get("rows") or 0))
    names = ["all", *names[: most - 1]] if len(names) > 1 else ["all"]  # a source alone is all
    over = f"over {audit.get('seq_len') or '?'}"
    lines = [f"{'tokens a row':<24}" + "".join(f"{key:>{wide}}" for key, wide in LENGTHS) + f"{over:>14}"]
    for name in names:
        values = lengths.get(name) or {}
        cells = "".join(f"{count(values.get(key)):>{wide}}" for key, wide in LENGTHS)
        lines.append(f"  {cell(name, 22)}{cells}{percent(values.get('cut_share')):>14}")
    return lines


def _source_lines(sources: Sequence[Audit], most: int = 5) -> list[str]:
    lines = [f"{'sources':<33}{'kind':<6}{'rows':>12}{'tokens':>16}{'size':>12}{'share':>8}"]
    for source in sources[:most]:
        name, kind = cell(str(source.get("name")), 31), cell(str(source.get("kind") or "?"), 6)
        amounts = f"{count(source.get('rows')):>12}{count(source.get('tokens')):>16}{size(source.get('bytes')):>12}"
        lines.append(f"  {name}{kind}{amounts}{percent(source.get('share')):>8}")
    left = len(sources) - most
    lines += [f"  (and {left} more)"] if left > 0 else []
    read = [file for source in sources for file in source.get("encodings") or [] if file.get("encoding") != "utf-8"]
    named = [f"{file.get('file')} {file.get('encoding')} ({percent(file.get('confidence'))} sure)" for file in read[:2]]
    more = [f"and {len(read) - 2} more"] if len(read) > 2 else []
    return [*lines, f"  read in another encoding: {', '.join([*named, *more])}"] if read else lines


def _cells(char: str) -> int:
    """Columns of a terminal that a character takes."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cell(text: str, wide: int) -> str:
    """The text in exactly `wide` columns, one of them a space at its end."""
    shown = _cut(one_line(text, 4 * wide), wide - 1)
    return shown + " " * (wide - sum(map(_cells, shown)))


def _cut(text: str, wide: int) -> str:
    if sum(map(_cells, text)) <= wide:
        return text
    taken = 0
    for place, char in enumerate(text):
        taken += _cells(char)
        if taken > wide - 3:
            return text[:place] + "..."
    return text


def fitting(line: str) -> str:
    """The line with nothing in it that steers a terminal, cut at COLUMNS; its indent and columns stay."""
    return _cut("".join(c if c.isprintable() else " " for c in line[: 8 * COLUMNS]), COLUMNS).rstrip()


# -- pages


def write_page(audit: Audit, path: Path) -> None:
    """Write the audit as one HTML file."""
    kinds: dict[str, list[Audit]] = {}
    for finding in largest_first(audit.get("findings"), "count"):
        kinds.setdefault(str(finding.get("kind")), []).append(finding)
    sample = audit.get("sample") or {}
    known = {str(row.get("row")): row for row in rows_with_text(audit)}
    lengths = audit.get("lengths") or {}
    sections = [
        {"kind": kind, "title": title(kind), "means": KINDS.get(kind, ("", ""))[1], "count": total(findings),
         "share": part(total(findings), audit.get("rows")), "findings": [finding_view(f, known) for f in findings]}
        for kind, findings in kinds.items()
    ]  # fmt: skip
    before_after = audit.get("before_after") or {}
    render_page(
        "audit.html",
        path,
        grade=grade_view(audit),
        audit={key: audit.get(key) for key in ("rows", "tokens", "bytes", "tokens_estimated", "seq_len")},
        funnel=funnel_view(audit.get("funnel") or []),
        histogram=histogram_view(lengths.get("all"), audit.get("seq_len")),
        lengths=lengths_view(audit),
        sections=sorted(sections, key=lambda section: -section["count"]),
        settings=settings_view(audit.get("recommended")),
        sources=[source_view(source) for source in largest_first(audit.get("sources"), "rows")],
        kept=[example_view(row) for row in (sample.get("kept") or [])[:40]],
        dropped=[example_view(row) for row in (sample.get("dropped") or [])[:40]],
        balance=[(name, balance_view(values)) for name, values in (audit.get("balance") or {}).items() if values],
        before_after=[
            (key, show((before_after.get("before") or {}).get(key)), show((before_after.get("after") or {}).get(key)),
             part((before_after.get("after") or {}).get(key), (before_after.get("before") or {}).get(key)))
            for key, show in (("rows", count), ("tokens", count), ("bytes", size))
        ] if before_after else [],
    )  # fmt: skip


def render_page(template: str, path: Path, templates: Path | None = None, **values: Any) -> None:
    """Write a page from a template of this room, or of `templates`, in this room's styles and those of that folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent / "templates"
    loader = FileSystemLoader([*([templates] if templates else []), folder])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
                              finalize=visible, undefined=StrictUndefined)  # fmt: skip
    environment.filters |= {
        "percent": percent,
        "count": count,
        "rows": in_rows,
        "size": size,
        "evidence": visible_in_mark,
    }
    styles = [folder / "audit.css", folder / "rows.css", *(sorted(templates.glob("*.css")) if templates else [])]
    css = "".join(style.read_text(encoding="utf-8") for style in styles)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = environment.get_template(template).render(css=Markup(css), policy=Markup(policy), **values)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
