"""A decoder as a `transformers` folder, and back: config.json, model.safetensors, generation_config.json.

Saved: what `AutoModelForCausalLM` loads as Qwen3ForCausalLM, or without QK-norm as LlamaForCausalLM. Loaded:
such a folder, ours or not, its weights in one file or in those that model.safetensors.index.json names, as far
as it has the decoder's shape. Before any weight is read, config.json and the headers of these files are
compared, so a damaged or foreign folder costs one line, not memory. Nothing is pickled. A tied head is not
stored twice; where others did, it is read once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import UserError
from common.files import atomic_file, read_json, write_json
from common.text import one_line
from model.config import RopeScaling, Shape, layer_parameters, outer_parameters
from model.decoder import INIT_STD, Decoder

INDEX = "model.safetensors.index.json"  # of weights in several files
PLAIN = {  # what config.json must not ask for, as it would change what the decoder computes
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "hidden_act": "silu",
    "quantization_config": None,
    "partial_rotary_factor": 1.0,
}
DTYPES = ("F64", "F32", "F16", "BF16")  # safetensors' names of what weights may be stored as


def save_model(
    model: Decoder,
    folder: Path,
    eos_id: int | list[int],
    bos_id: int | None,
    pad_id: int | None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the three files into `folder` (made if missing), the weights as `dtype` or as they are.

    Others' models may end an answer with one of several tokens, and have no bos or pad."""
    save_weights(model.state_dict(), model.shape, folder, eos_id, bos_id, pad_id, dtype)


def save_weights(
    weights: Mapping[str, Tensor],
    shape: Shape,
    folder: Path,
    eos_id: int | list[int],
    bos_id: int | None,
    pad_id: int | None,
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
    _check_headers(folder, shape)
    with torch.device("meta"):
        model = Decoder(shape)
    weights = load_weights(folder, device, dtype)
    head = weights.pop("lm_head.weight", None) if shape.tie_embeddings else None
    if head is not None and not torch.equal(head, weights["embed_tokens.weight"]):
        raise UserError(f"{folder}: config.json ties the head to the embedding, but the weights hold another head")
    model.load_state_dict(weights, assign=True)
    return model


def load_weights(
    folder: Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The folder's weights under the decoder's own names, as copies that do not depend on the file."""
    weights = {}
    for file in weight_files(folder):
        try:
            stored = load_file(file)
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error
        for name, weight in stored.items():
            if not _is_buffer(name):
                copy = weight.to(device=device, dtype=dtype or weight.dtype, copy=True)
                weights[name.removeprefix("model.")] = copy
    return weights


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights, as `transformers` chooses them; UserError where there are none."""
    if (folder / "model.safetensors").is_file() or not (folder / INDEX).is_file():
        files = [folder / "model.safetensors"]
    else:
        index = read_json(folder / INDEX)
        named = index.get("weight_map") if isinstance(index, dict) else None
        names = {str(name) for name in named.values()} if isinstance(named, dict) else set()
        if not names or any(Path(name).name != name for name in names):
            raise UserError(f"{folder / INDEX} is damaged: its weight_map names no files of its folder")
        files = [folder / name for name in sorted(names)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{folder} is not a model folder: it has no {file.name}")
    return files


def load_shape(folder: Path) -> Shape:
    """The shape that config.json states; `UserError` if missing, damaged, or of another kind of model."""
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} is not a model folder: it has no config.json")
    return _from_config(read_json(file), file)


def _to_config(shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
    """config.json without token ids; rope_theta, rope_scaling and torch_dtype are transformers 4's names."""
    dtype_name = str(dtype).removeprefix("torch.")
    rope: dict[str, Any] = {"rope_type": "default"}
    if its := shape.rope_scaling:
        rope = {
            "rope_type": "llama3",
            "factor": its.factor,
            "low_freq_factor": its.low_freq_factor,
            "high_freq_factor": its.high_freq_factor,
            "original_max_position_embeddings": its.original_seq_len,
        }
    kind: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "mlp_bias": False}
    if shape.qk_norm:
        kind = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "use_sliding_window": False}
    return {
        **kind,
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
        "rope_parameters": {**rope, "rope_theta": shape.rope_theta},
        **({"rope_scaling": rope} if shape.rope_scaling else {}),
        "tie_word_embeddings": shape.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": INIT_STD,
        "use_cache": True,
        "dtype": dtype_name,
        "torch_dtype": dtype_name,
    }


def _from_config(config: Any, file: Path) -> Shape:
    kind = config.get("model_type") if isinstance(config, dict) else type(config).__name__
    if kind not in ("qwen3", "llama"):
        raise UserError(f"{file} describes a model of type {kind!r}: only 'qwen3' and 'llama' can be loaded")
    asked = {key: config[key] for key, value in PLAIN.items() if config.get(key) not in (None, value)}
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}  # transformers' order
    rope_type = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else None
    if rope_type not in ("default", "llama3") or rope.get("partial_rotary_factor", 1.0) != 1.0:
        asked["rope_parameters"] = rope
    layers = config.get("layer_types") or []
    if not isinstance(layers, list) or any(each != "full_attention" for each in layers):
        asked["layer_types"] = layers
    if asked:
        said = ", ".join(f"{key} = {one_line(repr(value), 200)}" for key, value in asked.items())
        raise UserError(f"{file} asks for what this decoder does not do: {said}")
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
            qk_norm=kind == "qwen3",
            rope_scaling=_rope_scaling(rope) if rope_type == "llama3" else None,
        )
    except KeyError as error:
        raise UserError(f"{file} is damaged: {error.args[0]} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise _damaged(file, error) from error


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling:
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_seq_len=rope["original_max_position_embeddings"],
    )


def _check_headers(folder: Path, shape: Shape) -> None:
    """Compare the names and sizes in the weights' headers with the shape's, before anything is allocated."""
    found: dict[str, tuple[int, ...]] = {}
    files = weight_files(folder)
    for file in files:
        try:
            with safe_open(file, framework="pt") as header:
                slices = {name: header.get_slice(name) for name in header.keys() if not _is_buffer(name)}  # noqa: SIM118
                sizes = {name: tuple(each.get_shape()) for name, each in slices.items()}
                dtypes = {name: each.get_dtype() for name, each in slices.items()}
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error
        for name, dtype in dtypes.items():
            if dtype not in DTYPES:
                raise UserError(f"{file}: {name} holds no weights ({dtype}): damaged or foreign")
            if name in found:
                raise UserError(f"{file}: {name} stands in another file too: damaged or foreign")
        found |= sizes
    file = files[0] if len(files) == 1 else folder / INDEX
    outer, inner = outer_parameters(shape), layer_parameters(shape)
    if shape.tie_embeddings and found.get("lm_head.weight") == outer["embed_tokens.weight"]:
        del found["lm_head.weight"]  # `load_model` sees whether it is the embedding
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


def _is_buffer(name: str) -> bool:
    """What old `transformers` wrote beside the weights, and computes since."""
    return name.endswith("rotary_emb.inv_freq")


def _saved_name(name: str) -> str:
    """The decoder's parameter name -> the name in the file; removing the prefix leads back."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is damaged: {' '.join(str(error).split())[:200]}")
