"""Lines and pages of an audit: they fit, they ask nothing of anyone, and what a corpus holds is shown as text."""

import base64
import hashlib
import re
import tomllib
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from data.report.comparison import compare_lines, comparison, write_comparison
from data.report.pieces import SHOWN, bare, differing, excerpt, visible
from data.report.summary import COLUMNS, LINES, terminal_summary, write_page
from data.report.view import (
    KINDS,
    balance_view,
    cluster_view,
    example_view,
    funnel_view,
    histogram_view,
    percent,
    settings_view,
    size,
    skeleton_view,
    source_view,
)
from tests.data.report.made_audits import CORPORA, EMPTY, NASTY, Audit, hostile_audit, real_audit

needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder")


class Tags(HTMLParser):
    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.marks: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "mark" in self.open:
            self.marks[-1] += data


def page_of(audit: Audit, folder: Path) -> str:
    write_page(audit, folder / "audit.html")
    return (folder / "audit.html").read_text(encoding="utf-8")


def comparison_of(audit: Audit, against: Audit, folder: Path) -> str:
    write_comparison(audit, against, folder / "comparison.html")
    return (folder / "comparison.html").read_text(encoding="utf-8")


def cells(line: str) -> int:
    """Columns of a terminal: two of wide characters, none of marks upon others (a Hindi vowel is one, of class 0)."""
    upon = [bool(unicodedata.combining(c)) or unicodedata.category(c) in ("Mn", "Me") for c in line]
    return sum(
        0 if none else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c, none in zip(line, upon, strict=True)
    )


def fits(lines: list[str]) -> bool:
    return 0 < len(lines) <= LINES and all(cells(line) <= COLUMNS and line.isprintable() for line in lines)


@pytest.fixture(scope="module")
def real() -> Audit:
    return real_audit()


# -- the page


@pytest.mark.parametrize("number", range(4))
def test_the_pages_fetch_nothing_and_run_nothing(number: int, tmp_path: Path) -> None:
    audit = [hostile_audit(), *EMPTY, hostile_audit("\u202e\u2066ab\x00c\x1b[31m\ud800 d\u200be")][number]
    for page in (page_of(audit, tmp_path), comparison_of(audit, EMPTY[1], tmp_path)):
        tags = Tags(page)
        for tag, attributes in tags.seen:
            assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form", "a href")
            assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes)
            assert (attributes.get("href") or "#").startswith("#")
        style = re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.DOTALL)
        assert len(style) == 1
        assert "@import" not in style[0]
        assert "url(" not in style[0]


