"""Which words are forms of one, and where a keyword stands and where it does not."""

import random

import pytest

from eval.keywords import cut, fold, holds, num_words, same_word, tokens, words


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("gate", "gates"), ("gate", "gated"), ("gate", "gating"), ("care", "caring"), ("box", "boxes"),
        ("bus", "buses"), ("quiz", "quizzes"), ("potato", "potatoes"), ("class", "classes"), ("theory", "theories"),
        ("apply", "applied"), ("apply", "applying"), ("play", "played"), ("stop", "stopped"), ("hop", "hopping"),
        ("run", "running"), ("travel", "traveling"), ("travel", "travelled"), ("fix", "fixed"), ("rain", "rained"),
        ("big", "bigger"), ("big", "biggest"), ("easy", "easier"), ("easy", "easiest"), ("large", "largest"),
        ("fast", "faster"), ("see", "seeing"), ("dye", "dyeing"), ("agree", "agreed"), ("compute", "computer"),
        ("measured", "measuring"), ("measures", "measured"), ("matrix", "matrices"), ("vertex", "vertices"),
        ("basis", "bases"), ("base", "bases"), ("analysis", "analyses"), ("number", "numbers"),
    ],
)  # fmt: skip
def test_inflections_are_forms_of_one_word(word: str, form: str) -> None:
    assert same_word(word, form)
    assert same_word(form, word)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("car", "caring"), ("car", "care"), ("hop", "hoping"), ("hop", "hoped"), ("plan", "planed"),
        ("rat", "rating"),
        ("numb", "number"), ("corn", "corner"), ("new", "news"), ("even", "evening"), ("wing", "w"),
        ("str", "string"),
        ("art", "start"), ("gate", "navigate"), ("state", "statement"), ("form", "former"), ("is", "iss"),
        ("on", "one"), ("entangle", "entanglement"), ("quantum", "quanta"), ("bass", "bas"), ("a1", "a1s"),
        ("über", "übers"), ("12", "12s"),
    ],
)  # fmt: skip
def test_other_words_are_not(a: str, b: str) -> None:
    assert not same_word(a, b)
    assert not same_word(b, a)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("Qubit", "two QUBITS."), ("error correction", "an error-correction code"),
        ("error-correction", "error correction"),
        ("error correction", "**error** correction"), ("error correction", "error\n  corrections"),
        ("Schrödinger", "Schrödinger's cat"), ("Schrödinger's cat", "Schrödinger cats"), ("state's", "the states"),
        ("Schro\u0308dinger", "Schr\u00f6dinger"), ("naïve", "NAÏVE"), ("STRASSE", "Straße"),
        ("ordinateur", "l'ordinateur"),
        ("|0>", "the state |0⟩"), ("|0>", r"$|0\rangle$"), ("| 0 >", "|0>"), ("E=mc^2", "that E = mc²."),
        ("E=mc^2", "e=MC^2"),
        ("C++", "in C++."), ("C", "in C, mostly"), ("C#", "C# is"), ("50%", "50 % of it"), ("x", "x^2"),
        ("-1", "it is -1"), ("5", "1-5"), ("5", "GPT-5"), ("5", "well-5"), ("5", "4%-5%"), ("5", "f(x)-5"),
        ("5", "those--5 of them"), ("5", "- 5 of them"), ("5", "-5 or 5"), ("5 qubits", "4-5 qubits"), ("5%", "4%-5%"),
        ("5", "+5"), ("-5", "\u22125"),
        ("1.5", "about 1.5 m"), ("5", "it is 5."), ("$5", "costs $5"), ("量子", "这是量子计算"), ("ไทย", "ภาษาไทยง่าย"),
        ("हिन्दी", "यह हिन्दी है"), ("and/or", "and/or"), ("'spin'", "a spin"), ("s", "s orbitals"),
        ("(x)", "f(x)"),
    ],
)  # fmt: skip
def test_a_keyword_stands_there(keyword: str, text: str) -> None:
    assert holds(cut(text), keyword)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("art", "the start"), ("gate", "navigate"), ("ion", "function"),
        ("error correction", "An error. Correction of it"),
        ("error correction", "correction error"), ("error correction", "error and correction"), ("5", "15"),
        ("5", "1.5"),
        ("5", "-5"), ("5", "it is -5"), ("5", "it is \u22125"), ("5", "x=-5"), ("5", "(-5)"), ("5", "**-5**"),
        ("5", "10^-5"), ("5 qubits", "-5 qubits"), ("5%", "-5%"), ("1.5", "it is -1.5"),
        ("5", "5.25"), ("5", "1,500"), ("1.5", "11.5"), ("-1", "x-1"), ("-1", "it is 1"), ("C", "C++"),
        ("C", "C# too"),
        ("C++", "C"), ("|0>", "|1>"), ("E=mc^2", "E=mc^3"), ("E=mc^2", "mc^2"), ("क", "कि"), ("量子", "量 和 子"),
        ("qubit", ""), ("", "text"), ("  ", "text"), ("हिन", "हिन्दी"), ("s", "the state's"), ("$5", "5 dollars"),
    ],
)  # fmt: skip
def test_a_keyword_does_not_stand_there(keyword: str, text: str) -> None:
    assert not holds(cut(text), keyword)


def test_fast_words_are_those_of_the_tokens() -> None:
    generator = random.Random(0)
    signs = "ab1 .,'_-s\u0301\u093fहि量ไé’ß²|>\\\n\u200dAZ5"
    for _ in range(20_000):
        text = "".join(generator.choices(signs, k=generator.randint(0, 12)))
        found = tokens(fold(text))
        assert words(text) == ([t.text for t in found if t.is_word] or [t.text for t in found]), repr(text)


def test_ascii_and_other_texts_are_folded_alike() -> None:
    generator = random.Random(1)
    for _ in range(2000):
        text = "".join(generator.choices("aZ |'\\^-5", k=6)) + generator.choice(["", r"\rangle", r"\langle x"])
        assert fold(text + "é") == fold(text) + "é"


def test_translations_of_a_sentence_are_about_as_long() -> None:
    english = num_words(words("All human beings are born free and equal in dignity and rights."))
    chinese = num_words(words("人人生而自由，在尊严和权利上一律平等。"))
    thai = num_words(words("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"))
    assert english == 12
    assert 7 <= chinese <= 14
    assert 9 <= thai <= 16
