"""Encoding by sentencepiece itself. In: texts. Out: the ids that the tokenizer.json beside its model gives too.

No import of sentencepiece here: a machine that only trains may lack it.
"""

import os
import re
from itertools import chain
from typing import TYPE_CHECKING

from tokenizer.template import NUM_SPECIAL

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "\u2581"  # what sentencepiece writes for a space, and cannot tell from one
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")
FEW = 1 << 14  # characters that are encoded before threads have started


def encode_native(model: "SentencePieceProcessor", texts: list[str]) -> list[list[int]]:
    """Ids of each text by sentencepiece itself; U+2581 in its three bytes."""
    num_threads = 1 if sum(map(len, texts)) < FEW else usable_cores()
    parts = [text.split(SPACE) for text in texts]
    ids = iter(model.encode([*chain.from_iterable(parts)], num_threads=num_threads))
    if len(texts) == sum(map(len, parts)):
        return list(ids)
    between = [NUM_SPECIAL + byte for byte in SPACE.encode()]
    joined = []
    for some in parts:
        joined.append(next(ids))
        for _ in some[1:]:
            joined[-1] += between + next(ids)
    return joined


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
