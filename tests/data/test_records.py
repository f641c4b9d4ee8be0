"""Records that are no plain table: templates, conditions, lists of answers, nested lists, conversations."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from config import load_command
from data.columns import Row, answers_of
from data.config import PrepareConfig
from data.conversations import Unpaired, pairs, together
from data.facts import compared_fields
from data.pipeline import prepare
from data.readers import read_file
from data.sections import split_sections
from data.sources import SourceConfig, check_sources, list_files
from data.turns import has_mark, join_turns, split_turns

needs_corpora = pytest.mark.skipif(not os.environ.get("LOAM_CORPORA"), reason="LOAM_CORPORA is not set")


def rows(path: Path, content: Any, **config: Any) -> list[Row]:
    """What is read of records: a list is written as JSON lines (or Parquet), anything else as JSON."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in content))
    else:
        path.write_text(json.dumps(content))
    source = check_sources([SourceConfig(path=path.name, **config)])[0]
    return [row for file in list_files(source, path.parent) for row in read_file(file, source)]


def good(found: list[Row]) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in found if not row["reason"]]


def bad(found: list[Row]) -> list[tuple[str, str]]:
    return [(row["origin"].rpartition("/")[2], row["reason"]) for row in found if row["reason"]]


# -- templates

POLICIES = [
    {"name": "Aid", "school": {"name": "MIT"}, "rules": ["one", "two"]},
    {"name": "Leave", "school": {}, "rules": ["three"]},
    {"name": "Rent {x}", "school": {"name": "ETH"}, "rules": []},
]
TEMPLATE = {"question": "What does {name} of {school.name} say?", "answer": "{{{rules}}}"}


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet"])
def test_a_template_makes_rows_of_structured_records(tmp_path: Path, name: str) -> None:
    found = rows(tmp_path / name, POLICIES, **TEMPLATE, category="{school.name}, {name}")
    assert good(found) == [("What does Aid of MIT say?", "{one, two}"), ("What does Rent {x} of ETH say?", "{}")]
    assert [reason for _, reason in bad(found)] == ["missing_column"]
    assert "'school.name'" in found[1]["detail"]
    assert json.loads(found[1]["raw"])["name"] == "Leave"
    assert found[0]["category"] == "MIT, Aid"


