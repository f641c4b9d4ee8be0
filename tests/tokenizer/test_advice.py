"""The report in words: advice that its user can follow and that does not contradict itself, lines that read right."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.tokenizer.test_report import THE, made_tokenizer, write_corpus
from tokenizer.advice import MOST, advice, terminal_lines
from tokenizer.report import make_report

PAGE = Path("report.html")


def told(
    seldom: float = 0.05,
    size: int = 4096,
    terms: float = 1.0,
    lone: float = 0.0,
    taken: bool = False,
    read: float | None = 1.0,
    gap: tuple[float, list[float] | None, int] = (1.0, [0.0, 2.0], 40),
    glitch: int = 0,
) -> dict[str, Any]:
    """A report of these figures; seldom: the share of the tokens beside the bytes."""
    made = size - 262
    split = {"documents": 20, "bytes": 9000, "tokens": 3000, "bytes_per_token": 3.0, "words": 1500,
             "tokens_per_word": 2.0, "lone_byte_share": lone}  # fmt: skip
    return {
        "vocab_size": size, "taken": taken, "read_share": None if taken else read,
        "train": split, "val": split, "test": split,
        "sample": {"shares": {"train": 1, "val": 1, "test": 1}},
        "gap": {"percent": gap[0], "ci95": gap[1], "documents": gap[2], "bytes": 18000},
        "vocabulary": {"made": made, "made_never": 0, "made_rare": round(seldom * made), "rare_under": 10,
                       "glitch_never": glitch},
        "cut_characters": {"number": 7, "first": [{"text": c, "count": 40} for c in "жшщюяфъ"]},
        "key_terms": {"terms": [{"word": f"term{i}"} for i in range(8)], "one_token": 3, "tokens_per_term": terms},
        "against": [], "advice": [],
    }  # fmt: skip


def test_a_vocabulary_of_which_most_is_used_is_not_called_too_large() -> None:
    assert advice(told(seldom=0.26)) == []  # source code at the default size, see docs/decisions.md
    [line] = advice(told(seldom=0.6))
    assert line.startswith("60% of the 3,834 tokens beside the single bytes are used fewer than 10 times")
    assert "--vocab_size 2048" in line


@pytest.mark.parametrize("size", [262, 294, 300, 1023])
def test_what_cannot_be_halved_is_not_to_be_halved(size: int) -> None:
    assert advice(told(seldom=1.0, size=size)) == []


def test_no_two_pieces_of_advice_pull_apart() -> None:
    asked = set()
    for seldom, terms, lone, size, read in itertools.product(
        (0, 0.09, 0.2, 0.49, 0.6, 1), (1, 3), (0, 0.3), (262, 600, 4096), (1, 0.01)
    ):
        text = "\n".join(advice(told(seldom, size, terms, lone, read=read)))
        fewer, more = "try half" in text, "would hold more of them" in text
        asked.add((fewer, more))
        assert ("is not due" in text) == ((terms > 1 or lone > 0) and not more)
        assert ("--sample_bytes (1.0% of the training text was read)" in text) == (read < 1 and text != "")
    assert asked == {(False, False), (True, False), (False, True)}


def test_a_larger_vocabulary_is_named_only_where_nearly_all_is_used() -> None:
    [line] = advice(told(seldom=0.09, terms=2.3))
    assert line == "a key term takes 2.30 tokens; a larger --vocab_size would hold more of them"
    [line] = advice(told(seldom=0.2, terms=2.3))
    assert "is not due: 20% of its tokens are used fewer than 10 times already" in line


def test_a_finished_tokenizer_is_not_to_be_changed_by_settings_that_it_refuses() -> None:
    lines = advice(told(seldom=0.9, terms=3, lone=0.3, taken=True, glitch=9, gap=(9, [7, 11], 40)))
    assert len(lines) == 4
    assert not any("--vocab_size" in line or "--sample_bytes" in line for line in lines)
    assert sum("a tokenizer trained on this corpus (a run without --file)" in line for line in lines) == 3


def test_characters_without_a_token_are_shown() -> None:
    [line] = advice(told(lone=0.3))
    assert "30.0% of the tokens are bytes of characters without a token (ж 40 times, ш 40 times, " in line
    assert line.count("40 times") == 5
    assert "ъ" not in line
    assert "language" not in line


def test_a_gap_without_an_interval_brings_no_advice_and_is_called_chance() -> None:
    few, enough = told(gap=(9, None, 2)), told(gap=(9, [7, 11], 40))
    assert advice(few) == []
    assert "held-out text takes 9.0% [7.0, 11.0] more tokens" in advice(enough)[0]
    [line] = [line for line in terminal_lines(few, PAGE) if line.startswith("held-out")]
    assert "2 documents, 18,000 bytes: too few for an interval, it may be chance" in line
    assert not any("chance" in line for line in terminal_lines(enough, PAGE))


@pytest.mark.parametrize(("held", "trained", "sure"), [(9, 30, False), (10, 30, True), (30, 9, False)])
def test_long_documents_are_no_many_documents(held: int, trained: int, sure: bool, tmp_path: Path) -> None:
    """Of each nine there are more blocks than an interval needs."""
    text = {"text": "the" + " the" * 2500}
    corpus = write_corpus(tmp_path / "c", [text] * trained, [text] * (held - 1), [text])
    gap = make_report(made_tokenizer(*THE), corpus, [])["gap"]
    assert gap["units"] > 20
    assert (gap["documents"], gap["train_documents"]) == (held, trained)
    assert (gap["ci95"] is not None) == sure


def test_characters_cut_into_bytes_are_counted_where_they_are(tmp_path: Path) -> None:
    rows = [{"question": "aé", "answer": "日é!"}, {"text": "the"}]
    made = made_tokenizer(*THE, ("æ", "Ĺ"))  # two of the bytes of 日: the third stands alone
    cut = make_report(made, write_corpus(tmp_path / "c", rows, rows, rows), [])["cut_characters"]
    assert cut == {"number": 2, "first": [{"text": "é", "count": 2}, {"text": "日", "count": 1}]}
    whole = made_tokenizer(*THE, ("Ã", "©"), ("æ", "Ĺ"), ("æĹ", "¥"))
    cut = make_report(whole, write_corpus(tmp_path / "c", rows, rows, rows), [])["cut_characters"]
    assert cut == {"number": 0, "first": []}


# -- lines


def test_lines_are_few_whatever_was_found() -> None:
    full = told(seldom=0.9, terms=3, lone=0.3, glitch=9, gap=(9, [7, 11], 40))
    full["advice"] = [f"{i}" for i in range(9)]
    full["against"] = [{"verdict": f"verdict {i}"} for i in range(9)]
    lines = terminal_lines(full, PAGE)
    assert len(lines) <= 15
    assert [line for line in lines if line.startswith("verdict")] == [f"verdict {i}" for i in range(MOST)]
    assert "other tokenizers: 6 more, in the report" in lines
    assert "advice: 6 more, in the report" in lines
    full["against"] = full["against"][:MOST]
    assert not any("other tokenizers" in line for line in terminal_lines(full, PAGE))


def test_one_document_and_none_read_right() -> None:
    report = told(gap=(-3.3, None, 1))
    report["val"] = {**report["val"], "documents": 1, "tokens": 1, "bytes": 1}
    report["test"] = {**report["test"], "documents": 0, "tokens": 0, "bytes": 0}
    report["key_terms"] = {"terms": [{"word": "qubit"}], "one_token": 1, "tokens_per_term": 1.0}
    lines = terminal_lines(report, PAGE)
    assert "val: 3.00 bytes per token (1 byte, 1 token, 1 document)" in lines
    assert "test: no text" in lines
    assert "key terms that are one token: 1 of 1 (qubit)" in lines
    assert any(
        line.startswith("held-out text takes 3.3% fewer tokens than") and "(1 document, " in line for line in lines
    )
    fewer = "\n".join(terminal_lines(told(gap=(-3.3, [-6.7, -0.3], 40)), PAGE))
    assert "held-out text takes 3.3% [0.3, 6.7] fewer tokens than training text of the same sources" in fewer


def test_a_corpus_without_held_out_text_has_lines(tmp_path: Path) -> None:
    report = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", [{"text": "the the"}], [], []), [])
    lines = terminal_lines(report, PAGE)
    assert lines[:3] == ["train: 3.50 bytes per token (7 bytes, 2 tokens, 1 document)", "val: no text", "test: no text"]
    assert not any("held-out text takes" in line or "None" in line for line in lines)


def test_without_another_tokenizer_a_line_says_how_to_compare_and_what_this_corpus_says() -> None:
    def asked(report: dict[str, Any]) -> list[str]:
        return [line for line in terminal_lines(report, PAGE) if "--against" in line]

    [line] = asked(told(terms=1.25))
    assert line.startswith("does the corpus need a tokenizer of its own? name another one with --against")
    assert line.endswith("2.00 tokens a held-out word, 1.25 a key term (1 is the least possible)")
    [line] = asked(told(taken=True))
    assert "own" not in line
    assert asked({**told(), "against": [{"verdict": "v"}]}) == []
