"""Signs of one row: each rule has rows that show it and rows that only look like it."""

import random
import string
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.detect.personal import card_network, has_checksum, masked
from data.detect.signs import Sign, habit, signs, source_habits, truncated

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


# -- all kinds

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


# -- repetition


@pytest.mark.parametrize("seed", range(40))
def test_a_phrase_that_is_repeated_is_found_with_its_count(seed: int) -> None:
    dice = random.Random(seed)
    words = dice.sample(NOUNS + VERBS, dice.randint(3, 12))
    turns = dice.randint(4, 20)
    before = prose(dice, dice.randrange(4))
    answer = f"{before} {' '.join(words * turns)}".strip()
    (sign,) = found(qa(answer), "repetition")
    assert f"{turns} times" in sign.detail
    assert answer[sign.start : sign.end] == " ".join(words * turns)


@pytest.mark.parametrize("seed", range(20))
def test_the_last_turn_of_a_loop_may_be_cut_off(seed: int) -> None:
    dice = random.Random(seed)
    unit = sentence(dice) + " "
    looped = prose(dice, 2) + " " + unit * dice.randint(3, 6) + unit[: dice.randint(3, len(unit) - 3)]
    assert "repetition" in kinds(text(looped))


@pytest.mark.parametrize(
    "answer",
    [
        "Paris Paris Paris Paris",
        "It lies in the the the the the the hills.",
        "Robert Koch Robert Koch Robert Koch",
        "He lives in Rome.\nHe lives in Rome.\nHe lives in Rome.\nHe lives in Rome.",
        "1975 1975 1975 1975 1975",
        "#### 160. #### 160. #### 160. #### 160. #### 160. #### 160.",
        "我喜欢吃苹果。我喜欢吃苹果。我喜欢吃苹果。我喜欢吃苹果。",
        "あたかもあたかもあたかもあたかもあたかも",
        "yesmanyesmanyesmanyesmanyesmanyesman",
    ],
)
def test_loops_of_every_size_are_found(answer: str) -> None:
    assert "repetition" in kinds(qa(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "It was very very very hot.",
        "Ha ha ha ha ha, he said.",
        "3 x 1 = 3\n3 x 2 = 6\n3 x 3 = 9\n3 x 4 = 12\n3 x 5 = 15\n3 x 6 = 18",
        "The sum is 5 + 5 + 5 + 5 + 5 + 5 = 30.",
        "1 plus 1 plus 1 plus 1 plus 1 is 5.",
        "2 x 2 x 2 x 2 x 2 x 2 = 64",
        "| a | b |\n|---|---|\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |",
        "----------------------------------------",
        "Title\n=====================================",
        "for i in range(3):\n    print(i)\n    print(i)\n    print(i)\n    print(i)\n    print(i)",
        "\\begin{pmatrix} 1 & 0 & 0 \\\\ 0 & 1 & 0 \\\\ 0 & 0 & 1 \\end{pmatrix}",
        "Tora! Tora! Tora!",
        "The cat and the dog and the cat and the bird and the dog came.",
    ],
)
def test_what_only_looks_like_a_loop_is_none(answer: str) -> None:
    assert "repetition" not in kinds(qa(answer))


def test_in_a_story_people_may_say_a_word_over_and_over() -> None:
    assert "repetition" not in kinds(text("“No, no, no, no!” he cried, and ran down to the river to see the boats."))
    assert "repetition" in kinds(text("He ran down to the river river river river river to see the boats."))


def test_half_of_the_sentences_may_be_copies_that_do_not_stand_in_a_row() -> None:
    dice = random.Random(3)
    refrain = "The harbour was silent all through that long night. "
    answer = "".join(refrain + sentence(dice) + " " for _ in range(8))
    assert evidence(qa(answer), "repetition") == [refrain.strip().rstrip(".")]
    assert "repetition" not in kinds(qa(answer.replace(refrain, "", 6)))
    verses = [sentence(dice) + "\n" + sentence(dice) for _ in range(3)]
    assert "repetition" not in kinds(qa("".join(f"{verse}\n{refrain}\n{refrain[4:]}\n" for verse in verses)))


