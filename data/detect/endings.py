"""Does a text end where it should? What its last lines show, and what the other rows of its source are used to.

    row -> habit(row): how it ends, as a pair of names -> Counter over a source's rows (merged by addition)
        -> source_habits(counter) -> find_cut(row, habits): a span and words that say why the row is cut off

data/detect/stops.py tells the kinds of ends. "open" is cut off whoever wrote it; "bare" is a cut where the rows of
a source usually end with a full stop: with 60% of all rows cut off, 40% still do; of sources made of short phrases (4%
of OpenTriviaQA's rows end with one, 1% of NQ-open's) nothing is asked. So do "clause", "comma" and "colon" where few
rows of the source end with them. Likewise a last line that opens with a mark of its own ("#### 42").
"""

import re
from collections import Counter
from typing import Any, NamedTuple

from data.detect.markup import Span
from data.detect.stops import LIST_ITEM, LONG, how_it_ends

Row = dict[str, Any]
Habit = tuple[str, str]

STOPS = 0.3  # share of whole ends among the whole and bare ones, from which on a missing full stop is a cut
MARKS = 0.3  # share of rows with a mark, from which on its absence is a cut (see usual_mark)
MIN_ROWS = 5  # of a source, to speak of habits
COMMAS = 8  # bare ends for each comma, from which on commas are cuts too: 3% of cut novels' paragraphs end with one
SHORT = 30  # characters of an answer that is no piece of a longer one
RIGHT = {"whole": 4, "brief": 4, "other": 2}  # at most a quarter, a half of the rows without a mark may end so
TALK = 3  # brief answers for each long one, from which on a source is small talk
_UNASKED = ("phrase", "other", "verse")
_LAST_WORD = re.compile(r"[a-z]{2} ([a-z]+)\s*\Z")
_LONG_WORD = re.compile(r"[A-Za-z]{3,}")
_INFLECTED = re.compile(
    r"(?:e?s|e?d|ing|ly|e?r|er?s|e?n|al|ally|ful|fully|less|ness|y|ity|ic|ion|ions|ment|ments|able|ed|ation|ive|ist|ism|ous)"
)
_MARK = re.compile(r"[#=>*|<\\~-]+\S{0,10}|\S{1,14}:\**")


class SourceHabits(NamedTuple):
    stops: float  # share of rows with a full stop at the end, among those where one can be asked for
    mark: str  # that the last line opens with; "" for none
    clauses_are_cuts: bool  # short sentences too; not in small talk, of which some end as they like
    short_phrases: bool  # nearly all rows are such, or code, or tables
    commas_are_cuts: bool  # else they lead to speech or end a letter, as in 15 of 24,149 paragraphs of novels
    colons_are_cuts: bool


def field_of(row: Row) -> str:
    return "text" if row["kind"] == "text" else "answer"


def habit(row: Row) -> Habit:
    """How a row ends: (kind of end, the mark that opens its last line or ""), for a Counter over its source."""
    text = row[field_of(row)]
    if not text or not text.strip():
        return "other", ""
    return how_it_ends(text, row["kind"] == "text")[0], mark_of(text)


def source_habits(ends: Counter[Habit]) -> SourceHabits:
    """What the rows of a source are used to, from how each of them ends."""
    kinds: Counter[str] = Counter()
    for (kind, _), rows in ends.items():
        kinds[kind] += rows
    total = max(ends.total(), 1)
    whole = kinds["whole"] + kinds["brief"]
    asked = whole + kinds["bare"] + kinds["clause"] + kinds["open"]  # where a full stop can be asked for
    return SourceHabits(
        stops=whole / asked if asked >= MIN_ROWS else 0.0,
        mark=usual_mark(ends) if total >= MIN_ROWS else "",
        clauses_are_cuts=kinds["brief"] <= TALK * kinds["whole"] or kinds["clause"] > 0.01 * kinds["brief"],
        short_phrases=kinds["other"] + kinds["verse"] + kinds["phrase"] > 0.8 * total,
        commas_are_cuts=kinds["bare"] > COMMAS * kinds["comma"],
        colons_are_cuts=kinds["colon"] < 0.02 * total,
    )


