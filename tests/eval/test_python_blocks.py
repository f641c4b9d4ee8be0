"""Which blocks of an answer are Python, and which of them parse."""

import gzip
import json
import os
import warnings
from pathlib import Path

import pytest

from eval.python_blocks import holds_python, parses, python_blocks, python_parses

CORPORA = os.environ.get("LOAM_CORPORA")
GOOD = "def f(x):\n    return x + 1\n"
BAD = "def f(x:\n    return x + 1\n"


def fenced(code: str, mark: str = "python") -> str:
    return f"```{mark}\n{code}```\n"


def test_the_share_of_blocks_that_parse() -> None:
    assert python_parses(f"So:\n{fenced(GOOD)}text", GOOD) == 1.0
    assert python_parses(fenced(BAD), GOOD) == 0.0
    assert python_parses(fenced(GOOD) + "and\n" + fenced(BAD), GOOD) == 0.5
    assert python_parses(fenced(GOOD, ""), GOOD) == 1.0
    assert python_parses(fenced(BAD, ""), GOOD) == 0.0
    assert python_parses(fenced(GOOD, "Python3"), GOOD) == 1.0
    assert python_parses(fenced(GOOD) + fenced("ls\n", "sh"), GOOD) == 1.0  # beside code of another language
    assert python_parses(fenced(GOOD) + fenced("[1 2 3\n", ""), GOOD) == 1.0  # and beside what it prints


RUBBISH = "asdf (( jkl\n"


@pytest.mark.parametrize(
    "answer",
    [
        RUBBISH, fenced(RUBBISH), fenced(RUBBISH, ""), fenced("ls\n", "bash"), fenced("int x = 0;\n", "c"), "", BAD,
        fenced("", ""), fenced("Paris\n", ""), "You add one to it.", "Paris", "not sure", "yes or no", "x - 5",
        "Answer: 5", "os.path",
    ],
)  # fmt: skip
@pytest.mark.parametrize("reference", [GOOD, fenced(GOOD)])
def test_where_python_is_asked_for_an_answer_without_it_fails(answer: str, reference: str) -> None:
    assert python_parses(answer, reference) == 0.0


@pytest.mark.parametrize("answer", [GOOD, "x = 5", "sorted(x)", "import os", "x: int = f(1)", "for i in x: pass"])
def test_code_without_a_fence_is_code(answer: str) -> None:
    assert python_parses(answer, GOOD) == 1.0


@pytest.mark.parametrize("reference", ["", "x equals 5", fenced("SELECT * FROM t;\n", "sql")])
def test_where_no_python_is_asked_for_no_answer_is_judged(reference: str) -> None:
    for answer in (GOOD, fenced(GOOD), fenced(BAD), "x = 5", ""):
        assert python_parses(answer, reference) is None


def test_an_open_fence_and_an_indented_one_are_read() -> None:
    assert python_blocks("```python\nx = 1\nfor i in") == ["x = 1\nfor i in"]
    assert python_parses("1. So:\n   ```python\n   for i in x:\n       print(i)\n   ```\n", GOOD) == 1.0


def test_sessions_and_notebooks_are_python_too() -> None:
    assert parses(">>> x = 1\n>>> x\n1\n>>> for i in y:\n...     print(i)\n...\nout put\n")
    assert not parses(">>> x = = 1\n1\n")
    assert parses("%matplotlib inline\n!pip install x\nimport x\n")
    assert not parses("")
    assert not parses("# a remark alone\n")


@pytest.mark.parametrize(
    "text", [GOOD, "import os\nos.listdir()", "x = f(1)\nprint(x)", "print('hello')", fenced(GOOD)]
)
def test_programs_are_told(text: str) -> None:
    assert holds_python(text)


@pytest.mark.parametrize(
    "text",
    ["Paris", "x = 5", "f(x)", "a, b", "", "not x", "for (int i = 0; i < n; i++) {}", fenced("x", "js"), "f(x) = 2"],
)
def test_prose_formulas_and_other_languages_are_no_program(text: str) -> None:
    assert not holds_python(text)


def test_hostile_code_neither_raises_nor_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for code in ("(" * 5000, "-" * 50_000 + "1", "x\0y", "'\\d'", "1 if 1else 2", "\ud800", "x." * 5000 + "y"):
            assert parses(code) in (True, False)


@pytest.mark.skipif(not CORPORA, reason="LOAM_CORPORA is not set")
def test_real_programs_parse_and_word_problems_are_none() -> None:
    with gzip.open(Path(CORPORA or "") / "human/gsm8k_test.jsonl.gz", "rt") as file:
        assert not any(holds_python(json.loads(line)["answer"]) for line in file)
    with gzip.open(Path(CORPORA or "") / "llm/codealpaca_new.json.gz", "rt") as file:
        programs = [row["output"] for row in json.load(file) if holds_python(row["output"])]
    assert len(programs) > 500
    assert all(python_parses(program, program) == 1.0 for program in programs if "```" not in program)
