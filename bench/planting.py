"""Defects of known kind in clean real text, and which rows bear them: what the audit is measured against.

    clean rows of a source -> `plant`: defects of one kind in a share of them, look-alikes in some others
                           -> `Planted`: rows in random order, and the truth
                           -> `write`: the files that the audit reads, and where each row stands in them

One cell holds defects of one kind only; copies are copies of clean rows. The same seed plants the same rows. The truth
is what was planted; where it can be measured (exact and near duplicates, control characters) it is measured over all
rows, so that what the clean text bears by nature counts as well. bench/planted/ holds the defects, invented for this:
nothing here is shared with the audit.
"""

import csv
import io
import json
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.planted import furniture, groups, private, rows
from bench.planted.groups import Made, controls
from bench.planted.sources import Row, body, clean_rows, whole
from bench.planted.truth import MIN_WORDS, control_characters, loose, pairs, words
from common.errors import UserError
from data.sources import SourceConfig

ROWS = 2000  # of a cell; the chapters are fewer
QA = ("gsm8k", "nq_open")
ALL = ("gsm8k", "nq_open", "books")
FORMATS = {"gsm8k": "csv", "nq_open": "jsonl", "books": "jsonl", "alpaca": "json", "chapters": "txt"}

Damage = Callable[[Row, random.Random], Row | None]
Group = Callable[[list[Row], int, int, random.Random], Made]


class Kind(NamedTuple):
    """How a kind of defect is planted: where, and by what; `look_alike` makes sound rows that resemble it."""

    sources: tuple[str, ...]
    damage: Damage | None = None
    look_alike: Damage | None = None
    group: Group | None = None


KINDS = {
    "exact_duplicate": Kind(ALL, group=groups.exact_duplicate),
    "near_duplicate": Kind(("gsm8k", "books"), group=groups.near_duplicate),  # nq_open has no row of 50 words
    "template": Kind(ALL, group=groups.template),
    "boilerplate": Kind(ALL, group=groups.boilerplate),
    "conflicting_answers": Kind(QA, group=groups.conflicting_answers),
    "empty": Kind(ALL, rows.empty, rows.short_and_sound),
    "too_short": Kind(ALL, rows.too_short, rows.short_and_sound),
    "truncated": Kind(("gsm8k", "books", "alpaca"), rows.truncated),  # answers of nq_open are not sentences
    "repetition": Kind(ALL, rows.repetition, rows.echoed),
    "refusal": Kind(ALL, rows.refusal, rows.no_refusal),
    "mojibake": Kind(ALL, rows.mojibake, rows.real_accents),
    "control_characters": Kind(ALL, rows.control_characters, rows.plain_white_space),
    "markup": Kind(ALL, rows.markup, rows.no_markup),
    "language": Kind(ALL, rows.language, rows.foreign_words),
    "pii": Kind(ALL, private.pii, private.no_pii),
    "secret": Kind(ALL, private.secret, private.no_secret),
    "page_furniture": Kind(("chapters",), furniture.page_furniture),
    "contamination": Kind(ALL, group=lambda *given: contamination(*given)),
}


@dataclass
class Planted:
    """A corpus and the truth about one kind of defect in it.

    Args:
        rows: what the audit is to read
        positives: rows that bear the defect; of exact and near duplicates all that have a partner
        ignored: rows that are neither right nor wrong to name
        classes: of exact duplicates: the rows of each class of equal ones
        near: of near duplicates: pairs that the truth covers
        near_short: pairs as near of which one has too few words for the truth to cover it
        evaluation: rows of another source that is audited along, for contamination
    """

    kind: str
    source: str
    share: float
    rows: list[Row]
    positives: set[int]
    ignored: set[int] = field(default_factory=set)
    classes: list[set[int]] = field(default_factory=list)
    near: set[tuple[int, int]] = field(default_factory=set)
    near_short: set[tuple[int, int]] = field(default_factory=set)
    evaluation: list[Row] = field(default_factory=list)


