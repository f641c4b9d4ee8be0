"""The one template: how a document, a question or a conversation becomes ids, everywhere in loam.

  text document   <|bos|> text <|eos|>
  Q&A document    <|bos|> [<|context|> context] <|user|> question <|assistant|> answer <|eos|>
  conversation    the same, one (user, assistant, eos) after the other; a prompt ends with <|assistant|>

Each field is encoded by itself with special tokens off, so content that spells a special token stays text and an id
below NUM_SPECIAL is always control. `CHAT_TEMPLATE` says the same in jinja for other engines; it refuses content that
spells a special token, because those engines would read it as control, and content that is no string (a list of parts),
in which it cannot look for one. No separators stand between the parts: what the user typed, to the last space, is what
the model sees.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|context|>")
PAD, BOS, EOS, USER, ASSISTANT, CONTEXT = range(6)
NUM_SPECIAL = len(SPECIAL_TOKENS)

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


def render(tok: Encoder, document: Mapping[str, str | None]) -> list[int]:
    """Ids of a document as it is trained on."""
    names = ("text", "context", "question", "answer")
    encoded = {name: tok.encode(value) for name in names if (value := document.get(name)) is not None}
    return join_document(encoded)


def render_prompt(
    tok: Encoder, question: str, context: str | None = None, history: Iterable[tuple[str, str]] = ()
) -> list[int]:
    """Ids of a question to be answered, after earlier (question, answer) turns; ends with <|assistant|>."""
    ids = [BOS]
    if context is not None:
        ids += [CONTEXT, *tok.encode(context)]
    for asked, answered in history:
        ids += [USER, *tok.encode(asked), ASSISTANT, *tok.encode(answered), EOS]
    return [*ids, USER, *tok.encode(question), ASSISTANT]


def roles(ids: np.ndarray) -> np.ndarray:
    """Role of each token of whole documents: ids (n,) -> uint8 (n,), by the special token that came last."""
    special = np.asarray(ids) < NUM_SPECIAL
    assert len(ids) == 0 or special[0], "roles are read from the start of a document"
    last = np.maximum.accumulate(np.where(special, np.arange(len(ids)), 0))
    found = _ROLE_AFTER[np.minimum(np.asarray(ids)[last], NUM_SPECIAL - 1)]
    return np.where(special, MARKER, found).astype(np.uint8)
