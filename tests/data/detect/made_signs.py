"""What the tests of signs make: rows of one answer or text, prose by a seed, and what signs tell of a row."""

import random
from typing import Any

from data.detect.signs import Sign, signs

NOUNS = [
    "river",
    "stone",
    "garden",
    "letter",
    "window",
    "mountain",
    "teacher",
    "engine",
    "summer",
    "market",
    "bridge",
    "doctor",
    "forest",
    "signal",
    "harbour",
]
VERBS = ["crosses", "follows", "shows", "needs", "keeps", "changes", "leaves", "finds", "carries", "breaks"]


def qa(answer: str, question: str = "What is it?", **more: Any) -> dict[str, Any]:
    return {"kind": "qa", "text": None, "context": None, "question": question, "answer": answer, **more}


def text(content: str) -> dict[str, Any]:
    return {"kind": "text", "text": content, "context": None, "question": None, "answer": None}


def kinds(row: dict[str, Any]) -> set[str]:
    return {sign.kind for sign in signs(row)}


def found(row: dict[str, Any], kind: str) -> list[Sign]:
    return [sign for sign in signs(row) if sign.kind == kind]


def evidence(row: dict[str, Any], kind: str) -> list[str]:
    return [row[sign.field][sign.start : sign.end] for sign in found(row, kind)]


def sentence(dice: random.Random) -> str:
    words = [f"the {dice.choice(NOUNS)} {dice.choice(VERBS)} the {dice.choice(NOUNS)}"]
    words += [f"{dice.choice(['and', 'while', 'because', 'until'])} the {dice.choice(NOUNS)} {dice.choice(VERBS)} it"]
    return (" ".join(words) + f" {dice.randrange(1000)} times.").capitalize()


def prose(dice: random.Random, num: int) -> str:
    return " ".join(sentence(dice) for _ in range(num))
