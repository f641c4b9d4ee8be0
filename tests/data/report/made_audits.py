"""Audits for the tests of their lines and pages: of real rows, of hostile ones, of none.

`real_audit` finds what a line of code each can find: it has the shape of an audit and real texts, not its findings.
"""

import csv
import gzip
import json
import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from data.report.view import KINDS, percent

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
NASTY = "<script>alert('x')</script> & <img src=http://evil.example/x onerror=alert(1)> \"{{ 7 * 7 }}\""
Audit = dict[str, Any]


def read(name: str) -> list[Audit]:
    """Rows of a corpus file as {row, question, answer}."""
    path = CORPORA / name
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        if ".csv" in name:
            rows = list(csv.DictReader(file))
        elif ".jsonl" in name:
            rows = [json.loads(line) for line in file]
        else:
            rows = json.load(file)
    found = []
    for number, row in enumerate(rows, start=1):
        question = row.get("question") or f"{row.get('instruction', '')}\n{row.get('input', '')}".strip()
        answer = row["answer"] if "answer" in row else row["output"]
        answer = answer[0] if isinstance(answer, list) else answer
        found.append(
            {
                "row": f"{name}:{number}",
                "question": question,
                "answer": answer,
                "category": row.get("qtype") or row.get("category"),
            }
        )
    return found


def shown(row: Audit, **more: Any) -> Audit:
    fields = {key: str(row[key])[:600] for key in ("question", "answer") if row[key]}
    return {"row": row["row"], "detail": "", "span": None, "field": None, **fields, **more}


