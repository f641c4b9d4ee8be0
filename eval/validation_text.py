"""Text for a look at one checkpoint: some of its run's validation split, and prompts made of it.

In: a corpus folder, how many bytes. Out: documents in an order that their ids decide, as a table, and `Prompt`s. Where
the corpus is not on this machine, or the checkpoint is another's, a text and questions that stand in
eval/soundness_answers.py take its place.
"""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from eval.questions import choose_questions, prompt_ids
from eval.soundness_answers import BEGINNINGS, QUESTIONS, Prompt
from eval.speaker import Reader
from tokenizer.bpe import Tokenizer
from tokenizer.encode import ABOUT, FIELDS, read_corpus

MOST_BYTES = 2 << 20  # of text: encoded in about a second
LONGEST = 1 << 20  # characters of one document: of a longer one this is its beginning


def validation_documents(corpus: Path, most_bytes: int = MOST_BYTES) -> pa.Table:
    """Documents of the validation split: all, or as many as `most_bytes` hold, drawn by their ids' hashes."""
    ids: list[str] = []
    sizes: list[int] = []
    for table in read_corpus(corpus, "val", [*FIELDS, "id"]):
        ids += table["id"].to_pylist()
        lengths = [pc.fill_null(pc.binary_length(table[name]), 0).to_numpy() for name in FIELDS]
        sizes += sum(lengths).tolist()  # type: ignore[union-attr]
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest())
    wanted: set[str] = set()
    room = most_bytes
    for i in order:
        if room <= 0:
            break
        wanted.add(ids[i])
        room -= sizes[i]
    tables = [
        table.filter(pc.is_in(table["id"], value_set=pa.array(sorted(wanted), pa.string())))
        for table in read_corpus(corpus, "val", [*FIELDS, *ABOUT])
    ]
    found = pa.concat_tables(tables)
    text = pc.utf8_slice_codeunits(found["text"], 0, LONGEST)
    return found.set_column(found.schema.get_field_index("text"), "text", text)


def corpus_prompts(documents: pa.Table, tok: Tokenizer, seq_len: int, number: int, most_new: int) -> list[Prompt]:
    """Questions of these documents, or beginnings of its texts, that leave room for an answer."""
    questions = choose_questions(documents, number, 0, [(tok, seq_len)], most_new)
    return [Prompt(q.question, q.question or q.beginning or "", prompt_ids(tok, q)) for q in questions]


def plain_prompts(reader: Reader) -> list[Prompt]:
    """Questions that anybody may ask, by the chat template; without one, beginnings of texts."""
    if reader.converse is None:
        return [Prompt(None, given, [*reader.begin, *reader.encode(given)]) for given in BEGINNINGS]
    return [Prompt(q, q, reader.converse([{"role": "user", "content": q}], True)) for q in QUESTIONS]
