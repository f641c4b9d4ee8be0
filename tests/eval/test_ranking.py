"""Distractors, and where the true answer stands among them: against plain computations, whatever batch and order."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from eval import ranking
from eval.keywords import words
from eval.losses import DocumentLosses, document_losses
from eval.questions import Question
from eval.ranking import Candidates, chance, choose_distractors, rank
from eval.tables import tables
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer
from tokenizer.encode import encode_table
from tokenizer.template import render_prompt

from .conftest import SEQ_LEN, THINGS, learn, make_model, make_rows, make_table


def asked(question: str, reference: str, category: str | None = "c", context: str | None = None) -> Question:
    return Question(f"f:{question}", "f", category, question, context, None, reference)


def made(number: int, seed: int) -> list[Question]:
    """Questions of three categories, references of 1 to 30 words, many of them alike but for case and signs."""
    generator = np.random.default_rng(seed)
    return [
        asked(
            f"question {seed}-{i}",
            " ".join(generator.choice(THINGS, size=int(generator.integers(1, 30)) if i % 3 else 1))
            + str(generator.choice([".", "", "!"])),
            "abc"[int(generator.integers(0, 3))],
        )
        for i in range(number)
    ]


def of_corpus(rows: list[dict[str, Any]]) -> list[Question]:
    return [
        Question(row["id"], "qa", None, row["question"], row["context"], None, row["answer"])
        for row in rows
        if row["kind"] == "qa"
    ]


@pytest.fixture(scope="module")
def model(tok: Tokenizer, rows: list[dict[str, Any]]) -> Decoder:
    model = make_model(tok.vocab_size, seed=3)
    learn(model, encode_table(make_table(rows), tok), 40)
    return model


# -- distractors


def test_no_distractor_is_the_true_answer_and_none_stands_twice() -> None:
    for question, found in zip(questions := made(200, 0), choose_distractors(questions, 0, 4), strict=True):
        assert found is not None
        assert found.answers[0] == question.reference
        assert len(found.answers) == 5
        assert len({" ".join(words(answer)) for answer in found.answers}) == 5


def test_distractors_are_of_the_category_while_it_has_enough() -> None:
    questions = made(90, 1)
    of_category = {(q.reference, q.category) for q in questions}
    for question, found in zip(questions, choose_distractors(questions, 0, 3), strict=True):
        assert found is not None
        assert found.num_same_category == 3
        assert all((answer, question.category) in of_category for answer in found.answers[1:])


def test_a_category_that_is_too_small_is_filled_up_from_the_others_and_said() -> None:
    questions = [*made(30, 1), asked("alone", "one thing", "d"), asked("also", "another thing", "d")]
    found = choose_distractors(questions, 0, 4)[-1]
    assert found is not None
    assert found.num_same_category == 1
    assert found.answers[:2] == ("another thing", "one thing")
    assert len(found.answers) == 5


def test_distractors_are_of_like_length() -> None:
    questions = made(300, 2)
    ratios = []
    for question, found in zip(questions, choose_distractors(questions, 0, 4), strict=True):
        assert found is not None
        sizes = [len(answer.encode()) for answer in found.answers]
        ratios += [max(sizes[0], size) / min(sizes[0], size) for size in sizes[1:]]
        assert question.reference == found.answers[0]
    by_chance = [
        max(len(a.reference), len(b.reference)) / min(len(a.reference), len(b.reference))
        for a in questions for b in questions if a is not b
    ]  # fmt: skip
    assert np.median(ratios) < 1.15
    assert np.median(by_chance) > 1.8


def test_the_nearest_by_length_are_those_of_a_plain_sort() -> None:
    generator = random.Random(0)
    for _ in range(300):
        sizes = [generator.randint(1, 40) for _ in range(generator.randint(0, 30))]
        references = sorted(
            ranking._Reference(size, bytes([generator.randrange(256)]), str(i), "") for i, size in enumerate(sizes)
        )
        size, without = generator.randint(1, 40), {str(generator.randrange(30)) for _ in range(5)}
        found = ranking._nearest(references, size, b"\x80", without, 6)
        allowed = [r for r in references if r.normal not in without]
        ratios = sorted(max(r.size / size, size / r.size) for r in allowed)[:6]
        assert sorted(max(r.size / size, size / r.size) for r in found) == pytest.approx(ratios)
        assert not {r.normal for r in found} & without


def test_another_right_answer_to_the_same_question_is_no_distractor() -> None:
    questions = [asked("Who?", "Ann"), asked("who", "Bob"), asked("Where?", "Rome"), asked("When?", "1999")]
    found = choose_distractors(questions, 0, 4)[0]
    assert found is not None
    assert sorted(found.answers[1:]) == ["1999", "Rome"]
    elsewhere = [asked("Who?", "Ann", context="a"), asked("who", "Bob", context="b")]
    found = choose_distractors(elsewhere, 0, 4)[0]  # about another context it is another question
    assert found is not None
    assert found.answers == ("Ann", "Bob")


def test_seed_decides_and_the_order_does_not() -> None:
    questions = made(80, 3)
    found = choose_distractors(questions, 0)
    assert choose_distractors(questions[::-1], 0) == found[::-1]
    assert choose_distractors(questions, 1) != found
    assert choose_distractors(questions[:5], 0, pool=questions) == found[:5]


def test_questions_of_one_length_do_not_all_get_the_same_distractors() -> None:
    questions = [asked(f"q{i}", f"answer {i:03}") for i in range(200)]
    counts = Counter(answer for found in choose_distractors(questions, 0, 4) if found for answer in found.answers[1:])
    assert len(counts) > 190
    assert max(counts.values()) <= 20  # 4 each on average


def test_what_has_no_reference_or_nothing_to_stand_against_has_no_candidates() -> None:
    beginning = Question("t", "f", None, None, None, "Once upon", " a time")
    questions = [asked("a", ""), asked("b", "one"), asked("c", "One."), beginning]
    assert choose_distractors(questions, 0)[0] is None
    assert choose_distractors([questions[1], questions[2]], 0) == [None, None]  # equal but for case and signs
    assert choose_distractors(questions, 0)[3] is None


# -- under a model


def rank_answers(
    model: Decoder,
    tok: Tokenizer,
    questions: Sequence[Question],
    candidates: Sequence[Candidates | None],
    seq_len: int,
    batch_rows: int | None = None,
) -> list[dict[str, Any]]:
    """`rank` of a model in memory."""

    def losses(table: pa.Table) -> DocumentLosses:
        return document_losses(model, encode_table(table, tok), seq_len, batch_rows=batch_rows)

    return rank(losses, questions, candidates, seq_len)


def plain_nats_per_byte(model: Decoder, tok: Tokenizer, question: Question, answer: str) -> float:
    """The answer's tokens behind the prompt, alone, by torch's own cross entropy."""
    prompt, ids = render_prompt(tok, question.question or "", question.context), tok.encode(answer)
    window = torch.tensor([prompt + ids])
    with torch.no_grad():
        logits = model.logits(model(window[:, :-1]))[0]
    nll = F.cross_entropy(logits.double(), window[0, 1:], reduction="none")
    return float(nll[-len(ids) :].sum()) / len(answer.encode())


def test_nats_per_byte_are_those_of_a_plain_computation(model: Decoder, tok: Tokenizer) -> None:
    questions = of_corpus(make_rows(32, seed=2))
    candidates = choose_distractors(questions, 0, 3)
    for question, found in zip(questions, rank_answers(model, tok, questions, candidates, SEQ_LEN), strict=True):
        expected = [plain_nats_per_byte(model, tok, question, answer) for answer in found["candidates"]]
        assert found["nats_per_byte"] == pytest.approx(expected, rel=3e-5)
        better = sum(value < expected[0] for value in expected[1:])
        assert found["ranked_first"] == float(better == 0)
        assert found["reciprocal_rank"] == pytest.approx(1 / (1 + better))


def test_batch_size_and_order_move_nothing_by_more_than_1e_5(model: Decoder, tok: Tokenizer) -> None:
    questions = of_corpus(make_rows(64, seed=2))
    candidates = choose_distractors(questions, 0)
    first = rank_answers(model, tok, questions, candidates, SEQ_LEN, batch_rows=4)
    others = [rank_answers(model, tok, questions, candidates, SEQ_LEN, batch_rows=rows) for rows in (1, 3, 500)]
    others.append(rank_answers(model, tok, questions[::-1], candidates[::-1], SEQ_LEN)[::-1])
    others.append([rank_answers(model, tok, [q], [c], SEQ_LEN)[0] for q, c in zip(questions, candidates, strict=True)])
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a["nats_per_byte"] == pytest.approx(b["nats_per_byte"], abs=1e-5)
            assert (a["ranked_first"], a["candidates"]) == (b["ranked_first"], b["candidates"])


def test_a_model_that_learned_the_answers_ranks_them_first_and_one_that_learned_nothing_is_at_chance(
    tok: Tokenizer,
) -> None:
    rows = [
        {"kind": "qa", "id": str(i), "question": f"{thing}?", "answer": f"{THINGS[i - 3]} {THINGS[i - 7]}"}
        for i, thing in enumerate(THINGS)
    ]
    questions = [asked(row["question"], row["answer"]) for row in rows]
    candidates = choose_distractors(questions, 0, 3)
    model = make_model(tok.vocab_size, seed=0)

    def share() -> float:
        found = rank_answers(model, tok, questions, candidates, SEQ_LEN)
        return sum(row["ranked_first"] for row in found) / len(found)

    before = [share()]
    for seed in range(1, 20):
        model = make_model(tok.vocab_size, seed=seed)
        before.append(share())
    assert 0.15 < np.mean(before) < 0.35  # 1 of 4
    learn(model, encode_table(make_table(rows), tok), 150)
    assert share() == 1.0


def test_what_does_not_fit_the_context_is_not_ranked_and_changes_no_other(model: Decoder, tok: Tokenizer) -> None:
    questions = of_corpus(make_rows(32, seed=2))
    candidates = choose_distractors(questions, 0)
    long = asked("why " * SEQ_LEN, "because")
    alone = rank_answers(model, tok, questions, candidates, SEQ_LEN)
    found = rank_answers(
        model, tok, [long, *questions], [Candidates(("because", "therefore"), 1), *candidates], SEQ_LEN
    )
    assert found[0]["not_ranked"] == "a candidate does not fit the context"
    assert found[0]["ranked_first"] is None
    for a, b in zip(found[1:], alone, strict=True):
        assert a["nats_per_byte"] == pytest.approx(b["nats_per_byte"], abs=1e-5)


@pytest.mark.parametrize("spare", [0, -1])
def test_the_context_is_full_to_the_last_token(model: Decoder, tok: Tokenizer, spare: int) -> None:
    """A document of seq_len + 1 tokens has seq_len targets, its eos among them: one piece."""
    question = asked("why", "because")
    length = len(render_prompt(tok, "why")) + max(len(tok.encode(text)) for text in ("because", "therefore")) + 1
    (found,) = rank_answers(model, tok, [question], [Candidates(("because", "therefore"), 1)], length - 1 + spare)
    assert (found["ranked_first"] is None) is (spare < 0)


def test_without_candidates_nothing_is_ranked(model: Decoder, tok: Tokenizer) -> None:
    questions = of_corpus(make_rows(8, seed=2))
    for given in ([None] * len(questions), [None, *choose_distractors(questions, 0)[1:]]):
        found = rank_answers(model, tok, questions, given, SEQ_LEN)
        assert found[0]["not_ranked"] == "no distractors"
        assert [row["ranked_first"] is None for row in found] == [one is None for one in given]
    assert rank_answers(model, tok, [], [], SEQ_LEN) == []


def test_equally_likely_answers_share_a_place() -> None:
    assert ranking._places([1.0, 1.0, 2.0])["ranked_first"] == 0.5
    assert ranking._places([1.0, 1.0, 2.0])["reciprocal_rank"] == pytest.approx((1 + 1 / 2) / 2)
    assert ranking._places([1.0, 0.5, 1.0])["ranked_first"] == 0.0
    assert ranking._places([1.0, 0.5, 1.0])["reciprocal_rank"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_chance_is_what_random_figures_reach() -> None:
    generator = random.Random(0)
    sizes = [2, 3, 5]
    candidates = [Candidates(tuple(map(str, range(size))), 0) for size in sizes]
    found = [[ranking._places([generator.random() for _ in range(size)]) for size in sizes] for _ in range(4000)]
    levels = chance(candidates, found[0])
    for i, level in enumerate(levels):
        for score, expected in level.items():  # deviation of 4,000 draws: at most 0.008
            assert np.mean([trial[i][score] for trial in found]) == pytest.approx(expected, abs=0.03)
    assert [level["ranked_first"] for level in levels] == [1 / 2, 1 / 3, 1 / 5]
    assert chance([None], [ranking._unranked("no distractors")])[0]["ranked_first"] is None


def test_chance_stands_beside_the_share_in_a_table(model: Decoder, tok: Tokenizer) -> None:
    questions = of_corpus(make_rows(32, seed=2))
    candidates = choose_distractors(questions, 0, 4)
    found = rank_answers(model, tok, questions, candidates, SEQ_LEN)
    cell = tables(questions, found, {"chance": chance(candidates, found)}, 1000, 0)["all"]["scores"]["ranked_first"]
    assert cell["baselines"] == {"chance": pytest.approx(1 / 5)}
    assert cell["num_questions"] == len(questions)
