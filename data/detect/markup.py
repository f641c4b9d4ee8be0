"""Markup that is left over or broken: HTML tags and entities in prose, chat tokens, LaTeX that does not close.

In: a text, and the question of its row. Out: spans with words that say what each is. Markdown is no breakage,
nor is what only looks like a tag: List<String>, a < b, <<48/2=24>>, <input> as a placeholder, prices in dollars.
Code in backquotes or as the whole text is left alone.
"""

import re
from collections import Counter
from collections.abc import Iterator
from html.entities import name2codepoint

from data.detect.wording import word_set

Span = tuple[int, int, str]
MAX_SPANS = 20  # of one kind in one text; a report shows fewer

_TAG = re.compile(r"<[a-zA-Z/]")
_MAY_END_TAG = re.compile(r"[a-z1-4] ?/?>")
_MAY_OPEN_TAG = re.compile("<[a-zA-Z/]")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,10})(\s[^<>]{0,500})?\s?(/?)>")
_HALF = re.compile(
    r"</?([a-z][a-z0-9]{0,10})\b(?![^<>]{0,300}>)|(?<![\w<$\\])/([a-z][a-z0-9]{0,10})>"
    r"|(?<![\w<$\\/])([a-z]{2,10}) ?/?>"
)
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
    r"|markup|angular ?js|\bphp\b|\b(?:div|span|anchor|image|title|meta|script|style|list|opening|closing) tags?\b",
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
    r"|(?:done|fi|end|do|then|esac)\b.{0,12}$|[@}\])]|//|/\*|\S.{0,120}[=()<>$_\[\]{}].{0,80};\s*$|[^\\\n]{0,120}[{}]\s*$"
    r"|[\w.\[\]]{1,60}\s?[-+*/]?=\s?\S|[\w.]{2,60}\([^)]{0,80}\)[;:]?\s*$)"
)


def is_code(text: str) -> bool:
    """Whether at least 30% of the last 40 lines are those of a program."""
    lines = [line for line in text[-4000:].split("\n") if line.strip()][-40:]
    return sum(1 for line in lines if _CODE_LINE.match(line)) >= max(1, 0.3 * len(lines))


def find_markup(text: str, question: str = "") -> list[Span]:
    """Tags, entities and broken LaTeX of a text, in their order; none where the question is about HTML."""
    found: list[Span] = []
    if ("<" in text or ">" in text) and _may_hold_tags(text):
        found += _tags(text)
    if "[" in text and ("[/" in text or "[url" in text):
        found += [(*match.span(), f"BBCode: {match.group()[:60]}") for match in _BBCODE.finditer(text)]
    if ("[" in text and "INST]" in text) or (">" in text and ("|>" in text or "_turn>" in text or "SYS>" in text)):
        found += [(*match.span(), f"token of a chat template: {match.group()}") for match in _CHAT.finditer(text)]
    if "&" in text and ";" in text:
        found += _entities(text)
    if "\\" in text or ("$" in text and ("^{" in text or "_{" in text)):
        found += _latex(text)
    if not found or (question and _ABOUT.search(question)):
        return []
    quoted = [match.span() for match in _QUOTED.finditer(text)] if "`" in text else []
    kept = [span for span in found if not any(start <= span[0] < end for start, end in quoted)]
    return sorted(kept)[:MAX_SPANS] if kept and not is_code(text) else []


def _may_hold_tags(text: str) -> bool:
    """A "<" before a letter or slash, or a ">" after one: a < b and <<4/2=2>> are none."""
    if _MAY_OPEN_TAG.search(text):
        return True
    place = text.find(">")
    while place >= 0:
        before = text[max(0, place - 2) : place].strip(" /")[-1:]
        if before.isalpha() or text[max(0, place - 2) : place] in ("h1", "h2", "h3", "h4"):
            return True
        place = text.find(">", place + 1)
    return False


def _tags(text: str) -> Iterator[Span]:
    for match in _TAG.finditer(text):
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
        if name in _HALVES:
            yield *match.span(), f"half an HTML tag: {match.group()[:60]}"


def _entities(text: str) -> Iterator[Span]:
    for match in _ENTITY.finditer(text):
        name = match.group(1)
        if name is None or name in name2codepoint or name == "apos":
            yield *match.span(), f"HTML entity: {match.group()}"


