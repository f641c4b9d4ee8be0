"""Whose words a text holds: what stands in quotation marks, or in the lines of a dialogue, is said by somebody in it.

In: a text and a place in it. Out: whether the place is within direct speech. A pair of marks around the whole text is
only a way to write it down.
"""

import re

_PAIR = re.compile(
    r"“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|»[^«»]*«"
    r"|(?<![^\s(\[—–*_-])\"(?=\S)[^\"]*(?<=\S)\"(?!\w)"
    r"|(?<!\w)‘(?=\w)[^‘]*?[\w.,!?…—]’(?!\w)|(?<!\w)'(?=\w)[^\"]*?[.,!?…—]'(?!\w)",
)
_LABEL = r"(?!(?:Note|Answer|Explanation|Question|Output|Input|Response|Result|Disclaimer|Summary|Conclusion|Edit)s?\b)"
_TURN = re.compile(
    rf"[ \t>*_-]{{0,4}}{_LABEL}[A-Z][\w.' ]{{0,24}}(?:\([^)\n]{{1,30}}\))?[*_]{{0,2}}:[*_]{{0,2}}[ \t]+\S"
)
_OPENER = re.compile(r"\s*[“\"‘]\w")
_DASH = re.compile(r"[ \t]*(?:--|[—–―])[ \t]?\w")
TURNS = 2  # lines with a speaker's name, from which on a text is a dialogue
REACH = 2000  # characters around a place that are looked at


def is_said(text: str, place: int, whole: bool = False) -> bool:
    """Whether the character at `place` is in direct speech: in a quotation, a dialogue's turn, after a dash.

    `whole`: also if the quotation is the whole text, as it is in a novel's paragraphs.
    """
    above = text.rfind("\n\n", max(0, place - REACH), place)
    start = above + 2 if above >= 0 else max(0, place - REACH)
    below = text.find("\n\n", place, place + REACH)
    stop = below if below >= 0 else min(len(text), place + REACH)
    return (
        _DASH.match(text, start) is not None or _in_quotation(text, start, stop, place, whole) or _in_turn(text, place)
    )


def _in_quotation(text: str, start: int, stop: int, place: int, whole: bool) -> bool:
    end = start
    for pair in _PAIR.finditer(text, start, stop):
        if pair.start() >= place:
            break
        if place < pair.end():
            return whole or bool(text[: pair.start()].strip(" \n\t*_#>-") or text[pair.end() :].strip(" \n\t.*_"))
        end = pair.end()
    # A speech of several paragraphs opens with each of them and closes once.
    opened = _OPENER.match(text, start, place)
    return opened is not None and end == start and (whole or start > 0)


def _in_turn(text: str, place: int) -> bool:
    """Whether the place is in a line that names its speaker, in a text of several such lines."""
    line = text.rfind("\n", 0, place) + 1
    turn = _TURN.match(text, line)
    if turn is None or turn.end() > place + 1:
        return False
    near = text[max(0, line - REACH) : place + REACH]
    return sum(_TURN.match(one) is not None for one in near.split("\n")) >= TURNS
