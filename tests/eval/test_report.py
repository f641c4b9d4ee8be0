"""The page: asks nothing of anyone, shows what it is given as text, follows the reader's theme."""

import copy
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.charts import curves_of
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import read_manifest
from eval.report import SIDE_BY_SIDE, data_funnel, settings_table, write_page
from tests.eval.conftest import make_rows, make_run

NASTY = "<script>alert('x')</script> & <img src=http://evil.example/x> \"{{ 7 * 7 }}\""


@pytest.fixture(scope="module")
def result(run: Path, quick: EvalConfig) -> dict[str, Any]:
    result = compare([run / "ckpt1", run / "ckpt2"], quick)
    item = result["answers"][0]
    item |= {"question": NASTY, "reference": NASTY, "context": NASTY}
    item["answers"][0]["text"] = NASTY
    result["notes"].append(NASTY)
    return result


@pytest.fixture(scope="module")
def page(run: Path, result: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, result, curves_of([run / "ckpt1", run / "ckpt2"]), [read_manifest(run / "corpus")])
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def many_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one checkpoint more than has room beside each other, with difficulties."""
    train, test = (
        [{**row, "difficulty": ("hard", "easy", "medium")[i % 3]} for i, row in enumerate(make_rows(number, seed))]
        for number, seed in ((120, 3), (48, 4))
    )
    steps = (2, 6, *[2] * (SIDE_BY_SIDE - 1))
    return make_run(tmp_path_factory.mktemp("work") / "runs" / "many", train, test, steps=steps)


@pytest.fixture(scope="module")
def many(many_run: Path) -> dict[str, Any]:
    paths = [many_run / f"ckpt{k + 1}" for k in range(SIDE_BY_SIDE + 1)]
    settings = EvalConfig(resamples=1000, num_answers=24, max_new_tokens=12, device="cpu")
    return compare(paths, settings)


@pytest.fixture
def rendered(many_run: Path, tmp_path: Path) -> Callable[..., str]:
    """Page of a result, with another manifest where one is given."""

    def write(result: dict[str, Any], manifest: dict[str, Any] | None = None) -> str:
        manifest = read_manifest(many_run / "corpus") if manifest is None else manifest
        write_page(tmp_path / "p.html", result, curves_of([many_run / "ckpt1"]), [manifest])
        return (tmp_path / "p.html").read_text(encoding="utf-8")

    return write


class Tags(HTMLParser):
    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def tags(page: str) -> Tags:
    return parsed(page)


def test_the_page_fetches_nothing_and_runs_nothing(page: str, tags: Tags) -> None:
    fetches_nothing(page, tags)


def test_the_page_of_many_checkpoints_fetches_nothing(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    page = rendered(many)
    fetches_nothing(page, parsed(page))


def parsed(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser


def fetches_nothing(page: str, tags: Tags) -> None:
    for tag, attributes in tags.seen:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    style = " ".join(re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.DOTALL))
    assert "@import" not in style
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_what_comes_from_data_is_text(page: str, tags: Tags) -> None:
    assert "".join(tags.text).count(NASTY) == 5  # question, reference, context, answer, note: as they were written
    assert "<script" not in page
    assert "<img" not in page


def test_colours_of_the_drawings_follow_the_theme(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    drawings = re.findall(r"<svg[^>]*? role.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 2
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    for drawing in drawings:
        colours = set(re.findall(r"(?:fill|stroke|color): ([^;\"]+)", drawing))
        assert all(colour == "none" or colour.startswith("var(--") for colour in colours), colours
    light, dark = page.split("prefers-color-scheme", 1)
    for variable in used:
        assert f"{variable}:" in light
        assert f"{variable}:" in dark.split("</style>")[0]


def test_ids_are_unique_and_used_ones_exist(page: str) -> None:
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert max(ids.values()) == 1
    used = {*re.findall(r'href="#([^"]+)"', page), *re.findall(r"url\(#([^)]+)\)", page)}
    assert used <= set(ids)


def test_the_page_names_both_checkpoints_on_the_loss_curve(page: str, run: Path) -> None:
    (curve,) = curves_of([run / "ckpt1", run / "ckpt2"])
    assert [name for _, name, _, _ in curve.marked] == ["ckpt1", "ckpt2"]
    assert curve.val_x == sorted(curve.val_x)
    drawing = page[page.index("<svg") : page.index("</svg>")]
    assert "ckpt1" in drawing
    assert "ckpt2" in drawing


def test_the_same_result_gives_the_same_page(run: Path, result: dict[str, Any], page: str, tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", result, curves_of([run / "ckpt1", run / "ckpt2"]), [read_manifest(run / "corpus")])
    assert (tmp_path / "p.html").read_text(encoding="utf-8") == page


def test_other_tokenizers_are_marked_on_the_page(result: dict[str, Any], run: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", {**result, "perplexity_comparable": False}, [], [read_manifest(run / "corpus")])
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    marked = f"{result['checkpoints'][0]['val_ppl']:.2f} *"
    assert marked in text
    assert "not comparable" in text


def test_a_run_without_a_log_has_no_curve_but_a_page(run: Path, result: dict[str, Any], tmp_path: Path) -> None:
    assert curves_of([tmp_path / "ckpt1"]) == []
    write_page(tmp_path / "p.html", result, [], [read_manifest(run / "corpus")])
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count('role="img"') == 1


def test_settings_that_differ_are_told_from_those_that_do_not() -> None:
    table = settings_table(
        [{"config": {"train": {"lr": 0.1, "seed": 0}}}, {"config": {"train": {"lr": 0.2, "seed": 0}}}]
    )
    assert table == [("train.lr", [0.1, 0.2], True), ("train.seed", [0, 0], False)]


# -- bars by category and difficulty


def drawn(page: str, caption: str) -> str:
    """The figure with this caption."""
    (figure,) = [each for each in re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL) if caption in each]
    return figure


@pytest.mark.parametrize("label", ["category", "difficulty"])
def test_bits_per_byte_have_bars_with_their_figures(
    many: dict[str, Any], rendered: Callable[..., str], label: str
) -> None:
    figure = drawn(rendered(many), f"Bits per byte by {label}")
    told = sorted(many["breakdown"][label], key=lambda of: -of["documents"])[:8]
    expected = []
    for of in told:
        for k, bpb in enumerate(of["bpb"]):
            span = " [{:.4f}, {:.4f}]".format(*of["ci95"][k]) if of["ci95"] else ""
            expected.append(f"ckpt{k + 1}: {bpb:.4f}{span}")
    titles = re.findall(r"<title>(.*?)</title>", figure)
    assert sorted(titles) == sorted(expected)
    assert figure.count('class="s0') == len(told)
    left_out = sum(of["documents"] for of in many["breakdown"][label]) - sum(of["documents"] for of in told)
    assert bool(left_out) == (label == "category")
    assert (f"the 8 largest; {left_out} of 48 documents are of others" in figure) == bool(left_out)


@pytest.mark.parametrize("label", ["category", "difficulty"])
def test_scores_have_bars_with_the_best_baseline(
    many: dict[str, Any], rendered: Callable[..., str], label: str
) -> None:
    titles = re.findall(r"<title>(.*?)</title>", drawn(rendered(many), f"F1 by {label}"))
    parts = sorted(many["scores"][0][f"by_{label}"], key=lambda part: -part["num_questions"])[:8]
    cells = [part["scores"]["token_f1"] for part in parts if "token_f1" in part["scores"]]
    of_first = [title for title in titles if title.startswith("ckpt1: ")]
    best = [max(mean for mean in cell["baselines"].values() if mean is not None) for cell in cells]
    assert sorted(title.split("best baseline ")[1] for title in of_first) == sorted(f"{mean:.2f}" for mean in best)
    assert len(titles) == len(cells) * len(many["checkpoints"])


def test_without_categories_there_are_no_bars(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    assert 'class="group"' in rendered(many)
    bare = copy.deepcopy(many)
    for label in ("category", "difficulty"):
        del bare["breakdown"][label]
        for table in bare["scores"]:
            table[f"by_{label}"] = []
    page = rendered(bare)
    assert 'class="group"' not in page
    assert 'class="legend"' not in page
    assert "<summary>by length" in page


def test_names_of_categories_and_reasons_are_text(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    hostile = copy.deepcopy(many)
    hostile["breakdown"]["category"][0]["value"] = NASTY
    for table in hostile["scores"]:
        table["by_category"][0]["name"] = NASTY
    manifest = {"rows_read": 9, "quarantine": {"rows": 1, "reasons": {NASTY: 1}, "first": {NASTY: NASTY}},
                "notes": {NASTY: 1}, "sources": [{"name": NASTY, "rows": 1, "files": 1, "weight": 1.0}] * 2,
                "splits": {NASTY: {"documents": 8, "bytes": 9}}}  # fmt: skip
    page = rendered(hostile, manifest)
    assert "<script" not in page
    assert "<img" not in page
    text = "".join(parsed(page).text)
    assert text.count(NASTY) >= 5  # split, note, both sources, where the first row of the reason stands
    assert text.count(NASTY[:30]) >= 9  # and cut: bars and tables of two breakdowns


# -- stepping through checkpoints


def test_of_many_checkpoints_one_at_a_time_is_shown(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    page = rendered(many)
    names = [checkpoint["name"] for checkpoint in many["checkpoints"]]
    radios = [attributes for tag, attributes in parsed(page).seen if tag == "input"]
    assert [radio["id"] for radio in radios] == [f"shown-{k}" for k in range(len(names))]
    assert {(radio["type"], radio["name"]) for radio in radios} == {("radio", "shown")}
    best = min(range(len(names)), key=lambda k: many["checkpoints"][k]["val_bpb"])
    assert ["checked" in radio for radio in radios] == [k == best for k in range(len(names))]
    tabs = page[page.index('role="radiogroup"') :]
    assert re.findall(r"</span>(.*?)</label>", tabs) == names
    rules = re.findall(r":has\(#shown-(\d+):checked\) \.step:nth-child\((\d+)\)", page)
    assert rules == [(str(k), str(k + 1)) for k in range(len(names))]
    steps = page.split('<div class="steps">')[1:]
    assert len(steps) == len(many["answers"])
    for one, item in zip(steps, many["answers"], strict=True):
        shown = re.findall(r'<div class="step"><h3>.*?</span>(\w+)</span>', one)
        assert shown == [said["checkpoint"] for said in item["answers"]] == names


def test_where_has_is_not_known_and_on_paper_every_answer_is_visible(
    many: dict[str, Any], rendered: Callable[..., str]
) -> None:
    style = rendered(many).split("</style>")[0]
    before, inside = style.split("@supports selector(:has(a)) {", 1)
    assert "visibility" not in before
    assert inside.index("@media screen") < inside.index("visibility: hidden")


def test_few_checkpoints_stand_side_by_side(page: str) -> None:
    assert "<input" not in page
    assert 'class="step' not in page
    assert "visibility" not in page


# -- the data


MANIFEST = {
    "rows_read": 100, "pieces_added": 6, "canaries": {"rows": 4}, "config": {"steps": ["empty", "exact_duplicate"]},
    "quarantine": {"rows": 20, "first": {"empty": "q.csv:7: answer is empty"},
                   "reasons": {"gap": 2, "exact_duplicate": 10, "broken_json": 5, "empty": 3}},
    "splits": {"train": {"documents": 72, "bytes": 7200}, "val": {"documents": 9, "bytes": 900},
               "test": {"documents": 9, "bytes": 900}},
}  # fmt: skip


def test_the_funnel_leads_from_the_rows_read_to_the_documents() -> None:
    funnel = data_funnel(MANIFEST)
    assert [(step["title"], step["lost"], step["rows"]) for step in funnel] == [
        ("Read", 0, 100), ("Blocks of cut texts", -6, 106), ("Planted canaries", -4, 110), ("Broken json", 5, 105),
        ("Empty", 3, 102), ("Exact duplicates", 10, 92), ("Gap", 2, 90),
    ]  # fmt: skip
    assert funnel[0]["left"] == pytest.approx(100 / 110)
    assert funnel[5]["left"] + funnel[5]["taken"] == pytest.approx(102 / 110)


def test_the_page_shows_the_funnel_of_the_corpus(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    data = rendered(many, MANIFEST).split("<h2>Data</h2>")[1].split("<h2>Checkpoints</h2>")[0]
    rows = [", ".join(filter(None, map(str.strip, parsed(row).text)))
            for row in re.findall(r"<li>.*?</li>", data, flags=re.DOTALL)]  # fmt: skip
    assert rows[:3] == ["Read, 100 rows", "Blocks of cut texts, 106 rows, 6 more", "Planted canaries, 110 rows, 4 more"]
    assert rows[5] == "Exact duplicates, 92 rows, took 10 (9.1%)"
    assert rows[7:10] == ["→ train, 72 documents, 80%, 7,200 bytes", "→ val, 9 documents, 10%, 900 bytes",
                          "→ test, 9 documents, 10%, 900 bytes"]  # fmt: skip
    assert rows[10] == "Empty: q.csv:7: answer is empty"


def test_a_manifest_that_says_nothing_has_no_funnel(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    page = rendered(many, {})
    assert 'class="rows funnel"' not in page
    assert 'class="key left"' not in page
    assert many["held_out"]["corpora"][0] in page


def test_the_same_many_give_the_same_page(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    assert rendered(many, MANIFEST) == rendered(copy.deepcopy(many), MANIFEST)


def test_of_many_verdicts_the_closest_stand_first(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    best = min(many["checkpoints"], key=lambda checkpoint: checkpoint["val_bpb"])["name"]
    deltas = (-0.5, 0.04, -0.3, 0.1, -0.002)
    pairs = [{**many["pairs"][0], "a": best, "b": f"x{delta}", "delta_bpb": delta, "verdict": f"verdict {delta}: why"}
             for delta in deltas]  # fmt: skip
    page = rendered({**many, "pairs": pairs})
    shown = re.findall(r"<strong>verdict ([-.\d]+)</strong>|<summary>against (\d+) more", page)
    assert ["".join(each) for each in shown] == ["-0.002", "0.04", "0.1", "2", "-0.3", "-0.5"]


def test_a_setting_that_is_the_same_for_all_stands_once(many: dict[str, Any], rendered: Callable[..., str]) -> None:
    one = rendered(many)
    assert one.count('<td colspan="4">tiny</td>') == 1
    other = copy.deepcopy(many)
    other["checkpoints"][3]["config"]["model"]["preset"] = "small"
    two = rendered(other)
    assert '<td colspan="4">tiny</td>' not in two
    assert two.count("<td>tiny</td>") == 3
    assert two.count("<td>small</td>") == 1
