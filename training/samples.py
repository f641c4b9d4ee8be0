"""What the model says after an epoch: greedy answers to validation questions, or continuations of validation texts.

After an epoch of fine-tuning also whether it has learnt to stop: how many of some more answers end by themselves.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from common.text import one_line
from data.tokens import Tokens
from model.decoder import Decoder
from model.generate import generate
from tokenizer.dialog import Dialog
from tokenizer.encode import corpus_files
from tokenizer.template import messages_of

TEXT_START = 200  # characters of a text that the model continues
STOPPING = 16  # answers whose ends are counted


def first_documents(corpus: Path, number: int) -> list[dict[str, Any]]:
    """The first validation documents, those with a question before texts: the same ones after every epoch."""
    rows = [
        row
        for file in corpus_files(corpus, "val")
        for row in pq.read_table(file, columns=["question", "context", "text"]).slice(0, 200).to_pylist()
    ]
    return sorted(rows, key=lambda row: row["question"] is None)[:number]


def sample_lines(
    model: Decoder,
    dialog: Dialog,
    documents: list[dict[str, Any]],
    max_new_tokens: int,
    on_token: Callable[[int, int], None] | None = None,
) -> list[str]:
    """One line a document: what was asked, and the answer; "..." where the model did not stop by itself.

    Left out are prompts that fill the context, as there is no room for an answer, and those that another's template
    refuses. on_token: as in `generate`; may raise.
    """
    prompts, shown = [], []
    for row in documents:
        if row["question"] is not None:
            with suppress(ValueError):
                prompts.append(dialog.prompt(messages_of(row)))
                shown.append(row["question"])
        else:
            text = dialog.encode(row["text"][:TEXT_START])[: model.shape.seq_len // 2 - len(dialog.begin)]
            prompts.append([*dialog.begin, *text])
            shown.append(_text(dialog, text))
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < model.shape.seq_len]
    answers = generate(model, [prompts[i] for i in fitting], max_new_tokens, dialog.eos, on_token=on_token)
    said = [one_line(_text(dialog, answer.ids), 160) + ("" if answer.stopped else " ...") for answer in answers]
    return [f"  sample: {one_line(shown[i], 100)} -> {text}" for i, text in zip(fitting, said, strict=True)]


def count_stops(
    model: Decoder,
    dialog: Dialog,
    val: Tokens,
    seq_len: int,
    on_token: Callable[[int, int], None] | None = None,
) -> tuple[int, int, int]:
    """Of the first validation rows how many answers end by themselves, of how many, within how many tokens: those that
    19 of 20 of the split's own answers need."""
    assert val.trained is not None, "rows to fine-tune on"
    ends = np.flatnonzero(val.trained == 2)
    first = np.append(ends, len(val.ids))[np.searchsorted(ends, val.offsets + val.prompts)]  # of each row
    answers = np.minimum(first - val.offsets, val.lengths) - val.prompts
    most = max(1, int(np.quantile(answers, 0.95)))
    rows = [i for i in range(len(val)) if val.prompts[i] + 1 < seq_len][:STOPPING]
    prompts = [val.document(i)[: val.prompts[i]].tolist() for i in rows]
    said = generate(model, prompts, most + 1, dialog.eos, on_token=on_token)  # and one that ends the longest
    return sum(each.stopped for each in said), len(said), most


def _text(dialog: Dialog, ids: list[int]) -> str:
    return dialog.decode_bytes(ids).decode("utf-8", errors="replace")
