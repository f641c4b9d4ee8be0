"""What is planted bears its defect, what is not does not; the truth is what brute force finds; a fair score is fair.

Most tests need the folder of real corpora that LOAM_CORPORA names (see docs/own-data.md for their public origin).
"""

import os
import random
import re
import tempfile
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import audit_quality
from bench.audit_quality import Options, measure_cell, named_rows, score
from bench.planted import furniture, groups, phrases, private, rows, templates
from bench.planted.sources import Row, body, clean_rows, whole
from bench.planted.truth import jaccard, luhn, pairs, pairs_brute, shingles, words
from bench.planting import KINDS, Planted, as_csv, as_json, as_jsonl, content, plant, write
from common.errors import UserError
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files

CORPORA = Path(os.environ.get("LOAM_CORPORA") or "/nonexistent")
real = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")
PLACES = [(kind, source) for kind, how in KINDS.items() for source in how.sources]
SIZE, SHARE = 300, 0.3
BY_ROW = [place for place in PLACES if KINDS[place[0]].damage]


def planted_rows(kind: str, source: str, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """The rows that bear the defect, and the others."""
    found = plant(kind, source, SHARE, SIZE, seed)
    bad = [found.rows[i] for i in sorted(found.positives)]
    return bad, [row for i, row in enumerate(found.rows) if i not in found.positives]


# -- all kinds


@real
@pytest.mark.parametrize(("kind", "source"), PLACES)
def test_the_share_holds_and_the_seed_decides(kind: str, source: str) -> None:
    found, again, other = (plant(kind, source, SHARE, SIZE, seed) for seed in (5, 5, 6))
    assert found == again
    assert found.rows != other.rows
    assert len(found.rows) == SIZE
    count = round(SHARE * SIZE)
    if kind == "exact_duplicate":
        assert sum(len(same) - 1 for same in found.classes) == count
    elif kind == "near_duplicate":
        assert count < len(found.positives) <= 2 * count + 2  # each copy and its original
    else:
        assert len(found.positives) == count
    clean = {content(row) for row in clean_rows(source)}
    sound = [i for i in range(SIZE) if i not in found.positives]
    kept = sum(content(found.rows[i]) in clean for i in sound)
    assert kept >= len(sound) - groups.controls(count, SIZE)


@real
@pytest.mark.parametrize(("kind", "source"), [p for p in BY_ROW if p[0] not in ("empty", "too_short")])
def test_a_row_that_bears_a_defect_is_no_clean_row(kind: str, source: str) -> None:
    clean = {content(row) for row in clean_rows(source)}
    bad, _ = planted_rows(kind, source)
    assert not [row for row in bad if content(row) in clean]


@real
@pytest.mark.parametrize(("kind", "source"), PLACES)
def test_the_readers_find_each_row_where_it_was_written(kind: str, source: str, tmp_path: Path) -> None:
    found = plant(kind, source, SHARE, SIZE)
    sources, where = write(found, tmp_path)
    seen = {}
    for file in list_files(check_sources(sources)[0], tmp_path):
        for row in read_file(file, sources[0]):
            assert row["reason"] is None, row
            seen[audit_quality.origin(row["origin"])] = row
    assert seen.keys() == where.keys()
    assert sorted(where.values()) == list(range(SIZE))
    for place, i in where.items():
        expected = found.rows[i]
        for name in ("text", "question"):
            assert (seen[place][name] or "") == (expected.get(name) or "")
        if "answer" in expected:
            assert (seen[place]["answer"] or "") == (body(expected) or "")


@given(
    st.lists(st.tuples(st.text("ab \r\n\t,\"'\x00", max_size=8), st.text('x\n\r"', max_size=8)), min_size=1, max_size=9)
)
@settings(max_examples=60, deadline=None)
def test_places_in_every_format_are_those_that_the_readers_give(table: list[tuple[str, str]]) -> None:
    given_rows = [{"question": "q" + a, "answer": b + "."} for a, b in table]
    for form, write_as in (("csv", as_csv), ("jsonl", as_jsonl), ("json", as_json)):
        with tempfile.TemporaryDirectory() as folder:
            written, places = write_as(given_rows)
            (Path(folder) / f"x.{form}").write_text("\ufeff" * (form == "csv") + written, encoding="utf-8", newline="")
            source = check_sources([SourceConfig(name="x", path=f"x.{form}")])[0]
            (file,) = list_files(source, Path(folder))
            read = list(read_file(file, source))
            if [row["reason"] for row in read] == ["binary"]:  # NULs are a good part of such a tiny file
                continue
            assert [row["origin"] for row in read] == [file.shown + place for place in places]
            assert [{k: row[k] for k in ("question", "answer")} for row in read] == given_rows


def test_a_share_that_cannot_be_planted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.planting.clean_rows", lambda _: [{"text": f"Row {i} is here."} for i in range(1000)])
    for kind, share in (("boilerplate", 0.01), ("exact_duplicate", 0.0), ("pii", 0.9)):
        with pytest.raises(UserError, match="--share"):
            plant(kind, "books", share, 1000)
    with pytest.raises(UserError, match="planted into gsm8k, nq_open, not into books"):
        plant("conflicting_answers", "books", 0.1)
    with pytest.raises(UserError, match="choose one of exact_duplicate"):
        plant("rust", "books", 0.1)


# -- between rows


@given(st.integers(0, 10**9), st.sampled_from((0.5, 0.8)))
@settings(max_examples=40, deadline=None)
def test_the_prefix_filter_finds_what_brute_force_finds(seed: int, threshold: float) -> None:
    rng = random.Random(seed)
    texts = [" ".join(rng.choice("abcdef") for _ in range(rng.randint(0, 30))) for _ in range(20)]
    for _ in range(20):  # copies with a few words changed: many pairs lie around the threshold
        copy = rng.choice(texts).split()
        for _ in range(rng.randint(0, 3)):
            copy.insert(rng.randint(0, len(copy)), rng.choice("ABCxyz"))
        texts.append(" ".join(copy))
    assert pairs(texts, threshold) == pairs_brute(texts, threshold)


def test_similarity_is_that_of_three_words_in_a_row() -> None:
    a, b = shingles("One two, three FOUR five."), shingles("one two three four six")
    assert a == {("one", "two", "three"), ("two", "three", "four"), ("three", "four", "five")}
    assert jaccard(a, b) == 2 / 4


@real
@pytest.mark.parametrize("source", KINDS["near_duplicate"].sources)
@pytest.mark.parametrize("seed", [1, 2])
def test_near_duplicates_are_those_of_brute_force(source: str, seed: int) -> None:
    found = plant("near_duplicate", source, 0.4, SIZE, seed)
    texts = [whole(row) for row in found.rows]
    assert found.near | found.near_short == pairs_brute(texts)
    assert all(len(words(texts[i])) >= 50 for pair in found.near for i in pair)
    between = [jaccard(shingles(texts[i]), shingles(texts[j])) for i, j in found.near]
    assert 0.8 <= min(between) < 0.84
    assert sum(near == 1 for near in between) < len(between) / 20  # two copies may bear the same edit
    # Copies that are less near were planted too, and are not among the truth.
    below = pairs_brute(texts, 0.5) - found.near - found.near_short
    assert len(below) >= 10


@real
@pytest.mark.parametrize("source", KINDS["exact_duplicate"].sources)
def test_exact_duplicates_are_all_equal_rows(source: str) -> None:
    found = plant("exact_duplicate", source, 0.6, SIZE)
    count = Counter(content(row) for row in found.rows)
    assert found.positives == {i for i, row in enumerate(found.rows) if count[content(row)] > 1}
    assert all(len({content(found.rows[i]) for i in same}) == 1 for same in found.classes)


@real
def test_templates_are_fixed_in_six_words_of_ten() -> None:
    for text in (False, True):
        for number in range(len(templates.TEXTS if text else templates.QA)):
            made = templates.template_rows(number, 60, random.Random(number), text)
            assert len({tuple(row.values()) for row in made}) == len(made)
            for name in made[0]:
                split = [Counter(row[name].split()) for row in made]
                common = split[0]
                for one in split:
                    common = common & one
                assert all(common.total() >= 0.6 * one.total() for one in split)
                assert len({row[name] for row in made}) > 1  # each field has a slot


@given(st.integers(5, 2000), st.integers(1, 40), st.integers(5, 60), st.integers(0, 99))
def test_parts_add_up(count: int, most: int, typical: int, seed: int) -> None:
    found = groups.parts(count, 5, typical, most, random.Random(seed))
    assert sum(found) == count
    assert len(found) <= most
    assert min(found) >= 5


@real
def test_questions_of_one_mould_have_different_answers() -> None:
    bad, others = planted_rows("template", "gsm8k")
    starts = {mould.partition("{")[0] for mould in templates.CONTROLS}
    alike = [row for row in others if any(row["question"].startswith(start) for start in starts)]
    assert len(alike) == groups.controls(len(bad), SIZE) >= 15
    assert len({row["answer"] for row in alike}) == len(alike)


@real
@pytest.mark.parametrize("source", KINDS["boilerplate"].sources)
@pytest.mark.parametrize("seed", range(12))
def test_stock_sentences_are_frequent_and_no_others(source: str, seed: int) -> None:
    found = plant("boilerplate", source, 0.6 if seed % 2 else SHARE, SIZE, seed)
    all_phrases = (*phrases.OPENINGS, *phrases.MIDDLES, *phrases.ENDINGS)
    bearers = {p: {i for i, row in enumerate(found.rows) if p in body(row)} for p in all_phrases}
    frequent = [p for p, of in bearers.items() if len(of) >= 20]
    assert found.positives == set().union(*(bearers[p] for p in frequent))
    rare = [len(of) for p, of in bearers.items() if p not in frequent and of]
    assert rare
    assert max(rare) < 10


@real
@pytest.mark.parametrize("source", KINDS["conflicting_answers"].sources)
def test_conflicting_questions_have_several_answers(source: str) -> None:
    found = plant("conflicting_answers", source, SHARE, SIZE, 4)
    answers: dict[str, list[str]] = defaultdict(list)
    for row in found.rows:
        answers["".join(words(row["question"]))].append(" ".join(words(body(row))))
    bad = {"".join(words(found.rows[i]["question"])) for i in found.positives}
    for question, given_answers in answers.items():
        assert (len(given_answers) > 1) == (question in bad)
        assert all(a not in b and b not in a for a, b in combinations(given_answers, 2))


# -- one row


@real
@pytest.mark.parametrize("source", KINDS["empty"].sources)
def test_empty_rows_lack_a_field_and_short_ones_do_not(source: str) -> None:
    def fields(row: Row) -> list[str]:
        return [value or "" for value in ((row["text"],) if "text" in row else (row["question"], body(row)))]

    bad, others = planted_rows("empty", source)
    assert all(any(not value.strip() for value in fields(row)) for row in bad)
    assert all(all(value.strip() for value in fields(row)) for row in others)
    bad, others = planted_rows("too_short", source)
    assert all(sum(len(value.encode()) for value in fields(row)) < 8 for row in bad)
    assert all(value.strip() for row in bad for value in fields(row))
    assert all(sum(len(value.encode()) for value in fields(row)) >= 8 for row in others)


@real
@pytest.mark.parametrize("source", KINDS["truncated"].sources)
def test_truncated_rows_end_inside_a_sentence(source: str) -> None:
    bad, _ = planted_rows("truncated", source)
    inside = 0
    for row in bad:
        same = (c for c in clean_rows(source) if c.get("question") == row.get("question"))
        rest = {body(c)[len(body(row)) :] for c in same if body(c).startswith(body(row)) and body(c) != body(row)}
        assert len(rest) == 1
        following = rest.pop()
        assert body(row).rstrip()[-1].isalnum()
        assert re.match(r"\w|\s*\S+[ \n]", following)  # a word goes on, or another follows
        assert "\n" not in following[:1] or source == "books"  # the lines of a book are wrapped
        assert len(body(row).split()) >= 12
        assert len(following.split()) >= 5
        inside += following[0].isalpha() and body(row)[-1].isalpha()
    assert len(bad) / 4 < inside < len(bad)


@real
@pytest.mark.parametrize("source", KINDS["repetition"].sources)
def test_loops_go_round_three_times(source: str) -> None:
    def loops(text: str) -> bool:
        """Whether some words stand three times in a row (a word alone seven times)."""
        found = words(text)
        for period in range(1, 200):
            run = 0
            for a, b in zip(found, found[period:], strict=False):
                run = run + 1 if a == b else 0
                if run >= (6 if period == 1 else 2 * period):
                    return True
        return False

    bad, others = planted_rows("repetition", source)
    assert not [row for row in bad if not loops(body(row))]
    assert sum(loops(body(row)) for row in others) <= len(others) // 50  # by nature: 2.5 = 2.5 = 2.5
    alike = [rows.echoed({"question": "?", "answer": "Yes."}, random.Random(seed)) for seed in range(200)]
    assert not [row for row in alike if loops(body(row))]


@real
@pytest.mark.parametrize("source", KINDS["refusal"].sources)
def test_a_refusal_speaks_of_the_assistant_itself(source: str) -> None:
    first_person = re.compile(r"\b(?:I|I['’]m|me|my)\b|^.*your request|Apologies", re.IGNORECASE)
    bad, others = planted_rows("refusal", source)
    assert all(first_person.search(body(row)) for row in bad)
    assert not [row for row in others for said in phrases.REFUSALS if said in body(row)]
    assert len({body(row) for row in bad}) > len(bad) / 2


def read_again(text: str) -> str:
    """Each run of characters that bytes of UTF-8 make in cp1252 or latin-1, as what it was."""
    table = {}
    for byte in range(0x80, 0x100):
        for codec in ("latin-1", "cp1252"):
            table[bytes([byte]).decode(codec, "replace")] = byte
    table.pop("\ufffd")

    def decoded(match: re.Match[str]) -> str:
        try:
            return bytes(table[c] for c in match.group()).decode()
        except UnicodeDecodeError:
            return match.group()

    # A lead byte and as many others as it asks for.
    tail = "[" + re.escape("".join(c for c, byte in table.items() if byte < 0xC0)) + "]"
    return re.sub(rf"[\xc2-\xdf]{tail}|[\xe0-\xef]{tail}{{2}}|[\xf0-\xf4]{tail}{{3}}", decoded, text)


@given(st.text(st.characters(codec="utf-8", min_codepoint=0x80), min_size=1), st.sampled_from(("cp1252", "latin-1")))
def test_misread_text_can_be_read_again(text: str, style: str) -> None:
    once = rows.misread(f"abc {text}", style)
    assert once != f"abc {text}"
    assert read_again(once) == f"abc {text}"
    if style == "cp1252":
        assert read_again(read_again(rows.misread(text, "twice"))) == text


@real
@pytest.mark.parametrize("source", KINDS["mojibake"].sources)
def test_mojibake_is_text_read_wrongly_and_accents_are_not(source: str) -> None:
    bad, others = planted_rows("mojibake", source)
    assert all(read_again(body(row)) != body(row) or "\ufffd" in body(row) for row in bad)
    assert not [body(row) for row in others if read_again(body(row)) != body(row) or "\ufffd" in body(row)]
    assert sum(not body(row).isascii() for row in others) >= groups.controls(len(bad), SIZE)


@real
@pytest.mark.parametrize("source", KINDS["control_characters"].sources)
def test_control_characters_stand_in_planted_rows_only(source: str) -> None:
    bad, others = planted_rows("control_characters", source)
    harmful = {chr(code) for code in (*range(32), 127)} - set("\t\n\r")
    assert all(harmful & set(body(row)) for row in bad)
    assert not [row for row in others if harmful & set(whole(row))]


@real
@pytest.mark.parametrize("source", KINDS["markup"].sources)
def test_markup_is_left_over(source: str) -> None:
    signs = re.compile(
        r"</?[a-zA-Z][^<>\n]*|<!--|&#?\w+;|^(?:class|style|id|align|data)[^>]{0,30}>|\\(?:begin|end|item|text|left|sqrt|math)"
    )

    def dollars(text: str) -> bool:
        return r"$\frac" in text or r"$$ \sum" in text

    def unclosed(text: str) -> bool:
        return text.count("\\begin") != text.count("\\end") or text.count("{") != text.count("}") or "\\left(" in text

    bad, others = planted_rows("markup", source)
    assert all(signs.search(body(row)) or dollars(body(row)) for row in bad)
    clean = {content(row) for row in clean_rows(source)}  # one row of a book holds "&mdash;" by nature
    alike = [row for row in others if content(row) not in clean]
    assert len(alike) >= len(bad) / 5
    assert not [row for row in alike if unclosed(body(row)) or re.search(r"</|&\w+;", body(row))]


def luhn_again(digits: str) -> bool:
    total = 0
    for i, digit in enumerate(reversed(digits)):
        total += int(digit) if i % 2 == 0 else (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(digit)]
    return total % 10 == 0


@given(st.text("0123456789", min_size=2, max_size=19), st.randoms(use_true_random=False))
def test_checksums_are_right_on_purpose_and_wrong_on_purpose(digits: str, rng: random.Random) -> None:
    assert luhn(digits) == luhn_again(digits)
    right, wrong = (re.sub(r"[ -]", "", private.card(rng, right)) for right in (True, False))
    assert luhn_again(right)
    assert not luhn_again(wrong)
    assert {len(right), len(wrong)} <= {15, 16}
    assert not luhn_again(re.sub(r"\D", "", private.isbn(rng)))


def test_the_checksum_of_a_card_known_to_be_right() -> None:
    assert luhn("4111 1111 1111 1111")
    assert not luhn("4111 1111 1111 1112")


@given(st.integers(0, 10**9))
@settings(max_examples=200, deadline=None)
def test_numbers_that_belong_to_nobody_are_no_addresses(seed: int) -> None:
    row = {"question": "Who?", "answer": "Nobody"}
    alike = body(private.no_pii(row, random.Random(seed)))
    assert not re.search(r"\w@\w+\.\w", alike)
    for number in re.findall(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?![\d.,])", alike):
        assert not luhn_again(re.sub(r"\D", "", number))
    made = body(private.pii(row, random.Random(seed)))
    digits = re.sub(r"\D", "", made)
    assert re.search(r"[\w.+]+@[\w-]+\.\w", made) or 9 <= len(digits) <= 16
    if len(digits) in (15, 16):
        assert luhn_again(digits)


@real
def test_secrets_are_made_anew_each_time() -> None:
    made = [private.secret({"question": "?", "answer": "-"}, random.Random(seed))["answer"] for seed in range(400)]
    assert len(set(made)) == len(made)
    # Long random parts are never shared: the code holds none of them.
    parts = [part for text in made for part in set(re.findall(r"[A-Za-z0-9/+]{20,}", text))]
    shared = {part for part, count in Counter(parts).items() if count > 1 and any(c.isdigit() for c in part)}
    assert shared <= {"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"}  # the head of a JSON web token
    assert len(parts) > 200
    alike = [private.no_secret({"question": "?", "answer": "-"}, random.Random(seed))["answer"] for seed in range(400)]
    keys = r"PRIVATE KEY|(?:AKIA|ASIA)[A-Z2-7]{16}|\bgh[pos]_\w{36}|://[^/\s$]*:[A-Za-z0-9_!-]+@|AccountKey="
    assert not [text for text in alike if re.search(keys, text)]
    assert sum(bool(re.search(keys, text)) for text in made) > 100


@real
def test_prose_in_other_languages_is_in_other_languages() -> None:
    english = {"the", "of", "and", "is", "that", "with", "which"}
    for code in ("es", "pt", "ja", "ko"):
        found = rows.prose(code)
        assert len(found) >= 80
        assert all(sum(word in english for word in words(text)) < 3 for text in found)
    for source in KINDS["language"].sources:
        bad, _ = planted_rows("language", source)
        assert all(sum(word in english for word in words(whole(row))) < 3 for row in bad)
        assert len({whole(row) for row in bad}) > 0.8 * len(bad)


@real
def test_page_furniture_is_added_and_nothing_is_lost() -> None:
    chapters = [row for row in clean_rows("chapters") if len(row["text"]) < 60_000][::9]
    seen: Counter[str] = Counter()
    for seed, row in enumerate(chapters):
        rng = random.Random(seed)
        made = furniture.page_furniture(row, rng)
        if made is None:
            continue
        before, after = Counter(row["text"].split("\n")), Counter(made["text"].split("\n"))
        assert before <= after
        added = [line for line in (after - before).elements() if line.strip()]
        assert added
        numbered = any(re.fullmatch(r"\W*(?:Pg |Page |p\. )?\d+\W*(?:P a g e)?", line) for line in added)
        seen["numbers" if numbered else "others"] += 1
        if numbered:
            assert len(added) >= 3
    assert min(seen.values()) >= 5


@real
@pytest.mark.parametrize("source", KINDS["contamination"].sources)
def test_contaminated_rows_hold_a_whole_question(source: str) -> None:
    found = plant("contamination", source, SHARE, SIZE, 2)
    questions = [" ".join(words(question)) for question in rows.evaluation_questions()]
    held: Counter[str] = Counter()
    for i, row in enumerate(found.rows):
        text = f" {' '.join(words(body(row)))} "
        inside = [question for question in questions if f" {question} " in text]
        assert bool(inside) == (i in found.positives)
        held.update(inside)
    verbatim = sum(q in body(row) for row in found.rows for q in rows.evaluation_questions())
    assert len(found.positives) / 5 < verbatim < len(found.positives)
    assert len(found.evaluation) == len(questions)
    assert set(held.values()) == {1}


# -- the score


def corpus_of(kind: str, size: int = 10, **given_truth: Any) -> Planted:
    made = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(size)]
    return Planted(kind, "gsm8k", 0.1, made, given_truth.pop("positives", set()), **given_truth)


