"""LaTeX that does not close, or that is left over in a text that is otherwise none.

In: a text. Out: spans with words that say what is broken: an environment, braces, a $, \\left without \\right, and
commands of a document (\\item, \\label, \\textbf) where nothing else is LaTeX. Right LaTeX is left alone, formulas
without dollars too.
"""

import re
from collections import Counter
from collections.abc import Iterator

Span = tuple[int, int, str]
REACH = 400  # characters in which braces close, or their paragraph ends

_COMMAND = re.compile(r"\\[a-zA-Z]{2,}")
_BEGIN_END = re.compile(r"\\(begin|end)\s?\{([a-zA-Z]{1,20}\*?)\}")
_FORMULA = re.compile(r"\\[a-zA-Z]{2,}|[_^]\{")
_ESCAPED = re.compile(r"\\[{}\\]")
_DOLLAR = re.compile(r"(?<!\\)\$+")
_ARGUMENT = re.compile(r"(?<!\\)\\[a-zA-Z]{2,20}\*?(?:\[[^\]\n]{0,80}\])?\s?\{|(?<=[\w)\]}])[_^]\{")
_SIDES = re.compile(r"\\\\|\\(left|right)(?![a-z])|\\([()\[\]])")
_OPENS = re.compile(r"(?<![\\$])\$(?=\\[a-zA-Z]{2})")
_PRICE = re.compile(r"\$(?:\.?[0-9]|<<|-[0-9])")
_MATHS = re.compile(r"[=^_+*/<>|]|\\[a-zA-Z]{2}")
_OTHER_SIDE = {"left": "right", "(": ")", "[": "]"}
_INLINE = re.compile(r"\$[^$\n]{0,300}[\\^_{][^$\n]{0,300}\$|\$\$|\\[(\[]|\\(?:begin|documentclass|newcommand)\b")
_STRUCTURE = re.compile(
    r"(?<![\w:/\\])\\{1,2}(?:item|bibitem|label|cite[tp]?|ref|eqref|textbf|textit|texttt|textsc|emph|underline|footnote"
    r"|(?:sub){0,2}section|chapter|caption|hline|centering|noindent|includegraphics|usepackage|maketitle|[hv]space"
    r"|newpage|href|url)\b(?:\[[^\]\n]{0,80}\])?\*?\{?|\{\\(?:bf|it|em|rm|tt|sc)\b"
)


def find_latex(text: str) -> Iterator[Span]:
    if "\\" in text and _COMMAND.search(text):
        yield from _environments(text)
        yield from _left_over(text)
    if "\\" in text:
        yield from _sides(text)
    if "{" in text:
        yield from _braces(text)
    if "$" in text:
        dollars = [*_dollars(text)]
        yield from dollars or _lone_dollar(text)


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


def _sides(text: str) -> Iterator[Span]:
    """\\left without \\right, \\( without \\), \\[ without \\], and the other way round."""
    open_ones: dict[str, list[tuple[int, int]]] = {"left": [], "(": [], "[": []}
    for match in _SIDES.finditer(text):
        side = match.group(1) or match.group(2) or ""
        if side in open_ones:
            open_ones[side].append(match.span())
        elif side:
            opens = next(one for one, other in _OTHER_SIDE.items() if other == side)
            if not open_ones[opens]:
                if side == "right" or _MATHS.search(text, max(0, match.start() - 40), match.start()):
                    yield *match.span(), f"LaTeX: \\{side} without its \\{opens}"
            else:
                open_ones[opens].pop()
    for side, places in open_ones.items():
        for start, end in places:
            if side == "left" or _MATHS.search(text, end, end + 40):
                yield start, end, f"LaTeX: \\{side} without its \\{_OTHER_SIDE[side]}"


def _left_over(text: str) -> Iterator[Span]:
    """Commands of a document in a text that holds no formula and no environment."""
    if (match := _STRUCTURE.search(text)) and not _INLINE.search(text):
        yield *match.span(), f"LaTeX: {match.group()} in a text that is none"


def _dollars(text: str) -> Iterator[Span]:
    """A $ next to a command that does not close in its paragraph; a $$ in the text; braces between two."""
    place = 0
    for paragraph in text.split("\n\n"):
        signs = [match.span() for match in _DOLLAR.finditer(paragraph)]
        single = [start for start, end in signs if end - start == 1]
        if any(end - start > 1 for start, end in signs):
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


def _lone_dollar(text: str) -> Iterator[Span]:
    """The one $ before a command in a text whose others stand before amounts: these hide it where they are odd."""
    match = _OPENS.search(text)
    if match and all(_PRICE.match(text, one.start()) for one in _DOLLAR.finditer(text) if one.start() != match.start()):
        yield match.start(), match.start() + 1, "LaTeX: a $ that does not close"


def _braces(text: str) -> Iterator[Span]:
    """Braces of a command, an index or a power that do not close within the paragraph."""
    place = 0
    for paragraph in text.split("\n\n"):
        if paragraph.count("{") - paragraph.count("\\{") > paragraph.count("}") - paragraph.count("\\}"):
            for match in _ARGUMENT.finditer(paragraph):
                if not _closes(paragraph, match.end()):
                    yield (
                        place + match.start(),
                        place + match.end(),
                        f"LaTeX: the braces of {match.group()} do not close",
                    )
        place += len(paragraph) + 2


def _closes(paragraph: str, i: int) -> bool:
    """Whether the braces that are open before `i` close; true too where that lies far away."""
    depth, stop = 1, min(len(paragraph), i + REACH)
    while i < stop and depth:
        sign = paragraph[i]
        if sign == "\\":
            i += 1
        depth += (sign == "{") - (sign == "}")
        i += 1
        if not depth and paragraph[i : i + 1] == "{":  # the second of a fraction
            depth, i = 1, i + 1
    return not depth or "}" in paragraph[stop:]


def open_environments(text: str) -> Counter[str]:
    """LaTeX environments that are open at the end of a text."""
    count: Counter[str] = Counter()
    for match in _BEGIN_END.finditer(text):
        count[match.group(2)] += 1 if match.group(1) == "begin" else -1
    return +count
