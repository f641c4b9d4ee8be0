"""Go's text/template as far as our Modelfile needs it: fields, `range`, `if eq`, `else if`, `else`, `end`; no trimming.

Anything else in a template is an AssertionError, so that no template is taken for one that this understands.
"""

import re
from collections.abc import Iterator
from typing import Any

Node = str | tuple[Any, ...]


def render_go(template: str, values: dict[str, Any]) -> str:
    """The text of a template, executed on `values` as dot."""
    parts = iter(re.split(r"(\{\{.*?\}\})", template))
    nodes, closed_by = _parse(parts)
    assert closed_by == ""
    return _execute(nodes, values)


def _parse(parts: Iterator[str]) -> tuple[list[Node], str]:
    """Nodes up to an `else` or `end`, and that action; an empty one at the template's end."""
    nodes: list[Node] = []
    for part in parts:
        if not part.startswith("{{"):
            nodes.append(part)
            continue
        action = part[2:-2]
        assert action == f" {action.strip()} ", f"white space of {part!r}"
        action = action.strip()
        if action == "end" or action.startswith("else"):
            return nodes, action
        if field := re.fullmatch(r"range \.(\w+)", action):
            inner, closed_by = _parse(parts)
            assert closed_by == "end"
            nodes.append(("range", field[1], inner))
        elif condition := re.fullmatch(r"if (eq .*)", action):
            nodes.append(_parse_if(condition[1], parts))
        else:
            field = re.fullmatch(r"\.(\w+)", action)
            assert field, f"unknown action {part!r}"
            nodes.append(("field", field[1]))
    return nodes, ""


def _parse_if(condition: str, parts: Iterator[str]) -> Node:
    equal = re.fullmatch(r'eq \.(\w+) "([^"\\]*)"', condition)
    assert equal, f"unknown condition {condition!r}"
    then, closed_by = _parse(parts)
    otherwise: list[Node] = []
    if closed_by.startswith("else if "):
        otherwise = [_parse_if(closed_by.removeprefix("else if "), parts)]
    elif closed_by == "else":
        otherwise, closed_by = _parse(parts)
        assert closed_by == "end"
    return ("if", equal[1], equal[2], then, otherwise)


def _execute(nodes: list[Node], dot: dict[str, Any]) -> str:
    out = ""
    for node in nodes:
        if isinstance(node, str):
            out += node
        elif node[0] == "field":
            out += dot[node[1]]
        elif node[0] == "range":
            out += "".join(_execute(node[2], item) for item in dot[node[1]])
        else:
            out += _execute(node[3] if dot[node[1]] == node[2] else node[4], dot)
    return out
