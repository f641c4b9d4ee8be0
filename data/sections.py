"""Answers of several parts, such as a reasoning and then the code: named sections, in one order, in the answer's text.

    <reasoning>
    The list is sorted first.
    </reasoning>
    <code>
    xs.sort()
    </code>

They are text like any other, so every place that renders an answer renders them alike, and `split_sections` finds them
again in what a model wrote.
"""

import re
from collections.abc import Mapping

NAME = re.compile(r"[a-z][a-z0-9_]*")
_SECTION = re.compile(rf"^<({NAME.pattern})>\n(.*?)\n</\1>$", re.MULTILINE | re.DOTALL)


def join_sections(sections: Mapping[str, str | None]) -> str | None:
    """The answer; None where no section has a text. ValueError for a text that would end its section early."""
    parts = []
    for name, text in sections.items():
        if text is None:
            continue
        if re.search(rf"^</{name}>$", text, re.MULTILINE):
            raise ValueError(f"{name!r} holds a line </{name}>, which would end its section")
        parts.append(f"<{name}>\n{text}\n</{name}>")
    return "\n".join(parts) or None


def split_sections(answer: str) -> dict[str, str]:
    """Name -> text of the sections of an answer; of a name that comes twice the first. One that is not closed is
    none."""
    found: dict[str, str] = {}
    for match in _SECTION.finditer(answer):
        found.setdefault(match[1], match[2])
    return found


def parse_section(setting: str) -> tuple[str, str]:
    """ "code" or "code: solution": the section's name and the column that holds it. ValueError."""
    name, colon, column = (part.strip() for part in setting.partition(":"))
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a section: small letters, digits and _, as in code")
    if colon and not column:
        raise ValueError(f'{setting!r} names no column, as in "code: solution"')
    return name, column or name
