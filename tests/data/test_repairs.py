"""Repairs mend what is broken and leave every other text byte for byte."""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.columns import ROW_COLUMNS
from data.readers import read_file
from data.repairs import about_tokens, fix_mojibake, html_to_text, out_of_bounds, parse_bounds, strip_control
from data.sources import check_sources, list_files
from tests.data.test_prepare_corpora import FILES, source

ROOT = Path(__file__).parents[2]
CORPORA = os.environ.get("LOAM_CORPORA", "")
needs_corpora = pytest.mark.skipif(not CORPORA, reason="LOAM_CORPORA is not set")

# -- HTML


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One &amp; two</p>\n\n<p>Three<br>lines<br/>more</p>", "One & two\n\nThree\nlines\nmore"),
        ('<p>See <a href="https://x.y">the docs</a>, <em>please</em>.</p>', "See the docs, please."),
        ("<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n<p>end</p>", "- one\n- two\n\nend"),
        ('<ol start="3"><li>three</li><li>four</li></ol>', "3. three\n4. four"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c"),
        ("<blockquote>\n<p>said</p>\n<p>twice</p>\n</blockquote>\n<p>x</p>", "> said\n>\n> twice\n\nx"),
        ("<p>x<sup>2</sup>, H<sub>2</sub>O, 1<sup>st</sup></p>", "x², H₂O, 1^st"),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>", "a | b\n1 | 2"),
        ("<h2>Title</h2>text<hr>more", "Title\n\ntext\n\n---\n\nmore"),
        ("a<script>alert('x')</script><style>p {}</style><!-- no -->b", "ab"),
        ('<p>Look: <img src="x.png" alt="a cat"></p>', "Look: a cat"),
        ("<p>hard\nwrapped   text</p>", "hard wrapped text"),
        ("&lt;b&gt; &#8217; &#x2019;", "<b> ’ ’"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert html_to_text(html) == text


def test_code_is_kept_verbatim() -> None:
    html = "<p>Use <code>a  &lt; b</code>:</p>\n<pre><code>if (a &lt; b) {\n\n    <b>x</b>  = &quot;y&quot;;\n}\n"
    html += "</code></pre>"
    assert html_to_text(html) == 'Use `a  < b`:\n\n```\nif (a < b) {\n\n    x  = "y";\n}\n```'
    assert html_to_text("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````"
    assert html_to_text("<p><code>a`b</code></p>") == "``a`b``"


@pytest.mark.parametrize(
    "math",
    [
        "$a < b$",
        "$$\n\\begin{align}\n a &= b \\\\\n   c &= d\n\\end{align}\n$$",
        "$x_{i<j}$",
        "\\(p  <q\\)",
        "\\[ a\n = b \\]",
        "$a\\,&\\&b$",
    ],
)
def test_latex_stays_as_it_is(math: str) -> None:
    assert html_to_text(f"<p>Let {math} be.</p>") == f"Let {math} be."


def test_two_prices_are_no_latex() -> None:
    assert html_to_text("<p>It costs $5\nand <b>then</b>  $6.</p>") == "It costs $5 and then $6."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain  text\n\n with   spaces\t\n",
        "#include <vector>\nstd::vector<int> v; if (a<b && c>d) return a <b;",
        "x & y, R&D, AT&T; &notanentity &amp",
        "<thinking> is no tag of HTML, nor is <b or <p",
        "a <- b -> c, 1 < 2 > 0",
        "Shape *s = &circle; total = &sum; &alpha;",
        "List<String> x = new Map<A, B>();",
    ],
)
def test_text_that_is_no_html_stays_byte_for_byte(text: str) -> None:
    assert html_to_text(text) == text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "<p>",
                "</p>",
                "<ul>",
                "<li>",
                "</ul>",
                "<pre>",
                "</pre>",
                "<code>",
                "</code>",
                "<b",
                ">",
                "<blockquote>",
                "</blockquote>",
                "word",
                " ",
                "\n",
                "&amp;",
                "&",
                "$",
                "<!--",
                "-->",
                '<a href="',
            ]
        )
    )
)
def test_no_html_is_so_broken_that_words_are_lost(pieces: list[str]) -> None:
    html = "".join(pieces)
    text = html_to_text(html)
    outside = html if "<!--" not in html and 'href="' not in html else ""
    assert text.count("word") >= outside.count("word")


def test_html_of_a_megabyte_takes_no_time_that_grows_with_its_square() -> None:
    for hostile in ("<", "<a ", '<a href="', "<!--", "$", "&", "<p", "\\("):
        assert html_to_text(f"<p>{hostile * 20_000}</p>")


# -- mojibake and control characters

CLEAN = [
    "“quoted” – naïve café",
    "Größe, Åse, Þór",
    "日本語のテキスト",
    "ﬁ ligature ½ … ①",
    "Ａ full width",
    "\u0065\u0301 decomposed",
    "r\u00e9sum\u00e9\r\nline\u2028end",
    "&amp; &lt;b&gt; é",
    "\x1b[31mréd",
    "it’s ‘so’",
    "Â is a letter, so is Ã",
    "à la carte, È vero, Ã £5",
]


