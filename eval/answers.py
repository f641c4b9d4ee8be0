"""What each checkpoint says to the same questions (questions.py), greedily, side by side with the reference.

`answer` renders each through the one template and lets a checkpoint go on until it stops by itself or is stopped.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from eval.questions import Question, prompt_ids
from model.decoder import Decoder
from model.generate import generate
from tokenizer.bpe import Tokenizer
from tokenizer.template import EOS

TOGETHER = 16  # prompts generated in one batch


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


def _slices(items: list[list[int]], size: int) -> Iterable[list[list[int]]]:
    return (items[first : first + size] for first in range(0, len(items), size))