# -- refusal

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "As an AI language model, I do not have personal opinions.",
    "As an AI, I don't have access to real-time information.",
    "I apologize, but I am unable to provide that information.",
    "Unfortunately, I don't have enough information to answer this question.",
    "I'm not able to help with that.",
    "I cannot provide an answer to that question.",
    "I won't be able to answer that.",
    "I must respectfully decline.",
    "I'd rather not discuss this topic.",
    "I'm afraid I can't do that.",
    "I am only a language model and cannot form opinions.",
    "My knowledge cutoff is September 2021.",
    "It would be inappropriate for me to answer that.",
    "I'm not comfortable answering that question.",
    "That is outside the scope of my knowledge.",
    "I don't know the answer to that question.",
    "I lack the information needed to answer.",
    "The assistant cannot answer this question.",
    "Unable to answer.",
    "This type of task cannot be completed by a GPT model.",
    "I was trained by OpenAI and cannot access current data.",
    "Lo siento, pero no puedo ayudar con eso.",
    "抱歉，我无法回答这个问题。",
]
NO_REFUSALS = [
    "I'm sorry to hear that. Based on your symptoms you may have the flu.",
    "The patient cannot walk and is unable to speak.",
    "An AI is a system that can learn. A language model assigns probabilities to strings.",
    "The king refused to answer the question and left.",
    "As an AI researcher, she wrote many papers.",
    "You cannot divide by zero.",
    "I Can't Help Myself (Sugar Pie, Honey Bunch)",
    "Of course he ate 5 apples.",
    "This task can be solved in linear time.",
    "const s = 'I am an AI language model';\nconsole.log(s);",
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_refusals_and_talk_as_a_machine_are_found_in_answers(answer: str) -> None:
    assert "refusal" in kinds(qa(answer))
    assert "refusal" in kinds(qa("The harbour is old. " + answer))


@pytest.mark.parametrize("answer", NO_REFUSALS)
def test_answers_about_refusals_and_machines_are_none(answer: str) -> None:
    assert "refusal" not in kinds(qa(answer))


@pytest.mark.parametrize("seed", range(5))
def test_far_into_an_answer_a_refusal_is_one_where_it_speaks_of_what_was_asked(seed: int) -> None:
    dice = random.Random(seed)
    before = prose(dice, 6)
    assert evidence(qa(f"{before} I am unable to answer that."), "refusal") == ["I am unable to answer"]
    for late in (
        f"I am unable to carry the {dice.choice(NOUNS)}.",
        f"I cannot see the {dice.choice(NOUNS)} from here.",
        f"He was unable to answer the {dice.choice(NOUNS)}'s question.",
        f"The {dice.choice(NOUNS)} could not answer that.",
    ):
        assert "refusal" not in kinds(qa(f"{before} {late}")), late


def test_a_question_refuses_nothing() -> None:
    assert "refusal" not in kinds(qa("Yes, it does.", "I cannot answer that question. Can you?"))


def test_in_a_text_only_what_no_person_says_is_machine_talk() -> None:
    assert "refusal" not in kinds(text("“I am sorry, but I cannot,” said Elizabeth. “I cannot answer that question.”"))
    assert "refusal" in kinds(text("The night was dark. As an AI language model, I cannot continue this story."))
    assert "refusal" in kinds(text("I'm sorry, but I can't assist with that request."))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("Sure! Here is the answer: 42", "opening"),
        ("Great question! The heart pumps blood.", "opening"),
        ("It is 42. I hope this helps!", "closing"),
        ("Paris. Let me know if you have any other questions.", "closing"),
        ("Sure enough, it rained.", None),
        ("He sets out and hopes this helps him.", None),
        ("Dear Ann, we meet at noon. Let me know if you have any other questions. Regards, Tom", None),
    ],
)
def test_politeness_around_an_answer_is_named(answer: str, what: str | None) -> None:
    details = [sign.detail for sign in found(qa(answer), "refusal")]
    assert [f"an assistant's {what}" in detail for detail in details] == ([True] if what else [])


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


# -- markup


