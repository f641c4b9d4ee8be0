"""What the tests of the audit make: words, texts and rows by a seed, and a store of rows without any file."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.columns import ROW_COLUMNS
from data.detect.sketch import ngrams, signatures, word_hashes
from data.facts import COUNTED, Settings, facts_of
from data.store import Store

SYLLABLES = [a + b for a in "bdfghklmnprst" for b in "aeio"]


def vocabulary(seed: int, number: int = 3000) -> list[str]:
    """Distinct invented words of two to four syllables."""
    dice = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(dice.choice(SYLLABLES) for _ in range(dice.randint(2, 4)))] = None
    return list(found)


WORDS = vocabulary(0)


def some_words(dice: random.Random, number: int) -> list[str]:
    return [dice.choice(WORDS) for _ in range(number)]


def sentence(dice: random.Random, least: int = 8, most: int = 14) -> str:
    return " ".join(some_words(dice, dice.randint(least, most))).capitalize() + "."


def passage(dice: random.Random, sentences: int) -> str:
    return " ".join(sentence(dice) for _ in range(sentences))


def qa(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(ROW_COLUMNS), "kind": "qa", "source": "s", "question": question, "answer": answer, **more}


def text(content: str, **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(ROW_COLUMNS), "kind": "text", "source": "s", "text": content, **more}


def natural_qa(dice: random.Random, number: int) -> list[dict[str, Any]]:
    """Rows that have nothing in common but the words they are made of."""
    return [qa(sentence(dice)[:-1] + "?", passage(dice, dice.randint(1, 3))) for _ in range(number)]


def signatures_of(texts: list[str]) -> np.ndarray:
    """uint16 (N, NUM_HASHES), of 2-grams, as data/facts.py makes them."""
    return signatures(*ngrams(*word_hashes(texts), 2))


def stored(rows: Iterable[dict[str, Any]], folder: Path, batch: int = 7, sources: Sequence[str] = ("s",)) -> Store:
    """A store of rows, put into it a few at a time; a row without an origin gets its place."""
    store = Store(folder)
    lines = [json.dumps({**row, "origin": row["origin"] or f"f:{i}"}) for i, row in enumerate(rows, 1)]
    for start in range(0, len(lines), batch):
        store.add(facts_of(lines[start : start + batch], Settings(tuple(sources), 8)).drop_columns(list(COUNTED)))
    return store.sorted()


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Question and answer, or text, a line each."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            kept = {name: value for name, value in row.items() if value is not None and name not in ("kind", "source")}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    return path


# -- English, where language and the way that texts end matter

_ENGLISH = """
river stone garden letter window mountain teacher engine summer market bridge doctor forest signal harbour village
kitchen painter station morning lantern captain orchard chapel journey merchant tunnel soldier library captive

crosses follows shows needs keeps changes leaves finds carries breaks watches repairs paints forgets

old quiet narrow yellow distant broken famous gentle hollow northern patient wooden curious empty

near behind above beside inside towards beyond around without against under across
"""
NOUNS, VERBS, KINDS, PLACES = (part.split() for part in _ENGLISH.split("\n\n"))


def english(dice: random.Random) -> str:
    """A sentence of English words; two of a thousand are seldom alike in more than a few."""
    noun = lambda: f"{dice.choice(KINDS)} {dice.choice(NOUNS)}"  # noqa: E731
    forms = [
        lambda: f"The {noun()} {dice.choice(VERBS)} a {noun()} {dice.choice(PLACES)} the {dice.choice(NOUNS)}.",
        lambda: f"{dice.choice(PLACES).capitalize()} the {dice.choice(NOUNS)} every {noun()} {dice.choice(VERBS)} it.",
        lambda: f"Nobody knows why the {dice.choice(NOUNS)} {dice.choice(VERBS)} {dice.choice(NOUNS)} and {noun()}.",
        lambda: f"It was {dice.choice(KINDS)}, for some {noun()} {dice.choice(VERBS)} what that {noun()} left.",
        lambda: f"Her {noun()} and his {dice.choice(NOUNS)} were {dice.choice(KINDS)} long before {noun()}s came.",
        lambda: f"When {dice.choice(NOUNS)}s were {dice.choice(KINDS)}, one {dice.choice(VERBS)} {noun()}s at night.",
    ]
    return dice.choice(forms)()


def english_qa(dice: random.Random, number: int) -> list[dict[str, Any]]:
    """Questions of one English sentence, answers of two to four."""
    found = []
    for _ in range(number):
        asked = english(dice)
        question = f"Why is it that {asked[0].lower()}{asked[1:-1]}?"
        found.append(qa(question, " ".join(english(dice) for _ in range(dice.randint(2, 4)))))
    return found