def test_the_policy_names_the_stylesheet_and_allows_nothing_else(tmp_path: Path) -> None:
    page = page_of(EMPTY[1], tmp_path)
    (policy,) = [a["content"] for tag, a in Tags(page).seen if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert allowed == {
        "default-src": "'none'", "style-src": f"'sha256-{digest}'", "base-uri": "'none'", "form-action": "'none'"
    }  # fmt: skip


def test_what_comes_from_a_corpus_is_text(tmp_path: Path) -> None:
    page = page_of(hostile_audit(), tmp_path)
    for end in ("<script", "<img", "{{"):
        assert end not in page.replace('"{{ 7 * 7 }}', "").replace("&#34;{{ 7 * 7 }}", "")
    assert Tags(page).text.count(NASTY) > 100
    assert len(page) < 6_000_000  # of texts that are 50,000 characters each, in hundreds of places
    compared = comparison_of(hostile_audit(), EMPTY[1], tmp_path)
    assert "<script" not in compared
    assert NASTY in Tags(compared).text


def test_characters_that_cannot_be_seen_are_shown_as_code_points(tmp_path: Path) -> None:
    page = page_of(hostile_audit("a\u202eb\x1bc\u200bd\ud800e\r\nf\x00"), tmp_path)
    for shown_as in ("U+202E", "U+001B", "U+200B", "U+D800", "U+0000"):
        assert shown_as in page
    assert not set("\u202e\x1b\u200b\x00\r") & set(page)


def test_joiners_are_right_in_words_and_shown_in_evidence(tmp_path: Path) -> None:
    text = "می\u200cخواهم and \u200dthis"
    row = {"row": "f:1", "answer": text, "span": [text.index("\u200d"), text.index("\u200d") + 2], "field": "answer"}
    each = {"kind": "control_characters", "source": "s", "count": 1, "share": 1.0, "examples": [row]}
    tags = Tags(page_of({**EMPTY[1], "findings": [each]}, tmp_path))
    assert "می\u200cخواهم" in tags.text
    assert tags.marks == ["U+200Dt"]


@needs_corpora
def test_a_page_of_real_rows_shows_what_was_found(real: Audit, tmp_path: Path) -> None:
    tags = Tags(page_of(real, tmp_path))
    for each in real["findings"]:
        assert KINDS[each["kind"]][0] in tags.text
        assert each["setting"] in tags.text
        for example in each["examples"]:
            if example["span"]:
                start, end = example["span"]
                assert example[example["field"]][start:end].strip() in "".join(tags.marks)
    for source in real["sources"]:
        assert f"{source['rows']:,}" in tags.text
    for row in [*real["sample"]["kept"], *real["sample"]["dropped"]]:
        assert row["row"] in tags.text
    assert "Human Phenotype Ontology provides" in tags.text
    ids = Counter(a["id"] for _, a in tags.seen if "id" in a)
    assert max(ids.values()) == 1
    assert {a["href"] for _, a in tags.seen if a.get("href")} <= {f"#{name}" for name in ids}


@needs_corpora
def test_the_same_audit_gives_the_same_page(real: Audit, tmp_path: Path) -> None:
    assert page_of(real, tmp_path) == page_of(real_audit(), tmp_path)


def test_colours_stand_in_both_themes() -> None:
    css = (Path(__file__).parents[3] / "data/report/templates/audit.css").read_text(encoding="utf-8")
    light, dark = css.split("prefers-color-scheme: dark", 1)
    used = set(re.findall(r"var\((--[\w-]+)\)", css))
    assert used
    for variable in used:
        assert f"{variable}:" in light
        assert f"{variable}:" in dark


def test_an_installed_copy_has_its_templates() -> None:
    root = Path(__file__).parents[3]
    packed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    for package, place in (("data.report", "data/report"), ("eval", "eval")):
        files = {path.relative_to(root / place) for path in (root / place / "templates").iterdir()}
        assert files
        assert files == {
            path.relative_to(root / place) for glob in packed[package] for path in (root / place).glob(glob)
        }


# -- the terminal


@needs_corpora
def test_the_summary_of_real_rows_fits_and_starts_with_the_grade(real: Audit) -> None:
    lines = terminal_summary(real)
    assert fits(lines)
    assert lines[0].startswith(
        f"grade {real['grade']['letter']}: {percent(real['grade']['usable_share'])} of the tokens"
    )
    assert lines[1].endswith(real["grade"]["reasons"][0])
    text = "\n".join(lines)
    for each in real["findings"]:
        assert re.search(rf"^  {each['kind']} +{each['source']} +{each['count']:,} ", text, flags=re.MULTILINE)
        assert each["setting"] in text
    assert real["findings"][0]["advice"] in text


@pytest.mark.parametrize("audit", [*EMPTY, hostile_audit(), hostile_audit("\x1b[31m\u202e数据" * 30)])
def test_any_summary_fits_and_steers_no_terminal(audit: Audit) -> None:
    assert fits(terminal_summary(audit))
    for other in (EMPTY[1], hostile_audit("new\n\x1b[2J")):
        assert fits(compare_lines(audit, other))
        assert fits(compare_lines(other, audit))


@given(st.integers(0, 60), st.integers(0, 25), st.integers(0, 12), st.text(max_size=300))
def test_summaries_fit_however_much_was_found(findings: int, steps: int, sources: int, text: str) -> None:
    audit = {
        **EMPTY[1],
        "rows": 10**12,
        "tokens": 10**15,
        "grade": {"letter": "F", "usable_share": 0.01, "reasons": [text] * 9},
        "findings": [{"kind": f"{text}{n}", "source": text, "count": n, "share": 0.5, "advice": text, "setting": text}
                     for n in range(findings)],
        "funnel": [{"step": f"{text}{n}", "rows": 10**12 - n * 10**9, "tokens": 10**15} for n in range(steps)],
        "sources": [{"name": f"{text}{n}", "kind": "qa", "rows": 10**12, "bytes": 10**15, "tokens": 10**15, "share": 1}
                    for n in range(sources)],
        "lengths": {name: {"rows": 1, "mean": 0.5} for name in ["all", *(f"{text}{n}" for n in range(sources))]},
    }  # fmt: skip
    assert fits(terminal_summary(audit))
    assert fits(compare_lines(audit, EMPTY[1]))
    assert fits(compare_lines(EMPTY[0], audit))


def test_steps_and_findings_that_do_not_fit_are_counted() -> None:
    each = {"source": "s", "share": 0.1, "advice": "do this", "setting": "x = 1"}
    audit = {**EMPTY[1], "rows": 100, "findings": [{"kind": f"kind{n}", "count": n, **each} for n in range(1, 60)],
             "funnel": [{"step": f"step{n}", "rows": 100 - n, "tokens": 1} for n in range(20)]}  # fmt: skip
    text = "\n".join(terminal_summary(audit))
    listed = re.findall(r"^  kind\d+ ", text, flags=re.MULTILINE)
    assert 59 - len(listed) == int(re.findall(r"and (\d+) more findings", text)[0])
    assert "kind59 " in listed[0]  # the one with most rows
    steps = re.findall(r"^  step\d+ ", text, flags=re.MULTILINE)
    assert 20 - len(steps) == int(re.findall(r"and (\d+) steps", text)[0])
    assert steps[-1] == "  step19 "


# -- two versions


def version(rows: int, usable: float, kinds: dict[str, int], sources: dict[str, int]) -> Audit:
    found = [{"kind": kind, "source": "s", "count": number, "share": number / rows} for kind, number in kinds.items()]
    steps = [{"step": kind, "rows": rows - number, "tokens": 1} for kind, number in kinds.items()]
    return {
        **EMPTY[1],
        "rows": rows,
        "tokens": rows * 100,
        "grade": {"letter": "C", "usable_share": usable, "reasons": []},
        "findings": found,
        "sources": [{"name": name, "rows": number, "bytes": number} for name, number in sources.items()],
        "funnel": [{"step": "read", "rows": rows, "tokens": rows}, *steps],
    }


def test_a_comparison_goes_from_the_other_version_to_this_one(tmp_path: Path) -> None:
    before = version(1000, 0.06, {"template": 590, "empty": 600}, {"a": 600, "b": 400})
    after = version(500, 0.71, {"empty": 505, "pii": 10}, {"b": 400, "c": 100, "a": 0})
    change = comparison(after, before)
    assert change["word"] == "better"
    assert comparison(before, after)["word"] == "worse"
    assert comparison(before, before)["word"] == "as good"
    assert {kind["kind"]: (kind["before"], kind["after"]) for kind in change["kinds"]} == {
        "template": (0.59, 0.0), "empty": (0.6, 1.0), "pii": (0.0, 0.02)
    }  # fmt: skip
    assert [kind["kind"] for kind in change["kinds"]] == ["template", "empty", "pii"]  # by size of change
    assert [(sign, name) for sign, name, _ in change["sources"]] == [("+", "c"), ("~", "a"), ("=", "b")]
    assert comparison(before, after)["sources"][0][:2] == ("-", "c")
    lines = compare_lines(after, before)
    assert "6.0% -> 71%" in lines[0]
    assert any(re.fullmatch(r"  template +590 +59% +0 +0% +-59\.0", line) for line in lines)
    assert any(re.fullmatch(r"rows +1,000 +500 +-500 \(-50%\)", line) for line in lines)
    text = Tags(comparison_of(after, before, tmp_path)).text
    assert "6.0% → 71%" in text
    assert "Templates" in text


def test_steps_of_two_versions_stand_in_the_order_of_both() -> None:
    before = version(100, 0.5, {"empty": 10, "pii": 30}, {})
    after = version(200, 0.5, {"empty": 10, "template": 50, "pii": 60}, {})
    steps = comparison(after, before)["steps"]
    assert [step["step"] for step in steps] == ["read", "empty", "template", "pii"]
    assert [(step["rows_before"], step["rows_after"]) for step in steps] == [
        (100, 200),
        (90, 190),
        (90, 150),
        (70, 140),
    ]


def test_versions_that_do_not_compare_say_so() -> None:
    one = version(10, 0.5, {}, {})
    assert comparison(one, one)["notes"] == []
    other = {**one, "tokens_estimated": False, "seq_len": 1024}
    assert len(comparison(one, other)["notes"]) == 2


# -- what the pages are made of


@given(st.text(max_size=900), st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-5, 1000)), max_size=3)))
def test_an_excerpt_is_the_text_and_marks_the_span(text: str, span: list[int | None] | None) -> None:
    pieces = excerpt(text, span, limit=300)
    plain = "".join(part for part, kind in pieces if kind != "cut")
    assert plain in text
    assert len(plain) == min(len(text), 300)
    marks = [part for part, kind in pieces if kind == "mark"]
    start, end = [*(span or []), None, None][:2]
    if start is not None and end is not None and 0 <= start < end and start < len(text):
        assert len(marks) == 1
        assert text[start:end].startswith(marks[0])
        assert end - start > 200 or marks[0] == text[start:end]
    else:
        assert marks == []


