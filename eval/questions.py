"""The questions that a checkpoint is asked: of a file that the user wrote, or held-out documents of a corpus.

1. `read_questions` reads a file, JSON lines or CSV: question, and where there are any reference (or answer), keywords,
   category, difficulty, context. A file without references and keywords is good for judging the form of answers.
2. `choose_questions` draws from a test split in an order that content and seed decide, each short enough for every
   checkpoint; a corpus without Q&A gives beginnings of its texts instead
3. `prompt_ids` and `prompt_text` are what a checkpoint is given

No torch here: scores and baselines are computed where there is none.
"""

import csv
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.errors import UserError
from data.turns import shown
from tokenizer.template import BOS, Encoder, render_prompt

BEGINNING = 200  # characters of a text that are given; what follows, twice as long, is the reference
FIELDS = ("question", "reference", "keywords", "category", "difficulty", "context")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
# Words of a CSV cell are separated by ";" or "|", but |0> and <1| are one keyword each, not two.
_BETWEEN_BARS = re.compile(r"(?:\|[^\s|;]{1,12}[>⟩]|[<⟨][^\s|;]{1,12}\||[^|])+")
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Question:
    """A question, or (question None) the beginning of a held-out text, and what a good answer holds."""

    document: str  # id in the corpus; file:line of a question file
    source: str
    category: str | None
    question: str | None
    context: str | None
    beginning: str | None
    reference: str  # empty where the question file has none
    keywords: tuple[str, ...] = ()
    difficulty: str | None = None
    group: str | None = None  # of the corpus: questions of one group are no independent evidence


def group_of(question: Question) -> str:
    """Its group; of a question without one a name that its words decide, so that it is its own wherever it stands."""
    return question.group or hashlib.sha256(prompt_text(question).encode("utf-8", "surrogatepass")).hexdigest()


def prompt_text(question: Question) -> str:
    """All that a checkpoint is given, as text without the template's markers."""
    parts = (question.context and shown(question.context), question.question, question.beginning)
    return "\n".join(part for part in parts if part)


def prompt_ids(tok: Encoder, question: Question) -> list[int]:
    """Ids that a checkpoint is given."""
    if question.question is None:
        return [BOS, *tok.encode(question.beginning or "")]
    return render_prompt(tok, question.question, question.context)


# -- held-out documents


