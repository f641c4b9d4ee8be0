"""How one text ends: the kind of its end, as its last lines show.

    text -> how_it_ends(text, is_text): (kind, why in words, where the evidence starts)

"whole" and "brief" (short ones) have a full stop or what is like it; "open" breaks off inside a bracket, a code fence,
a list, before a comma or after "the"; "bare" is prose without a full stop and "clause" a short sentence without one;
"comma" and "colon" say it; of "other" (code, tables, titles, sums), "phrase" and "verse" nothing can be said.
"""

import re
from itertools import pairwise

from data.detect.latex import open_environments
from data.detect.markup import is_code
from data.detect.wording import word_set

LAST_ITEM = 4  # words of the last item of a list without line breaks
LINE = 100  # characters of lines that need no stop
LONG = 60  # characters, from which on one sentence without a full stop is judged

_TERMINAL = ".!?…。！？．।॥؟۔։።፡᙮༎᠃။។᜶‽"
_CLOSERS = "\"'”’»)]}*_`~›」』）】》〉 \u200b\u200c\u200e\u200f"
_OPEN_WORDS = word_set("the a an and or but because than their my your our its every into if while whose of")
_OPEN_LATER = word_set(
    "to in for from by at as is are was were that which his her with on be been has have had will would can could "
    "should must may might not so such between when where who very i he she they we it this these those about "
    "after before under over through during without until upon among there then also only just each more most "
    "some any no"
)
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:Mr|Mrs|Ms|Dr|Prof|vs|e\.g|i\.e|cf|Fig|Eq)\.$")
_CUT_MARK = re.compile(r"(?:\[(?:truncated|cut|more|continued|\.\.\.|…)\]|<truncated>|\(truncated\))$", re.I)
LIST_ITEM = re.compile(r"\s*(?:[-*•+–]|\(?[0-9]{1,3}[.):]|\(?(?:[a-zA-Z]|[ivxIVX]{1,5})[.)])\s")
_BARE_ITEM = re.compile(r"\s*(?:[-*•+–]|\(?[0-9]{1,3}[.):]?|[a-zA-Z][.)])\s*")
_NUMBER = re.compile(r"\s*\(?([0-9]{1,3})")
_SAID = re.compile(r"[^:.!?]{1,40}(?::| [-–—]) \S")
_EQUATION = re.compile(r"[=≈]\s?[-+−]?[$€£]?[^\s=]{1,40}(?: [^\s\W\d]{1,3})?\s*$")
_STARTERS = word_set("the a an this these those there it he she they we i you if when while")
_FINITE = word_set("is are was were has had he she they we I it He She They We It There This These")
_VERBS = word_set(
    "is are was were am has have had can could will would shall should may might must do does did be been being"
)
_HEADING = re.compile(
    r"(?:chapter|part|book|section|act|scene|canto|volume|letter)\b[ .]{1,2}(?:[0-9]|[ivxlc]+\b).{0,50}$", re.I
)
_LABEL = re.compile(r"[^:.!?]{1,40}: ?\S.{0,60}$")
_FAREWELL = re.compile(  # and the beginning of a letter
    r"(?:--|[.!?] )(?:\S+ ){0,3}\S+,$|\b(?:[Yy]ours?(?: \w+)?|friend|servant|[Ss]incerely|etc\.),$"
    r"|^\W?(?:My )?[Dd]ear\b.{0,40},$"
)
# "Be the change." - Mahatma Gandhi; Love,\nYour family
_SIGNED = re.compile(
    r"[\"”] ?[-—–]{1,2} ?[A-Z][\w.' ]{2,40}$|^[A-Z][\w ]{2,30}, *\n+[A-Z][\w.']*(?: [A-Z\w][\w.']*){0,3}$", re.M
)
_QUOTE = re.compile(r"(?<!\w)['‘]\w")  # a single quotation mark that opens
_LINK = re.compile(r"(?:://|www\.|doi\b|arxiv|\.(?:com|org|edu|html?)\b)\S*$", re.I)
_NAME_OF_THINGS = re.compile(r"[A-Z0-9“\"(][\w'’.-]*[:,]?|of|the|and|in|a|an|to|for|with|by|on|at|from|&|-|—")
_SENTENCE = re.compile(rf"[{re.escape(_TERMINAL)}][\"”’»)\]*_]*\s|\n\s*\n|:\s")


