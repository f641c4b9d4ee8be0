"""The comparison in words and as a table for a terminal: each figure with the data that it rests on."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.text import one_line
from eval.config import FEWEST_SEED_RUNS
from eval.held_out import HeldOut
from eval.memorised import exposure_rows, memorised_rows
from eval.tables import lines, sample_line

PARTS = ("question", "answer", "context", "text")
PAIRS_SHOWN = 3  # all pairs of three checkpoints; of more, the best against each other one
VALUES_SHOWN, MOST_COLUMNS = 8, 6  # of a label, in a terminal; checkpoints beside each other there
ANSWERS_SHOWN, TABLES_SHOWN = 8, 3  # answers, and checkpoints whose scores are shown whole
WIDTH = 100  # columns of a terminal; the page shows answers whole


def comparability_notes(
    checkpoints: Sequence[dict[str, Any]],
    documents: HeldOut,
    unknown: Sequence[str],
    one_tokenizer: bool,
    responses_only: bool,
    basis: dict[str, int],
) -> list[str]:
    """What a reader must know before trusting the figures."""
    corpora = "corpus" if len(documents.corpora) == 1 else f"{len(documents.corpora)} corpora"
    notes = [
        f"judged on {basis['num_documents']:,} test documents in {basis['num_groups']:,} groups, "
        f"{basis['num_bytes']:,} bytes, of {corpora} {', '.join(documents.corpora)}"
    ]
    if documents.num_removed:
        notes.append(
            f"{documents.num_removed:,} of {documents.num_found:,} test documents were removed: "
            "a compared run trained on them, on others of their group, or on text that holds half of their 13-grams"
        )
    known = {each["name"]: each["contaminated_documents"] for each in checkpoints if each["contaminated_documents"]}
    if known:
        alike = len(known) == len(checkpoints) and len(set(known.values())) == 1
        told = (
            f"all ({max(known.values()):,})"
            if alike
            else ", ".join(f"{name} ({number:,})" for name, number in known.items())
        )
        notes.append(
            f"contaminated, with how many of these test documents: {told}; figures on the whole test split would be "
            "too good for them"
        )
    if documents.num_left_out:
        notes.append(
            f"{documents.num_left_out:,} more test documents were left out, by whole groups drawn by seed "
            "(--documents 0 takes all)"
        )
    if documents.num_cut:
        notes.append(
            f"long texts ({documents.num_cut:,} here) are judged in blocks of about 2,000 bytes, each counted as a "
            "document and a group: of them the intervals say what more text of the same books would give"
        )
    if unknown:
        notes.append(
            f"what {', '.join(unknown)} trained on is not on this machine: it may have seen these documents, "
            "and then its figures are too good"
        )
    if responses_only:
        notes.append(
            "compared on answers and texts alone, because a compared checkpoint was trained on responses only: "
            "bits per byte of questions and contexts are shown, and not part of the verdict"
        )
    if not one_tokenizer:
        notes.append(
            "perplexity and loss per token are NOT COMPARABLE here: the tokenizers differ, so a token is not the "
            "same amount of text; bits per byte compare"
        )
    return notes


def question_notes(known: dict[str, int | None], file: str | None, number: int) -> list[str]:
    """What a reader must know of a question file. known: of each checkpoint, how many stand in its training text."""
    told = [f"{name} {of:,}" for name, of in known.items() if of]
    if not told:
        return []
    return [
        f"of the {number:,} questions of {file} some stand in the training text, word for word or with half of their "
        f"13-grams: {', '.join(told)}; there an answer may be memory"
    ]


def print_result(result: dict[str, Any], line: Callable[[str], None] = print) -> None:
    """Table, verdicts and answers, at most WIDTH columns wide where names allow."""
    checkpoints = result["checkpoints"]
    for note in result["notes"]:
        _wrapped(note, line)
    line("")
    for row in table_rows(result):
        line(row)
    if trained := training_line(result):
        line("")
        _wrapped(trained, line)
    line("")
    for pair in shown_pairs(result):
        _wrapped(pair["verdict"], line)
    for told in seeds_told(result):
        _wrapped(told, line)
    for row in breakdown_rows(result):
        line(row)
    width = max(9, *(len(checkpoint["name"]) for checkpoint in checkpoints))
    for row in score_rows(result):
        line(row)
    names = [told["checkpoint"] for told in result["memorised"]]
    for rows in (
        memorised_rows(names, [told["figures"] for told in result["memorised"]]) if result["answers"] else [],
        exposure_rows(names, [told["exposure"] for told in result["memorised"]]),
    ):
        if rows:
            line("")
            for row in _aligned(rows):
                line(row)
    for number, item in enumerate(result["answers"][:ANSWERS_SHOWN], start=1):
        asked = item["question"] if item["question"] is not None else item["beginning"]
        line("")
        line(one_line(f"{number}. {asked}", WIDTH))
        if item["reference"]:
            line(f"   {'reference':<{width}}  {one_line(item['reference'], WIDTH - width - 5)}")
        for said in item["answers"]:
            end = "" if said["stopped"] else " (cut off)"
            text = one_line(said["text"], WIDTH - width - 5 - len(end)) or "(empty)"
            line(f"   {said['checkpoint']:<{width}}  {text}{end}")
    if more := result["answers"][ANSWERS_SHOWN:]:
        line(f"and {len(more):,} more, on the page")
    if result["answers"]:
        stops = "; ".join(
            f"{checkpoint['name']} {sum(item['answers'][k]['stopped'] for item in result['answers'])}"
            for k, checkpoint in enumerate(checkpoints)
        )
        line("")
        line(f"answers that stopped by themselves, of {len(result['answers'])}: {stops}")


def seeds_told(result: dict[str, Any]) -> list[str]:
    """What the intervals say of other seeds, and what the compared runs say of seeds where these alone differ."""
    noise, runs = result["settings"]["seed_noise"], result["settings"]["seed_runs"]
    if noise is None:
        told = ["The intervals speak of other documents of this kind, not of runs with another seed."]
        if len({str(Path(each["path"]).parent) for each in result["checkpoints"]}) > 1:
            told.append(
                f"One run of each cannot tell whether settings or seeds made two runs differ: train {FEWEST_SEED_RUNS} "
                "or more of one with other seeds, compare these, and give their noise as --seed_noise."
            )
    else:
        told = [
            "The intervals speak of other documents of this kind and of other seeds, but for epochs of one run "
            f"(seed noise {noise:g} bits per byte, measured on {runs:,} runs)."
        ]
    if (found := result["seed_noise"]) is not None:
        names = "; ".join(", ".join(of) for of in found["of"])
        use = (
            f"to judge other settings by it: --seed_noise {found['deviation']:.2g} --seed_runs {found['num_runs']}"
            if found["num_runs"] >= FEWEST_SEED_RUNS
            else f"{FEWEST_SEED_RUNS} or more such runs are needed to judge others by it"
        )
        told.append(
            f"Differ by their seed alone: {names}. Seed noise {found['deviation']:.2g} bits per byte (standard "
            f"deviation of {found['num_runs']:,} runs); {use}"
        )
    return told


def shown_pairs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """All pairs where they are few, else those of the best checkpoint."""
    if len(result["pairs"]) <= PAIRS_SHOWN:
        return result["pairs"]
    best = min(result["checkpoints"], key=lambda checkpoint: checkpoint["val_bpb"])["name"]
    return [pair for pair in result["pairs"] if best in (pair["a"], pair["b"])]


def table_rows(result: dict[str, Any]) -> list[str]:
    """Aligned rows: a checkpoint each, then under each column the documents and bytes that it rests on."""
    checkpoints = result["checkpoints"]
    parts = [part for part in PARTS if checkpoints[0][f"bytes_{part}"]]
    if len(parts) == 1:
        parts = []  # it would repeat the first column
    mark = "" if result["perplexity_comparable"] else " *"
    head = ["", "bits/byte", "95% interval", *parts, f"loss{mark}", f"perplexity{mark}", "tokens"]
    rows = [head]
    for each in checkpoints:
        low, high = each["val_bpb_ci95"]
        figures = [f"{each[f'bpb_{part}']:.4f}" for part in parts]
        rows.append(
            [each["name"], f"{each['val_bpb']:.4f}", f"{low:.4f} - {high:.4f}", *figures,
             f"{each['val_loss']:.4f}{mark}", f"{each['val_ppl']:.2f}{mark}", f"{each['num_tokens']:,}"]
        )  # fmt: skip
    for what, name in (("documents", "num_documents"), ("bytes", "num_bytes")):
        first = checkpoints[0]
        total = f"{result['held_out'][name]:,}"
        counts = [f"{first[f'{what}_{part}']:,}" for part in parts]
        every = f"{first[name]:,}" if what == "documents" else ""
        rows.append([what, total, "", *counts, every, every, every])
    lines = _aligned(rows)
    if mark:
        lines.append("* not comparable: the tokenizers differ")
    return lines


def gap_told(each: dict[str, Any]) -> str:
    """How much worse a checkpoint is on held-out documents than on training documents, with its interval."""
    interval = " [{:+.4f}, {:+.4f}]".format(*each["gap_ci95"]) if each["gap_ci95"] else ""
    return f"{each['gap_bpb']:+.4f}{interval}"


def training_line(result: dict[str, Any]) -> str:
    """What the checkpoints make of documents that they trained on: "" where none is known."""
    told = [
        f"{each['name']} {each['train_bpb']:.4f}"
        + (f" (held out: {gap_told(each)})" if each["gap_bpb"] is not None else "")
        for each in result["checkpoints"]
        if each["train_bpb"] is not None
    ]
    numbers = [each["train_documents"] for each in result["checkpoints"] if each["train_bpb"] is not None]
    return f"bits per byte of {max(numbers):,} documents of its own training split: {', '.join(told)}" if told else ""


def breakdown_rows(result: dict[str, Any]) -> list[str]:
    """Bits per byte of each checkpoint by source, category and so on; the commonest values, all of them on the page."""
    lines: list[str] = []
    for label, told in result["breakdown"].items():
        if len(told) < 2 or len(result["checkpoints"]) > MOST_COLUMNS:
            continue
        heading = "tokens in front" if label == "position" else label
        rows = [[heading, "documents", *(each["name"] for each in result["checkpoints"])]]
        for of in told[:VALUES_SHOWN]:
            name, number = one_line(of["value"], 40), f"{of['documents']:,}" if "documents" in of else ""
            rows.append([name, number, *map(_figure, of["bpb"])])
        lines += ["", *_aligned(rows)]
        if told[VALUES_SHOWN:]:
            lines.append(f"  and {len(told) - VALUES_SHOWN:,} more, on the page")
    return lines


def score_rows(result: dict[str, Any]) -> list[str]:
    """The scores of the answers: of few checkpoints each, of more the best one's; and means of each one's samples."""
    if not result["answers"]:
        return []
    sampled = []
    for table in [table for table in result["scores"] if table["samples"]]:
        means = f"{table['checkpoint']}: {sample_line(table['samples'], result['settings']['samples'])}"
        sampled += ["", *textwrap.wrap(means, WIDTH, subsequent_indent="  ", break_long_words=False)]
    told = result["scores"]
    if len(told) > TABLES_SHOWN:
        best = min(result["checkpoints"], key=lambda each: each["val_bpb"])["name"]
        told = [table for table in told if table["checkpoint"] == best]
    return [row for table in told for row in ["", *lines(table, table["checkpoint"])]] + sampled


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(text: str, line: Callable[[str], None]) -> None:
    for each in textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False):
        line(each)