def choose_questions(
    table: pa.Table, number: int, seed: int, readers: Sequence[tuple[Encoder, int]], max_new_tokens: int
) -> list[Question]:
    """Up to `number` questions of held-out documents, or beginnings of texts where there are none.

    `readers`: tokenizer and seq_len of each checkpoint. A question is passed over unless its prompt leaves every one of
    them room for max_new_tokens, or for half its context.
    """
    columns = ["id", "source", "category", "difficulty", "group", "text", "context", "question", "answer"]
    rows = table.select(columns).to_pylist()
    asked = [row for row in rows if row["question"] is not None] or rows
    asked.sort(key=lambda row: hashlib.sha256(f"{seed}:{row['id']}".encode()).digest())
    chosen: list[Question] = []
    for row in asked:
        if len(chosen) == number:
            break
        question = question_of(row)
        if question is not None and all(
            len(prompt_ids(tok, question)) + min(max_new_tokens, seq_len // 2) <= seq_len for tok, seq_len in readers
        ):
            chosen.append(question)
    return chosen


def question_of(row: dict[str, str | None]) -> Question | None:
    """Row of a corpus -> question; None for a text too short to be cut."""
    common: dict[str, Any] = {name: row.get(name) for name in ("source", "category", "difficulty", "group")}
    common["document"] = row.get("id")
    if row["question"] is not None:
        return Question(
            **common,
            question=row["question"],
            context=row["context"],
            beginning=None,
            reference=row["answer"] or "",
        )
    text = row["text"] or ""
    cut = text.rfind(" ", 0, min(BEGINNING, len(text) // 2) + 1)  # at a space, which the continuation begins with
    if cut <= 0:
        return None
    return Question(
        **common,
        question=None,
        context=None,
        beginning=text[:cut],
        reference=text[cut : cut + 2 * BEGINNING],
    )


# -- a question file


def read_questions(path: Path) -> list[Question]:
    """The questions of a .jsonl or .csv file, in its order; UserError, with file and line, for what is wrong in it."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: a question file is .jsonl or .csv, with a column 'question'")
    lines = _lines(path)
    records = _jsonl(path, lines) if kind == "jsonl" else _csv(path, lines)
    questions = [_question(path, line, record) for line, record in records]
    if not questions:
        raise UserError(f"{path}: holds no questions")
    return questions


def _lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file, with their ends, without a byte-order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UserError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None
    if "\0" in text:  # UTF-16 of ASCII letters is valid UTF-8
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}:{line}: holds a NUL, so it is not UTF-8 text; save the file as UTF-8")
    return re.findall(r"[^\n]*\n|[^\n]+", text)  # str.splitlines would cut at U+2028 inside a question


def _jsonl(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; a question file holds one JSON object a line" if line.strip() in ("[", "{") else ""
            raise UserError(f"{path}:{number}: broken JSON: {' '.join(str(error).split())[:200]}{hint}") from None
        if not isinstance(value, dict):
            raise UserError(f"{path}:{number}: a JSON object with 'question' is expected, not {_kind(value)}")
        yield number, _known(path, number, value)


def _csv(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)  # the default of 131,072 characters would refuse a long context
    first = next((line for line in lines if not line.isspace()), "")
    # Excel separates by ";" where a comma is the decimal point.
    delimiter = next((d for d in ",;\t" if "question" in _names(next(csv.reader([first], delimiter=d), []))), ",")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = row
                _known(path, line, dict.fromkeys(header))
            elif len(row) != len(header):
                raise UserError(f"{path}:{line}: {len(row)} fields, the header has {len(header)}")
            else:
                yield line, _known(path, line, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        what = "a quote that opens here never closes" if "end of data" in str(error) else str(error)
        raise UserError(f"{path}:{start}: {what}") from None


def _names(header: list[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _known(path: Path, line: int, record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record by their names here; other columns are the user's own, unless they look mistyped."""
    found = dict(zip(_names([str(name) for name in record]), record.values(), strict=True))
    if "reference" in found and "answer" in found:
        raise UserError(f"{path}:{line}: has both 'reference' and 'answer'; keep one of them")
    if "answer" in found:
        found["reference"] = found.pop("answer")
    missing = [field for field in FIELDS if field not in found]
    missing += ["answer"] if "reference" in missing else []
    for name in sorted(set(found).difference(FIELDS)):
        near = difflib.get_close_matches(name, missing, 1, 0.8)
        if near:
            raise UserError(f"{path}:{line}: column {name!r} is not known: is {near[0]!r} meant?")
    if "question" not in found:
        there = ", ".join(map(repr, list(found)[:10])) or "none"
        raise UserError(f"{path}:{line}: no column 'question'; there are: {there}")
    return {name: found.get(name) for name in FIELDS}


def _question(path: Path, line: int, record: dict[str, Any]) -> Question:
    texts = {name: _text(path, line, name, record[name]) for name in FIELDS if name != "keywords"}
    question = texts["question"]
    if question is None:
        raise UserError(f"{path}:{line}: question is empty")
    return Question(
        document=f"{path.name}:{line}",
        source=path.name,
        category=texts["category"],
        question=question,
        context=texts["context"],
        beginning=None,
        reference=texts["reference"] or "",
        keywords=_keywords(path, line, record["keywords"]),
        difficulty=texts["difficulty"],
    )


def _text(path: Path, line: int, name: str, value: Any) -> str | None:
    """A text as it stands; None for null and for white space only; a number as JSON writes it."""
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise UserError(f"{path}:{line}: {name} is {_kind(value)}, a text is expected")
    text = value if isinstance(value, str) else json.dumps(value)
    if _HALF_PAIR.search(text):
        raise UserError(f"{path}:{line}: {name} holds half a surrogate pair (a broken \\u escape)")
    return text if text.strip() else None


def _keywords(path: Path, line: int, value: Any) -> tuple[str, ...]:
    """A JSON list (also inside a CSV cell), or a text with ";" or "|" between; each keyword once."""
    if isinstance(value, str):
        value = _keywords_of_text(path, line, value)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"{path}:{line}: keywords is {_kind(value)}, a list of texts is expected")
    texts = [_text(path, line, "a keyword", item) for item in value]
    return tuple(dict.fromkeys(text.strip() for text in texts if text))


def _keywords_of_text(path: Path, line: int, text: str) -> list[Any]:
    if text.lstrip().startswith('["'):
        try:
            return list(json.loads(text))
        except (ValueError, RecursionError):
            raise UserError(f'{path}:{line}: keywords begins with [" and is no JSON list') from None
    return text.split(";") if ";" in text else _BETWEEN_BARS.findall(text)


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