def test_a_template_makes_documents_too_and_an_optional_one_may_lack_its_column(tmp_path: Path) -> None:
    records = [{"title": "T", "body": "B", "tag": "t"}, {"title": "U", "body": "C"}]
    found = rows(tmp_path / "x.jsonl", records, kind="text", text="{title}\n\n{body}", category="<{tag}>")
    assert [(row["text"], row["category"]) for row in found] == [("T\n\nB", "<t>"), ("U\n\nC", None)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
@pytest.mark.parametrize("column", ["{nome} is it", "{school.nome}"])
def test_a_name_that_no_record_has_is_one_line(tmp_path: Path, name: str, column: str) -> None:
    found = rows(tmp_path / name, POLICIES, question=column, answer="name")
    assert found[-1]["reason"] == "user_error"
    assert f"no column '{column.partition('{')[2].partition('}')[0]}'; there are: name, school" in found[-1]["detail"]


def test_a_template_reads_a_csv_and_its_header_is_enough_to_find_the_mistake(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    source = check_sources([SourceConfig(path="x.csv", question="{a}?", answer="{b} {c}")])[0]
    found = list(read_file(list_files(source, tmp_path)[0], source))
    assert [row["reason"] for row in found] == ["user_error"]
    source = check_sources([SourceConfig(path="x.csv", question="{a}?", answer="{b}!")])[0]
    assert good(list(read_file(list_files(source, tmp_path)[0], source))) == [("1?", "2!")]


# -- conditions


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_records_that_fail_a_condition_are_quarantined_whole(tmp_path: Path, name: str) -> None:
    records = [
        {"question": f"q{score}{licence}", "answer": "a", "score": score, "licence": licence}
        for score in range(5)
        for licence in ("CC0", "GPL")
    ]
    found = rows(tmp_path / name, records, keep_if=["score >= 3", "licence in CC-BY, CC0"])
    assert good(found) == [("q3CC0", "a"), ("q4CC0", "a")]
    assert {row["reason"] for row in found} == {None, "filtered"}
    assert found[0]["detail"] == "not score >= 3: it is '0'"
    assert found[7]["detail"] == "not licence in CC-BY, CC0: it is 'GPL'"
    assert json.loads(found[0]["raw"]) == records[0]
    assert len(found) == len(records)


def test_a_condition_on_a_column_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", [{"question": "q", "answer": "a"}], keep_if=["stars > 3"])
    assert found[-1]["reason"] == "user_error"
    assert "no column 'stars'" in found[-1]["detail"]
    (tmp_path / "x.txt").write_text("text")
    source = check_sources([SourceConfig(path="x.txt", kind="text", keep_if=["a == b"])])[0]
    assert [row["reason"] for row in read_file(list_files(source, tmp_path)[0], source)] == ["user_error"]


# -- lists of answers


def test_answers_are_the_first_each_or_joined(tmp_path: Path) -> None:
    records = [
        {"question": "q1", "answer": ["a", "b", "a"]},
        {"question": "q2", "answer": "one"},
        {"question": "q3", "answer": {"text": ["x"]}},
        {"question": "q4", "answer": [{"text": "y"}, {"text": "z"}]},
    ]
    first, each, join = (rows(tmp_path / "x.jsonl", records, answers=mode) for mode in ("first", "each", "join"))
    assert good(first) == [("q1", "a"), ("q2", "one"), ("q3", "x"), ("q4", "y")]
    assert good(each) == [("q1", "a"), ("q1", "b"), ("q2", "one"), ("q3", "x"), ("q4", "y"), ("q4", "z")]
    assert good(join) == [("q1", "a, b"), ("q2", "one"), ("q3", "x"), ("q4", "y, z")]
    assert [row["group"] for row in each] == ["q1", "q1", None, None, "q4", "q4"]
    assert [row["origin"].rpartition(":")[2] for row in each] == ["1", "1.2", "2", "3", "4", "4.2"]
    assert each[0]["note"] == "answer is a list: each is a row"
    assert join[0]["note"] == "answer is a list: joined by commas"


def test_a_list_that_is_not_all_text_is_no_answer_and_a_group_of_the_file_stays(tmp_path: Path) -> None:
    records = [{"question": "q1", "answer": ["a", ["b"]], "g": "1"}, {"question": "q2", "answer": ["a", "b"], "g": "2"}]
    for mode in ("each", "join"):
        found = rows(tmp_path / "x.jsonl", records, answers=mode, group="g")
        assert bad(found) == [("x.jsonl:1", "not_text")]
        assert {row["group"] for row in found if not row["reason"]} == {"2"}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=5)))
def test_no_answer_of_a_list_is_lost_and_none_comes_twice(answers: list[str]) -> None:
    nothing: list[Any] = [None]
    assert answers_of(answers, "each")[0] == (list(dict.fromkeys(answers)) or nothing)
    assert answers_of(answers, "first")[0] == (answers[:1] or nothing)


# -- where the list of records stands


