"""What a word is, wherever texts are compared: case-folded, without punctuation, one character where a script has no
spaces between words."""

import re

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Case-folded words without punctuation; where a text has none (only signs), its characters."""
    return _WORD.findall(text.casefold()) or [*"".join(text.split())]


def places(text: str) -> list[tuple[int, int, str]]:
    """(start, end, word) of each word."""
    folded = text.casefold()
    found = [(*match.span(), match.group()) for match in _WORD.finditer(folded)]
    if len(folded) == len(text):
        return found
    of = [i for i, character in enumerate(text) for _ in character.casefold()]  # ß becomes ss
    return [(of[start], of[end - 1] + 1, word) for start, end, word in found]
