"""What a tokenizer is trained on: by weight, under a budget, the same whatever the order and number of files."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.writing import DOCUMENT_SCHEMA
from tokenizer import sample as room
from tokenizer.bpe import train_bpe
from tokenizer.patterns import AFTER_BREAK, LINE_BREAK, regex_of
from tokenizer.sample import Sample, plan_sample, sample_texts, survey, within_memory
from tokenizer.words import LONGEST_WORD, SENTENCEPIECE, Growth, byte_level_trainer, cut_words, words_growth

Row = dict[str, str]
FIELDS = ("text", "context", "question", "answer")


def document(i: int, source: str, text: str | None = None) -> Row:
    own = {"text": text} if text else {"question": f"Why {i}? é", "answer": f"Because {i}."}
    return {"id": f"{i:08x}", "source": source, **own}


def write(folder: Path, *parts: list[Row]) -> Path:
    folder.mkdir(parents=True)
    for i, rows in enumerate(parts):
        columns = {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in DOCUMENT_SCHEMA}
        columns["n_bytes"] = pa.array([sum(len(row.get(name, "").encode()) for name in FIELDS) for row in rows])
        pq.write_table(pa.table(columns), folder / f"train-{i:05}.parquet", row_group_size=100)
    return folder


def taken(corpus: Path, weights: dict[str, float], budget: int, seed: int = 0) -> tuple[Counter[str], Sample]:
    sample = plan_sample(survey(corpus), weights, budget, seed)
    return Counter(sample_texts(corpus, sample, LINE_BREAK)), sample


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [document(i, "ab"[i % 2]) for i in range(4000)]


@pytest.fixture(scope="module")
def corpus(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sample") / "corpus", rows)


def test_where_all_fits_every_text_is_taken_once(corpus: Path, rows: list[Row]) -> None:
    texts, sample = taken(corpus, {}, 10**9)
    assert texts == Counter(row[name] for row in rows for name in ("question", "answer"))
    whole = sum(len(text.encode()) for text in texts.elements())
    assert sample.lines() == [f"trained on {whole:,} bytes; the split has {whole:,}, sample_bytes is 1,000,000,000"]


def test_a_source_is_taken_weight_times(corpus: Path, rows: list[Row]) -> None:
    texts, sample = taken(corpus, {"a": 2.0, "b": 0.5}, 10**9)
    times = [texts[row["question"]] for row in rows]
    assert set(times[::2]) == {2}
    assert set(times[1::2]) == {0, 1}
    assert 900 < sum(times[1::2]) < 1100  # of 2,000: standard deviation 22
    assert sample.copies == {"a": 2.0, "b": 0.5}
    assert sample.lines()[1].startswith(f"  a: {2 * sample.bytes['a']:,} bytes of {sample.bytes['a']:,}, each text 2 t")


@pytest.mark.parametrize("weights", [{}, {"a": 3.0}, {"a": 2.5, "b": 0.1}])
def test_a_budget_is_kept_and_shared_by_weight(corpus: Path, weights: dict[str, float]) -> None:
    whole = survey(corpus)
    budget = sum(whole.values()) // 2
    _, sample = taken(corpus, weights, budget)
    assert sample.taken.total() == pytest.approx(budget, rel=0.05)
    wanted = {source: whole[source] * weights.get(source, 1.0) for source in whole}
    for source in whole:
        assert sample.taken[source] == pytest.approx(budget * wanted[source] / sum(wanted.values()), rel=0.15)


def test_the_sample_does_not_depend_on_the_order_or_number_of_files(
    corpus: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [document(5000 + i, "a", "\n".join(f"line {i} {j}" for j in range(900))) for i in range(20)]
    mixed = random.Random(0).sample([*rows, *long], len(rows) + len(long))
    one = write(tmp_path / "one", [*rows, *long])
    three = write(tmp_path / "three", mixed[:50], mixed[50:3000], mixed[3000:])
    budget = sum(survey(one).values()) // 3
    expected = taken(one, {"a": 2.5}, budget)[0]
    monkeypatch.setattr("tokenizer.encode.SLICE_BYTES", 5000)
    assert taken(three, {"a": 2.5}, budget)[0] == expected
    assert taken(three, {"a": 2.5}, budget, seed=1)[0] != expected


def test_a_larger_budget_holds_the_sample_of_a_smaller_one_and_another_seed_is_another_sample(corpus: Path) -> None:
    whole = sum(survey(corpus).values())
    small, large = taken(corpus, {}, whole // 4)[0], taken(corpus, {}, whole // 2)[0]
    assert small < large
    assert taken(corpus, {}, whole // 4, seed=1)[0] != small


def test_a_long_document_is_cut_at_line_breaks_and_its_pieces_are_chosen_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"line number {i}\n" for i in range(10_000))
    corpus = write(tmp_path / "corpus", [document(0, "a", text)])
    monkeypatch.setattr(room, "PIECE", 1000)
    texts, sample = taken(corpus, {}, 10**9)
    assert "".join(sample_texts(corpus, sample, LINE_BREAK)) == text
    assert all(1000 <= len(piece) < 1020 and piece.endswith("\n") for piece in [*texts][:-1])
    texts, sample = taken(corpus, {}, len(text) // 2)
    assert sample.taken.total() == pytest.approx(len(text) / 2, rel=0.2)
    assert all(piece in text for piece in texts)


def test_a_long_document_without_a_line_break_is_cut_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write(tmp_path / "corpus", [document(0, "a", "abcdefg" * 1000)])
    monkeypatch.setattr(room, "PIECE", 1000)
    pieces = [*sample_texts(corpus, plan_sample(survey(corpus), {}, 10**9, 0), LINE_BREAK)]
    assert "".join(pieces) == "abcdefg" * 1000
    assert max(map(len, pieces)) == 2000


def test_a_budget_below_one_document_is_one_line(corpus: Path) -> None:
    with pytest.raises(UserError, match="sample_bytes 1: no document of the training split was chosen"):
        taken(corpus, {}, 1)


def test_the_line_comes_through_the_trainer(corpus: Path) -> None:
    sample = plan_sample(survey(corpus), {}, 1, 0)
    with pytest.raises(UserError, match="sample_bytes 1:"):
        train_bpe(sample_texts(corpus, sample, LINE_BREAK), 300, 2, show_progress=False)


def test_weights_of_zero_are_one_line(corpus: Path) -> None:
    with pytest.raises(UserError, match="weight above 0"):
        plan_sample(survey(corpus), {"a": 0.0, "b": 0.0}, 1000, 0)
    assert taken(corpus, {"a": 0.0}, 10**9)[1].taken["a"] == 0


def letters(num: int, seed: int) -> Iterator[str]:
    made = random.Random(seed)
    for _ in range(num):
        yield " ".join("".join(made.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(50))


def test_words_that_never_come_again_grow_as_the_text_does() -> None:
    growth = words_growth([*letters(200, 0)], byte_level_trainer(regex_of()))
    assert growth.power > 0.98
    assert growth.memory_of(2 * growth.num_bytes) == pytest.approx(2 * growth.memory, rel=0.02)
    assert growth.text_within(growth.memory / 2) == pytest.approx(growth.num_bytes / 2, rel=0.02)
    assert words_growth(["the same words again and again"] * 200, byte_level_trainer(regex_of())).power == 0.1


def test_a_power_law_is_met_at_the_text_it_was_counted_on() -> None:
    growth = Growth(1000, 5000.0, 0.5)
    assert growth.memory_of(1000) == 5000
    assert growth.memory_of(4000) == 10_000
    assert growth.text_within(10_000) == 4000
    assert Growth(1000, 5000.0, 0.5, kept=2).memory_of(4000) == 18_000
    assert Growth(1000, 5000.0, 0.5, kept=2).text_within(18_000) == 4000


def test_a_sample_whose_words_would_not_fit_in_memory_is_smaller_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write(tmp_path / "corpus", [document(i, "a", text) for i, text in enumerate(letters(400, 0))])
    sample = plan_sample(survey(corpus), {}, 10**9, 0)
    assert (
        within_memory(corpus, sample, {}, byte_level_trainer(regex_of()), LINE_BREAK) is sample
    )  # harmless, whatever it holds
    monkeypatch.setattr(room, "HARMLESS", 1000)
    monkeypatch.setattr(room, "PILOT", 50_000)
    assert within_memory(corpus, sample, {}, byte_level_trainer(regex_of()), LINE_BREAK) is sample
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(room, "MOST_MEMORY", 8e6)
    smaller = within_memory(corpus, sample, {}, byte_level_trainer(regex_of()), LINE_BREAK)
    # A word of nine letters and a space takes 300 + 100 * 10 bytes.
    assert smaller.budget == pytest.approx(8e6 / 1300 * 10, rel=0.1)
    assert "bytes^1.00" in capsys.readouterr().out
    other = within_memory(corpus, sample, {}, SENTENCEPIECE, AFTER_BREAK)
    assert other.budget == pytest.approx(8e6 / ((300 + 60 * 10) / 10 + 3), rel=0.1)  # the text itself three times


@pytest.mark.parametrize("letters", ["ACGT", "=-*#"])
def test_the_trainer_sees_a_long_word_in_parts(letters: str) -> None:
    """Its time for a word grows with the square of the length: 1 MB of DNA in words of 64 KB took 15 s."""
    made = random.Random(0)
    fits, long = ("".join(made.choices(letters, k=k)) for k in (LONGEST_WORD - 1, 3 * LONGEST_WORD))
    bpe = train_bpe([f"{fits} {long}\n"] * 5, 2000, 2, show_progress=False)
    assert {fits, f"Ġ{long[:LONGEST_WORD]}", long[LONGEST_WORD : 2 * LONGEST_WORD]} <= bpe.get_vocab().keys()
    assert max(map(len, bpe.get_vocab())) == LONGEST_WORD + 1  # a space before it
    assert len(bpe.pre_tokenizer.pre_tokenize_str("a" * 1000)) == 1  # encoding leaves it whole


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "é", " ", "\n", "=", ".", "漢", "\u0301"]), st.integers(1, 600))))
def test_only_words_that_are_too_long_are_cut(parts: list[tuple[str, int]]) -> None:
    text = "".join(what * times for what, times in parts)
    pieces = cut_words(text)
    assert "".join(pieces) == text
    assert all(len(run) <= LONGEST_WORD for piece in pieces for run in re.findall(r"\w+|[^\w\s]+", piece))
    longest = max(map(len, re.findall(r"\w+|[^\w\s]+", text)), default=0)
    assert (len(pieces) > 1) == (longest >= LONGEST_WORD)


@pytest.mark.parametrize("place", range(0, LONGEST_WORD, 16))
def test_a_long_word_is_found_wherever_it_stands(place: int) -> None:
    text = "." * place + " " + "a" * LONGEST_WORD
    assert len(cut_words(text + " b")) == 2
    assert cut_words(text[:-1] + " b") == [text[:-1] + " b"]
