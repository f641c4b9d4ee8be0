"""Keys that open something (secret): of providers, in URLs, and values that are called a password or a token.

In: a text and its words. Out: spans with words that say what stands there; the middle of a secret is masked.
Placeholders (YOUR_KEY, xxxx, <token>), code and plain words are none.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from data.detect.personal import MAX_SPANS, Span, masked
from data.detect.wording import Words, lowered, word_set

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
    mixed = words.longest >= _WORD_LENGTH or (words.longest >= _KEY_LENGTH and b"0" in words.marks)
    if mixed or words.hold(_PEM):
        found += _keys(text)
    if b"@" in words.marks and "://" in text:
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
