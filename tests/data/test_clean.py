"""Cleaning: identity by content, a stated equality, and steps in the invariant's order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clean import clean_row, content_id, equality_key


def row(question: str | None = None, answer: str | None = None, text: str | None = None, **more: Any) -> dict[str, Any]:
    kind = "text" if text is not None else "qa"
    content = {"kind": kind, "text": text, "context": None, "question": question, "answer": answer}
    return {**content, "reason": None, "detail": None, "origin": "x", **more}


@given(st.text(), st.text(), st.text(), st.text())
def test_documents_have_one_id_only_if_all_their_fields_are_equal(a: str, b: str, c: str, d: str) -> None:
    assert (content_id(row(a, b)) == content_id(row(c, d))) == ((a, b) == (c, d))
    assert content_id(row(a, b)) != content_id(row(text=a + b))
    assert content_id(row(a, b)) != content_id(row(a, b, context=""))


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("two  words\r\n", " two\twords", True),
        ("cafe\u0301", "caf\u00e9", True),
        ("print(X)", "print(x)", False),
        ("a, b", "a b", False),
        ("twowords", "two words", False),
        ("\ufb01", "fi", False),
    ],
)
def test_equality_ignores_composition_and_the_amount_of_white_space_only(a: str, b: str, equal: bool) -> None:
    assert (equality_key(row(text=a)) == equality_key(row(text=b))) == equal


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (row("a question", ""), "empty"),
        (row("a question", " \n\u00a0"), "empty"),
        (row("a question", None), "empty"),
        (row("", "an answer"), "empty"),
        (row(text="\n\n"), "empty"),
        (row("a?", "b"), "too_short"),
        (row(text="  seven77\n\n"), "too_short"),
        (row("Is it?", "No"), None),
        (row(text="eight888"), None),
        (row("早い?", "はい"), None),
    ],
)
def test_empty_and_too_short_rows_are_rejected(document: dict[str, Any], reason: str | None) -> None:
    assert clean_row(document, min_bytes=8)["reason"] == reason


def test_a_skipped_step_does_not_run_and_a_rejected_row_keeps_its_first_reason() -> None:
    assert clean_row(row("a?", "b"), min_bytes=8, steps=["empty"])["reason"] is None
    assert clean_row(row(text="", reason="encoding"), min_bytes=8)["reason"] == "encoding"


@pytest.mark.parametrize("document", [row(None, "an answer"), row("a question", None), row(text=None)])
def test_what_is_null_is_rejected_whatever_is_skipped(document: dict[str, Any]) -> None:
    assert clean_row(document, min_bytes=0, steps=[])["reason"] == "empty"