@given(st.text("ab c,數", max_size=80), st.text("ab c,數", max_size=80))
def test_differing_words_are_marked_and_the_rest_is_equal(a: str, b: str) -> None:
    first, second = differing(a, b)
    assert "".join(part for part, _ in first) == a
    assert "".join(part for part, _ in second) == b
    same = ["".join(part for part, kind in side if not kind) for side in (first, second)]
    assert same[0] == same[1]
    assert (a == b) == (not any(kind for _, kind in [*first, *second]))


def test_words_that_differ_are_whole_words() -> None:
    first, second = differing("the cat sat here", "the car sat here")
    assert [part for part, kind in first if kind] == ["cat"]
    assert [part for part, kind in second if kind] == ["car"]


@given(st.text("a<&\r\n \x00\x1f\u202e\u200b\u200d\ud800\ue000\U000e0041é數"))
def test_shown_text_is_the_text_with_boxes_for_what_cannot_be_seen(text: str) -> None:
    page = f"<p>{escape(visible(text))}</p>"
    assert not set(page) & set("\x00\x1f\u202e\u200b\ud800\ue000\U000e0041")
    box = r'<span class="code-point">U\+([0-9A-F]{4,6})</span>'
    opened = re.sub(box, lambda found: chr(int(found[1], 16)), page)
    assert opened == f"<p>{escape(text.replace(chr(13) + chr(10), chr(10)))}</p>"


