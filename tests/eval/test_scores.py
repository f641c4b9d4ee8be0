"""Scores of single answers: against plain computations, and each flag where it holds and where it must not."""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.keywords import words
from eval.questions import Question, prompt_text
from eval.scores import (
    FORM,
    SCORES,
    common_subsequence,
    copied_share,
    is_same,
    is_short,
    keyword_scores,
    rouge_l,
    score,
    template_marks,
    token_f1,
)

CORPORA = os.environ.get("LOAM_CORPORA")
ROOT = Path(__file__).parents[2]
LONG = "A qubit is a two-level quantum system whose state is a superposition of zero and one."


def asked(question: str = "What is a qubit?", reference: str = "", **more: Any) -> Question:
    return Question("f:1", "f", None, question, more.pop("context", None), None, reference, **more)


def scored(answer: str, question: Question | None = None, stopped: bool | None = True) -> dict[str, Any]:
    question = question or asked()
    return score(question, answer, stopped, prompt_text(question))


def test_a_perfect_answer_has_every_score_that_there_is_to_be_had() -> None:
    found = scored(LONG, asked(reference=LONG, keywords=("superposition", "two-level")))
    assert {name: found[name] for name in SCORES if name in found} == {
        "keyword_recall": 1.0, "token_f1": 1.0, "rouge_l": 1.0, "exact_match": None, "code_parses": None,
        "stopped": True, "empty": False, "too_short": False, "repeats": False, "leaves_template": False,
        "copies_prompt": False,
    }  # fmt: skip


def test_a_score_that_cannot_be_had_is_none_and_never_0() -> None:
    found = scored("Something else.", stopped=None)
    for name in ("keyword_recall", "token_f1", "rouge_l", "exact_match", "code_parses", "stopped", "too_short"):
        assert found[name] is None, name
    assert scored("", asked(reference=LONG))["copied_share"] is None


def test_an_empty_answer_scores_0_where_there_is_something_to_reach() -> None:
    for answer in ("", " \n\t"):
        found = scored(answer, asked(reference="A system.", keywords=("system",)))
        assert [found[name] for name in ("keyword_recall", "token_f1", "rouge_l", "exact_match")] == [0, 0, 0, 0]
        assert [name for name in FORM if found[name]] == ["stopped", "empty"]


# -- keywords


def test_keywords_of_the_prompt_are_not_counted_and_named() -> None:
    question = asked("What is a qubit?", context="On gates.", keywords=("qubits", "gate", "state", "superposition"))
    found = scored("A qubit is a state.", question)
    assert found["keywords_in_prompt"] == ["qubits", "gate"]
    assert (found["keywords_found"], found["keywords_missing"]) == (["state"], ["superposition"])
    assert found["keyword_recall"] == 0.5


def test_an_echo_of_the_prompt_has_no_keyword_and_where_all_are_in_the_prompt_there_is_no_recall() -> None:
    question = asked("Is a qubit a state?", keywords=("qubit", "state", "vector"))
    assert scored(prompt_text(question), question)["keyword_recall"] == 0.0
    assert keyword_scores(("qubit",), "A qubit.", "What is a qubit?")["keyword_recall"] is None


# -- against the reference


