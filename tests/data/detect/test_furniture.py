"""Page furniture: what makers of books and files added is found line by line; what books say themselves is not."""

import gzip
import os
import random
import re
from pathlib import Path

import pytest

from data.detect.furniture import NOTICE_LINES, furniture, without_furniture
from tests.data.made_rows import passage, some_words

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
real = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder")

BOOKS = [
    "1342_pride_and_prejudice",
    "2489_moby_dick",
    "345_dracula",
    "84_frankenstein_or_the_modern_prometheus",
    "1661_the_adventures_of_sherlock_holmes",
    "36_the_war_of_the_worlds",
    "1400_great_expectations",
    "76_adventures_of_huckleberry_finn",
    "4217_a_portrait_of_the_artist_as_a_young_man",
    "829_gullivers_travels_into_several_remote_nations_of_the_world",
    "11_alices_adventures_in_wonderland",
]
# What one of them holds all the same.
PICTURES = {"829_gullivers_travels_into_several_remote_nations_of_the_world": ["[Picture: The frame]"]}


def page(dice: random.Random, lines: int = 30) -> list[str]:
    return [" ".join(some_words(dice, 9)).capitalize() for _ in range(lines)]


def book(dice: random.Random, pages: int, mark: "list[str] | None" = None) -> tuple[str, list[int]]:
    """A text of pages with a line behind each, and the numbers of these lines."""
    lines: list[str] = []
    marks: list[int] = []
    for i in range(pages):
        lines += page(dice, dice.randint(25, 35))
        if mark:
            marks.append(len(lines))
            lines.append(mark[i])
    return "\n".join(lines) + "\n", marks


