"""A decoder as a `transformers` folder, and back: config.json, model.safetensors, generation_config.json.

Saved: what `AutoModelForCausalLM` loads as Qwen3ForCausalLM. Loaded: such a folder, ours or not, as far as it
has the decoder's shape. Before any weight is read, config.json and the header of model.safetensors are
compared, so a damaged or foreign folder costs one line, not memory. Nothing is pickled. A tied head is not
stored twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import UserError
from common.files import atomic_file, read_json, write_json
from model.config import Shape, layer_parameters, outer_parameters
from model.decoder import INIT_STD, Decoder

DTYPES = ("F64", "F32", "F16", "BF16")  # safetensors' names of what weights may be stored as


def save_model(
    model: Decoder, folder: Path, eos_id: int, bos_id: int, pad_id: int, dtype: torch.dtype | None = None
) -> None:
    """Write the three files into `folder` (made if missing), the weights as `dtype` or as they are."""
    save_weights(model.state_dict(), model.shape, folder, eos_id, bos_id, pad_id, dtype)


def save_weights(
    weights: Mapping[str, Tensor],
    shape: Shape,
    folder: Path,
    eos_id: int,
    bos_id: int,
    pad_id: int,
    dtype: torch.dtype | None = None,
) -> None:
    """`save_model` of the weights themselves, by the decoder's names."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = dtype or weights["embed_tokens.weight"].dtype
    stored = {_saved_name(name): weight.to("cpu", dtype).contiguous() for name, weight in weights.items()}
    with atomic_file(folder / "model.safetensors") as file:
        save_file(stored, file, metadata={"format": "pt"})
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    write_json(folder / "config.json", _to_config(shape, dtype) | ids)
    write_json(folder / "generation_config.json", {"do_sample": False, **ids})


def load_model(folder: Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Decoder:
    """The decoder in `folder`, its weights as `dtype` or as stored; `UserError` if there is none, or a
    damaged one.

    Draws no random numbers. Dropout is a matter of training and not stored: the loaded model has none.
    """
    shape = load_shape(folder)
    _check_header(folder, shape)
    with torch.device("meta"):
        model = Decoder(shape)
    model.load_state_dict(load_weights(folder, device, dtype), assign=True)
    return model


def load_weights(
    folder: Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The folder's weights under the decoder's own names, as copies that do not depend on the file."""
    file = folder / "model.safetensors"
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from error
    return {
        name.removeprefix("model."): weight.to(device=device, dtype=dtype or weight.dtype, copy=True)
        for name, weight in stored.items()
    }


def load_shape(folder: Path) -> Shape:
    """The shape that config.json states; `UserError` if missing, damaged, or of another kind of model."""
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    return _from_config(read_json(file), file)


def _to_config(shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
    """config.json without token ids; rope_theta and torch_dtype are transformers 4's names."""
    dtype_name = str(dtype).removeprefix("torch.")
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.seq_len,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": shape.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "initializer_range": INIT_STD,
        "use_cache": True,
        "dtype": dtype_name,
        "torch_dtype": dtype_name,
    }


def _from_config(config: Any, file: Path) -> Shape:
    if not isinstance(config, dict) or config.get("model_type") != "qwen3":
        kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise UserError(f"{file} describes a model of type {kind!r}: only 'qwen3' can be loaded")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}
    other = [f"{key} = {config[key]!r}" for key, value in plain.items() if config.get(key, value) != value]
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
        other.append(f"rope_parameters = {rope!r}")
    if other:
        raise UserError(f"{file} asks for what this decoder does not do: {', '.join(other)}")
    try:
        num_heads = config["num_attention_heads"]
        return Shape(
            vocab_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
            intermediate_size=config["intermediate_size"],
            seq_len=config["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise UserError(f"{file} is damaged: {error.args[0]} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise _damaged(file, error) from error


def _check_header(folder: Path, shape: Shape) -> None:
    """Compare the names and sizes in the weights' header with the shape's, before anything is allocated."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{folder} is not a model folder: it has no model.safetensors")
    try:
        with safe_open(file, framework="pt") as header:
            slices = {name: header.get_slice(name) for name in header.keys()}  # noqa: SIM118
            found = {name: tuple(each.get_shape()) for name, each in slices.items()}
            other = [name for name, each in slices.items() if each.get_dtype() not in DTYPES]
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from error
    if other:
        raise UserError(f"{file}: {other[0]} holds no weights ({slices[other[0]].get_dtype()}): damaged or foreign")
    outer, inner = outer_parameters(shape), layer_parameters(shape)
    expected_number = len(outer) + shape.num_layers * len(inner)
    if len(found) != expected_number:  # first, so that an absurd number of layers is not written out
        raise UserError(
            f"{file} holds {len(found)} tensors, config.json asks for {expected_number}: damaged or foreign"
        )
    expected = {_saved_name(name): size for name, size in outer.items()}
    for layer in range(shape.num_layers):
        expected |= {_saved_name(f"layers.{layer}.{name}"): size for name, size in inner.items()}
    for name, size in expected.items():
        if found.get(name) != size:
            has = f"is {found[name]}" if name in found else "is missing"
            raise UserError(f"{file}: {name} {has} where config.json asks for {size}: damaged or foreign")


def _saved_name(name: str) -> str:
    """The decoder's parameter name -> the name in the file; removing the prefix leads back."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is damaged: {' '.join(str(error).split())[:200]}")
