"""People's addresses and numbers, and keys; and numbers and words that are none."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.detect.personal import card_network, has_checksum, masked
from data.detect.signs import signs
from tests.data.detect.made_signs import NOUNS, VERBS, evidence, found, kinds, prose, qa

# -- people


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


@pytest.mark.parametrize("pattern", ["0043 9 999 9999", "0041-99-9999999", "0044 (0)99 9999 9999", "0043 (9) 999 9999"])
def test_two_zeros_and_the_code_of_a_country_open_a_phone_number(pattern: str) -> None:
    dice = random.Random(pattern)
    for _ in range(20):
        number = digits(dice, pattern)
        assert evidence(qa(f"You reach her at {number}."), "pii") == [number]
        assert evidence(qa(f"The end of it all.\n#### 42 {number}"), "pii") == [number]


@pytest.mark.parametrize(
    "answer",
    [
        "0010 1001 0110 1111",
        "0043 1 463",
        "0012 345 6789 1234",
        "12 34 56 78 90 12 34",
        "00:15:30 to 00:20:45",
        "001 002 003 004 005 006",
        "1,000,000,000 and 12,345,678",
        "2020-2021, 1999-2001",
        "He has 25000 - 20000 = 5000 - 4000 = 1000 left",
    ],
)
def test_bits_counts_years_and_sums_are_no_numbers_of_people(answer: str) -> None:
    assert "pii" not in kinds(qa(answer))


@pytest.mark.parametrize("seed", range(8))
def test_a_card_number_is_found_among_other_numbers(seed: int) -> None:
    dice = random.Random(seed)
    number = luhn(dice, "4", 16)
    shown = "-".join(number[i : i + 4] for i in range(0, 16, 4))
    one, two = dice.randint(1, 99), dice.randint(1, 99)
    for row in (
        f"{one} {two} {shown} {one}",
        f"{one}, {shown}, {two}",
        f"Pay {shown} {two} times",
        f"{one} {number} {two}",
    ):
        assert evidence(qa(row), "pii") in ([shown], [number])
    wrong = shown[:-1] + str((int(shown[-1]) + 1) % 10)
    assert "pii" not in kinds(qa(f"{one} {two} {wrong} {one}"))


@pytest.mark.parametrize(
    ("before", "after"),
    [("mailto:", " now"), ("[mail](mailto:", ")"), ("#### 42 ", ""), ("Email:", ""), ("<", ">"), ("", "#### 42")],
)
def test_a_mail_address_is_found_behind_a_link_and_at_the_end(before: str, after: str) -> None:
    dice = random.Random(before + after)
    address = f"{dice.choice(NOUNS)}@{dice.choice(NOUNS)}.org"
    assert evidence(qa(f"{prose(dice, 1)} {before}{address}{after}"), "pii") == [address]


@pytest.mark.parametrize("answer", ["anna (at) hafen.org", "anna [at] hafen [dot] org"])
def test_a_spelled_mail_address_is_found(answer: str) -> None:
    assert evidence(qa(f"Write to {answer} today."), "pii") == [answer]
    assert "pii" not in kinds(qa("Look (at) this, and stay [at] home."))


@pytest.mark.parametrize(
    "answer", ["git@github.com:foo/bar.git", "https://user@host.org/x", "user@host", "logo@2x.png"]
)
def test_logins_and_files_are_no_mail_addresses(answer: str) -> None:
    assert "pii" not in kinds(qa(f"Use {answer} for it."))


# -- keys


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
