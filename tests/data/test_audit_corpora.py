"""Real files through the audit: it finds what is known of them, and as good as nothing in those that are clean.

Needs the folder of real corpora that LOAM_CORPORA names (see docs/own-data.md for their public origin).
"""

import gzip
import json
import os
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from data.auditing import AuditConfig, audit
from data.detect.words import words
from data.guess import guessed_sources
from data.sources import SourceConfig
from tests.data.made_rows import write_jsonl

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder")


def audited(*names: str, **config: Any) -> dict[str, Any]:
    return audit(guessed_sources([str(CORPORA / name) for name in names])[0], AuditConfig(**config))


def found(report: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def test_half_of_an_assistants_answers_open_alike(tmp_path: Path) -> None:
    """Each fourth of 5,452 medical answers: 49% of them open with "Based on your"."""
    with gzip.open(CORPORA / "llm/chatdoctor5k.json.gz", "rt") as file:
        rows = json.load(file)[::4]
    path = tmp_path / "doctor.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    based = {f"{path}:{i}" for i, row in enumerate(rows, 1) if row["output"].startswith("Based on your")}
    assert len(based) > 0.4 * len(rows)
    [finding] = found(audit(guessed_sources([str(path)])[0], AuditConfig()), "boilerplate")
    assert len(based & set(finding["rows"])) >= 0.9 * len(based)
    openings = [cluster for cluster in finding["clusters"] if cluster["where"] == "opening"]
    assert any(cluster["text"].lower().startswith("based on your") for cluster in openings)
    assert not any("instruction" in cluster["text"] for cluster in finding["clusters"])


def test_the_same_questions_with_other_answers_are_all_named() -> None:
    report = audited("human/gsm8k_test.jsonl.gz", "human/gsm8k_test_socratic.jsonl.gz")
    findings = {finding["source"]: finding["count"] for finding in found(report, "conflicting_answers")}
    assert findings == {"gsm8k_test": 1319, "gsm8k_test_socratic": 1319}
    assert {f["source"]: f["count"] for f in found(report, "contamination")} == findings


def test_answers_that_are_all_empty_leave_nothing() -> None:
    report = audited("human/medquad_empty_answers.csv.gz")
    assert [(f["kind"], f["count"]) for f in report["findings"]] == [("empty", 792)]
    assert report["before_after"]["after"]["rows"] == 0
    assert report["grade"]["letter"] == "F"


@cache
def shingled(text: str, n: int) -> set[tuple[str, ...]]:
    of = words(text)
    return {tuple(of[i : i + n]) for i in range(len(of) - n + 1)}


def jaccard(a: str, b: str, n: int) -> float:
    one, other = shingled(a, n), shingled(b, n)
    return len(one & other) / max(1, len(one | other))


def test_two_editions_of_a_novel_are_near_duplicates_as_whole_texts() -> None:
    names = [f"books/gutenberg_raw_174_dorian_gray{end}.txt.gz" for end in ("", "_1994ed")]
    one, other = (gzip.decompress((CORPORA / name).read_bytes()).decode(errors="replace") for name in names)
    assert jaccard(one, other, 3) == pytest.approx(0.944, abs=0.001)
    assert jaccard(one, other, 13) == pytest.approx(0.922, abs=0.001)
    report = audited(*names, "books/345_dracula.txt.gz", "books/11_alices_adventures_in_wonderland.txt.gz")
    [finding] = found(report, "near_duplicate")
    assert finding["count"] == 1
    assert {row.rpartition("/")[2] for row in finding["clusters"][0]["rows"]} == {Path(name).name for name in names}
    assert {finding["source"] for finding in found(report, "page_furniture")} == {
        "gutenberg_raw_174_dorian_gray",
        "gutenberg_raw_174_dorian_gray_1994ed",
    }


def test_two_versions_of_a_textbook_are_near_duplicates() -> None:
    """Of chapters of one name, 46 pairs of versions have a 13-gram Jaccard similarity above 0.8; each of them is named,
    as is each pair from 0.8 on in 3-grams, and of each pair one chapter stays."""
    with gzip.open(CORPORA / "quantum/platypus_en_docs.jsonl.gz", "rt") as file:
        rows = list(map(json.loads, file))
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_name[Path(row["path"]).name].append(i)
    version = ["/v1/" in row["path"] for row in rows]
    pairs = [(a, b) for of in by_name.values() for a in of for b in of if version[a] and not version[b]]
    texts = {i: rows[i]["text"] for pair in pairs for i in pair}
    wanted = [(a, b) for a, b in pairs if jaccard(texts[a], texts[b], 3) >= 0.8]
    thirteen = [(a, b) for a, b in pairs if jaccard(texts[a], texts[b], 13) > 0.8]
    assert set(thirteen) <= set(wanted)
    assert len(thirteen) >= 46
    report = audited("quantum/platypus_en_docs.jsonl.gz")
    named = {
        int(row.rpartition(":")[2]) - 1
        for finding in report["findings"]
        if finding["kind"] in ("exact_duplicate", "near_duplicate")
        for row in finding["rows"]
    }
    assert [(a, b) for a, b in wanted if a not in named and b not in named] == []
    assert sum(a in named and b in named for a, b in wanted) <= 2  # copies of a third


@pytest.mark.parametrize("name", ["human/gsm8k_test.jsonl.gz", "multilingual/xquad.en.json.gz"])
def test_clean_corpora_lose_at_most_one_row_in_a_hundred(name: str) -> None:
    report = audited(name)
    assert report["before_after"]["after"]["rows"] >= 0.99 * report["rows"]
    assert report["grade"]["letter"] == "A"


def test_a_language_among_another_is_found_row_by_row(tmp_path: Path) -> None:
    def questions(code: str) -> list[dict[str, str]]:
        with gzip.open(CORPORA / f"multilingual/xquad.{code}.json.gz", "rt") as file:
            articles = json.load(file)["data"]
        of = [(p, q) for article in articles for p in article["paragraphs"] for q in p["qas"]]
        return [{"question": q["question"], "answer": p["context"]} for p, q in of]

    rows = questions("en")[:600:2] + questions("ar")[:60:2]
    write_jsonl(tmp_path / "x.jsonl", rows)
    report = audit([SourceConfig(path=str(tmp_path / "x.jsonl"))], AuditConfig())
    [finding] = found(report, "language")
    assert sorted(int(row.rpartition(":")[2]) for row in finding["rows"]) == list(range(301, 331))
