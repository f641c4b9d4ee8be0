"""How encoding's time grows with the length of one word of the split pattern: it must stay linear on hostile text.

In: an open tokenizer. Out: MB/s of texts of 10 KB to 10 MB that are one letter, space or digit over and over, and the
exponent of time over bytes, 1 where it is linear. A run of letters or of spaces is one word of the pattern, to whose
bytes BPE applies its merges; a digit is a word by itself.
"""

import statistics
import time
from typing import Any

import numpy as np

from tokenizer.bpe import Tokenizer

KINDS = {"letter": "a", "space": " ", "digit": "7"}
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)  # bytes


def measure_long(tok: Tokenizer, turns: int, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Medians of `turns` of each size and kind, and the slope of log time over log bytes."""
    found = []
    for kind, character in KINDS.items():
        seconds, tokens = [], 0
        for size in sizes:
            text = character * size
            taken = []
            for _ in range(turns):
                start = time.perf_counter()
                tokens = len(tok.encode(text))
                taken.append(time.perf_counter() - start)
            seconds.append(statistics.median(taken))
        found.append({
            "kind": kind,
            "bytes": list(sizes),
            "seconds": [round(s, 5) for s in seconds],
            "mb_per_s": [round(size / s / 1e6, 2) for size, s in zip(sizes, seconds, strict=True)],
            "exponent": round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3),
            "tokens_of_longest": tokens,
        })  # fmt: skip
    return found


def long_line(found: dict[str, Any]) -> str:
    """One kind as text."""
    rates = ", ".join(f"{size:,}: {rate}" for size, rate in zip(found["bytes"], found["mb_per_s"], strict=True))
    return f"  one {found['kind']} over and over, MB/s by bytes: {rates}; time grows as bytes^{found['exponent']}"
