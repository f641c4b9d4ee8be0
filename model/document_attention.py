"""Attention inside each document of packed rows on the CPU, as batches of plain matrix products.

In: queries, keys and values of packed rows, and the number of each token's document. Out: the attention of every
document run alone. SDPA's kernel for the CPU multiplies the whole square of a row and drops what the mask hides; here
documents of about the same length are gathered into batches, multiplied, and put back:

    layout(documents)                 where each document goes: batches of one width, a few widths in all
    gather -> products -> put back    forward, which keeps the probabilities for the backward pass

Padding inside a batch stands behind its document, where a causal query cannot see it, so the only mask is the
triangle. It is one operator for torch.compile, which sees tensors of fixed shape go in and come out.

Measured against SDPA, which takes twice the time on 8 rows of 512 in bfloat16 and half more in float32:
docs/decisions.md.

Shapes: B rows, T tokens, H query heads, K key/value heads, G = H/K, E numbers a head; a batch: N documents of W tokens.
"""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Then multiples of 256. Steps of 32 throughout gain nothing, and each shape of a product has a kernel to be made.
WIDTHS = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
BATCH_PAIRS = 1 << 21  # query-key pairs of a batch, over its heads: 4 MiB in bfloat16, so that they stay in the cache
RUN_QUERIES = 128  # a longer document is walked in runs of queries, each with the keys up to its end


class Batch(NamedTuple):
    """N documents, each padded to W tokens."""

    number: int  # N
    width: int  # W
    first_row: int  # where the batch begins among the rows of all batches
    first_pair: int  # and among their query-key pairs


class Layout(NamedTuple):
    """All batches. A row is a token's E numbers for one key/value head (for queries: G x E)."""

    batches: list[Batch]
    sources: Tensor  # int64: for each row of the batches, which of the B x T x K rows it is
    padding: Tensor  # int64: the rows of the batches that stand for no token
    places: Tensor  # int64: for each of the B x T x K rows, its row in the batches
    num_pairs: int  # query-key pairs of all batches, over the heads