@pytest.mark.parametrize(
    ("answer", "evidences"),
    [
        ("This is <b>bold</b> text.", ["<b>", "</b>"]),
        ("First.<br>Second.<br/>Third.", ["<br>", "<br/>"]),
        ('See <a href="http://x.org/">here</a>.', ['<a href="http://x.org/">', "</a>"]),
        ("Black &amp; white&nbsp;film, 5 &lt; 6, it&#39;s", ["&amp;", "&nbsp;", "&lt;", "&#39;"]),
        ("A div that is cut: <div class=", ["<div class="]),
        ("The rest of one /p> and </span", ["/p>", "</span"]),
        ("[b]bold[/b] words", ["[/b]"]),
        ("yes<|im_end|> and on", ["<|im_end|>"]),
        ("The value is $\\frac{1}{2", ["$", "\\frac{"]),
        ("With $\\alpha + 1 it holds.", ["$"]),
        ("\\begin{align} x &= 1", ["\\begin{align}"]),
        ("x &= 1 \\end{align}", ["\\end{align}"]),
        ("It is $x^{2 + y$ now.", ["$x^{2 + y$"]),
    ],
)
def test_markup_that_is_left_over_or_broken_is_found(answer: str, evidences: list[str]) -> None:
    assert evidence(qa(answer), "markup") == evidences


@pytest.mark.parametrize(
    "answer",
    [
        "Use a List<String> or Map<Key, List<Value>> there.",
        "He has 48/2 = <<48/2=24>>24 clips, which is a < b and b > c.",
        "Run prog <input> <output> to start, where <name> is yours.",
        "It costs $5 and then $10 more, or $3.50 at best.",
        "**bold** and _it_, # one, - two, [a](http://b.org), `<b>` too",
        "The AT&T and R&D people; they left.",
        "So $\\frac{1}{2}$ and $$x^{2}$$ and \\begin{a} y \\end{a}.",
        "```html\n<p>hello</p>\n```",
        "I <3 you, 3 > 2, x<y>z.",
    ],
)
def test_what_only_looks_like_markup_is_left_alone(answer: str) -> None:
    assert found(qa(answer), "markup") == []


def test_where_the_question_is_about_html_tags_belong_to_the_answer() -> None:
    assert "markup" not in kinds(qa("<p>Hello</p>", "Write a paragraph in HTML."))
    assert "markup" in kinds(qa("<p>Hello</p>", "Write a paragraph."))


# -- pii


def digits(dice: random.Random, pattern: str) -> str:
    return "".join(str(dice.randint(2, 9)) if sign == "9" else sign for sign in pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(999) 999-9999",
        "999-999-9999",
        "+1 999 999 9999",
        "+49 99 9999999",
        "+44 9999 999999",
        "call me: 0999 99 99 99",
    ],
)
def test_phone_numbers_are_found(pattern: str) -> None:
    dice = random.Random(pattern)
    for _ in range(20):
        number = digits(dice, pattern)
        assert "pii" in kinds(qa(f"You reach her at {number}.")), number


@pytest.mark.parametrize("seed", range(10))
def test_mail_addresses_are_found_whole(seed: int) -> None:
    dice = random.Random(seed)
    name, domain = f"{dice.choice(NOUNS)}.{dice.choice(NOUNS)}{dice.randrange(99)}", dice.choice(["org", "co.uk", "de"])
    address = f"{name}@{dice.choice(VERBS)}.{domain}"
    assert evidence(qa(f"Write to {address}, please."), "pii") == [address]


def luhn(dice: random.Random, start: str, length: int) -> str:
    body = start + "".join(str(dice.randrange(10)) for _ in range(length - 1 - len(start)))
    return next(body + str(last) for last in range(10) if has_checksum(body + str(last)))


@pytest.mark.parametrize(
    ("start", "length"), [("4", 16), ("53", 16), ("37", 15), ("6011", 16), ("3530", 16), ("36", 14), ("62", 16)]
)
def test_card_numbers_are_found_by_network_and_checksum_and_masked(start: str, length: int) -> None:
    dice = random.Random(start)
    for _ in range(10):
        number = luhn(dice, start, length)
        shown = " ".join(number[i : i + 4] for i in range(0, length, 4))
        (sign,) = found(qa(f"My card is {shown} as you know."), "pii")
        assert str(card_network(number)) in sign.detail
        assert number[4:-4] not in sign.detail.replace(" ", "")
        wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert "pii" not in kinds(qa(f"My card is {wrong} as you know."))


@pytest.mark.parametrize(
    "iban", ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR14 2004 1010 0505 0001 3M02 606"]
)
def test_ibans_are_found_by_length_and_remainder(iban: str) -> None:
    assert evidence(qa(f"Pay to {iban} today."), "pii") == [iban]
    assert "pii" not in kinds(
        qa(f"Pay to {iban[:4]}{(int(iban[5]) + 1) % 10 if iban[5].isdigit() else 'X'}{iban[6:]} today.")
    )