# -- LaTeX

_COMMAND = re.compile(r"\\[a-zA-Z]{2,}")
_BEGIN_END = re.compile(r"\\(begin|end)\s?\{([a-zA-Z]{1,20}\*?)\}")
_FORMULA = re.compile(r"\\[a-zA-Z]{2,}|[_^]\{")
_ESCAPED = re.compile(r"\\[{}\\]")
_DOLLAR = re.compile(r"(?<!\\)\$+")
_ARGUMENT = re.compile(
    r"\\(?:frac|sqrt|text|mathbf|mathrm|mathcal|mathbb|vec|hat|bar|binom|overline|underline|tilde|dfrac"
    r"|tfrac|operatorname|textbf|textit|emph|boxed|ket|bra)\s?\{"
)


def _latex(text: str) -> Iterator[Span]:
    if _COMMAND.search(text):
        yield from _environments(text)
        yield from _arguments(text)
    yield from _dollars(text)


def _environments(text: str) -> Iterator[Span]:
    """\\begin without \\end, and the other way round."""
    open_ones: list[tuple[str, re.Match[str]]] = []
    for match in _BEGIN_END.finditer(text):
        side, name = match.groups()
        if side == "begin":
            open_ones.append((name, match))
        elif any(name == other for other, _ in open_ones):
            while open_ones:
                other, opened = open_ones.pop()
                if other == name:
                    break
                yield *opened.span(), f"LaTeX: {opened.group()} without its \\end"
        else:
            yield *match.span(), f"LaTeX: {match.group()} without its \\begin"
    for _, opened in open_ones:
        yield *opened.span(), f"LaTeX: {opened.group()} without its \\end"


def _dollars(text: str) -> Iterator[Span]:
    """A $ next to a command that does not close in its paragraph; a $$ in the text; braces between two."""
    place = 0
    for paragraph in text.split("\n\n") if "$" in text else ():
        signs = [match.span() for match in _DOLLAR.finditer(paragraph)]
        single = [start for start, end in signs if end - start == 1]
        if len(signs) > len(single):
            pass  # displayed formulas may hold text with $ in it
        elif len(single) % 2 == 0:
            for start, end in zip(single[::2], single[1::2], strict=True):
                formula = _ESCAPED.sub("", paragraph[start + 1 : end])
                if formula.count("{") != formula.count("}") and _FORMULA.search(formula):
                    yield place + start, place + end + 1, "LaTeX: the braces between two $ do not match"
        elif (opens := _COMMAND.match(paragraph, single[-1] + 1)) or not any(
            paragraph[start + 1 : start + 2].isdigit()
            for start in single  # a price
        ):
            start = single[-1] if opens or paragraph[single[-1] + 1 : single[-1] + 2].strip() else single[0]
            if _FORMULA.search(paragraph, max(0, start - 60), start + 60):
                yield place + start, place + start + 1, "LaTeX: a $ that does not close"
        place += len(paragraph) + 2
    doubles = [match.span() for match in _DOLLAR.finditer(text) if len(match.group()) == 2]
    if len(doubles) % 2 and _FORMULA.search(text, max(0, doubles[-1][0] - 300)):
        yield *doubles[-1], "LaTeX: an odd number of $$"


def _arguments(text: str) -> Iterator[Span]:
    """Braces of a command that do not close within the paragraph."""
    for match in _ARGUMENT.finditer(text):
        depth, i, stop = 1, match.end(), min(len(text), match.end() + 400)
        while i < stop and depth:
            sign = text[i]
            if sign == "\\":
                i += 1
            elif sign == "\n" and text[i : i + 2] == "\n\n":
                break
            depth += (sign == "{") - (sign == "}")
            i += 1
            if not depth and text[i : i + 1] == "{":  # the second of a fraction
                depth, i = 1, i + 1
        if depth and i < match.end() + 400:
            yield *match.span(), f"LaTeX: the braces of {match.group()} do not close"


def open_environments(text: str) -> Counter[str]:
    """LaTeX environments that are open at the end of a text."""
    count: Counter[str] = Counter()
    for match in _BEGIN_END.finditer(text):
        count[match.group(2)] += 1 if match.group(1) == "begin" else -1
    return +count
