"""Texts of a corpus as a page shows them: short, the evidence marked, what cannot be seen made visible.

In: text that may hold anything. Out: pieces [(text, class), ...], where class is "" for plain text, else the name of
what it is marked as; `visible` alone gives HTML, and escapes. A span that is missing, empty or outside marks nothing.
"""

import difflib
import re
import string
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

SHOWN = 700  # characters of a field; the audit cuts its examples at 600
Pieces = list[tuple[str, str]]

# What cannot be seen, or moves the text around it: controls, bidi marks, private use. The joiners U+200C and U+200D are
# right in Persian, Indic scripts and emoji, so they are shown only where they are what is pointed at.
_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ue000-\uf8ff"
    r"\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f\U000f0000-\U0010ffff"
)
_HIDDEN = re.compile(f"[{_UNSEEN}]")
_HIDDEN_IN_MARK = re.compile(f"[\u200c\u200d{_UNSEEN}]")
MOST_OUTPUT = 1000  # characters of any one value of a page: the last guard against a megabyte in a name

_EACH_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # no spaces between words
)
_TOKEN = re.compile(rf"\s+|[{_EACH_ALONE}]|[^\W{_EACH_ALONE}]+|\W")


def visible(value: Any, hidden: re.Pattern[str] = _HIDDEN) -> Any:
    """Text with what cannot be seen in it as a boxed code point; every value of a page goes through here (finalize)."""
    from markupsafe import Markup, escape

    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > MOST_OUTPUT:
        value = value[:MOST_OUTPUT] + "…"
    value = value.replace("\r\n", "\n")
    if not hidden.search(value):
        return value
    box = Markup('<span class="code-point">U+{:04X}</span>')
    parts = [escape(value[a:b]) for a, b in pairwise(_cuts(value, hidden))]
    return Markup("").join(box.format(ord(part)) if hidden.fullmatch(part) else part for part in parts)


def visible_in_mark(value: str) -> Any:
    """`visible` for evidence: the joiners, too."""
    return visible(value, _HIDDEN_IN_MARK)


def _cuts(value: str, hidden: re.Pattern[str]) -> list[int]:
    return sorted({0, len(value), *(place for found in hidden.finditer(value) for place in found.span())})


def excerpt(text: str | None, span: Sequence[int | None] | None = None, limit: int = SHOWN) -> Pieces:
    """At most `limit` characters of the text, around the span, which is marked."""
    text = text or ""
    start, end = [*span, None, None][:2] if span else (None, None)
    if start is None or end is None or not 0 <= start < end or start >= len(text):
        start = end = 0
    low = max(0, start - limit // 3) if end > limit else 0
    high = min(len(text), low + limit)
    start, end = max(start, low), min(max(end, low), high)
    pieces = [(text[low:start], ""), (text[start:end], "mark"), (text[end:high], "")]
    if low:
        pieces.insert(0, (f"… {low:,} characters before\n", "cut"))
    if high < len(text):
        pieces.append((f" … {len(text) - high:,} more characters", "cut"))
    return [piece for piece in pieces if piece[0]]


def differing(a: str, b: str, limit: int = SHOWN) -> tuple[Pieces, Pieces]:
    """Both texts with the words marked that the other one lacks."""
    (first, cut_a), (second, cut_b) = ((_TOKEN.findall(text[:limit]), text[limit:]) for text in (a, b))
    pieces: tuple[Pieces, Pieces] = ([], [])
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        kind = "" if tag == "equal" else "differs"
        pieces[0].append(("".join(first[a0:a1]), kind))
        pieces[1].append(("".join(second[b0:b1]), kind))
    for side, rest in zip(pieces, (cut_a, cut_b), strict=True):
        if rest:
            side.append((f" … {len(rest):,} more characters", "cut"))
    return [p for p in pieces[0] if p[0]], [p for p in pieces[1] if p[0]]


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


_MARKS = string.punctuation + "“”‘’„‚«»‹›…–—¿¡€£¥°、。，．！？；：「」『』（）【】"
_PAUSES = ",;:、，；："


def bare(fillers: Sequence[str]) -> tuple[str, list[str], str]:
    """The marks before all fillers of a slot, the fillers without them, the marks behind all.

    Of "$7," and "$12," the slot holds 7 and 12. Marks that not all have belong to their filler ("-7", "U.S."), but for
    a comma or the like behind it: that is the sentence's, and goes.
    """
    fillers = [filler.strip() for filler in fillers]
    if not all(filler.strip(_MARKS) for filler in fillers):
        return "", fillers, ""
    heads = {filler[: len(filler) - len(filler.lstrip(_MARKS))] for filler in fillers}
    tails = {filler[len(filler.rstrip(_MARKS)) :] for filler in fillers}
    before = heads.pop() if len(heads) == 1 else ""
    behind = tails.pop() if len(tails) == 1 else ""
    inner = [filler[len(before) : len(filler) - len(behind)].rstrip(_PAUSES).strip() for filler in fillers]
    return before, list(dict.fromkeys(inner)), behind
