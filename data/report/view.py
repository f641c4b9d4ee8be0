"""What the audit's pages show, made ready for their templates: rows, clusters, findings, figures as shares of a bar.

In: parts of an audit (see data/report/summary.py); any may be missing, empty or huge. Out: plain lists and dicts.
"""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from data.report.pieces import SHOWN, bare, differing, excerpt, shortened

FIELDS = ("context", "question", "answer", "text")
ROWS_LISTED = 200  # of a finding; audit.json has all
FILES_LISTED = 20  # of a source
WHOLE = 600  # characters: a field of so many was cut by the audit
FILLERS = 3  # of a slot: more hide the form
CLOSING = tuple(".,;:!?)]}%、。，！？；：）」")  # no space stands before these

# name: (title, what it is and what it does to a model)
KINDS: dict[str, tuple[str, str]] = {
    "filtered": ("Filtered rows", "Left out because keep_if of their source says so."),
    "exact_duplicate": ("Exact duplicates", "Rows that differ in white space at most. A model learns them by heart."),
    "near_duplicate": (
        "Near duplicates",
        "Rows that share most of their words, and teach little more than one of them.",
    ),
    "template": (
        "Templates",
        "Rows made by filling in a form. The loss falls with the form, and nothing else is learnt.",
    ),
    "boilerplate": ("Boilerplate", "The same sentence or opening in many rows. A model will say it everywhere."),
    "conflicting_answers": ("Conflicting answers", "One question, several answers: which one holds cannot be learnt."),
    "repeated_answer": ("One answer, many questions", "The same long answer under several questions: does it fit all?"),
    "unreadable": ("Unreadable", "Records that are no rows: broken, ragged, without their columns, no text."),
    "empty": ("Empty", "Rows without a question, an answer or a text."),
    "too_short": ("Too short", "Rows with too little content to learn from."),
    "truncated": ("Cut off", "Texts and answers that stop in the middle. A model learns to stop there, too."),
    "repetition": ("Loops", "The same words again and again. A model learns to loop."),
    "refusal": ("Refusals", "Answers of an assistant that declines, or talks about itself."),
    "mojibake": ("Mojibake", "Text that was read in the wrong encoding once."),
    "encoding": ("Encoding", "Bytes that are no text in the encoding of their file."),
    "control_characters": ("Control characters", "Characters that cannot be seen and mean nothing here."),
    "markup": ("Markup", "Left-over tags, entities and broken formulas."),
    "language": ("Language", "Rows in another language than their source."),
    "pii": ("Personal data", "Mail addresses, phone and card numbers. A model can say them to anybody."),
    "secret": (
        "Secrets",
        "Keys, tokens, passwords: a model can say them to anybody. Whoever owns one should change it.",
    ),
    "page_furniture": ("Page furniture", "Page numbers, running heads and licence texts of a book."),
    "contamination": ("Contamination", "Questions of an evaluation stand in the text: its score would mean nothing."),
}

# -- rows and clusters


def example_view(example: dict[str, Any]) -> dict[str, Any]:
    """A row as {row, kind, detail, fields: [(name, pieces)]}, the evidence marked in the field that holds it."""
    span_field = example.get("field")
    fields = []
    for name in FIELDS:
        if text := str(example.get(name) or ""):
            cut = [("…", "cut")] if len(text) == WHOLE else []
            fields.append((name, [*excerpt(text, example.get("span") if name == span_field else None), *cut]))
    row, detail = str(example.get("row") or ""), str(example.get("detail") or "")
    return {"row": row, "detail": detail, "kind": example.get("kind") or "", "fields": fields}