@pytest.mark.parametrize(
    ("answer", "evidences"),
    [
        ("Her number is 219-09-9999 there.", ["219-09-9999"]),
        ("The IP address 8.8.8.8 is public.", ["8.8.8.8"]),
        ("ssh to the server 203.0.113.77 now", ["203.0.113.77"]),
        ("The IP address 192.168.1.1 is private, and so is 127.0.0.1.", []),
        ("Version 8.8.8.8 is out.", []),
        ("It has 1234567890123456 atoms, 1730-1759, 12-34-56, 2021-10-15.", []),
        ("Order 000-12-3456 and part 900-12-3456.", []),
        ("10 + 20 + 30 = 60 and 100 - 200 - 3000 = x", []),
        ("Use user@example.com or @property and a@b.", []),
        ("doi:10.1103/PhysRevLett.116.250501, arXiv:1601.07601, ISBN 9780812692761", []),
    ],
)
def test_numbers_are_private_only_in_their_forms(answer: str, evidences: list[str]) -> None:
    assert evidence(qa(answer), "pii") == evidences


# -- secret


def body(dice: random.Random, length: int) -> str:
    letters = string.ascii_letters + string.digits
    return "".join(dice.choice(letters) for _ in range(length - 2)) + dice.choice(string.digits) + "k"


@pytest.mark.parametrize(
    ("start", "length"),
    [
        ("ghp_", 36),
        ("github_pat_", 40),
        ("glpat-", 20),
        ("xoxb-123456789012-", 24),
        ("AIza", 35),
        ("sk_live_", 24),
        ("sk-", 48),
        ("sk-proj-", 40),
        ("npm_", 36),
        ("pypi-AgEIcHlwaS5vcmc", 40),
        ("hf_", 34),
    ],
)
def test_keys_of_providers_are_found_and_masked(start: str, length: int) -> None:
    dice = random.Random(start)
    for _ in range(10):
        key = start + body(dice, length)
        row = qa(f"Use {key} for it.")
        assert evidence(row, "secret") == [key]
        assert all(key not in sign.detail for sign in signs(row))


def test_other_secrets_are_found() -> None:
    dice = random.Random(5)
    upper = string.ascii_uppercase + string.digits
    aws = "AKIA" + "".join(dice.choice(upper) for _ in range(14)) + "4K"
    jwt = f"eyJ{body(dice, 20)}.eyJ{body(dice, 30)}.{body(dice, 40)}"
    password = body(dice, 12)
    for content, secret in [
        (f"key {aws} there", aws),
        (f"Bearer {jwt}", jwt),
        (f"postgres://admin:{password}@db.internal:5432/x", password),
        (f'password = "{password}"', password),
        (f"api_key: {password}", password),
        (f"Your password is {password}.", password),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "-----BEGIN RSA PRIVATE KEY-----"),
    ]:
        assert evidence(qa(content), "secret") == [secret]


@pytest.mark.parametrize(
    "answer",
    [
        "Set api_key = YOUR_API_KEY_1 there.",
        'password = "changeme1"',
        "password: <your-password-2>",
        "token = tokens[i + 1]; password = get_password(user1)",
        "AKIAXXXXXXXXXXXXXXXX and sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "AKIAIOSFODNN7EXAMPLE",
        "The key is to pass the secret: patience.",
        "postgres://user:password@localhost/db",
        "api_key = os.environ['KEY_2']",
        "a risk-benefit-and-cost-analysis-of-2020-plans",
        "$password = $new_password1;",
    ],
)
def test_placeholders_and_code_are_no_secrets(answer: str) -> None:
    assert "secret" not in kinds(qa(answer))


@given(st.text(min_size=12, max_size=60))
def test_a_masked_value_shows_at_most_its_ends(value: str) -> None:
    assert len(masked(value)) <= 7
    assert masked(value)[0:3] == value[:3]


# -- truncated


def planted(rows: list[dict[str, Any]], share: float, dice: random.Random) -> list[bool]:
    """Cut that share of the rows somewhere between 30% and 90% of their text, inside a word or behind one."""
    cut = []
    for row in rows:
        field = "text" if row["kind"] == "text" else "answer"
        cut.append(dice.random() < share)
        if cut[-1]:
            row[field] = row[field][: int(len(row[field]) * dice.uniform(0.3, 0.9))].rstrip(". ")
    return cut


