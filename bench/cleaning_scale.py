"""Audit and prepare on a corpus of any size: seconds, and the memory of all their processes.

The rows are made: words that follow each other as in the embedded corpus (a chain of pairs of words), of about as many
bytes as are asked for, with exact copies, near copies, templates and stock endings among them, so that every step of
the audit has its work. Each command runs in a process of its own, on files that the system has just read.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from common.errors import UserError
from data.embedded import records

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 10_000  # rows
FOLLOWERS = 32  # of a word, that the next is drawn from
SENTENCE = 14  # words
BYTES_A_WORD = 6.2
QUESTION_WORDS = 14
ENDING = "Please ask somebody who knows the place before you rely on any of this."
POLL = 0.2  # seconds between two looks at memory


class Chain:
    """Words of the embedded corpus, and those that follow each."""

    def __init__(self) -> None:
        texts = (str(record["text"]) for _, record in records("prose"))
        words = np.array([word for text in texts for word in re.findall(r"\b[A-Za-z][a-z]*,?(?= )", text)], object)
        self.words, of = np.unique(words, return_inverse=True)
        self.all = of
        order = np.argsort(of[:-1], kind="stable")
        starts = np.searchsorted(of[:-1][order], np.arange(len(self.words)))
        counts = np.maximum(np.bincount(of[:-1], minlength=len(self.words)), 1)
        dice = np.random.default_rng(0)
        at = starts[:, None] + dice.integers(0, counts[:, None], (len(self.words), FOLLOWERS))
        self.followers = of[1:][order[np.minimum(at, len(order) - 1)]]

    def words_of(self, number: int, length: int, dice: np.random.Generator) -> np.ndarray:
        """object (number, length): so many texts of so many words."""
        word = self.all[dice.integers(0, len(self.all), number)]
        columns = []
        for _ in range(length):
            columns.append(word)
            word = self.followers[word, dice.integers(0, FOLLOWERS, number)]
        return self.words[np.stack(columns, axis=1)]


def prose(words: list[str]) -> str:
    """Sentences of so many words."""
    sentences = [" ".join(words[i : i + SENTENCE]).rstrip(",") for i in range(0, len(words), SENTENCE)]
    return " ".join(f"{one[:1].upper()}{one[1:]}." for one in sentences)


def made_rows(number: int, row_bytes: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Questions and answers; of a hundred rows 3 are copies, 3 nearly, 5 of a template, 10 end with a stock phrase."""
    chain = Chain()
    length = max(4, round(row_bytes / BYTES_A_WORD) - QUESTION_WORDS)
    earlier: list[dict[str, str]] = []
    for start in range(0, number, AT_ONCE):
        dice = np.random.default_rng([seed, start])
        num = min(AT_ONCE, number - start)
        asked = chain.words_of(num, QUESTION_WORDS, dice)
        lengths = dice.integers(length // 2, length + length // 2 + 1, num)
        answers = chain.words_of(num, int(lengths.max()), dice)
        kinds = dice.random(num)
        for i, kind in enumerate(kinds.tolist()):
            words = answers[i, : lengths[i]].tolist()
            row = {"question": " ".join(asked[i]).capitalize() + "?", "answer": prose(words)}
            if kind < 0.06 and earlier:
                row = dict(earlier[int(dice.integers(len(earlier)))])
                if kind < 0.03:
                    row["answer"] += f" {words[0].capitalize()} {words[1]}."
            elif kind < 0.11:
                row["question"] = f"How many {words[0]} are in the {words[1]} of {1000 + i}?"
                row["answer"] = f"As far as anybody has counted, the {words[1]} of {1000 + i} holds {i} {words[0]}."
            elif kind < 0.21:
                row["answer"] += " " + ENDING
            elif kind < 0.23 and len(earlier) < 50_000:
                earlier.append(row)
            yield row


def write_rows(path: Path, number: int, row_bytes: int) -> int:
    """JSON lines; returns their bytes."""
    with path.open("w", encoding="utf-8") as file:
        for row in made_rows(number, row_bytes):
            file.write(json.dumps(row) + "\n")
    return path.stat().st_size


def measured(command: list[str], folder: Path) -> dict[str, float]:
    """Seconds of a command, and the most memory that it and its children held at a time (PSS: shared pages once)."""
    start = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _tree(process.pid))))
            time.sleep(POLL)
    if process.returncode:
        raise UserError(f"{' '.join(command)}: exit code {process.returncode}: {(folder / 'output.txt').read_text()}")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak}


def _tree(process: int) -> list[int]:
    found = [process]
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    found += _tree(int(child))
    return found


def _memory(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def measure_cleaning(rows: list[int], row_bytes: int, folder: Path | None = None) -> list[dict[str, Any]]:
    """Audit and prepare of so many rows each: input bytes, seconds and memory of both."""
    results = []
    with TemporaryDirectory(dir=folder, prefix="bench-cleaning-") as name:
        place = Path(name)
        for number in rows:
            size = write_rows(place / "rows.jsonl", number, row_bytes)
            (place / "my.toml").write_text('[[source]]\npath = "rows.jsonl"\nkind = "qa"\n')
            audit = [sys.executable, str(ROOT / "data/audit.py"), "rows.jsonl"]
            prepare = [sys.executable, str(ROOT / "data/prepare.py"), "--config", "my.toml", "--run", f"of-{number}"]
            found = {"rows": number, "bytes": size}
            results.append({**found, "audit": measured(audit, place), "prepare": measured(prepare, place)})
            print(cleaning_line(results[-1]), flush=True)
    return results


def cleaning_line(found: dict[str, Any]) -> str:
    """One size, as text."""
    parts = [
        f"{name} {found[name]['seconds']:.0f} s, {found[name]['peak_bytes'] / 2**30:.2f} GiB"
        for name in ("audit", "prepare")
    ]
    return f"{found['rows']:,} rows, {found['bytes'] / 1e6:,.0f} MB: {'; '.join(parts)}"