def members_view(members: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Members of a cluster; each but the first with the words marked that differ from it; of two, both."""
    shown = [example_view(member) for member in members]
    for number, member in enumerate(members[1:], start=1):
        for place, (name, _) in enumerate(shown[number]["fields"]):
            ours, theirs = differing(str(members[0].get(name) or ""), str(member[name]))
            shown[number]["fields"][place] = (name, theirs)
            if len(members) == 2:
                shown[0]["fields"] = [(n, ours if n == name else p) for n, p in shown[0]["fields"]]
    return shown


def skeleton_view(skeleton: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Fields of a template: pieces of {fixed} or {slot: fillers, colour}; colours tell a field's slots apart.

    Fixed pieces hold the marks and the spaces beside a slot, too.
    """
    fields, colour = [], 0
    for name, pieces in skeleton.items():
        shown: list[dict[str, Any]] = []
        text = ""  # fixed words since the last slot
        for piece in pieces or []:
            if "slot" not in piece:
                fixed = shortened(str(piece.get("fixed") or ""), SHOWN)
                text += ("" if not (text or shown) or fixed.startswith(CLOSING) else " ") + fixed
                continue
            before, fillers, behind = bare([str(filler) for filler in (piece["slot"] or [])])
            if text and before.startswith(CLOSING):  # "Doctor, I" stands beside the word in front
                text, before = text + before, ""
            joined = "" if before.startswith(("-", "/", "'", "’")) or not (text or shown) else " "
            shown.append({"fixed": text + joined + before, "slot": []})
            fillers = [shortened(filler, 40) or "(nothing)" for filler in fillers[:FILLERS]]
            shown.append({"fixed": "", "slot": fillers or ["(anything)"], "colour": colour % 8})
            text, colour = behind, colour + 1
        fields.append((str(name), [*shown, {"fixed": text, "slot": []}]))
    return fields


def cluster_view(cluster: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A cluster by what it has: a template, different answers, a phrase, members; `known`: rows by where they stand."""
    rows = [str(row) for row in cluster.get("rows") or []]
    view: dict[str, Any] = {"count": cluster.get("count") or 0, "rows": rows[:20], "shape": "rows"}
    members = cluster.get("members") or [known[row] for row in rows if row in known][:4]
    if cluster.get("skeleton"):
        view |= {"shape": "template", "fields": skeleton_view(cluster["skeleton"])}
    elif cluster.get("answers"):
        view |= {"shape": "answers", **_differing_view(cluster, "question", "answer")}
    elif cluster.get("questions"):
        view |= {"shape": "questions", **_differing_view(cluster, "answer", "question")}
    elif cluster.get("text"):
        view |= {"shape": "phrase", "phrase": excerpt(str(cluster["text"]), limit=300), "where": cluster.get("where")}
    elif members:
        view |= {"shape": "members", "members": members_view(members[:4])}
    return view


def _differing_view(cluster: dict[str, Any], one: str, many: str) -> dict[str, Any]:
    """What rows have in common, and the different things that they have beside it, each with its name."""
    same = cluster.get(f"{one}s") or ([cluster[one]] if cluster.get(one) else [])
    others = list(dict.fromkeys(str(text) for text in cluster[f"{many}s"]))
    return {
        "same": [(one, excerpt(text)) for text in list(dict.fromkeys(map(str, same)))[:4]],
        "others": [(f"{many} {number}", excerpt(text)) for number, text in enumerate(others[:12], 1)],
        "more": max(0, len(others) - 12),
        "many": f"{many}s",
    }


def with_phrase(example: dict[str, Any], clusters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An example of boilerplate that says nothing of itself, with the commonest phrase in it marked."""
    if example.get("span") or example.get("detail"):
        return example
    for cluster in clusters:
        phrase = str(cluster.get("text") or "")
        for name in ("answer", "text"):
            start = str(example.get(name) or "").find(phrase) if phrase else -1
            if start >= 0:
                detail = f"a phrase of {in_rows(cluster.get('count'))}"
                return {**example, "field": name, "span": [start, start + len(phrase)], "detail": detail}
    return example


# -- figures


def percent(share: float | None) -> str:
    """59%, 3.4%, <0.1%; 100% only if it is all."""
    if share is None:
        return "?"
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.0%}" if share in (0, 1) or 0.0995 <= share < 0.995 else f"{share:.1%}"


def count(number: float | None, digits: int = 0) -> str:
    return "?" if number is None else f"{number:,.{digits}f}"


def in_rows(number: float | None) -> str:
    """1 row, 2 rows."""
    return f"{count(number)} row{'' if number == 1 else 's'}"


def size(num_bytes: float | None) -> str:
    """Bytes in the unit that leaves one to four digits."""
    if num_bytes is None:
        return "?"
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:,.0f} {unit}" if unit == "bytes" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"