def test_clusters_show_texts_that_stand_elsewhere_in_the_audit() -> None:
    known = {"f:1": {"row": "f:1", "text": "one two"}, "f:2": {"row": "f:2", "text": "one three"}}
    view = cluster_view({"count": 3, "rows": ["f:1", "f:2", "f:3"]}, known)
    assert view["shape"] == "members"
    assert [member["fields"] for member in view["members"]] == [
        [("text", [("one ", ""), ("two", "differs")])],
        [("text", [("one ", ""), ("three", "differs")])],
    ]
    assert cluster_view({"count": 3, "rows": ["f:1"]}, {})["shape"] == "rows"


def test_the_line_of_seq_len_stands_between_what_fits_and_what_does_not() -> None:
    edges: list[tuple[int, int | None]] = [(0, 128), (129, 256), (257, 384), (385, 512), (513, None)]
    buckets = [{"from": low, "to": high, "rows": 10} for low, high in edges]
    lengths = {"max": 1024, "buckets": buckets}
    for seq_len, least, most in ((512, 4.0, 4.0), (128, 1.0, 1.02), (300, 2.3, 2.4), (1024, 5.0, 5.0), (9999, 5, 5)):
        view = histogram_view(lengths, seq_len)
        assert view is not None
        assert least <= view["line"] / 72 <= most
        assert sum(column["over"] for column in view["columns"]) == sum(low > seq_len for low, _ in edges)
    assert histogram_view({"buckets": [{"from": 0, "to": None, "rows": 0}]}, 512) is None


def test_a_funnel_counts_what_each_step_took() -> None:
    view = funnel_view([{"step": "read", "rows": 200, "tokens": 10}, {"step": "empty", "rows": 150, "tokens": 5},
                        {"step": "pii", "rows": 150, "tokens": 5}])  # fmt: skip
    assert [(step["lost"], step["left"], step["taken"]) for step in view] == [(0, 1, 0), (50, 0.75, 0.25), (0, 0.75, 0)]


