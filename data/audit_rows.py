"""The second look at each row, with what the first taught: in whichever process, a thousand rows at a time.

In: numbered rows (data/store.py) and `Learned`. Out: for each row its marks: kind, field, place and evidence.
"""

import json
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from data.detect.boilerplate import stock_rows
from data.detect.contamination import Questions, held_questions
from data.detect.furniture import furniture
from data.detect.languages import MainLanguage, other_languages
from data.detect.signs import SourceHabits, signs
from data.facts import body, compared_text

MARKS = pa.schema([("number", pa.int64()), ("marks", pa.large_string())])


@dataclass
class Learned:
    """What was learned from the rows of each source; picklable."""

    stock: dict[str, np.ndarray] = field(default_factory=dict)  # keys of phrases, data/detect/boilerplate.py
    languages: dict[str, MainLanguage] = field(default_factory=dict)
    habits: dict[str, SourceHabits] = field(default_factory=dict)
    questions: Questions | None = None


def marks_of(lines: list[str], learned: Learned) -> pa.RecordBatch:
    """Marks of numbered rows: number, and JSON of a list of [kind, field, start, end, detail] (null: none)."""
    numbers, rows = [], []
    for line in lines:
        number, _, row = line.partition("\t")
        numbers.append(int(number))
        rows.append(orjson.loads(row))
    marks: list[list[list]] = [[] for _ in rows]
    bodies = [*map(body, rows)]
    for source, stock in learned.stock.items():
        own = [i for i, row in enumerate(rows) if row["source"] == source]
        if own and len(stock):
            for i in np.array(own)[stock_rows([bodies[i] for i in own], stock)].tolist():
                marks[i].append(["boilerplate", "text" if rows[i]["kind"] == "text" else "answer", 0, 0, ""])
    for source, main in learned.languages.items():
        own = [i for i, row in enumerate(rows) if row["source"] == source]
        for i, code in zip(own, other_languages([compared_text(rows[i]) for i in own], main), strict=True):
            if code:
                marks[i].append(["language", "", 0, 0, f"{code}, where its source is {main.code}"])
    for i, row in enumerate(rows):
        marks[i] += map(list, signs(row, learned.habits.get(row["source"])))
        if row["kind"] == "text" and (heads := furniture(row["text"])):
            first = heads[0]
            detail = f"{len(heads):,} lines, the first: {first.detail}"
            marks[i].append(["page_furniture", "text", first.start, first.end, detail])
    if learned.questions is not None:
        for i, question in held_questions(learned.questions, [row["source"] for row in rows], rows):
            marks[i].append(["contamination", "", 0, 0, question])
    columns = [
        pa.array(numbers, pa.int64()),
        pa.array([json.dumps(m) if m else None for m in marks], pa.large_string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=MARKS)