def usual_mark(ends: Counter[Habit]) -> str:
    """The mark that the last lines of a source open with; "" for none.

    It must open those of nearly all rows, or of 30% while few of the others end as if they were whole: "Note:" is no
    such mark where the answers without it end with a full stop.
    """
    marks: Counter[str] = Counter()
    for (_, mark), rows in ends.items():
        marks[mark] += rows if mark else 0
    mark, rows = max(marks.items(), key=lambda one: one[1], default=("", 0))
    others = Counter({kind_and_mark: count for kind_and_mark, count in ends.items() if kind_and_mark[1] != mark})
    right = max(factor * sum(n for (one, _), n in others.items() if one == kind) for kind, factor in RIGHT.items())
    total, without = ends.total(), others.total()
    return mark if rows >= MARKS * total and (rows >= 0.9 * total or right <= without) else ""


def mark_of(text: str) -> str:
    """The sign or label that opens the last of several lines, as "####" in "#### 42"; "" for none."""
    body = text.rstrip()
    head, newline, last = body.rpartition("\n")
    opening, _, rest = last.strip().partition(" ")
    if not newline or not rest or len(last) > 60 or LIST_ITEM.match(last) or not head.strip():
        return ""
    return opening if _MARK.fullmatch(opening) and not opening.startswith(("//", "--")) else ""


def find_cut(row: Row, habits: SourceHabits | None = None) -> Span | None:
    """Why the answer (or text) of a row is cut off; without `habits` only what shows by itself is found."""
    field = field_of(row)
    text = row[field]
    if not text or not text.strip():
        return None
    kind, why, start = how_it_ends(text, field == "text")
    if kind in _UNASKED and field == "answer" and (word := _broken_word(text, row["question"] or "")):
        kind, why = "clause", f"ends inside a word: {word!r}"
    end = len(text.rstrip())
    if kind == "open" and (habits is None or not habits.short_phrases or end >= LONG or "```" in why):
        return start, end, why
    if habits is None:
        return None
    if habits.mark and end > SHORT and _lacks(text, habits.mark):
        return start, end, f"ends without the line that other answers of the source end with: {habits.mark!r}"
    if habits.stops < STOPS or habits.short_phrases:
        return None
    if kind == "bare" or (kind == "comma" and habits.commas_are_cuts) or (kind == "clause" and habits.clauses_are_cuts):
        return start, end, f"{why}; in this source {habits.stops:.0%} end with a full stop"
    if kind == "colon" and field == "answer" and habits.colons_are_cuts:
        return start, end, "ends with a colon, and nothing follows"
    return None


def _lacks(text: str, mark: str) -> bool:
    """Whether a mark is missing, or stands at the end with nothing behind it. One with a control character in it is
    another matter."""
    if mark in text and not text.rstrip().endswith(mark):
        return False
    seen = "".join(filter(str.isprintable, text)).rstrip()
    return mark not in seen or seen.endswith(mark)


def _broken_word(text: str, question: str) -> str:
    """The last word, if it is the begin of another word of the row: "proble" beside "problem". "" for none."""
    last = _LAST_WORD.search(text[-60:])
    if last is None or len(text.split(None, 4)) < 5:
        return ""
    word = last.group(1).lower()
    if len(word) < 3:
        return word if len(word) == 1 and word not in "axyzn" and "=" not in text[-60:] else ""
    others = {match.group().lower() for match in _LONG_WORD.finditer(question + " " + text[: -len(word)])}
    longer = [other for other in others if len(other) > len(word) and other.startswith(word)]
    whole = word in others or any(_INFLECTED.fullmatch(other, len(word)) for other in longer)
    return word if longer and not whole else ""