def how_it_ends(text: str, is_text: bool) -> tuple[str, str, int]:
    """(kind, why in words, where the evidence starts) of a text that is not empty."""
    body = text.rstrip()
    tail = body[-400:]
    offset = len(body) - len(tail)
    last_line = tail[tail.rfind("\n") + 1 :]
    at = offset + tail.rfind("\n") + 1
    if "```" in body and body.count("```") % 2:
        return "open", "a code fence ``` opens and does not close", body.rfind("```")
    if _CUT_MARK.search(tail[-20:]):
        return "open", "ends with a mark of a cut", at
    if _BARE_ITEM.fullmatch(last_line) and _goes_on(body, last_line):
        return "open", "a list goes on, and its last item is empty", at
    core = tail.rstrip(_CLOSERS)
    if not core or core[-1] in _TERMINAL:
        if _ABBREVIATION.search(tail[-8:]):
            return "open", "ends with an abbreviation", at
        return "whole" if len(body) >= LONG else "brief", "", at
    last = body[-1]
    if "\\begin" in tail and open_environments(body[-4000:]):
        return "open", "a LaTeX environment is open at the end", body.rfind("\\begin")
    if last == ":" and core.endswith(":"):
        return ("other" if tail.count(":\n") + tail.count(": \n") > 1 else "colon"), "ends with a colon", at
    if _is_closed(tail, last_line, last):
        return "other", "", at
    if is_code(body):
        return _code_end(body, tail, at)
    if _EQUATION.search(last_line):
        return "other", "", at
    if not is_text and (alike := _others_alike(body, last_line)):
        return (
            ("open", f"the other lines like it end with a full stop: {last_line[-40:]!r}", at)
            if alike == "."
            else ("verse", "", at)
        )
    if _is_other(tail, last_line, last, is_text):
        return "other", "", at
    if _is_verse(tail):
        return "verse", "", at
    return _prose_end(tail, last_line, last, at, offset, is_text)


def _code_end(body: str, tail: str, at: int) -> tuple[str, str, int]:
    missing = body.count("{") - body.count("}") + body.count("(") - body.count(")")
    if tail[-1] in "([{,=+&|" and missing > 0:
        return "open", f"the code ends with {tail[-1]!r} and open brackets", at
    return "other", "", at


def _is_closed(tail: str, last_line: str, last: str) -> bool:
    """Tables, headings, quotations, brackets, formulas, links, lines in capitals."""
    line = last_line.strip()
    if line.startswith(("|", "#", ">", "[")) or tail.endswith("--"):
        return True
    if last in "'’" and len(tail) > 1 and tail[-2].isalpha() and not _QUOTE.search(tail):
        return False  # an apostrophe: "don'"
    return (
        last in ")]}>`|*_$%\"”’'»」』）】》~—^"
        or _LINK.search(line[-120:]) is not None
        or (line.isupper() and len(line) > 2)
    )


def _is_other(tail: str, last_line: str, last: str, is_text: bool) -> bool:
    """Titles, labels, verse: ends without a full stop that are right."""
    line = last_line.strip()
    paragraph = tail.rpartition("\n\n")[2] if "\n\n" in tail or len(tail) < 100 else ""
    words = paragraph.split()
    if 2 < len(words) <= 14 and all(_NAME_OF_THINGS.fullmatch(word) for word in words):
        return True  # a title
    if line.count("|") > 1 or _HEADING.match(line) or _SIGNED.search(tail[-120:]):
        return True
    if not is_text and ((_LABEL.match(line) and not _breaks_off(line)) or line.split()[-1].startswith("#")):
        return True  # "Fruit: apple, pear", "#hashtag"
    return last == "," and bool(_FAREWELL.search(line[-60:])) and (is_text or line.lstrip().startswith("Dear"))


def _breaks_off(line: str) -> bool:
    """Whether what a label is given ends as no phrase does."""
    words = line.partition(": ")[2].split()
    return len(words) > 2 and words[-1].lower() in _OPEN_WORDS | _OPEN_LATER


def _is_verse(tail: str) -> bool:
    """Short lines that begin with capitals or numbers: verse, lists, addresses. Three lines must be without stops."""
    lines = [one.strip() for one in tail.split("\n") if one.strip()]
    if len(lines) > 3:
        lines = lines[1:]  # it may have begun before the tail
    elif any(one[-1] in _TERMINAL for one in lines[:-1]):
        return False
    return len(lines) >= 3 and all(len(one) < 55 and not one[0].islower() for one in lines[-4:])


