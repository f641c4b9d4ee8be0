"""Runs of answers in the training text are those that a plain search finds, wherever they stand; nothing else is."""

import dataclasses
import gzip
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eval.verbatim as verbatim
from common.errors import UserError
from eval.verbatim import LONG, SHORTEST, Run, runs, summary

ROOT = Path(__file__).resolve().parents[2]
CORPORA = Path(os.environ.get("LOAM_CORPORA", "/nonexistent"))
FIELDS = ("text", "context", "question", "answer")


def corpus_of(folder: Path, rows: Sequence[dict[str, str | None]], row_group: int = 4096, files: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": [f"d{i}" for i in range(len(rows))],
            **{name: pa.array([row.get(name) for row in rows], pa.string()) for name in FIELDS},
        }
    )
    size = -(-len(rows) // files)
    for i in range(files):
        pq.write_table(table.slice(i * size, size), folder / f"train-{i:05d}.parquet", row_group_size=row_group)
    return folder


def plain(answer: str, rows: Sequence[dict[str, str | None]]) -> Run:
    """By `in` alone: from each character on, one more as long as some field holds it all."""
    fields = [(f"d{i}", name, row[name] or "") for i, row in enumerate(rows) for name in FIELDS if row.get(name)]
    size = lambda text: len(text.encode())  # noqa: E731
    best, inside = (0, 0, 0), set[int]()
    end = 0
    for start in range(len(answer)):
        end = max(end, start)
        while end < len(answer) and any(answer[start : end + 1] in text for _, _, text in fields):
            end += 1
        found = size(answer[start:end])
        if found >= SHORTEST and found > best[0]:
            best = found, start, end
        if found >= LONG:
            inside |= set(range(start, end))
    longest, start, end = best
    owner = next((of[:2] for of in fields if answer[start:end] in of[2]), None) if longest else None
    edges = [i for i in range(len(answer) + 1) if (i in inside) != (i - 1 in inside)]
    return Run(
        num_bytes=size(answer),
        longest=longest,
        start=start,
        end=end,
        document=owner[0] if owner else None,
        field=owner[1] if owner else None,
        covered=size("".join(answer[i] for i in sorted(inside))),
        spans=list(zip(edges[::2], edges[1::2], strict=True)),
    )


LETTERS = {"two letters": "ab", "words": "abcdefgh    ", "several bytes": "aé白ñ🦊👍คก ", "one": "-"}


def made(dice: random.Random, letters: str, most: int) -> str:
    return "".join(dice.choices(letters, k=dice.randint(0, most)))


def material(seed: int, letters: str) -> tuple[list[str], list[dict[str, str | None]]]:
    """Answers and rows that share passages; some passages in many rows, some twice in an answer."""
    dice = random.Random(seed)
    passages = [made(dice, letters, dice.choice([20, 60, 150])) for _ in range(8)]
    planted = "".join(dice.choices(letters, k=90))

    def mixed() -> str:
        parts = [dice.choice(passages)[dice.randint(0, 3) :] if dice.random() < 0.5 else made(dice, letters, 40)
                 for _ in range(dice.randint(0, 5))]  # fmt: skip
        return "".join(parts)

    rows: list[dict[str, str | None]] = []
    for _ in range(dice.randint(1, 30)):
        if dice.random() < 0.4:
            rows.append({"text": mixed()})
        else:
            rows.append({"question": mixed(), "answer": mixed(), "context": mixed() if dice.random() < 0.5 else None})
    rows.insert(dice.randint(0, len(rows)), {"text": mixed() + planted + mixed()})
    return [*(mixed() for _ in range(12)), "", mixed()[:10], mixed() + planted + "x", "#" * dice.randint(0, 99)], rows


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("seed", range(6))
def test_runs_are_those_of_a_plain_search(
    tmp_path: Path, letters: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, rows = material(seed, LETTERS[letters])
    expected = [plain(answer, rows) for answer in answers]
    assert runs(answers, corpus_of(tmp_path / "one", rows)) == expected
    assert any(run.longest >= 90 for run in expected)
    assert any(run.longest == 0 for run in expected)
    # In pieces of any size, sorted together in any number, in files and row groups of any size.
    monkeypatch.setattr(verbatim, "PIECE", 37)
    monkeypatch.setattr(verbatim, "SORTED", 50)
    assert runs(answers, corpus_of(tmp_path / "many", rows, row_group=3, files=min(4, len(rows)))) == expected


def test_an_answer_has_the_same_run_alone_in_any_order_and_beside_any_other(tmp_path: Path) -> None:
    answers, rows = material(17, LETTERS["words"])
    corpus = corpus_of(tmp_path, rows)
    together = runs(answers, corpus)
    assert [runs([answer], corpus)[0] for answer in answers] == together
    assert runs(answers[::-1], corpus) == together[::-1]
    assert runs(answers + answers, corpus) == together + together


def test_a_hash_that_says_yes_to_everything_costs_time_and_makes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, rows = material(3, LETTERS["words"])
    expected = [plain(answer, rows) for answer in answers]
    monkeypatch.setattr(verbatim, "_FACTORS", verbatim._FACTORS * 0)  # all 16 bytes have the hash 0
    assert runs(answers, corpus_of(tmp_path, rows)) == expected


def test_where_a_run_stands_and_what_it_is(tmp_path: Path) -> None:
    song = "The stars were out above the harbour wall, and nobody counted them."
    rows: list[dict[str, str | None]] = [
        {"text": "Nothing of it."},
        {"question": "What did he sing?", "answer": f"He sang: {song} Then he left."},
        {"text": f"{song}"},
    ]
    [run, none, part] = runs([f"Well. {song}!", "A sentence of my own making.", song[:20]], corpus_of(tmp_path, rows))
    assert (run.document, run.field) == ("d1", "answer")
    assert (run.longest, run.covered, run.num_bytes) == (len(song) + 1, len(song) + 1, len(song) + 7)
    assert f"Well. {song}!"[run.start : run.end] == f" {song}"
    assert run.spans == [(5, 6 + len(song))]
    assert none == Run(28, 0, 0, 0, None, None, 0, [])
    assert (part.longest, part.covered, part.spans) == (20, 0, [])  # long enough for a run, not to count as memorised


def test_no_run_crosses_two_fields_or_two_documents(tmp_path: Path) -> None:
    rows: list[dict[str, str | None]] = [
        {"question": "one two three four five six", "answer": "seven eight nine ten eleven"},
        {"text": "twelve thirteen fourteen fifteen"},
    ]
    for row in range(2):
        parts = [value for value in {**rows[0], **rows[1]}.values() if value][row : row + 2]
        for between in ("", " ", "\n", "\x00"):
            [run] = runs([between.join(parts)], corpus_of(tmp_path, rows))
            assert run.longest == max(len(part) for part in parts)


def test_a_run_is_whole_characters(tmp_path: Path) -> None:
    # é and è begin with the same byte; the fox and the dog agree in three of four.
    corpus = corpus_of(tmp_path, [{"text": "é1234567890123456é and 🐕1234567890123456🐕"}])
    [run] = runs(["è1234567890123456è"], corpus)
    assert (run.longest, run.start, run.end) == (16, 1, 17)
    assert [run.longest for run in runs(["🦊1234567890123456🦊", "é1234567890123456è"], corpus)] == [16, 18]
    [run] = runs(["©1234567890123456!"], corpus)  # ends with the byte that é ends with
    assert (run.longest, run.start, run.end) == (16, 1, 17)
    assert runs(["123456789012345\ud800"], corpus)[0].longest == 0  # what no UTF-8 holds


def test_the_summary_divides_sums_by_sums(tmp_path: Path) -> None:
    known = "It is known to all the world that a page of sixty bytes is not written twice."
    corpus = corpus_of(tmp_path, [{"text": known}])
    found = runs([known, "x" * 23, "Something else: " + known[:49]], corpus)
    facts = summary(found)
    assert facts["share_in_runs_50"] == len(known) / (len(known) + 23 + 65)
    assert (facts["longest"], facts["document"], facts["num_with_runs_50"], facts["num_answers"]) == (77, "d0", 1, 3)
    assert [answer["longest"] for answer in facts["answers"]] == [77, 0, 49]
    assert facts["answers"][0] == dataclasses.asdict(found[0])
    nothing = summary([])
    assert (nothing["longest"], nothing["share_in_runs_50"], nothing["num_answers"]) == (0, 0.0, 0)


def test_no_answers_and_no_corpus(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [{"text": "a text of some length"}])
    assert runs([], corpus) == []
    assert runs(["", ""], corpus) == [Run(0, 0, 0, 0, None, None, 0, [])] * 2
    with pytest.raises(UserError, match="no train-"):
        runs(["a"], tmp_path / "none")
    with pytest.raises(UserError, match="no train-"):
        runs([], tmp_path / "none")


def test_the_corpus_folder_is_only_read(tmp_path: Path) -> None:
    answers, rows = material(4, LETTERS["words"])
    corpus = corpus_of(tmp_path / "corpus", rows)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in corpus.iterdir()}
    runs(answers, corpus)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in corpus.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")
@pytest.mark.parametrize("name", ["books/1661_the_adventures_of_sherlock_holmes", "quantum/quantum_book_batra"])
def test_runs_in_real_text_are_those_of_a_plain_search(tmp_path: Path, name: str) -> None:
    text = gzip.decompress((CORPORA / f"{name}.txt.gz").read_bytes()).decode()[:150_000]
    rows: list[dict[str, str | None]] = [{"text": text[at : at + 4000]} for at in range(0, 100_000, 4000)]
    dice = random.Random(0)
    answers = []
    for _ in range(8):  # of what is in the rows and what is not, in pieces of all sizes
        parts = [text[at : at + dice.choice([10, 40, 80])] for at in (dice.randrange(149_000) for _ in range(6))]
        answers.append("".join(parts))
    expected = [plain(answer, rows) for answer in answers]
    assert runs(answers, corpus_of(tmp_path, rows)) == expected
    assert sum(run.covered for run in expected) > 0


@pytest.mark.parametrize("module", ["verbatim", "diversity", "exposure", "memorised"])
def test_memorisation_is_measured_without_the_data_engine(module: str) -> None:
    absent = ["daft", "orjson", "zstandard", "ftfy", "charset_normalizer"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import eval.{module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
