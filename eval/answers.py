"""What each checkpoint says to the same held-out questions, greedily, side by side with the reference.

1. `choose_questions` draws questions in an order that content and seed decide, each short enough for every checkpoint;
   a corpus without Q&A gives beginnings of its texts instead
2. `answer` renders each through the one template and lets a checkpoint go on until it stops by itself or is stopped
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from model.decoder import Decoder
from model.generate import generate
from tokenizer.bpe import Tokenizer
from tokenizer.template import BOS, EOS, render_prompt

BEGINNING = 200  # characters of a text that are given; what follows, twice as long, is the reference
TOGETHER = 16  # prompts generated in one batch


@dataclass(frozen=True)
class Question:
    """A held-out question, or (question None) the beginning of a held-out text, and what the corpus says."""

    document: str  # id in the corpus
    source: str
    category: str | None
    question: str | None
    context: str | None
    beginning: str | None
    reference: str


def choose_questions(
    table: pa.Table, number: int, seed: int, readers: Sequence[tuple[Tokenizer, int]], max_new_tokens: int
) -> list[Question]:
    """Up to `number` questions of held-out documents, or beginnings of texts where there are none.

    `readers`: tokenizer and seq_len of each checkpoint. A question is passed over unless its prompt leaves every one of
    them room for max_new_tokens, or for half its context.
    """
    rows = table.select(["id", "source", "category", "text", "context", "question", "answer"]).to_pylist()
    asked = [row for row in rows if row["question"] is not None] or rows
    asked.sort(key=lambda row: hashlib.sha256(f"{seed}:{row['id']}".encode()).digest())
    chosen: list[Question] = []
    for row in asked:
        if len(chosen) == number:
            break
        question = _question(row)
        if question is not None and all(
            len(prompt_ids(tok, question)) + min(max_new_tokens, seq_len // 2) <= seq_len for tok, seq_len in readers
        ):
            chosen.append(question)
    return chosen


def prompt_ids(tok: Tokenizer, question: Question) -> list[int]:
    """Ids that a checkpoint is given."""
    if question.question is None:
        return [BOS, *tok.encode(question.beginning or "")]
    return render_prompt(tok, question.question, question.context)


def answer(model: Decoder, tok: Tokenizer, questions: Sequence[Question], max_new_tokens: int) -> list[dict[str, Any]]:
    """Greedy answers: {"text", "stopped" (by itself), "tokens"} for each question."""
    prompts = [prompt_ids(tok, question) for question in questions]
    generations = [
        generation
        for some in _slices(prompts, TOGETHER)
        for generation in generate(model, some, max_new_tokens=max_new_tokens, eos_id=EOS)
    ]
    return [
        {"text": tok.decode(generation.ids), "stopped": generation.stopped, "tokens": len(generation.ids)}
        for generation in generations
    ]


def _question(row: dict[str, str | None]) -> Question | None:
    """Row -> question; None for a text too short to be cut."""
    common = {"document": row["id"], "source": row["source"], "category": row["category"]}
    if row["question"] is not None:
        return Question(
            **common,  # type: ignore[arg-type]
            question=row["question"],
            context=row["context"],
            beginning=None,
            reference=row["answer"] or "",
        )
    text = row["text"] or ""
    cut = text.rfind(" ", 0, min(BEGINNING, len(text) // 2) + 1)  # at a space, which the continuation begins with
    if cut <= 0:
        return None
    return Question(
        **common,  # type: ignore[arg-type]
        question=None,
        context=None,
        beginning=text[:cut],
        reference=text[cut : cut + 2 * BEGINNING],
    )


def _slices(items: list[list[int]], size: int) -> Iterable[list[list[int]]]:
    return (items[first : first + size] for first in range(0, len(items), size))