def test_token_f1_is_that_of_squad_by_hand() -> None:
    question = asked(reference="The cat sat on the mat.")
    found = scored("the CAT, the dog", question)
    precision, recall = 3 / 4, 3 / 6  # the, cat, the
    assert found["token_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert scored("a dog", question)["token_f1"] == 0.0


def test_f1_counts_a_word_as_often_as_it_stands_and_needs_no_order() -> None:
    assert token_f1(["a", "a", "a"], ["a", "b"]) == pytest.approx(2 * 1 / 5)
    assert token_f1(["b", "a"], ["a", "b"]) == 1.0
    assert rouge_l(["b", "a"], ["a", "b"]) == 0.5


def plain_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_the_longest_common_subsequence_is_that_of_the_plain_table() -> None:
    generator = random.Random(0)
    for _ in range(1000):
        size = generator.choice((2, 5, 40))
        a, b = (generator.choices([str(i) for i in range(size)], k=generator.randint(0, 90)) for _ in range(2))
        assert common_subsequence(a, b) == plain_subsequence(a, b)


def test_words_of_other_scripts_count() -> None:
    assert scored("人人生而自由", asked(reference="人人生而平等"))["token_f1"] == pytest.approx(4 / 6)
    assert scored("हिन्दी भाषा", asked(reference="हिन्दी"))["token_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "pair", [("Paris", " paris. "), ("the  Nile", "The Nile"), ("caf\u00e9", "cafe\u0301"), ("+", "+")]
)
def test_short_answers_match_whatever_case_and_signs_at_the_ends(pair: tuple[str, str]) -> None:
    assert scored(pair[0], asked(reference=pair[1]))["exact_match"] is True


@pytest.mark.parametrize("pair", [("Paris", "Par"), ("-5", "5"), ("1.5", "15"), ("x+1", "x-1"), ("", "a"), ("+", "-")])
def test_other_short_answers_do_not(pair: tuple[str, str]) -> None:
    assert not is_same(*pair)


def test_exact_match_is_for_short_references() -> None:
    assert is_short("one two three four five")
    assert not is_short("one two three four five six")
    assert not is_short("one\ntwo")
    assert not is_short("")
    assert is_short("量子力学的十个字啊")
    assert not is_short("量子力学的十个字啊啊啊")


# -- by itself


def test_too_short_is_measured_against_a_reference_of_ten_words() -> None:
    question = asked(reference=LONG)  # 17 words
    assert len(words(LONG)) == 17
    assert scored("A system, really.", question)["too_short"] is True  # 3 words
    assert scored("It is a system.", question)["too_short"] is False
    assert scored("Yes", asked(reference="Yes, it does."))["too_short"] is None
    assert scored("", question)["too_short"] is False  # it is empty: one fault, not two


def test_going_round_in_circles_is_seen() -> None:
    assert scored("the gate of the gate of the gate of the gate of the gate of the")["repeats"]
    assert not scored(LONG)["repeats"]


@pytest.mark.parametrize(
    "answer",
    [
        "A system.<|user|>What", "A system.<|eos|>", "<|im_start|>user", "A [INST] b", "So.\n### Instruction:\nDo",
        "A system.\nQuestion: What is", "A system.\n\n**Question 2:** What", "Q: What is it?", "So. User: and then?",
        "Human: hello", "text</s>",
    ],
)  # fmt: skip
def test_leaving_the_template_is_seen(answer: str) -> None:
    assert scored(answer)["leaves_template"]


@pytest.mark.parametrize(
    "answer",
    [
        LONG, "Answer: 5", "The question: what is it?", "a |x> b <y| c", "x <= y | z >= w", "The user: a person",
        "## Overview\ntext", "if a < s > b", "#### 42", "The FAQ: it says", "In short, Q: the charge",
    ],
)  # fmt: skip
def test_what_is_content_does_not_leave_the_template(answer: str) -> None:
    assert template_marks(answer) == []


def test_a_mark_that_the_reference_has_is_content() -> None:
    assert template_marks("Q: why?\nA: so", reference="Q: what?\nA: that") == []
    assert template_marks("Q: why?<|user|>", reference="Q: what?\nA: that") == ["<|user|>"]


PASSAGE = "the number of qubits in a register decides how large the space of its states can be at most"


def test_the_share_in_long_runs_of_the_prompt_is_that_of_a_plain_count() -> None:
    generator = random.Random(3)
    for _ in range(300):
        answer, prompt = (generator.choices("abc", k=generator.randint(1, 60)) for _ in range(2))
        runs = {tuple(prompt[i : i + 8]) for i in range(len(prompt))}
        inside = [
            any(i <= at < i + 8 and tuple(answer[i : i + 8]) in runs for i in range(len(answer) - 7))
            for at in range(len(answer))
        ]
        assert copied_share(answer, prompt) == pytest.approx(sum(inside) / len(answer))


def test_copying_the_prompt_is_seen_and_common_phrases_are_not() -> None:
    question = asked("What decides how large it is?", context=PASSAGE.capitalize() + ".")
    assert scored(f"Well, {PASSAGE}", question)["copies_prompt"]
    assert scored("It is decided by the number of qubits in a thing.", question)["copied_share"] == 0.0
    assert scored("What decides how large it is?", question)["copied_share"] == 1.0  # shorter than a run, but whole
    assert not scored("What decides it?", question)["copies_prompt"]


def test_a_passage_of_the_context_is_no_copy_where_it_is_the_reference() -> None:
    question = asked("What decides it?", context=PASSAGE, reference=PASSAGE)
    assert scored(PASSAGE, question)["copied_share"] == 0.0
    assert scored(PASSAGE, asked("What decides it?", context=PASSAGE, reference="Qubits."))["copies_prompt"]


# -- all together


def test_the_scores_of_an_answer_are_plain_json() -> None:
    found = scored(LONG, asked(reference="A system", keywords=("system",)))
    assert json.loads(json.dumps(found)) == found


def test_no_torch_and_no_data_engine_is_needed() -> None:
    absent = ["torch", "daft", "orjson", "zstandard", "ftfy", "charset_normalizer"]
    rooms = "eval.scores, eval.questions, eval.baselines, eval.tables, eval.keywords"
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {rooms}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not CORPORA, reason="LOAM_CORPORA is not set")
def test_answers_that_people_wrote_have_next_to_no_faults() -> None:
    folder = Path(CORPORA or "")
    with gzip.open(folder / "human/gsm8k_test.jsonl.gz", "rt") as file:
        rows = [(row["question"], row["answer"]) for row in map(json.loads, file)]
    for name in ("human/medquad_gard.csv.gz", "quantum/quantum_qa_batra.csv.gz", "human/opentriviaqa.csv.gz"):
        with gzip.open(folder / name, "rt") as file:
            rows += [(row["question"], row["answer"]) for row in csv.DictReader(file) if row["answer"]][:350]
    faults: Counter[str] = Counter()
    for question, answer in rows:
        found = scored(answer, asked(question))
        faults.update(name for name in FORM if name != "stopped" and found[name])
        with_reference = scored(answer, asked(question, reference=answer))
        assert with_reference["token_f1"] == with_reference["rouge_l"] == 1.0
        assert with_reference["exact_match"] in (None, True)
        assert not with_reference["copies_prompt"]
        assert not with_reference["too_short"]
    assert len(rows) > 2300
    assert faults == Counter({"copies_prompt": 2})  # two word problems that say the question again
