"""Whether a model in memory does what it should: one `Line` a check.

  logits         finite, and not the same whatever it is given
  left to right  a later token changes nothing before it
  loss           near what loam.json says of the same text; else far below that of guessing
  answers        there are some
  stops, markers, parrots, repeats   how they end and what they are

In: a `Speaker`, a `Reader`, the validation split where the corpus is here. How much is read follows from the number of
parameters alone, so the same checkpoint gives the same lines.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.text import one_line
from data.packing import cut
from data.tokens import Tokens
from eval.bootstrap import students_t
from eval.soundness import FAIL, PASS, SKIP, WARN, Line
from eval.speaker import Reader, Speaker
from model.generate import Generation
from model.loss import IGNORED
from tokenizer.template import NUM_SPECIAL

# Held-out tokens, and new tokens an answer, of N parameters: WORK / N, within limits. seed-126m with its trainer/
# (1.5 GB) then takes 15 to 17 s of processor time, 3 of them imports, so less than that where two cores are free.
LOSS_WORK, FEWEST_TOKENS, MOST_TOKENS = 7e10, 512, 131_072
ANSWER_WORK, FEWEST_NEW, MOST_NEW = 6e9, 32, 128
NUM_PROMPTS = 4
PASS_TOKENS = 4096
SIGMAS = 4.0
# For a fail: pieces' losses are skewed, and t alone fails 0.1% of sound checkpoints at 20 pieces, none at 30. Of fewer
# a loss must be off by 80% of what it should be: by one or two pieces t allows anything, and 6 of 100 tokens were off
# by 51% once in 2,000 drawings. Untrained weights are off by 100% and more.
FEWEST_PIECES, GROSS = 30, 0.8
SLACK = 0.01  # share of the loss: bf16 in training, fp32 here, differ by about a tenth of it
FAR_BELOW = 0.75  # of ln(vocabulary)
MOST_SHIFT = 1e-3  # of the logits' standard deviation; rounding gives about 1e-6
LONGEST_PERIOD = 8  # tokens of a loop
COPIED = 0.8  # share of an answer that is one stretch of the prompt
LOOPED = 0.8  # share of an answer that is one loop

TEXT = """The river rises in the hills to the north of the town and runs for about forty miles before it
reaches the sea. In spring, when the snow melts, the water is high and brown; by the end of summer a child
can walk across it. The first bridge was built of wood and was carried away by a flood. The one that stands
there now is made of stone and has three arches. Most people who live near the river work on farms, but
there is also a mill, a small school and a market that is held every Friday. "How long has the mill been
here?" asked the visitor. "Longer than anyone can remember," said the old man, and he smiled. Water is made
of hydrogen and oxygen. It freezes at 0 degrees and boils at 100 degrees Celsius at the pressure of the air
at sea level. Plants take it up through their roots, and the heat of the sun turns it into vapour, which
rises, cools, and comes down again as rain. A number is even if it can be divided by two without a
remainder; all other whole numbers are odd. To add two fractions, bring them to the same denominator first,
then add the numerators.
"""
QUESTIONS = ("What is water?", "How many days has a week?", "Why is the sky blue?", "What is a book?")
BEGINNINGS = ("The river rises in the hills", "Once upon a time", "Water is made of", "In the year 1900")


@dataclass(frozen=True)
class Prompt:
    """What a model is given: a question, or (None) the beginning of a text."""

    question: str | None
    given: str  # what the user said, question or beginning
    ids: list[int]


def token_budget(num_parameters: int) -> int:
    """Held-out tokens whose loss is measured."""
    return int(min(MOST_TOKENS, max(FEWEST_TOKENS, LOSS_WORK / num_parameters)))


def answer_budget(num_parameters: int) -> int:
    """New tokens an answer."""
    return int(min(MOST_NEW, max(FEWEST_NEW, ANSWER_WORK / num_parameters)))


@torch.inference_mode()
def check_logits(speaker: Speaker, reader: Reader) -> list[Line]:
    """`logits` and `left to right`, on 64 tokens of a text and on the same with the last quarter changed."""
    ids = [*reader.begin, *reader.encode(TEXT)][: min(64, speaker.seq_len)]
    ids = [token for token in ids if token < speaker.vocab_size]
    kept = max(1, len(ids) * 3 // 4)
    usable = [token for token in sorted(set(reader.encode(TEXT))) if token < speaker.vocab_size]
    swap = dict(zip(usable, usable[1:] + usable[:1], strict=True))
    late = ids[:kept] + [swap.get(token, usable[0]) for token in ids[kept:]]
    middle = len(ids) // 2
    early = [*ids[:middle], swap.get(ids[middle], usable[0]), *ids[middle + 1 :]]
    found = speaker.logits(torch.tensor([ids, late, early], device=speaker.device))[:, :, : reader.size]
    bad = int((~found.isfinite()).sum())
    if bad:
        todo = "training has diverged, or a tensor is damaged: take another checkpoint"
        return [Line(FAIL, "logits", f"{bad:,} of {found.numel():,} are not finite", todo),
                Line(SKIP, "left to right", "the logits are not finite")]  # fmt: skip
    spread = float(found[0].std())
    by_place = float((found[0] - found[0, :1]).abs().max())
    before = float((found[1, :kept] - found[0, :kept]).abs().max()) / max(spread, 1e-9)
    behind = float((found[2, middle + 1 :] - found[0, middle + 1 :]).abs().max()) / max(spread, 1e-9)
    figures = {"standard_deviation": _rounded(spread), "tokens": len(ids)}
    if spread < 1e-6 or by_place < 1e-6 * spread:
        said = f"the same at each of {len(ids)} places of a text (standard deviation {spread:.2g})"
        todo = "it says the same whatever it is asked: take another checkpoint"
        return [Line(FAIL, "logits", said, todo, figures), Line(SKIP, "left to right", "the logits are constant")]
    lines = [Line(PASS, "logits", f"{found.numel():,} are finite, standard deviation {spread:.2f}", figures=figures)]
    if behind < 1e-6:
        todo = "its attention does nothing: take another checkpoint"
        lines[0] = Line(FAIL, "logits", f"another token at place {middle} changes none behind it", todo, figures)
    shift = {"largest_shift": _rounded(before), "changed_from": kept}
    if before > MOST_SHIFT:
        said = f"other tokens from place {kept} on move logits before it, by {before:.2g} standard deviations"
        todo = "it was trained to look ahead: its losses mean nothing, and it cannot generate"
        return [*lines, Line(FAIL, "left to right", said, todo, shift)]
    said = (
        f"other tokens from place {kept} on leave the logits before it as they are (within {MOST_SHIFT:g} deviations)"
    )
    return [*lines, Line(PASS, "left to right", said, figures=shift)]


@torch.inference_mode()
def nats_of(speaker: Speaker, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Nats of every token but the first of each piece (at most seq_len + 1 ids), in the order of `pieces`."""
    found: list[np.ndarray] = [np.zeros(0)] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i]))
    while order:
        width = len(pieces[order[0]]) - 1
        rows, order = order[: max(1, PASS_TOKENS // width)], order[max(1, PASS_TOKENS // width) :]
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        targets = torch.full((len(rows), width), IGNORED)
        for row, i in enumerate(rows):
            piece = torch.from_numpy(pieces[i].astype(np.int64))
            ids[row, : len(piece) - 1], targets[row, : len(piece) - 1] = piece[:-1], piece[1:]
        nats = speaker.nats(ids.to(speaker.device), targets.to(speaker.device)).cpu().numpy().astype(np.float64)
        for row, i in enumerate(rows):
            found[i] = nats[row, : len(pieces[i]) - 1]
    return found


def draw_pieces(tokens: Tokens, seq_len: int, budget: int) -> tuple[list[np.ndarray], int]:
    """Pieces of documents as validation cuts them; see `draw_places`."""
    places, total = draw_places(tokens, seq_len, budget)
    return [tokens.ids[place] for place in places], total


def draw_places(tokens: Tokens, seq_len: int, budget: int) -> tuple[list[slice], int]:
    """Where in `tokens.ids` pieces lie, drawn without replacement, as many as have `budget` targets on average; and how
    many targets all pieces have.

    Drawn until the budget is there, many pieces would mean short ones, which cost more a target than the others.
    """
    documents, starts, lengths = cut(tokens.lengths, seq_len)
    order = np.random.default_rng(0).permutation(len(lengths))
    number = math.ceil(budget * len(lengths) / max(1, int(lengths.sum())))
    first = tokens.offsets[documents] + starts
    return [slice(int(first[i]), int(first[i] + lengths[i] + 1)) for i in order[:number]], int(lengths.sum())


def check_loss(
    speaker: Speaker,
    pieces: Sequence[np.ndarray],
    total: int,
    said: float,
    num_documents: int,
    counted: Sequence[np.ndarray] | None = None,
) -> Line:
    """Loss a target on a sample of the validation split against loam.json's val_loss on all of it (`total` targets).

    counted: which targets of each piece count, where that is not all: of a fine-tuned model those of answers.

    Tolerance: what Student's t allows as rarely as a normal 4 standard errors of the sample's mean (a piece is one
    piece of evidence: its targets are alike; none where all is read), and 1%. A few pieces fail what is grossly off.
    """
    nats = nats_of(speaker, pieces)
    if counted is not None:
        nats = [piece[mask] for piece, mask in zip(nats, counted, strict=True)]
    sums, counts = np.array([piece.sum() for piece in nats]), np.array([len(piece) for piece in nats])
    number, loss = len(nats), float(sums.sum() / counts.sum())
    unread = max(0.0, 1 - float(counts.sum()) / max(1, total))
    spread = math.sqrt(number / max(1, number - 1) * float(((sums - loss * counts) ** 2).sum()))
    error = spread / float(counts.sum()) * math.sqrt(unread) if number > 1 else loss * unread
    tolerance = students_t(SIGMAS, max(1, number - 1)) * error + SLACK * said
    few = number < FEWEST_PIECES and unread > 0
    if few:
        tolerance = min(tolerance, GROSS * said)
    figures = {"loss": _rounded(loss), "stated": said, "tolerance": _rounded(tolerance), "tokens": int(counts.sum()),
               "pieces": number, "standard_error": _rounded(error)}  # fmt: skip
    share = f"{int(counts.sum()):,} of {total:,} validation tokens ({num_documents:,} documents)"
    found = f"{loss:.3f} nats a token on {share}; loam.json says {said:.3f}, and {tolerance:.3f} more or less is chance"
    if not abs(loss - said) <= tolerance:
        if few and abs(loss - said) < GROSS * said:
            todo = f"{number} pieces of documents are too few to be sure: compare it with the others of its run"
            return Line(WARN, "loss", found, todo, figures)
        todo = "these are not the weights, the tokenizer or the text of that figure: take another checkpoint"
        return Line(FAIL, "loss", found, todo, figures)
    return Line(PASS, "loss", found, figures=figures)


def check_loss_of_guessing(
    speaker: Speaker, pieces: Sequence[np.ndarray], where: str, counted: Sequence[np.ndarray] | None = None
) -> Line:
    """Loss a target (of those that are `counted`) against ln(vocabulary), that of an untrained model."""
    nats = np.concatenate(nats_of(speaker, pieces))
    nats = nats if counted is None else nats[np.concatenate(counted)]
    loss, uniform = float(nats.mean()), math.log(speaker.vocab_size)
    figures = {"loss": _rounded(loss), "uniform": _rounded(uniform), "tokens": len(nats)}
    found = f"{loss:.3f} nats a token on {len(nats):,} tokens of {where}; guessing among {speaker.vocab_size:,} "
    found += f"costs {uniform:.3f}"
    if not loss <= FAR_BELOW * uniform:
        todo = "it has learned little, or other languages: judge it on its own corpus with eval/compare.py"
        return Line(WARN, "loss", found, todo, figures)
    return Line(PASS, "loss", found, figures=figures)


def check_answers(speaker: Speaker, reader: Reader, prompts: Sequence[Prompt], most: int, own: bool) -> list[Line]:
    """Greedy answers to a few prompts: there, ended by the model, without markers, not the prompt, not a loop."""
    names = ("answers", "stops", "markers", "parrots", "repeats")
    prompts = [prompt for prompt in prompts if len(prompt.ids) + most <= speaker.seq_len]
    if not prompts:
        return [Line(SKIP, name, f"no prompt leaves room for {most} tokens in its context") for name in names]
    made = speaker.answer([prompt.ids for prompt in prompts], most)
    texts = [reader.decode(answer.ids) for answer in made]
    n = len(prompts)
    lines = [_there(prompts, texts), _stopped(prompts, made, speaker, most)]
    if own:
        marked = sum(any(token < NUM_SPECIAL for token in answer.ids) for answer in made)
        todo = "it has not learned where a turn ends: train longer (chat.py bans markers)"
        lines.append(_share("markers", marked, n, "hold a marker of the template", todo, fails=False))
    copies = sum(parrots(prompt.given, text) for prompt, text in zip(prompts, texts, strict=True))
    todo = "it copies instead of answering: look for question = answer in its corpus (data/audit.py)"
    lines.append(_share("parrots", copies, n, "repeat what was asked", todo))
    loops = [loop_share(answer.ids) for answer in made]
    whole, partly = sum(share >= LOOPED for share in loops), sum(share >= 0.5 for share in loops)
    todo = "train longer or on cleaner text; sampling (chat.py --temperature 0.7) hides it"
    lines.append(
        _share("repeats", whole, n, "are one token or short loop again and again", todo)
        if whole == n or not partly
        else _share("repeats", partly, n, "end in a loop of a few tokens", todo, fails=False)
    )
    return lines


def parrots(given: str, text: str) -> bool:
    """Whether an answer is a copy of what was asked: it holds all of it, or 80% of it is one stretch of it.

    Stretches of a context are no copy: that is where many an answer stands.
    """
    asked, said = (" ".join(part.casefold().split()) for part in (given, text))
    if len(said) < 12 or not asked:  # "blue" stands in many a question
        return False
    match = difflib.SequenceMatcher(None, asked, said, autojunk=False).find_longest_match()
    return asked in said or match.size >= COPIED * len(said)


def loop_share(ids: Sequence[int]) -> float:
    """Largest share of an answer that is one run of up to 8 tokens, four times or more; answers under 8 tokens: 0."""
    best = 0
    for period in range(1, LONGEST_PERIOD + 1):
        run = 0
        for i in range(period, len(ids)):
            run = run + 1 if ids[i] == ids[i - period] else 0
            if run >= 3 * period and run + period >= 8:
                best = max(best, run + period)
    return best / len(ids) if ids else 0.0


def _there(prompts: Sequence[Prompt], texts: Sequence[str]) -> Line:
    empty = sum(not text.strip() for text in texts)
    shown = next(((p.given, text) for p, text in zip(prompts, texts, strict=True) if text.strip()), None)
    if shown is None:
        todo = "it ends at once: see whether its corpus holds empty answers, or train longer"
        return Line(
            FAIL, "answers", f"{empty} of {len(texts)} are empty", todo, {"empty": empty, "prompts": len(texts)}
        )
    example = f"{one_line(shown[0], 60)!r} -> {one_line(shown[1], 80)!r}"
    figures = {"empty": empty, "prompts": len(texts), "texts": list(texts), "asked": [p.given for p in prompts]}
    if empty:
        todo = "see whether its corpus holds empty answers"
        return Line(WARN, "answers", f"{empty} of {len(texts)} are empty; {example}", todo, figures)
    return Line(PASS, "answers", f"{len(texts)} of {len(texts)} say something: {example}", figures=figures)


def _stopped(prompts: Sequence[Prompt], made: Sequence[Generation], speaker: Speaker, most: int) -> Line:
    n, stopped = len(made), sum(answer.stopped for answer in made)
    figures: dict[str, Any] = {"stopped": stopped, "prompts": n, "max_new_tokens": most}
    if not speaker.eos:
        return Line(WARN, "stops", "no token ends its answers", "limit max_new_tokens", figures)
    if all(prompt.question is None for prompt in prompts):
        found = f"{stopped} of {n} continuations of texts end within {most} tokens, as texts may be longer"
        return Line(SKIP, "stops", found, figures=figures)
    found = f"{stopped} of {n} answers end by themselves within {most} tokens"
    if stopped < n:
        return Line(WARN, "stops", found, "limit max_new_tokens; if it never stops, train longer", figures)
    return Line(PASS, "stops", found, figures=figures)


def _share(name: str, number: int, of: int, what: str, todo: str, fails: bool = True) -> Line:
    """pass for none, fail for all (where `fails`), warn between."""
    status = PASS if number == 0 else FAIL if fails and number == of else WARN
    return Line(status, name, f"{number} of {of} {what}", todo if number else "", {"number": number, "of": of})


def _rounded(value: float) -> float:
    """Six digits: the last ones differ between machines."""
    return float(f"{value:.6g}")
