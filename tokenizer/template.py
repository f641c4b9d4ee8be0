"""The one template: how a document, a question or a conversation becomes ids, everywhere in loam.

  text document   <|bos|> text <|eos|>
  Q&A document    <|bos|> [<|context|> context] <|user|> question <|assistant|> answer <|eos|>
  conversation    the same, one (user, assistant, eos) after the other; a prompt ends with <|assistant|>
  A document's context may hold earlier turns (data/turns.py): then it is a conversation.

Each field is encoded by itself with special tokens off, so content that spells a special token stays text and an id
below NUM_SPECIAL is always control. `CHAT_TEMPLATE` says the same in jinja for other engines; it refuses content that
spells a special token, because those engines would read it as control, and content that is no string (a list of parts),
in which it cannot look for one. No separators stand between the parts: what the user typed, to the last space, is what
the model sees.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from data.turns import Message, split_turns

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|context|>")
PAD, BOS, EOS, USER, ASSISTANT, CONTEXT = range(6)
NUM_SPECIAL = len(SPECIAL_TOKENS)
MARKERS = {"context": CONTEXT, "system": CONTEXT, "user": USER, "assistant": ASSISTANT}  # role of a message -> its id

# What a token is part of. A marker is no content: it counts for the loss, not for bits per byte.
MARKER, IN_TEXT, IN_CONTEXT, IN_QUESTION, IN_ANSWER = range(5)
ROLE_NAMES = ("marker", "text", "context", "question", "answer")
_ROLE_AFTER = np.zeros(NUM_SPECIAL, dtype=np.uint8)
_ROLE_AFTER[[BOS, CONTEXT, USER, ASSISTANT]] = [IN_TEXT, IN_CONTEXT, IN_QUESTION, IN_ANSWER]

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is not string -%}"
    "{{- raise_exception('the content of a message is not a string') -}}{%- endif -%}"
    + "".join(
        f"{{%- if '{token}' in message['content'] -%}}"
        f"{{{{- raise_exception('the content of a message spells the special token {token}') -}}}}{{%- endif -%}}"
        for token in SPECIAL_TOKENS
    )
    + "{%- if message['role'] in ('context', 'system') -%}{{- '<|context|>' -}}{{- message['content'] -}}"
    "{%- elif message['role'] == 'user' -%}{{- '<|user|>' -}}{{- message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- '<|assistant|>' -}}{{- message['content'] -}}{{- eos_token -}}"
    "{%- else -%}{{- raise_exception('roles are context, system, user and assistant, not ' + message['role']) -}}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


class Encoder(Protocol):
    """What rendering needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Ids of content, special tokens off."""
        ...


def join_document(fields: Mapping[str, Sequence[int] | None]) -> list[int]:
    """Encoded fields of one document (text, or question and answer, and context if there is one) -> ids, bos to eos."""
    if fields.get("text") is not None:
        return [BOS, *(fields["text"] or ()), EOS]
    context, question, answer = (fields.get(name) for name in ("context", "question", "answer"))
    assert question is not None, "a Q&A document has a question"
    assert answer is not None, "a Q&A document has an answer"
    middle = [CONTEXT, *context] if context is not None else []
    return [BOS, *middle, USER, *question, ASSISTANT, *answer, EOS]


def messages_of(document: Mapping[str, str | None]) -> list[dict[str, str]]:
    """A Q&A document as messages {role, content}; without an answer as those of a prompt."""
    messages = split_turns(document.get("context"))
    for role, name in (("user", "question"), ("assistant", "answer")):
        if (content := document.get(name)) is not None:
            messages.append({"role": role, "content": content})
    return messages


def render_messages(tok: Encoder, messages: Iterable[Message], answer_begins: bool = False) -> list[int]:
    """Ids of a conversation, bos first; `answer_begins`: ends with <|assistant|>. ValueError for another role."""
    ids = [BOS]
    for message in messages:
        if message["role"] not in MARKERS:
            raise ValueError(f"roles are {', '.join(MARKERS)}, not {message['role']!r}")
        ids += [MARKERS[message["role"]], *tok.encode(message["content"])]
        if message["role"] == "assistant":
            ids.append(EOS)
    return [*ids, ASSISTANT] if answer_begins else ids


def render(tok: Encoder, document: Mapping[str, str | None]) -> list[int]:
    """Ids of a document as it is trained on."""
    if (text := document.get("text")) is not None:
        return [BOS, *tok.encode(text), EOS]
    return render_messages(tok, messages_of(document))


def render_prompt(
    tok: Encoder, question: str, context: str | None = None, history: Iterable[tuple[str, str]] = ()
) -> list[int]:
    """Ids of a question to be answered, after earlier (question, answer) turns; ends with <|assistant|>."""
    messages = split_turns(context)
    for asked, answered in history:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return render_messages(tok, [*messages, {"role": "user", "content": question}], answer_begins=True)


def roles(ids: np.ndarray) -> np.ndarray:
    """Role of each token of whole documents: ids (n,) -> uint8 (n,), by the special token that came last."""
    special = np.asarray(ids) < NUM_SPECIAL
    assert len(ids) == 0 or special[0], "roles are read from the start of a document"
    last = np.maximum.accumulate(np.where(special, np.arange(len(ids)), 0))
    found = _ROLE_AFTER[np.minimum(np.asarray(ids)[last], NUM_SPECIAL - 1)]
    return np.where(special, MARKER, found).astype(np.uint8)