def test_records_are_found_where_the_path_leads(tmp_path: Path) -> None:
    record = {"question": "q", "answer": "a"}
    nested = {"meta": [1], "data": {"other": [], "items": [record, 7]}}
    found = rows(tmp_path / "x.json", nested, records="data.items")
    assert good(found) == [("q", "a")]
    assert bad(found) == [("x.json#2", "not_a_row")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data.rows", "nothing is named 'rows'; there is: items"),
        ("data", "records = 'data' is no list but a dict"),
        ("meta.x", "nothing is named 'x'; there is: a list"),
        (None, "2 lists (meta, also); one list of rows is needed: name it, as in records ="),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(tmp_path: Path, path: str | None, message: str) -> None:
    content = {"meta": [1], "also": [2]} if path is None else {"meta": [1], "data": {"items": [1]}}
    found = rows(tmp_path / "x.json", content, records=path)
    assert [row["reason"] for row in found] == ["user_error"]
    assert message in found[0]["detail"]


def test_a_path_of_a_file_that_is_no_json_is_one_line(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", [{"question": "q", "answer": "a"}], records="data")
    assert [row["reason"] for row in found] == ["user_error"]


# -- conversations

OPENAI = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "now?"}]},
        {"role": "assistant", "content": "Now."},
        {"role": "user", "content": "Still there?"},
    ]
}
SHAREGPT = {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "topic": "t"}


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_conversation_is_a_row_for_each_answer(tmp_path: Path, name: str) -> None:
    found = rows(tmp_path / name, [OPENAI, SHAREGPT], preset="chat", turns="pairs", category="topic")
    assert good(found) == [("Hello?", "Hi."), ("And\nnow?", "Now."), ("Q", "A")]
    assert [row["context"] for row in found if not row["reason"]] == [
        "Be kind.",
        "Be kind.\n\nUser: Hello?\n\nAssistant: Hi.",
        None,
    ]
    assert [(row["reason"], row["raw"]) for row in found if row["reason"]] == [("unpaired", "User: Still there?")]
    assert len({row["group"] for row in found}) == 2
    assert len({row["origin"] for row in found}) == 4
    assert [row["category"] for row in found] == [None, None, None, "t"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_conversation_is_one_row_whose_context_holds_its_turns(tmp_path: Path, name: str) -> None:
    found = rows(tmp_path / name, [OPENAI, SHAREGPT], preset="chat", category="topic")
    assert good(found) == [("And\nnow?", "Now."), ("Q", "A")]
    assert [split_turns(row["context"]) for row in found if not row["reason"]] == [
        [
            {"role": "context", "content": "Be kind."},
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Hi."},
        ],
        [],
    ]
    assert [(row["reason"], row["raw"]) for row in found if row["reason"]] == [("unpaired", "User: Still there?")]
    assert [row["category"] for row in found] == [None, None, "t"]


def said(*turns: str) -> dict[str, list[dict[str, str]]]:
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return {"messages": [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]}


@pytest.mark.parametrize(
    ("turns", "question", "answer", "before", "unpaired"),
    [
        (("u hi", "a yo"), "hi", "yo", [], None),
        (("a greeting", "u hi", "a yo"), "hi", "yo", ["assistant greeting"], None),
        (("u one", "u two", "a yo"), "one\n\ntwo", "yo", [], None),
        (("u q", "a calls", "t 42", "a it is 42"), "q", "calls", [], "Tool: 42\n\nAssistant: it is 42"),
        (("s be kind", "u q", "a r", "s now be terse", "u p", "a o"), "p", "o",
         ["context be kind", "user q", "assistant r", "context now be terse"], None),
        (("u q",), None, None, None, "User: q"),
        (("a only me",), None, None, None, "Assistant: only me"),
    ],
)  # fmt: skip
def test_turns_keep_their_order_and_nothing_is_lost(
    turns: tuple[str, ...], question: str, answer: str, before: list[str] | None, unpaired: str | None
) -> None:
    found = list(together(said(*turns)))
    pair = next((one for one in found if isinstance(one, dict)), None)
    assert [one.text for one in found if isinstance(one, Unpaired)] == [unpaired] * bool(unpaired)
    if question is None:
        assert pair is None
        return
    assert pair is not None
    assert (pair["question"], pair["answer"]) == (question, answer)
    assert [f"{turn['role']} {turn['content']}" for turn in split_turns(pair["context"])] == before


@given(st.lists(st.tuples(st.sampled_from(["context", "user", "assistant"]), st.text(max_size=9)), max_size=6))
def test_turns_come_back_from_a_context_as_they_were(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns if not has_mark(content)]
    while len(messages) > 1 and messages[0] == {"role": "context", "content": ""}:
        messages = messages[1:]  # an empty context is none
    assert split_turns(join_turns(messages)) == messages


def test_a_context_without_turns_is_its_text_alone() -> None:
    assert join_turns([{"role": "context", "content": "Be kind."}]) == "Be kind."
    assert join_turns([]) is None


def test_talks_that_end_alike_are_no_duplicates(tmp_path: Path) -> None:
    ending = ("u thank you very much for all of your help today", "a you are most welcome, and have a lovely evening")
    words = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "te") for b in ("dor", "fin", "gal", "hum")]
    draw = random.Random(0)
    records = [
        said("u " + " ".join(draw.sample(words, 12)), "a " + " ".join(draw.sample(words, 12)), *ending)
        for _ in range(30)
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    source = SourceConfig(path="x.jsonl", preset="chat")
    config = PrepareConfig(steps=["exact_duplicate", "near_duplicate"], val_share=0.2, test_share=0.2)
    assert prepare([source], config, tmp_path / "corpus", tmp_path)["quarantine"]["rows"] == 0
    row = {"kind": "qa", "text": None, "context": None, "question": "thanks", "answer": "welcome"}
    before = join_turns(said("u how?", "a so")["messages"])
    assert compared_fields({**row, "context": before}) == ("User: how?\n\nAssistant: so\nthanks", "welcome")
    assert compared_fields({**row, "context": "a passage"}) == ("thanks", "welcome")


def test_a_text_that_holds_a_mark_of_a_turn_is_quarantined(tmp_path: Path) -> None:
    record = {"question": "q\ufdd1a", "answer": "b"}
    assert [reason for _, reason in bad(rows(tmp_path / "x.jsonl", [record]))] == ["not_text"]
    found = rows(tmp_path / "y.jsonl", [said("u q\ufdd0", "a b")], preset="chat")
    assert [reason for _, reason in bad(found)] == ["not_text"]


# -- sections


def test_sections_make_up_the_answer_and_come_back(tmp_path: Path) -> None:
    records = [
        {"question": "q", "thought": "sorted\nfirst", "code": "x = 1"},
        {"question": "p", "thought": None, "code": "y"},
        {"question": "r", "thought": "a\n</reasoning>\nb", "code": "z"},
    ]
    found = rows(tmp_path / "x.jsonl", records, sections=["reasoning: thought", "code"])
    assert good(found) == [
        ("q", "<reasoning>\nsorted\nfirst\n</reasoning>\n<code>\nx = 1\n</code>"),
        ("p", "<code>\ny\n</code>"),
    ]
    assert [reason for _, reason in bad(found)] == ["sections"]
    assert split_sections(found[0]["answer"]) == {"reasoning": "sorted\nfirst", "code": "x = 1"}
    assert split_sections("<reasoning>\nno end") == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sections": ["Reasoning"]}, "no name of a section"),
        ({"sections": ["code:"]}, "names no column"),
        ({"sections": ["code", "code"]}, "each once"),
        ({"sections": []}, "each once"),
        ({"sections": ["code"], "answer": "a"}, "leave out"),
        ({"turns": "pairs"}, "preset"),
    ],
)
def test_settings_of_sections_and_turns_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_sources([SourceConfig(path="x.jsonl", **settings)])


