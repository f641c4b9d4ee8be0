"""Cleaning steps: each takes what it names and leaves the rest, with evidence; what is fitted sees train alone."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from data.clean import FITTED, STEPS
from data.config import PrepareConfig, check_config
from data.fitting import Training
from data.pipeline import prepare
from data.sources import SourceConfig
from data.steps import cut_boilerplate, fit_stock, fit_templates, repair
from tests.data.made_rows import qa, stored
from tests.data.test_prepare import splits

BASE = ["empty", "too_short", "exact_duplicate"]
LOOP = "and so it goes on and on for ever "


def sentence(rng: random.Random, number: int = 12) -> str:
    words = [
        f"{rng.choice('bdfgklmnprst')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{rng.randrange(90)}"
        for _ in range(number)
    ]
    return " ".join(words).capitalize() + "."


def rows_of(number: int, seed: int = 0) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [{"question": sentence(rng)[:-1] + "?", "answer": f"{sentence(rng)} {sentence(rng)}"} for _ in range(number)]


def cleaned(
    folder: Path, rows: list[dict[str, str]], **settings: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows of all splits, rows in quarantine) after prepare."""
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare([SourceConfig(path="x.jsonl")], PrepareConfig(**settings), folder / "out", folder)
    found = splits(folder / "out")
    return [row for name in ("train", "val", "test") for row in found[name]], found["quarantine"]


@pytest.mark.parametrize(
    ("step", "planted", "evidence"),
    [
        ("repetition", {"answer": "First one thing, then another. " + LOOP * 9}, "in a row"),
        ("refusal", {"answer": "I'm sorry, but as an AI language model I cannot answer that question."}, "machine"),
        ("mojibake", {"answer": "It is the cityâ€™s oldest cafÃ©, and it doesnâ€™t close."}, "another encoding"),
        ("control_characters", {"answer": "The value is \x00\x01 as it was measured here."}, "U+0000"),
        ("markup", {"answer": "<div class='a'><p>The value is as it was measured.</p></div>"}, "HTML"),
        ("pii", {"answer": "Write to anna.berg@kontor-nord.de and ask for the value."}, "mail address"),
        ("secret", {"answer": "Use the key AKIA" + "Q3ZX7PL2MN8RT5WB" + " for the request, it is mine."}, "…"),
    ],
)
def test_a_check_takes_the_rows_that_show_the_sign(
    step: str, planted: dict[str, str], evidence: str, tmp_path: Path
) -> None:
    rows = rows_of(60)
    rows[17] = {**rows[17], **planted}
    kept, quarantined = cleaned(tmp_path, rows, steps=["empty", "too_short", step, "exact_duplicate"])
    assert [(row["reason"], Path(row["origin"]).name) for row in quarantined] == [(step, "x.jsonl:18")]
    assert evidence in quarantined[0]["detail"]
    assert quarantined[0]["answer"] == planted["answer"]  # whole: a secret is masked in the detail alone
    assert len(kept) == 59


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("html_to_text", "<p>Take <code>x &lt; y</code> &amp; go.</p>", "Take `x < y` & go."),
        ("fix_mojibake", "It doesnâ€™t close before six.", "It doesn’t close before six."),
        ("strip_control", "A tab\tstays, a\x00 NUL\x07 goes.", "A tab\tstays, a NUL goes."),
    ],
)
def test_a_repair_changes_the_text_and_keeps_the_row(step: str, before: str, after: str, tmp_path: Path) -> None:
    rows = rows_of(60)
    rows[5]["answer"] = before
    untouched = {row["answer"] for i, row in enumerate(rows) if i != 5}
    kept, quarantined = cleaned(tmp_path, rows, steps=[step, *BASE])
    assert quarantined == []
    assert {row["answer"] for row in kept} == untouched | {after}


def test_furniture_is_cut_from_texts_and_not_from_answers(tmp_path: Path) -> None:
    rng = random.Random(3)
    pages = [[sentence(rng) for _ in range(34)] for _ in range(9)]
    book = "\n".join(
        line for i, page in enumerate(pages, 11) for line in [*page, "", f"THE LAMP AND THE RIVER   {i}", ""]
    )
    for name, text in (("a.txt", book), ("b.txt", "\n".join(sentence(rng) for _ in range(400)))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    config = PrepareConfig(steps=["cut_furniture", *BASE])
    prepare([SourceConfig(path="*.txt", kind="text")], config, tmp_path / "out", tmp_path)
    found = splits(tmp_path / "out")
    together = "".join(row["text"] for rows in found.values() for row in rows)
    assert "THE LAMP" not in together
    assert all(line in together for line in pages[4])
    rows = rows_of(60)
    rows[5]["answer"] = "1\n\nTHE LAMP AND THE RIVER   12\n\n2"
    (tmp_path / "qa").mkdir()
    kept, _ = cleaned(tmp_path / "qa", rows, steps=["cut_furniture", *BASE])
    assert rows[5]["answer"] in {row["answer"] for row in kept}


def test_lengths_bound_fields_in_bytes(tmp_path: Path) -> None:
    rows = rows_of(60)
    rows[3]["answer"], rows[4]["answer"] = "é" * 20, "x" * 900
    kept, quarantined = cleaned(
        tmp_path, rows, steps=["empty", "length", "exact_duplicate"], lengths=["answer 41..800"]
    )
    assert sorted((row["reason"], row["answer"][0]) for row in quarantined) == [("too_long", "x"), ("too_short", "é")]
    assert len(kept) == 58


def test_of_near_duplicates_the_longest_stays(tmp_path: Path) -> None:
    rows = rows_of(60)
    long = " ".join(sentence(random.Random(9)) for _ in range(6))
    rows[10]["answer"], rows[20]["answer"] = long, long + " Nothing more."
    rows[20]["question"] = rows[10]["question"]
    kept, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "near_duplicate"])
    assert [(row["reason"], row["answer"]) for row in quarantined] == [("near_duplicate", long)]
    assert "x.jsonl:21" in quarantined[0]["detail"]
    assert long + " Nothing more." in {row["answer"] for row in kept}


def test_many_near_duplicates_that_nobody_drops_are_spoken_of(tmp_path: Path) -> None:
    rows = rows_of(100)
    for i in range(3):
        long = " ".join(sentence(random.Random(i)) for _ in range(6))
        rows[i]["answer"], rows[50 + i] = long, {"question": rows[i]["question"], "answer": long + " Nothing more."}
    cleaned(tmp_path, rows)
    notes = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["notes"]
    assert [(note.split(":")[0], count) for note, count in notes.items()] == [("nearly copies of others", 3)]
    (tmp_path / "few").mkdir()
    cleaned(tmp_path / "few", rows[:51])  # one of 51
    assert json.loads((tmp_path / "few" / "out" / "manifest.json").read_text(encoding="utf-8"))["notes"] == {}


def templated(number: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    rows = []
    for _ in range(number):
        depth, name = rng.randrange(10**6), sentence(rng, 2)[:-1]
        rows.append({
            "question": f"How many gates does the circuit {name} need when its depth is {depth} in all?",
            "answer": f"The circuit {name} needs {depth * 2} gates in all, because each layer of it holds two gates.",
        })  # fmt: skip
    return rows


def test_of_a_template_so_many_rows_stay_and_other_splits_lose_theirs(tmp_path: Path) -> None:
    rows = [*rows_of(200), *templated(100, 1)]
    random.Random(2).shuffle(rows)
    kept, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "template"], keep=4)
    assert {row["reason"] for row in quarantined} == {"template"}
    assert len(quarantined) == 96
    assert all("circuit" in row["question"] for row in quarantined)
    found = splits(tmp_path / "out")
    assert sum("circuit" in row["question"] for row in found["train"]) == 4
    assert not any("circuit" in row["question"] for row in found["val"] + found["test"])
    assert any("as in the training split" in row["detail"] for row in quarantined)
    assert len(kept) == 204


def test_templated_questions_with_answers_of_their_own_stay(tmp_path: Path) -> None:
    rows = templated(80, 1)
    for row, other in zip(rows, rows_of(80, 5), strict=True):
        row["answer"] = other["answer"]
    kept, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "template"])
    assert quarantined == []
    assert len(kept) == 80


def test_boilerplate_is_cut_out_or_its_rows_are_dropped(tmp_path: Path) -> None:
    stock = "Please consult a doctor before you act on this."
    rows = rows_of(300)
    for row in rows[:40]:
        row["answer"] += " " + stock
    rows[50]["answer"] = f"{stock} {stock}"
    before = {row["answer"] for row in rows[:40]}
    kept, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "cut_boilerplate"])
    assert not any(stock in row["answer"] for row in kept)
    assert {row["answer"] for row in kept} >= {answer.removesuffix(" " + stock) for answer in before}
    assert [row["reason"] for row in quarantined] == ["boilerplate"]  # nothing else was in it
    (tmp_path / "drop").mkdir()
    kept, quarantined = cleaned(tmp_path / "drop", rows, steps=[*BASE, "boilerplate"])
    assert {row["answer"] for row in quarantined} == before | {rows[50]["answer"]}
    assert len(kept) == 259


def test_only_what_leaves_good_text_is_cut(tmp_path: Path) -> None:
    """Lines of programs stay, in a fence and without one; what follows a cut opening begins with a capital."""
    dice = random.Random(5)
    rows = rows_of(400, 6)
    code = "def add(a, b):\n    total = a + b\n    print(total)\n    return total\n\nadd({}, 2)"
    fenced = "This one adds. {}\n```python\nimport numpy as np\nimport pandas as pd\nx = {}\n```"
    for i in range(0, 60):
        rows[i]["answer"] = code.format(i)
    for i in range(60, 120):
        rows[i]["answer"] = fenced.format(rows[i]["answer"], i)
    told = {}
    for i in range(120, 180):
        told[f"{rows[i]['answer'][:1].upper()}{rows[i]['answer'][1:]}"] = i
        rows[i]["answer"] = f"Based on what you say, {rows[i]['answer'][:1].lower()}{rows[i]['answer'][1:]}"
    for i in range(180, 240):  # in the middle of a sentence
        rows[i]["answer"] = (
            f"{dice.choice('ABC')} town that in the year of the great flood had no bridge {rows[i]['answer']}"
        )
    before = {row["question"]: row["answer"] for row in rows}
    kept, quarantined = cleaned(tmp_path, rows, steps=["empty", "cut_boilerplate"])
    assert quarantined == []
    now = {row["question"]: row["answer"] for row in kept}
    assert len(now) == len(rows)
    for i, row in enumerate(rows):
        answer = now[row["question"]]
        if i < 60 or i >= 180:
            assert answer == before[row["question"]]
        elif i < 120:
            assert answer.endswith(before[row["question"]].partition("```")[2])
        else:
            assert answer in told


HTML_ANSWER = "<html>\n<body>\n<p>Hello</p>\n<script>alert(1)</script>\n</body>\n</html>"


@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        ("Write a web page in HTML that says hello.", HTML_ANSWER, HTML_ANSWER),  # as the audit names nothing there
        ("How do I say it in HTML?", "<p>Use <code>&lt;b&gt;</code>.</p>", "Use `<b>`."),  # a post
        ("Who is it?", "It is <b>Ada</b> &amp; nobody else, as far as anybody can tell.",
         "It is Ada & nobody else, as far as anybody can tell."),
        ("What runs?", "<p><script>console.log('Hello')</script></p>", "<p><script>console.log('Hello')</script></p>"),
    ],
)  # fmt: skip
def test_html_becomes_text_where_it_is_left_over_and_nothing_is_emptied(
    question: str, answer: str, wanted: str
) -> None:
    row = qa(question, answer)
    repair(row, "html_to_text")
    assert row["answer"] == wanted


def test_what_holds_nothing_but_control_characters_is_empty_without_them() -> None:
    row = qa("What is in it?", "\x00\x01")
    repair(row, "strip_control")
    assert row["answer"] == ""


def test_cut_off_answers_are_told_by_how_the_training_split_ends(tmp_path: Path) -> None:
    rows = rows_of(200)
    for row in rows[:20]:
        row["answer"] = row["answer"][: len(row["answer"]) * 2 // 3].rstrip(". ")
    cut = {row["answer"] for row in rows[:20]}
    kept, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "truncated"])
    assert {row["answer"] for row in quarantined} == cut
    assert len(kept) == 180


def test_another_language_than_the_sources_is_dropped(tmp_path: Path) -> None:
    rng = random.Random(1)
    said = [
        "the river runs to the sea",
        "she has been there for years",
        "it was the best of all",
        "they do not know why",
    ]
    rows = [
        {"question": f"What is it that {rng.choice(said)} {i}?",
         "answer": f"It is that {rng.choice(said)} and {rng.choice(said)} {i}."} for i in range(120)
    ]  # fmt: skip
    rows[7] = {"question": "¿Por qué no se sabe nada de los que vivieron en la ciudad?",
               "answer": "Porque nadie escribió nunca sobre las personas que vivían allí entonces."}  # fmt: skip
    _, quarantined = cleaned(tmp_path, rows, steps=[*BASE, "language"])
    assert [(row["reason"], row["question"]) for row in quarantined] == [("language", rows[7]["question"])]
    assert quarantined[0]["detail"] == "es, where its source is en"


def test_rows_that_hold_a_question_of_an_evaluation_are_dropped(tmp_path: Path) -> None:
    rows = rows_of(60)
    asked = rows_of(3, seed=77)
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    rows[9]["answer"] = "Somebody asked: " + asked[1]["question"].upper() + " And nobody knew."
    settings = {"steps": [*BASE, "contamination"], "questions": ["eval.jsonl"]}
    kept, quarantined = cleaned(tmp_path, rows, **settings)
    assert [(row["reason"], row["answer"]) for row in quarantined] == [("contamination", rows[9]["answer"])]
    assert "eval.jsonl" in quarantined[0]["detail"]
    assert len(kept) == 59


@pytest.mark.parametrize("copies", [1, 2, 40])
def test_keep_rows_of_a_template_stay_however_many_of_them_are_copies(copies: int, tmp_path: Path) -> None:
    made = templated(80 // copies, copies)
    rows = [row for row in made for _ in range(copies)] + rows_of(200, copies)
    kept, _ = cleaned(tmp_path, rows, steps=["empty", "template"], keep=3)
    assert sum(row["answer"] in {one["answer"] for one in made} for row in kept) == 3


def test_what_is_fitted_depends_on_the_training_rows_and_not_on_their_order(tmp_path: Path) -> None:
    rows = [qa(row["question"], row["answer"]) for row in [*templated(40, 3), *rows_of(60)]]
    found = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        store = stored(random.Random(seed).sample(rows, len(rows)), tmp_path / str(seed))
        training = Training(store, np.arange(0, 100, 2))
        fitted = fit_templates(training, keep=3)
        decided = {row["id"]: fitted.decided(i) for i, row in zip(training.rows.tolist(), training, strict=True)}
        stay = {identity for identity, template in decided.items() if template == -1}
        go = {identity for identity, template in decided.items() if template is not None and template >= 0}
        assert {fitted.decided(i) for i in range(1, 100, 2)} == {None}
        found.append((stay, go))
        row = {"source": "another", "kind": "qa", "answer": "As it was."}
        assert cut_boilerplate(row, fit_stock(training)) is None
        assert row["answer"] == "As it was."
    assert found[0] == found[1] == found[2]
    stay, go = found[0]
    assert len(stay) == 3
    assert len(go) == sum(row["answer"] in {one["answer"] for one in rows[:40]} for row in training) - 3
    assert stay | go <= {row["id"] for row in training}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PrepareConfig(steps=["nothing"]), "steps: no cleaning step 'nothing'"),
        (PrepareConfig(steps=["empty", "fix_mojibake"]), "steps: fix_mojibake runs before empty"),
        (PrepareConfig(steps=["template", "near_duplicate"]), "near_duplicate runs before template"),
        (PrepareConfig(steps=["empty", "empty"]), "a step is named twice"),
        (PrepareConfig(keep=-1), "keep is a number of rows"),
        (PrepareConfig(lengths=["answer 1.."]), "lengths and the step length need each other"),
        (PrepareConfig(steps=["length"]), "lengths and the step length need each other"),
        (PrepareConfig(steps=["length"], lengths=["answer"]), "is no bound in bytes"),
        (PrepareConfig(steps=["contamination"]), "questions and the step contamination need each other"),
    ],
)
def test_steps_that_contradict_each_other_are_one_line(config: PrepareConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config(config)
    assert "\n" not in str(caught.value)


def test_every_step_is_of_one_sort_and_runs(tmp_path: Path) -> None:
    """All at once, on rows in which nothing is wrong."""
    assert len(set(STEPS)) == len(STEPS)
    (tmp_path / "eval.jsonl").write_text(json.dumps(rows_of(1, seed=78)[0]) + "\n", encoding="utf-8")
    steps = [step for step in STEPS if step != "language"]  # made words are of no language
    assert set(FITTED) <= set(STEPS)
    kept, quarantined = cleaned(tmp_path, rows_of(120), steps=steps, lengths=["all ..9000"], questions=["eval.jsonl"])
    assert quarantined == []
    assert len(kept) == 120
    assert pq.read_table(tmp_path / "out" / "train-00000.parquet").num_rows > 90
