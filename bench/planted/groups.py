"""Defects that only show between rows: copies, near copies, templates, stock sentences, answers at odds.

A function takes shuffled clean rows, how many rows it is to make, how many rows there are to be in all, and a random
generator; it gives the rows and, of those it made, the positions. Copies are only made of clean rows.
"""

import random
import re
from itertools import pairwise
from typing import NamedTuple

from bench.planted import phrases
from bench.planted.sources import Row, body, sentence_ends, sentences, whole, with_body
from bench.planted.templates import CONTROLS, QA, TEXTS, draw, template_rows
from bench.planted.truth import MIN_WORDS, NEAR, jaccard, loose, shingles, words


class Made(NamedTuple):
    """Rows, and the positions of those that are planted."""

    rows: list[Row]
    planted: set[int]


def finish(clean: list[Row], made: list[Row], size: int) -> Made:
    """`made` behind as many clean rows as fit."""
    kept = clean[: size - len(made)]
    return Made(kept + made, set(range(len(kept), len(kept) + len(made))))


def controls(count: int, size: int) -> int:
    """How many look-alikes are planted: a twentieth, 20 at least, and never more than half of the sound rows."""
    return min(max(20, size // 20), (size - count) // 2)


# -- copies


def exact_duplicate(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """Copies of clean rows, 1 to 40 of each."""
    made: list[Row] = []
    for row in clean[: size - count]:
        copies = rng.choice((1, 1, 1, 1, 2, 2, 3, 5, 12, 40))
        made += [row] * min(copies, count - len(made))
        if len(made) == count:
            break
    return finish(clean, made, size)


def near_duplicate(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """1 to 3 edited copies, at 0.8 or more to their original, of rows of 50 words; and copies that are not that near.

    More copies of one row would be a template.
    """
    hard = min(controls(count, size), (size - count) // 4)
    long = [row for row in clean[: size - count - hard] if len(words(whole(row))) >= MIN_WORDS]
    rng.shuffle(long)
    vocabulary = [word for row in long[:200] for word in body(row).split()]
    made: list[Row] = []
    rest = iter(long)
    copies = (1, 1, 2, 3) if count < 0.8 * len(long) else (2, 3, 3)  # else there are too few originals
    while len(made) < count:
        row = next(rest)
        for _ in range(min(rng.choice(copies), count - len(made))):
            made.append(edited(row, NEAR, 1.0, vocabulary, rng))
    distant = [edited(row, 0.5, NEAR, vocabulary, rng) for row, _ in zip(rest, range(hard), strict=False)]
    found = finish(clean, distant + made, size)
    return Made(found.rows, set(range(size - len(made), size)))


def edited(row: Row, low: float, high: float, vocabulary: list[str], rng: random.Random) -> Row:
    """A copy with words changed, left out or put in, or sentences swapped or left out, its similarity in [low, high).

    It has 50 words or more, so that the truth covers it.
    """
    original = shingles(whole(row))
    most = max(1, len(original) // (27 if low >= NEAR else 8))  # an edit of a word costs up to three 3-grams
    for attempt in range(2000):
        copy = row
        for _ in range(rng.randint(1, max(1, most) if attempt < 1000 else 2 * most)):
            copy = edit(copy, vocabulary, rng)
        if low <= jaccard(original, shingles(whole(copy))) < high and len(words(whole(copy))) >= MIN_WORDS:
            return copy
    raise AssertionError(f"no edit of {whole(row)[:80]!r} lies in [{low}, {high})")


def edit(row: Row, vocabulary: list[str], rng: random.Random) -> Row:
    """One edit of the text or answer, or of a word of the question."""
    if "question" in row and rng.random() < 0.3:
        return {**row, "question": edit_word(row["question"], vocabulary, rng)}
    text = body(row)
    ends = [0, *sentence_ends(text, lines="text" not in row)]
    parts = [text[a:b] for a, b in pairwise(ends)]
    chance = rng.random()
    if chance < 0.12 and len(parts) > 2:
        i = rng.randrange(len(parts) - 1)
        parts[i : i + 2] = [
            parts[i + 1] if i else " " + parts[i + 1].lstrip(),
            parts[i] if i else "\n" + parts[i].lstrip(),
        ]
        return with_body(row, "".join(parts).strip())
    if chance < 0.24 and len(parts) > 2:
        del parts[rng.randrange(len(parts))]
        return with_body(row, "".join(parts).strip())
    return with_body(row, edit_word(text, vocabulary, rng))


def edit_word(text: str, vocabulary: list[str], rng: random.Random) -> str:
    """A word changed, left out or put in; white space elsewhere stays."""
    found = list(re.finditer(r"\S+", text))
    if len(found) < 3:
        return text
    word = rng.choice(found)
    before, after = text[: word.start()], text[word.end() :]
    kind = rng.choice(("change", "change", "number", "out", "in", "swap"))
    if kind == "number" and word.group().isdigit():
        return before + str(rng.randint(1, 999)) + after
    if kind == "out":
        return before + after.lstrip()
    if kind == "in":
        return before + rng.choice(vocabulary) + " " + word.group() + after
    if kind == "swap" and after.split():
        other = after.split()[0]
        return before + other + after[: len(after) - len(after.lstrip())] + word.group() + after.lstrip()[len(other) :]
    return before + rng.choice(vocabulary) + after


# -- templates and stock sentences


def template(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """5 rows or more of each of some templates; and questions of one mould that have a real answer each."""
    text = "text" in clean[0]
    numbers = list(range(len(TEXTS if text else QA)))
    rng.shuffle(numbers)
    sizes = parts(count, 5, max(10, count // len(numbers)), len(numbers), rng)
    made = [row for n, of in zip(numbers, sizes, strict=False) for row in template_rows(n, of, rng, text)]
    sound: list[Row] = []
    if not text:
        told = rng.sample(sentences(), controls(count, size))
        for i, answer in enumerate(told):
            question = CONTROLS[i % len(CONTROLS)].format(**draw(rng))
            sound.append({"question": question, "answer": answer})
    found = finish(clean, sound + made, size)
    return Made(found.rows, set(range(size - len(made), size)))


def parts(count: int, least: int, typical: int, most: int, rng: random.Random) -> list[int]:
    """`count` as a sum of `most` uneven parts or fewer, each of `least` or more."""
    assert count >= least
    found: list[int] = []
    left = count
    while left > 0 and len(found) < most:
        part = rng.randint(least, 2 * typical - least)
        part = part if left - part >= least else left
        found.append(part)
        left -= part
    return [part + left // len(found) + (i < left % len(found)) for i, part in enumerate(found)]


def boilerplate(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """Stock openings, sentences and endings, each in 20 rows and in 1% of all or more; and phrases that are rarer."""
    least = max(20, -(-size // 100))
    places = [(p, "opening") for p in phrases.OPENINGS]
    places += [(p, "sentence") for p in phrases.MIDDLES] + [(p, "ending") for p in phrases.ENDINGS]
    rng.shuffle(places)
    rare = controls(count, size) // 4
    kept = places[:-5]
    sizes = parts(count, least, max(2 * least, count // len(kept)), len(kept), rng)
    rows = iter(clean)
    made = [said(next(rows), *place, rng) for place, of in zip(kept, sizes, strict=False) for _ in range(of)]
    # A row in ten bears a second phrase; it is one of those that are frequent already.
    used = kept[: len(sizes)]
    for i in range(0, len(made), 10):
        other = rng.choice(used)
        twice = said(made[i], *other, rng)
        if all(phrase in body(twice) for phrase, _ in used if phrase in body(made[i])):  # none was torn apart
            made[i] = twice
    sound = [said(next(rows), *places[-1 - i % 5], rng) for i in range(min(rare, 5 * (least // 3)))]
    found = finish(list(rows), sound + made, size)
    return Made(found.rows, set(range(size - len(made), size)))


def said(row: Row, phrase: str, where: str, rng: random.Random) -> Row:
    """The phrase in its place in the row's answer or text."""
    text = body(row)
    between = rng.choice((" ", " ", "\n\n"))
    if where == "opening":
        return with_body(row, f"{phrase}{' ' if phrase.endswith(',') else between}{text}")
    ends = sentence_ends(text, lines="text" not in row)
    if where == "sentence" and len(ends) > 1:
        place = rng.choice(ends[:-1])
        return with_body(row, f"{text[:place]} {phrase} {text[place:].lstrip(' ')}")
    closed = text if text.rstrip()[-1:] in '.!?”"' or "text" in row else f"{text}."
    return with_body(row, f"{closed}{between}{phrase}")


def conflicting_answers(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """Questions with 2 to 4 answers that have nothing in common; one in seven is asked in other case or punctuation."""
    made: list[Row] = []
    rows = iter(clean)
    while len(made) < count:
        left = count - len(made)
        of = min(rng.choice((2, 2, 3, 4)), left)
        of = left if left - of == 1 else of
        first = next(rows)
        made.append(first)
        answers = [loose(body(first))]
        while len(answers) < of:
            other = next(rows)
            answer = loose(body(other))
            if any(answer in known or known in answer for known in answers):
                continue
            answers.append(answer)
            made.append({**other, "question": asked(first["question"], rng)})
    found = finish(list(rows), made, size)
    return Made(found.rows, found.planted)


def asked(question: str, rng: random.Random) -> str:
    """The same question, at times in other case, or with or without its mark."""
    if rng.random() > 1 / 7:
        return question
    bare = question.rstrip("?. ")
    return rng.choice((question.upper(), question[0].swapcase() + question[1:], bare, bare + " ?", bare + "?"))
