"""An audit: the rows alone decide what it says, what it says adds up, and every kind is found where it stands."""

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import data.engine
from common.errors import UserError
from data.auditing import AuditConfig, audit
from data.findings import KINDS
from data.sources import SourceConfig
from tests.data.made_rows import english, english_qa, qa, text, write_jsonl

Row = dict[str, Any]
Audit = dict[str, Any]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planted(seed: int, number: int = 120) -> tuple[list[Row], dict[str, set[int]]]:
    """Rows of one source, and for each kind planted which of them show it (of copies: both)."""
    dice = random.Random(seed)
    rows = english_qa(dice, number)
    truth: dict[str, set[int]] = {}

    def plant(kind: str, *new: Row) -> None:
        truth.setdefault(kind, set()).update(range(len(rows), len(rows) + len(new)))
        rows.extend(new)

    def clean(**more: Any) -> Row:
        return {**english_qa(dice, 1)[0], **more}

    answer = clean()["answer"]
    plant("empty", clean(answer="  "))
    plant("too_short", qa("a?", "b"))
    plant("exact_duplicate", {**rows[3], "question": f" {rows[3]['question']}\n"})
    truth["exact_duplicate"].add(3)
    plant("near_duplicate", {**rows[5], "answer": rows[5]["answer"] + " Today."})
    truth["near_duplicate"].add(5)
    form = "What is the capital of the province of {} in the year {}, and who built it?"
    reply = "The capital of the province of {} in the year {} was built by the people who had come from the sea."
    fillers = [(name, str(1200 + 13 * i)) for i, name in enumerate(["Abo", "Beri", "Cadu", "Demi", "Ezan", "Fo"])]
    plant("template", *(qa(form.format(*of), reply.format(*of)) for of in fillers))
    stock = "I hope this information is helpful to you and your family."
    plant("boilerplate", *(clean(answer=f"{english(dice)} {english(dice)} {stock}") for _ in range(12)))
    asked = clean()["question"]
    plant("conflicting_answers", *(clean(question=q) for q in (asked, asked.upper(), f"{asked} ")))
    same = f"{english(dice)} {english(dice)}"
    plant("repeated_answer", *(clean(answer=same) for _ in range(5)))
    loop = "the river crosses the stone bridge again and "
    plant("repetition", clean(answer=f"{english(dice)} Then {loop * 14}so it ends."))
    plant("refusal", clean(answer="I'm sorry, but as an AI language model I cannot help with that request."))
    plant("mojibake", clean(answer=f"{english(dice)} It was the cafÃ© where sheâ€™d been before.".strip()))
    plant("control_characters", clean(answer=f"{english(dice)} It broke\x07 at last. {english(dice)}"))
    plant("markup", clean(answer=f"<div class='post'><p>{english(dice)}</p><br/>{english(dice)}"))
    plant(
        "language",
        clean(
            question="Warum ist der Himmel am Abend über dem Meer so rot und nicht blau?",
            answer="Weil das Licht am Abend einen längeren Weg durch die Luft nimmt und dabei das Blau verliert.",
        ),
    )
    plant(
        "pii",
        clean(answer=f"{english(dice)} Write to jane.smith@hospital-records.org or call +1 (415) 555-2671 today."),
    )
    key = "AKIA" + "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))
    plant("secret", clean(answer=f"{english(dice)} The access key is {key}. {english(dice)}"))
    cut = english(dice)
    plant("truncated", clean(answer=f"{answer} {cut[: len(cut) // 2].rstrip()} the"))
    return rows, truth


def found_of(report: Audit, kind: str) -> list[Audit]:
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def rows_of(report: Audit, kind: str) -> set[str]:
    return {row for finding in found_of(report, kind) for row in finding["rows"]}


# -- what is found, and where


@pytest.mark.parametrize("seed", range(2))
def test_one_row_of_each_kind_is_found_where_it_stands(seed: int) -> None:
    rows, truth = planted(seed)
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    write_jsonl(Path("x.jsonl"), [rows[i] for i in order])
    place = {f"x.jsonl:{line}": i for line, i in enumerate(order, 1)}
    report = audit([SourceConfig(path="x.jsonl")], AuditConfig())
    for kind, wanted in truth.items():
        found = {place[row] for row in rows_of(report, kind)}
        if kind.endswith("_duplicate"):  # one of the two stays
            assert len(found & wanted) == 1, kind
            assert all(place[row] in wanted or place[row] not in found for row in place)
        else:
            assert found >= wanted, (kind, wanted - found)
        extra = found - wanted - truth["template"]
        assert len(extra) <= 2, (kind, [rows[i] for i in extra])
    assert {finding["kind"] for finding in report["findings"]} - set(truth) == set()


