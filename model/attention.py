"""Who attends to whom: the mask of a packed row, the mask and store of a cached one, the attention itself.

`build_mask(documents)` once per forward, then `attend(q, k, v, mask)` in every layer:

    documents None        -> None                    -> causal SDPA
    documents on CPU      -> a list of Blocks        -> SDPA block by block, leaving out keys that no query sees
    documents on MPS      -> one Block of all pairs  -> SDPA
    documents on CUDA     -> FlexAttention's mask    -> FlexAttention, which leaves out blocks without a pair

The CUDA path is written for torch 2.11 and 2.13 and unmeasured. FlexAttention has no backward on CPU.

Shapes: B rows, T queries, S keys, H query heads, K key/value heads, E numbers per head.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK_QUERIES = 256  # queries that share one run of keys on CPU: build_mask says why


def document_mask(documents_BT: Tensor) -> Tensor:
    """Boolean (B,1,T,T), True where query t may see key s: s <= t in the same document; padding (-1) sees itself only.

    Every query sees at least itself, so no row of the softmax is empty and no NaN arises.
    """
    T = documents_BT.shape[1]
    same = (documents_BT[:, :, None] == documents_BT[:, None, :]) & (documents_BT >= 0)[:, :, None]
    causal = torch.ones(T, T, dtype=torch.bool, device=documents_BT.device).tril()
    diagonal = torch.eye(T, dtype=torch.bool, device=documents_BT.device)
    return ((same & causal) | diagonal)[:, None]


def document_mask_mod(documents_BT: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The same rule as `document_mask`, as the function of (row, head, query, key) that FlexAttention asks for."""

    def mask_mod(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        document = documents_BT[b, t]
        return ((t >= s) & (document == documents_BT[b, s]) & (document >= 0)) | (t == s)

    return mask_mod


class Block(NamedTuple):
    """A run of queries, the run of keys that any of them may see, and 0 or -inf for each pair."""

    queries: slice
    keys: slice
    mask_B1TS: Tensor


Mask = Union[None, list[Block], "BlockMask"]


def build_mask(documents_BT: Tensor | None, dtype: torch.dtype, flex: bool = True) -> Mask:
    """What `attend` needs to keep documents apart on their device. `flex` False: SDPA on CUDA too.

    For SDPA the pairs are numbers of the queries' `dtype`: SDPA turns a boolean mask into that again in each layer
    and keeps it for the backward pass, T x T numbers a row and layer.

    On CPU each run of 256 queries is given only the keys from the earliest start of a document in it. Measured
    on one core, forward + backward, against one block of all pairs, documents of about 130 tokens: 256 tokens the
    same, 512 a fifth less time, 1,024 half (float32; bfloat16 the same but 40% less). Runs of 64 and 128 are faster
    still in float32, slower in bfloat16. Elsewhere, and compiled, finding the starts would stop the device: one block.
    """
    if documents_BT is None:
        return None
    B, T = documents_BT.shape
    if flex and documents_BT.is_cuda and flex_available():
        from torch.nn.attention.flex_attention import create_block_mask

        make: Any = create_block_mask if torch.compiler.is_compiling() else _compiled("create_block_mask")
        return make(document_mask_mod(documents_BT), B, None, T, T, device=documents_BT.device)
    if documents_BT.device.type != "cpu" or torch.compiler.is_compiling():
        return [all_pairs(document_mask(documents_BT), dtype)]
    mask_B1TT = _additive(document_mask(documents_BT), dtype)
    firsts = first_keys(documents_BT)
    runs = ((start, min(start + BLOCK_QUERIES, T)) for start in range(0, T, BLOCK_QUERIES))
    return [
        Block(slice(start, end), keys := slice(firsts[start], end), mask_B1TT[:, :, start:end, keys].contiguous())
        for start, end in runs
    ]


def first_keys(documents_BT: Tensor) -> list[int]:
    """For each column the earliest start, over the rows, of the document that the column belongs to."""
    column = torch.arange(documents_BT.shape[1])
    starts_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    starts_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return (column * starts_BT).cummax(dim=1).values.amin(dim=0).tolist()


def all_pairs(mask_B1TS: Tensor, dtype: torch.dtype) -> Block:
    return Block(slice(None), slice(None), _additive(mask_B1TS, dtype))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention, each key/value head serving H/K query heads: (B,H,T,E)."""
    if mask is None:
        return F.scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, is_causal=True, enable_gqa=True)
    if isinstance(mask, list):
        parts = [
            F.scaled_dot_product_attention(
                q_BHTE[:, :, queries], k_BKSE[:, :, keys], v_BKSE[:, :, keys], attn_mask=pairs, enable_gqa=True
            )
            for queries, keys, pairs in mask
        ]
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
    from torch.nn.attention.flex_attention import flex_attention

    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled("flex_attention")
    return flex(q_BHTE, k_BKSE, v_BKSE, block_mask=mask, enable_gqa=True)


@torch.compiler.assume_constant_result
def flex_available() -> bool:
    """Whether FlexAttention can be compiled here; if not, one warning says what is used instead."""
    return _flex_available()


@cache
def _flex_available() -> bool:
    missing = [name for name in ("torch.nn.attention.flex_attention", "triton") if not importlib.util.find_spec(name)]
    if missing:
        warnings.warn(
            f"attention: {missing[0]} is missing, so documents are kept apart by SDPA with a dense mask: "
            "slower, and T x T bytes a row",
            stacklevel=2,
        )
    return not missing


@cache
def _compiled(name: str) -> Callable[..., Any]:
    """FlexAttention's functions, compiled once: uncompiled they materialise all T x T scores."""
    from torch.nn.attention import flex_attention as flex

    return torch.compile(getattr(flex, name))


class Cache:
    """Keys and values of the tokens already read, for rows whose prompts end in the same column (padded on
    the left).

    Memory: 2 x num_layers x B x K x S x E numbers, allocated once.
    """

    def __init__(
        self,
        num_layers: int,
        starts_B: Tensor,
        num_kv_heads: int,
        num_slots: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> None:
        """`starts_B`: the column of each row's first real token; nobody sees the padding left of it."""
        size = (num_layers, len(starts_B), num_kv_heads, num_slots, head_dim)
        self.keys_LBKSE = torch.zeros(size, dtype=dtype, device=starts_B.device)
        self.values_LBKSE = torch.zeros(size, dtype=dtype, device=starts_B.device)
        self.starts_B = starts_B
        self.length = 0  # columns filled so far; the decoder moves it on at the end of a forward

    def columns(self, num_new: int) -> Tensor:
        return torch.arange(self.length, self.length + num_new, device=self.starts_B.device)

    def positions(self, num_new: int) -> Tensor:
        """(B, num_new): each new column's position in its row, counted from the row's first real token."""
        return (self.columns(num_new)[None] - self.starts_B[:, None]).clamp(min=0)

    def mask(self, num_new: int, dtype: torch.dtype) -> list[Block]:
        """For (B,1,num_new,length + num_new) pairs: past and self but no padding; padding sees itself."""
        query = self.columns(num_new)[:, None]
        key = torch.arange(self.length + num_new, device=self.starts_B.device)[None]
        real_B1S = (key >= self.starts_B[:, None])[:, None]
        return [all_pairs(((real_B1S & (key <= query)) | (key == query))[:, None], dtype)]

    def extend(self, layer: int, k_BKTE: Tensor, v_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values; return all that are stored so far."""
        end = self.length + k_BKTE.shape[2]
        self.keys_LBKSE[layer, :, :, self.length : end] = k_BKTE
        self.values_LBKSE[layer, :, :, self.length : end] = v_BKTE
        return self.keys_LBKSE[layer, :, :, :end], self.values_LBKSE[layer, :, :, :end]