@pytest.mark.parametrize("text", CLEAN)
def test_text_that_is_no_mojibake_stays_byte_for_byte(text: str) -> None:
    assert fix_mojibake(text) == text


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_utf8_that_was_decoded_wrongly_is_as_it_was(wrong: str) -> None:
    shuffled = random.Random(0)
    words = ["Müller", "naïve", "it’s", "“so”", "Ærø", "señor", "coöperate", "–", "plain", "text"]
    for _ in range(100):
        text = " ".join(["it’s", *shuffled.choices(words, k=8)])
        broken = text.encode().decode(wrong, "ignore")
        if broken.encode(wrong) == text.encode():  # some bytes of ” have no character in cp1252
            assert fix_mojibake(broken) == text
            assert fix_mojibake(text) == text


def test_mojibake_that_lost_a_byte_is_not_filled_with_replacement_characters() -> None:
    assert fix_mojibake("called â€œmark twainâ€? marked") == "called â€œmark twainâ€? marked"
    assert fix_mojibake("itâ€™s\ncalled â€?\n") == "it’s\ncalled â€?\n"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_control_characters_go_and_nothing_else(text: str) -> None:
    control = {chr(i) for i in (*range(32), *range(127, 160))} | {"\ufffe", "\uffff"}
    kept = [c for c in text if c not in control or c in "\t\n\r"]
    parted = [c for c in text if c in "\x0b\x0c\x85"]
    found = strip_control(text)
    assert [c for c in found if c != "\n"] == [c for c in kept if c != "\n"]
    assert found.count("\n") == text.count("\n") + len(parted)


# -- bounds


def test_bounds_are_in_bytes_and_both_ends_are_inside() -> None:
    row = dict.fromkeys(ROW_COLUMNS) | {"question": "é" * 5, "answer": "a" * 20}
    for setting, reason in {
        "question 10..10": None,
        "question 11..": "too_short",
        "question ..9": "too_long",
        "answer 20..": None,
        "all 30..30": None,
        "all ..29": "too_long",
        "context 5..": None,  # there is none
    }.items():
        verdict = out_of_bounds(row, parse_bounds([setting]))
        assert (verdict and verdict[0]) == reason, setting
    assert out_of_bounds(row, {}) is None
    assert out_of_bounds(row, parse_bounds(["all 1..", "answer ..3"])) == (
        "too_long",
        "answer: 20 bytes, the most is 3",
    )


@pytest.mark.parametrize(
    "setting",
    [
        "answer",
        "answer ..",
        "10..20",
        "answer 5..4",
        "title 1..",
        "answer -1..5",
        "answer 1-5",
        "answer 1..5 words",
        "answer .. tokens",
        "answer 5..4 tokens",
        "answer 1..5tokens",
        "answer tokens 1..5",
    ],
)
def test_what_is_no_bound_is_refused(setting: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_bounds([setting])
    assert "\n" not in str(caught.value)


def test_a_field_has_bounds_once() -> None:
    with pytest.raises(UserError, match="has bounds already"):
        parse_bounds(["answer 1..", "answer ..5"])
    with pytest.raises(UserError, match="has bounds already"):
        parse_bounds(["answer 1.. tokens", "answer ..5 tokens"])
    with pytest.raises(UserError, match="has bounds already"):
        parse_bounds(["answer 1..", "answer ..5 bytes"])
    assert len(parse_bounds(["answer 1..", "answer ..5 tokens"])) == 2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" ", 0),
        ("yes", 1),
        ("This is it", 3),
        ("internationally", 3),  # 1, and 11 bytes behind the first 4
        ("1912", 3),
        ("a, b; c", 5),
        ("Straße", 2),
        ("x\n\n\n    y", 4),  # a run of line ends and one of spaces
    ],
)
def test_tokens_are_estimated_by_words_digits_and_signs(text: str, tokens: int) -> None:
    assert about_tokens(text) == tokens


WORD = st.text(st.characters(categories=["L"]), min_size=1, max_size=12)


@given(st.lists(WORD, max_size=30), st.lists(WORD, max_size=30))
def test_more_text_is_more_tokens_and_each_word_is_one_at_least(some: list[str], more: list[str]) -> None:
    least, most = about_tokens(" ".join(some)), about_tokens(" ".join([*some, *more]))
    assert len(some) <= least <= most
    assert most - least >= len(more) - 1  # what is rounded up once


def test_a_field_has_bounds_in_tokens() -> None:
    dice = random.Random()
    for _ in range(50):
        number, least = dice.randrange(1, 60), dice.randrange(1, 60)
        most = least + dice.randrange(20)
        row = {**dict.fromkeys(ROW_COLUMNS), "question": "Why is it?", "answer": " ".join(["word"] * number)}
        verdict = out_of_bounds(row, parse_bounds([f"answer {least}..{most} tokens"]))
        wanted = "too_short" if number < least else "too_long" if number > most else None
        assert (verdict and verdict[0]) == wanted
    row["answer"] = "word " * 613
    for setting, verdict in {
        "answer 5..512 tokens": ("too_long", "answer: about 613 tokens, the most is 512"),
        "answer 1000.. tokens": ("too_short", "answer: about 613 tokens, the least is 1,000"),
        "all ..616 tokens": ("too_long", "all: about 617 tokens, the most is 616"),
        "all ..617 tokens": None,
        "context 5.. tokens": None,
        "answer ..3065 bytes": None,
        "answer ..3064 bytes": ("too_long", "answer: 3,065 bytes, the most is 3,064"),
    }.items():
        assert out_of_bounds(row, parse_bounds([setting])) == verdict, setting


