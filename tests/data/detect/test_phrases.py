"""Stock phrases are named with the place where they stand and the number of rows that have them."""

import random

from data.detect.boilerplate import stock_phrases
from data.detect.phrases import phrases_of
from tests.data.made_rows import passage, qa


def test_phrases_are_counted_by_place() -> None:
    dice = random.Random(9)
    rows = [qa("?", passage(dice, 3)) for _ in range(60)]
    for i, row in enumerate(rows):
        if i % 2 == 0:
            row["answer"] = "Based on your words, " + row["answer"]
        if i % 3 == 0:
            row["answer"] += " I hope that this helps you."
    answers = [row["answer"] for row in rows]
    stock = stock_phrases([answers], len(rows))
    found = phrases_of([(i, answer, stock) for i, answer in enumerate(answers)])
    assert [(c["where"], c["count"], c["text"]) for c in found] == [
        ("opening", 30, "Based on your words,"),
        ("ending", 20, "I hope that this helps you."),
    ]
    assert found[0]["rows"] == list(range(0, 60, 2))[:20]
