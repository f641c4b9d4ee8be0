"""What each checkpoint says to the same questions (questions.py), greedily or sampled.

`answer` renders each through the one template and lets a checkpoint go on until it stops by itself or is stopped.
"""

from collections.abc import Sequence
from typing import Any

from eval.questions import Question, prompt_ids
from model.decoder import Decoder
from model.generate import Generation, generate
from tokenizer.bpe import Tokenizer
from tokenizer.template import EOS

# Prompts generated in one batch. 64 answers of 128 tokens of 126M parameters take 52, 41 and 37 s on two cores by 16,
# 32 and 64 of them; 64 would hold up to 5 GB of keys and values.
TOGETHER = 32


def answer(
    model: Decoder,
    tok: Tokenizer,
    questions: Sequence[Question],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Greedy answers, or sampled ones with a seed a question: {"text", "stopped" (by itself), "tokens"} for each."""
    prompts = [prompt_ids(tok, question) for question in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # a batch costs what its longest prompt costs
    generations: list[Generation] = [Generation()] * len(prompts)
    for first in range(0, len(order), TOGETHER):
        some = order[first : first + TOGETHER]
        found = generate(
            model,
            [prompts[i] for i in some],
            max_new_tokens=max_new_tokens,
            eos_id=EOS,
            temperature=temperature,
            top_p=top_p,
            row_seeds=None if seeds is None else [seeds[i] for i in some],
        )
        for i, generation in zip(some, found, strict=True):
            generations[i] = generation
    return [
        {"text": tok.decode(generation.ids), "stopped": generation.stopped, "tokens": len(generation.ids)}
        for generation in generations
    ]
