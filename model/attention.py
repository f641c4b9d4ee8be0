"""Who attends to whom: the mask of a packed row, and the attention itself. What a cached row sees: cache.py.

`build_mask(documents)` once per forward, then `attend(q, k, v, mask)` in every layer:

    documents None        -> None                    -> causal SDPA
    documents on CPU      -> the documents           -> document_attention.py, each document by itself
    documents on MPS      -> numbers for all pairs   -> SDPA
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

from model.document_attention import document_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


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


class Documents(NamedTuple):
    """Rows of several documents on the CPU: the number of each token's document, int32."""

    numbers_BT: Tensor


Mask = Union[None, Documents, Tensor, "BlockMask"]  # a tensor: 0 or -inf for each pair, (B,1,T,S)


def build_mask(documents_BT: Tensor | None, dtype: torch.dtype, flex: bool = True) -> Mask:
    """What `attend` needs to keep documents apart on their device. `flex` False: SDPA on CUDA too.

    For SDPA the pairs are numbers of the queries' `dtype`: SDPA turns a boolean mask into that again in each layer
    and keeps it for the backward pass, T x T numbers a row and layer.
    """
    if documents_BT is None:
        return None
    B, T = documents_BT.shape
    if documents_BT.device.type == "cpu":
        return Documents(documents_BT.int())
    if flex and documents_BT.is_cuda and flex_available():
        from torch.nn.attention.flex_attention import create_block_mask

        make: Any = create_block_mask if torch.compiler.is_compiling() else _compiled("create_block_mask")
        return make(document_mask_mod(documents_BT), B, None, T, T, device=documents_BT.device)
    return additive(document_mask(documents_BT), dtype)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where the mask is True, else -inf."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def attend(q_BTHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention, each key/value head serving H/K query heads: (B,T,H,E), in the queries' precision.

    Keys and values of a cache may have another one; the mask has theirs, and then the arithmetic too.
    """
    if q_BTHE.dtype != k_BSKE.dtype:
        return attend(q_BTHE.to(k_BSKE.dtype), k_BSKE, v_BSKE, mask).to(q_BTHE.dtype)
    if isinstance(mask, Documents):
        return document_attention(q_BTHE, k_BSKE, v_BSKE, mask.numbers_BT)
    q, k, v = (x.transpose(1, 2) for x in (q_BTHE, k_BSKE, v_BSKE))
    if (
        mask is None
    ):  # a single query is the last token: it sees every key (SDPA's causal one would see the first alone)
        several = q.shape[2] > 1
        return F.scaled_dot_product_attention(q, k, v, is_causal=several, enable_gqa=True).transpose(1, 2)
    if isinstance(mask, Tensor):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)
    from torch.nn.attention.flex_attention import flex_attention

    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled("flex_attention")
    return flex(q, k, v, block_mask=mask, enable_gqa=True).transpose(1, 2)


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
            "slower, and T x T numbers a row",
            stacklevel=2,
        )
    return not missing


@cache
def _compiled(name: str) -> Callable[..., Any]:
    """FlexAttention's functions, compiled once: uncompiled they materialise all T x T scores."""
    from torch.nn.attention import flex_attention as flex

    return torch.compile(getattr(flex, name))
