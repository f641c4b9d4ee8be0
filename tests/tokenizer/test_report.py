"""The report's figures are those computed by hand on corpora of a few words; they hold on real corpora."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from config import Config
from data.prepare import prepare_run
from data.sources import SourceConfig
from data.writing import DOCUMENT_SCHEMA
from tokenizer import measure, train
from tokenizer.advice import terminal_lines
from tokenizer.against import open_others
from tokenizer.bpe import Tokenizer, train_bpe
from tokenizer.encode import read_corpus
from tokenizer.patterns import PATTERNS
from tokenizer.report import make_report, write_report
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS
from tokenizer.terms import count_words, key_terms, residual_idf

CORPORA = Path(os.environ.get("LOAM_CORPORA", "/nonexistent"))
needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="LOAM_CORPORA names no folder of real corpora")
Rows = list[dict[str, str]]


def made_tokenizer(*merges: tuple[str, str]) -> Tokenizer:
    """Bytes and these merges; Ġ stands for a space."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *letters])}
    bpe = tokenizers.Tokenizer(models.BPE(vocab, list(merges)))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERNS["qwen2"]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(bpe)


def write_corpus(folder: Path, train: Rows, val: Rows, test: Rows) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in {"train": train, "val": val, "test": test}.items():
        full = [
            {
                **dict.fromkeys(DOCUMENT_SCHEMA.names),
                "id": f"{split} {i}",
                "source": "a",
                **row,
                "n_bytes": sum(len(value.encode()) for key, value in row.items() if key not in ("source", "category")),
            }
            for i, row in enumerate(rows)
        ]
        pq.write_table(pa.Table.from_pylist(full, schema=DOCUMENT_SCHEMA), folder / f"{split}-00000.parquet")
    return folder


THE = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("q", "z"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_corpus(
        tmp_path / "corpus",
        [{"text": "the the"}, {"question": "é?", "answer": "the", "source": "b", "category": "short"}],
        [{"text": "the th"}],
        [{"text": "é"}],
    )


def part(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


def test_figures_of_splits_and_sources_are_those_by_hand(tiny: Path) -> None:
    report = make_report(made_tokenizer(*THE), tiny, [])
    # [the][ the], [C3][A9][?] and [the]
    train = report["train"]
    assert (train["documents"], train["bytes"], train["tokens"], train["bytes_per_token"]) == (2, 13, 6, 2.1667)
    assert (train["words"], train["tokens_per_word"]) == (4, 1.5)
    assert (train["single_byte_share"], train["lone_byte_share"]) == (0.5, 0.333333)
    assert report["vocab_size"] == NUM_SPECIAL + 256 + 4
    assert train["ci95"] is None  # two documents
    b = part(report["by"]["source"], "b")
    assert (b["train"]["tokens"], b["train"]["bytes"], b["held_out"]["documents"]) == (4, 6, 0)
    a = part(report["by"]["source"], "a")["held_out"]
    assert (a["documents"], a["bytes"], a["tokens"]) == (2, 8, 5)  # [the][ ][th] and [C3][A9]
    assert [row["name"] for row in report["by"]["category"]] == ["short"]
    assert [row["name"] for row in report["by"]["length"]] == ["under 256 B"]


def test_the_gap_holds_text_against_training_text_of_its_own_source(tmp_path: Path) -> None:
    rows = [{"text": "the the"}, {"text": "éé", "source": "b"}]
    held = [{"text": "the th"}, {"text": "é", "source": "b"}, {"text": "abc", "source": "new"}]
    report = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, held, held[:1]), [])
    # a: 12 bytes at 2/7 tokens a byte, and there are 6; b: 2 bytes at 1, and there are 2; new has no training text
    assert report["gap"]["percent"] == round(100 * ((6 + 2) / (12 * 2 / 7 + 2) - 1), 2)
    assert report["gap"]["bytes"] == 14
    assert report["gap"]["ci95"] is None


def test_texts_of_two_scripts_are_not_held_against_each_other(tmp_path: Path) -> None:
    """More of the script that takes more tokens is no gap."""
    latin, thai = {"text": "the the the the"}, {"text": "ประเทศไทย"}
    corpus = write_corpus(tmp_path / "c", [latin] * 9 + [thai], [latin] + [thai] * 9, [latin])
    gap = make_report(made_tokenizer(*THE), corpus, [])["gap"]
    assert gap["percent"] == 0
    assert gap["ci95"] == [0, 0]