def lengths_of(rows: list[Audit], seq_len: int) -> Audit:
    numbers = sorted(len(f"{row['question']} {row['answer']}".encode()) // 4 for row in rows)
    edges: list[tuple[int, int | None]] = [(0, 128), (129, 256), (257, 384), (385, 512), (513, None)]
    buckets = []
    for low, high in edges:
        number = sum(1 for n in numbers if n >= low and (high is None or n <= high))
        buckets.append({"from": low, "to": high, "rows": number, "share": number / max(1, len(numbers))})
    at = {"rows": len(numbers), "buckets": buckets, "cut_share": sum(n > seq_len for n in numbers) / len(numbers)}
    return at | {"min": numbers[0], "max": numbers[-1], "mean": sum(numbers) / len(numbers)} | {
        name: numbers[int(q * (len(numbers) - 1))] for name, q in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
    }  # fmt: skip


def finding(kind: str, source: str, of: int, rows: list[Audit], **more: Any) -> Audit:
    return {"kind": kind, "source": source, "count": len(rows), "share": len(rows) / of, "removable": True,
            "rows": [row["row"] for row in rows], "advice": f"look at the examples; leave out rows of kind {kind}",
            "setting": f'[prepare] {kind} = "drop"', "examples": [shown(row) for row in rows[:6]], **more}  # fmt: skip


def real_audit(seed: int = 0) -> Audit:
    """Findings in real rows, by a line of code each: not what the audit finds, but of its shape and with its texts."""
    rng = random.Random(seed)
    sources = {
        "medquad": rng.sample(read("human/medquad_gard.csv.gz"), 1500),
        "chatdoctor": rng.sample(read("llm/chatdoctor5k.json.gz"), 1200),
        "trivia": [row for row in read("human/opentriviaqa.csv.gz") if row["category"] == "celebrities"],
        "chat": rng.sample(read("multilingual/chatterbot_pairs.csv.gz"), 600),
        "school": [*read("human/gsm8k_test.jsonl.gz")[:400], *read("human/gsm8k_test_socratic.jsonl.gz")[:400]],
    }
    everything = [row for rows in sources.values() for row in rows]
    findings = []
    for name, rows in sources.items():
        first: dict[str, Audit] = {}
        copies = []
        for row in rows:
            if first.setdefault(row["question"], row) is not row:
                copies.append(row)
        groups = [[first[copy["question"]], copy] for copy in copies[:8]]
        clusters = [
            {"count": 2, "rows": [m["row"] for m in pair], "members": [shown(m) for m in pair]} for pair in groups
        ]
        if copies and name != "chatdoctor":
            findings.append(finding("near_duplicate", name, len(rows), copies, clusters=clusters))
            findings.append(finding("conflicting_answers", name, len(rows), copies, removable=False, clusters=[
                {"count": 2, "rows": [m["row"] for m in pair], "questions": [pair[0]["question"]],
                 "answers": [m["answer"] for m in pair]} for pair in groups]))  # fmt: skip
    asked = re.compile(r"What are the symptoms of (.*) \?")
    about = [row for row in sources["medquad"] if asked.fullmatch(row["question"])]
    fillers = [found[1] for row in about[:5] if (found := asked.fullmatch(row["question"]))]
    skeleton = {
        "question": [{"fixed": "What are the symptoms of"}, {"slot": fillers}, {"fixed": "?"}],
        "answer": [{"fixed": "What are the signs and symptoms of"}, {"slot": fillers},
                   {"fixed": "? The Human Phenotype Ontology provides the following list of signs and symptoms for"},
                   {"slot": [*reversed(fillers)]}, {"slot": ["", "Autosomal dominant inheritance"]}],
    }  # fmt: skip
    rows_of = [row["row"] for row in about[:20]]
    findings.append(finding("template", "medquad", 1500, about, clusters=[
        {"count": len(about) - n, "rows": rows_of, "skeleton": skeleton} for n in range(5)]))  # fmt: skip
    stock = [row for row in sources["chatdoctor"] if "ased on your" in row["answer"]]
    stock_phrases = [
        ("Based on your symptoms, it is possible that you have", "opening"),
        ("It is important to seek medical attention.", "sentence"),
        ("Please consult a doctor.", "ending"),
    ]
    phrases = [
        {"count": len(stock) // n, "rows": [row["row"] for row in stock[:20]], "text": text, "where": where}
        for n, (text, where) in enumerate(stock_phrases, start=1)
    ]
    marked = []
    for row in stock[:6]:
        start = row["answer"].index("ased on your")
        marked.append(shown(row, span=[start - 1, start + 12], field="answer", detail="a stock opening"))
    findings.append(finding("boilerplate", "chatdoctor", 1200, stock, clusters=phrases, examples=marked))
    for source, kind, field, pattern in [
        ("trivia", "mojibake", "question", r"[ÃâÂ][^ \w]+|ďż˝"),
        ("chatdoctor", "refusal", "answer", "an AI|sorry|cannot"),
        ("chat", "language", "answer", "[^\x00-\xff’“”…]{3,}"),
    ]:
        hits = [(row, found) for row in sources[source] if (found := re.search(pattern, row[field] or ""))]
        examples = [
            shown(row, span=[*found.span()], field=field, detail=f"reads {found[0]!r}")
            for row, found in rng.sample(hits, min(12, len(hits)))
            if found.end() < 600
        ]
        findings.append(finding(kind, source, len(sources[source]), [row for row, _ in hits], examples=examples))
    left, funnel, tokens = len(everything), [], sum(lengths_of([row], 512)["mean"] for row in everything)
    steps = Counter({each["kind"]: 0 for each in findings if each["removable"]})
    for each in findings:
        steps[each["kind"]] += each["count"] if each["removable"] else 0
    per_row = tokens / left
    for step in ["read", *(kind for kind in KINDS if kind in steps)]:
        left = max(0, left - steps[step])
        funnel.append({"step": step, "rows": left, "tokens": int(left * per_row)})
    all_bytes = sum(len(f"{row['question']}{row['answer']}".encode()) for row in everything)
    return {
        "format": 1, "rows": len(everything), "bytes": all_bytes, "tokens": int(tokens), "tokens_estimated": True,
        "seq_len": 512, "findings": findings, "funnel": funnel,
        "sources": [{"name": name, "kind": "qa", "files": 1 + (name == "school"), "rows": len(rows),
                     "bytes": all_bytes // 4, "tokens": int(tokens) // 4, "share": 0.25,
                     "encodings": [{"file": f"{name}.csv", "encoding": "utf-8", "confidence": 1.0},
                                   {"file": f"{name}-2.csv", "encoding": "cp1252", "confidence": 0.87}]}
                    for name, rows in sources.items()],
        "lengths": {name: lengths_of(rows, 512) for name, rows in {"all": everything, **sources}.items()},
        "grade": {"letter": "D", "usable_share": left / len(everything), "reasons": [
            f"{percent(each['share'])} of the rows of {each['source']} are {each['kind']}" for each in findings[:4]]},
        "balance": {"source": {name: len(rows) for name, rows in sources.items()},
                    "category": {**Counter(row["category"] or "(none)" for row in everything), "(others)": 120},
                    "difficulty": {}},
        "sample": {"kept": [shown(row) for row in rng.sample(everything, 10)],
                   "dropped": [shown(row, kind="template", detail="one of many of this form") for row in about[:10]]},
        "before_after": {"before": {"rows": len(everything), "tokens": int(tokens), "bytes": all_bytes},
                         "after": {"rows": left, "tokens": int(left * per_row), "bytes": int(all_bytes * 0.4)}},
    }  # fmt: skip


def hostile_audit(text: str = NASTY) -> Audit:
    """Every text of it hostile, every list of it odd."""
    big = text + "A" * 50_000
    row = {"row": text, "detail": big, "kind": text, "question": text, "answer": big, "text": text, "field": "answer"}
    spans: list[Any] = [None, [None, None], [5, 2], [-3, 4], [60_000, 60_010], [0, 49_000], [10, 10], [], [3]]
    clusters: list[Audit] = [
        {
            "count": 3,
            "rows": [text] * 30,
            "skeleton": {"question": [{"fixed": text}, {"slot": [text, big]}], "answer": []},
        },
        {"count": 2, "rows": [], "skeleton": {"question": [{"slot": []}, {"slot": None}], "answer": None}},
        {"count": 2, "rows": [text], "questions": [text, text, big], "answers": [text, big, *map(str, range(40))]},
        {"count": None, "rows": None, "text": big, "where": text},
        {"count": 2, "rows": ["a", "b"], "members": [{"row": text, "question": big}, {"row": None, "question": text}]},
        {"count": 0, "rows": []},
    ]
    return {
        "format": 1, "rows": 3, "bytes": 10**13, "tokens": None, "tokens_estimated": False, "seq_len": 512,
        "sources": [{"name": text, "kind": text, "files": 1, "rows": 3, "bytes": 1, "tokens": 1, "share": 1.0,
                     "encodings": [{"file": text, "encoding": text, "confidence": None}] * 30}] * 9,
        "lengths": {"all": {"rows": 0, **dict.fromkeys(("min", "max", "mean", "median", "p95", "p99")),
                            "buckets": [{"from": 0, "to": None, "rows": 0, "share": 0.0}], "cut_share": 0.0},
                    big: {"rows": 1, "buckets": []}},
        "funnel": [{"step": "read", "rows": 0, "tokens": 0}, {"step": text, "rows": 0, "tokens": 0}],
        "grade": {"letter": "F", "usable_share": None, "reasons": [big, text]},
        "findings": [{"kind": kind, "source": text, "count": 3, "share": 1.0, "rows": [text] * 500, "removable": False,
                      "advice": text, "setting": text, "clusters": clusters,
                      "examples": [{**row, "span": span} for span in spans]} for kind in [text, *KINDS]],
        "balance": {"source": {text: 3, big: 0}, "category": {}, text: {"": 0, "(others)": 1}},
        "sample": {"kept": [row] * 3, "dropped": [row] * 3},
        "before_after": {"before": {"rows": 0, "tokens": None, "bytes": 0}, "after": {}},
    }  # fmt: skip


EMPTY: list[Audit] = [{}, {"format": 1, "rows": 0, "bytes": 0, "tokens": 0, "tokens_estimated": True, "seq_len": 512,
    "sources": [], "lengths": {}, "funnel": [], "grade": {"letter": "F", "usable_share": 0.0, "reasons": []},
    "findings": [], "balance": {}, "sample": {"kept": [], "dropped": []}, "before_after": {}}]  # fmt: skip
