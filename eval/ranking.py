"""Is the true answer likelier than wrong ones? It tells what a model knows before it can say it in words of its own.

  1. `choose_distractors`: to each reference k others of the same category and of like length, by seed; of the whole set
     where the category has too few. None equals the true one, or answers the same question
  2. each (prompt, answer) is a document of a token table, and gets its nats as in every evaluation    (losses.py)
  3. the answers of a question are ranked by nats per UTF-8 byte; the template's markers are in neither

Chance is 1 / (k + 1) for the first place. Beginnings of texts are not ranked: their loss is not told from that of what
follows. Nor is a question of which a candidate does not fit the model's context with its prompt: it would be cut, and
its end judged without the question.
"""

import bisect
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from eval.keywords import words
from eval.losses import DocumentLosses
from eval.questions import Question
from tokenizer.encode import ABOUT, FIELDS
from tokenizer.template import IN_ANSWER

DISTRACTORS = 4
NEAREST = 3  # times as many of the nearest length as are drawn
SAME = 1e-9  # nats per byte: equal, and both first


@dataclass(frozen=True)
class Candidates:
    """The true answer first, then its distractors."""

    answers: tuple[str, ...]
    num_same_category: int  # of the distractors


def choose_distractors(
    questions: Sequence[Question],
    seed: int,
    number: int = DISTRACTORS,
    pool: Sequence[Question] | None = None,
) -> list[Candidates | None]:
    """Candidates for each question, out of the references of `pool` (default: of the questions themselves).

    None where a question has no reference or not one distractor can be had. What a question gets depends on its own
    text, on the seed and on what is in the pool, never on an order.
    """
    pool = questions if pool is None else pool
    everything: dict[str, _Reference] = {}
    by_category: defaultdict[str, dict[str, _Reference]] = defaultdict(dict)
    true_for: defaultdict[str, set[str]] = defaultdict(set)  # one question may have several right answers
    for question in sorted(pool, key=lambda question: question.reference):
        if normal := _normal(question.reference):
            found = _Reference(len(question.reference.encode()), _hash(seed, normal), normal, question.reference)
            everything.setdefault(normal, found)
            by_category[question.category or ""].setdefault(normal, found)
    for question in (*pool, *questions):
        true_for[_asked(question)].add(_normal(question.reference))
    by_size = {category: sorted(references.values()) for category, references in by_category.items()}
    all_by_size = sorted(everything.values())
    return [
        _candidates(
            question, [by_size.get(question.category or "", []), all_by_size], true_for[_asked(question)], seed, number
        )
        for question in questions
    ]


class _Reference(NamedTuple):
    """In order of size, those of one size by hash."""

    size: int  # UTF-8 bytes
    hash: bytes
    normal: str
    text: str


def _candidates(
    question: Question, lists: list[list[_Reference]], true: set[str], seed: int, number: int
) -> Candidates | None:
    if question.question is None or not (normal := _normal(question.reference)):
        return None
    size, own = len(question.reference.encode()), _hash(seed, normal)
    generator = random.Random(_hash(seed, f"{_asked(question)}:{question.reference}"))
    taken: list[_Reference] = []
    same_category = 0
    for place, references in enumerate(lists):
        wanted = number - len(taken)
        near = _nearest(references, size, own, true | {other.normal for other in taken}, NEAREST * wanted)
        taken += generator.sample(near, min(wanted, len(near)))
        same_category = len(taken) if place == 0 else same_category
    return Candidates((question.reference, *(other.text for other in taken)), same_category) if taken else None


def _nearest(references: list[_Reference], size: int, own: bytes, without: set[str], number: int) -> list[_Reference]:
    """So many references of the nearest sizes, by ratio: from the true one's own place outwards."""
    right = bisect.bisect(references, (size, own))
    left = right - 1
    found: list[_Reference] = []
    while len(found) < number and (left >= 0 or right < len(references)):
        if left < 0 or (right < len(references) and references[right].size * references[left].size <= size * size):
            other, right = references[right], right + 1
        else:
            other, left = references[left], left - 1
        if other.normal not in without:
            found.append(other)
    return found


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()


def _normal(text: str) -> str:
    return " ".join(words(text))


def _asked(question: Question) -> str:
    return "\n".join(_normal(part or "") for part in (question.context, question.question))


# -- under a model


def rank(
    losses_of: Callable[[pa.Table], DocumentLosses],
    questions: Sequence[Question],
    candidates: Sequence[Candidates | None],
    seq_len: int,
) -> list[dict[str, Any]]:
    """For each question {"ranked_first", "reciprocal_rank", "chance", "candidates", "nats_per_byte", ...}.

    All None where it is not ranked, with the reason as "not_ranked". Answers that are equally likely share a place: of
    two first ones each is half first. losses_of: of documents.
    """
    asked = [(i, answer) for i, chosen in enumerate(candidates) if chosen for answer in chosen.answers]
    if not asked:
        return [_unranked("no distractors") for _ in questions]
    table = _pairs(questions, asked)
    # Packed whole: a document that is cut costs a pass, and changes no other's figures.
    losses = losses_of(table)
    fits = losses.num_targets.sum(axis=1) <= seq_len
    per_byte = losses.nats[:, IN_ANSWER] / losses.num_bytes[:, IN_ANSWER]
    found: list[dict[str, Any]] = []
    first = 0
    for chosen in candidates:
        if chosen is None:
            found.append(_unranked("no distractors"))
            continue
        here = slice(first, first + len(chosen.answers))
        first = here.stop
        if not fits[here].all():
            found.append(_unranked("a candidate does not fit the context"))
        else:
            found.append({**_places(per_byte[here].tolist()), "candidates": list(chosen.answers)})
    return found


def chance(candidates: Sequence[Candidates | None], ranked: Sequence[dict[str, Any]]) -> list[dict[str, float | None]]:
    """What each ranked question would score by chance: a baseline for tables.py."""
    levels: list[dict[str, float | None]] = []
    for chosen, row in zip(candidates, ranked, strict=True):
        there = chosen is not None and row["ranked_first"] is not None
        size = len(chosen.answers) if chosen is not None else 1
        levels.append(
            {
                "ranked_first": 1 / size if there else None,
                "reciprocal_rank": sum(1 / place for place in range(1, size + 1)) / size if there else None,
            }
        )
    return levels


def _pairs(questions: Sequence[Question], asked: Sequence[tuple[int, str]]) -> pa.Table:
    """Each question with each of its candidates as a document of a corpus."""
    columns: dict[str, list[str | None]] = {name: [None] * len(asked) for name in (*FIELDS, *ABOUT)}
    columns["kind"] = ["qa"] * len(asked)
    columns["question"] = [questions[i].question for i, _ in asked]
    columns["context"] = [questions[i].context for i, _ in asked]
    columns["answer"] = [answer for _, answer in asked]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _places(nats_per_byte: list[float]) -> dict[str, Any]:
    """Where the first of them stands, the lowest being the likeliest."""
    true, others = nats_per_byte[0], nats_per_byte[1:]
    better = sum(other < true - SAME for other in others)
    alike = sum(abs(other - true) <= SAME for other in others)
    places = range(better + 1, better + alike + 2)
    return {
        "ranked_first": 1 / (1 + alike) if better == 0 else 0.0,
        "reciprocal_rank": sum(1 / place for place in places) / len(places),
        "nats_per_byte": nats_per_byte,
        "chance": 1 / len(nats_per_byte),
        "not_ranked": None,
    }


def _unranked(why: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("ranked_first", "reciprocal_rank", "nats_per_byte", "chance", "candidates"))
    return {**nothing, "not_ranked": why}