def test_recommended_settings_are_toml_of_short_lines() -> None:
    steps = [f"step_{number}" for number in range(40)]
    told = settings_view({"prepare": {"steps": steps, "skip": []}})
    assert max(map(len, told["prepare"])) <= 100
    assert tomllib.loads("\n".join(told["prepare"])) == {"steps": steps, "skip": []}
    assert settings_view(None) == {}


def test_others_come_last() -> None:
    names = [value["name"] for value in balance_view({"(others)": 900, "x": 1, "y": 5, "": 2})]
    assert names == ["y", "(none)", "x", "(others)"]


def test_figures_do_not_round_to_nothing_or_to_all() -> None:
    assert [percent(share) for share in (0, 0.0004, 0.0321, 0.59, 0.9951, 0.9999, 1, None)] == [
        "0%", "<0.1%", "3.2%", "59%", "99.5%", ">99.9%", "100%", "?"
    ]  # fmt: skip
    assert [size(number) for number in (0, 999, 1500, 123_456, 5e9, 3e13, None)] == [
        "0 bytes", "999 bytes", "1.5 kB", "123 kB", "5.0 GB", "30,000 GB", "?"
    ]  # fmt: skip


def test_texts_beyond_what_is_shown_are_counted() -> None:
    text = "w" * (SHOWN + 1234)
    assert excerpt(text)[-1] == (" … 1,234 more characters", "cut")
    low = excerpt(text, [SHOWN + 500, SHOWN + 600])
    assert low[0][1] == "cut"
    assert [kind for _, kind in low].count("mark") == 1


# -- templates


@pytest.mark.parametrize(
    ("fillers", "before", "inner", "behind"),
    [
        (["7,", "12,", "thirty-one,"], "", ["7", "12", "thirty-one"], ","),
        (["$7.", "$1,200."], "$", ["7", "1,200"], "."),
        (["(a)", "(b)"], "(", ["a", "b"], ")"),
        (["7,", "12"], "", ["7", "12"], ""),  # the comma of one row is the sentence's, too
        (["7,", "7"], "", ["7"], ""),
        (["U.S.", "Canada"], "", ["U.S.", "Canada"], ""),  # a full stop may be an abbreviation's
        (["-7", "12"], "", ["-7", "12"], ""),
        (["1,200", "3.5 km, at noon"], "", ["1,200", "3.5 km, at noon"], ""),
        (["...", "7,"], "", ["...", "7,"], ""),
        (["「東京」", "「京都」"], "「", ["東京", "京都"], "」"),
        ([], "", [], ""),
    ],
)
def test_marks_that_all_fillers_have_are_fixed(fillers: list[str], before: str, inner: list[str], behind: str) -> None:
    assert bare(fillers) == (before, inner, behind)


def as_text(pieces: list[Audit]) -> str:
    return "".join(f"[{'|'.join(piece['slot'])}]" if piece["slot"] else piece["fixed"] for piece in pieces)


def test_a_template_reads_as_its_rows_do() -> None:
    [(name, pieces), (other, more)] = skeleton_view(
        {
            "question": [{"fixed": "If"}, {"slot": ["Ann", "Bo"]}, {"fixed": "pays"}, {"slot": ["$7,", "$12,"]},
                         {"fixed": "who wins"}, {"fixed": "?"}],
            "answer": [{"slot": ["Ann,", "Bo,"]}, {"slot": ["x"]}, {"fixed": ", always"}, {"slot": ["now.", "soon."]}],
        }
    )  # fmt: skip
    assert (name, other) == ("question", "answer")
    assert as_text(pieces) == "If [Ann|Bo] pays $[7|12], who wins?"
    [(_, third)] = skeleton_view({"question": [{"fixed": "Doctor"}, {"slot": [", my knee", ", I"]}, {"fixed": "hurt 2"},
                                                {"slot": ["-methyl", "-ethyl"]}]})  # fmt: skip
    assert as_text(third) == "Doctor, [my knee|I] hurt 2-[methyl|ethyl]"
    assert as_text(more) == "[Ann|Bo], [x], always [now|soon]."


