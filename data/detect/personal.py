"""What no corpus should hold: people's addresses and numbers (pii), and keys that open something (secret).

In: a text. Out: spans with words that say what stands there; the middle of a secret or card number is masked.
Each search has a cheap test before it (an "@", seven digits, a known prefix), so that a clean text costs little.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from data.detect.wording import Words, lowered, word_set

Span = tuple[int, int, str]
MAX_SPANS = 20  # of one kind in one text; a report shows fewer

# -- people


def find_pii(text: str, words: Words) -> list[Span]:
    found: list[Span] = []
    if "@" in text:
        found += _mails(text)
    if "at)" in text or "at]" in text:
        found += [(*one.span(), f"mail address {one.group()}") for one in _SPELLED.finditer(text)]
    for near in _near_digits(text):
        found += _numbers(text, *near)
    if words.hold(_ADDRESSED) and text.count(".") > 2:
        found += [(*one.span(1), f"IP address {one.group(1)}") for one in _IP.finditer(text) if is_public(one.group(1))]
    return sorted(found)[:MAX_SPANS]


_SEVEN_DIGITS = re.compile("[0-9](?:[ ().\u00a0\u2010-\u2013-]{0,3}[0-9]){6}")  # every number below has these


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
    rf"|(?P<zeros>00{_CALLING}(?:[ .\-/]?\(0?\)?)?[ .\-/\u00a0]\(?[1-9][0-9]{{0,8}}\)?"
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


# -- keys

_WORD_LENGTH = 20  # of a word; longer ones are rare
_KEY_LENGTH = 14  # letters and digits in a row that every provider's key has
_KEYS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?P<AWS>(?:AKIA|ASIA)[A-Z0-9]{16})"
    r"|(?P<GitHub>gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255})"
    r"|(?P<GitLab>glpat-[\w-]{20,60})"
    r"|(?P<Slack>xox[abeoprs]-[A-Za-z0-9-]{10,200}|hooks\.slack\.com/services/[\w/]{20,80})"
    r"|(?P<Google>AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,300})"
    r"|(?P<Stripe>[sr]k_(?:live|test)_[A-Za-z0-9]{16,200})"
    r"|(?P<OpenAI>sk-(?:proj-|ant-|svcacct-|or-v1-|live-|test-)?[A-Za-z0-9][\w-]{18,250})"
    r"|(?P<JWT>eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000})"
    r"|(?P<npm>npm_[A-Za-z0-9]{36})"
    r"|(?P<PyPI>pypi-[\w-]{32,300})"
    r"|(?P<HuggingFace>hf_[A-Za-z0-9]{30,60})"
    r"|(?P<SendGrid>SG\.[\w-]{16,32}\.[\w-]{16,64})"
    r"|(?P<Mailgun>key-[0-9a-f]{32})"
    r"|(?P<Twilio>SK[0-9a-f]{32})"
    r"|(?P<DigitalOcean>do[opr]_v1_[0-9a-f]{64})"
    r"|(?P<Shopify>shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})"
    r"|(?P<Azure>AccountKey=[A-Za-z0-9+/]{60,100}={0,2})"
    r"|(?P<Telegram>(?:bot)?[0-9]{8,10}:AA[\w-]{32,34})"
    r"|(?P<age>AGE-SECRET-KEY-1[A-Z0-9]{58})"
    r")(?![A-Za-z0-9])"
)
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_IN_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.\-]{1,20}://[^\s:/@<>\"']{0,64}:([^\s/@<>\"']{3,128})@[\w.\-\[]{2,}")
_PEM = word_set("begin")
_NAMES = word_set(
    "password passwd passphrase passcode pass pwd pw secret secrets token tokens credential credentials bearer"
)
_NAMES |= word_set(
    "apikey apitoken accesstoken authtoken accesskey secretkey privatekey clientsecret dbpassword userpassword"
)
_KEY = word_set("key keys")
_WHOSE = word_set("api access auth private secret account encryption signing client ssh rsa license master")
_HINTS = ("pass", "pwd", "secret", "token", "key", "bearer", "credential")
_WHOSE_KEY = re.compile(
    r"(?:api|access|auth|private|secret|account|encryption|signing|client|ssh|rsa|license|master)[ _-]?$", re.I
)
_NAMED = re.compile(
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|key|credentials?|bearer)[\w-]{0,20}[\"'`]?"
    r"(?:\s{0,3}(?:=>|:=|=|:)\s{0,3}| is (?:now )?|,\s?(?=[\"'])|\s(?=[A-Za-z0-9+/_\-.]{20}))"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`<>{}()\[\],;]{6,120})",
    re.I,
)
_PLACEHOLDER = re.compile(
    r"(?-i:x{4,}|X{4,})|^x{3,}|\*{2,}|\.{3}|…|your|example|sample|change.?me|placeholder|dummy|redacted|insert|replace"
    r"|todo|fixme|test.?key|fake|"
    r"<|^\$\w+$|\$\{|\{\{|%\(|%s|0{6,}|1234567890abcdef|abcdefgh|^(?:my|the|some|an?|new"
    r"|old)[_-]?(?:password|secret|token|key|pass)|_here\b|"
    r"^(?:none|null|true|false|undefined|required|optional|password|secret|token|string|username|user|admin"
    r"|root|guest|pass|hidden)\d{0,4}$",
    re.I,
)
_WORDY = re.compile(r"[A-Za-z]+(?:[._/-][A-Za-z]+)*[.!?:]*")
MIN_BITS = 2.5  # a character, of a value that is called a password: "correcthorse" has 2.8, "aaaaaa1" 0.6
UNNAMED_BITS = 3.0


def find_secrets(text: str, words: Words) -> list[Span]:
    found: list[Span] = []
    mixed = words.longest >= _WORD_LENGTH or (
        words.longest >= _KEY_LENGTH and any(len(one) >= _KEY_LENGTH and not one.isalpha() for one in words.distinct)
    )
    if mixed or words.hold(_PEM):
        found += _keys(text)
    if "@" in text and "://" in text:
        found += _urls(text)
    if words.hold(_NAMES) or words.hold(_KEY, _WHOSE) or mixed:
        found += [span for span in _named(text) if not any(a < span[1] and span[0] < b for a, b, _ in found)]
    return sorted(found)[:MAX_SPANS]


def _keys(text: str) -> Iterator[Span]:
    for match in _KEYS.finditer(text):
        value = match.group()
        if (
            _PLACEHOLDER.search(value)
            or bits(value) < UNNAMED_BITS
            or (match.lastgroup == "OpenAI" and not _mixed(value[3:]))
        ):
            continue
        yield *match.span(), f"{match.lastgroup} key {masked(value)}"
    for match in _PRIVATE.finditer(text):
        yield *match.span(), f"private key: {match.group()}"


def _urls(text: str) -> Iterator[Span]:
    for match in _IN_URL.finditer(text):
        if not _PLACEHOLDER.search(match.group(1)):
            yield *match.span(1), f"password in a URL: {masked(match.group(1))}"


def _named(text: str) -> Iterator[Span]:
    """Values that are called a password, a token, an API key."""
    until, lower = 0, lowered(text)
    for place in sorted(_places(lower, _HINTS)):
        if place < until or (lower.startswith("key", place) and not _WHOSE_KEY.search(text, max(0, place - 12), place)):
            continue
        match = _NAMED.match(text, place)
        value = match["value"].rstrip(".!?:") if match else ""
        if match is None or len(value) < 6 or _PLACEHOLDER.search(value) or bits(value) < MIN_BITS:
            continue
        if _looks_secret(value, bool(match["quote"])):
            start = until = match.start("value")
            yield start, start + len(value), f"{text[place:start].strip()} {masked(value)}"


def _places(text: str, parts: tuple[str, ...]) -> Iterator[int]:
    for part in parts:
        place = text.find(part)
        while place >= 0:
            yield place
            place = text.find(part, place + 1)


def _looks_secret(value: str, quoted: bool) -> bool:
    """A value of letters and digits or signs; a plain word, a number or a name of code is none."""
    if _WORDY.fullmatch(value):
        changes = sum(before.islower() != after.islower() for before, after in pairwise(value))
        return quoted and len(value) >= 10 and (changes >= len(value) / 3 or (len(value) >= 24 and bits(value) > 3.5))
    if re.fullmatch(r"[\d.,:/%$€£-]+|[A-Za-z_][A-Za-z_]*(?:\.[A-Za-z_]\w*)+|[a-z]+_?[a-z_]*\d?|[A-Z_]+\d?", value):
        return False
    return _mixed(value) or bool(re.search(r"[a-zA-Z].*[!@#$%^&*+=?~]|[!@#$%^&*+=?~].*[a-zA-Z]", value))


def _mixed(value: str) -> bool:
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def bits(value: str) -> float:
    """Shannon entropy in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
