"""Samples: the same documents each time, and prompts that leave no room are left out."""

from pathlib import Path

import torch

from config import Config
from model.config import resolve_shape
from model.decoder import Decoder
from tokenizer.bpe import load_tokenizer
from tokenizer.dialog import own_dialog
from training.samples import first_documents, sample_lines


def test_questions_come_before_texts_and_are_the_same_each_time(config: Config) -> None:
    corpus = Path("runs/t/corpus")
    documents = first_documents(corpus, 20)
    assert documents == first_documents(corpus, 20)
    kinds = [row["question"] is not None for row in documents]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {True, False}


def test_a_prompt_that_fills_the_context_is_left_out_and_each_other_gives_one_line(config: Config) -> None:
    torch.manual_seed(0)
    tok = load_tokenizer(Path("runs/t/tokenizer"))
    model = Decoder(resolve_shape(config.model, tok.vocab_size))
    documents = [
        {"question": "What is\nthis?", "context": None, "text": None},
        {"question": "x " * 200, "context": None, "text": None},
        {"question": None, "context": None, "text": "The river " * 100},
    ]
    lines = sample_lines(model, own_dialog(tok), documents, 5)
    assert len(lines) == 2
    assert lines[0].startswith("  sample: What is this? -> ")
    assert lines[1].startswith("  sample: The river")
    assert all("\n" not in line for line in lines)
