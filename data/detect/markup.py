"""Markup that is left over or broken: HTML tags and entities in prose, chat tokens, LaTeX that does not close.

In: a text, and the question of its row. Out: spans with words that say what each is. Markdown is no breakage,
nor is what only looks like a tag: List<String>, a < b, <<48/2=24>>, <input> as a placeholder, prices in dollars.
Code in backquotes or as the whole text is left alone.
"""

import re
from collections.abc import Iterator
from html.entities import name2codepoint

from data.detect.latex import Span, find_latex
from data.detect.wording import word_set

MAX_SPANS = 20  # of one kind in one text; a report shows fewer

_SHAPES = bytes(ord("a") if chr(i).isalpha() or chr(i) in "/!?\"'" else i for i in range(128)) + b"a" * 128
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,10})(\s[^<>]{0,500})?\s?(/?)>")
_HALF = re.compile(
    r"</?([a-z][a-z0-9]{0,10})\b(?![^<>]{0,300}>)|(?<![\w<$\\])/([a-z][a-z0-9]{0,10})>"
    r"|(?<![\w<$\\/])([a-z]{2,10}) ?/?>"
)
_ATTRIBUTE = (
    r"(?:class|id|href|src|style|alt|title|width|height|target|rel|color|size|align|valign|border|name|type|lang|face"
    r"|data-\w+)"
)
_CUT_TAG = re.compile(r"<(?P<close>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]{0,10})?(?P<rest>\s[^<>]{0,300})?/?\s*")
_HALF_WITH = re.compile(rf"<([a-zA-Z][a-zA-Z0-9]{{0,10}})\s+{_ATTRIBUTE}\s?=(?![^<>]{{0,300}}>)")
_LOST_TAG = re.compile(
    rf"(?<![\w<-]){_ATTRIBUTE}\s?=\s?(?:\"[^\"<>\n]{{0,200}}\"|'[^'<>\n]{{0,200}}')\s?/?>|[\w-]*[a-z]\"\s?/?>"
)
_AFTER_PROSE = re.compile(r"(?:[^\W\d_]{2}|[.!?>,;:\"])\s?\Z")  # before "<p"; "7 <p" is a sum
_DECLARED = re.compile(
    r"<!--|<!DOCTYPE\b|<!\[CDATA\[|<\?(?:xml|php)\b|</(?=\s)|</?(?:o|w|v|st1):\w+[^<>]{0,200}>", re.I
)
_NAMES_OF_ENTITIES = "nbsp|amp|quot|lt|gt|[lr][sd]quo|[mn]dash|hellip|apos|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5}"
_BARE_ENTITY = re.compile(
    rf"&(?:{_NAMES_OF_ENTITIES})(?![\w;=])|(?<![\w&$%.])(?<!an )(?<!the )(?:{_NAMES_OF_ENTITIES});"
)
_ENDS_OF_ENTITIES = ["amp;", "nbsp;", "quot;", " lt;", " gt;", "squo;", "dquo;", "mdash;", "ndash;", "hellip;"]
_ENDS_OF_ENTITIES += ["apos;", "#"]
_ENTITY = re.compile(r"&(?:([a-zA-Z]{2,8}[1-4]{0,2})|#[0-9]{2,7}|#[xX][0-9a-fA-F]{2,6});")
_CHAT = re.compile(
    r"<\|(?:endoftext|im_start|im_end|im_sep|startoftext|begin_of_text|end_of_text|eot_id|start_header_id"
    r"|end_header_id"
    r"|system|user|assistant|end|endofprompt|pad)\|>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>"
)
_BBCODE = re.compile(
    r"\[(?:/(?:b|i|u|s|url|img|quote|code|size|color|list|spoiler)|url=[^\]\s]{1,200}|(?:size"
    r"|color)=\S{1,20})\]",
    re.I,
)
_SURE = word_set(
    "b i u p br hr div span h1 h2 h3 h4 h5 h6 ul ol li td tr th tbody thead em strong font img sup sub pre tt "
    "small big blockquote center strike del ins kbd dl dd dt iframe svg nobr html noscript abbr cite wbr "
    "figcaption href"
)
# Words that stand in angle brackets as placeholders too: a tag only with attributes or a slash.
_UNSURE = word_set(
    "a s q table body head title style script link meta form input button label select option textarea section "
    "article header footer nav main aside figure canvas video audio source object code var samp address time mark "
    "base map area caption col colgroup tfoot fieldset legend details summary dialog template embed param ref "
    "nowiki"
)
_HALVES = word_set("br div span strong td tr li ul ol th tbody em blockquote font img sup sub h1 h2 h3 h4 href")
_ABOUT = re.compile(
    r"html|\bxml|\bcss\b|javascript|web ?(?:page|site)|\bsvg\b|\bjsx\b|react(?:\.?js\b| component| app)|\bvue\b"
    r"|markup|latex|\btex\b|angular ?js|\bphp\b|\b(?:div|span|anchor|image|title|meta|script|style|list|opening"
    r"|closing) tags?\b",
    re.I,
)
_QUOTED = re.compile(
    r"```.{0,20000}?(?:```|$)|`[^`\n]{1,300}`|<(?:script|style)\b[^>]{0,200}>.{0,5000}?</(?:script|style)>", re.S
)
_CODE_LINE = re.compile(
    r"[ \t]*(?:def \w+\(|class \w+ ?[:({]|import \w+[\w., ]*;?$|from \S+ import|return\b[^.]{0,80}[;)\]\w]$"
    r"|if ?\(|for ?\(|while ?\("
    r"|else:?$|elif |try:|except\b.{0,40}:$|assert \S+ ?[=(]|with \S+\(|(?:public|private|static) \w+ "
    r"|function\b.{0,40}\("
    r"|(?:const|let|var) \w+ ?=|#include|#!|using \w+;|echo |print ?\(|console\.|SELECT |INSERT |UPDATE "
    r"|(?:done|fi|end|do|then|esac)\b.{0,12}$|[@}\])]|//|/\*|\S.{0,120}[=()<>$_\[\]{}].{0,80};\s*$"
    r"|[^\\\n]{0,120}[{}]\s*$"
    r"|[\w.\[\]]{1,60}\s?[-+*/]?=\s?\S(?:[^=]*$|.*\w[(\[{]|.*[\"'{;]|.*==)|[\w.]{2,60}\([^)]{0,80}\)[;:]?\s*$)"
)