def test_slots_of_a_real_template_stand_in_the_page_without_marks_around_them(tmp_path: Path) -> None:
    skeleton = {"question": [{"fixed": "Add"}, {"slot": ["7,", "12,"]}, {"fixed": "and 5"}], "answer": []}
    finding = {"kind": "template", "source": "s", "count": 9, "rows": [], "clusters": [
        {"count": 9, "rows": [], "skeleton": skeleton}]}  # fmt: skip
    page = page_of({"findings": [finding]}, tmp_path)
    assert re.search(r'Add <span class="slot slot-0">7<span class="or">\|</span>12</span>, and 5<', page)


# -- clusters, examples and sources


@pytest.mark.parametrize("more", [{"question": "Why is it?"}, {"questions": ["Why is it?", "Why is it?"]}])
def test_a_question_is_shown_with_its_answers_and_an_answer_with_its_questions(
    more: dict[str, Any], tmp_path: Path
) -> None:
    conflict = {"count": 3, "rows": [], "answers": ["So.", "By law.", "So."], **more}
    view = cluster_view(conflict, {})
    assert view["shape"] == "answers"
    assert view["same"] == [("question", [("Why is it?", "")])]
    assert view["others"] == [("answer 1", [("So.", "")]), ("answer 2", [("By law.", "")])]
    repeated = {"count": 20, "rows": [], "answer": "It depends.", "questions": [f"Question {n}?" for n in range(15)]}
    view = cluster_view(repeated, {})
    assert (view["shape"], view["same"], view["more"]) == ("questions", [("answer", [("It depends.", "")])], 3)
    page = page_of({"findings": [
        {"kind": kind, "source": "s", "count": 20, "rows": [], "clusters": [cluster]}
        for kind, cluster in (("conflicting_answers", conflict), ("repeated_answer", repeated))
    ]}, tmp_path)  # fmt: skip
    text = Tags(page).text
    for shown in ("Why is it?", "By law.", "It depends.", "Question 11?", "and 3 more questions",
                  "Questions with their answers", "Answers with their questions"):  # fmt: skip
        assert shown in text
    assert "Question 12?" not in text


def test_the_commonest_phrase_of_an_example_is_marked(tmp_path: Path) -> None:
    clusters = [
        {"count": 90, "rows": [], "text": "I am not sure,"},
        {"count": 1234, "rows": [], "text": "Hope it helps!"},
    ]
    examples = [
        {"row": "f:1", "answer": "I am not sure, but it is 7. Hope it helps!", "span": None, "detail": ""},
        {"row": "f:2", "answer": "It is 8. Hope it helps!", "span": None, "detail": ""},
        {"row": "f:3", "answer": "It is 9.", "span": None, "detail": ""},
        {"row": "f:4", "answer": "I am not sure, too.", "field": "answer", "span": [15, 18], "detail": "of its own"},
    ]
    finding = {"kind": "boilerplate", "source": "s", "count": 4, "rows": [], "clusters": clusters, "examples": examples}
    tags = Tags(page_of({"findings": [finding]}, tmp_path))
    assert tags.marks == ["I am not sure,", "Hope it helps!", "too"]
    assert "a phrase of 1,234 rows" in tags.text
    assert "of its own" in tags.text


def test_a_text_that_the_audit_cut_says_so() -> None:
    for number, cut in ((599, False), (600, True)):
        [(_, parts)] = example_view({"row": "f:1", "answer": "x" * number})["fields"]
        assert ("…" in [text for text, _ in parts]) is cut


def test_files_that_are_not_listed_are_utf_8() -> None:
    other = {"file": "a.csv", "encoding": "cp1252", "confidence": 0.99}
    assert source_view({"files": 2, "encodings": []})["seen"] == ["utf-8"]
    assert source_view({"files": 2, "encodings": [other]})["seen"] == ["utf-8", "cp1252"]
    assert source_view({"files": 1, "encodings": [other]})["seen"] == ["cp1252"]


def test_one_row_is_no_rows(tmp_path: Path) -> None:
    findings = [{"kind": "markup", "source": "s", "count": number, "rows": [f"f:{n}" for n in range(number)]}
                for number in (1, 2)]  # fmt: skip
    text = Tags(page_of({"findings": findings[:1]}, tmp_path)).text
    assert re.search(r"where they stand: 1 row\b", text)
    assert not re.search(r"\b1 rows", text)
    assert "where they stand: 2 rows" in Tags(page_of({"findings": findings[1:]}, tmp_path)).text