def found(text: str) -> list[int]:
    """Numbers of the lines that are furniture."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    spans = furniture(text)
    assert all(text[line.end - 1 : line.end] == "\n" or line.end == len(text) for line in spans)
    return [starts.index(line.start) for line in spans]


def roman(number: int) -> str:
    told = ""
    for value, sign in (
        (100, "c"),
        (90, "xc"),
        (50, "l"),
        (40, "xl"),
        (10, "x"),
        (9, "ix"),
        (5, "v"),
        (4, "iv"),
        (1, "i"),
    ):
        told += sign * (number // value)
        number %= value
    return told


STYLES = ["{}", "   {}   ", "- {} -", "[{}]", "Page {}", "p. {}", "{} of 300", "\f{}", "— {} —"]


@pytest.mark.parametrize("style", STYLES)
def test_numbers_that_go_on_counting_are_page_numbers(style: str) -> None:
    dice = random.Random(style)
    first = dice.randint(1, 200)
    text, marks = book(dice, 12, [style.format(first + i) for i in range(12)])
    assert found(text) == marks
    assert {line.detail for line in furniture(text)} == {f"page number {first + i}" for i in range(12)}


@pytest.mark.parametrize("first", [1, 5, 38, 88])
def test_roman_numerals_count_too(first: int) -> None:
    dice = random.Random(first)
    for sign in (str.lower, str.upper):
        text, marks = book(dice, 9, [sign(roman(first + i)) for i in range(9)])
        assert found(text) == marks


def test_marks_of_pages_inside_the_text_count_up_as_well() -> None:
    dice = random.Random(1)
    text, marks = book(dice, 8, [f"{passage(dice, 1)} [Pg {20 + i}] {passage(dice, 1)}" for i in range(8)])
    assert found(text) == marks


def test_a_page_may_lack_its_number() -> None:
    dice = random.Random(2)
    text, marks = book(dice, 12, [str(i) if i % 4 else passage(dice, 1) for i in range(1, 13)])
    assert found(text) == [mark for i, mark in enumerate(marks, 1) if i % 4]


@pytest.mark.parametrize("head", ["{} THE HISTORY OF ROME", "The History of Rome  {}", "{} | The History of Rome"])
def test_running_heads_with_a_number_that_grows(head: str) -> None:
    dice = random.Random(3)
    text, marks = book(dice, 10, [head.format(40 + i) for i in range(10)])
    assert found(text) == marks
    assert [line.detail for line in furniture(text)] == [f"running head with page number {40 + i}" for i in range(10)]


def test_heads_that_name_the_chapter_stand_beside_those_that_name_the_book() -> None:
    dice = random.Random(11)
    heads = [f"{i} THE HISTORY OF ROME" if i % 2 else f"CHAPTER {roman(1 + i // 6).upper()}  {i}" for i in range(2, 20)]
    text, marks = book(dice, 18, heads)
    assert found(text) == marks


def test_heads_of_left_and_right_pages_count_apart() -> None:
    dice = random.Random(4)
    text, marks = book(
        dice, 12, [f"{i} THE HISTORY OF ROME" if i % 2 else f"The Fall of Carthage {i}" for i in range(12)]
    )
    assert found(text) == marks


def test_fewer_than_three_are_none() -> None:
    dice = random.Random(5)
    for number in (2, 3):
        for style in ("{}", "THE HISTORY OF ROME {}", "[Pg {}]"):
            text, marks = book(dice, number, [style.format(7 + i) for i in range(number)])
            assert found(text) == (marks if number == 3 else [])


def lines_with(dice: random.Random, marks: list[str], apart: int) -> str:
    return "\n".join(line for mark in marks for line in [mark, *page(dice, apart)])


NONE = {
    "chapters by number": lambda dice: lines_with(dice, [roman(i).upper() for i in range(1, 20)], 300),
    "chapter headings": lambda dice: lines_with(dice, [f"Chapter {i}" for i in range(1, 20)], 40),
    "chapters by name": lambda dice: lines_with(dice, [f"CHAPTER {roman(i).upper()}" for i in range(1, 20)], 40),
    "a numbered list": lambda dice: lines_with(
        dice, [f"{i}. {' '.join(some_words(dice, 5))}" for i in range(1, 40)], 0
    ),
    "a list of long items": lambda dice: lines_with(dice, [f"{i}) {passage(dice, 1)}" for i in range(1, 30)], 20),
    "numbers line by line": lambda dice: "\n".join(map(str, range(1, 200))),
    "numbers at random": lambda dice: lines_with(dice, [str(dice.randint(1, 9999)) for _ in range(30)], 30),
    "small numbers at random": lambda dice: lines_with(dice, [str(dice.randint(1, 20)) for _ in range(60)], 8),
    "years": lambda dice: lines_with(dice, [f"In the year {1800 + 7 * i}" for i in range(20)], 30),
    "a table": lambda dice: "\n".join(f"Rome {i} {dice.random():.3f} {dice.randint(1, 9)}" for i in range(200)),
    "scores": lambda dice: "\n".join(f"{name} {dice.randint(1, 99)}" for name in some_words(dice, 300)),
    "a dialogue": lambda dice: "\n".join(f"{'ANNA' if i % 2 else 'BERT'}: {passage(dice, 1)}" for i in range(300)),
    "exercises": lambda dice: lines_with(dice, [f"Exercise {i}" for i in range(1, 20)], 20),
    "code": lambda dice: "\n".join(f"    x[{i}] = {dice.randint(0, 99)}" for i in range(200)),
    "one speaker": lambda dice: lines_with(dice, ["THE HISTORY OF ROME"] * 20, 30),
    "nothing": lambda dice: "",
    "a line": lambda dice: "12",
}


@pytest.mark.parametrize("case", NONE)
def test_what_a_text_says_itself_is_none(case: str) -> None:
    text = NONE[case](random.Random(case))
    assert [text[line.start : line.end] for line in furniture(text)] == []
    assert without_furniture(text) == text


def test_a_text_about_pages_and_licences_is_none() -> None:
    dice = random.Random(6)
    text = "\n".join(
        [
            "She turned to page 12 and read aloud what stood there.",
            "It was printed by hand, and she had produced it by candlelight.",
            "The copyright of a song lasts for many years, as every author knows.",
            "He had the permission of the king, and a licence to fish.",
            *page(dice),
        ]
    )
    assert furniture(text) == []


HEADER = """The Project Gutenberg EBook of A Tale, by A. Writer

This eBook is for the use of anyone anywhere at no cost and with
almost no restrictions whatsoever.

