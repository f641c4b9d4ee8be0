"""Rows to fine-tune on: a corpus' questions and conversations as ids, with a mark on each token that is trained.

1. a document becomes messages, and those ids by the checkpoint's own template (tokenizer/dialog.py); trained are the
   tokens of answers and what ends each of them
2. `fit` sees to it that each row fits the context, trains something, and that nothing goes in silence:
     divided     a conversation that is too long, between two of its turns: each part keeps the context (a system's
                 words), each answer is trained once
     shortened   one turn that is too long: its context loses its end, as much as it must
     cut         where that does not suffice: the answer loses its end; no end is trained then
     left out    where no room is left for an answer, or the template cannot render it
3. ids, marks, index and counts are written as any token store is (tokenizer/encode.py)
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import UserError
from common.files import fingerprint, read_json
from data.tokens import Tokens, from_index, id_dtype
from tokenizer.dialog import Dialog, Messages, Row
from tokenizer.encode import (
    ABOUT,
    FIELDS,
    corpus_files,
    damage_of,
    index_rows,
    read_corpus,
    store_fingerprint,
    write_store,
)
from tokenizer.template import messages_of

FORMAT = 1
PARTS = (".bin", ".trained.bin", ".index.parquet")
FEW = 16  # messages of a conversation that is rendered without asking whether it may fit


@dataclass
class Counts:
    """What became of the documents of a split."""

    documents: int = 0
    whole: int = 0
    divided: int = 0  # into more rows than one
    shortened: int = 0  # rows, of a context
    cut: int = 0  # rows, of an answer
    too_long: int = 0  # left out: no room for an answer
    not_rendered: int = 0  # left out: the template refuses it
    texts: int = 0  # left out: documents without an answer
    rows: int = 0
    tokens: int = 0
    trained: int = 0  # tokens of answers, and what ends them
    lost: int = 0  # tokens that were shortened, cut or left out

    def lines(self) -> list[str]:
        """What is said of them, one line or two."""
        kept = [
            f"{self.rows:,} rows of {self.documents:,} documents, {self.tokens:,} tokens, of which "
            f"{self.trained / max(1, self.tokens):.1%} are trained (answers and their ends)"
        ]
        changed = [
            (self.divided, "conversations divided between turns"),
            (self.shortened, "contexts shortened"),
            (self.cut, "answers cut (no end is trained in them)"),
            (self.too_long, "left out as their question leaves no room for an answer"),
            (self.not_rendered, "left out as the template cannot render them"),
            (self.texts, "texts left out, which hold no answer"),
        ]
        if told := [f"{number:,} {what}" for number, what in changed if number]:
            lost = f"; {self.lost / (self.tokens + self.lost):.2%} of all tokens are lost" if self.lost else ""
            kept.append(f"longer than the context, or no answer: {', '.join(told)}{lost}")
        return kept


def fit(dialog: Dialog, messages: Messages, most: int, counts: Counts, policy: str = "shorten") -> Iterator[Row]:
    """The rows of a conversation, each of `most` tokens at most, with a trained one; `counts` is added to.

    policy: "shorten" or "leave_out" a turn that is too long by itself.
    """
    # A prompt is rendered once, another's document once for each answer: 2,000 messages took 44 s, and take 2.
    if len(messages) <= FEW or len(dialog.prompt(messages[:-1])) < most:
        row = dialog.document(messages)
        if len(row.ids) <= most:
            counts.whole += 1
            yield row
            return
    head, turns = divide(messages)
    if len(turns) > 1:
        counts.divided += 1
    while turns:
        number = _most_turns(dialog, head, turns, most)
        part = _document(dialog, head, turns[:number])
        while number > 1 and len(part.ids) > most:
            number -= 1
            part = _document(dialog, head, turns[:number])
        if len(part.ids) <= most:
            yield part
        elif policy == "shorten" and (made := _shorten(dialog, part, head, turns[0], most, counts)) is not None:
            yield made
        else:
            counts.too_long += 1
            counts.lost += len(part.ids)
        turns = turns[number:]


def _most_turns(dialog: Dialog, head: Messages, turns: Sequence[Messages], most: int) -> int:
    """How many of the first turns, one at least, leave room for a token of the last one's answer."""

    def too_many(number: int) -> bool:
        messages = [*head, *(message for turn in turns[:number] for message in turn)]
        return len(dialog.prompt(messages[:-1])) >= most

    low, high = 1, 2
    while high <= len(turns) and not too_many(high):
        low, high = high, 2 * high
    high = min(high, len(turns) + 1)
    return low + bisect_left(range(low + 1, high), True, key=too_many)


def divide(messages: Messages) -> tuple[Messages, list[Messages]]:
    """What stands before the first turn, and the turns: each ends with an answer; a greeting belongs to the first."""
    start = next((i for i, message in enumerate(messages) if message["role"] not in ("context", "system")), 0)
    turns: list[Messages] = []
    first = start
    for i in range(start, len(messages)):
        asked = turns or any(message["role"] == "user" for message in messages[start:i])
        if messages[i]["role"] == "assistant" and asked:
            turns.append(messages[first : i + 1])
            first = i + 1
    return messages[:start], turns


