"""The settings of `[prepare]`, and whether they make sense together. No data engine: training reads them, too."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from common.errors import UserError
from data.clean import ALIKE, CHECKS, DEFAULT_STEPS, FITTED, REPAIRS, STEPS
from data.repairs import parse_bounds

Engine = Literal["native", "ray"]
MOST_CANARIES, MOST_COPIES = 1000, 1000  # a million rows


@dataclass
class PrepareConfig:
    """How files become splits.

    Args:
        val_share: share of the corpus's bytes to validate on
        test_share: share of the corpus's bytes to compare checkpoints on
        seed: another seed is another split
        min_bytes: shorter documents (all fields together, UTF-8) go to quarantine
        steps: cleaning steps, in their order (docs/audit.md): repairs html_to_text fix_mojibake strip_control
            cut_furniture; checks empty too_short length repetition refusal mojibake control_characters markup pii
            secret; alike exact_duplicate near_duplicate; fitted on the training split template truncated language
            boilerplate cut_boilerplate contamination
        skip: steps to leave out of those
        lengths: bounds for the step length in bytes or tokens, such as "answer 10..4000", "all ..512 tokens"
        keep: rows of each template that stay
        questions: files whose questions the step contamination looks for, as evaluations are
        canaries: made sentences with a random number each, planted in the training split to measure what a model
            memorises (eval/exposure.py); manifest.json lists them
        canary_copies: how often each of them is planted, in turn; one of 0 copies is a control
        engine: native (this machine) or ray (a cluster)
    """

    val_share: float = 0.05
    test_share: float = 0.05
    seed: int = 0
    min_bytes: int = 8
    steps: list[str] = field(default_factory=lambda: list(DEFAULT_STEPS))
    skip: list[str] = field(default_factory=list)
    lengths: list[str] = field(default_factory=list)
    keep: int = 3
    questions: list[str] = field(default_factory=list)
    canaries: int = 0
    canary_copies: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8, 16])
    engine: Engine = "native"


def check_config(config: PrepareConfig) -> None:
    """Raise UserError for values out of range."""
    for name in ("val_share", "test_share"):
        share = getattr(config, name)
        if not 0 < share < 0.5:
            raise UserError(f"{name} is a share of the corpus above 0 and below 0.5, as in 0.05, not {share}")
    if config.min_bytes < 0:
        raise UserError(f"min_bytes is 0 or more, not {config.min_bytes}")
    for setting in ("steps", "skip"):
        for name in getattr(config, setting):
            if name not in STEPS:
                raise UserError(f"{setting}: no cleaning step {name!r} (there are: {', '.join(STEPS)})")
    order = [
        next(i for i, sort in enumerate((REPAIRS, CHECKS, ALIKE, FITTED)) if name in sort) for name in config.steps
    ]
    for (name, sort), (following, next_sort) in pairwise(zip(config.steps, order, strict=True)):
        if next_sort < sort:
            raise UserError(f"steps: {following} runs before {name}, whatever is written: name it before it")
    if len(set(config.steps)) < len(config.steps):
        raise UserError("steps: a step is named twice")
    if config.keep < 0:
        raise UserError(f"keep is a number of rows, 0 or more, not {config.keep}")
    if not 0 <= config.canaries <= MOST_CANARIES:
        raise UserError(f"canaries is a number of sentences, 0 to {MOST_CANARIES:,}, not {config.canaries}")
    if wrong := [copies for copies in config.canary_copies if not 0 <= copies <= MOST_COPIES]:
        raise UserError(f"canary_copies are 0 to {MOST_COPIES:,} each, as in [0, 1, 4, 16], not {wrong[0]}")
    if config.canaries and not any(config.canary_copies[: config.canaries]):
        raise UserError("canary_copies plants none of the canaries: name a number above 0, as in [0, 1, 4, 16]")
    bounds = parse_bounds(config.lengths)
    for setting, given, step in (("lengths", bounds, "length"), ("questions", config.questions, "contamination")):
        if bool(given) != (step in config.steps):
            raise UserError(f"{setting} and the step {step} need each other: name both or none")
