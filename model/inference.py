"""A decoder prepared for answering: the same function of the same weights, sooner.

    pack(model)    in place, for good: it can no longer be trained or saved

Matrices that read the same numbers become one (queries, keys and values; gate and up), and on x86 processors all of
them are laid out as oneDNN wants them: torch's own product in float32 is MKL's, which reads the weights at half the
memory's speed for one row and computes at half of oneDNN's for many (docs/decisions.md). Precision stays what it is;
sums are taken in another order, so results differ by rounding.
"""

import platform
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Mask, attend
from model.cache import Cache
from model.decoder import Attention, Decoder, FeedForward, Layer, RMSNorm, rotate

# Names on command lines for what weights are opened as; None: as they are stored.
PRECISIONS = {"stored": None, "fp32": torch.float32, "bf16": torch.bfloat16}


class Product(nn.Module):
    """x -> x W^T, W being the given (out, in) matrices below one another."""

    def __init__(self, *weights_OI: Tensor) -> None:
        super().__init__()
        weight_OI = torch.cat([weight.detach() for weight in weights_OI])
        self.packed = packs(weight_OI)
        # A plain attribute: a tensor in oneDNN's layout is nothing that a module could save or move.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight_OI) if self.packed else weight_OI

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")
        return F.linear(x, self.weight)


def packs(weight: Tensor) -> bool:
    """Whether oneDNN is there for a matrix of this kind: on x86, in float32, and in bfloat16 where that is fast."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    fast = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return fast and platform.machine().lower() in ("x86_64", "amd64")


class Norm(nn.Module):
    """`RMSNorm` of four operations, for one token 4 us where torch's own takes 11: x w sqrt(E) / |(x, sqrt(E eps))|.

    In float32, as there. Of one norm over the last dimension E, or of one for each head, (..., heads, E).
    """

    scale: Tensor
    least: Tensor

    def __init__(self, norms: Sequence[RMSNorm]) -> None:
        super().__init__()
        size = norms[0].weight.numel()
        weight = torch.stack([norm.weight.detach().float() for norm in norms]) * size**0.5
        self.register_buffer("scale", weight if len(norms) > 1 else weight[0])
        self.register_buffer("least", torch.tensor((size * norms[0].eps) ** 0.5, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        long = x.float()
        length = torch.hypot(torch.linalg.vector_norm(long, dim=-1, keepdim=True), self.least)
        return (long * self.scale / length).to(x.dtype)


class JoinedAttention(nn.Module):
    """`Attention` with one product for queries, keys and values, and one norm and rotation for queries and keys."""

    def __init__(self, own: Attention) -> None:
        super().__init__()
        self.layer, self.head_dim = own.layer, own.head_dim
        self.num_heads = own.q_proj.out_features // own.head_dim
        self.num_kv_heads = own.k_proj.out_features // own.head_dim
        self.qkv_proj = Product(own.q_proj.weight, own.k_proj.weight, own.v_proj.weight)
        self.o_proj = Product(own.o_proj.weight)
        self.qk_norm: nn.Module = nn.Identity()
        if isinstance(own.q_norm, RMSNorm) and isinstance(own.k_norm, RMSNorm):
            self.qk_norm = Norm([own.q_norm] * self.num_heads + [own.k_norm] * self.num_kv_heads)

    def forward(self, x_BTD: Tensor, cos_sin: tuple[Tensor, Tensor], mask: Mask, cache: Cache | None) -> Tensor:
        both = self.num_heads + self.num_kv_heads
        heads_BTNE = self.qkv_proj(x_BTD).unflatten(2, (-1, self.head_dim))
        qk_BTNE, v_BTKE = rotate(self.qk_norm(heads_BTNE[:, :, :both]), cos_sin), heads_BTNE[:, :, both:]
        q_BTHE, k_BTKE = qk_BTNE[:, :, : self.num_heads], qk_BTNE[:, :, self.num_heads :]
        if cache is not None:
            k_BTKE, v_BTKE = cache.extend(self.layer, k_BTKE, v_BTKE)
        return self.o_proj(attend(q_BTHE, k_BTKE, v_BTKE, mask).flatten(2))


class JoinedFeedForward(nn.Module):
    """`FeedForward` with one product for gate and up."""

    def __init__(self, own: FeedForward) -> None:
        super().__init__()
        self.gate_up_proj = Product(own.gate_proj.weight, own.up_proj.weight)
        self.down_proj = Product(own.down_proj.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x_BTD).chunk(2, dim=2)
        return self.down_proj(F.silu(gate) * up)


def pack(model: Decoder) -> Decoder:
    """The model itself, its matrices replaced by prepared ones; the embedding stays, and the head gets its own.

    One that is prepared already stays as it is.
    """
    if model.prepared_head is not None:
        return model
    model.requires_grad_(False)
    for layer in model.layers:
        assert isinstance(layer, Layer)
        layer.add_module("self_attn", JoinedAttention(layer.self_attn))
        layer.add_module("mlp", JoinedFeedForward(layer.mlp))
        for name in ("input_layernorm", "post_attention_layernorm"):
            layer.add_module(name, Norm([getattr(layer, name)]))
    model.add_module("norm", Norm([model.norm]))
    model.prepared_head = Product(model.head)
    return model.eval()