def title(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else kind.replace("_", " ").capitalize() or "?"


def part(number: float | None, whole: float | None) -> float:
    """A share from 0 to 1, whatever the figures are."""
    return min(1.0, max(0.0, (number or 0) / whole)) if whole else 0.0


def funnel_view(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps with what each one left and took, as figures and as shares of the rows read."""
    view: list[dict[str, Any]] = []
    whole = steps[0].get("rows") if steps else 0
    tokens = steps[0].get("tokens") if steps else 0
    before = whole or 0
    for step in steps:
        rows = step.get("rows") or 0
        name = str(step.get("step") or "")
        view.append({"step": name, "title": "Read" if name == "read" else title(name), "rows": rows,
                     "tokens": step.get("tokens"), "lost": before - rows, "left": part(rows, whole),
                     "taken": part(before - rows, whole), "tokens_left": part(step.get("tokens"), tokens)})  # fmt: skip
        before = rows
    return view


WIDTH, HEIGHT, TOP, BOTTOM = (
    360,
    200,
    34,
    36,
)  # of a histogram: a phone's width in CSS pixels, so that type is not scaled


def histogram_view(lengths: dict[str, Any] | None, seq_len: int | None) -> dict[str, Any] | None:
    """Columns of the token lengths and the place of seq_len among them, in the units of the drawing; None if empty."""
    buckets = (lengths or {}).get("buckets") or []
    total = sum(bucket.get("rows") or 0 for bucket in buckets)
    if not total:
        return None
    step, room = WIDTH / len(buckets), HEIGHT - TOP - BOTTOM
    tallest = max(bucket.get("rows") or 0 for bucket in buckets)
    longest = (lengths or {}).get("max") or 0
    columns, line = [], None
    for i, bucket in enumerate(buckets):
        low, high, rows = bucket.get("from") or 0, bucket.get("to"), bucket.get("rows") or 0
        tall = room * rows / tallest
        label = f"{low:,}–{high:,}" if high is not None else f"{low:,}+"
        columns.append({"x": i * step + 4, "width": step - 8, "y": TOP + room - tall, "height": tall, "label": label,
                        "middle": (i + 0.5) * step, "rows": rows, "share": part(rows, total),
                        "over": bool(seq_len and low > seq_len)})  # fmt: skip
        end = high if high is not None else max(longest, low + 1)
        if seq_len and line is None and (seq_len <= end or i == len(buckets) - 1):
            line = (i + min(1.0, max(0.0, (seq_len - low + 1) / (end - low + 1)))) * step
    return {"columns": columns, "line": line, "seq_len": seq_len}


def balance_view(values: dict[str, int] | None) -> list[dict[str, Any]]:
    """Values with their share of the rows and of the most frequent one; what stands for the rest comes last."""
    known = {str(name): number or 0 for name, number in (values or {}).items()}
    total, most = sum(known.values()), max(known.values(), default=0)
    order = sorted(known, key=lambda name: (name == "(others)", -known[name]))
    return [
        {
            "name": name or "(none)",
            "rows": known[name],
            "share": part(known[name], total),
            "bar": part(known[name], most),
        }
        for name in order
    ]


# -- parts of the page


def grade_view(audit: dict[str, Any]) -> dict[str, Any]:
    grade = audit.get("grade") or {}
    letter = str(grade.get("letter") or "?")[:2]
    mood = "good" if letter in "AB" else "unsure" if letter in "CD?" else "bad"
    return {"letter": letter, "mood": mood, "usable": grade.get("usable_share"), "reasons": grade.get("reasons") or []}


def finding_view(finding: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rows = [str(row) for row in finding.get("rows") or []]
    clusters = [cluster_view(cluster, known) for cluster in (finding.get("clusters") or [])[:20]]
    phrases = [cluster for cluster in clusters if cluster["shape"] == "phrase"]
    most = max((phrase["count"] for phrase in phrases), default=0)
    for phrase in phrases:
        phrase["bar"] = part(phrase["count"], most)
    return {
        "source": str(finding.get("source")),
        "count": finding.get("count"),
        "share": finding.get("share"),
        "removable": bool(finding.get("removable")),
        "advice": finding.get("advice") or "",
        "setting": finding.get("setting") or "",
        "rows": rows[:ROWS_LISTED],
        "more_rows": max(0, len(rows) - ROWS_LISTED),
        "examples": [
            example_view(with_phrase(example, finding.get("clusters") or []))
            for example in (finding.get("examples") or [])[:20]
        ],
        "phrases": phrases,
        "clusters": [cluster for cluster in clusters if cluster["shape"] != "phrase"],
    }


def source_view(source: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "kind", "files", "rows", "bytes", "tokens", "share")
    files = source.get("encodings") or []
    seen = list(dict.fromkeys(str(file.get("encoding")) for file in files))
    if len(files) < (source.get("files") or 1) and "utf-8" not in seen:  # only others are listed
        seen = ["utf-8", *seen]
    return {**{key: source.get(key) for key in keys}, "encodings": files[:FILES_LISTED], "seen": seen[:5]}


def lengths_view(audit: dict[str, Any]) -> list[dict[str, Any]]:
    lengths = audit.get("lengths") or {}
    names = [name for name in lengths if name != "all"]
    view = []
    for name in [*(["all"] if "all" in lengths else []), *sorted(names, key=lambda n: -(lengths[n].get("rows") or 0))]:
        values = lengths[name]
        tallest = max((bucket.get("rows") or 0 for bucket in values.get("buckets") or []), default=0)
        heights = [part(bucket.get("rows"), tallest) for bucket in values.get("buckets") or []]
        keys = ("rows", "min", "mean", "median", "p95", "p99", "max", "cut_share")
        view.append({"name": name, **{key: values.get(key) for key in keys}, "heights": heights})
    return view


def settings_view(recommended: dict[str, dict[str, list[str]]] | None) -> dict[str, list[str]]:
    """What the configuration should say: section -> lines of TOML, none over 100 characters."""
    sections = {}
    for name, keys in (recommended or {}).items():
        values = ((key, ", ".join(f'"{value}"' for value in values)) for key, values in keys.items())
        sections[name] = [
            line
            for key, shown in values
            for line in wrap(f"{key} = [{shown}]", 100, subsequent_indent=" " * (len(key) + 4))
        ]
    return sections


def rows_with_text(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """Every row that the audit holds the text of."""
    sample = audit.get("sample") or {}
    examples = [example for finding in audit.get("findings") or [] for example in finding.get("examples") or []]
    return [*(sample.get("kept") or []), *(sample.get("dropped") or []), *examples]


def total(findings: Sequence[dict[str, Any]]) -> int:
    return sum(finding.get("count") or 0 for finding in findings)


def largest_first(items: Sequence[dict[str, Any]] | None, key: str) -> list[dict[str, Any]]:
    return sorted(items or [], key=lambda item: -(item.get(key) or 0))
