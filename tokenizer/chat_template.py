"""Chat templates (jinja) rendered as other engines do, in jinja's sandbox: messages in, text out."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


def render_jinja(template: str, **values: Any) -> str:
    """The text of a template; jinja2.TemplateError where it raises, or is none."""
    return _compiled(template).render(**values)


@lru_cache(16)
def _compiled(template: str) -> jinja2.Template:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    room = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    room.filters["tojson"] = _tojson
    room.globals["raise_exception"] = raise_exception
    room.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return room.from_string(template)


class _GenerationBlock(Extension):
    """{% generation %} ... {% endgeneration %}, around what an assistant says: rendered as what stands inside."""

    tags = {"generation"}  # noqa: RUF012  (jinja's own type)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without jinja's escapes for HTML."""
    parts = None if separators is None else (separators[0], separators[1])
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=parts, sort_keys=sort_keys)
