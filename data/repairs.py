"""Repairs of one text and bounds on one row: pure functions, nothing is read, kept or learned.

    html_to_text    HTML of a question-and-answer site -> text with Markdown's fences, lists and quotes
    fix_mojibake    text that was decoded in a wrong encoding once; any other text stays as it is, byte for byte
    strip_control   control characters out; tab and line ends stay
    out_of_bounds   (row, bounds) -> (reason, detail) where a field is shorter or longer than its bounds, else None
    about_tokens    how many tokens a text is, from nothing but the text

A repair of a text that needs none returns it unchanged, so that it can be run on every field.
"""

import math
import re
from html import unescape
from html.entities import name2codepoint
from html.parser import HTMLParser

from common.errors import UserError
from data.columns import Row

Verdict = tuple[str, str] | None  # as in data/clean.py: None: the row stays; else reason and detail

# -- HTML

BLOCKS = re.compile(r"p|div|section|article|header|footer|main|aside|h[1-6]|table|dl|figure|center|blockquote|pre|hr")
LISTS = ("ul", "ol")
LINES = ("br", "tr", "dt", "dd", "caption", "figcaption", "summary", "li")
OTHERS = (
    "a|abbr|acronym|b|big|body|cite|code|col|colgroup|del|details|dfn|em|font|head|html|i|img|ins|kbd|link|mark|meta|nav|q|"
    "s|samp|script|small|span|strike|strong|style|sub|sup|tbody|td|tfoot|th|thead|title|tt|u|var"
)
DROPPED = {"script", "style", "head"}
VERBATIM = {"code", "tt", "kbd", "samp"}
_TAG = "|".join((BLOCKS.pattern, *LISTS, *LINES, OTHERS))
_VALUE = r"""(?:"[^"]*+"|'[^']*+'|[^\s"'<>=`]++)"""
_INSIDE = rf"(?:\s+[A-Za-z][\w:.-]*\s*=\s*{_VALUE}|\s+(?:open|hidden|reversed|compact|nowrap|noshade))*\s*/?>"
_IS_TAG = re.compile(rf"</?(?:{_TAG}){_INSIDE}|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_NO_TAG = re.compile(rf"<(?!/?(?:{_TAG}){_INSIDE}|!--)", re.IGNORECASE)
_NUMBER = "#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}"
_NO_ENTITY = re.compile(
    rf"&(?!(?:{'|'.join([*name2codepoint, 'apos'])}|{_NUMBER});)"
)  # HTML 4's names; HTML 5: &circle;
_PLAIN_ENTITY = re.compile(rf"&(?:amp|lt|gt|quot|apos|nbsp|{_NUMBER});")
_MATH = re.compile(r"(\$\$[^$]+\$\$|\$[^$\s](?:[^$]*[^$\s])?\$(?![0-9])|\\\(.*?\\\)|\\\[.*?\\\])", re.DOTALL)
_RAISED = str.maketrans("0123456789+-()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾")
_LOWERED = str.maketrans("0123456789+-()", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎")


def html_to_text(text: str) -> str:
    """HTML as text: paragraphs, lists, quotes; code verbatim, <pre> as a fenced block; links keep their words.

    Only HTML's own tags count, so `vector<int>` and `a < b` stay; an entity needs its semicolon, and LaTeX between
    dollars keeps its spaces, `&` and `<`. Text without a tag is returned as it is but for entities that stand for ASCII
    and numbers: `&sum;` may be C.
    """
    if not _IS_TAG.search(text):
        return _PLAIN_ENTITY.sub(lambda match: unescape(match[0]), text)
    reader = _Reader()
    reader.feed(_NO_ENTITY.sub("&amp;", _NO_TAG.sub("&lt;", text)))
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    """Writes text as tags go by. `gap`: line ends due before the next words; `indents`: what each line begins with."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.gap = 0
        self.left = ""  # what the lines before the gap began with
        self.indents: list[str] = []
        self.counters: list[int | None] = []  # one a list: the next number, None for bullets
        self.marker = ""
        self.open: list[str] = []  # of DROPPED, VERBATIM, pre, sub and sup
        self.code: list[str] = []

    def text(self) -> str:
        self._end_code()
        return "".join(self.out).strip("\n")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._inside("pre") and tag != "pre":
            return
        if BLOCKS.fullmatch(tag) or tag in LISTS:
            self._break(1 if tag in LISTS and self.counters else 2)
        if tag in LISTS:
            start = dict(attrs).get("start") or "1"
            self.counters.append(None if tag == "ul" else int(start) if start.isdecimal() else 1)
        elif tag in LINES:
            self._break(1)
        if tag == "li":
            self._item()
        elif tag == "blockquote":
            self.indents.append("> ")
        elif tag in ("td", "th") and self.out and not self.gap:
            self._write(" | ")
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")
        elif tag == "hr":
            self._write("---")
            self._break(2)
        elif tag in DROPPED or tag in VERBATIM or tag in ("pre", "sub", "sup"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in self.open[-1:]:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside("pre") and tag != "pre":
            return
        if tag in self.open:
            if tag == "pre" or tag in VERBATIM:
                self._end_code()
            self.open.reverse()
            self.open.remove(tag)
            self.open.reverse()
        if BLOCKS.fullmatch(tag):
            self._break(2)
        if tag in LISTS and self.counters:
            self.counters.pop()
            self._break(1 if self.counters else 2)
        elif tag in ("li", "tr", "dt", "dd"):
            self._break(1)
        if tag in ("li", "blockquote") and self.indents:
            self.marker = ""
            self.indents.pop()

    def handle_data(self, data: str) -> None:
        if any(tag in DROPPED for tag in self.open):
            return
        if self._inside("pre") or any(tag in VERBATIM for tag in self.open):
            self.code.append(data)
            return
        if self.open and data.strip():
            data = _script(self.open[-1], data)
        # HTML joins white space; inside of LaTeX it stays.
        parts = [part if i % 2 else re.sub(r"[ \t\r\n\f]+", " ", part) for i, part in enumerate(_MATH.split(data))]
        self._write("".join(parts))

    def _inside(self, tag: str) -> bool:
        return tag in self.open

    def _item(self) -> None:
        number = self.counters[-1] if self.counters else None
        self.marker = "- " if number is None else f"{number}. "
        if number is not None:
            self.counters[-1] = number + 1
        self.indents.append(" " * len(self.marker))

    def _end_code(self) -> None:
        code, self.code = "".join(self.code), []
        if self._inside("pre"):
            longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
            fence = "`" * (longest + 1)
            body = code.removeprefix("\n")
            self._write(f"{fence}\n{body}{'' if body.endswith(chr(10)) else chr(10)}{fence}", verbatim=True)
        elif code:
            mark = "``" if "`" in code else "`"
            self._write(f"{mark}{code}{mark}", verbatim=True)

    def _break(self, lines: int) -> None:
        if not self.gap:
            self.left = "".join(self.indents)
        self.gap = max(self.gap, lines)

    def _write(self, text: str, verbatim: bool = False) -> None:
        at_start = self.gap > 0 or not self.out
        if at_start and not verbatim:
            text = text.lstrip(" ")
        if not text:
            return
        prefix = "".join(self.indents)
        if at_start:
            if self.out:
                self.out[-1] = self.out[-1].rstrip(" ")
                between = self.left if prefix.startswith(self.left) else prefix if self.left.startswith(prefix) else ""
                self.out.append("\n" + f"{between.rstrip(' ')}\n" * (self.gap - 1))
            first = prefix[: len(prefix) - len(self.marker)] + self.marker if self.marker else prefix
            self.out.append(first)
            self.gap, self.marker = 0, ""
        elif self.out[-1].endswith(" ") and text.startswith(" ") and not verbatim:
            text = text[1:]
        self.out.append(text.replace("\n", "\n" + prefix))


def _script(tag: str, data: str) -> str:
    """x<sup>2</sup> as x², H<sub>2</sub>O as H₂O; what has no such characters as ^n and _n."""
    if tag not in ("sup", "sub"):
        return data
    table = _RAISED if tag == "sup" else _LOWERED
    return data.translate(table) if all(ord(c) in table for c in data) else ("^" if tag == "sup" else "_") + data


# -- characters


# ftfy takes a space for byte 0xa0 where that makes a character: "Â is a letter" would lose its first word. Its settings
# turn this off for whole lines only, so a text is cut where it could happen.
_LETTER_AND_SPACE = re.compile(r"(?<=[\u00c2-\u00f4])(?= )")


def fix_mojibake(text: str) -> str:
    """Text that was UTF-8 and was decoded as something else, as it was; by ftfy, with all its other repairs off.

    Where a byte was lost on the way ("â€?") ftfy would write U+FFFD: such a line stays, to be found as mojibake.
    """
    if text.isascii():
        return text
    fixed = _ftfy(text)
    if fixed != text and _LETTER_AND_SPACE.search(text):
        fixed = "".join(map(_ftfy, _LETTER_AND_SPACE.split(text)))
    if fixed.count("\ufffd") <= text.count("\ufffd"):
        return fixed
    lines = text.splitlines(keepends=True)
    return "".join(map(fix_mojibake, lines)) if len(lines) > 1 else text


def _ftfy(text: str) -> str:
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        restore_byte_a0=False,
        replace_lossy_sequences=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return str(ftfy.fix_text(text, config))


_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_NEW_LINE = re.compile("[\x0b\x0c\x85]")


def strip_control(text: str) -> str:
    """Control characters out; those that part lines or pages become a line end. Tab, CR and LF stay."""
    return _NEW_LINE.sub("\n", _CONTROL.sub("", text))


# -- bounds

# What is measured -> least and most of it, both included. "answer", "all": UTF-8 bytes of a field or of all together;
# "answer tokens": tokens.
Bounds = dict[str, tuple[int, int | None]]
FIELDS = ("text", "context", "question", "answer")
UNITS = ("bytes", "tokens")


def parse_bounds(settings: list[str]) -> Bounds:
    """`answer 10..4000` (bytes of UTF-8), `all ..512 tokens`, `answer 5..`: both ends included. Raises UserError."""
    bounds: Bounds = {}
    for setting in settings:
        match = re.fullmatch(r"\s*(\w+)\s+(\d*)\.\.(\d*)(?:\s+(\w+))?\s*", setting, re.ASCII)
        if not match or not (match[2] or match[3]) or match[4] not in (None, *UNITS):
            raise UserError(
                f'length {setting!r} is no bound in bytes or tokens; they look like "answer 10..4000" or '
                '"all ..512 tokens"'
            )
        name, least, most = match[1], int(match[2] or 0), int(match[3]) if match[3] else None
        if name not in (*FIELDS, "all"):
            raise UserError(f"length {setting!r}: there is no field {name!r} (there are: {', '.join(FIELDS)}, all)")
        if most is not None and most < least:
            raise UserError(f"length {setting!r}: {most} is less than {least}")
        measured = f"{name} tokens" if match[4] == "tokens" else name
        if measured in bounds:
            raise UserError(f"length {setting!r}: {name} has bounds already")
        bounds[measured] = (least, most)
    return bounds


def out_of_bounds(row: Row, bounds: Bounds) -> Verdict:
    """`too_short` or `too_long` where a field is; a field that the row does not have is not asked."""
    texts = {name: row[name] for name in FIELDS if row.get(name) is not None}
    for measured, (least, most) in bounds.items():
        name, _, in_tokens = measured.partition(" ")
        of = list(texts.values()) if name == "all" else [texts[name]] if name in texts else []
        if not of and name != "all":
            continue
        size = sum(map(about_tokens, of)) if in_tokens else sum(len(text.encode()) for text in of)
        shown = f"{name}: about {size:,} tokens" if in_tokens else f"{name}: {size:,} bytes"
        if size < least:
            return "too_short", f"{shown}, the least is {least:,}"
        if most is not None and size > most:
            return "too_long", f"{shown}, the most is {most:,}"
    return None


_LETTERS = re.compile(r"[^\W\d_]+")
_SIGNS = re.compile(r"\d|[^\w\s]+|_+|\n+|[ \t]{2,}")


def about_tokens(text: str) -> int:
    """Tokens of a text, estimated: a word is one, and one more for every 8 bytes behind its first 4; a digit, a run of
    signs, of line ends or of spaces is three quarters of one.

    From the text alone, so that what stays does not depend on the rows around it; data/estimate.py, which reports use,
    counts better, by a vocabulary that is trained on the corpus. Held against such vocabularies (8,192, one for each of
    21 files), 93% of rows or more are within 25% for 17 of the files, 75% of Thai, 52% of Arabic and 51% of Chinese
    ones, 40% of texts in 140 scripts. A quarter of the bytes is that near for 6 of the 21.
    """
    words = _LETTERS.findall(text)
    sizes = map(len, words) if text.isascii() else (len(word.encode()) for word in words)
    long = sum(size - 4 for size in sizes if size > 4)
    return math.ceil(len(words) + long / 8 + 0.75 * len(_SIGNS.findall(text)))
