"""Groups: what must not stand on two sides is linked, and stock phrases link nothing."""

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clean import clean_row
from data.columns import ROW_COLUMNS
from data.detect.near import JACCARD, near_duplicates, similarity
from data.detect.sketch import ngrams, signatures, word_hashes
from data.detect.words import words
from data.duplicates import (
    drop_exact,
    group_documents,
    shared_limit,
)
from data.pipeline import SORT_KEYS

LONG = "the whole of this answer is well over fifty bytes of text, number {}"


def table(rows: list[dict[str, Any]]) -> pa.Table:
    full = [
        clean_row(
            {**dict.fromkeys(ROW_COLUMNS), "kind": "qa", "source": "s", "origin": f"f:{i}", **row}, 0, ["too_short"]
        )
        for i, row in enumerate(rows)
    ]
    names = [*ROW_COLUMNS, "id", "key"]
    schema = pa.schema([*((name, pa.large_string()) for name in names), ("n_bytes", pa.int64())])
    return pa.Table.from_pylist(full, schema).sort_by([(name, "ascending") for name in SORT_KEYS])


def grouped(rows: list[dict[str, Any]]) -> set[frozenset[str]]:
    """Groups of more than one document, as sets of origins."""
    documents = table(rows)
    labels, _ = group_documents(documents)
    groups: dict[int, set[str]] = {}
    for label, origin in zip(labels.tolist(), documents["origin"].to_pylist(), strict=True):
        groups.setdefault(label, set()).add(origin)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def unrelated(num: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    text = lambda: " ".join(f"w{rng.randrange(10**6)}" for _ in range(8))  # noqa: E731
    return [{"question": text(), "answer": text()} for _ in range(num)]


def test_of_exact_duplicates_the_smallest_by_content_stays_whatever_the_order() -> None:
    rows = [
        {"question": "a  question", "answer": "x", "origin": "1"},
        {"question": "a question", "answer": " x", "origin": "2"},
        {"question": "a question", "answer": "x", "origin": "4", "category": "b"},
        {"question": "a question", "answer": "x", "origin": "3", "category": "b"},
        {"question": "A question", "answer": "x", "origin": "5"},
    ]
    outcomes = set()
    for seed in range(10):
        shuffled = random.Random(seed).sample(rows, len(rows))
        stays, copies = drop_exact(table(shuffled))
        assert len(stays) == 2
        assert set(copies["reason"].to_pylist()) == {"exact_duplicate"}
        outcomes.add((*stays["origin"].to_pylist(), *copies["origin"].to_pylist(), *copies["detail"].to_pylist()))
    assert len(outcomes) == 1


@pytest.mark.parametrize("field", ["question", "answer", "context"])
def test_a_shared_long_field_links_rows_and_a_short_one_does_not(field: str) -> None:
    rows = unrelated(40)
    for i, value in (
        (3, LONG),
        (9, LONG.upper().replace(" ", "  ")),
        (5, "x" * 49),
        (6, "x" * 49),
        (7, "y" * 50),
        (8, "y" * 50),
    ):
        rows[i][field] = value
    assert grouped(rows) == {frozenset(["f:3", "f:9"]), frozenset(["f:7", "f:8"])}


def test_the_same_group_value_links_rows_however_many() -> None:
    rows = unrelated(60)
    for i in range(0, 60, 2):
        rows[i]["group"] = "even"
    assert grouped(rows) == {frozenset(f"f:{i}" for i in range(0, 60, 2))}


def test_a_field_in_more_rows_than_the_limit_links_nothing() -> None:
    for num, limit in ((20, 10), (100, 20), (5000, 50)):
        assert shared_limit(num) == limit
    rows = unrelated(300)
    for i in range(20):
        rows[i]["answer"] = LONG.format(1)
    for i in range(30, 51):
        rows[i]["answer"] = LONG.format(2)
    assert grouped(rows) == {frozenset(f"f:{i}" for i in range(20))}


def test_of_twenty_rows_two_with_one_answer_are_a_group_and_one_instruction_for_all_is_none() -> None:
    rows = unrelated(20)
    for row in rows:
        row["context"] = LONG.format("for all")
    rows[4]["answer"] = rows[11]["answer"] = LONG.format("for two")
    assert grouped(rows) == {frozenset(["f:4", "f:11"])}


def test_near_duplicates_are_linked_by_question_and_answer_together() -> None:
    question = " ".join(f"word{i}" for i in range(30))
    rows = [
        *unrelated(10),
        {"question": question, "answer": "the answer is here"},
        {"question": question.upper() + "?!", "answer": "The answer, is here."},
        {"question": question.replace("word29", "other"), "answer": "the answer is here"},
        {"question": question, "answer": " ".join(f"else{i}" for i in range(30))},
    ]
    # The last shares its long question with two of the others, which is a link of its own.
    assert grouped(rows) == {frozenset(["f:10", "f:11", "f:12", "f:13"])}
    rows[13]["question"] = "only half is the same"
    rows[13]["answer"] = question[:100]
    assert grouped(rows) == {frozenset(["f:10", "f:11", "f:12"])}


def test_scripts_without_spaces_have_words() -> None:
    assert words("Ab漢字c, ไทย!") == ["ab", "漢", "字", "c", "ไ", "ท", "ย"]
    assert words("?! …") == ["?", "!", "…"]
    text = "".join(chr(0x4E00 + i) for i in range(60))
    assert len(near([text, text[:-1] + "龍", text[::-1]])) == 1


def shingles_of(texts: list[str]) -> list[np.ndarray]:
    grams, offsets = ngrams(*word_hashes(texts), 3)
    return [np.unique(grams[start:end]) for start, end in pairwise(offsets.tolist())]


def near(texts: list[str]) -> list[tuple[int, int]]:
    hashes, offsets = word_hashes(texts)
    rows, sizes = np.arange(len(texts)), np.diff(offsets)
    return near_duplicates(signatures(*ngrams(hashes, offsets, 2)), rows, sizes, lambda of: [texts[i] for i in of])


def linked(texts: list[str]) -> set[tuple[int, int]]:
    label = list(range(len(texts)))
    for i, j in near(texts):
        old, new = label[j], label[i]
        label = [new if one == old else one for one in label]
    return {(i, j) for i in range(len(texts)) for j in range(i) if label[i] == label[j]}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab ", min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=12))
def test_every_pair_at_the_threshold_is_linked(texts: list[str]) -> None:
    shingles = shingles_of(texts)
    wanted = {(i, j) for i in range(len(texts)) for j in range(i) if similarity(shingles[i], shingles[j]) >= JACCARD}
    assert wanted <= linked(texts)


def test_templated_text_in_one_bucket_is_linked_as_brute_force_does() -> None:
    rng = random.Random(1)
    template = [f"t{i}" for i in range(80)]
    texts = []
    for _ in range(250):  # between 1 and 6 words of 80 replaced: similarities on both sides of the threshold
        changed = list(template)
        for at in rng.sample(range(80), rng.randrange(1, 7)):
            changed[at] = f"v{rng.randrange(10**6)}"
        texts.append(" ".join(changed))
    shingles = shingles_of(texts)
    pairs = [(i, j, similarity(shingles[i], shingles[j]) >= JACCARD) for i in range(len(texts)) for j in range(i)]
    assert 0.01 < np.mean([similar for _, _, similar in pairs]) < 0.99
    found = linked(texts)
    assert sum(similar and (i, j) not in found for i, j, similar in pairs) == 0


def test_work_in_a_huge_bucket_does_not_grow_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    import data.detect.near as module

    calls = 0

    def counted(a: np.ndarray, b: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return similarity(a, b)

    monkeypatch.setattr(module, "similarity", counted)
    text = [f"t{i}" for i in range(60)]
    texts = [" ".join([*text, f"tail{i}"]) for i in range(3000)] + [" ".join(text)] * 2000
    assert len(near(texts)) == len(texts) - 1  # one cluster
    assert calls < 4 * len(texts)
