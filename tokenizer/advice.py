"""The report in words: what to do about figures that are out of bounds, and the main ones as lines for a terminal.

In: the report's plain values (report.py). Out: lines. No two pieces of advice pull apart: more tokens are due where
nearly all of a vocabulary is used, fewer where most of it is not, and in between neither is.
"""

from pathlib import Path
from typing import Any

from tokenizer.config import default_vocab_size
from tokenizer.measure import SPLITS

# What the corpora of the project show stands in docs/decisions.md. At the default size 3 to 26% of the tokens beside
# the bytes are seldom used, at four times that mostly over 60%. Below 10% doubling leaves it under 40%.
SMALLER, LARGER = 0.5, 0.1
GAP, TERM_TOKENS, LONE_SHARE = 5.0, 1.5, 0.02
OWN = "a tokenizer trained on this corpus (a run without --file)"
EXAMPLES = 5
MOST = 3  # pieces of advice, and other tokenizers, in the terminal


def advice(report: dict[str, Any]) -> list[str]:
    """What to do about the figures that are out of bounds, one line each."""
    vocabulary, width = report["vocabulary"], report["gap"]
    fewer, more = _fewer_tokens(report), _more_tokens(report)
    looked_at = "" if report["sample"]["shares"]["train"] == 1 else " of the sample"
    lines = []
    if width["ci95"] and width["ci95"][0] > GAP:
        lines.append(
            f"held-out text takes {width['percent']:.1f}% [{width['ci95'][0]:.1f}, {width['ci95'][1]:.1f}] more tokens "
            "than training text of the same sources and scripts: go by val and test, training text flatters it"
        )
    if fewer:
        lines.append(
            f"{_seldom(report):.0%} of the {vocabulary['made']:,} tokens beside the single bytes are used fewer than "
            f"{vocabulary['rare_under']} times{looked_at and ' in the sample'}: their embeddings learn little; {fewer}"
        )
    if short := _without_tokens(report):
        lines.append(f"{' and '.join(short)}; {more}")
    if vocabulary["glitch_never"]:
        lines.append(
            f"tokens that never come out of encoding the training documents{looked_at}, nor stand in one that does: "
            f"{vocabulary['glitch_never']:,}; "
            "prompts that hold one meet an embedding that was never trained"
            + (f"; {OWN} has none" if report["taken"] else "")
        )
    return lines


def _without_tokens(report: dict[str, Any]) -> list[str]:
    """What takes many tokens: key terms, and characters that are cut into bytes."""
    found = []
    if (tokens := report["key_terms"].get("tokens_per_term", 0)) > TERM_TOKENS:
        found.append(f"a key term takes {tokens:.2f} tokens")
    if (lone := report["train"]["lone_byte_share"] or 0) > LONE_SHARE:
        cut = report["cut_characters"]
        examples = [f"{of['text']} {of['count']:,} times" for of in cut["first"][:EXAMPLES]]
        examples += ["..."] if cut["number"] > EXAMPLES else []
        named = f" ({', '.join(examples)})" if examples else ""
        found.append(f"{lone:.1%} of the tokens are bytes of characters without a token{named}")
    return found


def _seldom(report: dict[str, Any]) -> float:
    """The share of the tokens beside the bytes that training uses never or fewer than `rare_under` times."""
    of = report["vocabulary"]
    return (of["made_never"] + of["made_rare"]) / max(1, of["made"])


def _read(report: dict[str, Any]) -> str | None:
    """The other setting that counts where the tokenizer was trained on a part of the text only."""
    share = report["read_share"]
    told = f"{share:.1%}" if share and share >= 0.001 else "under 0.1%"
    return None if share in (None, 1) else f"a larger --sample_bytes ({told} of the training text was read)"


def _fewer_tokens(report: dict[str, Any]) -> str | None:
    """What makes the vocabulary smaller; None where that is not due, or half of it is less than any default."""
    half = report["vocab_size"] // 2
    if _seldom(report) <= SMALLER or half < default_vocab_size(0):
        return None
    if report["taken"]:
        return f"{OWN} can be smaller"
    read = _read(report)
    return f"try half, --vocab_size {half}" + (f", or {read}" if read else "")


