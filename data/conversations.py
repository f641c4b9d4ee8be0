"""A conversation becomes one row, or pairs of a question and its answer, and nothing that was said is lost.

In: a record with a list `messages` or `conversations` of {role, content} or {from, value}. Out: dicts with `context`,
`question` and `answer`:

  together   one, of the last question that is answered; what was said before is its context, turn by turn
             (data/turns.py), so that every answer is trained, and asked for, behind the turns as chats have them
  pairs      one for each question that is answered; what was said before (the system's words as they stand, turns as
             "User: ...") is its context's text

What no row holds, such as a question without an answer, is told by `Unpaired`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from data.record_templates import Missing
from data.turns import has_mark, join_turns, shown

LISTS = ("messages", "conversations")
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "User"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), "Assistant"),
    "system": "System",
}  # others are shown in the context under their own name


class Unpaired(NamedTuple):
    """The end of a conversation that is in no pair."""

    text: str


def pairs(record: dict[str, Any]) -> Iterator[dict[str, str | None] | Unpaired]:
    """Raises Missing where the record holds no conversation, or a turn that is not text."""
    before: list[str] = []  # what was said before the question
    told = 0  # how much of it is in a pair
    question: str | None = None
    for role, content in list(_turns(record)):
        if role == "Assistant" and question is not None:
            yield {"context": "\n\n".join(before) or None, "question": question, "answer": content}
            before += [f"User: {question}", f"Assistant: {content}"]
            question, told = None, len(before)
        elif role == "User":
            before += [f"User: {question}"] if question is not None else []
            question = content
        else:  # a question waits for its answer while a tool speaks
            before.append(content if role == "System" else f"{role}: {content}")
    before += [f"User: {question}"] if question is not None else []
    if len(before) > told:
        yield Unpaired("\n\n".join(before[told:]))


def together(record: dict[str, Any]) -> Iterator[dict[str, str | None] | Unpaired]:
    """Raises Missing as `pairs` does; where nothing is answered, all of it is `Unpaired`.

    Neighbours of one role are one turn; who is neither user nor assistant (a system, a tool) speaks as context.
    """
    messages: list[dict[str, str]] = []
    for role, content in list(_turns(record)):
        said = {"User": "user", "Assistant": "assistant"}.get(role, "context")
        text = content if role in ("User", "Assistant", "System") else f"{role}: {content}"
        if messages and messages[-1]["role"] == said:
            messages[-1]["content"] += f"\n\n{text}"
        else:
            messages.append({"role": said, "content": text})
    ends = [i for i in range(1, len(messages)) if [m["role"] for m in messages[i - 1 : i + 1]] == ["user", "assistant"]]
    end = ends[-1] + 1 if ends else 0
    if ends:
        question, answer = (message["content"] for message in messages[end - 2 : end])
        yield {"context": join_turns(messages[: end - 2]), "question": question, "answer": answer}
    if rest := join_turns(messages[end:]):
        yield Unpaired(shown(rest))


def list_name(record: dict[str, Any]) -> str | None:
    return next((name for name in LISTS if name in record), None)


def _turns(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name = list_name(record)
    if name is None:
        raise Missing("missing_column", f"no {' or '.join(map(repr, LISTS))}")
    turns = record[name]
    if not isinstance(turns, list) or not turns:
        raise Missing("not_text", f"{name!r} is {'empty' if turns == [] else 'no list of turns'}")
    for number, turn in enumerate(turns, 1):
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        content = _content(turn.get("content", turn.get("value"))) if isinstance(turn, dict) else None
        if not isinstance(role, str) or not role:
            raise Missing("not_text", f"turn {number} of {name!r} has no role")
        if content is None:
            raise Missing("not_text", f"turn {number} of {name!r} has no text")
        if has_mark(content):
            raise Missing("not_text", f"turn {number} of {name!r} holds U+FDD0 to U+FDD2, which stand for no character")
        yield ROLES.get(role.lower(), role.capitalize()), content


def _content(content: Any) -> str | None:
    """Text, or the texts of a list of {type: text, text}; None for anything else: a picture, a call of a tool."""
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        return "\n".join(texts) if len(texts) == len(parts) else None
    return content if isinstance(content, str) else None
