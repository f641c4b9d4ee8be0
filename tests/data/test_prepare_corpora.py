"""Real files through prepare: every one is read, every row is accounted for, and no row leaks.

Needs the folder of real corpora that LOAM_CORPORA names (see docs/own-data.md for their public origin).
"""

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data.clean import normal
from data.detect.near import similarity
from data.duplicates import SHARED_MIN_BYTES, shared_limit
from data.pipeline import PrepareConfig, prepare
from data.sources import SourceConfig
from tests.data.test_duplicates import shingles_of

CORPORA = os.environ.get("LOAM_CORPORA", "")
pytestmark = pytest.mark.skipif(not Path(CORPORA or "/nonexistent").is_dir(), reason="LOAM_CORPORA names no folder")

SCHOOL = "seed_collegeadvisor"
# path: settings, rows
FILES: dict[str, tuple[dict[str, str], int]] = {
    "llm/alpaca_5000.json.gz": ({"preset": "alpaca"}, 5000),
    "llm/codealpaca_new.json.gz": ({"preset": "alpaca"}, 4535),
    "llm/chatdoctor5k.json.gz": ({"preset": "alpaca"}, 5452),
    "human/gsm8k_train.jsonl.gz": ({}, 7473),
    "human/gsm8k_test.jsonl.gz": ({}, 1319),
    "human/gsm8k_test_socratic.jsonl.gz": ({}, 1319),
    "human/opentriviaqa.csv.gz": ({"category": "category"}, 49716),
    "human/opentriviaqa_raw_people.txt.gz": ({"kind": "text", "split": r"^#Q", "encoding": "utf-8"}, 2743),
    "human/nq_open_dev.jsonl.gz": ({}, 3610),
    "human/medquad_gard.csv.gz": ({"category": "qtype", "group": "focus"}, 5394),
    "human/medquad_empty_answers.csv.gz": ({}, 792),
    "multilingual/xquad.en.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.ar.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.hi.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.th.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.zh.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/udhr2_most_nonascii.zip": ({"kind": "text"}, 140),
    "multilingual/udhr_legacy_encodings.zip": ({"kind": "text", "encoding": "utf-8"}, 194),
    "multilingual/chatterbot_pairs.csv.gz": ({"category": "language"}, 11926),
    "multilingual/platypus_ja_docs.jsonl.gz": ({"kind": "text"}, 24),
    "multilingual/platypus_ko_docs.jsonl.gz": ({"kind": "text"}, 27),
    "multilingual/platypus_es_docs.jsonl.gz": ({"kind": "text"}, 20),
    "multilingual/platypus_pt_docs.jsonl.gz": ({"kind": "text"}, 11),
    "quantum/platypus_en_docs.jsonl.gz": ({"kind": "text"}, 181),
    "quantum/qiskit_textbook_en.txt.gz": ({"kind": "text"}, 1),
    "quantum/quantum_book_batra.txt.gz": ({"kind": "text", "split": r"^---\ntitle: "}, 15),
    "quantum/quantum_qa_batra.csv.gz": ({"category": "kind"}, 353),
    "code/cirq_ops_python.txt.gz": ({"kind": "text", "split": "^# FILE: "}, 100),
    "books/wiki_demo.txt.gz": ({"kind": "text", "split": "line"}, 30),
    **{
        f"books/{name}.txt.gz": ({"kind": "text"}, 1)
        for name in (
            "1342_pride_and_prejudice",
            "2489_moby_dick",
            "345_dracula",
            "84_frankenstein_or_the_modern_prometheus",
            "1661_the_adventures_of_sherlock_holmes",
            "36_the_war_of_the_worlds",
            "1400_great_expectations",
            "76_adventures_of_huckleberry_finn",
            "4217_a_portrait_of_the_artist_as_a_young_man",
            "829_gullivers_travels_into_several_remote_nations_of_the_world",
            "11_alices_adventures_in_wonderland",
            "gutenberg_raw_174_dorian_gray",
            "gutenberg_raw_174_dorian_gray_1994ed",
        )
    },
    f"{SCHOOL}/CitedAnswer.jsonl.gz": ({"question": "prompt", "answer": "answer_md"}, 3),
    f"{SCHOOL}/DisabilityAccommodations.jsonl.gz": ({"question": "policy", "answer": "description"}, 17),
    f"{SCHOOL}/FosterCarePolicy.jsonl.gz": ({"question": "policy", "answer": "description"}, 14),
    f"{SCHOOL}/InstitutionAidPolicy.jsonl.gz": ({"question": "policy_topic", "answer": "rule"}, 69),
    f"{SCHOOL}/InternationalTransferCredit.jsonl.gz": ({"question": "policy_name", "answer": "description"}, 49),
    f"{SCHOOL}/MajorGate.jsonl.gz": ({"question": "major_name", "answer": "notes"}, 24),
    f"{SCHOOL}/MilitaryDependentResidency.jsonl.gz": ({"question": "policy_name", "answer": "eligibility"}, 10),
    f"{SCHOOL}/NCAAEligibilityRules.jsonl.gz": ({"question": "policy_name", "answer": "description"}, 33),
    f"{SCHOOL}/ProfessionalJudgmentBankruptcy.jsonl.gz": ({"question": "policy_name", "answer": "description"}, 25),
    f"{SCHOOL}/ReligiousAccommodations.jsonl.gz": ({"question": "policy_name", "answer": "description"}, 29),
    f"{SCHOOL}/TribalCollegePolicy.jsonl.gz": ({"question": "institution", "answer": "eligibility_requirement"}, 10),
    f"{SCHOOL}/UndocumentedDACAPolicy.jsonl.gz": ({"question": "policy_name", "answer": "eligibility"}, 17),
}

