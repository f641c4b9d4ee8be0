"""audit: files -> what is wrong with them, with evidence. The story of an audit, top to bottom.

    1. read      all rows of all files, with the facts of each (data/readers.py, data/facts.py), to a temporary file
    2. alike     exact and near duplicates, templates, one question with many answers (data/detect/)
    3. learn     of each source: stock phrases, how texts end, which language they are in, questions to look for
    4. look      at each row again with what was learned (data/audit_rows.py)
    5. conclude  findings, the funnel, lengths, a grade (data/conclusions.py)

All rows are seen; what is learned of many is learned on at most 50,000 rows of each source. Nothing depends on the
order of files, on threads or on the engine.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data.audit_rows import MARKS, Learned, marks_of
from data.columns import Row
from data.conclusions import conclude
from data.config import Engine
from data.detect.boilerplate import SAMPLE, stock_phrases
from data.detect.contamination import index_questions
from data.detect.languages import SAMPLED, main_language
from data.detect.near import Groups, near_duplicates
from data.detect.phrases import counted, phrases_of
from data.detect.signs import SourceHabits, habit, source_habits
from data.detect.templates import Template, find_templates
from data.duplicates import compared_texts
from data.engine import map_rows
from data.facts import Settings, body, compared_fields, compared_text
from data.findings import KINDS, Finding
from data.gather import gather
from data.guess import questions_of
from data.sources import SourceConfig, check_sources, embedded_sources, list_files
from data.store import Store

CONFLICTS = 2  # answers of one question
REPEATED, REPEATED_BYTES = 5, 50  # questions of one answer, and its least length
UNREADABLE = "unreadable"  # the kind of all reasons of data/readers.py but "encoding" and "empty"


@dataclass
class AuditConfig:
    """How a corpus is looked at.

    Args:
        seq_len: context that lengths are compared with, in tokens
        min_bytes: shorter rows (all fields together, UTF-8) count as too short
        keep: rows of each template that would be kept
        engine: native (this machine) or ray (a cluster)
        tokenizer: a tokenizer.json that counts tokens; without one they are estimated
        questions: files whose questions are looked for in all rows, as evaluations are
    """

    seq_len: int = 512
    min_bytes: int = 8
    keep: int = 3
    engine: Engine = "native"
    tokenizer: str | None = None
    questions: list[str] = field(default_factory=list)


def audit(sources: list[SourceConfig], config: AuditConfig, base: Path = Path(".")) -> dict[str, Any]:
    """Everything that audit.json holds, of `sources`; none: the embedded corpus. Raises UserError."""
    sources = check_sources(sources or embedded_sources())
    files = [(file, source) for source in sources for file in list_files(source, base)]
    with tempfile.TemporaryDirectory(prefix="loam-audit-") as folder:
        names = [str(source.name) for source in sources]
        store, _, labels = gather(files, Settings(tuple(names), config.min_bytes), Path(folder), config.engine)
        alive = np.zeros(len(store), bool)
        alive[_distinct(store)] = True
        outside = list(questions_of(config.questions))
        # What rows have in common is this process's work, a look at each the others'.
        beside = ThreadPoolExecutor(1)
        copies = beside.submit(alike, store, config)
        learned = learn(store, alive, names, outside)
        looked = look(store, learned, config, outside)
        findings = [*unusable(store), *copies.result(), *looked]
        tokenizer = Path(config.tokenizer) if config.tokenizer else None
        return conclude(store, findings, labels, files, sources, config.seq_len, tokenizer, bool(outside))


def unusable(store: Store) -> list[Finding]:
    """Rows that have a reason already."""
    found: dict[str, Finding] = {}
    if not len(store):
        return []
    numbers = np.flatnonzero(~store.facts["usable"]).tolist()
    for number, row in zip(numbers, store.each(numbers), strict=True):
        kind = row["reason"] if row["reason"] in KINDS else UNREADABLE
        finding = found.setdefault(kind, Finding(kind, []))
        finding.rows.append(number)
        finding.details[number] = row["detail"] if kind == row["reason"] else f"{row['reason']}: {row['detail']}"
    return list(found.values())


# -- rows that are like others


def _distinct(store: Store) -> np.ndarray:
    """Numbers of usable rows, of equal ones the first."""
    if not len(store):
        return np.zeros(0, np.int64)
    usable = np.flatnonzero(store.facts["usable"])
    _, first = np.unique(store.facts["key"][usable], return_index=True)
    return np.sort(usable[first])


def alike(store: Store, config: AuditConfig) -> list[Finding]:
    """Exact and near duplicates, templates, questions with several answers, answers of several questions."""
    if not len(store):
        return []
    rows = _distinct(store)
    found = [exact(store, rows), *conflicts(store, rows)]
    texts = partial(compared_texts, store)
    pairs = near_duplicates(store.facts["signature"], rows, store.facts["num_words"], texts)
    found.append(near(store, pairs))
    for is_text in (False, True):
        some = rows[store.facts["is_text"][rows] == is_text]
        templates = find_templates(store.facts, some, lambda numbers: map(compared_fields, store.each(numbers)))
        found.append(template_finding(store, templates, config.keep))
    return [finding for finding in found if finding.rows]


def exact(store: Store, rows: np.ndarray) -> Finding:
    """Every row but one of each class."""
    usable = np.flatnonzero(store.facts["usable"])
    copies = np.setdiff1d(usable, rows, assume_unique=True)
    keys, kept = store.facts["key"][rows], rows
    order = np.argsort(keys, kind="stable")
    keepers = kept[order[np.searchsorted(keys[order], store.facts["key"][copies])]]
    named = np.unique(keepers)
    origins = {n: row["origin"] for n, row in zip(named.tolist(), store.each(named), strict=True)}
    finding = Finding("exact_duplicate", copies.tolist())
    members: dict[int, list[int]] = {}
    for copy, keeper in zip(copies.tolist(), keepers.tolist(), strict=True):
        finding.details[copy] = f"equals {origins[keeper]}"
        members.setdefault(keeper, [keeper]).append(copy)
    finding.clusters = _clusters(members.values())
    return finding


def _clusters(groups: Any) -> list[dict[str, Any]]:
    largest = sorted(groups, key=lambda group: (-len(group), group))[:20]
    return [{"count": len(group), "rows": group[:20], "members": True} for group in largest]


def near(store: Store, pairs: list[tuple[int, int]]) -> Finding:
    """Every row of a cluster but the best: the longest, of equals the first."""
    groups = Groups(len(store))
    for i, j in pairs:
        groups.join(i, j)
    members: dict[int, list[int]] = {}
    for i in sorted({i for pair in pairs for i in pair}):
        members.setdefault(groups.find(i), []).append(i)
    finding = Finding("near_duplicate", [])
    for group in members.values():
        best = max(group, key=lambda i: (int(store.facts["n_bytes"][i]), -i))
        group.sort(key=lambda i: (i != best, i))
        [origin] = (row["origin"] for row in store.take([best]))
        for i in group:
            if i != best:
                finding.rows.append(i)
                finding.details[i] = f"nearly equals {origin}, directly or through others"
    finding.rows.sort()
    finding.clusters = _clusters(members.values())
    return finding


def template_finding(store: Store, templates: list[Template], keep: int) -> Finding:
    """All rows of templates; those beyond the first `keep` of each would go."""
    finding = Finding("template", [], removed=[])
    assert finding.removed is not None
    for template in templates:
        shown = " / ".join(" ".join(words) for words in template.skeleton)
        finding.rows += template.rows
        finding.removed += template.rows[keep:]
        # One text for all: a million of their own would be 0.4 GB.
        finding.details |= dict.fromkeys(template.rows, f"one of {len(template.rows):,} with the words: {shown[:300]}")
    finding.rows.sort()
    finding.removed.sort()
    finding.clusters = [{"count": len(t.rows), "rows": t.rows[:20], "words": t.skeleton} for t in templates[:20]]
    return finding


def conflicts(store: Store, rows: np.ndarray) -> list[Finding]:
    """Questions with several answers (in the same context), and answers that many questions share."""
    rows = rows[~store.facts["is_text"][rows]]
    question = store.facts["asked"][rows] ^ (store.facts["context"][rows] * np.uint64(0x9E3779B97F4A7C15))
    many = _several(question, store.facts["answer"][rows], rows, CONFLICTS)
    conflicting = Finding("conflicting_answers", sorted(i for group in many for i in group))
    conflicting.clusters = [{**c, "members": False, "differ": "answers"} for c in _clusters(many)]
    for group in many:
        conflicting.details |= dict.fromkeys(group, f"one question with {len(group):,} answers")
    same = _several(store.facts["answer"][rows], question, rows, REPEATED)
    first = store.each([group[0] for group in same])
    # "1912" and "New York" answer many questions rightly.
    same = [group for group, row in zip(same, first, strict=True) if len(row["answer"].encode()) >= REPEATED_BYTES]
    repeated = Finding("repeated_answer", sorted(i for group in same for i in group))
    repeated.clusters = [{**c, "members": False, "differ": "questions"} for c in _clusters(same)]
    for group in same:
        repeated.details |= dict.fromkeys(group, f"one answer of {len(group):,} questions")
    return [conflicting, repeated]


def _several(keys: np.ndarray, values: np.ndarray, rows: np.ndarray, least: int) -> list[list[int]]:
    """Groups of rows with one key and `least` distinct values or more."""
    if not len(rows):
        return []
    order = np.lexsort((rows, keys))
    ends = np.flatnonzero(np.append(keys[order][1:] != keys[order][:-1], True)) + 1
    sizes = np.diff(ends, prepend=0)
    many = sizes >= least  # most keys are one row's
    groups = (order[end - size : end] for end, size in zip(ends[many].tolist(), sizes[many].tolist(), strict=True))
    return [sorted(rows[of].tolist()) for of in groups if len(np.unique(values[of])) >= least]


# -- what is learned of a source, and the second look


def learn(store: Store, alive: np.ndarray, names: list[str], outside: list[Row]) -> Learned:
    """Stock phrases, language and habits of each source; where there are several, the questions to look for."""
    learned = Learned()
    if not len(store):
        return learned
    for number, name in enumerate(names):
        rows = np.flatnonzero(alive & (store.facts["source"] == number))[:SAMPLE]
        learned.stock[name] = stock_phrases(_bodies(store, rows), len(rows))
        learned.habits[name] = habits_of(store, rows)
        if main := main_language([compared_text(row) for row in store.take(rows[:SAMPLED].tolist())]):
            learned.languages[name] = main
    asked = np.flatnonzero(alive & ~store.facts["is_text"])
    batches = _questions(store, asked) if len(names) > 1 else iter(())
    # Those of other files are numbered behind the rows.
    numbers, of = list(range(len(store), len(store) + len(outside))), [row["source"] for row in outside]
    batches = chain(batches, [(numbers, of, [row["question"] for row in outside])])
    learned.questions = index_questions(batches, list(dict.fromkeys([*names, *of])))
    return learned


def habits_of(store: Store, rows: np.ndarray) -> SourceHabits:
    """How the answers or texts of a source end."""
    found: Counter[Any] = Counter()
    for batch in store.batches(rows):
        found.update(map(habit, batch))
    return source_habits(found)


def _bodies(store: Store, rows: np.ndarray) -> Iterator[list[str]]:
    for batch in store.batches(rows):
        yield [*map(body, batch)]


def _questions(store: Store, rows: np.ndarray) -> Iterator[tuple[list[int], list[str], list[str]]]:
    start = 0
    for batch in store.batches(rows):
        numbers = rows[start : start + len(batch)].tolist()
        yield numbers, [row["source"] for row in batch], [row["question"] for row in batch]
        start += len(batch)


def look(store: Store, learned: Learned, config: AuditConfig, outside: list[Row]) -> list[Finding]:
    """What single rows show, with what was learned of their source."""
    found: dict[str, Finding] = {}
    if not len(store):
        return []
    alive = store.facts["usable"]
    size = int(store.facts["n_bytes"].sum())
    work = partial(marks_of, learned=learned)
    for batch in map_rows(store.pieces(alive), work, MARKS, size, config.engine, [store.path]):
        for number, marks in zip(batch.column("number").to_pylist(), batch.column("marks").to_pylist(), strict=True):
            for kind, field_name, start, end, detail in json.loads(marks) if marks else []:
                finding = found.setdefault(kind, Finding(kind, []))
                if number not in finding.details:
                    finding.rows.append(number)
                    finding.details[number] = detail
                    finding.spans[number] = (field_name, start, end)
    for finding in found.values():
        finding.rows.sort()
    _name_questions(store, found.get("contamination"), outside)
    if stock := found.get("boilerplate"):
        chosen = list(counted(stock.rows))
        rows = zip(chosen, store.take(chosen), strict=True)
        phrases = ((number, body(row), learned.stock[row["source"]]) for number, row in rows)
        stock.clusters = phrases_of(phrases, len(stock.rows) / len(chosen))
    return [found[kind] for kind in KINDS if kind in found]


def _name_questions(store: Store, finding: Finding | None, outside: list[Row]) -> None:
    """Say where the questions stand that rows hold."""
    if finding is None:
        return
    held: dict[int, Any] = dict(finding.details)  # (row of the question, its source), so far
    asked = sorted({row for row, _ in held.values() if row < len(store)})
    questions = dict(zip(asked, store.take(asked), strict=True)) | dict(enumerate(outside, len(store)))
    for number, (row, source) in held.items():
        question = questions[row]
        finding.details[number] = f"holds a question of {source}: {question['origin']}: {question['question'][:200]!r}"
