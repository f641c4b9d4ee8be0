"""Packing: documents of any length become rows of `seq_len` positions, nothing dropped, next to nothing padded.

1. `cut` turns a document of L tokens, which has L - 1 targets, into pieces of at most `seq_len` targets. A piece starts
   with the last token of the one before it, as input only: so each token but bos is a target exactly once.
2. `best_fit` puts pieces into rows: each row takes, from a window of waiting pieces, the longest that still fits.
3. The result is a `Plan`: which piece stands where. `data/loader.py` reads the ids when a row is needed.
"""

from dataclasses import dataclass

import numpy as np

# Pieces that wait for a place.
WINDOW = 1024


@dataclass
class Plan:
    """Rows of pieces. R rows, P pieces; row r holds pieces `row_starts[r]:row_starts[r + 1]` in this order."""

    documents: np.ndarray  # int64 (P,) document that a piece is cut from
    starts: np.ndarray  # int64 (P,) first input token inside the document
    lengths: np.ndarray  # int64 (P,) positions = targets, 1 to seq_len
    row_starts: np.ndarray  # int64 (R + 1,)
    seq_len: int

    def __len__(self) -> int:
        return len(self.row_starts) - 1

    @property
    def fill(self) -> float:
        """Share of positions that carry a target."""
        return float(self.lengths.sum()) / max(1, len(self) * self.seq_len)


def cut(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents' token counts (N,) -> (document, start, length) of each piece, documents in order, all int64."""
    targets = np.maximum(np.asarray(lengths, dtype=np.int64) - 1, 0)
    num_pieces = -(-targets // seq_len)
    documents = np.repeat(np.arange(len(targets)), num_pieces)
    first = np.cumsum(num_pieces) - num_pieces
    starts = (np.arange(len(documents)) - first[documents]) * seq_len
    return documents, starts, np.minimum(targets[documents] - starts, seq_len)


def best_fit(lengths: np.ndarray, seq_len: int, window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """Piece lengths (P,), in the order in which they arrive -> (order (P,), row_starts (R + 1,)).

    The waiting pieces stand in one stack per length, and a bit set of the lengths that wait: the longest piece of at
    most `room` positions is then two operations on an integer, about a microsecond a piece.
    """
    waiting: list[list[int]] = [[] for _ in range(seq_len + 1)]
    present = 0
    order: list[int] = []
    row_starts = [0]
    arriving = 0
    sizes = lengths.tolist()
    while len(order) < len(sizes):
        room = seq_len
        while True:
            while arriving < len(sizes) and arriving - len(order) < window:
                size = sizes[arriving]
                waiting[size].append(arriving)
                present |= 1 << size
                arriving += 1
            longest = (present & ((2 << room) - 1)).bit_length() - 1
            if longest <= 0:
                break
            order.append(waiting[longest].pop())
            if not waiting[longest]:
                present ^= 1 << longest
            room -= longest
        row_starts.append(len(order))
    return np.asarray(order, dtype=np.int64), np.asarray(row_starts, dtype=np.int64)


def pack(document_lengths: np.ndarray, seq_len: int, order: np.ndarray | None = None) -> Plan:
    """Pack documents, in `order` (indices into document_lengths, repeats allowed; default: as they stand)."""
    order = np.arange(len(document_lengths)) if order is None else order
    documents, starts, lengths = cut(np.asarray(document_lengths)[order], seq_len)
    placed, row_starts = best_fit(lengths, seq_len)
    return Plan(order[documents[placed]], starts[placed], lengths[placed], row_starts, seq_len)


def shuffle_rows(plan: Plan, generator: np.random.Generator) -> Plan:
    """The same rows in random order: best fit leaves the short pieces to the last rows, training must not."""
    rows = generator.permutation(len(plan))
    sizes = np.diff(plan.row_starts)[rows]
    row_starts = np.concatenate([[0], np.cumsum(sizes)])
    pieces = np.repeat(plan.row_starts[rows] - row_starts[:-1], sizes) + np.arange(row_starts[-1])
    return Plan(plan.documents[pieces], plan.starts[pieces], plan.lengths[pieces], row_starts, plan.seq_len)