REASONS = {  # what must be in quarantine, and no less
    "human/medquad_empty_answers.csv.gz": {"empty": 792},
    "human/medquad_gard.csv.gz": {"empty": 5},
    "llm/alpaca_5000.json.gz": {"empty": 2},
    "human/opentriviaqa_raw_people.txt.gz": {"encoding": 4},
    "multilingual/udhr_legacy_encodings.zip": {"encoding": 193, "binary": 1},
}


def source(path: str) -> SourceConfig:
    return SourceConfig(name=path, path="${LOAM_CORPORA}/" + path, **FILES[path][0])  # type: ignore[arg-type]


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    names = ("train", "val", "test", "quarantine")
    return {name: pq.read_table(folder / f"{name}-00000.parquet").to_pylist() for name in names}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """All files in one corpus."""
    folder = tmp_path_factory.mktemp("all") / "corpus"
    manifest = prepare([source(path) for path in FILES], PrepareConfig(), folder)
    return manifest, read(folder)


def test_every_file_of_the_folder_is_tried() -> None:
    root = Path(CORPORA)
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "README.md"}
    assert found == set(FILES)


def test_every_row_of_every_file_is_in_a_split_or_in_quarantine(everything: Any) -> None:
    manifest, found = everything
    assert {one["name"]: one["rows"] for one in manifest["sources"]} == {
        path: rows for path, (_, rows) in FILES.items()
    }
    counted = Counter(row["source"] for rows in found.values() for row in rows)
    counted["books/2489_moby_dick.txt.gz"] -= manifest["pieces_added"]  # the one text of over 2%
    assert counted == {path: rows for path, (_, rows) in FILES.items()}
    assert manifest["cut"] == 1
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for row in found["quarantine"]:
        assert row["reason"]
        assert row["detail"]
        assert row["origin"]
        reasons[row["source"]][row["reason"]] += 1
    assert {path: dict(reasons[path]) for path in REASONS} == REASONS


def test_the_shares_are_kept(everything: Any) -> None:
    splits = everything[0]["splits"]
    total = sum(split["bytes"] for split in splits.values())
    assert all(0.045 < splits[name]["bytes"] / total < 0.055 for name in ("val", "test"))


