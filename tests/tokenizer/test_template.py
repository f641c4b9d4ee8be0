"""One template: what is trained, what is asked, and what other engines render are the same ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenizer.bpe import Tokenizer
from tokenizer.template import (
    ASSISTANT,
    BOS,
    CONTEXT,
    EOS,
    IN_ANSWER,
    IN_CONTEXT,
    IN_QUESTION,
    IN_TEXT,
    MARKER,
    PAD,
    SPECIAL_TOKENS,
    USER,
    render,
    render_prompt,
    roles,
)

CONTENTS = [
    ("What is a qubit?", "A two-level system.", None),
    ("  spaces kept  ", "\nand newlines\n", "context\twith tab"),
    ("cre\u0300me bru\u0302le\u0301e?", "ไม่รู้ 👩\u200d👧", ""),
    ("", "an empty question", None),
]


@pytest.fixture(scope="module")
def auto(tokenizer_folder: Path) -> Any:
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tokenizer_folder)


def messages(question: str, answer: str | None, context: str | None) -> list[dict[str, str]]:
    turns = [("context", context), ("user", question), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in turns if content is not None]


@pytest.mark.parametrize(("question", "answer", "context"), CONTENTS)
def test_apply_chat_template_gives_the_ids_of_a_training_row(
    tok: Tokenizer, auto: Any, question: str, answer: str, context: str | None
) -> None:
    ours = render(tok, {"text": None, "question": question, "answer": answer, "context": context})
    theirs = auto.apply_chat_template(messages(question, answer, context), tokenize=True, return_dict=False)
    assert theirs == ours


@pytest.mark.parametrize(("question", "answer", "context"), CONTENTS)
def test_a_prompt_is_the_beginning_of_the_training_row(
    tok: Tokenizer, auto: Any, question: str, answer: str, context: str | None
) -> None:
    prompt = render_prompt(tok, question, context)
    row = render(tok, {"question": question, "answer": answer, "context": context})
    assert row == [*prompt, *tok.encode(answer), EOS]
    chat = messages(question, None, context)
    assert auto.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False) == prompt


def test_history_is_rendered_turn_by_turn_with_one_bos(tok: Tokenizer, auto: Any) -> None:
    prompt = render_prompt(tok, "And then?", history=[("First?", "One."), ("Second?", "Two.")])
    assert prompt.count(BOS) == 1
    assert prompt.count(EOS) == 2
    turns = [
        *messages("First?", "One.", None),
        *messages("Second?", "Two.", None),
        *messages("And then?", None, None),
    ]
    assert auto.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False) == prompt


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_the_exported_template_raises_on_content_that_spells_a_special_token(auto: Any, special: str) -> None:
    with pytest.raises(Exception, match="special token"):
        auto.apply_chat_template(messages(f"say {special} please", None, None), tokenize=True)


def test_an_unknown_role_raises(auto: Any) -> None:
    with pytest.raises(Exception, match="roles are"):
        auto.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=True)


def test_every_document_has_one_bos_first_one_eos_last_and_distinct_specials(tok: Tokenizer) -> None:
    for document in ({"text": "prose <|eos|>"}, {"question": "q <|bos|>", "answer": "a", "context": "c"}):
        ids = render(tok, document)
        assert ids[0] == BOS
        assert ids[-1] == EOS
        assert ids.count(BOS) == ids.count(EOS) == 1
    assert len({PAD, BOS, EOS, USER, ASSISTANT, CONTEXT}) == 6


def test_roles_follow_the_markers(tok: Tokenizer) -> None:
    question, answer, context, text = (tok.encode(s) for s in ("why?", "because.", "given", "prose"))
    ids = [BOS, CONTEXT, *context, USER, *question, ASSISTANT, *answer, EOS, BOS, *text, EOS]
    expected = (
        [MARKER, MARKER] + [IN_CONTEXT] * len(context) + [MARKER] + [IN_QUESTION] * len(question) + [MARKER]
        + [IN_ANSWER] * len(answer) + [MARKER, MARKER] + [IN_TEXT] * len(text) + [MARKER]
    )  # fmt: skip
    assert roles(np.asarray(ids, dtype=np.uint16)).tolist() == expected
