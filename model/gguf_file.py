"""A decoder as one GGUF file, which llama.cpp and what is built on it read: Qwen3's shape or, without QK-norm, Llama's.

In: a model folder (config.json, model.safetensors) and what the file says of its tokenizer. Out: the file, tensor by
tensor: no more than one is in memory. Matrices are stored as one of TYPES, norms as float32, as llama.cpp wants them.

  F32   the checkpoint's numbers
  F16   11 bits of significand, up to 65,504        BF16   8 bits, of float32's range
  Q8_0  blocks of 32 numbers: one F16 scale, the largest / 127, and 32 whole numbers from -127 to 127
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from common.errors import UserError
from model.config import Shape, layer_parameters, outer_parameters
from model.decoder import frequencies

# type -> (general.file_type, bytes of `BLOCK` numbers, the largest number that it holds)
BLOCK = 32
TYPES = {
    "F32": (0, 128, 3.4028235e38),
    "F16": (1, 64, 65504.0),
    "BF16": (32, 64, 3.3895314e38),
    "Q8_0": (7, 34, 127 * 65504.0),
}
_OUTER = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_library() -> ModuleType:
    """The package that writes the format; UserError where it is missing."""
    try:
        import gguf
    except ImportError:
        raise UserError("a GGUF is written by the package gguf, which is missing: pip install -e '.[export]'") from None
    return gguf


def gguf_names(shape: Shape) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The decoder's name -> (name in the GGUF, size), in the order of the file. A tied head is not stored."""

    def renamed(name: str, table: Mapping[str, str]) -> str:
        stem, _, kind = name.rpartition(".")
        return f"{table[stem]}.{kind}"

    names = {name: (renamed(name, _OUTER), size) for name, size in outer_parameters(shape).items()}
    for layer in range(shape.num_layers):
        for name, size in layer_parameters(shape).items():
            names[f"layers.{layer}.{name}"] = (f"blk.{layer}.{renamed(name, _LAYER)}", size)
    return names


def gguf_shape(shape: Shape) -> dict[str, Any]:
    """The metadata that say what the tensors make up, by key."""
    sizes = {
        "block_count": shape.num_layers,
        "context_length": shape.seq_len,
        "embedding_length": shape.hidden_size,
        "feed_forward_length": shape.intermediate_size,
        "attention.head_count": shape.num_heads,
        "attention.head_count_kv": shape.num_kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.layer_norm_rms_epsilon": shape.norm_eps,
        "rope.dimension_count": shape.head_dim,
        "rope.freq_base": shape.rope_theta,
        "vocab_size": shape.vocab_size,
    }
    return {f"{architecture(shape)}.{key}": value for key, value in sizes.items()}


def architecture(shape: Shape) -> str:
    """llama.cpp's name for the shape."""
    return "qwen3" if shape.qk_norm else "llama"


def stored_type(size: tuple[int, ...], kind: str) -> str:
    """What a tensor is stored as: norms in F32; in F16 what has rows that Q8_0 cannot cut into blocks."""
    if len(size) == 1:
        return "F32"
    return "F16" if kind == "Q8_0" and size[-1] % BLOCK else kind


def write_gguf(file: Path, folder: Path, shape: Shape, kind: str, metadata: Mapping[str, Any]) -> None:
    """Write the model in `folder`, its matrices as `kind` (of TYPES), to `file`.

    metadata: all else that the file says, by key: text, numbers, truth values, lists. UserError for weights that are
    damaged or that the type cannot hold.
    """
    gguf = gguf_library()
    writer = gguf.GGUFWriter(file, architecture(shape))
    about = {**metadata, **gguf_shape(shape), "general.file_type": TYPES[kind][0], "general.quantization_version": 2}
    for key, value in about.items():
        if type(value) is int:
            writer.add_uint32(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    names = gguf_names(shape)
    types = {name: gguf.GGMLQuantizationType[stored_type(size, kind)] for name, (_, size) in names.items()}
    stretch = rope_factors(shape)
    try:
        if stretch is not None:
            size = tuple(stretch.shape)
            writer.add_tensor_info("rope_freqs.weight", size, torch.float32, 4 * len(stretch), types["norm.weight"])
        for name, (theirs, size) in names.items():
            num_bytes = prod(size) * TYPES[types[name].name][1] // BLOCK
            writer.add_tensor_info(theirs, size, torch.float32, num_bytes, types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if stretch is not None:
            writer.write_tensor_data(stretch.numpy())
        with safe_open(folder / "model.safetensors", framework="pt") as stored:
            keys = {key.removeprefix("model."): key for key in stored.keys()}  # noqa: SIM118
            for name in names:
                weight = stored.get_tensor(keys[name]).float()
                check_range(name, weight, types[name].name)
                rows = as_llama_cpp_rotates(name, weight, shape).contiguous().numpy()
                writer.write_tensor_data(gguf.quants.quantize(rows, types[name]))
    except SafetensorError as error:
        raise UserError(f"{folder}/model.safetensors is damaged: {' '.join(str(error).split())[:200]}") from None
    finally:
        writer.close()


def as_llama_cpp_rotates(name: str, weight: Tensor, shape: Shape) -> Tensor:
    """Weights in llama.cpp's order of rows: of Llama it turns neighbours as a pair, of Qwen3 halves, as we do."""
    num_heads = {"q_proj": shape.num_heads, "k_proj": shape.num_kv_heads}.get(name.split(".")[-2])
    if shape.qk_norm or num_heads is None:
        return weight
    return weight.view(num_heads, 2, shape.head_dim // 2, -1).transpose(1, 2).reshape(weight.shape)


def rope_factors(shape: Shape) -> Tensor | None:
    """What llama.cpp divides each pair's frequency by, float32 (head_dim / 2,): Llama 3.1's stretched positions."""
    if shape.rope_scaling is None:
        return None
    plain = frequencies(shape.head_dim, shape.rope_theta)
    return plain / frequencies(shape.head_dim, shape.rope_theta, shape.rope_scaling)


def check_range(name: str, weight: torch.Tensor, kind: str) -> None:
    """UserError for weights that are not finite, or are not in that type."""
    largest, most = float(weight.abs().max()), TYPES[kind][2]
    if not largest <= most:  # NaN, too
        raise UserError(f"{name} holds {largest:g}, and the most that {kind} holds is {most:g}: choose another type")