COUNTED = {  # file -> least share of rows whose estimate is within 25% of a vocabulary's count
    "human/gsm8k_train.jsonl.gz": 0.95,
    "llm/alpaca_5000.json.gz": 0.9,
    "human/medquad_gard.csv.gz": 0.95,
    "multilingual/xquad.hi.json.gz": 0.95,
    "multilingual/xquad.th.json.gz": 0.7,
}


@needs_corpora
@pytest.mark.parametrize("path", COUNTED)
def test_estimates_are_near_what_a_vocabulary_counts(path: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    one = check_sources([source(path)])[0]
    rows = [row for file in list_files(one, Path()) for row in read_file(file, one)]
    texts = ["\n".join(row[name] for name in ("context", "question", "answer") if row[name]) for row in rows]
    random.Random(1).shuffle(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8192, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts[:700], trainer)
    counts = [len(encoded.ids) for encoded in tokenizer.encode_batch(texts[-300:])]
    near = [abs(about_tokens(text) / count - 1) <= 0.25 for text, count in zip(texts[-300:], counts, strict=True)]
    assert sum(near) / len(near) >= COUNTED[path]


@needs_corpora
def test_posts_are_filtered_by_score_licence_and_tokens_from_the_command_line(tmp_path: Path) -> None:
    """Word problems as the posts of a question-and-answer site, with scores and licences drawn by lot."""
    dice = random.Random(4)
    with gzip.open(Path(CORPORA) / "human" / "gsm8k_train.jsonl.gz", "rt", encoding="utf-8") as file:
        posts = [
            {"Score": dice.choice([*range(-3, 9), ""]), "ContentLicense": dice.choice(["CC BY-SA 4.0", "CC0", "none"]),
             "Title": row["question"], "Body": f"<p>{row['answer']}</p>"}
            for row in map(json.loads, list(file)[:400])
        ]  # fmt: skip
    with (tmp_path / "posts.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(posts[0]))
        writer.writeheader()
        writer.writerows(posts)
    (tmp_path / "posts.toml").write_text(
        '[[source]]\npath = "posts.csv"\nquestion = "Title"\nanswer = "Body"\n'
        'keep_if = ["Score >= 3", "ContentLicense in CC BY-SA 4.0, CC0"]\n'
        '[prepare]\nsteps = ["html_to_text", "empty", "length"]\nlengths = ["answer 40..150 tokens"]\n'
    )
    line = [sys.executable, str(ROOT / "data" / "prepare.py"), "--config", "posts.toml"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    good = [p for p in posts if p["Score"] != "" and p["Score"] >= 3 and p["ContentLicense"] != "none"]
    sizes = [about_tokens(html_to_text(post["Body"])) for post in good]
    reasons = json.loads((tmp_path / "runs/posts/corpus/manifest.json").read_text())["quarantine"]["reasons"]
    assert reasons == {
        "filtered": len(posts) - len(good),
        "too_short": sum(size < 40 for size in sizes),
        "too_long": sum(size > 150 for size in sizes),
    }
    assert min(reasons.values()) > 0


# -- real text

MENDED = {  # file -> texts that are mojibake, each looked at
    "llm/codealpaca_new.json.gz": 2,
    "llm/chatdoctor5k.json.gz": 7,
    "human/opentriviaqa.csv.gz": 1,
    "multilingual/xquad.ar.json.gz": 62,
}


@needs_corpora
def test_of_all_real_text_only_mojibake_is_mended(capsys: pytest.CaptureFixture[str]) -> None:
    seen, mended = 0, {}
    for path in FILES:
        if "legacy" in path:
            continue
        one = check_sources([source(path)])[0]
        rows = (row for file in list_files(one, Path()) for row in read_file(file, one))
        texts = [row[name] for row in rows for name in ("text", "context", "question", "answer") if row[name]]
        seen += len(texts)
        if changed := sum(fix_mojibake(text) != text for text in texts):
            mended[path] = changed
    with capsys.disabled():
        print(f"\nmojibake: {sum(mended.values())} of {seen:,} texts mended: {mended}")
    assert seen > 200_000
    assert mended == MENDED


@needs_corpora
def test_html_of_real_instructions_is_only_touched_where_it_is_html() -> None:
    with gzip.open(Path(CORPORA) / "llm" / "codealpaca_new.json.gz", "rt", encoding="utf-8") as file:
        texts = [row["output"] for row in json.load(file)]
    code = [text for text in texts if "#include <" in text or "List<" in text or "vector<" in text]
    assert len(code) > 20
    assert [text for text in code if "</" not in text and html_to_text(text) != text] == []
