"""The decoder: token ids in, hidden states out; `logits` multiplies them with the head.

    ids -> embedding -> num_layers x (x + attention(norm(x)); x + feed-forward(norm(x))) -> norm -> hidden
    states

The shape is Qwen3's, because every engine then loads the weights without custom code: RMSNorm, rotary
positions with half-rotation, a norm on each head's queries and keys, grouped-query attention, SwiGLU, no
biases. Without that norm (`Shape.qk_norm`) it is Llama's. Parameters bear the names of `transformers`'
Qwen3Model and LlamaModel; huggingface.py adds the `model.` before them.

Shapes: B rows, T tokens, D hidden_size, H query heads, K key/value heads, E head_dim, V vocab_size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.attention import Mask, attend, build_mask
from model.cache import Cache
from model.config import RopeScaling, Shape
from model.precision import compute_dtype

INIT_STD = 0.02


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in float32 whatever comes in (Zhang and Sennrich, 2019).

    Under autocast the result has autocast's precision already: else each of the projections that it feeds would
    make and keep a rounded copy of its own.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(compute_dtype(x))


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None, device: torch.device | None = None
) -> Tensor:
    """How far a position turns each pair of a head, radians, float32 (E/2,)."""
    pair = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
    frequency = theta ** (-pair / head_dim)
    if scaling is not None:
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        turns = scaling.original_seq_len * frequency / (2 * torch.pi)
        kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
        frequency = frequency * (kept + (1.0 - kept) / scaling.factor)
    return frequency


def rotation(
    positions_BT: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 (B,T,1,E), of the angles that positions turn a head by (Su et al., 2021)."""
    frequency = frequencies(head_dim, theta, scaling, positions_BT.device)
    angle_BTE = (positions_BT[..., None] * frequency).repeat(1, 1, 2)
    return angle_BTE.cos()[:, :, None], angle_BTE.sin()[:, :, None]


def rotate(x_BTHE: Tensor, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + E/2) of a head by its angle."""
    cos, sin = cos_sin
    first, second = x_BTHE.chunk(2, dim=-1)
    return (x_BTHE * cos + torch.cat((-second, first), dim=-1) * sin).type_as(x_BTHE)


class Attention(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        D, E = shape.hidden_size, shape.head_dim
        self.layer, self.head_dim = layer, E
        self.q_proj = nn.Linear(D, shape.num_heads * E, bias=False)
        self.k_proj = nn.Linear(D, shape.num_kv_heads * E, bias=False)
        self.v_proj = nn.Linear(D, shape.num_kv_heads * E, bias=False)
        self.o_proj = nn.Linear(shape.num_heads * E, D, bias=False)
        self.q_norm = RMSNorm(E, shape.norm_eps) if shape.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(E, shape.norm_eps) if shape.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, cos_sin: tuple[Tensor, Tensor], mask: Mask, cache: Cache | None) -> Tensor:
        heads = (*x_BTD.shape[:2], -1, self.head_dim)
        q_BTHE = rotate(self.q_norm(self.q_proj(x_BTD).view(heads)), cos_sin)
        k_BTKE = rotate(self.k_norm(self.k_proj(x_BTD).view(heads)), cos_sin)
        v_BTKE = self.v_proj(x_BTD).view(heads)
        if cache is not None:
            k_BTKE, v_BTKE = cache.extend(self.layer, k_BTKE, v_BTKE)
        return self.o_proj(attend(q_BTHE, k_BTKE, v_BTKE, mask).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.mlp = FeedForward(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BTD: Tensor, cos_sin: tuple[Tensor, Tensor], mask: Mask, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attn(self.input_layernorm(x_BTD), cos_sin, mask, cache))
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))


class Decoder(nn.Module):
    """A decoder of the given shape, initialised from torch's global random numbers.

    Attributes:
        activation_checkpointing: recompute each layer in the backward pass instead of keeping its
        activations. flex_attention: on CUDA, keep documents apart with FlexAttention; False: SDPA with a
        dense mask.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.activation_checkpointing = False
        self.flex_attention = True
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape, number) for number in range(shape.num_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.norm_eps)
        if not shape.tie_embeddings:
            self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        self.prepared_head: nn.Module | None = None  # by inference.py
        self.initialise()

    def initialise(self) -> None:
        """Normal, deviation 0.02; residual projections divided by sqrt(2 x layers), as in GPT-2."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=INIT_STD / (2 * self.shape.num_layers) ** 0.5 if writes else INIT_STD)
            else:
                nn.init.ones_(weight)

    @property
    def head(self) -> Tensor:
        """The (V,D) matrix that turns hidden states into logits; tied: the embedding itself."""
        return self.embed_tokens.weight if self.shape.tie_embeddings else self.lm_head.weight

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states (B,T,D) after the final norm.

        positions_BT: restart at 0 in each document; default 0, 1, 2, ... in each row.
        documents_BT: the document of each token inside its row, one run of columns each, -1 on padding; tokens see
        their own document only. Default: one document a row.
        cache: the row goes on where the cache ends; positions and mask are then the cache's.
        """
        T = ids_BT.shape[1]
        mask: Mask
        if cache is not None:
            assert positions_BT is None, "a cache knows its positions"
            assert documents_BT is None, "a cache holds one document a row"
            positions_BT, mask = cache.advance(T)
        else:
            mask = build_mask(documents_BT, compute_dtype(self.head), self.flex_attention)
            if positions_BT is None:
                positions_BT = torch.arange(T, device=ids_BT.device)[None]
        cos_sin = rotation(positions_BT, self.shape.head_dim, self.shape.rope_theta, self.shape.rope_scaling)

        x_BTD = self.embed_tokens(ids_BT)
        recompute = self.activation_checkpointing and torch.is_grad_enabled() and cache is None
        for layer in self.layers:
            if recompute:
                x_BTD = checkpoint(layer, x_BTD, cos_sin, mask, None, use_reentrant=False)
            else:
                x_BTD = layer(x_BTD, cos_sin, mask, cache)
        return self.norm(x_BTD)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """(B,T,V), for a few tokens: training and evaluation use loss.py, which never holds all of them."""
        return F.linear(hidden_BTD, self.head) if self.prepared_head is None else self.prepared_head(hidden_BTD)