def worked(dice: random.Random) -> str:
    lines = [f"There are {dice.randrange(99)} {dice.choice(NOUNS)}s, and {dice.choice(NOUNS)} {i}" for i in range(3)]
    return "\n".join([*lines, f"#### {dice.randrange(1000)}"])


SOURCES = {
    "prose": lambda dice: text(prose(dice, 5)),
    "answers": lambda dice: qa(prose(dice, 3)),
    "worked": lambda dice: qa(worked(dice)),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3, 0.6])
def test_cut_rows_are_told_by_the_habits_of_their_source(name: str, share: float) -> None:
    dice = random.Random(f"{name}{share}")
    rows = [SOURCES[name](dice) for _ in range(600)]
    cut = planted(rows, share, dice)
    habits = source_habits(Counter(map(habit, rows)))
    told = [truncated(row, habits) is not None for row in rows]
    wrong = sum(one != two for one, two in zip(told, cut, strict=True))
    assert wrong <= 0.02 * max(sum(cut), 50), (wrong, sum(cut))


def test_habits_of_two_halves_add_up_to_those_of_the_whole() -> None:
    dice = random.Random(1)
    rows = [SOURCES[dice.choice(list(SOURCES))](dice) for _ in range(100)]
    assert Counter(map(habit, rows[:30])) + Counter(map(habit, rows[30:])) == Counter(map(habit, rows))


def test_sources_of_bare_phrases_titles_and_code_are_never_cut_off() -> None:
    dice = random.Random(2)
    phrases = [qa(" ".join(dice.sample(NOUNS, dice.randint(1, 5)))) for _ in range(300)]
    programs = [qa(f"def {noun}(x):\n    y = {i}\n    return x + y") for i, noun in enumerate(NOUNS)]
    titles = [text(f"CHAPTER {i}. The {noun.title()} of the {noun.title()}") for i, noun in enumerate(NOUNS)]
    for rows in (phrases, programs, titles):
        habits = source_habits(Counter(map(habit, rows)))
        assert [row for row in rows if truncated(row, habits)] == []


@pytest.mark.parametrize(
    "answer",
    [
        "He went to the market and bought the",
        "It shows three things, which are apples, pears,",
        "So we call it (as the first of them said in the year",
        "Here it is:\n```python\nprint(1)",
        "The gate is written as \\begin{pmatrix} 0 & 1 and",
        "It grew for years [truncated]",
        "He was met at the door by Mr.",
    ],
)
def test_some_ends_are_cut_off_whatever_the_source(answer: str) -> None:
    assert truncated(qa(answer)) is not None


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "the Impalas",
        "It is done.",
        "She asked: “Why?”",
        "(see the first chapter.)",
        "1. Tent\n2. Rope\n3. Flashlight",
        "Fruit: apple, pear",
        "| a | b |\n| 1 | 2 |",
        "```python\nprint(1)\n```",
        "$$x = \\frac{1}{2}$$",
        "See https://arxiv.org/abs/1601.07601",
        "The night is pure, so serene\nIt dwells in us and in our dreams\nAnd morning comes at last",
        "早上好。",
        "Be the change that you wish to see, and let the others follow.\n\nLove,\nYour family",
        "It was the end of all his long and weary journeys over the sea.\n\nChapter 2",
    ],
)
def test_right_ends_are_right_even_where_full_stops_are_the_habit(answer: str) -> None:
    assert truncated(qa(answer), source_habits(Counter({("whole", ""): 100, ("bare", ""): 3}))) is None


@pytest.mark.parametrize(
    "answer", ["I'm sorry, but I cannot help you with that request.", "Write to anna.meyer@hafen.org"]
)
def test_another_sign_at_the_end_tells_why_a_row_ends_as_it_does(answer: str) -> None:
    marked = source_habits(Counter({("other", "####"): 90, ("whole", ""): 3}))
    plain = source_habits(Counter({("whole", ""): 90}))
    for habits in (marked, plain):
        assert "truncated" not in {sign.kind for sign in signs(qa("The harbour is very old. " + answer), habits)}
    assert "truncated" in {sign.kind for sign in signs(qa("The harbour is very old, and many ships lie"), marked)}