def test_places_are_lines_that_a_user_can_open() -> None:
    rows, _ = planted(3)
    rows[7]["answer"] += '\nIt has "quotes",\nand lines.'
    write_jsonl(Path("x.jsonl"), rows[:70])
    with Path("y.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["question", "answer"], *([row["question"], row["answer"]] for row in rows[60:] + rows[:8])]
        )
    report = audit([SourceConfig(path="x.jsonl"), SourceConfig(path="y.csv")], AuditConfig())
    shown = 0
    for finding in report["findings"]:
        for example in finding["examples"]:
            name, _, line = example["row"].rpartition(":")
            lines = Path(name).read_text().split("\n")[int(line) - 1 :]
            if name.endswith("jsonl"):
                row = json.loads(lines[0])
            else:
                question, answer = next(csv.reader([one + "\n" for one in lines]))
                row = {"question": question, "answer": answer}
            span = example["span"]
            for field in ("question", "answer"):
                told = example.get(field, "")
                assert told in row[field]
                assert told or not row[field] or finding["kind"] == "empty"
            if span:
                evidence = example[example["field"]][span[0] : span[1]]
                assert evidence.strip()
                assert evidence in row[example["field"]]
            shown += 1
    assert shown > 40


def test_damage_of_files_is_found_too() -> None:
    dice = random.Random(4)
    good = [json.dumps({"question": row["question"], "answer": row["answer"]}).encode() for row in english_qa(dice, 40)]
    lines = [*good[:10], b'{"question": "half', *good[10:20], b'{"question": "a\xff\xfe", "answer": "b"}', *good[20:]]
    Path("x.jsonl").write_bytes(b"\n".join(lines))
    Path("y.csv").write_text("question,answer\na,b,c\n")
    sources = [SourceConfig(path="x.jsonl", encoding="utf-8"), SourceConfig(path="y.csv")]
    report = audit(sources, AuditConfig())
    assert rows_of(report, "unreadable") == {"x.jsonl:11", "y.csv:2"}
    assert rows_of(report, "encoding") == {"x.jsonl:22"}
    assert [example["detail"] for example in found_of(report, "unreadable")[1]["examples"]] == [
        "ragged: 3 fields, the header has 2"
    ]


def page_of(dice: random.Random, number: int) -> str:
    return "\n".join(english(dice) for _ in range(dice.randint(25, 35))) + f"\n{number}\n"


def test_texts_have_findings_of_their_own() -> None:
    dice = random.Random(5)
    chapters = ["\n".join(english(dice) for _ in range(40)) for _ in range(30)]
    book = "".join(page_of(dice, 12 + i) for i in range(8))
    Path("book.txt").write_text(book)
    near = chapters[4].replace("\n", " ") + " It is the end of it."
    write_jsonl(Path("t.jsonl"), [text(content) for content in [*chapters, chapters[7], near]])
    report = audit(
        [SourceConfig(path="t.jsonl", kind="text"), SourceConfig(path="book.txt", kind="text")], AuditConfig()
    )
    assert rows_of(report, "page_furniture") == {"book.txt"}
    [example] = found_of(report, "page_furniture")[0]["examples"]
    assert example["text"][slice(*example["span"])] == "12\n"
    assert rows_of(report, "exact_duplicate") == {"t.jsonl:31"} or rows_of(report, "exact_duplicate") == {"t.jsonl:8"}
    assert rows_of(report, "near_duplicate") == {"t.jsonl:5"}  # the longer one stays
    assert [source["kind"] for source in report["sources"]] == ["text", "text"]


def test_questions_of_one_source_in_another_are_contamination() -> None:
    dice = random.Random(6)
    exam, train = english_qa(dice, 20), english_qa(dice, 60)
    leaked = max((row["question"] for row in exam), key=len)
    train[11]["answer"] += f" Somebody asked: {leaked.upper()}"
    write_jsonl(Path("exam.jsonl"), exam)
    write_jsonl(Path("train.jsonl"), train)
    sources = [SourceConfig(path="exam.jsonl"), SourceConfig(path="train.jsonl")]
    report = audit(sources, AuditConfig())
    assert rows_of(report, "contamination") == {"train.jsonl:12"}
    line = next(i for i, row in enumerate(exam, 1) if row["question"] == leaked)
    assert (
        f"holds a question of exam: exam.jsonl:{line}: "
        in found_of(report, "contamination")[0]["examples"][0]["detail"]
    )
    assert rows_of(audit(sources[1:], AuditConfig()), "contamination") == set()
    outside = audit(sources[1:], AuditConfig(questions=["exam.jsonl"]))
    assert rows_of(outside, "contamination") == {"train.jsonl:12"}


# -- nothing but the rows decides


def told(report: Audit, rows: dict[str, Row]) -> Any:
    """An audit with the content of rows for their places, and without the number of files."""

    def named(match: re.Match[str]) -> str:
        row = rows.get(match[0])
        return repr((row["question"].split(), row["answer"].split())) if row else match[0]

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items() if key != "files"}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return re.sub(r"[\w/.-]+\.jsonl:\d+", named, value) if isinstance(value, str) else value

    return walk(report)


def spread(rows: list[Row], dice: random.Random, number: int, folder: Path) -> dict[str, Row]:
    """Rows over some files in any order; the row of each place."""
    folder.mkdir()
    shuffled = dice.sample(rows, len(rows))
    cuts = sorted(dice.sample(range(1, len(rows)), number - 1))
    places: dict[str, Row] = {}
    names = dice.sample([f"part{i}.jsonl" for i in range(number)], number)
    for name, start, end in zip(names, [0, *cuts], [*cuts, len(rows)], strict=True):
        write_jsonl(folder / name, shuffled[start:end])
        places |= {f"{folder.name}/{name}:{i}": row for i, row in enumerate(shuffled[start:end], 1)}
    return places


def test_order_and_files_of_rows_change_nothing(in_folder: Path) -> None:
    rows, _ = planted(7, 150)
    expected = None
    for seed in range(4):
        dice = random.Random(seed)
        places = spread(rows, dice, (1, 2, 5, 40)[seed], in_folder / f"run{seed}")
        report = audit([SourceConfig(name="rows", path=f"run{seed}/*.jsonl")], AuditConfig())
        assert report["sources"][0]["files"] == (1, 2, 5, 40)[seed]
        found = told(report, places)
        if expected is None:
            expected = found
        for key in expected:
            assert found[key] == expected[key], key
        assert not re.search(r"run\d", json.dumps(found))  # every place was named by its row
    assert expected
    assert len(expected["findings"]) >= 15


def test_the_order_of_sources_changes_their_order_alone() -> None:
    rows, _ = planted(8, 100)
    write_jsonl(Path("a.jsonl"), rows[:90])
    write_jsonl(Path("b.jsonl"), rows[80:])
    sources = [SourceConfig(path="a.jsonl"), SourceConfig(path="b.jsonl")]
    one, other = audit(sources, AuditConfig()), audit(sources[::-1], AuditConfig())

    def by_source(report: Audit) -> Audit:
        for key in ("sources", "findings"):
            report[key] = sorted(
                report[key], key=lambda item: (item.get("kind"), item.get("name") or item.get("source"))
            )
        return report

    assert by_source(one) == by_source(other)


@pytest.mark.parametrize("bounds", [(0, 1 << 40), (0, 0)], ids=["the engine", "several processes"])
def test_engine_and_processes_change_nothing(bounds: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = planted(9, 1200)
    write_jsonl(Path("a.jsonl"), rows[:1000])
    write_jsonl(Path("b.jsonl"), rows[900:])
    sources = [SourceConfig(path="a.jsonl"), SourceConfig(path="b.jsonl")]
    expected = audit(sources, AuditConfig())
    monkeypatch.setattr(data.engine, "HERE_BYTES", bounds[0])
    monkeypatch.setattr(data.engine, "ALONE_BYTES", bounds[1])
    monkeypatch.setattr(data.engine, "BATCH", 100)
    assert audit(sources, AuditConfig()) == expected


# -- what is said adds up


def check(report: Audit) -> None:
    total = report["rows"]
    assert sum(source["rows"] for source in report["sources"]) == total
    assert sum(source["bytes"] for source in report["sources"]) == report["bytes"]
    assert sum(source["tokens"] for source in report["sources"]) == report["tokens"]
    assert sum(source["share"] for source in report["sources"]) == pytest.approx(1 if report["bytes"] else 0)
    steps = report["funnel"]
    assert steps[0] == {"step": "read", "rows": total, "tokens": report["tokens"]}
    assert all(a["rows"] >= b["rows"] and a["tokens"] >= b["tokens"] for a, b in pairwise(steps))
    after, before = report["before_after"]["after"], report["before_after"]["before"]
    assert before == {"rows": total, "tokens": report["tokens"], "bytes": report["bytes"]}
    assert (steps[-1]["rows"], steps[-1]["tokens"]) == (after["rows"], after["tokens"])
    assert report["grade"]["usable_share"] == pytest.approx(after["tokens"] / max(1, before["tokens"]))
    rows_of_source = {source["name"]: source["rows"] for source in report["sources"]}
    gone: Counter[str] = Counter()
    for finding in report["findings"]:
        assert finding["count"] == len(finding["rows"]) == len(set(finding["rows"])) > 0
        assert finding["share"] == pytest.approx(finding["count"] / rows_of_source[finding["source"]])
        assert finding["removable"] == KINDS[finding["kind"]].removable
        assert 0 <= finding["removed"] <= finding["count"]
        assert finding["removable"] or not finding["removed"]
        gone[finding["kind"]] += finding["removed"]
        assert {example["row"] for example in finding["examples"]} <= set(finding["rows"])
        for cluster in finding.get("clusters", []):
            assert cluster["count"] >= len(cluster["rows"]) > 0
    assert max(gone.values(), default=0) <= total - after["rows"] <= sum(gone.values())
    for table in report["lengths"].values():
        assert sum(bucket["rows"] for bucket in table["buckets"]) == table["rows"]
        assert table["min"] <= table["median"] <= table["p95"] <= table["p99"] <= table["max"]
    assert sum(report["balance"]["source"].values()) == total
    assert len(report["sample"]["kept"]) == min(12, after["rows"])
    assert len(report["sample"]["dropped"]) == min(12, total - after["rows"])
    json.dumps(report, allow_nan=False)


def halves(rows: list[Row]) -> list[SourceConfig]:
    write_jsonl(Path("a.jsonl"), rows[: max(1, len(rows) // 2)])
    write_jsonl(Path("b.jsonl"), rows[len(rows) // 3 :])
    return [SourceConfig(path="a.jsonl"), SourceConfig(path="b.jsonl")]


CORPORA: dict[str, Callable[[], list[Row]]] = {
    "planted": lambda: planted(10)[0],
    "clean, of 100 rows": lambda: english_qa(random.Random(11), 100),
    "copies of one row": lambda: english_qa(random.Random(12), 1) * 50,
    "one row": lambda: english_qa(random.Random(13), 1),
    "empty rows": lambda: [qa("", "")] * 9,
    "answers of one word": lambda: [qa(f"Is it {word}?", "yes") for word in ("so", "not", "here", "there")],
    "texts of one word": lambda: [qa("x", "y")] * 5,
    "signs": lambda: [qa("?" * i, "!" * i) for i in range(1, 30)],
    "other scripts": lambda: [qa("なぜ" * i, "漢字ไทย" * i) for i in range(1, 30)],
}  # fmt: skip


@pytest.mark.parametrize("name", CORPORA)
def test_counts_and_shares_add_up(name: str) -> None:
    check(audit(halves(CORPORA[name]()), AuditConfig()))


def test_a_clean_corpus_of_100_rows_has_few_findings_and_a_good_grade() -> None:
    write_jsonl(Path("x.jsonl"), english_qa(random.Random(14), 100))
    report = audit([SourceConfig(path="x.jsonl")], AuditConfig())
    assert [finding["kind"] for finding in report["findings"]] == []
    assert report["grade"]["letter"] == "A"
    assert report["grade"]["usable_share"] == 1.0


def test_a_file_without_rows_is_told_and_does_not_stop_the_others() -> None:
    Path("a.jsonl").write_text("\n\n")
    Path("b.csv").write_text("question,answer\n")
    write_jsonl(Path("c.jsonl"), english_qa(random.Random(15), 30))
    report = audit([SourceConfig(path=name) for name in ("a.jsonl", "b.csv", "c.jsonl")], AuditConfig())
    check(report)
    assert rows_of(report, "empty") == {"a.jsonl", "b.csv"}
    only = audit([SourceConfig(path="a.jsonl")], AuditConfig())
    check(only)
    assert only["grade"]["letter"] == "F"


def test_sources_of_both_kinds_stand_side_by_side() -> None:
    dice = random.Random(16)
    write_jsonl(Path("q.jsonl"), [{**row, "category": f"c{i % 40}"} for i, row in enumerate(english_qa(dice, 90))])
    Path("t.txt").write_text("\n".join(english(dice) for _ in range(60)))
    sources = [SourceConfig(path="q.jsonl", category="category"), SourceConfig(path="t.txt", kind="text", split="line")]
    report = audit(sources, AuditConfig())
    check(report)
    assert report["balance"]["source"] == {"q": 90, "t": 60}
    category = report["balance"]["category"]
    assert len(category) == 31
    assert sum(category.values()) == 90
    assert set(report["lengths"]) == {"all", "q", "t"}


def test_rows_of_templates_beyond_those_kept_are_removed() -> None:
    rows, truth = planted(17)
    write_jsonl(Path("x.jsonl"), rows)
    for keep in (1, 3, 100):
        report = audit([SourceConfig(path="x.jsonl")], AuditConfig(keep=keep))
        [finding] = found_of(report, "template")
        assert finding["count"] == len(truth["template"]) == 6
        assert finding["removed"] == max(0, 6 - keep)


def test_min_bytes_and_seq_len_are_what_they_say() -> None:
    write_jsonl(Path("x.jsonl"), english_qa(random.Random(18), 40))
    sources = [SourceConfig(path="x.jsonl")]
    report = audit(sources, AuditConfig(min_bytes=10_000))
    assert rows_of(report, "too_short") == {f"x.jsonl:{i}" for i in range(1, 41)}
    longest = audit(sources, AuditConfig())["lengths"]["all"]["max"]
    assert audit(sources, AuditConfig(seq_len=longest))["lengths"]["all"]["cut_share"] == 0
    assert 0 < audit(sources, AuditConfig(seq_len=longest - 1))["lengths"]["all"]["cut_share"] <= 0.2


def test_rows_that_keep_if_leaves_out_are_no_fault_of_the_file() -> None:
    rows = [{**row, "score": i % 4} for i, row in enumerate(english_qa(random.Random(21), 40))]
    write_jsonl(Path("x.jsonl"), rows)
    report = audit([SourceConfig(path="x.jsonl", keep_if=["score >= 1"])], AuditConfig())
    assert rows_of(report, "filtered") == {f"x.jsonl:{i}" for i in range(1, 41, 4)}
    assert rows_of(report, "unreadable") == set()
    assert report["funnel"][1]["rows"] == 30
    assert report["grade"]["usable_share"] == 1.0
    assert not any("filtered" in reason for reason in report["grade"]["reasons"])


# -- mistakes


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SourceConfig(path="none.jsonl"), "source 'none': no such file: none.jsonl"),
        (SourceConfig(path="*.csv"), "no file matches"),
        (SourceConfig(path="x.jsonl", question="frage"), "x.jsonl: no column 'frage'; there are: question, answer"),
        (SourceConfig(path="x.jsonl", kind="text"), "source 'x': x.jsonl: no column 'text'"),
        (SourceConfig(path=""), "path is missing"),
    ],
)  # fmt: skip
def test_a_mistake_of_a_user_is_one_line(source: SourceConfig, said: str) -> None:
    write_jsonl(Path("x.jsonl"), english_qa(random.Random(19), 5))
    with pytest.raises(UserError, match=re.escape(said)) as found:
        audit([source], AuditConfig())
    assert "\n" not in str(found.value)


def test_an_audit_leaves_nothing_behind(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_folder / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(in_folder / "tmp"))
    write_jsonl(Path("x.jsonl"), english_qa(random.Random(20), 5))
    audit([SourceConfig(path="x.jsonl")], AuditConfig())
    with pytest.raises(UserError):
        audit([SourceConfig(path="x.jsonl", question="frage")], AuditConfig())
    assert list((in_folder / "tmp").iterdir()) == []