def test_unused_tokens_are_pieces_bytes_or_glitches(tiny: Path) -> None:
    tok = made_tokenizer(*THE)
    vocabulary = make_report(tok, tiny, [])["vocabulary"]
    assert vocabulary["tokens"] == 256 + 4
    assert (vocabulary["pieces_never"], vocabulary["glitch_never"]) == (1, 1)
    assert [of["text"] for of in vocabulary["pieces"]] == ["th"]  # " th" of val is not counted
    assert [of["text"] for of in vocabulary["glitch"]] == ["qz"]
    assert vocabulary["bytes_never"] == 256 - 3  # C3, A9, ?
    assert vocabulary["never"] == 253 + 2
    assert vocabulary["typed"] == 2  # "th" and "qz" typed alone
    assert vocabulary["rare"] == 5
    assert (vocabulary["made"], vocabulary["made_never"], vocabulary["made_rare"]) == (4, 2, 2)  # no bytes
    assert [band["tokens"] for band in vocabulary["bands"]] == [255, 5, 0, 0, 0, 0]
    assert vocabulary["uses"] == 6
    assert vocabulary["unused_special"] == ["<|pad|>", "<|context|>"]
    assert part_of(vocabulary["rare_tokens"], "the")["count"] == 2
    assert part_of(vocabulary["rare_tokens"], "<c3>")["bytes"] == 1


def test_tokens_that_were_made_are_those_beside_the_256_bytes(tok: Tokenizer, tiny: Path) -> None:
    """Of either backend: letters of sentencepiece's are tokens of a byte, too."""
    assert make_report(tok, tiny, [])["vocabulary"]["made"] == tok.vocab_size - NUM_SPECIAL - 256


def part_of(tokens: list[dict[str, Any]], text: str) -> dict[str, Any]:
    return next(of for of in tokens if of["text"] == text)


def test_99_percent_of_the_uses_need_the_most_used_tokens(tmp_path: Path) -> None:
    rows = [{"text": "a" * 98 + "b" + "c"}]
    vocabulary = make_report(made_tokenizer(), write_corpus(tmp_path / "c", rows, rows, rows), [])["vocabulary"]
    assert vocabulary["for_99_percent"] == 2


def test_long_tokens_of_few_documents_are_told_from_those_of_many(tmp_path: Path) -> None:
    line, word = "=" * 12, "electronic"
    texts = [*([line] * 30), *(word + " " for _ in range(30))]
    tok = Tokenizer(train_bpe(iter(texts), 300, 2, False))
    few = [{"text": "\n".join([line] * 10)}]
    many = [{"text": f"{word} {word}"} for _ in range(10)]
    vocabulary = make_report(tok, write_corpus(tmp_path / "c", few + many, many, many), [])["vocabulary"]
    assert [of["text"].strip() for of in vocabulary["local_tokens"]] == [line]
    assert (vocabulary["local"], vocabulary["local_signs"]) == (1, 1)


def test_scripts_without_spaces_have_no_words(tmp_path: Path) -> None:
    rows = [{"text": "the the"}, {"text": "ประเทศไทย และ ลาว"}, {"text": "你好世界"}]
    report = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, rows[1:], rows[2:]), [])
    assert (report["train"]["words"], report["train"]["tokens_per_word"]) == (2, 1.0)
    assert report["test"]["tokens_per_word"] is None


def test_the_interval_is_what_resampling_documents_gives(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [{"text": "the " * a + "x" * b} for a, b in generator.integers(1, 40, (400, 2))]
    tok = made_tokenizer(*THE)
    report = make_report(tok, write_corpus(tmp_path / "c", rows, rows[:1], rows[:1]), [])
    sizes = np.asarray([(len(row["text"]), len(tok.encode(row["text"]))) for row in rows])
    drawn = sizes[generator.integers(0, 400, (2000, 400))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    told = report["train"]["ci95"]
    assert told[1] - told[0] == pytest.approx(high - low, rel=0.1)
    assert told[0] == pytest.approx(low, abs=0.1 * (high - low))


def test_a_book_rests_on_its_blocks(tmp_path: Path) -> None:
    rows = [{"text": "the" + " the" * (12 * measure.BLOCK - 2)}]
    report = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, rows, rows), [])
    assert (report["train"]["units"], report["vocabulary"]["units"]) == (12, 12)
    assert report["train"]["ci95"] is not None
    assert part_of(report["vocabulary"]["pieces"], "th")["units"] == 0


# -- the sample


def test_a_sample_is_of_the_size_asked_for_and_holds_any_smaller_one(tmp_path: Path) -> None:
    rows = [{"text": f"the document {i} of some"} for i in range(2000)]
    corpus = write_corpus(tmp_path / "c", rows, rows[:9], rows[:9])
    total = sum(len(row["text"]) for row in rows)
    share = measure.sample(corpus, "train", total // 4)
    assert share == pytest.approx(0.25, abs=0.001)

    def ids(share: float) -> set[str]:
        return {name for table, _ in measure.sampled(corpus, "train", share) for name in table["id"].to_pylist()}

    assert 400 < len(ids(0.25)) < 600
    assert ids(0.1) < ids(0.25) < ids(1.0)
    assert len(ids(1.0)) == 2000


def test_a_sample_holds_its_share_of_a_text_that_is_larger_than_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LONG_TEXT", 1000)
    rows = [{"text": "the theatre " * 4000}, {"text": "the"}]
    found = measure.measure(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, rows, rows), sample_bytes=4800)
    assert found.parts["all", "", "train"][measure.SUMS.index("bytes")] == pytest.approx(4800, abs=5)
    assert found.words["theatre"] == pytest.approx(400, abs=1)


def test_words_are_of_a_share_of_the_pieces() -> None:
    words: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    number, num_bytes = count_words("word " * 400_000, "a book", 0.25, words, pieces)
    assert number == pytest.approx(2_000_000 / 4096 / 4, rel=0.2)
    assert words["word"] == pytest.approx(num_bytes / 5, rel=0.01)


def test_figures_of_a_sample_say_so(tmp_path: Path) -> None:
    rows = [{"text": f"the document {i} of some"} for i in range(400)]
    corpus = write_corpus(tmp_path / "c", rows, rows[:40], rows[:40])
    tok = made_tokenizer(*THE)
    report = make_report(tok, corpus, [], sample_bytes=2000)
    assert 0 < report["train"]["documents"] < 200
    assert report["sample"]["shares"]["train"] < 0.5
    assert report["sample"]["shares"]["val"] == 1
    assert "a sample of" in terminal_lines(report, tmp_path)[0]
    assert "a sample of" not in terminal_lines(report, tmp_path)[1]
    assert "of the sample" in "".join(report["advice"])  # glitch tokens are told of what was looked at


def test_the_same_corpus_gives_the_same_bytes_in_slices_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"the document {i} of some", "source": f"s{i % 3}"} for i in range(300)]
    corpus = write_corpus(tmp_path / "c", rows, rows[:40], rows[:40])
    written = []
    for number, size in enumerate((1 << 21, 1 << 21, 500)):
        monkeypatch.setattr("tokenizer.encode.SLICE_BYTES", size)
        (tmp_path / str(number)).mkdir()
        write_report(made_tokenizer(*THE), corpus, tmp_path / str(number), sample_bytes=6000)
        written.append((tmp_path / str(number) / "report.json").read_bytes())
    assert written[0] == written[1] == written[2]


def test_values_without_end_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MOST_VALUES", 50)
    rows = [{"text": "the", "category": f"c{i}"} for i in range(200)]
    corpus = write_corpus(tmp_path / "c", rows, rows, rows)
    found = measure.measure(made_tokenizer(*THE), corpus)
    assert sum(of == "category" for of, _, _ in found.parts) <= 50 + 3
    table = make_report(made_tokenizer(*THE), corpus, [])["by"]["category"]
    assert len(table) <= 21
    assert sum(row["train"]["documents"] for row in table) == 200


# -- languages


def test_languages_are_told_apart(tmp_path: Path) -> None:
    rows = [
        {"text": "The committee will meet again on Thursday to discuss the budget of the coming year."},
        {"text": "Der Ausschuss trifft sich am Donnerstag wieder, um über den Haushalt zu sprechen."},
    ]
    report = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, rows[:1], rows[:1]), [])
    told = {row["name"]: row["train"]["documents"] for row in report["by"]["language"]}
    assert told == {"en": 1, "de": 1}


def test_without_py3langid_or_daft_there_is_a_report_and_it_says_so(tiny: Path) -> None:
    folder = tiny.parent
    Tokenizer(train_bpe(iter(["the the"] * 9), 270, 2, False))._bpe.save(str(folder / "tokenizer.json"))
    absent = ["daft", "py3langid", "ftfy", "charset_normalizer", "sentencepiece"]
    code = f"""
import sys; from pathlib import Path
sys.modules.update(dict.fromkeys({absent}))
import tokenizer.bpe, tokenizer.train
corpus, folder = Path({str(tiny)!r}), Path({str(folder)!r})
tokenizer.train.report(tokenizer.bpe.load_tokenizer(folder), corpus, folder, [], tokenizer.train.TokenizerConfig())
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert report["languages"] == "languages are not told: py3langid is not installed"
    assert report["by"]["language"] == []
    assert "py3langid is not installed" in (folder / "report.html").read_text()


# -- key terms


def test_residual_idf_is_the_bits_that_chance_does_not_explain() -> None:
    # 8 occurrences in 2 of 16 pieces; by chance they would fall on 16 * (1 - e^-0.5) = 6.3
    assert residual_idf(8, 2, 16) == pytest.approx(np.log2(16 * (1 - np.exp(-0.5)) / 2))
    assert residual_idf(1, 1, 1000) == pytest.approx(0, abs=0.001)


def test_key_terms_are_what_texts_are_about_and_not_grammar() -> None:
    words: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    grammar, topic = "their result about which " * 3, "Entropy and entropy of Entropy. " * 2
    texts = [grammar + topic * (i % 5 == 0) + r"\alpha \begin{bmatrix}" for i in range(100)]
    number = sum(count_words(text, "", 1.0, words, pieces)[0] for text in texts)
    assert (number, pieces["entropy"], words["Entropy"], words["entropy"]) == (100, 20, 80, 40)
    assert "alpha" not in words
    assert "bmatrix" not in words
    found = key_terms(words, pieces, number)
    assert found[0] == ("Entropy", 120, 20)  # as it is mostly written
    assert {word for word, _, _ in found} <= {"Entropy", "their", "about", "which", "result"}


def test_a_term_is_cut_as_inside_of_a_sentence(tmp_path: Path) -> None:
    rows = [{"text": "thetas " * 5 if i % 4 == 0 else "other words"} for i in range(40)]
    told = make_report(made_tokenizer(*THE), write_corpus(tmp_path / "c", rows, rows, rows), [])["key_terms"]
    assert (told["terms"][0]["word"], told["terms"][0]["cut"]) == ("thetas", [" the", "t", "a", "s"])
    assert told["terms"][0]["tokens"] == 4
    assert (told["terms"][0]["count"], told["terms"][0]["pieces"]) == (50, 10)


# -- the page, the command, real corpora


def test_the_page_asks_for_nothing_and_escapes_all(tmp_path: Path) -> None:
    rows = [{"text": "the <script>alert(1)</script> " * 9, "source": "<img src=x>", "category": '"><b>'}] * 30
    folder = tmp_path / "c"
    write_report(made_tokenizer(*THE), write_corpus(folder, rows, rows, rows), folder)
    page = (folder / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "&lt;img src=x&gt;" in page
    assert not re.search(r"<script|<img|<b>|https?://|style=", page)
    assert "Key terms" in page


def test_the_page_names_its_bars_and_shows_a_few_of_many(tmp_path: Path) -> None:
    rows = [{"text": "the theatre", "source": f"s{i % 2}"} for i in range(20)]
    corpus, others = write_corpus(tmp_path / "c", rows, rows, rows), tmp_path / "of" / "others"
    others.mkdir(parents=True)
    names = [f"{others}/pe_{i}.json" for i in range(9)]
    for name in names:
        made_tokenizer(*THE)._bpe.save(name)
    write_report(made_tokenizer(*THE), corpus, tmp_path, open_others(",".join(names)))
    page = (tmp_path / "report.html").read_text()
    legend = re.search(r'<p class="faint legend">(.*?)</p>', page)
    assert legend
    assert re.findall(r'class="key (of-\d)"', legend[1]) == ["of-0", "of-1", "of-2", "of-3"]
    assert [*re.findall(r'title="([^"]*)"', legend[1])] == ["this one", *names[:3]]
    bars = re.findall(r'<span class="bars">(.*?)</li>', page, re.DOTALL)
    assert len(bars) == 2
    for row in bars:  # each bar with its colour, and its figure behind it
        assert re.findall(r'<rect class="(of-\d)"', row) == ["of-0", "of-1", "of-2", "of-3"]
        assert row.count('class="figures"') == 4
    table = page.split("all figures, of 10 tokenizers")[1].split("</table>")[0]
    assert all(f'title="{name}"' in table for name in names)
    assert "<span>of/</span><wbr><span>others/</span><wbr><span>pe_0.json</span>" in page
    assert page.count("<table") == page.count('<div class="scroll"><table>')


def trained_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: str | None = None) -> Config:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{{"question": "What is {i} and {i}?", "answer": "It is {2 * i}, I think."}}\n' for i in range(80))
    (tmp_path / "a.jsonl").write_text(rows)
    config = Config(run="r", source=[SourceConfig(path="a.jsonl")], args=SimpleNamespace(against=against))
    config.prepare.val_share = config.prepare.test_share = 0.2
    config.tokenizer.vocab_size = 270
    prepare_run(config)
    return config


def test_a_made_tokenizer_is_compared_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = trained_run(tmp_path, monkeypatch)
    train.train(config)
    folder = tmp_path / "runs/r/tokenizer"
    before = (folder / "tokenizer.json").stat()
    first = (folder / "report.json").read_bytes()
    assert json.loads(first)["against"] == []
    train.train(config)
    assert (folder / "report.json").read_bytes() == first
    config.args.against = str(folder)
    capsys.readouterr()
    train.train(config)
    after = (folder / "tokenizer.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    [of] = json.loads((folder / "report.json").read_text())["against"]
    assert (of["fewer_percent"], of["tokens"], of["changed_documents"]) == (0, of["own_tokens"], 0)
    assert of["verdict"] in capsys.readouterr().out
    assert "Other tokenizers" in (folder / "report.html").read_text()


def test_the_report_knows_how_the_tokenizer_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(config: Config) -> tuple[bool, float | None]:
        train.train(config)
        report = json.loads((tmp_path / "runs" / config.run / "tokenizer/report.json").read_text())
        return report["taken"], report["read_share"]

    config = trained_run(tmp_path, monkeypatch)
    assert made(config) == (False, 1)
    other = Config(run="s", source=config.source, args=config.args)
    prepare_run(other)
    other.tokenizer.sample_bytes, other.tokenizer.vocab_size = 1000, 265
    taken, share = made(other)
    assert not taken
    assert share == pytest.approx(
        1000 / sum(len(f"What is {i} and {i}?It is {2 * i}, I think.") for i in range(80)), rel=0.5
    )
    third = Config(run="t", source=config.source, args=config.args)
    third.prepare.val_share = third.prepare.test_share = 0.2
    prepare_run(third)
    third.tokenizer.file = str(tmp_path / "runs/r/tokenizer/tokenizer.json")
    assert made(third) == (True, None)
    foreign = tokenizers.Tokenizer(models.BPE({chr(i): i for i in range(128)}, []))
    foreign.save(str(tmp_path / "foreign.json"))
    third.args = SimpleNamespace(against=str(tmp_path / "foreign.json"))
    assert made(third) == (True, None)  # told again where it is there already
    [of] = json.loads((tmp_path / "runs/t/tokenizer/report.json").read_text())["against"]
    assert not of["loams"]
    assert "This one needs fewer tokens" in of["verdict"]


@needs_corpora
def test_a_corpus_of_quantum_computing_has_its_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"quantum_qa_batra.csv.gz": "qa", "quantum_book_batra.txt.gz": "text", "qiskit_textbook_en.txt.gz": "text"}
    sources = [SourceConfig(path=str(CORPORA / "quantum" / name), kind=kind) for name, kind in names.items()]  # type: ignore[arg-type]
    config = Config(run="q", source=sources)
    prepare_run(config)
    tok = train.train(config)
    corpus = tmp_path / "runs/q/corpus"
    report = json.loads((tmp_path / "runs/q/tokenizer/report.json").read_text())
    told = {term["word"].casefold() for term in report["key_terms"]["terms"][:20]}
    wanted = (
        "qubit qubits circuit circuits gate gates matrix state states vector hamiltonian measurement algorithm oracle"
    )
    assert len(told & set(wanted.split())) >= 8, sorted(told)
    assert not told & {"which", "these", "there", "their", "would", "about", "other", "where", "could"}
    for split in ("train", "val", "test"):  # what the splits hold, and not more
        of, rows = report[split], [row for table in read_corpus(corpus, split) for row in table.to_pylist()]
        texts = [row[name] for row in rows for name in ("text", "context", "question", "answer") if row[name]]
        assert (of["documents"], of["bytes"]) == (len(rows), sum(len(text.encode()) for text in texts))
        assert of["tokens"] == sum(map(len, tok.encode_batch(texts)))
        for dimension in ("source", "length"):
            parts = [row["train" if split == "train" else "held_out"] for row in report["by"][dimension]]
            whole = of["tokens"] if split == "train" else report["val"]["tokens"] + report["test"]["tokens"]
            assert sum(each["tokens"] for each in parts) == whole
    assert sum(band["tokens"] for band in report["vocabulary"]["bands"]) == tok.vocab_size - NUM_SPECIAL
    assert report["advice"] == []  # the default size is not scolded
    assert report["vocabulary"]["glitch_never"] == 0  # it was trained on all of this text