def is_code(text: str) -> bool:
    """Whether at least 30% of the last 40 lines are those of a program."""
    lines = [line for line in text[-4000:].split("\n") if line.strip()][-40:]
    return sum(1 for line in lines if _CODE_LINE.match(line)) >= max(1, 0.3 * len(lines))


def find_markup(text: str, question: str = "") -> list[Span]:
    """Tags, entities and broken LaTeX of a text, in their order; none where the question is about HTML."""
    found: list[Span] = []
    if ("<" in text or ">" in text) and _may_hold_tags(text.replace("<<", "").replace(">>", "")):
        found += _tags(text)
    if "[" in text and ("[/" in text or "[url" in text):
        found += [(*match.span(), f"BBCode: {match.group()[:60]}") for match in _BBCODE.finditer(text)]
    if ("[" in text and "INST]" in text) or (">" in text and ("|>" in text or "_turn>" in text or "SYS>" in text)):
        found += [(*match.span(), f"token of a chat template: {match.group()}") for match in _CHAT.finditer(text)]
    if "&" in text or (";" in text and any(part in text for part in _ENDS_OF_ENTITIES)):
        found += _entities(text)
    if "\\" in text or "^{" in text or "_{" in text:
        found += find_latex(text)
    if not found or (question and _ABOUT.search(question)):
        return []
    quoted = [match.span() for match in _QUOTED.finditer(text)] if "`" in text else []
    kept = [span for span in found if not any(start <= span[0] < end for start, end in quoted)]
    return _apart(kept)[:MAX_SPANS] if kept and not is_code(_without(text, kept)) else []


def _apart(spans: list[Span]) -> list[Span]:
    """In their order, without those that begin within another: half of what is found whole."""
    apart: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not apart or span[0] >= apart[-1][1]:
            apart.append(span)
    return apart