def plant(kind: str, source: str, share: float, size: int = ROWS, seed: int = 0) -> Planted:
    """A corpus of `size` rows (of chapters as many as there are) with `share` of them planted."""
    if kind not in KINDS:
        raise UserError(f"--kind {kind}: choose one of {', '.join(KINDS)}")
    how = KINDS[kind]
    if source not in how.sources:
        raise UserError(f"{kind} is planted into {', '.join(how.sources)}, not into {source}")
    rng = random.Random(f"{kind}/{source}/{share}/{seed}")
    clean = list(clean_rows(source))
    rng.shuffle(clean)
    size = min(size, len(clean))
    count = round(share * size)
    least = {"boilerplate": max(20, -(-size // 100)), "template": 5, "conflicting_answers": 2}.get(kind, 1)
    if not (least <= count <= 0.7 * size):
        raise UserError(f"--share {share}: {count} of {size} rows; {kind} needs from {least} rows to 70%")
    made = how.group(clean, count, size, rng) if how.group else one_by_one(how, clean, count, size, rng)
    order = list(range(size))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    planted = Planted(kind, source, share, [made.rows[i] for i in order], {place[i] for i in made.planted})
    measure(planted)
    return planted


def one_by_one(how: Kind, clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """Rows that bear a defect each, then look-alikes, then clean ones."""
    assert how.damage is not None
    made: list[Row] = []
    rest: list[Row] = []
    for row in clean:
        damaged = how.damage(row, rng) if len(made) < count else None
        if damaged is not None:
            made.append(damaged)
        else:
            rest.append(row)
    if len(made) < count:
        raise UserError(f"only {len(made)} rows can bear the defect, not {count}: lower --share or --rows")
    alike = controls(count, size) if how.look_alike else 0
    changed = [how.look_alike(row, rng) or row for row in rest[:alike]] if how.look_alike else []
    found = made + changed + rest[alike:]
    return Made(found[:size], set(range(count)))


def contamination(clean: list[Row], count: int, size: int, rng: random.Random) -> Made:
    """An evaluation question in each of `count` rows, no question twice."""
    questions = rows.evaluation_questions()
    if count > len(questions):
        raise UserError(f"there are {len(questions)} questions to plant, not {count}: lower --share or --rows")
    chosen = rng.sample(questions, count)
    made = [rows.contamination(row, question, rng) for row, question in zip(clean, chosen, strict=False)]
    return Made(made + clean[count:size], set(range(count)))


def measure(planted: Planted) -> None:
    """Put the measured truth in place of what was planted, for the kinds where it can be measured."""
    if planted.kind == "exact_duplicate":
        planted.classes = [same for same in equal(map(content, planted.rows)) if len(same) > 1]
        planted.positives = set().union(*planted.classes)
        alike = [same for same in equal(loose(whole(row)) for row in planted.rows) if len(same) > 1]
        planted.ignored = set().union(*alike) - planted.positives
    elif planted.kind == "near_duplicate":
        texts = [whole(row) for row in planted.rows]
        long = [len(words(text)) >= MIN_WORDS for text in texts]
        found = pairs(texts)
        planted.near = {(i, j) for i, j in found if long[i] and long[j]}
        planted.near_short = found - planted.near
        planted.positives = {i for pair in planted.near for i in pair}
        planted.ignored = {i for i, is_long in enumerate(long) if not is_long}
    elif planted.kind == "control_characters":
        planted.positives = {i for i, row in enumerate(planted.rows) if control_characters(whole(row))}
    elif planted.kind == "contamination":
        planted.evaluation = clean_rows("gsm8k_test")


def content(row: Row) -> tuple[str, ...]:
    """What makes two rows equal: every character of the fields that are read."""
    return (row["text"],) if "text" in row else (row["question"], body(row))


def equal(keys: Iterable[object]) -> list[set[int]]:
    """Positions of equal keys."""
    found: dict[object, set[int]] = defaultdict(set)
    for i, key in enumerate(keys):
        found[key].add(i)
    return list(found.values())


# -- files

Origin = tuple[str, str]  # absolute path, and what names the row in it: ":12", "#3" or ""


def write(planted: Planted, folder: Path) -> tuple[list[SourceConfig], dict[Origin, int]]:
    """The files of the corpus, as sources of the audit; and the row at each place of them."""
    form = FORMATS[planted.source]
    kind = "text" if "text" in planted.rows[0] else "qa"
    where: dict[Origin, int] = {}
    if form == "txt":  # a document a file
        for i, row in enumerate(planted.rows):
            file = folder / f"{planted.source}-{i:05}.txt"
            file.write_text(row["text"], encoding="utf-8", newline="")
            where[os.path.abspath(file), ""] = i
        path = f"{planted.source}-*.txt"
    else:
        file = folder / f"{planted.source}.{form}"
        path = file.name
        written, places = {"csv": as_csv, "jsonl": as_jsonl, "json": as_json}[form](planted.rows)
        file.write_text(written, encoding="utf-8", newline="")
        where = {(os.path.abspath(file), place): i for i, place in enumerate(places)}
    sources = [SourceConfig(name=planted.source, path=path, kind=kind)]  # type: ignore[arg-type]
    if planted.evaluation:
        (folder / "evaluation.jsonl").write_text(as_jsonl(planted.evaluation)[0], encoding="utf-8")
        sources.append(SourceConfig(name="gsm8k_test", path="evaluation.jsonl"))
    return sources, where


def as_csv(table: list[Row]) -> tuple[str, list[str]]:
    """The rows as CSV, and the line on which each begins; a cell may hold line ends."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # lines end in CRLF, so that CR and LF in a cell are both quoted
    names = list(table[0])
    places, line = [], 1
    for row in [dict(zip(names, names, strict=True)), *table]:
        places.append(f":{line}")
        before = out.tell()
        writer.writerow([row[name] for name in names])
        line += len(re.findall(r"\r\n|\r|\n", out.getvalue()[before:])) if before < out.tell() else 0
    return out.getvalue(), places[1:]


def as_jsonl(table: list[Row]) -> tuple[str, list[str]]:
    """The rows as JSON lines, and the number of each."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in table]
    return "".join(lines), [f":{number}" for number in range(1, len(lines) + 1)]


def as_json(table: list[Row]) -> tuple[str, list[str]]:
    """The rows as one JSON array, and the number of each."""
    return json.dumps(table, ensure_ascii=False, indent=1), [f"#{number}" for number in range(1, len(table) + 1)]


def origin(shown: str) -> Origin:
    """A row's place as the audit writes it: "file:line", "file#row", or a file that is one document."""
    found = re.fullmatch(r"(.*?)([:#]\d+)?", shown, re.DOTALL)
    assert found is not None
    return os.path.abspath(found.group(1)), found.group(2) or ""
