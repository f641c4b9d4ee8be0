"""Markup that is left over or broken, and what only looks like it."""

import random
from itertools import pairwise

import pytest

from tests.data.detect.made_signs import NOUNS, evidence, found, kinds, prose, qa


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


LEFT_OVER = [
    "He sold 48 clips <u class=",
    'The answer is 12 <span style="color',
    'Twelve of them <a href="http://x.org',
    "He has 5 apples </di",
    "They ran </",
    'class="note">He has five apples.',
    'He has id="main-content"> five apples.',
    "He has five style='color:red' > apples.",
    'target="_blank">here it is',
    'main-content">He has five apples.',
    "He has <!-- a comment --> five apples.",
    "He has <!-- five apples.",
    "<!DOCTYPE html> He has five.",
    '<?xml version="1.0"?> five',
    "<![CDATA[ five apples ]]>",
    "He has &lt; five",
    "He has &amp;nbsp; five",
    "Tom &amp;amp; Ann",
    "Tom &nbsp Ann",
    "Tom amp; Ann",
    "He said quot;yesquot; to it",
    "It is #39;fine#39; there",
    "It costs &#8217 five",
    r"The ratio is \frac{1}{2 of it",
    r"We write \mathbb{R of it",
    r"The set is \sum_{i=1}^{n of it",
    "So x^{2 + y is it",
    r"Thus \left( \frac{1}{2} is it",
    r"Thus \frac{1}{2} \right) is it",
    r"\item He has five apples.",
    r"He has five \item apples.",
    r"\label{eq:one} He has five.",
    r"See \cite{smith2001} for it.",
    r"See \cite{smith for it.",
    r"He is \textbf{strong} here.",
    r"He is \emph{very strong here.",
    r"\section{Start} He came.",
    r"Five apples.\\ \hline",
    r"So \( x + 1 is it",
    r"So x + 1 \] is it",
    r"He has five.\end{itemize}",
    r"\begin{itemize} \item five",
    r"He has five \footnote{Not six} apples.",
    r"He has \underline{five} apples",
    r"Use \ref{fig:one} here.",
    "<br",
    "five <br /",
    'font color="red">five',
    "<li>five",
    "five</p",
    "&lt;b&gt;five&lt;/b&gt;",
    "<div class='x'>five",
    "five <img src=x.png",
    r"{\bf five} apples",
    r"five \\textbf apples",
]
RIGHT = [
    "He has $5 and $6.",
    "if a <b then c",
    "A --> B and B -> C",
    r"The set \{1, 2\} is it",
    "R&D; and more",
    "See http://x.org/?a=1&lt=3 there",
    r"C:\items\label is a folder",
    r"So $\left( \frac{1}{2} \right)$ is it",
    r"So \( x \) and \[ y \] are it",
    r"The formula \frac{1}{2} is a half",
    r"\begin{itemize} \item five \item six \end{itemize}",
    r"Use $\textbf{v}$ and \textbf{bold} both",
    'print("a", end="")',
    'x = "a" if b > "c" else d',
    r"""He is 5'10"> maybe""",
    "Is a < b and c > d so",
    r"|0\rangle and |1\rangle",
    r"$$\left| \psi \right\rangle$$",
    "an amp; he bought it",
    "**a** & b; c",
    r"It is \left\langle a \right\rangle here",
    "I <3 it",
    'He wrote "yes" > "no"',
    "Use <name> and <id>",
    r"\d+ and \w+ are patterns",
    r"Use \n for a line, \t for a tab",
    "a_{1} and b_{2}",
]


@pytest.mark.parametrize("answer", LEFT_OVER)
def test_tags_entities_and_latex_are_found_where_a_part_of_them_is_lost(answer: str) -> None:
    assert "markup" in kinds(qa(answer))


@pytest.mark.parametrize("answer", RIGHT)
def test_sums_code_patterns_and_right_formulas_have_lost_nothing(answer: str) -> None:
    assert "markup" not in kinds(qa(answer))


@pytest.mark.parametrize("seed", range(8))
def test_a_tag_or_formula_is_found_from_the_cut_on_wherever_it_is_cut(seed: int) -> None:
    dice = random.Random(seed)
    before = prose(dice, 2)
    tag = f'<{dice.choice(["span", "div", "font"])} class="{dice.choice(NOUNS)}"'
    cut = dice.randint(tag.index(" ") + 1, len(tag))
    (sign,) = found(qa(f"{before} {tag[:cut]}"), "markup")
    assert sign.start == len(before) + 1
    assert "markup" not in kinds(qa(f"{before} {dice.randrange(9)} < {dice.randrange(9)}"))
    power = f"x^{{{dice.randrange(99)} + y"
    assert evidence(qa(f"{before} Here {power} ends. {prose(dice, 1)}"), "markup") == ["^{"]
    assert "markup" not in kinds(qa(f"{before} Here {power}}} ends. {prose(dice, 1)}"))


def test_what_is_found_whole_is_not_found_again_in_part() -> None:
    spans = [(sign.start, sign.end) for sign in found(qa('Five <div class="a <b>x</b> and <span id='), "markup")]
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans
