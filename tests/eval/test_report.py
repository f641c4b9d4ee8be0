"""The page: asks nothing of anyone, shows what it is given as text, follows the reader's theme."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.charts import curves_of
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import read_manifest
from eval.report import settings_table, write_page

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
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_fetches_nothing_and_runs_nothing(page: str, tags: Tags) -> None:
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
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 2
    used = set()
    for drawing in drawings:
        colours = set(re.findall(r"(?:fill|stroke|color): ([^;\"]+)", drawing))
        assert all(colour == "none" or colour.startswith("var(--") for colour in colours), colours
        used |= set(re.findall(r"var\((--[\w-]+)\)", drawing))
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
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count("<svg") == 1


def test_settings_that_differ_are_told_from_those_that_do_not() -> None:
    table = settings_table(
        [{"config": {"train": {"lr": 0.1, "seed": 0}}}, {"config": {"train": {"lr": 0.2, "seed": 0}}}]
    )
    assert table == [("train.lr", [0.1, 0.2], True), ("train.seed", [0, 0], False)]