def document_attention(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents_BT: Tensor) -> Tensor:
    """Causal attention (B,T,H,E) within each run of equal document numbers of a row.

    documents_BT: int32 on the CPU. Padding (-1) is a document of its own: finite, and of no use to anyone.
    """
    assert documents_BT.dtype == torch.int32, "its bytes are read as int32"
    (B, T, H, _), K = q_BTHE.shape, k_BTKE.shape[2]
    if torch.compiler.is_compiling():  # one size for all layouts; what is not written takes no memory
        num_pairs = B * T * H * most_pairs(T)
    else:
        num_pairs = layout(documents_BT.numpy().tobytes(), T, K, H // K).num_pairs
    return _forward(q_BTHE, k_BTKE, v_BTKE, documents_BT, num_pairs)[0]


@lru_cache(maxsize=8)
def layout(documents: bytes, T: int, K: int, G: int) -> Layout:
    """Batches for rows of T tokens; `documents` are the int32 of a (B,T) array. Cached: all layers ask for the same."""
    documents_BT = np.frombuffer(documents, dtype=np.int32).reshape(-1, T)
    begins_BT = np.ones(documents_BT.shape, dtype=bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    starts = np.flatnonzero(begins_BT)
    lengths = np.diff(np.append(starts, documents_BT.size))
    widths = np.array([width_of(int(length)) for length in lengths])
    batches, sources, real = [], [], []
    first_row = first_pair = 0
    for width in np.unique(widths).tolist():
        members = np.flatnonzero(widths == width)
        pairs = K * G * _pairs(width)  # of one document
        for some in _in_round_numbers(members, max(1, BATCH_PAIRS // pairs)):
            column = np.arange(width)
            real_NW = column < lengths[some, None]
            tokens_NW = starts[some, None] + np.where(real_NW, column, 0)  # padding reads the document's first token
            sources.append((tokens_NW[:, None] * K + np.arange(K)[:, None]).reshape(-1))
            real.append(np.broadcast_to(real_NW[:, None], (len(some), K, width)).reshape(-1))
            batches.append(Batch(len(some), width, first_row, first_pair))
            first_row += len(sources[-1])
            first_pair += len(some) * pairs
    all_sources, all_real = np.concatenate(sources), np.concatenate(real)
    places = np.empty(documents_BT.size * K, dtype=np.int64)
    places[all_sources[all_real]] = np.flatnonzero(all_real)
    padding = np.flatnonzero(~all_real)
    index = torch.from_numpy
    return Layout(batches, index(all_sources), index(padding), index(places), first_pair)


def width_of(length: int) -> int:
    """The width of the batch that a document goes to."""
    return next((width for width in WIDTHS if length <= width), -(-length // 256) * 256)


def runs(width: int) -> list[tuple[int, int]]:
    """The runs of queries of a document, as (start, end)."""
    return [(start, min(start + RUN_QUERIES, width)) for start in range(0, width, RUN_QUERIES)]


def _pairs(width: int) -> int:
    """Query-key pairs of one head that are multiplied for a document of this width."""
    return sum((end - start) * end for start, end in runs(width))


@torch.compiler.assume_constant_result
def most_pairs(T: int) -> int:
    """Pairs a token and head, at most, whatever documents share a row of T tokens."""
    return _most_pairs(T)


@cache
def _most_pairs(T: int) -> int:
    return max(-(-_pairs(width_of(length)) // length) for length in range(1, T + 1))


def _in_round_numbers(members: np.ndarray, most: int) -> list[np.ndarray]:
    """The members in parts of 1, 2, 3, 4, 6, 8, 12, ... up to `most`: each new shape costs 0.3 to 0.5 ms to prepare."""
    parts, done = [], 0
    while done < len(members):
        left = min(most, len(members) - done)
        power = 1 << (left.bit_length() - 1)
        size = power * 3 // 2 if left >= power * 3 // 2 else power
        parts.append(members[done : done + size])
        done += size
    return parts


@lru_cache(maxsize=64)
def _triangle(queries: int, G: int, dtype: torch.dtype) -> Tensor:
    """(queries x G, queries): -inf where a key is later than the query; the G heads of one key stand together."""
    return torch.full((queries, queries), -torch.inf, dtype=dtype).triu(1).repeat_interleave(G, 0)


def _layout_of(q_BTHE: Tensor, k_BTKE: Tensor, documents_BT: Tensor) -> tuple[Layout, int, int]:
    (_, T, H, _), K = q_BTHE.shape, k_BTKE.shape[2]
    return layout(documents_BT.numpy().tobytes(), T, K, H // K), K, H // K


def _as_rows(x: Tensor, K: int) -> Tensor:
    """(B,T,heads,E) as (B x T x K, heads / K x E)."""
    return x.reshape(x.shape[0] * x.shape[1] * K, -1)


def _of_batch(x_rows: Tensor, batch: Batch, K: int, E: int) -> Tensor:
    """A batch's part of rows in batches, (N x K, W x heads a key, E)."""
    last = batch.first_row + batch.number * K * batch.width
    return x_rows[batch.first_row : last].view(batch.number * K, -1, E)


def _pairs_of(pairs: Tensor, batch: Batch, K: int, G: int) -> list[tuple[slice, slice, Tensor]]:
    """A batch's runs: which queries, which keys, and the run's part of the pairs, (N x K, queries x G, keys)."""
    found, first = [], batch.first_pair
    for start, end in runs(batch.width):
        shape = (batch.number * K, (end - start) * G, end)
        size = shape[0] * shape[1] * shape[2]
        found.append((slice(start * G, end * G), slice(0, end), pairs[first : first + size].view(shape)))
        first += size
    return found


@torch.library.custom_op("loam::document_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, documents: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
    """The attention, and the probabilities of all pairs for the backward pass, in room for `num_pairs`."""
    (batches, sources, _, places, _), K, G = _layout_of(q, k, documents)
    E = q.shape[3]
    pairs = q.new_empty(num_pairs)
    q_rows, k_rows, v_rows = (_as_rows(x, K).index_select(0, sources) for x in (q, k, v))
    out = torch.empty_like(q_rows)
    for batch in batches:
        q_n, k_n, v_n, out_n = (_of_batch(x, batch, K, E) for x in (q_rows, k_rows, v_rows, out))
        for queries, keys, p in _pairs_of(pairs, batch, K, G):
            torch.baddbmm(p, q_n[:, queries], k_n[:, keys].mT, beta=0, alpha=E**-0.5, out=p)
            length = p.shape[1] // G
            p[:, :, -length:].add_(_triangle(length, G, p.dtype))
            torch.softmax(p, dim=-1, out=p)
            torch.bmm(p, v_n[:, keys], out=out_n[:, queries])
    return out.index_select(0, places).view(q.shape), pairs


@torch.library.custom_op("loam::document_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, documents: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    (batches, sources, padding, places, _), K, G = _layout_of(q, k, documents)
    E = q.shape[3]
    scale = E**-0.5
    q_rows, k_rows, v_rows, grad_rows = (_as_rows(x, K).index_select(0, sources) for x in (q, k, v, grad))
    grad_rows.index_fill_(0, padding, 0)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q_rows, k_rows, v_rows))
    for batch in batches:
        q_n, k_n, v_n, grad_n = (_of_batch(x, batch, K, E) for x in (q_rows, k_rows, v_rows, grad_rows))
        grad_q_n, grad_k_n, grad_v_n = (_of_batch(x, batch, K, E) for x in (grad_q, grad_k, grad_v))
        for queries, keys, p in reversed(_pairs_of(pairs, batch, K, G)):
            add = float(keys.stop < batch.width)  # the last run sees all keys, so it sets what the others add to
            grad_s = torch._softmax_backward_data(grad_n[:, queries] @ v_n[:, keys].mT, p, -1, p.dtype)
            torch.baddbmm(grad_v_n[:, keys], p.mT, grad_n[:, queries], beta=add, out=grad_v_n[:, keys])
            torch.baddbmm(grad_k_n[:, keys], grad_s.mT, q_n[:, queries], beta=add, alpha=scale, out=grad_k_n[:, keys])
            torch.baddbmm(grad_q_n[:, queries], grad_s, k_n[:, keys], beta=0, alpha=scale, out=grad_q_n[:, queries])
    return (
        grad_q.index_select(0, places).view(q.shape),
        grad_k.index_select(0, places).view(k.shape),
        grad_v.index_select(0, places).view(v.shape),
    )


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, documents: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(num_pairs)


@_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, documents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:4], output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad: Tensor, _: None):  # type: ignore[no-untyped-def]
    return *_backward(grad.contiguous(), *ctx.saved_tensors), None, None


_forward.register_autograd(_differentiate, setup_context=_save)
