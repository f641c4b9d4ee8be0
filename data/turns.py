"""Earlier turns of a conversation, inside the context of the row that ends it.

A conversation is one row: its last question, its last answer, and a context that holds what came before. There a turn
begins with a mark of its role, one of Unicode's noncharacters, which stand for no text and are meant for use inside of
a program; what stands before the first mark is the context proper (a system's words, a passage). So whatever cleans,
compares or counts a context sees all that was said, and `split_turns` gets each turn back as it was. A text that is
read with such a mark in it goes to quarantine (data/columns.py): nobody's data can pose as a turn.
"""

import re
from collections.abc import Iterable, Mapping

MARKS = {"user": "\ufdd0", "assistant": "\ufdd1", "context": "\ufdd2"}
_ROLES = {mark: role for role, mark in MARKS.items()}
_MARK = re.compile(f"([{''.join(_ROLES)}])")
_LABELS = {MARKS["user"]: "\n\nUser: ", MARKS["assistant"]: "\n\nAssistant: ", MARKS["context"]: "\n\n"}

Message = Mapping[str, str]


def join_turns(messages: Iterable[Message]) -> str | None:
    """Messages {role, content} as a context; None where there are none. A first one of role context has no mark."""
    parts = [MARKS[message["role"]] + message["content"] for message in messages]
    return "".join(parts).removeprefix(MARKS["context"]) if parts else None


def split_turns(context: str | None) -> list[dict[str, str]]:
    """The messages of a context."""
    if context is None:
        return []
    first, *rest = _MARK.split(context)
    messages = [{"role": "context", "content": first}] if first or not rest else []
    turns = zip(rest[::2], rest[1::2], strict=True)
    return messages + [{"role": _ROLES[mark], "content": content} for mark, content in turns]


def texts_of(fields: Iterable[str | None]) -> list[str]:
    """The texts of a row's fields, each turn by itself; empty ones left out."""
    found = []
    for text in filter(None, fields):
        found += [m["content"] for m in split_turns(text) if m["content"]] if has_mark(text) else [text]
    return found


def has_mark(text: str) -> bool:
    """Whether a text holds one of the marks."""
    return not text.isascii() and _MARK.search(text) is not None


def shown(context: str) -> str:
    """A context as people read it, its turns with labels."""
    return _MARK.sub(lambda mark: _LABELS[mark[0]], context).lstrip("\n") if has_mark(context) else context