def _without(text: str, spans: list[Span]) -> str:
    """The text but for its left-over attributes, which look like assignments."""
    for start, end, what in sorted(spans, reverse=True):
        if what.startswith("the rest of"):
            text = text[:start] + text[end:]
    return text


def _may_hold_tags(text: str) -> bool:
    """A "<" before a letter or slash, or a ">" behind one: a < b is none."""
    if "<" not in text and ">" not in text:
        return False
    shape = text.encode("utf-8", "surrogatepass").translate(_SHAPES)
    if b"<a" in shape or b"a>" in shape or b"a >" in shape:
        return True
    return "h1>" in text or "h2>" in text or "h3>" in text or "h4>" in text


def _tags(text: str) -> Iterator[Span]:
    spans: list[tuple[int, int]] = []
    for match in _TAG.finditer(text):
        spans.append(match.span())
        close, name, attributes, end = match.groups()
        before = text[match.start() - 1 : match.start()] if match.start() else ""
        name = name.lower()
        generic = before.isalnum() and match.group(2)[0].isupper()  # List<B>
        marked = close or end or (attributes and "=" in attributes)
        if not generic and before != "<" and (name in _SURE or (name in _UNSURE and marked)):
            if attributes and "=" not in attributes and not attributes.isspace():
                continue  # "a <b and c> d"
            yield *match.span(), f"HTML tag: {match.group()[:60]}"
    for match in _HALF.finditer(text):
        name = match.group(1) or match.group(2) or match.group(3)
        slash = match.group().startswith(("</", "/"))
        if name in _HALVES or (slash and (name in _SURE or name in _UNSURE)):
            yield *match.span(), f"half an HTML tag: {match.group()[:60]}"
    for match in _HALF_WITH.finditer(text):
        if match.group(1).lower() in _SURE | _UNSURE and match.group(1) not in _HALVES:
            yield *match.span(), f"half an HTML tag: {match.group()[:60]}"
    for match in _DECLARED.finditer(text):
        yield *match.span(), f"HTML or XML, no tag of it: {match.group()[:60]}"
    for match in _LOST_TAG.finditer(text):
        if _has_lost_its_tag(text, match) and not any(a <= match.start() < b for a, b in spans):
            yield *match.span(), f"the rest of an HTML tag: {match.group()[:60]}"
    if cut := _cut_tag(text):
        yield cut


def _has_lost_its_tag(text: str, match: re.Match[str]) -> bool:
    """Whether no "<" before opens the tag; what only ends with a quotation mark must have lost the first one."""
    start = match.start()
    if text.rfind("<", max(0, start - 300), start) > text.rfind(">", max(0, start - 300), start):
        return False
    line = text[text.rfind("\n", 0, start) + 1 : match.end()]
    return "=" in match.group() or line.count('"') % 2 == 1


def _cut_tag(text: str) -> Span | None:
    """A tag in which the text ends."""
    start = text.rfind("<", max(0, len(text) - 300))
    match = _CUT_TAG.fullmatch(text, start) if start >= 0 else None
    if match is None or text[start - 1 : start] == "<":
        return None
    name, rest = (match["name"] or "").lower(), (match["rest"] or "").strip()
    known = name in _SURE or name in _UNSURE
    begun = len(name) > 1 and any(tag.startswith(name) for tag in _SURE)
    if match["close"]:
        right = not rest and (not name or known or begun)
    elif rest:
        right = known and re.match(r"[a-z-]+\s?=|(?:cla|hr|sr|sty|tar|wid|hei)[a-z]*$", rest) is not None
    else:
        right = name not in _HALVES and (
            begun or (name in _SURE and _AFTER_PROSE.search(text, max(0, start - 4), start) is not None)
        )
    return (start, len(text), f"an HTML tag that is cut off: {text[start : start + 60]}") if right else None


def _entities(text: str) -> Iterator[Span]:
    for match in _ENTITY.finditer(text):
        name = match.group(1)
        if name is None or name in name2codepoint or name == "apos":
            yield *match.span(), f"HTML entity: {match.group()}"
    for match in _BARE_ENTITY.finditer(text):
        yield *match.span(), f"half an HTML entity: {match.group()}"