def _prose_end(tail: str, line: str, last: str, at: int, offset: int, is_text: bool) -> tuple[str, str, int]:
    words = line.split()
    word = words[-1].strip("\"'“”‘’(*_").lower()
    breaks = [match.end() for match in _SENTENCE.finditer(tail)]
    sentence = tail[breaks[-1] :] if breaks else tail
    opens = max(sentence.rfind("("), sentence.rfind("["))
    bracket = opens > max(sentence.rfind(")"), sentence.rfind("]")) and len(sentence.split()) > 3
    longer = len(words) > 2 and len(sentence.split()) > 2
    if bracket:
        return (
            "open",
            f"a bracket opens and does not close: {sentence[opens : opens + 40]!r}",
            offset + len(tail) - len(sentence) + opens,
        )
    if word in _OPEN_WORDS and longer:
        return "open", f"ends after {word!r}", at
    if last in ",-=+<(&" and longer and not is_text:
        return "open", f"ends after {last!r}", at
    if LIST_ITEM.match(line) and word not in _OPEN_LATER:
        return "phrase", "", at
    judged = offset + len(tail) >= LONG or len(tail) - len(sentence) >= LONG / 2
    if is_text:
        judged = offset + len(tail) >= LONG / 2 and len(tail.split()) >= 6
    if not judged and not is_text and _is_clause(sentence.split()):
        return "clause", f"ends inside a sentence, after {words[-1][-30:]!r}", at
    if not judged or (not is_text and word not in _OPEN_LATER and last.isalnum() and _flat_list(sentence)):
        return "phrase", "", at
    kind = "comma" if is_text and last == "," else "bare"
    return kind, f"ends inside a sentence, after {words[-1][-30:]!r}", at


def _flat_list(sentence: str) -> bool:
    """Items of a list whose line breaks are lost: "Joint pain Swelling of the legs Fever"."""
    words = sentence.split()
    pairs = [*enumerate(pairwise(words), 1)]
    items = [i for i, (before, word) in pairs if word[0].isupper() and before[-1].isalnum()]
    if not _FINITE.isdisjoint(words):  # names stand in sentences too, behind "of" and "and", or one behind the other
        items = [i for i in items if words[i - 1][0].islower() and words[i - 1] not in _OPEN_LATER | _OPEN_WORDS]
        if len(items) < 4 and not (len(items) > 1 and items[-1] >= len(words) - LAST_ITEM):
            return False
    return len(items) >= max(2, 0.08 * len(words))


def _others_alike(body: str, last_line: str) -> str:
    """ "." where the other lines of the shape of the last one end with a full stop, "-" where none has any stop."""
    if "\n" not in body:
        return ""
    shape = _shape(last_line)
    others = [line for line in body[-2000:].split("\n")[:-1] if line.strip() and _shape(line) == shape][-8:]
    if len(others) < (3 if shape == "plain" else 1):
        return ""
    ends = [line.rstrip(_CLOSERS)[-1:] for line in others]
    asked = "?" in ends and len(others) < 3
    if shape != "plain" and not asked and all(end and end in _TERMINAL for end in ends):
        return "."
    bare = not any(end in (*_TERMINAL, ",", ";") for end in ends)
    return "-" if bare and len(others) > 1 and all(len(line) < LINE for line in [*others, last_line]) else ""


def _goes_on(body: str, last_line: str) -> bool:
    """Whether a mark or number alone goes on with the list before it."""
    before = body[: len(body) - len(last_line)].rstrip()
    above = before[before.rfind("\n") + 1 :]
    if not before or not LIST_ITEM.match(above):
        return False
    old, new = _NUMBER.match(above), _NUMBER.match(last_line)
    if old and new:
        return int(new.group(1)) == int(old.group(1)) + 1
    return not old and not new and above.split()[0] == last_line.strip()


def _shape(line: str) -> str:
    if LIST_ITEM.match(line) or _BARE_ITEM.fullmatch(line):
        return "item"
    return "label" if _SAID.match(line) else "plain"


def _is_clause(words: list[str]) -> bool:
    """A subject and a verb, or an article and more: no bare phrase, no list."""
    if len(words) < 3 or not words[0][0].isupper() or sum(word.endswith(",") for word in words) > len(words) / 3:
        return False
    last = words[-1].lower()
    return (
        words[0].lower() in _STARTERS
        or (last in _OPEN_LATER and len(words) > 3)
        or any(word.lower() in _VERBS for word in words[1:])
    )