def test_of_each_class_of_equal_rows_one_stays() -> None:
    truth = corpus_of("exact_duplicate", positives={0, 1, 2, 5, 6}, classes=[{0, 1, 2}, {5, 6}], ignored={9})
    for named, counts in (
        ({0, 2, 6}, (3, 0, 0)),
        ({0, 1, 5}, (3, 0, 0)),  # which one stays is free
        ({0, 1, 2, 5}, (3, 1, 0)),  # nothing of the first class stays
        ({1}, (1, 0, 2)),
        ({1, 2, 6, 8, 9}, (3, 1, 0)),  # 8 is no copy, 9 is neither
        (set[int](), (0, 0, 3)),
    ):
        found = score(truth, {"exact_duplicate": named, "pii": {7}})
        assert (found.right, found.wrong, found.missed) == counts
        assert (len(found.wrong_rows), len(found.missed_rows)) == (found.wrong, found.missed)
    assert score(truth, {}).precision is None
    assert score(truth, {}).recall == 0


def test_near_duplicates_are_scored_by_what_stays() -> None:
    chain = {(0, 1), (1, 2)}  # 0 is not near 2
    truth = corpus_of("near_duplicate", near={*chain, (4, 5)}, near_short={(6, 7)}, ignored={6})
    for named, counts in (
        ({1, 5}, (2, 0, 0)),
        ({0, 2, 4}, (3, 0, 0)),
        ({0, 1, 4}, (3, 0, 0)),  # as transitive clusters go
        ({0, 1, 2, 4}, (3, 1, 0)),  # nothing of the chain stays
        ({0, 5}, (2, 0, 1)),
        (set[int](), (0, 0, 2)),  # taking 1 and 5 would do
        ({1, 5, 8}, (2, 1, 0)),
        ({1, 5, 6}, (2, 0, 0)),  # too short to count
        ({1, 5, 7}, (3, 0, 0)),  # near a row that is too short
    ):
        found = score(truth, {"near_duplicate": named - {5}, "exact_duplicate": named & {5}})
        assert (found.right, found.wrong, found.missed) == counts, named


