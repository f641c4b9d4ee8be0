"""A decoder prepared for answering: the same function of the same weights, sooner.

    pack(model)    in place, for good: it can no longer be trained or saved

Matrices that read the same numbers become one (queries, keys and values; gate and up), and on x86 processors all of
them are laid out as oneDNN wants them: torch's own product in float32 is MKL's, which reads the weights at half the
memory's speed for one row and computes at half of oneDNN's for many (docs/decisions.md). Precision stays what it is;
sums are taken in another order, so results differ by rounding.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Mask, attend
from model.cache import Cache
from model.decoder import Attention, Decoder, FeedForward, Layer, rotate

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


class JoinedAttention(nn.Module):
    """`Attention` with one product for queries, keys and values."""

    def __init__(self, own: Attention) -> None:
        super().__init__()
        self.layer, self.head_dim = own.layer, own.head_dim
        self.sizes = [weight.out_features for weight in (own.q_proj, own.k_proj, own.v_proj)]
        self.qkv_proj = Product(own.q_proj.weight, own.k_proj.weight, own.v_proj.weight)
        self.o_proj = Product(own.o_proj.weight)
        self.q_norm, self.k_norm = own.q_norm, own.k_norm

    def forward(self, x_BTD: Tensor, cos_sin: tuple[Tensor, Tensor], mask: Mask, cache: Cache | None) -> Tensor:
        q_BTHE, k_BTKE, v_BTKE = (
            part.unflatten(2, (-1, self.head_dim)) for part in self.qkv_proj(x_BTD).split(self.sizes, dim=2)
        )
        q_BTHE, k_BTKE = rotate(self.q_norm(q_BTHE), cos_sin), rotate(self.k_norm(k_BTKE), cos_sin)
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
    model.prepared_head = Product(model.head)
    return model.eval()