def test_a_section_without_its_column_is_one_line(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", [{"question": "q", "code": "x"}], sections=["reasoning", "code"])
    assert "no column 'reasoning'" in found[-1]["detail"]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": []},
        {"messages": "text"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"content": "x"}]},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"other": 1},
    ],
)
def test_what_is_no_conversation_is_quarantined(tmp_path: Path, record: dict[str, Any]) -> None:
    found = rows(tmp_path / "x.jsonl", [SHAREGPT, record], preset="chat")
    assert good(found) == [("Q", "A")]
    assert [reason for _, reason in bad(found)] == ["missing_column" if "other" in record else "not_text"]
    assert json.loads(found[1]["raw"]) == record


def test_a_file_without_conversations_is_one_line(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", [{"other": 1}], preset="chat")
    assert found[-1]["reason"] == "user_error"
    assert "no column 'messages' or 'conversations'; there are: other" in found[-1]["detail"]


TURNS = st.lists(st.sampled_from(["user", "assistant", "system", "tool"]), min_size=1, max_size=9)


@settings(max_examples=300, deadline=None)
@given(TURNS)
def test_nothing_that_was_said_is_lost(roles: list[str]) -> None:
    turns = [{"role": role, "content": f"said-{i}-"} for i, role in enumerate(roles)]
    found = list(pairs({"messages": turns}))
    told = "\n".join(
        pair.text if isinstance(pair, Unpaired) else f"{pair['context']}\n{pair['question']}\n{pair['answer']}"
        for pair in found
    )
    assert all(turn["content"] in told for turn in turns)
    for pair in found:
        if not isinstance(pair, Unpaired):
            question = roles[int(str(pair["question"]).split("-")[1])]
            answer = roles[int(str(pair["answer"]).split("-")[1])]
            assert (question, answer) == ("user", "assistant")


# -- settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"question": "What is {name"}, "question: template 'What is {name'"),
        ({"keep_if": ["score"]}, "keep_if 'score' is no condition"),
        ({"answers": "all"}, "answers is first, each or join, not 'all'"),
        ({"preset": "chat", "question": "q"}, "leave out question"),
        ({"preset": "chat", "kind": "text"}, "kind cannot be text"),
    ],
)
def test_mistakes_are_found_before_a_file_is_read(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_sources([SourceConfig(path="x.jsonl", **config)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_toml_file_holds_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(
        '[[source]]\npath = "x.jsonl"\nquestion = "What is {name}?"\nanswers = "each"\n'
        'keep_if = ["score >= 3", "a in b, c"]\n'
    )
    source = load_command("prepare", argv=["--config", "x.toml"]).source[0]
    assert source.question == "What is {name}?"
    assert source.keep_if == ["score >= 3", "a in b, c"]
    assert (source.answers, source.encoding) == ("each", "auto")


# -- real records


@needs_corpora
def test_the_example_makes_questions_of_real_policies(tmp_path: Path) -> None:
    """configs/records.toml, as it stands."""
    repository = Path(__file__).resolve().parents[2]
    config = load_command("prepare", argv=["--config", str(repository / "configs" / "records.toml")])
    read = [
        row
        for source in check_sources(config.source)
        for file in list_files(source, config.base)
        for row in read_file(file, source)
    ]
    assert bad(read) == []
    assert len(read) == 69 + 49 + 33 + 3
    first = next(row for row in read if row["source"] == "aid-policies")
    assert first["question"] == "What is Massachusetts Institute of Technology's rule on home_equity?"
    assert first["answer"].startswith("Home equity capped at 1.2x annual income")
    assert "Exceptions: Professional judgment may apply" in first["answer"]
    manifest = prepare(config.source, PrepareConfig(val_share=0.1, test_share=0.1), tmp_path / "corpus", config.base)
    assert manifest["rows_read"] == len(read)


@needs_corpora
def test_every_answer_of_real_search_questions_is_a_row() -> None:
    path = "${LOAM_CORPORA}/human/nq_open_dev.jsonl.gz"
    counts = {}
    for mode in ("first", "each", "join"):
        source = check_sources([SourceConfig(path=path, answers=mode)])[0]  # type: ignore[arg-type]
        found = list(read_file(list_files(source, Path())[0], source))
        assert not any(row["reason"] for row in found)
        counts[mode] = len(found)
    assert counts["first"] == counts["join"] == 3610
    assert counts["each"] > 4000
