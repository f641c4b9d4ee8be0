"""Samples: the same documents each time, and prompts that leave no room are left out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from config import Config
from model.config import resolve_shape
from model.decoder import Decoder
from model.generate import Generation
from tokenizer.bpe import load_tokenizer
from tokenizer.dialog import own_dialog
from tokenizer.encode import corpus_files
from tokenizer.responses import Counts, response_tokens
from training.samples import count_stops, first_documents, sample_lines


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


def test_an_answer_as_long_as_the_longest_that_counts_has_room_to_end(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = load_tokenizer(Path("runs/t/tokenizer"))
    table = pa.concat_tables([pq.read_table(file) for file in corpus_files(Path("runs/t/corpus"), "val")])
    rows = response_tokens(table, own_dialog(tok), 64, Counts())
    assert len(rows) > 0
    asked: list[int] = []

    def generate(model: object, prompts: list[list[int]], most: int, *_: object, **options: object) -> list[Generation]:
        """Says the row's own answer, and ends where there is room for one more."""
        asked.append(most)
        answers = [rows.document(i)[rows.prompts[i] : -1].tolist() for i in range(len(prompts))]
        return [Generation(ids[:most], stopped=len(ids) < most) for ids in answers]

    monkeypatch.setattr("training.samples.generate", generate)
    stopped, number, most = count_stops(object(), own_dialog(tok), rows, 64)  # type: ignore[arg-type]
    lengths = sorted((rows.lengths - rows.prompts - 1)[:number].tolist())
    assert stopped == sum(length <= most for length in lengths)
    assert asked == [most + 1]
