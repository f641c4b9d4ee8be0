"""One row to fine-tune on, shown as the model sees it: what is trained, and what is only read.

In: rows and their dialog. Out: lines for the terminal: shares, then the text of a row with its special tokens spelled
out, what is trained in green, the rest dim; where no colours are shown, what is trained stands in double brackets.
"""

import itertools

import numpy as np

from data.tokens import Tokens
from tokenizer.dialog import Dialog

SHOWN = 160  # tokens of a run that are shown; of a longer one its two ends
TRAINED, READ, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def preflight(tokens: Tokens, dialog: Dialog, seq_len: int, colours: bool) -> list[str]:
    """Lines about rows (at least one), and the text of the first."""
    assert tokens.trained is not None, "rows to fine-tune on"
    per_row = np.add.reduceat(tokens.trained > 0, tokens.offsets)
    ended = np.add.reduceat(np.asarray(tokens.trained) == 2, tokens.offsets) > 0
    lines = [
        f"rows: {np.median(tokens.lengths):.0f} tokens in the median, {tokens.lengths.max():,} at most (context "
        f"{seq_len:,}); trained of each {np.median(per_row):.0f} in the median, {per_row.min():,} at least; "
        f"{ended.mean():.1%} of them teach where the answer ends",
        "the first row, " + ("green is trained, the rest is read:" if colours else "[[what is trained]] in brackets:"),
    ]
    first = slice(int(tokens.offsets[0]), int(tokens.offsets[0] + tokens.lengths[0]))
    return [*lines, "  " + row_text(tokens.ids[first], tokens.trained[first] > 0, dialog, colours)]


def row_text(ids: np.ndarray, trained: np.ndarray, dialog: Dialog, colours: bool) -> str:
    """The row's text on one line."""
    parts = []
    for is_trained, run in itertools.groupby(zip(trained.tolist(), ids.tolist(), strict=True), lambda each: each[0]):
        found = [token for _, token in run]
        half = SHOWN // 2
        shown = dialog.spell(found)
        if len(found) > SHOWN:
            skipped = f" ... {len(found) - SHOWN:,} tokens ... "
            shown = dialog.spell(found[:half]) + skipped + dialog.spell(found[-half:])
        text = "".join(c if c.isprintable() else "\\n" if c == "\n" else " " for c in shown)
        if colours:
            parts.append(f"{TRAINED if is_trained else READ}{text}{PLAIN}")
        else:
            parts.append(f"[[{text}]]" if is_trained else text)
    return "".join(parts)
