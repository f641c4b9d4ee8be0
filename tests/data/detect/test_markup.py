"""Markup that is left over or broken, and what only looks like it."""

import pytest

from tests.data.detect.made_signs import evidence, found, kinds, qa


@pytest.mark.parametrize(
    ("answer", "evidences"),
    [
        ("This is <b>bold</b> text.", ["<b>", "</b>"]),
        ("First.<br>Second.<br/>Third.", ["<br>", "<br/>"]),
        ('See <a href="http://x.org/">here</a>.', ['<a href="http://x.org/">', "</a>"]),
        ("Black &amp; white&nbsp;film, 5 &lt; 6, it&#39;s", ["&amp;", "&nbsp;", "&lt;", "&#39;"]),
        ("A div that is cut: <div class=", ["<div class="]),
        ("The rest of one /p> and </span", ["/p>", "</span"]),
        ("[b]bold[/b] words", ["[/b]"]),
        ("yes<|im_end|> and on", ["<|im_end|>"]),
        ("The value is $\\frac{1}{2", ["$", "\\frac{"]),
        ("With $\\alpha + 1 it holds.", ["$"]),
        ("\\begin{align} x &= 1", ["\\begin{align}"]),
        ("x &= 1 \\end{align}", ["\\end{align}"]),
        ("It is $x^{2 + y$ now.", ["$x^{2 + y$"]),
    ],
)
def test_markup_that_is_left_over_or_broken_is_found(answer: str, evidences: list[str]) -> None:
    assert evidence(qa(answer), "markup") == evidences


@pytest.mark.parametrize(
    "answer",
    [
        "Use a List<String> or Map<Key, List<Value>> there.",
        "He has 48/2 = <<48/2=24>>24 clips, which is a < b and b > c.",
        "Run prog <input> <output> to start, where <name> is yours.",
        "It costs $5 and then $10 more, or $3.50 at best.",
        "**bold** and _it_, # one, - two, [a](http://b.org), `<b>` too",
        "The AT&T and R&D people; they left.",
        "So $\\frac{1}{2}$ and $$x^{2}$$ and \\begin{a} y \\end{a}.",
        "```html\n<p>hello</p>\n```",
        "I <3 you, 3 > 2, x<y>z.",
    ],
)
def test_what_only_looks_like_markup_is_left_alone(answer: str) -> None:
    assert found(qa(answer), "markup") == []


def test_where_the_question_is_about_html_tags_belong_to_the_answer() -> None:
    assert "markup" not in kinds(qa("<p>Hello</p>", "Write a paragraph in HTML."))
    assert "markup" in kinds(qa("<p>Hello</p>", "Write a paragraph."))
