"""What a decoder's sizes are, and what follows from them by arithmetic alone: parameters, FLOPs, memory.

In: the `[model]` section (a preset's name plus overrides) and the tokenizer's vocabulary size. Out: a
`Shape`, the names and sizes of its parameters, their number, FLOPs per token, and an estimate of the memory
that a training step takes. No torch here: `--plan` and `--help` answer at once, and a checkpoint's sizes are
checked before any tensor exists."""

import math
from dataclasses import dataclass, fields
from math import prod

from common.errors import UserError


@dataclass
class ModelConfig:
    """The model's size: a preset, and single values that override it.

    Args:
        preset: Named sizes: tiny (about 1M parameters), small, seed-126m, gpt2-124m, 350m, 1b.
        num_layers: Number of decoder layers.
        hidden_size: Width of the residual stream; a multiple of num_heads.
        num_heads: Query heads per layer; hidden_size / num_heads must be even.
        num_kv_heads: Key and value heads per layer; must divide num_heads.
        intermediate_size: Width of the feed-forward layer.
        seq_len: Context: the most tokens that a row, or a prompt with its answer, can hold.
        tie_embeddings: Use the embedding as output head too.
        dropout: Share of each layer's output that is dropped in training, from 0 up to (not including) 1.
    """

    preset: str = "tiny"
    num_layers: int | None = None
    hidden_size: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    intermediate_size: int | None = None
    seq_len: int | None = None
    tie_embeddings: bool = True
    dropout: float = 0.0


@dataclass(frozen=True)
class RopeScaling:
    """How Llama 3.1 stretches rotary positions over a longer context than it was first trained with (rope_type llama3).

    A pair of numbers that turns more than `high_freq_factor` times in the original context turns as before, one that
    turns less than `low_freq_factor` times is slowed by `factor`, and between them it is a mean of both.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_seq_len: int

    def __post_init__(self) -> None:
        if not (1.0 <= self.factor < math.inf and 0.0 < self.low_freq_factor < self.high_freq_factor < math.inf):
            raise UserError(f"{self}: a factor from 1 up and 0 < low_freq_factor < high_freq_factor are needed")
        if type(self.original_seq_len) is not int or not 1 <= self.original_seq_len < MOST:
            raise UserError(f"{self}: original_seq_len must be a whole number from 1 up")


@dataclass(frozen=True)
class Shape:
    """All sizes of one decoder, checked: `Decoder(shape)` needs nothing else.

    Qwen3's with `qk_norm`, a norm on each head's queries and keys; Llama's without.
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    seq_len: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    dropout: float = 0.0
    qk_norm: bool = True
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, "int") and (type(value) is not int or not 1 <= value < MOST):
                shown = value if not isinstance(value, int) or abs(value) < 10**20 else "far too large"
                raise UserError(f"model {field.name} is {shown!r}: a whole number from 1 to {MOST - 1:,} is needed")
            if field.type in (float, "float") and not math.isfinite(value):
                raise UserError(f"model {field.name} is {value!r}: a number is needed")
        for name in ("rope_theta", "norm_eps"):
            if getattr(self, name) <= 0:
                raise UserError(f"model {name} is {getattr(self, name)!r}: a number above 0 is needed")
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"model num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}: "
                "each key/value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise UserError(
                f"model head_dim {self.head_dim} is odd: hidden_size / num_heads must be even, for rotary positions"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"model dropout is {self.dropout}: a share from 0 up to (not including) 1 is needed")