def test_other_kinds_are_scored_by_row() -> None:
    truth = corpus_of("pii", positives={1, 2, 3}, ignored={7})
    found = score(truth, {"pii": {2, 3, 4, 7}, "secret": {1}})
    assert (found.right, found.wrong_rows, found.missed_rows) == (2, [4], [1])
    assert (found.precision, found.recall) == (2 / 3, 2 / 3)


def test_a_row_that_is_not_there_is_no_small_mistake() -> None:
    where = {(os.path.abspath("x.csv"), ":2"): 0}
    assert named_rows({"findings": [{"kind": "pii", "rows": ["x.csv:2"]}]}, where) == {"pii": {0}}
    assert named_rows({"findings": [{"kind": "pii", "rows": ["other.csv:3", "x.csv"]}]}, where) == {}
    with pytest.raises(AssertionError, match=r"x\.csv:3"):
        named_rows({"findings": [{"kind": "pii", "rows": ["x.csv:3"]}]}, where)


@real
@pytest.mark.parametrize(
    ("kind", "source"), [("pii", "gsm8k"), ("exact_duplicate", "nq_open"), ("page_furniture", "chapters")]
)
def test_an_audit_that_knows_all_is_right_and_one_that_knows_half_is_not(
    kind: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(rows=SIZE, show=2)
    truth = plant(kind, source, SHARE, SIZE)
    for every in (1, 2):

        def audit(sources: list[SourceConfig], base: Path, every: int = every) -> dict[str, Any]:
            checked = check_sources(sources)
            files = [(f, source) for source in checked for f in list_files(source, base)]
            origins = [row["origin"] for file, source in files for row in read_file(file, source)]
            to_name = sorted(truth.positives)
            if kind == "exact_duplicate":
                to_name = [i for same in truth.classes for i in sorted(same)[1:]]
            named = [origins[i] for i in to_name[::every]]
            examples = [{"row": one, "detail": "seen"} for one in named]
            return {"findings": [{"kind": kind, "source": source, "rows": named, "examples": examples}]}

        monkeypatch.setattr(audit_quality, "run_audit", audit)
        cell = measure_cell(kind, source, SHARE, options)
        assert cell["precision"] == 1
        assert cell["wrong"] == 0
        assert cell["recall"] == pytest.approx(1 / every, abs=0.02)
    assert capsys.readouterr().out.count("-- missed") == 2
    result = {
        "date": "-",
        "commit": "-",
        "device": "-",
        "seed": 0,
        "cells": [cell],
        "kinds": audit_quality.by_kind([cell]),
    }
    lines = audit_quality.table(result)
    assert len(lines) == 6
    assert "below" in lines[2]


@real
def test_clean_sources_tell_what_would_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(sources: list[SourceConfig], base: Path) -> dict[str, Any]:
        (gsm8k,) = list_files(sources[0], base)
        named = [f"{gsm8k.shown}:{number}" for number in (3, 12, 7)]
        found = {"kind": "truncated", "source": "gsm8k", "count": 3, "rows": named, "removable": True}
        near = {**found, "kind": "near_duplicate", "rows": named[:1], "count": 1}
        return {"findings": [found, near, {**found, "kind": "pii", "rows": [f"{gsm8k.shown}:9"], "removable": False}]}

    monkeypatch.setattr(audit_quality, "run_audit", audit)
    result = audit_quality.measure_clean()
    sizes = {row["source"]: (row["rows"], row["removable"]) for row in result["sources"]}
    books = len(clean_rows("books"))
    assert sizes == {"gsm8k": (7473, 3), "nq_open": (3610, 0), "xquad": (1190, 0), "books": (books, 0)}
    assert [row["row"].rpartition(":")[2] for row in result["removable"]] == ["3", "7", "12"]
    assert result["removable"][0]["kinds"] == ["truncated", "near_duplicate"]
    told = "\n".join(audit_quality.clean_table(result))
    assert "Betty is saving money" in told
    assert "above" not in told


def test_cells_are_those_that_are_asked_for() -> None:
    assert len(audit_quality.cells(Options(kind="pii,secret", source="nq_open"))) == 2 * len(audit_quality.SHARES)
    assert audit_quality.cells(Options(kind="page_furniture", share=0.2)) == [("page_furniture", "chapters", 0.2)]
    for wrong in (Options(kind="pi"), Options(source="gsm"), Options(kind="truncated", source="nq_open")):
        with pytest.raises(UserError):
            audit_quality.cells(wrong)
