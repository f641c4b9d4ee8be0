"""Pieces of an answer: together the answer, each with what it is."""

import random
from typing import Any

import pytest

from eval.marks import found_spans, pieces


def said(keywords: list[str], **more: Any) -> dict[str, Any]:
    return {"verbatim": more or None, "scores": {"keywords_found": keywords}}


def test_pieces_are_the_text_in_turns() -> None:
    text = "The river is blue, as all rivers are."
    own = said(["river"], spans=[(0, 12)], stock_spans=[(17, 36)])
    assert pieces(text, own) == [
        ("The ", "verbatim"),
        ("river", "verbatim keyword"),
        (" is", "verbatim"),
        (" blue", ""),
        (", as all ", "stock"),
        ("rivers", "stock keyword"),
        (" are", "stock"),
        (".", ""),
    ]
    assert pieces("", said(["x"])) == []
    assert pieces("plain", said([])) == [("plain", "")]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_together_are_the_text_whatever_overlaps(seed: int) -> None:
    dice = random.Random(seed)
    text = "".join(dice.choice("ab é漢\n<&.") for _ in range(dice.randint(1, 60)))
    ends = [sorted(dice.choices(range(len(text) + 1), k=2)) for _ in range(6)]
    own = said(["ab", "é"], spans=[(a, b) for a, b in ends[:3]], stock_spans=[(a, b) for a, b in ends[3:]])
    found = pieces(text, own)
    assert "".join(piece for piece, _ in found) == text
    at = 0
    for piece, kinds in found:
        for place in range(at, at + len(piece)):
            assert ("verbatim" in kinds) == any(a <= place < b for a, b in own["verbatim"]["spans"])
            assert ("stock" in kinds) == any(a <= place < b for a, b in own["verbatim"]["stock_spans"])
        at += len(piece)


def test_keywords_are_marked_as_they_were_found() -> None:
    text = "Rivers carry sand; the state |0> is measured twice. Catalogue."
    marked = {text[a:b] for a, b in found_spans(text, ["river", "carries", "|0>", "cat", "measure twice"])}
    assert marked == {"Rivers", "carry", "|0>", "measured twice"}
    assert found_spans("天空是蓝色的。", ["蓝色"]) == [(3, 5)]