def _preset(layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, seq_len: int, vocab: int) -> Shape:
    return Shape(vocab, layers, hidden, heads, kv_heads, hidden // heads, ffn, seq_len)


# The vocabularies are for benchmarks and --plan without a tokenizer: a run takes its tokenizer's.
MOST = 1 << 31  # of any size
MUON_BATCH = 1 << 24  # numbers that Muon iterates at a time: 7 matrices of 3072 x 768; one alone fills any machine
PRESETS = {
    #                    layers hidden heads kv_heads ffn seq_len vocab
    "tiny": _preset(4, 128, 4, 2, 384, 256, 4096),
    "small": _preset(6, 256, 4, 2, 768, 512, 8192),
    "seed-126m": _preset(12, 768, 12, 12, 3072, 1024, 16384),
    "gpt2-124m": _preset(12, 768, 12, 12, 2048, 1024, 50304),
    "350m": _preset(24, 1024, 16, 16, 2816, 1024, 32768),
    "1b": _preset(20, 2048, 16, 8, 5632, 2048, 32768),
}


def resolve_shape(config: ModelConfig, vocab_size: int) -> Shape:
    """The preset, the config's overrides and the vocabulary as one `Shape`; `UserError` when impossible.

    When num_heads is given and num_kv_heads is not, and the preset's does not divide it, every head gets its own.
    """
    if config.preset not in PRESETS:
        raise UserError(f"unknown model preset {config.preset!r}: choose one of {', '.join(PRESETS)}")
    preset = PRESETS[config.preset]

    def pick(name: str) -> int:
        value = getattr(config, name)
        return getattr(preset, name) if value is None else value

    hidden_size, num_heads, num_kv_heads = pick("hidden_size"), pick("num_heads"), pick("num_kv_heads")
    if num_heads >= 1 and hidden_size % num_heads:
        raise UserError(f"model hidden_size {hidden_size} is not a multiple of num_heads {num_heads}")
    if config.num_kv_heads is None and num_heads % num_kv_heads:
        num_kv_heads = num_heads
    return Shape(
        vocab_size=vocab_size,
        num_layers=pick("num_layers"),
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=hidden_size // max(num_heads, 1),
        intermediate_size=pick("intermediate_size"),
        seq_len=pick("seq_len"),
        tie_embeddings=config.tie_embeddings,
        dropout=config.dropout,
    )


def layer_parameters(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name -> size of one layer's parameters, named as in `Decoder` and in `transformers`."""
    D, F, E = shape.hidden_size, shape.intermediate_size, shape.head_dim
    head_norms = {"self_attn.q_norm.weight": (E,), "self_attn.k_norm.weight": (E,)} if shape.qk_norm else {}
    return {
        "input_layernorm.weight": (D,),
        "self_attn.q_proj.weight": (shape.num_heads * E, D),
        "self_attn.k_proj.weight": (shape.num_kv_heads * E, D),
        "self_attn.v_proj.weight": (shape.num_kv_heads * E, D),
        "self_attn.o_proj.weight": (D, shape.num_heads * E),
        **head_norms,
        "post_attention_layernorm.weight": (D,),
        "mlp.gate_proj.weight": (F, D),
        "mlp.up_proj.weight": (F, D),
        "mlp.down_proj.weight": (D, F),
    }


def outer_parameters(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name -> size of the parameters outside the layers; a tied head is the embedding, listed once."""
    V, D = shape.vocab_size, shape.hidden_size
    head = {} if shape.tie_embeddings else {"lm_head.weight": (V, D)}
    return {"embed_tokens.weight": (V, D), "norm.weight": (D,), **head}


def count_parameters(shape: Shape) -> int:
    """Trained numbers, a tied head counted once: the sum over the decoder's unique `nn.Parameter`s."""
    one_layer = sum(prod(size) for size in layer_parameters(shape).values())
    return shape.num_layers * one_layer + sum(prod(size) for size in outer_parameters(shape).values())


def flops_per_token(shape: Shape, attended: float) -> float:
    """Floating-point operations to train on one token, forward and backward (recomputation not counted).

    `attended` is the mean number of keys that a query attends to, itself included: (n + 1) / 2 in a document
    of n tokens, so for packed rows the sum of n(n + 1)/2 over the documents divided by the tokens.

    6 x parameters that multiply (2 operations forward, 4 backward; the layers' matrices and the head, tied or
    not: looking up an embedding multiplies nothing) + 12 x layers x heads x head_dim x attended (two products,
    q·k and weights·v, of 2 x head_dim operations a head and pair; times 3 for forward and backward).
    """
    matrices = sum(prod(size) for size in layer_parameters(shape).values() if len(size) == 2)
    multiplying = shape.num_layers * matrices + shape.vocab_size * shape.hidden_size
    return 6.0 * multiplying + 12.0 * shape.num_layers * shape.num_heads * shape.head_dim * attended


def memory_estimate(
    shape: Shape,
    rows: int,
    precision: str = "fp32",
    activation_checkpointing: bool = False,
    device: str = "cpu",
    muon_ranks: int = 0,
    dense_mask: bool = True,
) -> int:
    """Bytes that a training step on `rows` rows of seq_len tokens takes, weights and optimizer included.

    State: `state_bytes`. Kept for the backward pass: what eager autograd saves in each layer, or with checkpointing the
    layers' inputs. Passing: the gradients inside one layer (and with checkpointing that layer's activations), the
    head's gradients, one chunk of logits. Or, if that is more, what Muon needs for its update, when all those are gone:
    its matrices, and where `muon_ranks` processes share them what each sends and receives; 0 is AdamW alone.
    `precision` "bf16" is autocast. `dense_mask`: whether documents are kept apart by T x T numbers a row (not with
    FlexAttention, nor on a CPU).

    The factors are fitted to peak resident memory on CPU (torch 2.13, glibc), in float32 and bfloat16, with and
    without checkpointing: the estimate is 1.03 to 1.46 times what was measured for small at 1 to 32 rows and gpt2-124m
    at 1 to 4, 1.04 to 1.55 times for tiny at 8 to 64 rows, twice for tiny at one row (50 MiB). Resident is more than
    allocated (small, float32, 16 rows: 2.2 GiB of 1.4): glibc's heap fragments, and making it return blocks at once
    costs 20 to 50% of the time. Other devices: the count with a tenth added, unmeasured.
    """
    T, D, F = shape.seq_len, shape.hidden_size, shape.intermediate_size
    q, kv = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    operand = 2 if precision == "bf16" else 4
    head = shape.vocab_size * D
    parameters = count_parameters(shape)

    # One layer, bytes a token. A norm keeps what comes in and what is normalised, in float32; the rest are operands.
    norms = 2 * (2 * 4 + operand) * D + (2 * 4 * (q + kv) if shape.qk_norm else 0)
    attention = operand * (3 * q + 2 * kv)  # rotated queries and keys, values, the result in blocks and whole
    feed_forward = operand * 4 * F  # gate, up, silu(gate), their product
    dropout = 2 * 4 * D if shape.dropout else 0
    pairs = operand * shape.num_heads * (T + 128) // 2 if device == "cpu" else 0  # one document a row is the most
    layer = norms + attention + pairs + feed_forward + dropout

    layer_gradients = operand * 3 * F + 4 * 4 * D
    outside_layers = (4 + 8 + 2 * operand) * D  # embedding, final norm, hidden states and their gradient
    mask = 0 if device == "cpu" or not dense_mask else (4 + operand) * T
    kept = T * shape.num_layers * (4 * D if activation_checkpointing else layer)
    passing = T * (layer_gradients + outside_layers + mask + (layer if activation_checkpointing else 0))

    copies = operand * parameters if precision == "bf16" else 0  # of the matrices, for as long as the activations
    logits = 10 * chunk_logits(shape.vocab_size, device)  # float32, and operands of both ways
    kept_factor, passing_factor = (1.6, 2.6) if device == "cpu" else (1.1, 1.1)
    step = (
        kept_factor * (rows * kept + copies)
        + passing_factor * rows * passing
        + 1.1 * (logits + 5 * 4 * head)  # the head's gradient: of the lookup, of the loss, scaled, summed, added
    )
    # Muon: its matrices in bf16, and one batch of them in the iteration. seed-126m: 485 MB measured, 495 estimated.
    matrices = matrix_parameters(shape)
    held = 2 + 2 / muon_ranks if muon_ranks > 1 else 1.0  # copies of the matrices
    update = operand * (held * matrices + 8 * min(matrices, MUON_BATCH))
    return int(state_bytes(shape, muon_ranks > 0) + max(step, update if muon_ranks else 0))


def matrix_parameters(shape: Shape) -> int:
    """Numbers in the layers' matrices, which Muon trains."""
    return shape.num_layers * sum(prod(size) for size in layer_parameters(shape).values() if len(size) == 2)


def state_bytes(shape: Shape, muon: bool) -> int:
    """Weights, gradients and AdamW's two moments, 16 bytes a parameter; of Muon's matrices one moment, so 12."""
    return 16 * count_parameters(shape) - (4 * matrix_parameters(shape) if muon else 0)


def chunk_logits(vocab_size: int, device: str) -> int:
    """How many logits the loss holds at a time: a whole number of tokens times the vocabulary.

    CPU: 4M, 16 MiB in float32: at a vocabulary of 8,192, 256 and 512 tokens were fastest (128 and 2,048: 6 to 35%
    slower). CUDA: 64M, 256 MiB, so that the products are large; unmeasured. At least 256 tokens: each
    chunk reads and writes the head's whole gradient.
    """
    return vocab_size * max(256, (1 << (26 if device == "cuda" else 22)) // vocab_size)
