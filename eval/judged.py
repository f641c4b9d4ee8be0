"""Questions -> what each checkpoint answers -> scores, with what baselines would score on the same questions.

  1. `ask`     the questions of a file, or of the test split, with wrong answers to rank the true one among
  2. `said_by` of one checkpoint: a greedy answer to each, samples by seed, the rank of the true answer; all scored
  3. `judged`  a table of means for each checkpoint, beside echo, random and nearest training answer, and chance

An answer depends on its question, on the checkpoint and on the seed: not on the other questions, nor on the batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.errors import UserError
from eval.baselines import BASELINES, baseline_answers
from eval.config import EvalConfig
from eval.held_out import HeldOut
from eval.opened import Opened
from eval.questions import Question, choose_questions, prompt_ids, prompt_text, question_of, read_questions
from eval.ranking import Candidates, chance, choose_distractors, rank
from eval.scores import RANKS, score
from eval.tables import sample_means, tables
from tokenizer.template import Encoder


@dataclass(frozen=True)
class Asked:
    """What every checkpoint is asked."""

    questions: list[Question]
    candidates: list[Candidates | None]
    file: str | None  # that they are of; None: of the held-out documents


def ask(config: EvalConfig, documents: HeldOut, readers: Sequence[tuple[Encoder, int]]) -> Asked:
    """The questions of `config`. readers: tokenizer and seq_len of each checkpoint. UserError for a file without any,
    or one that does not fit a checkpoint's context."""
    if config.questions is not None:
        questions = read_questions(Path(config.questions))
        for question in questions:
            if any(len(prompt_ids(tok, question)) >= seq_len for tok, seq_len in readers):
                least = min(seq_len for _, seq_len in readers)
                raise UserError(
                    f"{question.document}: the question with its context is longer than a checkpoint's context of "
                    f"{least:,} tokens: shorten it, or leave it out"
                )
        return Asked(questions, choose_distractors(questions, config.seed, config.distractors), config.questions)
    column = documents.table.column_names.index("group")
    table = documents.table.set_column(column, "group", pa.array(documents.groups, pa.string()))  # of a block its own
    questions = choose_questions(table, config.num_answers, config.seed, readers, config.max_new_tokens)
    pool = [made for row in table.to_pylist() if (made := question_of(row)) is not None] if questions else []
    return Asked(questions, choose_distractors(questions, config.seed, config.distractors, pool), None)


def said_by(opened: Opened, asked: Asked, config: EvalConfig) -> list[dict[str, Any]]:
    """For each question {"text", "stopped", "tokens", "scores", "ranking", "samples"}; a sample has the first four."""
    questions = asked.questions
    greedy = opened.answer(questions, config.max_new_tokens)
    sampled = [
        opened.answer(
            questions,
            config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            seeds=[_seed(config.seed, number, question) for question in questions],
        )
        for number in range(config.samples)
    ]
    ranked = rank(opened.losses, questions, asked.candidates, opened.seq_len)
    said = []
    for i, question in enumerate(questions):
        one = _scored(question, greedy[i])
        one["scores"] |= {name: ranked[i][name] for name in RANKS}
        said.append({**one, "ranking": ranked[i], "samples": [_scored(question, of[i]) for of in sampled]})
    return said


def _scored(question: Question, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "scores": score(question, given["text"], given["stopped"], prompt_text(question))}


def _seed(seed: int, number: int, question: Question) -> int:
    """Of the question's words alone: in another line of a file it is the same question, and gets the same samples."""
    content = f"{seed}:{number}:{prompt_text(question)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "little")


def judged(
    asked: Asked, said: Sequence[list[dict[str, Any]]], corpora: Sequence[Path | None], config: EvalConfig
) -> list[dict[str, Any]]:
    """A table (eval/tables.py) for each checkpoint, with the means of its samples as "samples", None without any.

    said: by each checkpoint. corpora: that each was trained on; None where it is not here: then its random and nearest
    training answers are not known.
    """
    scored_baselines = {corpus: _baselines(asked, corpus, config.seed) for corpus in dict.fromkeys(corpora)}
    found = []
    for own, corpus in zip(said, corpora, strict=True):
        by_chance = {"chance": chance(asked.candidates, [row["ranking"] for row in own])}
        baselines = scored_baselines[corpus] | by_chance
        table = tables(asked.questions, [row["scores"] for row in own], baselines, config.resamples, config.seed)
        samples = [sample["scores"] for row in own for sample in row["samples"]]
        found.append({**table, "samples": sample_means(samples) if samples else None})
    return found


def _baselines(asked: Asked, corpus: Path | None, seed: int) -> dict[str, list[dict[str, Any]] | None]:
    if corpus is None:
        texts = {"echo": [prompt_text(question) for question in asked.questions]}
    else:
        texts = baseline_answers(asked.questions, corpus, seed)
    scored: dict[str, list[dict[str, Any]] | None] = dict.fromkeys(BASELINES)
    for name, own in texts.items():
        scored[name] = [score(q, text, None, prompt_text(q)) for q, text in zip(asked.questions, own, strict=True)]
    return scored