Title: A Tale
Release Date: June, 1999  [EBook #1234]

Produced by Judith Boss.

*** START OF THIS PROJECT GUTENBERG EBOOK A TALE ***
"""
FOOTER = """*** END OF THIS PROJECT GUTENBERG EBOOK A TALE ***

Updated editions will replace the previous one.

Creating the works from public domain print editions means that no
one owns a United States copyright in these works.
"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_header_and_footer_of_project_gutenberg_go_and_the_book_stays(ending: str) -> None:
    dice = random.Random(7)
    story = "\n".join(page(dice, 200)) + "\n"
    whole, rest = (text.replace("\n", ending) for text in (HEADER + story + FOOTER, story))
    assert without_furniture(whole) == rest
    details = {line.detail for line in furniture(whole)}
    assert {"Project Gutenberg's header", "Project Gutenberg's licence"} <= details


def test_an_end_that_is_quoted_at_the_start_of_a_long_text_does_not_take_it_all() -> None:
    dice = random.Random(8)
    story = "\n".join(page(dice, 3 * NOTICE_LINES))
    assert len(furniture(f"*** END OF THE PROJECT GUTENBERG EBOOK A TALE ***\n{story}")) == 1


LICENCE = """# Copyright 2021 The Cirq Developers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     https://www.apache.org/licenses/LICENSE-2.0
"""


def test_licences_printers_and_pictures_have_their_lines() -> None:
    dice = random.Random(9)
    marks = [
        *LICENCE.splitlines()[0:1],
        *LICENCE.splitlines()[2:3],
        *LICENCE.splitlines()[6:7],
        "All rights reserved. No part of this publication may be reproduced.",
        "© 2019 A Publisher Ltd",
        "[Illustration: The harbour at night]",
        "PRINTED IN GREAT BRITAIN BY CLARK AND SONS",
        "This page intentionally left blank",
        "Transcriber's Note:",
        "Produced by Anne Writer and the Online Distributed Proofreading Team",
    ]
    lines = page(dice, 10)
    for mark in marks:
        lines += [mark, *page(dice, 10)]
    text = "\n".join(lines)
    assert [text[line.start : line.end].strip() for line in furniture(text)] == marks
    assert without_furniture(text).split("\n") == [line for line in lines if line not in marks]


def test_places_hold_where_small_letters_take_more_room() -> None:
    """İ becomes two characters in lower case."""
    dice = random.Random(10)
    lines = ["İ" * 50, *page(dice, 5), "© 2019 A Publisher Ltd", *page(dice, 5)]
    assert found("\n".join(lines)) == [6]


@real
@pytest.mark.parametrize("name", BOOKS)
def test_clean_books_give_nothing(name: str) -> None:
    with gzip.open(CORPORA / f"books/{name}.txt.gz", "rt", encoding="utf-8", newline="") as file:
        text = file.read()
    found_lines = [text[line.start : line.end].strip() for line in furniture(text)]
    assert found_lines == PICTURES.get(name, [])


@real
@pytest.mark.parametrize("name", ["gutenberg_raw_174_dorian_gray", "gutenberg_raw_174_dorian_gray_1994ed"])
def test_raw_files_of_project_gutenberg_lose_their_notices_and_nothing_of_the_novel(name: str) -> None:
    with gzip.open(CORPORA / f"books/{name}.txt.gz", "rt", encoding="utf-8", newline="") as file:
        text = file.read()
    rest = without_furniture(text)
    assert "gutenberg" in text.lower()
    assert "gutenberg" not in rest.lower()
    first, last = text.index("The artist is the creator of beautiful things."), text.index("recognized who it was.")
    assert rest.count(text[first:last]) == 1
    assert len(rest) > 0.93 * len(text)


@real
def test_each_file_of_code_has_its_licence_found() -> None:
    with gzip.open(CORPORA / "code/cirq_ops_python.txt.gz", "rt", encoding="utf-8", newline="") as file:
        files = re.split("(?m)^(?=# FILE: )", file.read())[1:]
    assert len(files) == 100
    for text in files:
        details = [line.detail for line in furniture(text)]
        assert details.count("a licence") >= (2 if "Licensed under" in text else 0)
        assert set(details) <= {"a licence"}
