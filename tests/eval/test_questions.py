"""Question files as users write them, what is refused and where, and the choice of held-out documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from eval.questions import Question, choose_questions, prompt_ids, prompt_text, read_questions
from tokenizer.bpe import Tokenizer

from .conftest import make_rows, make_table

FULL = {
    "question": "What is a qubit?",
    "reference": "A two-level system.",
    "keywords": ["two-level", "|0>"],
    "category": "basics",
    "difficulty": "easy",
    "context": "On qubits.",
}
AS_CSV = (
    "question,reference,keywords,category,difficulty,context\n"
    "What is a qubit?,A two-level system.,two-level; |0>,basics,easy,On qubits.\n"
)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def expected(name: str, line: int) -> Question:
    return Question(
        document=f"{name}:{line}",
        source=name,
        category="basics",
        question="What is a qubit?",
        context="On qubits.",
        beginning=None,
        reference="A two-level system.",
        keywords=("two-level", "|0>"),
        difficulty="easy",
    )


def test_json_lines_and_csv_of_the_same_questions_are_the_same(tmp_path: Path) -> None:
    as_json = written(tmp_path, "q.jsonl", "\n" + json.dumps(FULL) + "\n")
    assert read_questions(as_json) == [expected("q.jsonl", 2)]
    assert read_questions(written(tmp_path, "q.csv", AS_CSV)) == [expected("q.csv", 2)]
    assert read_questions(written(tmp_path, "q.tsv", AS_CSV.replace(",", "\t"))) == [expected("q.tsv", 2)]


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    excel = 'Question ; Answer;Keywords\r\n"What is\r\na qubit?";A system;"two; level"\r\n\r\nWhy?;Because;\r\n'
    first, second = read_questions(written(tmp_path, "q.csv", mark + excel.encode()))
    assert (first.question, first.reference, first.keywords) == ("What is\r\na qubit?", "A system", ("two", "level"))
    assert (first.document, second.document) == ("q.csv:2", "q.csv:5")
    assert (second.reference, second.keywords) == ("Because", ())


def test_text_is_kept_to_the_last_space_and_odd_line_ends_stay_inside(tmp_path: Path) -> None:
    text = " What\u2028is\x0bthis? "
    (question,) = read_questions(written(tmp_path, "q.jsonl", json.dumps({"question": text}, ensure_ascii=False)))
    assert question.question == text
    (question,) = read_questions(written(tmp_path, "q.csv", f"question\n{text}\n"))
    assert question.question == text


def test_a_file_of_questions_alone_is_enough(tmp_path: Path) -> None:
    (question,) = read_questions(written(tmp_path, "q.csv", "question\nWhy?\n"))
    assert (question.reference, question.keywords, question.category, question.context) == ("", (), None, None)


@pytest.mark.parametrize(
    ("cell", "keywords"),
    [
        ("gate; qubit ;gate", ("gate", "qubit")),
        ("gate|qubit", ("gate", "qubit")),
        ("|0>", ("|0>",)),
        ("|0>|superposition||1⟩", ("|0>", "superposition", "|1⟩")),
        ("<0|1>|inner product", ("<0|1>", "inner product")),
        ("a|b; c", ("a|b", "c")),
        ('["a;b", "c", 7]', ("a;b", "c", "7")),
        ("[CLS]", ("[CLS]",)),
        (" ; ", ()),
    ],
)
def test_keywords_of_a_cell(tmp_path: Path, cell: str, keywords: tuple[str, ...]) -> None:
    quoted = cell.replace('"', '""')
    (question,) = read_questions(written(tmp_path, "q.csv", f'question,keywords\nWhy?,"{quoted}"\n'))
    assert question.keywords == keywords


GOOD = '{"question": "Why?"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.txt", "Why?", "a question file is .jsonl or .csv"),
        ("q.jsonl", "", "holds no questions"),
        ("q.csv", "question,answer\n", "holds no questions"),
        ("q.jsonl", GOOD + '{"question": "Why?"\n', ":2: broken JSON"),
        ("q.jsonl", '[\n{"question": "Why?"}\n]', ":1: broken JSON.*one JSON object a line"),
        ("q.jsonl", GOOD + "\n[1]\n", ":3: a JSON object with 'question' is expected, not a list"),
        ("q.jsonl", '{"prompt": "Why?"}', ":1: no column 'question'; there are: 'prompt'"),
        ("q.csv", "prompt,answer\nWhy?,So\n", ":1: no column 'question'; there are: 'prompt', 'reference'"),
        ("q.jsonl", GOOD + '{"question": "  "}', ":2: question is empty"),
        ("q.csv", 'question,answer\n"W\nhy?",So\n,So\n', ":4: question is empty"),
        ("q.jsonl", '{"question": ["Why?"]}', ":1: question is a list, a text is expected"),
        ("q.jsonl", '{"question": "Why?", "keywords": {"a": 1}}', ":1: keywords is an object, a list of texts"),
        ("q.jsonl", '{"question": "Why?", "keywords": [["a"]]}', ":1: a keyword is a list"),
        ("q.csv", 'question,keywords\nWhy?,"[""a"", b"\n', r":2: keywords begins with \[\" and is no JSON list"),
        ("q.jsonl", '{"question": "Why?", "keyword": ["a"]}', ":1: column 'keyword' is not known: is 'keywords' meant"),
        ("q.csv", "question,refrence\nWhy?,So\n", ":1: column 'refrence' is not known: is 'reference' meant"),
        ("q.jsonl", '{"question": "Why?", "reference": "a", "answer": "b"}', ":1: has both 'reference' and 'answer'"),
        ("q.csv", "question,answer\nWhy?,So,and so\n", ":2: 3 fields, the header has 2"),
        ("q.csv", 'question,answer\nWhy?,So\n"Why,So\nmore', ":3: a quote that opens here never closes"),
        ("q.jsonl", GOOD.encode() + b'{"question": "na\xefve"}', r":2: not UTF-8 \(byte 0xef\)"),
        ("q.csv", "question\nWhy?\n".encode("utf-16"), r":1: not UTF-8 \(byte 0xff\)"),
        ("q.csv", "question\nWhy?\n".encode("utf-16-le"), ":1: holds a NUL"),
        ("q.jsonl", '{"question": "a\\ud83d"}', ":1: question holds half a surrogate pair"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as error:
        read_questions(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_questions(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "folder.csv")


def test_columns_of_the_users_own_are_left_alone(tmp_path: Path) -> None:
    (question,) = read_questions(written(tmp_path, "q.jsonl", '{"id": 3, "question": "Why?", "source": {"a": [1]}}'))
    assert question.question == "Why?"


def test_a_number_is_text(tmp_path: Path) -> None:
    (question,) = read_questions(written(tmp_path, "q.jsonl", '{"question": "2+2?", "answer": 4, "difficulty": 1}'))
    assert (question.reference, question.difficulty) == ("4", "1")


def test_the_prompt_as_text_holds_context_and_question(tok: Tokenizer) -> None:
    question = expected("q.csv", 2)
    assert prompt_text(question) == "On qubits.\nWhat is a qubit?"
    decoded = tok.decode(prompt_ids(tok, question))
    assert all(part in decoded for part in prompt_text(question).split("\n"))


# -- held-out documents


def chosen(rows: list[dict[str, Any]], tok: Tokenizer, number: int = 5, seed: int = 0) -> list[Question]:
    return choose_questions(make_table(rows), number, seed, [(tok, 64)], 12)


def test_questions_go_before_texts_and_carry_what_the_corpus_says(tok: Tokenizer) -> None:
    rows = [{**row, "difficulty": "hard"} for row in make_rows(40, seed=2)]
    by_id = {row["id"]: row for row in rows}
    for question in chosen(rows, tok):
        row = by_id[question.document]
        assert (question.question, question.context, question.reference) == (
            row["question"], row["context"], row["answer"])  # fmt: skip
        assert (question.category, question.difficulty, question.keywords) == (row["category"], "hard", ())
        assert question.group == row["group"]


def test_seed_and_content_choose_never_the_order_of_the_file(tok: Tokenizer) -> None:
    rows = make_rows(40, seed=2)
    assert chosen(rows, tok) == chosen(rows[::-1], tok)
    assert chosen(rows, tok) != chosen(rows, tok, seed=1)
    assert len({q.document for q in chosen(rows, tok)}) == 5


def test_a_text_is_cut_at_a_space_and_one_without_is_passed_over(tok: Tokenizer) -> None:
    texts = [
        {"kind": "text", "id": "a", "text": "One two three four five six."},
        {"kind": "text", "id": "b", "text": "x"},
    ]
    (question,) = chosen(texts, tok)
    assert question.question is None
    assert (question.beginning or "") + question.reference == texts[0]["text"]
    assert question.reference.startswith(" ")
    assert prompt_text(question) == question.beginning


def test_a_question_that_leaves_no_room_for_an_answer_is_passed_over(tok: Tokenizer) -> None:
    row = {"kind": "qa", "id": "long", "question": "why " * 60, "answer": "so"}
    assert chosen([row], tok) == []
    assert len(chosen([row, {**row, "id": "short", "question": "why"}], tok)) == 1
