"""Templates and conditions: plain text and names alone, strict before a file is read, exact on records."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.record_templates import (
    ABSENT,
    Missing,
    Name,
    fails,
    look_up,
    names_of,
    parse_condition,
    parse_template,
    render,
)

NAME = st.text(st.characters(categories=["L", "Nd"], include_characters="_"), min_size=1, max_size=8)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["{", "}", "{{x}}", "{x", "%s"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TEXT, NAME, TEXT | st.integers() | st.booleans() | st.lists(TEXT, max_size=3))))
def test_a_template_is_its_text_with_the_values_in_it(parts: list[tuple[str, str, Any]]) -> None:
    record = {name: value for _, name, value in parts}
    setting = "".join(text.replace("{", "{{").replace("}", "}}") + f"{{{name}}}" for text, name, _ in parts)

    def shown(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(value)
        return value if isinstance(value, str) else json.dumps(value)

    template = parse_template(setting)
    assert render(template, record) == "".join(text + shown(record[name]) for text, name, _ in parts)
    assert set(names_of(template)) == set(record)


@pytest.mark.parametrize(
    "setting",
    [
        "{",
        "}",
        "a {b",
        "a} b",
        "{}",
        "{a}}",
        "{{a}",
        "{a!r}",
        "{a:>9}",
        "{a[0]}",
        "{a.}",
        "{.a}",
        "{a..b}",
        "{f(x)}",
        "{ }",
    ],
)
def test_anything_but_names_in_braces_is_refused(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_template(setting)
    assert "\n" not in str(caught.value)


def test_values_are_never_read_as_templates_nor_names_as_attributes() -> None:
    assert render(parse_template("{a}"), {"a": "{b}", "b": "no"}) == "{b}"
    with pytest.raises(Missing):
        render(parse_template("{a.__class__}"), {"a": "text"})


def test_a_path_leads_into_objects_and_lists_and_a_name_may_hold_the_dot_itself() -> None:
    record = {"fields": {"name": "N", "tags": ["x", 2, True]}, "a.b": "dot", "list": [{"n": 1}, {"n": 2}, {}]}
    assert render(parse_template("{fields.name}|{fields.tags}|{a.b}|{list.n}"), record) == "N|x, 2, true|dot|1, 2"
    assert look_up(record, "fields.none") is ABSENT
    assert look_up(record, "fields.name.first") is ABSENT


@pytest.mark.parametrize(
    ("record", "reason"),
    [({}, "missing_column"), ({"a": None}, "missing_column"), ({"a": {}}, "not_text"), ({"a": [["x"]]}, "not_text")],
)
def test_a_value_that_is_not_there_or_no_text_is_told(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(Missing) as caught:
        render(parse_template("x {a}"), record)
    assert caught.value.reason == reason
    assert "'a'" in caught.value.detail


def test_an_empty_text_is_a_value() -> None:
    assert render(parse_template("<{a}{b}>"), {"a": "", "b": []}) == "<>"
    assert isinstance(parse_template("{a}")[0], Name)


# -- conditions


@settings(max_examples=200, deadline=None)
@given(st.integers(-50, 50) | st.floats(-50, 50), st.integers(-50, 50), st.booleans())
def test_comparisons_of_numbers_are_those_of_python(value: float, bound: int, as_text: bool) -> None:
    record = {"n": str(value) if as_text else value}
    for operator, holds in {
        ">": value > bound,
        ">=": value >= bound,
        "<": value < bound,
        "<=": value <= bound,
        "==": value == bound,
        "!=": value != bound,
    }.items():
        verdict = fails(parse_condition(f"n {operator} {bound}"), record)
        assert (verdict is None) == holds, operator
        assert verdict is None or verdict[0] == "filtered"


@pytest.mark.parametrize(
    ("condition", "record", "kept"),
    [
        ("license in CC-BY, CC0", {"license": "CC0"}, True),
        ("license in CC-BY, CC0", {"license": "CC-BY-NC"}, False),
        ("license not in CC-BY, CC0", {"license": "GPL"}, True),
        ("license not in CC-BY, CC0", {"license": "CC0"}, False),
        ("lang==en", {"lang": "en"}, True),
        ("lang == en", {"lang": "EN"}, False),
        ("ok == true", {"ok": True}, True),
        ("score >= 3", {"score": "3.0"}, True),
        ("score >= 3", {"score": "many"}, False),
        ("score >= 3", {"score": None}, False),
        ("score >= 0", {"score": True}, False),
        ("meta.score > 3", {"meta": {"score": 4}}, True),
        ("main topic in a b, c", {"main topic": "a b"}, True),
    ],
)
def test_a_condition_keeps_what_it_says_and_no_more(condition: str, record: dict[str, Any], kept: bool) -> None:
    verdict = fails(parse_condition(condition), record)
    assert (verdict is None) == kept
    assert kept or (verdict and verdict[0] == "filtered" and condition in verdict[1])


def test_a_record_without_the_column_is_no_record_that_was_filtered() -> None:
    verdict = fails(parse_condition("score >= 3"), {"other": 1})
    assert verdict
    assert verdict[0] == "missing_column"


@pytest.mark.parametrize(
    "condition",
    ["", "score", "score >=", ">= 3", "score => 3", "score > many", "a in", "a in x,,y", "a > 1_0", "a == == b"],
)
def test_what_is_no_condition_is_refused(condition: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_condition(condition)
    assert "\n" not in str(caught.value)
