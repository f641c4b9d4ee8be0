"""Refusals, talk as a machine and courtesy; and people who say the like."""

import random

import pytest

from tests.data.detect.made_refusals import BY_GRAMMAR, FRAMES, IN_NOVELS, NO_REFUSALS, OF_PEOPLE, REFUSALS, WHOLE_TEXTS
from tests.data.detect.made_signs import NOUNS, evidence, found, kinds, prose, qa, text


@pytest.mark.parametrize("answer", REFUSALS)
def test_refusals_and_talk_as_a_machine_are_found_in_answers(answer: str) -> None:
    assert "refusal" in kinds(qa(answer))
    assert "refusal" in kinds(qa("The harbour is old. " + answer))


@pytest.mark.parametrize("answer", NO_REFUSALS)
def test_answers_about_refusals_and_machines_are_none(answer: str) -> None:
    assert "refusal" not in kinds(qa(answer))


@pytest.mark.parametrize("seed", range(5))
def test_far_into_an_answer_a_refusal_is_one_where_it_speaks_of_what_was_asked(seed: int) -> None:
    dice = random.Random(seed)
    before = prose(dice, 6)
    assert evidence(qa(f"{before} I am unable to answer that."), "refusal") == ["I am unable to answer"]
    for late in (
        f"I am unable to carry the {dice.choice(NOUNS)}.",
        f"I cannot see the {dice.choice(NOUNS)} from here.",
        f"He was unable to answer the {dice.choice(NOUNS)}'s question.",
        f"The {dice.choice(NOUNS)} could not answer that.",
    ):
        assert "refusal" not in kinds(qa(f"{before} {late}")), late


def test_a_question_refuses_nothing() -> None:
    assert "refusal" not in kinds(qa("Yes, it does.", "I cannot answer that question. Can you?"))


def test_in_a_text_only_what_no_person_says_is_machine_talk() -> None:
    assert "refusal" not in kinds(text("“I am sorry, but I cannot,” said Elizabeth. “I cannot answer that question.”"))
    assert "refusal" in kinds(text("The night was dark. As an AI language model, I cannot continue this story."))
    assert "refusal" in kinds(text("I'm sorry, but I can't assist with that request."))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("Sure! Here is the answer: 42", "opening"),
        ("Great question! The heart pumps blood.", "opening"),
        ("It is 42. I hope this helps!", "closing"),
        ("Paris. Let me know if you have any other questions.", "closing"),
        ("Sure enough, it rained.", None),
        ("He sets out and hopes this helps him.", None),
        ("Dear Ann, we meet at noon. Let me know if you have any other questions. Regards, Tom", None),
    ],
)
def test_politeness_around_an_answer_is_named(answer: str, what: str | None) -> None:
    details = [sign.detail for sign in found(qa(answer), "refusal")]
    assert [f"an assistant's {what}" in detail for detail in details] == ([True] if what else [])


# -- by grammar


@pytest.mark.parametrize("answer", BY_GRAMMAR)
def test_refusals_are_told_by_who_speaks_what_is_lacked_and_why(answer: str) -> None:
    assert "refusal" in kinds(qa(answer))


@pytest.mark.parametrize("answer", FRAMES)
def test_what_an_assistant_says_around_an_answer_is_named(answer: str) -> None:
    assert "refusal" in kinds(qa(answer))


@pytest.mark.parametrize("answer", OF_PEOPLE)
def test_what_people_lack_ask_and_forbid_refuses_nothing(answer: str) -> None:
    assert "refusal" not in kinds(qa(answer))


@pytest.mark.parametrize("seed", range(6))
def test_behind_an_answer_a_refusal_of_now_counts_and_one_of_the_past_does_not(seed: int) -> None:
    dice = random.Random(seed)
    before = prose(dice, dice.randint(1, 8))
    assert "refusal" in kinds(qa(f"{before} I cannot answer this question, as it violates our policies."))
    assert "refusal" not in kinds(qa(f"{before} He could not answer this question, as it was too hard."))


# -- direct speech

SAID = ["“{}”", '"{}"', "«{}»", "‘{}’"]


@pytest.mark.parametrize("marks", SAID)
@pytest.mark.parametrize("said", ["I cannot answer that question.", "I'm sorry, but I can't help with that request."])
def test_what_somebody_says_in_an_answer_is_no_refusal_but_a_quoted_answer_is_one(marks: str, said: str) -> None:
    dice = random.Random(marks + said)
    spoken = marks.format(said.replace("'", "’"))
    assert "refusal" not in kinds(qa(f"{spoken} said the {dice.choice(NOUNS)}, and left."))
    assert "refusal" not in kinds(qa(f"The {dice.choice(NOUNS)} spoke: {spoken} Then it left."))
    assert "refusal" in kinds(qa(said))
    assert "refusal" in kinds(qa(spoken))


def test_the_speakers_of_a_dialogue_refuse_for_themselves() -> None:
    dialogue = "Anna: Where were you?\nTom: I cannot answer that question.\nAnna: Why not?\nTom: I am late."
    assert "refusal" not in kinds(qa(dialogue))
    assert "refusal" in kinds(qa("Answer: I cannot answer that question."))


# -- texts

IN_TEXTS = [
    "I am unable to continue this request, as it goes against the content guidelines.",
    "Sorry, but I cannot provide any more information on this topic.",
    "My guidelines do not allow me to generate this content.",
]


@pytest.mark.parametrize("refusal", IN_TEXTS)
def test_a_sentence_that_refuses_a_task_is_found_in_a_long_text_outside_of_speech(refusal: str) -> None:
    dice = random.Random(refusal)
    before, after = prose(dice, 9), prose(dice, 9)
    (sign,) = found(text(f"{before} {refusal} {after}"), "refusal")
    assert len(before) < sign.start < len(before) + len(refusal)
    assert "refusal" not in kinds(text(f"{before} “{refusal}” said the {dice.choice(NOUNS)}. {after}"))


@pytest.mark.parametrize("refusal", WHOLE_TEXTS)
def test_a_short_text_that_refuses_as_a_whole_is_found(refusal: str) -> None:
    assert "refusal" in kinds(text(refusal))


@pytest.mark.parametrize("told", IN_NOVELS)
def test_what_a_novel_tells_refuses_nothing(told: str) -> None:
    dice = random.Random(told)
    assert "refusal" not in kinds(text(told))
    assert "refusal" not in kinds(text(f"{prose(dice, 6)} {told} {prose(dice, 6)}"))