def test_no_group_no_long_shared_field_and_no_near_duplicate_is_on_two_sides(everything: Any) -> None:
    manifest, found = everything
    rows = [(name, row) for name in ("train", "val", "test") for row in found[name]]
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    counts: Counter[tuple[str, str]] = Counter()
    for name, row in rows:
        fields = [(field, normal(row[field] or "").casefold()) for field in ("question", "answer", "context")]
        for key in [("group", row["group"]), *((f, v) for f, v in fields if len(v.encode()) >= SHARED_MIN_BYTES)]:
            sides[key].add(name)
            counts[key] += 1
    limit = shared_limit(sum(row["kind"] == "qa" for _, row in rows))
    assert limit == manifest["shared_limit"]
    assert [key for key, on in sides.items() if len(on) > 1 and (counts[key] <= limit or key[0] == "group")] == []

    # Brute force over an inverted index, on the sources with many near duplicates.
    chosen = {"multilingual/chatterbot_pairs.csv.gz", "human/gsm8k_test.jsonl.gz", "human/gsm8k_test_socratic.jsonl.gz"}
    chosen |= {"llm/codealpaca_new.json.gz", "quantum/platypus_en_docs.jsonl.gz"}
    some = [(name, row) for name, row in rows if row["source"] in chosen]
    shingles = shingles_of(
        [row["text"] if row["text"] is not None else f"{row['question']}\n{row['answer']}" for _, row in some]
    )
    index: dict[int, list[int]] = defaultdict(list)
    for i, shingle in enumerate(shingles):
        for value in shingle.tolist():
            index[value].append(i)
    pairs = 0
    for i, shingle in enumerate(shingles):
        common = Counter(j for value in shingle.tolist() if len(index[value]) < 500 for j in index[value] if j < i)
        for j, count in common.items():
            if count >= 0.7 * len(shingle) and similarity(shingle, shingles[j]) >= 0.8:
                pairs += 1
                assert some[i][0] == some[j][0], (some[i][1]["origin"], some[j][1]["origin"])
    assert pairs > 400


def test_stock_answers_and_one_instruction_for_all_make_no_group(everything: Any) -> None:
    _, found = everything
    sizes = Counter(row["group"] for name in ("train", "val", "test") for row in found[name])
    largest: dict[str, int] = defaultdict(int)
    for name in ("train", "val", "test"):
        for row in found[name]:
            largest[row["source"]] = max(largest[row["source"]], sizes[row["group"]])
    assert largest["human/opentriviaqa.csv.gz"] < 10
    assert largest["llm/chatdoctor5k.json.gz"] < 10


def test_the_same_question_in_two_files_with_two_answers_is_on_one_side(tmp_path: Path) -> None:
    paths = ["human/gsm8k_test.jsonl.gz", "human/gsm8k_test_socratic.jsonl.gz"]
    manifest = prepare([source(path) for path in paths], PrepareConfig(), tmp_path / "out")
    assert manifest["groups"] == 1319
    assert manifest["quarantine"]["rows"] == 0


def test_two_editions_of_a_novel_do_not_leak(tmp_path: Path) -> None:
    names = ["books/gutenberg_raw_174_dorian_gray.txt.gz", "books/gutenberg_raw_174_dorian_gray_1994ed.txt.gz"]
    manifest = prepare([source(path) for path in names], PrepareConfig(), tmp_path / "out")
    assert manifest["quarantine"]["reasons"] == {"gap": 2, "near_duplicate": 1}
    found = read(tmp_path / "out")
    lines = {n: {line for row in found[n] for line in row["text"].splitlines() if len(line) > 40} for n in found}
    # What one edition itself says twice (five lines of its licence, at the front and at the end) is not of the novel.
    whole = [row for name in ("train", "val", "test") for row in found[name]]
    counts = Counter(line for row in whole for line in row["text"].splitlines())
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = lines[a] & lines[b]
        assert len(shared) <= 5
        assert all(counts[line] == 2 for line in shared)
    assert "\r\n" in found["train"][0]["text"]
