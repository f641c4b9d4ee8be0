"""Clean real text that defects are planted into, from the folder that LOAM_CORPORA names.

Out: rows, {"question", "answer"} as the files have them (an answer may be a list) or {"text"}. Books are cut into
documents of whole paragraphs, 100 to 400 words, each ending with a sentence's end; or they stand whole, beside each of
their chapters.
"""

import gzip
import json
import os
import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.errors import UserError

Row = dict[str, Any]
SOURCES = ("gsm8k", "nq_open", "books", "alpaca", "chapters")
SHORTEST, LONGEST = 100, 400  # words of a book's document
ENDS = re.compile(r"[.!?][\"'”’)_*\]]*$")
HEADING = re.compile(
    r"(?m)^(?:(?:CHAPTER|Chapter|ADVENTURE|LETTER|Letter)\s+(?:[IVXLC]+|\d+|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|"
    r"NINE|TEN|ELEVEN|TWELVE|THIRTEEN|FOURTEEN|FIFTEEN|SIXTEEN|SEVENTEEN)\b)[^\n]*$"
)


def corpora() -> Path:
    """The folder of real corpora. Raises UserError where none is named."""
    folder = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
    if not folder.is_dir():
        raise UserError("LOAM_CORPORA names no folder: set it to the folder of real corpora (docs/own-data.md)")
    return folder


@lru_cache
def clean_rows(source: str) -> list[Row]:
    """All rows of a clean source, in the order of its files."""
    if source == "gsm8k":
        return json_lines("human/gsm8k_train.jsonl.gz")
    if source == "gsm8k_test":
        return json_lines("human/gsm8k_test.jsonl.gz")
    if source == "nq_open":
        return json_lines("human/nq_open_dev.jsonl.gz")
    if source == "alpaca":
        with gzip.open(corpora() / "llm" / "alpaca_5000.json.gz", "rt", encoding="utf-8") as file:
            rows = json.load(file)
        asked = ((f"{row['instruction']}\n{row['input']}".strip(), row["output"]) for row in rows)
        return [{"question": question, "answer": answer} for question, answer in asked if answer.strip()]
    if source == "books":
        return [{"text": text} for _, book in books() for text in documents(book)]
    if source == "chapters":
        return [{"text": text, "title": title} for title, book in books() for text in (*chapters(book), book)]
    raise UserError(f"--source {source}: choose one of {', '.join(SOURCES)}")


def json_lines(name: str) -> list[Row]:
    """The rows of a packed JSONL file."""
    with gzip.open(corpora() / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@lru_cache
def books() -> list[tuple[str, str]]:
    """Title and text of each book; those in their raw form, with the licence around them, are left out."""
    found = []
    for path in sorted((corpora() / "books").glob("[0-9]*.txt.gz")):
        title = path.name.partition("_")[2].removesuffix(".txt.gz").replace("_", " ")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found.append((title, file.read()))
    return found


def documents(book: str) -> list[str]:
    """Whole paragraphs, 100 to 400 words together; a heading begins a new document, and what is left over is none."""
    rng = random.Random(len(book))
    found: list[str] = []
    taken: list[str] = []
    count, target = 0, rng.randint(SHORTEST, LONGEST)

    def emit() -> None:
        nonlocal taken, count, target
        if SHORTEST <= count <= LONGEST and ENDS.search(taken[-1]):
            found.append("\n\n".join(taken))
        taken, count, target = [], 0, rng.randint(SHORTEST, LONGEST)

    for paragraph in re.split(r"\n[ \t]*\n\s*", book.strip()):
        length = len(paragraph.split())
        heads = length <= 12 and not ENDS.search(paragraph)
        if heads or count + length > LONGEST:
            emit()
        taken.append(paragraph)
        count += length
        if count >= target and ENDS.search(paragraph):
            emit()
    return found


def chapters(book: str) -> list[str]:
    """From each heading to the next; what is shorter than 300 words (a table of contents) is none."""
    starts = [match.start() for match in HEADING.finditer(book)]
    pieces = [book[a:b].strip() for a, b in zip(starts, [*starts[1:], len(book)], strict=True)]
    return [piece for piece in pieces if len(piece.split()) >= 300]


@lru_cache
def sentences() -> list[str]:
    """Sentences of the books, 8 to 40 words, on one line, without quotation marks."""
    found = []
    for _, book in books():
        for paragraph in re.split(r"\n\s*\n", book):
            line = " ".join(paragraph.split())
            found += [
                sentence
                for sentence in re.split(r"(?<=[.!?])\s+", line)
                if 8 <= len(sentence.split()) <= 40
                and sentence[-1] in ".!?"
                and not re.search(r"[“”\"_\[\]]", sentence)
            ]
    return found


def pick(rng: random.Random, choices: str) -> str:
    """One of several, "|" between them."""
    return rng.choice(choices.split("|"))


def span(rng: random.Random, shortest: int = 2, longest: int = 4) -> str:
    """Some words in a row of a real sentence, letters only."""
    while True:
        words = rng.choice(sentences()).split()
        length = rng.randint(shortest, longest)
        start = rng.randrange(max(1, len(words) - length))
        taken = words[start : start + length]
        if len(taken) == length and all(word.isalpha() for word in taken):
            return " ".join(taken)


def body(row: Row) -> str:
    """What a defect is planted into: the text, or the answer (the first of several)."""
    found = row["text"] if "text" in row else row["answer"]
    return found[0] if isinstance(found, list) else found


def with_body(row: Row, changed: str | None) -> Row:
    """The row with another text or first answer."""
    if "text" in row:
        return {**row, "text": changed}
    if isinstance(row["answer"], list):
        return {**row, "answer": [changed, *row["answer"][1:]]}
    return {**row, "answer": changed}


def whole(row: Row) -> str:
    """Everything in the row that a model will read: the question and the answer, or the text."""
    return body(row) if "text" in row else f"{row['question']}\n{body(row)}"


def sentence_ends(text: str, lines: bool) -> list[int]:
    """Where a sentence ends in `text`, the text's own end included; `lines`: where a line ends too."""
    pattern = r"[.!?][\"'”’)]*(?=\s)|\n\s*\n" + (r"|(?=\n)" if lines else "")
    ends = {match.end() for match in re.finditer(pattern, text)}
    return sorted(ends | {len(text)})