def _document(dialog: Dialog, head: Messages, turns: Sequence[Messages]) -> Row:
    return dialog.document([*head, *(message for turn in turns for message in turn)])


def _shorten(dialog: Dialog, row: Row, head: Messages, turn: Messages, most: int, counts: Counts) -> Row | None:
    """A turn that is too long behind its context, with less of that; else without one, and less of its answer. None
    where its question leaves no room for any."""
    alone = dialog.document(turn)
    if head and len(alone.ids) <= most:
        context = head[-1]

        def shortened(size: int) -> Row:
            left = [{**context, "content": context["content"][:size]}] if size else []
            return dialog.document([*head[:-1], *left, *turn])

        low, high = 0, len(context["content"])  # `low` characters fit, if any do
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(shortened(middle).ids) <= most else (low, middle)
        if len((found := shortened(low)).ids) <= most:
            counts.shortened += 1
            counts.lost += len(row.ids) - len(found.ids)
            return found
    found = Row(alone.ids[:most], alone.trained[:most])
    if not found.trained.any():
        return None
    counts.cut += 1
    counts.lost += len(row.ids) - len(found.ids)
    return found


def response_tokens(table: pa.Table, dialog: Dialog, seq_len: int, counts: Counts, policy: str = "shorten") -> Tokens:
    """Documents in memory -> rows in memory; a row's bytes are those of its trained answers."""
    ids, trained, index = _encode(table, dialog, seq_len, counts, policy)
    lengths = index["length"].to_numpy()
    offsets = pa.array(np.cumsum(lengths) - lengths, pa.int64())
    return from_index(ids, index.set_column(0, index.schema.field("offset"), offsets), trained)


def _encode(
    table: pa.Table, dialog: Dialog, seq_len: int, counts: Counts, policy: str
) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    rows: list[Row] = []
    owners: list[int] = []
    for i, document in enumerate(table.select(FIELDS).to_pylist()):
        counts.documents += 1
        if document["text"] is not None:
            counts.texts += 1
            continue
        try:
            found = list(fit(dialog, messages_of(document), seq_len + 1, counts, policy))
        except ValueError:
            counts.not_rendered += 1
            continue
        rows += found
        owners += [i] * len(found)
    counts.rows += len(rows)
    ids = np.asarray([token for row in rows for token in row.ids], dtype=id_dtype(dialog.vocab_size))
    trained = np.concatenate([row.trained for row in rows]) if rows else np.zeros(0, np.uint8)
    counts.tokens += len(ids)
    counts.trained += int((trained > 0).sum())
    answers = [dialog.decode_bytes(np.asarray(row.ids)[row.trained == 1].tolist()) for row in rows]
    num_bytes = {name: np.zeros(len(rows), np.int64) for name in FIELDS} | {"answer": [*map(len, answers)]}
    prompts = [int((row.trained > 0).argmax()) for row in rows]
    of = table.take(pa.array(owners, pa.int64()))
    return ids, trained, index_rows(of, [len(row.ids) for row in rows], prompts, num_bytes)


def sound_responses(
    corpus: Path, split: str, tokenizer_folder: Path, dialog: Dialog, seq_len: int, out: Path, policy: str
) -> tuple[Path, Counts]:
    """Where a split's rows are, and what became of its documents; made first if this corpus, template and context have
    none yet, or if they are not what was written. UserError for a training split without an answer."""
    named = store_fingerprint(corpus, split, tokenizer_folder)
    about = (FORMAT, named, seq_len, policy, _template(tokenizer_folder), dialog.eos)
    stem = out / f"{split}-answers-{fingerprint(*about)}"
    damage = damage_of(stem, PARTS)
    if damage is not None:
        if damage:
            print(f"warning: {damage}: encoding it anew")
        counts = Counts()
        total = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
        with tqdm(total=total, desc=f"rendering {split}", unit=" documents") as bar:

            def slices() -> Iterator[tuple[tuple[np.ndarray, ...], pa.Table]]:
                for table in read_corpus(corpus, split, [*FIELDS, *ABOUT]):
                    ids, trained, index = _encode(table, dialog, seq_len, counts, policy)
                    bar.update(len(table))
                    yield (ids, trained), index

            write_store(stem, PARTS, slices(), lambda: {"counts": asdict(counts)})
    stored = read_json(stem.with_name(stem.name + ".json"))["counts"]
    counts = Counts(**{field.name: stored[field.name] for field in fields(Counts)})
    if not counts.rows:
        left = f"{counts.texts:,} texts, {counts.too_long:,} turns too long, {counts.not_rendered:,} not rendered"
        raise UserError(
            f"{corpus}: the {split} split holds no answer to fine-tune on in rows of {seq_len:,} tokens "
            f"({counts.documents:,} documents: {left}): name sources of kind qa, or a longer --model.seq_len"
        )
    return stem, counts


def _template(folder: Path) -> list[str]:
    """What of a tokenizer's folder decides how messages are rendered, beside tokenizer.json."""
    names = ("tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "generation_config.json")
    return [(folder / name).read_text(encoding="utf-8") for name in names if (folder / name).exists()]
