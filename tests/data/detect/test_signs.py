"""Signs of one row: what holds for all kinds, and characters. Each rule has rows that only look like it."""

import random
import string
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.detect.signs import habit, signs, source_habits
from tests.data.detect.made_signs import evidence, found, kinds, prose, qa, sentence, text

ALPHABET = st.sampled_from(
    [
        *string.printable,
        *"éÃ¼â€™\x92\u200b\ufffd\ufeff\u202e中文あ€ก۔।”“\U0001f600\x00İ",
        "<b>",
        "$\\frac{",
        "```",
        "the ",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ALPHABET, max_size=80).map("".join), st.lists(ALPHABET, max_size=80).map("".join), st.integers(1, 5))
def test_no_row_breaks_it_and_every_span_lies_in_its_field(one: str, two: str, times: int) -> None:
    for row in (qa(one * times, two, context=two), text(one * times), qa("", ""), text(two)):
        habits = source_habits(Counter([habit(row)] * 9 + [("whole", "")] * 9 + [("bare", "####")] * times))
        for sign in [*signs(row), *signs(row, habits)]:
            assert 0 <= sign.start <= sign.end <= len(row[sign.field])
            assert sign.detail


def test_a_row_without_text_has_no_signs() -> None:
    nothing = dict.fromkeys(["text", "context", "question", "answer"])
    assert signs({"kind": "qa", **nothing}) == []
    assert signs({"kind": "text", **nothing}) == []


@pytest.mark.parametrize("seed", range(30))
def test_random_prose_has_no_signs(seed: int) -> None:
    dice = random.Random(seed)
    content = prose(dice, 12)
    assert signs(qa(content, prose(dice, 1))) == []
    assert signs(text(content)) == []


PIECES = [
    "a",
    "ab ",
    "<",
    "<a ",
    "&",
    "(",
    "[",
    "{",
    "$",
    "\\begin{a}",
    "\\frac{",
    "1",
    "1 ",
    "1-",
    "+1 ",
    "@",
    "a@",
    "a.",
]
PIECES += [
    "@a.",
    "://a:",
    "```",
    "`",
    "password ",
    "password=",
    "key ",
    "sk-",
    "eyJ",
    "-----BEGIN ",
    " i ",
    "sorry ",
    "\n",
]
PIECES += [
    "as an ai ",
    "i don't ",
    "\u200b",
    "Ã",
    "é",
    "中",
    ". ",
    "a ",
    "IP ",
    "a?t",
    "Title Case ",
    "a, ",
    "/p>",
    "a\n\n",
]


@pytest.mark.parametrize("pieces", [PIECES[i::4] for i in range(4)])
def test_long_rows_of_one_piece_take_no_longer_than_others(pieces: list[str]) -> None:
    """200,000 characters of each; a search that goes back over all it has read would take hours."""
    code = f"""if True:
        from collections import Counter
        from data.detect.signs import signs, source_habits
        for piece in {pieces!r}:
            long = piece * (200_000 // len(piece))
            empty = dict.fromkeys(["text", "context", "question", "answer"])
            signs({{**empty, "kind": "text", "text": long}})
            habits = source_habits(Counter({{("whole", ""): 9}}))
            signs({{**empty, "kind": "qa", "question": piece, "answer": long + "x"}}, habits)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize(
    "answer", ["I'm sorry, but I cannot help you with that request.", "Write to anna.meyer@hafen.org"]
)
def test_another_sign_at_the_end_tells_why_a_row_ends_as_it_does(answer: str) -> None:
    marked = source_habits(Counter({("other", "####"): 90, ("whole", ""): 3}))
    plain = source_habits(Counter({("whole", ""): 90}))
    for habits in (marked, plain):
        assert "truncated" not in {sign.kind for sign in signs(qa("The harbour is very old. " + answer), habits)}
    assert "truncated" in {sign.kind for sign in signs(qa("The harbour is very old, and many ships lie"), marked)}


# -- characters


@pytest.mark.parametrize(
    "word",
    [
        "café",
        "naïve",
        "“quoted” words",
        "it’s here",
        "Überfluss",
        "señor",
        "10 € für Käse",
        "zażółć",
        "привет",
        "Ångström",
    ],
)
@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
def test_utf8_that_was_read_as_another_encoding_is_mojibake(word: str, codec: str) -> None:
    try:
        broken = word.encode().decode(codec)
    except UnicodeDecodeError:
        broken = word.encode().decode(codec, "replace")
    assert "mojibake" in kinds(qa(f"They say {broken} there."))
    assert "control_characters" not in kinds(qa(f"They say {broken} there."))
    assert not kinds(qa(f"They say {word} there."))


@pytest.mark.parametrize("broken", ["a caf\ufffd here", "don?t go", "It?s there", "锟斤拷 data"])
def test_letters_that_a_conversion_lost_are_mojibake(broken: str) -> None:
    assert "mojibake" in kinds(qa(broken))


@pytest.mark.parametrize(
    "right",
    [
        "What? The end.",
        "see /page?id=3 there",
        "is it?then go",
        "你好，世界。",
        "Straße, façade, œuvre",
        "½ cup at 5°C ± 2",
    ],
)
def test_right_letters_are_no_mojibake(right: str) -> None:
    assert "mojibake" not in kinds(qa(right))


CONTROLS = [
    "\x00",
    "\x07",
    "\x0b",
    "\x1b",
    "\x7f",
    "\x81",
    "\x9d",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\u2060",
    "\ufffc",
    "\ue123",
    "\u2028",
    "\U000f1234",
]


@pytest.mark.parametrize("sign", CONTROLS)
def test_characters_that_nobody_sees_are_found_where_they_stand(sign: str) -> None:
    dice = random.Random(ord(sign))
    content = sentence(dice)
    place = dice.randrange(1, len(content))
    row = qa(content[:place] + sign + content[place:])
    assert evidence(row, "control_characters") == [sign]
    assert f"U+{ord(sign):04X}" in found(row, "control_characters")[0].detail


@pytest.mark.parametrize(
    "right",
    [
        "line one\r\n\tline two\n",
        "a family \U0001f468\u200d\U0001f469\u200d\U0001f467 here",
        "می\u200cخواهم بروم",
        "क्\u200dष है",
        "\u200fעברית (abc)\u200e שלום",
        "ភាសា\u200bខ្មែរ",
        "co\xadoperate",
        "the flag \U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ],
)
def test_joiners_and_marks_of_direction_are_right_in_their_scripts(right: str) -> None:
    assert "control_characters" not in kinds(qa(right))


def test_a_page_break_belongs_to_a_book_but_to_no_answer() -> None:
    assert "control_characters" not in kinds(text("the end of a page.\n\x0c\nThe next begins."))
    assert "control_characters" in kinds(qa("the end of a page.\n\x0c\nThe next begins."))


@pytest.mark.parametrize(
    "right",
    [
        "The letter Ã is a nasal vowel.",
        "He wrote an Â and then an Ã here.",
        "The letters “Ã” and «Â» are Portuguese.",
        "In Romanian, Â stands within a word.",
    ],
)
def test_a_letter_that_a_text_names_is_no_mojibake(right: str) -> None:
    assert "mojibake" not in kinds(qa(right))
    assert "mojibake" in kinds(qa(right + " " + "é".encode().decode("cp1252")))
