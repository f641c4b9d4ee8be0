"""What a source may say of its columns besides their names: templates of several, and conditions on a record.

    question = "What does {policy_name} of {school} say?"     {a.b} is b inside of a; {{ and }} are braces
    keep_if  = ["score >= 3", "license in CC-BY, CC0"]

Both are parsed before a file is read and hold names and plain text alone: no format, no attribute, no code. A setting
without a brace is a column's name, as it stands. In: settings, then records (dicts). Out: text, or what is missing.
"""

import json
import re
from typing import Any, NamedTuple

from common.errors import UserError


class Name(str):
    """A column of a template, or the path to a nested value: "fields.name"."""


class Missing(Exception):
    """A record has no such value, or one that is no text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


Template = tuple[str | Name, ...]


def is_template(setting: str) -> bool:
    return "{" in setting or "}" in setting


def parse_template(setting: str) -> Template:
    """Plain text and names in order. Raises UserError for a brace that does not fit, or anything but a name in two."""
    parts: list[str | Name] = []
    for text, name, brace in re.findall(r"((?:[^{}]|\{\{|\}\})+)|\{([^{}]*)\}|([{}])", setting):
        if brace:
            raise UserError(
                f"template {setting!r}: a brace without its other half; a brace in the text is written twice"
            )
        if text:
            parts.append(text.replace("{{", "{").replace("}}", "}"))
        elif not re.fullmatch(r"[^\s.:!\[\]()](?:[^.:!\[\]()]*[^\s.:!\[\]()])?(?:\.[^\s.:!\[\]()]+)*", name):
            raise UserError(f"template {setting!r}: {{{name}}} is no column's name, or names joined by dots")
        else:
            parts.append(Name(name))
    return tuple(parts)


def names_of(template: Template) -> list[Name]:
    return list(dict.fromkeys(part for part in template if isinstance(part, Name)))


def render(template: Template, record: dict[str, Any]) -> str:
    """The text of a record. Raises Missing where a value is absent, null, or neither text nor a list of texts."""
    return "".join(_text(part, look_up(record, part)) if isinstance(part, Name) else part for part in template)


ABSENT = object()


def look_up(record: Any, path: str) -> Any:
    """The value of a column or of a dotted path; from a list of objects the values of all. ABSENT: there is none."""
    if isinstance(record, dict) and path in record:
        return record[path]
    head, dot, rest = path.partition(".")
    if isinstance(record, list):
        found = [value for item in record if (value := look_up(item, path)) is not ABSENT]
        return found if found else ABSENT
    if not dot or not isinstance(record, dict) or head not in record:
        return ABSENT
    return look_up(record[head], rest)


def _text(name: Name, value: Any) -> str:
    if value is ABSENT:
        raise Missing("missing_column", f"no {str(name)!r}")
    if value is None:
        raise Missing("missing_column", f"{str(name)!r} is null")
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str | int | float):
            raise Missing("not_text", f"{str(name)!r} is {'a list with ' if item is not value else ''}a {_kind(item)}")
    return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in items)


def _kind(value: Any) -> str:
    return type(value).__name__


# -- conditions


class Condition(NamedTuple):
    """One entry of keep_if. `values` has one value but for `in` and `not in`."""

    name: str
    operator: str
    values: tuple[str, ...]
    shown: str


_CONDITION = re.compile(
    r"\s*(?P<name>[^<>=!]+?)\s*(?P<operator>>=|<=|==|!=|>|<|\s(?:not\s+)?in\s)\s*(?P<values>.+?)\s*"
)


def parse_condition(setting: str) -> Condition:
    """`score >= 3`, `lang == en`, `license in CC-BY, CC0`, `kind not in ad, spam`; all else is a UserError."""
    match = _CONDITION.fullmatch(setting)
    if not match or re.match(r"[<>=!]", match["values"]):
        raise UserError(f'keep_if {setting!r} is no condition; they look like "score >= 3" or "license in CC-BY, CC0"')
    operator = " ".join(match["operator"].split())
    values = tuple(value.strip() for value in match["values"].split(",")) if "in" in operator else (match["values"],)
    if "" in values:
        raise UserError(f"keep_if {setting!r}: a value between two commas is missing")
    if operator[0] in "<>" and _number(values[0]) is None:
        raise UserError(f"keep_if {setting!r}: {operator} compares numbers, and {values[0]!r} is none")
    return Condition(match["name"], operator, values, setting.strip())


def fails(condition: Condition, record: dict[str, Any]) -> tuple[str, str] | None:
    """None where the record is kept; else reason and detail."""
    value = look_up(record, condition.name)
    if value is ABSENT:
        return "missing_column", f"no {condition.name!r}, which keep_if asks for"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return None if _holds(condition, value, shown) else ("filtered", f"not {condition.shown}: it is {shown[:100]!r}")


def _holds(condition: Condition, value: Any, shown: str) -> bool:
    if condition.operator[0] in "<>":
        number, bound = _number(shown) if not isinstance(value, bool) else None, _number(condition.values[0])
        if number is None or bound is None:
            return False
        return {">": number > bound, "<": number < bound, ">=": number >= bound, "<=": number <= bound}[
            condition.operator
        ]
    is_one = any(_equal(shown, other) for other in condition.values)
    return is_one == (condition.operator in ("==", "in"))


def _equal(a: str, b: str) -> bool:
    """Equal as text, or as numbers where both are: 3 is 3.0."""
    return a == b or (_number(a) is not None and _number(a) == _number(b))


def _number(text: str) -> float | None:
    """A number as JSON and CSV write them; Python would also read "1_000", "inf" and "nan"."""
    return float(text) if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text) else None
