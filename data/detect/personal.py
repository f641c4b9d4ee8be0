"""What no corpus should hold: people's addresses and numbers (pii).

In: a text and its words. Out: spans with words that say what stands there; the middle of a card number is masked.
Each search has a cheap test before it (an "@", seven digits), so that a clean text costs little.
"""

import ipaddress
import re
from collections.abc import Iterator

from data.detect.wording import Words, word_set

Span = tuple[int, int, str]
MAX_SPANS = 20  # of one kind in one text; a report shows fewer


def find_pii(text: str, words: Words) -> list[Span]:
    found: list[Span] = []
    if b"@" in words.marks:
        found += _mails(text)
    if "at" in words.distinct and ("at)" in text or "at]" in text):
        found += [(*one.span(), f"mail address {one.group()}") for one in _SPELLED.finditer(text)]
    if words.marks.count(b"0") >= 7 and _may_hold_seven_digits(text):
        for near in _near_digits(text):
            found += _numbers(text, *near)
    if words.hold(_ADDRESSED) and text.count(".") > 2:
        found += [(*one.span(1), f"IP address {one.group(1)}") for one in _IP.finditer(text) if is_public(one.group(1))]
    return sorted(found)[:MAX_SPANS]


_SEVEN_DIGITS = re.compile(
    "[0-9](?:[ ().\u00a0\u2010-\u2013-]{0,2}[0-9]){6}"
)  # every number has these; sums have wider gaps
# Digits for the test of bytes, and what stands between them.
_DIGITS = bytes(ord("0") if i in b"0123456789" else ord("x") for i in range(256))
_BETWEEN_DIGITS = b" ().-" + bytes(range(128, 256))
AROUND = 60  # characters before and behind seven digits, in which a number of any kind begins and ends
_DOMAIN = re.compile(r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?\.){1,5}[A-Za-z]{2,24})(?![\w@])")
_LOCAL = re.compile(r"[A-Za-z0-9](?:[\w.%+\-']{0,63})\Z")
_NOBODY = word_set(
    "user username name yourname your.name you your youremail your_email email e-mail mail me someone somebody "
    "foo bar test abc xyz xxx example sample firstname.lastname first.last login address recipient sender"
)
_NOWHERE = re.compile(
    r"(?:example|domain|email|mail|company|yourcompany|yourdomain|test|host|server|site|website|foo)\."
)
_SPELLED = re.compile(
    r"\b[A-Za-z0-9][\w.+-]{0,63} ?[\[(] ?at ?[\])] ?[A-Za-z0-9-]{1,60}(?:(?:\."
    r"| ?[\[(] ?dot ?[\])] ?)[A-Za-z0-9-]{2,60}){1,3}"
)
_FILES = word_set("png jpg jpeg gif svg css js json py txt html htm php")  # logo@2x.png


def _mails(text: str) -> Iterator[Span]:
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text, max(0, match.start() - 64), match.start())
        domain = match.group(1).lower()
        if not local or domain.rpartition(".")[2] in _FILES or _is_login(text, local.start(), match.end()):
            continue
        if local.group().lower() in _NOBODY and _NOWHERE.match(domain):
            continue
        yield local.start(), match.end(), f"mail address {text[local.start() : match.end()]}"


def _is_login(text: str, start: int, end: int) -> bool:
    """Whether an address belongs to a URL (user:password@host) or a path (git@host:path); "mailto:" goes before one."""
    before = text[start - 1 : start]
    if before == ":":
        return "://" in text[max(0, start - 80) : start].rpartition(" ")[2]
    return before in ("/", "@") or (text[end : end + 1] == ":" and text[start:end].startswith("git@"))


