"""Refusals, talk as a machine and courtesy; and people who say the like."""

import random

import pytest

from tests.data.detect.made_signs import NOUNS, evidence, found, kinds, prose, qa, text

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "As an AI language model, I do not have personal opinions.",
    "As an AI, I don't have access to real-time information.",
    "I apologize, but I am unable to provide that information.",
    "Unfortunately, I don't have enough information to answer this question.",
    "I'm not able to help with that.",
    "I cannot provide an answer to that question.",
    "I won't be able to answer that.",
    "I must respectfully decline.",
    "I'd rather not discuss this topic.",
    "I'm afraid I can't do that.",
    "I am only a language model and cannot form opinions.",
    "My knowledge cutoff is September 2021.",
    "It would be inappropriate for me to answer that.",
    "I'm not comfortable answering that question.",
    "That is outside the scope of my knowledge.",
    "I don't know the answer to that question.",
    "I lack the information needed to answer.",
    "The assistant cannot answer this question.",
    "Unable to answer.",
    "This type of task cannot be completed by a GPT model.",
    "I was trained by OpenAI and cannot access current data.",
    "Lo siento, pero no puedo ayudar con eso.",
    "抱歉，我无法回答这个问题。",
]
NO_REFUSALS = [
    "I'm sorry to hear that. Based on your symptoms you may have the flu.",
    "The patient cannot walk and is unable to speak.",
    "An AI is a system that can learn. A language model assigns probabilities to strings.",
    "The king refused to answer the question and left.",
    "As an AI researcher, she wrote many papers.",
    "You cannot divide by zero.",
    "I Can't Help Myself (Sugar Pie, Honey Bunch)",
    "Of course he ate 5 apples.",
    "This task can be solved in linear time.",
    "const s = 'I am an AI language model';\nconsole.log(s);",
]


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
