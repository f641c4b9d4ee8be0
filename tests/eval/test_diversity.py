"""Distinct n-grams, repetition and boilerplate are those of a plain count, and what a corpus teaches is its own."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eval.diversity
from common.errors import UserError
from data.canaries import SOURCE, made, rows_of
from data.detect.boilerplate import stock_phrases, stock_spans
from data.detect.words import words
from eval.diversity import Stock, boilerplate, diversity, learn_stock
from tests.data.made_rows import natural_qa, passage

OPENING = "Based on your description, "
CLOSING = " Please ask a doctor if it does not go away by itself."
COLUMNS = ("id", "source", "text", "answer")
NOTHING = Stock(np.zeros(0, np.uint64), [], 0.0)


def corpus_of(folder: Path, rows: list[dict[str, Any]], row_group: int = 4096) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = [{"source": "s", **row, "id": f"{random.Random(i).getrandbits(128):032x}"} for i, row in enumerate(rows)]
    table = pa.table({name: pa.array([row.get(name) for row in names], pa.string()) for name in COLUMNS})
    pq.write_table(table, folder / "train-00000.parquet", row_group_size=row_group)
    return folder


def assistants(number: int, every: int = 3) -> list[dict[str, Any]]:
    """Answers of which each third opens, and each other third ends, like an assistant's."""
    rows = natural_qa(random.Random(1), number)
    for i, row in enumerate(rows):
        if i % every == 0:
            row["answer"] = OPENING + row["answer"]
        elif i % every == 1:
            row["answer"] += CLOSING
    return rows


def plain_distinct(answers: list[str], n: int) -> tuple[int, int]:
    grams = [tuple(w[i : i + n]) for w in map(words, answers) for i in range(len(w) - n + 1)]
    return len(set(grams)), len(grams)


def test_distinct_n_grams_are_those_of_a_plain_count() -> None:
    dice = random.Random(0)
    answers = [" ".join(dice.choices(["a", "b", "The", "the", "end.", "é", "白い"], k=dice.randint(0, 12)))
               for _ in range(60)]  # fmt: skip
    facts = diversity(answers)
    for n in (1, 2, 3, 4):
        different, number = plain_distinct(answers, n)
        assert (facts[f"distinct_{n}"], facts[f"num_{n}"]) == (different / number, number)
    repeated = [w[i : i + 4] for w in map(words, answers) for i in range(len(w) - 3)
                if w[i : i + 4] in [w[k : k + 4] for k in range(i)]]  # fmt: skip
    assert facts["repetition"] == len(repeated) / facts["num_4"]
    assert 0 < facts["repetition"] < 1
    assert facts["num_empty"] == sum(not answer for answer in answers) > 0


def test_n_grams_do_not_cross_answers_and_order_plays_no_part() -> None:
    assert diversity(["one two", "three four"])["num_3"] == 0
    assert diversity(["one two", "three four"])["distinct_3"] is None
    answers = [passage(random.Random(i), 2) for i in range(9)] + ["a b a b a b a b"]
    assert diversity(answers) == diversity(answers[::-1])


def test_repetition_is_inside_of_an_answer_and_equality_between_answers() -> None:
    line = "the same eight words stand here once more"
    apart = diversity([line] * 4)
    assert (apart["repetition"], apart["equal_share"]) == (0.0, 1.0)
    assert apart["distinct_4"] == 1 / 4
    within = diversity([" ".join([line] * 4), "something that is said a single time alone"])
    assert within["equal_share"] == 0.0
    assert within["repetition"] == 21 / 34  # 29 n-grams, of which 8 are different, and 5
    assert diversity(["Yes.", " Yes.\n", "No.", "yes."])["equal_share"] == 0.5
    assert diversity(["caf\u00e9", "cafe\u0301"])["equal_share"] == 1.0


def test_no_answers_and_empty_answers() -> None:
    none = diversity([])
    assert (none["num_answers"], none["equal_share"], none["distinct_1"], none["repetition"]) == (0, None, None, None)
    empty = diversity(["", " ", "word"])
    assert (empty["num_empty"], empty["distinct_1"]) == (2, 1.0)
    assert boilerplate([], NOTHING)["share"] is None
    assert boilerplate(["", ""], NOTHING)["byte_share"] is None