_CALLING = (  # codes of countries and regions
    "(?:1|7|2(?:0|7|[1-689][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[0-9])|5(?:[1-8]|[09][0-9])|6(?:[0-6]"
    "|[789][0-9])"
    r"|8(?:[1246]|[0578][0-9])|9(?:[0-58]|[679][0-9]))"
)
_PHONES = re.compile(
    r"(?<![\w+/.\-])(?:"
    r"(?P<world>\+[1-9][0-9]{0,2}(?:[ .\-\u00a0]?\(?[0-9]{1,5}\)?){1,6})"
    rf"|(?P<zeros>00{_CALLING}(?:[ .\-/]?\(0\)[ .\-/]?|[ .\-/\u00a0])\(?[1-9][0-9]{{0,8}}\)?"
    r"(?:[ .\-/\u00a0][0-9]{1,8}){1,5})"
    r"|(?P<us>(?:1[-. ])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[0-9]{3}[-. ][0-9]{4})"
    r"|(?P<wide>(?<![0-9] )[2-9][0-9]{2} [2-9][0-9]{2} [0-9]{4})"
    r"|(?P<ssn>(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4})"
    r")(?![\w\-/]|[.,]?[0-9]| [0-9])"
)
_SAID_PHONE = re.compile(
    r"\b(?:tel|phone|telephone|mobile|cell|call|fax|whatsapp|telefon|tel\u00e9fono|t\u00e9l\u00e9phone"
    r"|\u7535\u8bdd|(?:reach|text|ring|dial|contact) (?:me|us|him|her|them))\b[^0-9+\n]{0,25}"
    r"(\+?\(?[0-9](?:[ .\-()/]{0,2}[0-9]){6,14})(?![0-9])",
    re.I,
)
# Whole, or in groups; only groups between spaces can run into the numbers beside them.
_CARD = re.compile(
    r"(?<![\w.,\-])(?=[2-6])(?:(?:[0-9]{13,19}|[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{1,4}(?:-[0-9]{1,3})?"
    "|[0-9]{4}-[0-9]{6}-[0-9]{4,5})"
    r"(?![\w\-]|[.,][0-9])"
    r"|(?:[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{1,4}(?: [0-9]{1,3})?|[0-9]{4} [0-9]{6} [0-9]{4,5})(?![\w\-]|[., ]?[0-9]))"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_LENGTH = {"NO": 15, "BE": 16, "DK": 18, "FI": 18, "NL": 18, "AT": 20, "CH": 21, "DE": 22, "GB": 22, "IE": 22}
_IBAN_LENGTH |= {"ES": 24, "SE": 24, "CZ": 24, "SK": 24, "RO": 24, "SA": 24, "PT": 25, "TR": 26, "FR": 27, "IT": 27}
_IBAN_LENGTH |= {"GR": 27, "PL": 28, "HU": 28, "AE": 23, "IL": 23, "LU": 20, "LT": 20, "LV": 21, "EE": 20, "HR": 21}
_IBAN_LENGTH |= {"SI": 19, "BG": 22, "CY": 28, "MT": 31, "IS": 26, "UA": 29, "BR": 29, "RS": 22, "LI": 21, "MC": 27}
_ADDRESSED = word_set("ip ipv4 address addresses host server ssh ping client")
_IP = re.compile(
    r"\b(?:IP(?:v4)?|addresse?s?|host|server|ssh|ping|from"
    r"|client)\b[^0-9\n]{0,30}?(?<![\w.])((?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![\w.]*[0-9])",
    re.I,
)


def _may_hold_seven_digits(text: str) -> bool:
    """A test on bytes, of a tenth of the time: every digit a zero, what stands between digits left out."""
    return b"0000000" in text.replace(" - ", "=").encode("utf-8", "surrogatepass").translate(_DIGITS, _BETWEEN_DIGITS)


def _near_digits(text: str) -> list[tuple[int, int]]:
    """Stretches around seven digits, one where they overlap: nothing else of a text is searched for numbers."""
    places: list[tuple[int, int]] = []
    for match in _SEVEN_DIGITS.finditer(text):
        start, end = max(0, match.start() - AROUND), min(len(text), match.end() + AROUND)
        if places and start <= places[-1][1]:
            places[-1] = places[-1][0], end
        else:
            places.append((start, end))
    return places


def _numbers(text: str, first: int, last: int) -> Iterator[Span]:
    taken: list[tuple[int, int]] = []
    for match in _CARD.finditer(text, first, last):
        digits = re.sub("[^0-9]", "", match.group())
        if (network := card_network(digits)) and has_checksum(digits):
            taken.append(match.span())
            yield *match.span(), f"{network} card number {masked(match.group())}"
    for match in _IBAN.finditer(text, first, last):
        if iban := _iban(match.group()):
            taken.append((match.start(), match.start() + len(iban)))
            yield match.start(), match.start() + len(iban), f"IBAN {masked(iban)}"
    for match in _PHONES.finditer(text, first, last):
        if any(start < match.end() and match.start() < end for start, end in taken):
            continue
        digits = re.sub("[^0-9]", "", match.group())
        if match["ssn"]:
            yield *match.span(), f"US social security number {masked(match.group())}"
        elif match["zeros"] and (not 11 <= len(digits) <= 17 or set(digits) <= {"0", "1"}):  # bits
            continue
        elif not match["world"] or (
            9 <= len(digits) <= 15 and text[match.end() : match.end() + 2].strip()[:1] not in tuple("=+*/^")
        ):
            taken.append(match.span())
            yield *match.span(), f"phone number {match.group()}"
    for match in _SAID_PHONE.finditer(text, first, last):
        years = re.fullmatch(r"[12][0-9]{3}-[12][0-9]{3}", match.group(1))
        if not years and not any(start < match.end(1) and match.start(1) < end for start, end in taken):
            yield *match.span(1), f"phone number {match.group(1)}"


def card_network(digits: str) -> str | None:
    """Whose card number begins so and is as long; None for no network."""
    length, two, three, four = len(digits), int(digits[:2] or 0), int(digits[:3] or 0), int(digits[:4] or 0)
    if digits[:1] == "4" and length in (13, 16, 19):
        return "Visa"
    if length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720):
        return "Mastercard"
    if length == 15 and two in (34, 37):
        return "American Express"
    if length in (16, 19) and (four == 6011 or two == 65 or 644 <= three <= 649):
        return "Discover"
    if length == 16 and 3528 <= four <= 3589:
        return "JCB"
    if length == 14 and (two in (36, 38) or 300 <= three <= 305):
        return "Diners Club"
    return "UnionPay" if 16 <= length <= 19 and two == 62 else None


def has_checksum(digits: str) -> bool:
    """Luhn: every second digit from the right doubled, the sum divisible by ten."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0 and len(set(digits)) > 1


def _iban(text: str) -> str | None:
    """The IBAN that a text begins with, spaces and all; None if its length or remainder is wrong (ISO 13616)."""
    length = _IBAN_LENGTH.get(text[:2])
    kept = 0
    for place, sign in enumerate(text, 1):
        kept += sign != " "
        if kept == length:
            plain = text[:place].replace(" ", "")
            number = "".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])
            return text[:place] if int(number) % 97 == 1 else None
    return None


def is_public(address: str) -> bool:
    """False for private, loopback and reserved addresses, and for what is none; true for those of documentation."""
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    documentation = ("192.0.2.", "198.51.100.", "203.0.113.")
    return found.is_global or address.startswith(documentation)


def masked(value: str) -> str:
    """A value of which only the ends can be read."""
    ends = min(4, len(value) // 4)
    return f"{value[:ends]}…{value[len(value) - min(ends, 2) :]}"
