"""Languages: a row in another one than its source's is named; one in its own, or that says too little, is not."""

import csv
import gzip
import json
import os
from pathlib import Path

import pytest

from data.detect.languages import CERTAIN, MIN_WORDS, MainLanguage, identify, main_language, other_language

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
real = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder")

TEXTS = {
    "en": "All human beings are born free and equal in dignity and rights, and should act towards one another well.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren und sollen einander brüderlich begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits, et doivent être frères.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y deben comportarse fraternalmente "
    "los unos con los otros. Toda persona tiene derecho a la educación, que debe ser gratuita.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах и должны поступать в духе братства.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα και έχουν "
    "συνείδηση. Καθένας έχει δικαίωμα στην "
    "εκπαίδευση, που πρέπει να παρέχεται δωρεάν "
    "τουλάχιστον στη στοιχειώδη βαθμίδα της.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا "
    "لكل شخص حق التمتع بجنسية ما ولا يجوز "
    "حرمان أي شخص من جنسيته تعسفا أو إنكار حقه في تغييرها",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 서로 형제애로 행동하여야 한다.",
}  # fmt: skip


def learned(language: str) -> MainLanguage:
    halves = TEXTS[language].split()
    texts = [TEXTS[language]] * 5 + [" ".join(halves[i:] + halves[:i]) for i in range(min(8, len(halves)))]
    main = main_language(texts)
    assert main is not None
    return main


@pytest.mark.parametrize("language", TEXTS)
def test_a_sample_tells_the_main_language(language: str) -> None:
    main = learned(language)
    assert main.code == language
    assert main.latin == (language in ("en", "de", "fr", "es"))


@pytest.mark.parametrize("language", TEXTS)
def test_texts_of_other_languages_are_named_and_own_ones_are_not(language: str) -> None:
    main = learned(language)
    found = {other: other_language(text, main) for other, text in TEXTS.items()}
    assert found == {other: "" if other == language else other for other in TEXTS}


def test_a_few_rows_of_another_language_do_not_change_the_main_one() -> None:
    main = main_language([TEXTS["en"]] * 20 + [TEXTS["de"]] * 9)
    assert main is not None
    assert main.code == "en"
    assert main_language([]) is None


def test_a_language_that_is_never_certain_is_not_overruled_by_one_row_of_another() -> None:
    """Standard Arabic shares what is sure with its sisters; short English rows are certain."""
    texts = [TEXTS["ar"]] * 20 + [TEXTS["en"]]
    assert next(iter(identify(TEXTS["ar"]).values())) < CERTAIN < next(iter(identify(TEXTS["en"]).values()))
    main = main_language(texts)
    assert main is not None
    assert main.code == "ar"
    assert other_language(TEXTS["ar"], main) == ""
    assert other_language(TEXTS["en"], main) == "en"


def test_too_little_to_tell_is_no_main_language() -> None:
    assert main_language([]) is None
    assert main_language(["yes", "no", "1912", ""] * 50) is None


@pytest.mark.parametrize(
    "text", ["", "1912", "Berlin", "Rio de Janeiro", "ja, nein", "x = y + 1; z = 2", "자유", "Ja!"]
)
def test_what_says_too_little_is_no_other_language(text: str) -> None:
    assert other_language(text, learned("en")) == ""
    assert sum(identify(text).values()) == pytest.approx(1.0 if identify(text) else 0.0)


def test_sister_languages_that_share_what_is_sure_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    main = MainLanguage("zh", frozenset(), 1.0, False)
    cases = [({"yue": 0.9, "zh": 0.1}, ""), ({"yue": 0.995, "zh": 0.005}, "yue"), ({"zh": 0.6, "yue": 0.4}, "")]
    for sure, found in cases:
        monkeypatch.setattr("data.detect.languages.identify", lambda text, sure=sure: sure)
        assert other_language("an unknown text", main) == found


def test_a_name_or_a_quotation_in_another_language_is_no_other_language() -> None:
    main = learned("en")
    quoted = f"{TEXTS['en']} The German text begins with the words “Alle Menschen sind frei”, and that is all of it."
    assert other_language(quoted, main) == ""
    assert (
        other_language("All beings are born in Düsseldorf-Unterbilk and act in Château-Thierry, and are well.", main)
        == ""
    )


def test_probabilities_add_up_and_the_surest_is_first() -> None:
    for language, text in TEXTS.items():
        sure = identify(text)
        assert next(iter(sure)) == language
        assert sum(sure.values()) == pytest.approx(1.0)
        assert list(sure.values()) == sorted(sure.values(), reverse=True)
    assert identify(" ".join(TEXTS["en"].split()[: MIN_WORDS - 1])) == {}


@real
def test_real_rows_among_real_rows_of_another_language() -> None:
    """GSM8K holds English alone; 1,190 passages of XQuAD stand in for foreign rows."""
    with gzip.open(CORPORA / "human/gsm8k_test.jsonl.gz", "rt") as file:
        english = [f"{row['question']}\n{row['answer']}" for row in map(json.loads, file)]
    main = main_language(english[:500])
    assert main is not None
    assert main.code == "en"
    assert [text for text in english if other_language(text, main)] == []
    for code in ("ar", "hi", "th", "zh"):
        with gzip.open(CORPORA / f"multilingual/xquad.{code}.json.gz", "rt") as file:
            passages = [p["context"] for article in json.load(file)["data"] for p in article["paragraphs"]]
        found = [other_language(text, main) for text in passages[:60]]
        assert found.count("") == 0, code
        assert found.count(code) >= 54, code  # of Chinese, a few are said to be Wu


@real
def test_real_rows_of_a_corpus_of_many_languages() -> None:
    """Chat pairs with the language in a column: of texts that are long enough, few are misnamed beside English."""
    with gzip.open(CORPORA / "multilingual/chatterbot_pairs.csv.gz", "rt", newline="") as file:
        rows = [(row["language"], f"{row['question']}\n{row['answer']}") for row in csv.DictReader(file)]
    english = [text for language, text in rows if language == "english"]
    german = [text for language, text in rows if language == "german" and len(text) > 80]
    main = main_language(english[:500])
    assert main is not None
    assert main.code == "en"
    wrong = [text for text in english if other_language(text, main)]
    assert len(wrong) <= len(english) // 100
    assert sum(other_language(text, main) == "de" for text in german) >= 0.8 * len(german) > 0
