"""What the model says after an epoch: greedy answers to validation questions, or continuations of validation texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from common.text import one_line
from model.decoder import Decoder
from model.generate import generate
from tokenizer.bpe import Tokenizer
from tokenizer.encode import corpus_files
from tokenizer.template import BOS, EOS, render_prompt

TEXT_START = 200  # characters of a text that the model continues


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
    tok: Tokenizer,
    documents: list[dict[str, Any]],
    max_new_tokens: int,
    on_token: Callable[[int, int], None] | None = None,
) -> list[str]:
    """One line a document: what was asked, and the answer; "..." where the model did not stop by itself.

    A prompt that fills the context is left out: there is no room for an answer. on_token: as in `generate`; may raise.
    """
    prompts, shown = [], []
    for row in documents:
        if row["question"] is not None:
            prompts.append(render_prompt(tok, row["question"], row["context"]))
            shown.append(row["question"])
        else:
            prompts.append([BOS, *tok.encode(row["text"][:TEXT_START])][: model.shape.seq_len // 2])
            shown.append(tok.decode(prompts[-1][1:]))
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < model.shape.seq_len]
    answers = generate(model, [prompts[i] for i in fitting], max_new_tokens, EOS, on_token=on_token)
    return [
        f"  sample: {one_line(shown[i], 100)} -> {one_line(tok.decode(said.ids), 160)}{'' if said.stopped else ' ...'}"
        for i, said in zip(fitting, answers, strict=True)
    ]
