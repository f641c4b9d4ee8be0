"""How a checkpoint is spoken to: messages become ids by its template, and the ids of its answer text again.

In: a folder with a tokenizer and a template, loam's own or another's. Out: a `Dialog`, with the same face for both, so
that fine-tuning, chat and server cannot render differently.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.files import read_json
from data.turns import Message
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, IN_ANSWER, NUM_SPECIAL, SPECIAL_TOKENS, render_messages, roles

Messages = Sequence[Message]  # {"role": context, system, user or assistant, "content": text}


@dataclass(frozen=True)
class Row:
    """A conversation as it is trained on, T tokens."""

    ids: list[int]
    trained: np.ndarray  # uint8 (T,): 1 where a token is an answer's, 2 where it ends one, else 0


@dataclass(frozen=True)
class Dialog:
    """A template and its tokenizer. `prompt` and `document` raise ValueError for messages that cannot be rendered."""

    vocab_size: int
    encode: Callable[[str], list[int]]  # content alone: what spells a special token stays text
    prompt: Callable[[Messages], list[int]]  # of a conversation that is to be answered; exactly one bos
    document: Callable[[Messages], Row]  # of a conversation that ends with an answer
    decode_bytes: Callable[[Iterable[int]], bytes]  # of content
    spell: Callable[[Sequence[int]], str]  # ids as people read them, special tokens spelled out
    begin: list[int]  # what stands before a text
    eos: list[int]  # each of them ends an answer
    banned: list[int]  # ids that no answer holds
    own: Tokenizer | None  # loam's; None: another's


def own_dialog(tok: Tokenizer) -> Dialog:
    """loam's template over a tokenizer of loam's."""

    def document(messages: Messages) -> Row:
        ids = np.asarray(render_messages(tok, messages))
        trained = (roles(ids) == IN_ANSWER).astype(np.uint8)
        trained[ids == EOS] = 2
        return Row(ids.tolist(), trained)

    def spell(ids: Sequence[int]) -> str:
        runs = itertools.groupby(ids, lambda token: token if token < NUM_SPECIAL else -1)
        return "".join(
            tok.decode(run) if special < 0 else SPECIAL_TOKENS[special] * len(list(run)) for special, run in runs
        )

    return Dialog(
        vocab_size=tok.vocab_size,
        encode=tok.encode,
        prompt=lambda messages: render_messages(tok, messages, answer_begins=True),
        document=document,
        decode_bytes=tok.decode_bytes,
        spell=spell,
        begin=[BOS],
        eos=[EOS],
        banned=[marker for marker in range(NUM_SPECIAL) if marker != EOS],
        own=tok,
    )


def open_dialog(folder: Path) -> Dialog:
    """The dialog of a checkpoint's folder; UserError where there is none, or a damaged one."""
    if is_own(folder):
        return own_dialog(load_tokenizer(folder))
    from tokenizer.foreign import foreign_dialog  # which needs jinja, and this file

    return foreign_dialog(folder)


def is_own(folder: Path) -> bool:
    """Whether a folder speaks by loam's template and tokenizer: its loam.json says so, or its files are loam's.

    A checkpoint that loam fine-tuned from another's model has a loam.json, and the other's template.
    """
    if (folder / "loam.json").exists():
        meta = read_json(folder / "loam.json")
        return not isinstance(meta, dict) or meta.get("dialog", "loam") == "loam"
    if not (folder / "tokenizer.json").exists():
        return True  # which says what is missing
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    return isinstance(config, dict) and config.get("chat_template") == CHAT_TEMPLATE
