"""Which language a row is in, and whether that is its source's.

    a sample of the source -> py3langid -> the main language and its commonest words
    a row -> enough of these words: the main language; else py3langid, which takes 100 times as long

py3langid tells 97 languages and more by byte n-grams, and is sure of few words only where they are a script of their
own: texts of fewer than MIN_LETTERS letters are left alone, and it must be sure by CERTAIN that a row is not in the
main language.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from data.detect.words import words

SAMPLED = 500  # rows of a source
COMMON = 150  # words
LOOKED_AT = 400  # characters of a row
MIN_LETTERS, MIN_FOREIGN, MIN_WORDS = 24, 8, 5
CERTAIN, LIKELY = 0.99, 0.5
ACCEPTED = 0.02  # of the main language's rows may have fewer common words than what decides


@dataclass(frozen=True)
class MainLanguage:
    """A source's main language: ISO 639-1, its commonest words, the share of them that says enough, its script."""

    code: str
    common: frozenset[str]
    least: float
    latin: bool


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str) -> dict[str, float]:
    """How sure each language is (ISO 639-1, adding up to 1), surest first; empty for a text that is too short."""
    text = text[:LOOKED_AT]
    letters = [character for character in text if character.isalpha()]
    if len(letters) < (MIN_LETTERS if foreign(letters) < 0.5 else MIN_FOREIGN) or len(words(text)) < MIN_WORDS:
        return {}
    return {str(code): float(sure) for code, sure in _identifier().rank(text)}


def foreign(letters: list[str]) -> float:
    """The share of letters that are of no Latin script."""
    return sum(letter > "\u024f" for letter in letters) / max(1, len(letters))


def main_language(texts: list[str]) -> MainLanguage | None:
    """Of a sample of a source's rows; None where too few of them are long enough to tell."""
    found = [(text, next(iter(identify(text).items()), ("", 0.0))) for text in texts]
    counts: dict[str, float] = {}
    for _, (code, sure) in found:  # Standard Arabic is seldom certain, as its sisters are so near: all rows have a say
        if sure >= LIKELY:
            counts[code] = counts.get(code, 0.0) + sure
    if not counts:
        return None
    code = max(counts, key=lambda code: (counts[code], code))
    own_texts = [
        (text[:LOOKED_AT], sure) for text, (found_code, sure) in found if found_code == code and sure >= LIKELY
    ]
    chosen_texts = [text for text, sure in own_texts if sure >= CERTAIN] or [text for text, _ in own_texts]
    own = [words(text) for text in chosen_texts]
    latin = float(np.median([foreign([c for c in text if c.isalpha()]) for text in chosen_texts])) < 0.5
    common = Counter(word for of in own for word in set(of))
    chosen = frozenset(word for word, _ in sorted(common.items(), key=lambda item: (-item[1], item[0]))[:COMMON])
    shares = [_share(of, chosen) for of in own]
    return MainLanguage(code, chosen, float(np.quantile(shares, ACCEPTED)), latin)


def _share(of: list[str], common: frozenset[str]) -> float:
    return sum(map(common.__contains__, of)) / max(1, len(of))


def other_language(text: str, main: MainLanguage) -> str:
    """The code of a text's language where it is surely not the main one, else ""."""
    if _share(words(text[:LOOKED_AT]), main.common) >= main.least:
        return ""
    sure = identify(text)
    if not sure:
        return ""
    code = next(iter(sure))
    # Two variants of a language (zh, yue) may share what is sure, and no Arabic text is English.
    other_script = main.latin and foreign([c for c in text[:LOOKED_AT] if c.isalpha()]) > 0.5
    return code if code != main.code and (other_script or sure.get(main.code, 0.0) <= 1 - CERTAIN) else ""
