"""The [eval] section. No torch here: every command reads it."""

import math
from dataclasses import dataclass
from typing import Literal

from common.errors import UserError

MOST_RESAMPLES = 1_000_000  # the ends of a normal distribution's 95% interval are then known to 0.1% of its width

FEWEST_SEED_RUNS = 3
MOST_SAMPLES = 1000  # to a question


@dataclass
class EvalConfig:
    """The [eval] section.

    Args:
        documents: most held-out documents to evaluate, whole groups in an order that seed decides; 0 for all
        train_documents: documents of its own training split that each checkpoint is judged on too, beside the held-out
            ones; 0 for none
        resamples: resamples of the bootstrap behind each interval
        seed_noise: standard deviation, in bits per byte, of runs that differ by their seed alone, as compare says where
            it is given such runs; differences then count only beyond what other seeds would give
        seed_runs: how many runs seed_noise was measured on, 3 or more
        seed: which documents, resamples and questions are drawn
        questions: file of questions, .jsonl or .csv (question, reference, keywords, category, difficulty, context); by
            default they are of the held-out documents
        num_answers: held-out questions (or beginnings of texts) that each checkpoint answers greedily
        samples: sampled answers to each question beside the greedy one
        temperature: of the samples
        top_p: of the samples: the fewest likeliest tokens that together have this probability
        canary_candidates: numbers that each planted canary's is ranked among, where prepare planted some
        distractors: wrong answers that the true one is ranked among
        max_new_tokens: longest answer, in tokens
        batch_rows: rows of seq_len tokens per forward pass; by default 4,096 tokens on a CPU, 65,536 on CUDA
        precision: fp32, or bf16 autocast: faster on hardware for it, figures move by about 0.1%
        verify: compare each checkpoint's files with their hashes (a second a gigabyte)
        device: auto takes cuda, else mps, else cpu
    """

    documents: int = 5000
    train_documents: int = 500
    resamples: int = 10_000
    seed_noise: float | None = None
    seed_runs: int | None = None
    seed: int = 0
    questions: str | None = None
    num_answers: int = 50
    samples: int = 0
    temperature: float = 0.8
    top_p: float = 0.95
    canary_candidates: int = 1000
    distractors: int = 4
    max_new_tokens: int = 128
    batch_rows: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    verify: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        for name, least in (
            ("documents", 0),
            ("train_documents", 0),
            ("seed", 0),
            ("num_answers", 0),
            ("samples", 0),
            ("distractors", 1),
            ("canary_candidates", 1),
            ("max_new_tokens", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name} {getattr(self, name)}: must be {least} or more")
            if getattr(self, name) >= 2**63:
                raise UserError(f"{name} {getattr(self, name)}: must be less than 2**63")
        if self.samples > MOST_SAMPLES:
            raise UserError(f"samples {self.samples}: must be {MOST_SAMPLES} or fewer")
        for name, high in (("temperature", 10.0), ("top_p", 1.0)):
            if not 0 < getattr(self, name) <= high:
                raise UserError(f"{name} {getattr(self, name)}: must be more than 0 and at most {high:g}")
        if self.resamples < 1000:
            raise UserError(f"resamples {self.resamples}: must be 1000 or more, or the interval's ends are noise")
        if self.resamples > MOST_RESAMPLES:
            raise UserError(
                f"resamples {self.resamples}: must be {MOST_RESAMPLES:,} or fewer, as more tell nothing new"
            )
        if (self.seed_noise is None) != (self.seed_runs is None):
            raise UserError(
                "seed_noise and seed_runs go together: the standard deviation in bits per byte, and of how many runs"
            )
        if self.seed_noise is not None and not 0 <= self.seed_noise < math.inf:
            raise UserError(f"seed_noise {self.seed_noise}: must be 0 or more, in bits per byte")
        if self.seed_runs is not None and not FEWEST_SEED_RUNS <= self.seed_runs < 2**63:
            raise UserError(
                f"seed_runs {self.seed_runs}: must be {FEWEST_SEED_RUNS} or more: what two runs say of all others is "
                "13 times their distance"
            )
        if self.batch_rows is not None and self.batch_rows < 1:
            raise UserError(f"batch_rows {self.batch_rows}: must be 1 or more")
