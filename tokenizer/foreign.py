"""Another's tokenizer and chat template as a `Dialog`: the ids that `transformers` gives, without it.

In: a folder with tokenizer.json, tokenizer_config.json and what may lie beside them (chat_template.jinja,
special_tokens_map.json, generation_config.json, config.json). Out: a `Dialog` (tokenizer/dialog.py).

1. the template is rendered (tokenizer/chat_template.py) and its text encoded as a whole, with special tokens and with
   nothing in front: bos stands where the template writes it. A context goes to the role `system`, or where a template
   has none, before the question. A folder without a template gets `PLAIN_TEMPLATE`
2. content that spells a special token stays text: it is marked before the template is rendered, and the text is then
   encoded by a copy of the tokenizer that knows its special tokens by other names
3. trained are the tokens behind each prompt, up to the special token that ends the answer; where the ids of a prompt do
   not begin those of the conversation (templates that drop earlier thoughts), only the last answer is
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers

from common.errors import UserError
from common.text import error_line, not_unicode
from tokenizer.byte_level import byte_letters
from tokenizer.chat_template import render_jinja
from tokenizer.dialog import Dialog, Messages, Row
from tokenizer.foreign_files import (
    PLAIN_TEMPLATE,
    added_tokens,
    eos_of,
    json_object,
    more_special,
    read_tokenizer,
    spelling,
    template_of,
)
from tokenizer.native import BYTE_TOKEN, SPACE

MARK, RENAMED = "\ufdd3", "\ufdd4"  # two of Unicode's noncharacters, behind those of data/turns.py
QUESTION, ANSWER, SYSTEM = "What is water?", "A clear liquid.", "Be brief."  # to try a template with
ROLES = {"context": "system", "system": "system", "user": "user", "assistant": "assistant"}


def foreign_dialog(folder: Path) -> Dialog:
    """The dialog of a folder that was made elsewhere; UserError where it has none that can be used."""
    words = Words(folder)
    return Dialog(
        vocab_size=words.size,
        encode=words.encode,
        prompt=lambda messages: words.ids(words.prompt_text(messages)),
        document=words.document,
        decode_bytes=words.decode_bytes,
        spell=lambda ids: words.decode_bytes(ids).decode(errors="replace"),
        begin=words.begin,
        eos=words.eos,
        banned=[*sorted({*words.special.values()} - {*words.eos}), *range(words.size, words.rows)],
        own=None,
    )


class Words:
    """A folder's tokenizer and template.

    Attributes:
        tok: reads special tokens; truncates and pads nothing
        special: special tokens as they are spelled -> ids
        roles: ids of bos, eos, pad and unk, where the folder names them
        stated: the chat template of the folder; None: it has none, and `template` is the plain one
        size: highest id + 1
        rows: of the embedding, as config.json says; `size` where it does not
        eos: each of them ends an answer; first the one that the template writes
    """

    def __init__(self, folder: Path) -> None:
        config, self.config = json_object(folder / "tokenizer_config.json"), json_object(folder / "config.json")
        self.tok = read_tokenizer(folder)
        named = {
            **json_object(folder / "special_tokens_map.json"),
            **{k: v for k, v in config.items() if v is not None},
        }
        self.names = {key: text for key in named if key.endswith("_token") and (text := spelling(named[key]))}
        known = {token.content for token in self.tok.get_added_tokens_decoder().values()}
        stated = added_tokens(config.get("added_tokens_decoder"))
        for spelled in [
            *stated,
            *self.names.values(),
            *more_special(config),
        ]:  # those that tokenizer.json does not know as tokens
            if spelled not in known:
                special = tokenizers.AddedToken(spelled, special=stated.get(spelled, (0, True))[1], normalized=False)
                (self.tok.add_special_tokens if special.special else self.tok.add_tokens)([special])
        for spelled, (number, _) in stated.items():
            if self.tok.token_to_id(spelled) != number:
                raise UserError(
                    f"{folder}: {spelled} is {number} in tokenizer_config.json and another id in tokenizer.json"
                )
        self.added = self.tok.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in self.added.items() if token.special}
        self.roles = {key.removesuffix("_token"): self.tok.token_to_id(text) for key, text in self.names.items()}
        self.size = max(self.tok.get_vocab(with_added_tokens=True).values()) + 1
        rows = self.config.get("vocab_size")
        self.rows = max(self.size, rows) if isinstance(rows, int) else self.size
        self._spelling = re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) or r"(?!)")
        self._bytes: dict[int, bytes] = {}

        self.stated = template_of(folder, config)
        self.template = PLAIN_TEMPLATE if self.stated is None else self.stated
        self._try_template(folder)
        ends = [
            self.end,
            self.roles.get("eos"),
            *eos_of(json_object(folder / "generation_config.json")),
            *eos_of(self.config),
        ]
        self.eos = [*dict.fromkeys(token for token in ends if type(token) is int and 0 <= token < self.size)]
        if not self.eos:
            raise UserError(f"{folder} names no eos, and its chat template writes none: an answer could never end")
        self._ends = {*self.special.values(), *self.eos}

    def _try_template(self, folder: Path) -> None:
        """Look at what the template does with a question, an answer and a system's words. UserError where it fails."""
        asked, said = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
        self.header, self.takes_system = "", True
        try:
            before, whole = self.prompt_text([asked]), self.text([asked, said])
        except ValueError as error:
            raise UserError(f"{folder}: its chat template does not render a question and an answer: {error}") from None
        if QUESTION not in before:
            raise UserError(f"{folder}: its chat template leaves out the question")
        between, _, behind = whole.removeprefix(before).partition(ANSWER)
        self.continues = whole.startswith(before) and ANSWER in whole[len(before) :]
        if self.continues and self._spelling.search(
            between
        ):  # no generation prompt: it is what the answers stand behind
            self.header = between
        try:
            self.takes_system = SYSTEM in self.text([{"role": "system", "content": SYSTEM}, asked])
        except ValueError:
            self.takes_system = False
        found = self._spelling.search(behind)
        self.end = self.special[found[0]] if found else None

    @cached_property
    def begin(self) -> list[int]:
        """bos, where the tokenizer or the template puts it before a text."""
        bos = self.roles.get("bos")
        first = [self.tok.encode("a").ids[:1], self.ids(self.prompt_text([{"role": "user", "content": QUESTION}]))[:1]]
        return [bos] if bos is not None and [bos] in first else []

    @cached_property
    def _as_text(self) -> tokenizers.Tokenizer:
        """Reads no special token."""
        tok = tokenizers.Tokenizer.from_str(self.tok.to_str())
        tok.encode_special_tokens = True
        return tok

    @cached_property
    def _renamed(self) -> tokenizers.Tokenizer | None:
        """Knows its special tokens by other names; None where they have other ids then."""
        state = json.loads(self.tok.to_str())
        state["post_processor"] = None
        for token in state["added_tokens"]:
            if token["special"]:
                token["content"] = RENAMED + token["content"]
        model = state["model"]
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {RENAMED + k if k in self.special else k: v for k, v in model["vocab"].items()}
        elif isinstance(model.get("vocab"), list):
            model["vocab"] = [[RENAMED + k if k in self.special else k, score] for k, score in model["vocab"]]
        if model.get("unk_token") in self.special:
            model["unk_token"] = RENAMED + model["unk_token"]
        tok = tokenizers.Tokenizer.from_str(json.dumps(state))
        same = all(tok.token_to_id(RENAMED + spelled) == number for spelled, number in self.special.items())
        return tok if same else None

    # -- text

    def text(self, messages: Messages, answer_begins: bool = False) -> str:
        """What the template makes of messages; ValueError, in one line, where it makes nothing of them."""
        prepared = [{**message, "content": self._marked(message["content"])} for message in self._prepared(messages)]
        try:
            tokens = {"bos_token": "", "eos_token": "", **self.names}
            return render_jinja(self.template, messages=prepared, add_generation_prompt=answer_begins, tools=None,
                                documents=None, **tokens)  # fmt: skip
        except Exception as error:  # whatever a template of anybody's makes jinja raise
            raise ValueError(f"the chat template does not render it: {error_line(error, 200)}") from None

    def prompt_text(self, messages: Messages) -> str:
        """The text of a conversation that is to be answered."""
        return self.text(messages, answer_begins=True) + self.header

    def _prepared(self, messages: Messages) -> Iterator[dict[str, str]]:
        """Messages in the roles that templates know: neighbours of role system are one."""
        before: list[str] = []
        for message in messages:
            if (role := ROLES.get(message["role"])) is None:
                raise ValueError(f"roles are {', '.join(ROLES)}, not {message['role']!r}")
            if role == "system":
                before.append(message["content"])
                continue
            content = message["content"]
            if before and self.takes_system:
                yield {"role": "system", "content": "\n\n".join(before)}
            elif before:
                if role != "user":
                    raise ValueError("the chat template knows no system, and no question follows its words")
                content = "\n\n".join([*before, content])
            before = []
            yield {"role": role, "content": content}
        if before:
            yield {"role": "system", "content": "\n\n".join(before)}

    def _marked(self, content: str) -> str:
        """Content in which no special token is spelled."""
        if found := not_unicode(content):
            raise ValueError(f"a message is not valid UTF-8, or holds a lone surrogate: {found}")
        if MARK in content or RENAMED in content:
            raise ValueError("a message holds the noncharacter U+FDD3 or U+FDD4")
        if not self._spelling.search(content):
            return content
        marked = self._spelling.sub(lambda spelled: spelled[0][:1] + MARK + spelled[0][1:], content)
        if self._renamed is None or self._spelling.search(marked):
            spelled = self._spelling.search(content)
            raise ValueError(f"a message spells the special token {spelled[0] if spelled else ''}")
        return marked

    # -- ids

    def ids(self, text: str) -> list[int]:
        """Ids of rendered text."""
        if MARK not in text:
            return self.tok.encode(text, add_special_tokens=False).ids
        assert self._renamed is not None, "marked text is rendered only where it can be encoded"
        text = self._spelling.sub(lambda spelled: RENAMED + spelled[0], text).replace(MARK, "")
        return self._renamed.encode(text, add_special_tokens=False).ids

    def encode(self, text: str) -> list[int]:
        """Ids of content alone."""
        if found := not_unicode(text):
            raise UserError(f"a text is not valid UTF-8, or holds a lone surrogate: {found}; repair it first")
        return self._as_text.encode(text, add_special_tokens=False).ids

    def document(self, messages: Messages) -> Row:
        """A conversation as it is trained on; ValueError where the template puts an answer elsewhere than it asks."""
        text = self.text(messages)
        ids = self.ids(text)
        trained = np.zeros(len(ids), np.uint8)
        ended = True
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            last = i == len(messages) - 1
            try:
                prompt_text = self.prompt_text(messages[:i])
                whole = ids if last else self.ids(self.text(messages[: i + 1]))
            except ValueError:
                if last:
                    raise
                continue  # such as a greeting, which many a template cannot ask for: it is read
            prompt = self.ids(prompt_text)
            if ids[: len(prompt)] == prompt and ids[: len(whole)] == whole:
                ended = self._mark(whole, len(prompt), trained)
            elif last:
                ids = self._parted(text, prompt_text, prompt, ids)
                trained = np.zeros(len(ids), np.uint8)
                ended = self._mark(ids, len(prompt), trained)
        if not ended:
            ids, trained = [*ids, self.eos[0]], np.append(trained, np.uint8(2))
        return Row(ids, trained)

    def _mark(self, ids: list[int], start: int, trained: np.ndarray) -> bool:
        """Mark the answer that begins at `start` as trained; whether a token ends it."""
        stop = next((i for i in range(start, len(ids)) if ids[i] in self._ends), len(ids))
        trained[start:stop] = 1
        trained[stop : min(stop + 1, len(ids))] = 2
        return stop < len(ids)

    def _parted(self, text: str, prompt_text: str, prompt: list[int], ids: list[int]) -> list[int]:
        """Prompt and last answer, encoded one after the other: where whole, a token reaches over both, which a model
        that answers cannot write."""
        if not text.startswith(prompt_text):
            raise ValueError("the chat template does not put an answer where its prompt ends")
        parted = prompt + self.ids(text[len(prompt_text) :])
        if self.decode_bytes(parted) != self.decode_bytes(ids):
            raise ValueError("the answer's first characters are one token with the template's last")
        return parted

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids; special tokens as they are spelled, of an id without a token none."""
        return b"".join(self._bytes.get(i) or self._bytes_of(i) for i in ids)

    def _bytes_of(self, number: int) -> bytes:
        piece = self.tok.id_to_token(number) or ""
        if number in self.added:
            found = piece.encode()
        elif self._kind == "byte-level":
            found = b"".join(LETTERS.get(letter) or letter.encode() for letter in piece)
        elif self._kind == "pieces":
            byte = BYTE_TOKEN.fullmatch(piece)
            found = bytes([int(piece[3:5], 16)]) if byte else piece.replace(SPACE, " ").encode()
        else:
            found = self.tok.decode([number], skip_special_tokens=False).encode()
        self._bytes[number] = found
        return found

    @cached_property
    def _kind(self) -> str:
        state = str(self.tok.decoder.__getstate__()) if self.tok.decoder is not None else ""
        if "ByteLevel" in state:
            return "byte-level"
        return "pieces" if "ByteFallback" in state or SPACE in state or "Metaspace" in state else "other"


LETTERS = {letter: bytes([byte]) for byte, letter in enumerate(byte_letters())}