def _more_tokens(report: dict[str, Any]) -> str:
    """What gives more of the text tokens of its own, or why a larger vocabulary is not due."""
    if report["taken"]:
        return f"{OWN} learns tokens from this text"
    read = _read(report)
    if _seldom(report) <= LARGER:
        return f"a larger --vocab_size{f', or {read},' if read else ''} would hold more of them"
    rule = (
        f"a larger --vocab_size is not due: {_seldom(report):.0%} of its tokens are used fewer than "
        f"{report['vocabulary']['rare_under']} times already"
    )
    return f"{rule}; try {read}" if read else rule


# -- lines for a terminal


def amount(number: int, what: str) -> str:
    """1 document, 2 documents."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def terminal_lines(report: dict[str, Any], page: Path) -> list[str]:
    """The main figures, in 15 lines at most."""
    lines = [_split_line(split, report[split], report["sample"]["shares"][split]) for split in SPLITS]
    if report["gap"]["percent"] is not None:
        lines.append(gap_line(report["gap"]))
    vocabulary, named = report["vocabulary"], report["key_terms"]
    if vocabulary["made"]:
        lines.append(
            f"vocabulary: of {vocabulary['made']:,} tokens beside the single bytes training never uses "
            f"{vocabulary['made_never']:,}, and fewer than {vocabulary['rare_under']} times {vocabulary['made_rare']:,}"
        )
    if named["terms"]:
        first = ", ".join(term["word"] for term in named["terms"][:EXAMPLES])
        rest = ", ..." if len(named["terms"]) > EXAMPLES else ""
        lines.append(f"key terms that are one token: {named['one_token']} of {len(named['terms'])} ({first}{rest})")
    lines += _first([of["verdict"] for of in report["against"]], "other tokenizers: {} more")
    if not report["against"]:
        lines.append(alone_line(report))
    lines += _first([f"advice: {line}" for line in report["advice"]], "advice: {} more")
    return [*lines, f"report: {page}"]


def _first(lines: list[str], rest: str) -> list[str]:
    """At most MOST of the lines, and how many more the page has."""
    return lines if len(lines) <= MOST else [*lines[:MOST], f"{rest.format(len(lines) - MOST)}, in the report"]


def _split_line(split: str, of: dict[str, Any], share: float) -> str:
    if not of["tokens"]:
        return f"{split}: no text"
    part = "" if share == 1 else f", a sample of {share:.1%}"
    amounts = f"{amount(of['bytes'], 'byte')}, {amount(of['tokens'], 'token')}, {amount(of['documents'], 'document')}"
    return f"{split}: {of['bytes_per_token']:.2f} bytes per token ({amounts}{part})"


def gap_line(of: dict[str, Any]) -> str:
    """How many more or fewer tokens held-out text takes, how sure that is, and what it rests on."""
    percent, ci = of["percent"], of["ci95"]
    word = "more" if percent >= 0 else "fewer"
    low, high = sorted(ci if percent >= 0 else (-ci[0], -ci[1])) if ci else (0, 0)
    sure = f" [{low:.1f}, {high:.1f}]" if ci else ""
    basis = f"{amount(of['documents'], 'document')}, {amount(of['bytes'], 'byte')}"
    return (
        f"held-out text takes {abs(percent):.1f}%{sure} {word} tokens than training text of the "
        f"same sources and scripts ({basis}{'' if ci else ': too few for an interval, it may be chance'})"
    )


def alone_line(report: dict[str, Any]) -> str:
    """Where no other tokenizer was named: how to, and what the corpus alone says of this one."""
    held = [report[split] for split in ("val", "test")]
    words = sum(of["words"] for of in held)
    known = []
    if words:
        known.append(
            f"{sum(of['words'] * (of['tokens_per_word'] or 0) for of in held) / words:.2f} tokens a held-out word"
        )
    if report["key_terms"]["terms"]:
        known.append(f"{report['key_terms']['tokens_per_term']:.2f} a key term")
    alone = f"; from this corpus alone: {', '.join(known)} (1 is the least possible)" if known else ""
    asked = "would another tokenizer be better" if report["taken"] else "does the corpus need a tokenizer of its own"
    return f"{asked}? name another one with --against to compare{alone}"
