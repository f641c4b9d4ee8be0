"""Real files through prepare: every one is read, every row is accounted for, and no row leaks.

Needs the folder of real corpora that LOAM_CORPORA names (see docs for their public origin).
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data.clean import normal
from data.duplicates import SHARED_MIN_BYTES, shared_limit, similarity, sketch
from data.pipeline import PrepareConfig, prepare
from data.sources import SourceConfig

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
    "human/opentriviaqa_raw_people.txt.gz": ({"kind": "text", "split": r"^#Q"}, 2744),
    "human/nq_open_dev.jsonl.gz": ({}, 3610),
    "human/medquad_gard.csv.gz": ({"category": "qtype", "group": "focus"}, 5394),
    "human/medquad_empty_answers.csv.gz": ({}, 792),
    "multilingual/xquad.en.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.ar.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.hi.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.th.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/xquad.zh.json.gz": ({"preset": "squad"}, 1190),
    "multilingual/udhr2_most_nonascii.zip": ({"kind": "text"}, 140),
    "multilingual/udhr_legacy_encodings.zip": ({"kind": "text"}, 194),
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
            "1342_pride_and_prejudice 2489_moby_dick 345_dracula 84_frankenstein_or_the_modern_prometheus "
            "1661_the_adventures_of_sherlock_holmes 36_the_war_of_the_worlds 1400_great_expectations "
            "76_adventures_of_huckleberry_finn 4217_a_portrait_of_the_artist_as_a_young_man "
            "829_gullivers_travels_into_several_remote_nations_of_the_world 11_alices_adventures_in_wonderland "
            "gutenberg_raw_174_dorian_gray gutenberg_raw_174_dorian_gray_1994ed"
        ).split()
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