def test_stock_phrases_of_the_training_answers_are_found_in_answers_and_named(tmp_path: Path) -> None:
    stock = learn_stock(corpus_of(tmp_path, assistants(300)))
    own = passage(random.Random(77), 2)
    answers = [OPENING + own, own + CLOSING, OPENING + passage(random.Random(78), 1) + CLOSING, own]
    facts = boilerplate(answers, stock)
    assert facts["share"] == 3 / 4
    assert facts["phrases"] == [[shown(OPENING), 2], [shown(CLOSING), 2]]
    for answer, spans in zip(answers, facts["spans"], strict=True):
        said = {answer[start:end].strip() for start, end in spans}
        assert said == {phrase.strip() for phrase in (OPENING, CLOSING) if phrase in answer}
    inside = sum(
        len(answer[start:end]) for answer, of in zip(answers, facts["spans"], strict=True) for start, end in of
    )
    assert facts["byte_share"] == inside / sum(map(len, answers))
    assert facts["num_stock"] == len(stock.keys) > 0


def shown(phrase: str) -> str:
    return " ".join(words(phrase))


def test_answers_without_stock_phrases_have_none(tmp_path: Path) -> None:
    answers = [OPENING + passage(random.Random(5), 1)]
    none = learn_stock(corpus_of(tmp_path / "natural", natural_qa(random.Random(2), 300)))
    assert (boilerplate(answers, none)["share"], boilerplate(answers, none)["phrases"]) == (0.0, [])
    some = learn_stock(corpus_of(tmp_path / "assistants", assistants(300)))
    assert boilerplate([passage(random.Random(9), 3)], some)["share"] == 0.0


def test_what_is_stock_is_what_the_audit_learns_of_each_source(tmp_path: Path) -> None:
    rows = [{**row, "source": "doctor"} for row in assistants(240)]
    rows += [{**row, "source": "plain"} for row in natural_qa(random.Random(4), 700)]
    rows += [{"source": "prose", "text": "An opening of a page, " + passage(random.Random(i), 3)} for i in range(40)]
    random.Random(3).shuffle(rows)
    expected = [
        stock_phrases([[row.get("text") or row["answer"] for row in rows if row["source"] == source]], number)
        for source, number in (("doctor", 240), ("plain", 700), ("prose", 40))
    ]
    assert np.array_equal(learn_stock(corpus_of(tmp_path / "one", rows)).keys, np.unique(np.concatenate(expected)))
    assert np.array_equal(
        learn_stock(corpus_of(tmp_path / "many", rows, row_group=7)).keys, np.unique(np.concatenate(expected))
    )
    assert len(expected[0])
    assert len(expected[2])


def test_a_large_source_is_learned_on_the_rows_with_the_smallest_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval.diversity, "SAMPLE", 90)
    corpus = corpus_of(tmp_path, [{**row, "source": "s"} for row in assistants(300)], row_group=64)
    rows = sorted(pq.read_table(corpus / "train-00000.parquet").to_pylist(), key=lambda row: row["id"])[:90]
    expected = stock_phrases([[row["answer"] for row in rows]], 90)
    assert np.array_equal(learn_stock(corpus).keys, expected)
    [(num, last)] = eval.diversity._sampled(corpus, "train").values()
    assert (num, last) == (90, rows[-1]["id"].encode())
    assert sorted(eval.diversity._bodies(corpus, "train", "s", last)) == sorted(row["answer"] for row in rows)
    assert any(stock_spans(row["answer"], expected) for row in rows)


def test_canaries_teach_no_stock_phrase(tmp_path: Path) -> None:
    rows = [{**row, "source": "s"} for row in natural_qa(random.Random(2), 100)]
    planted = rows_of(made(30, [12], "qa", 0))
    answers = [row["answer"] for row in planted]
    assert boilerplate(answers, learn_stock(corpus_of(tmp_path / "with", rows + planted)))["share"] == 0.0
    other = [{**row, "source": "other"} for row in planted]
    assert Counter(row["source"] for row in planted) == {SOURCE: 360}
    assert boilerplate(answers, learn_stock(corpus_of(tmp_path / "other", rows + other)))["share"] == 1.0


def test_only_a_corpus_teaches(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no train-"):
        learn_stock(tmp_path)
