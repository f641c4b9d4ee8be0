"""Low-rank adapters (LoRA; Hu et al., 2021): a frozen matrix W acts as W + alpha / rank * B A, and A and B are trained.

    add_adapters(model, ...)           freezes a decoder and gives its layers' matrices an A and a B
    merged_weights(model)              what the model is without adapters: plain names, as every checkpoint holds them
    save_adapter, load_adapters        A and B as a folder that `peft` opens, and back bit for bit

Shapes: A (rank, in), uniform as in nn.Linear; B (out, rank), zeros: training begins with the frozen model exactly.
Frozen weights keep their names (layers.0.self_attn.q_proj.weight), beside them stand ....lora_A and ....lora_B. What a
checkpoint needs are functions of named tensors, as it is written from a copy while the run goes on.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import UserError
from common.files import atomic_file, read_json, write_json
from model.config import Shape, count_parameters, layer_parameters
from model.decoder import Decoder
from training.sharding import local, own_rows, whole

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # all matrices of a layer
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names


class LoraLinear(nn.Module):
    """W x + alpha / rank * B A dropout(x) in place of an nn.Linear, whose frozen parameters it keeps."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_A = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(self.dropout(x), self.lora_A) * self.scale  # scaled while it is small
        return F.linear(x, self.weight, self.bias) + F.linear(low, self.lora_B)


def add_adapters(
    model: Decoder, rank: int, alpha: float, dropout: float = 0.0, targets: Collection[str] = TARGETS
) -> None:
    """Freeze the model and adapt its layers' `targets`, in place, before it is sharded or an optimizer is made.

    Draws from torch's global generator, layer by layer. UserError for a rank, a target or a share that cannot be.
    """
    assert not is_adapted(model), "adapters are added once"
    lora_parameters(model.shape, rank, targets)
    if not 0 < alpha < math.inf:
        raise UserError(f"lora_alpha {alpha}: must be a number above 0")
    if not 0 <= dropout < 1:
        raise UserError(f"lora_dropout {dropout}: must be from 0 up to, not including, 1")
    model.requires_grad_(False)
    for block in list(model.layers.modules()):
        for name, child in list(block.named_children()):
            if name in targets and isinstance(child, nn.Linear):
                setattr(block, name, LoraLinear(child, rank, alpha, dropout))


def is_adapted(model: nn.Module) -> bool:
    """Whether the model has adapters: then they alone are trained."""
    return any(isinstance(module, LoraLinear) for module in model.modules())


def num_trained(model: nn.Module) -> int:
    """Numbers that training changes; of a sharded model all ranks' together."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def lora_parameters(shape: Shape, rank: int, targets: Collection[str] = TARGETS) -> int:
    """Numbers in the adapters of a decoder, by arithmetic. UserError for a rank or targets that cannot be."""
    sizes = {name.split(".")[-2]: size for name, size in layer_parameters(shape).items() if len(size) == 2}
    if unknown := [name for name in targets if name not in sizes]:
        raise UserError(f"lora_targets {unknown[0]!r}: a layer has no such matrix, choose from {', '.join(sizes)}")
    if not targets:
        raise UserError(f"lora_targets is empty: name at least one of {', '.join(sizes)}")
    sizes = {name: sizes[name] for name in targets}
    narrowest = min(sizes, key=lambda name: min(sizes[name]))
    if not 1 <= rank <= min(sizes[narrowest]):
        raise UserError(
            f"lora_rank {rank}: must be from 1 to {min(sizes[narrowest])}, the smaller side of {narrowest}; "
            "more adds nothing"
        )
    return shape.num_layers * sum(rank * sum(size) for size in sizes.values())


def lora_state_bytes(shape: Shape, rank: int, targets: Collection[str] = TARGETS) -> int:
    """As `model.config.state_bytes`: 4 bytes a frozen number, 16 one of an adapter (with gradient and two moments)."""
    return 4 * count_parameters(shape) + 16 * lora_parameters(shape, rank, targets)


def merged_weights(model: Decoder) -> dict[str, Tensor]:
    """W + alpha / rank * B A, float32, by the decoder's plain names; of a sharded model every rank must ask."""
    weights = {name: whole(parameter) for name, parameter in model.named_parameters()}
    return merged(weights, _adapters(model)[0][1].scale)


@torch.no_grad()
def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """`merged_weights` of an adapted model's tensors by name. What has no adapter is not copied where it is float32."""
    found = {}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A" in weights:
            B, A = weights[f"{stem}.lora_B"].float(), weights[f"{stem}.lora_A"].float()
            found[name] = torch.addmm(weight.float(), B, A, alpha=scale)
        elif not _is_adapter(name):
            found[name] = weight.float()
    return found


def adapter_config(model: Decoder, base: str) -> dict[str, Any]:
    """adapter_config.json as peft reads it. base: the model that the adapters belong to, for people and peft."""
    modules = _adapters(model)
    first = modules[0][1]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout.p,
        "target_modules": sorted({name.rpartition(".")[2] for name, _ in modules}),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
    }


def save_adapter(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write adapter_config.json and adapter_model.safetensors: of an adapted model's tensors by name those of adapters.

    config: `adapter_config` of that model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {_saved_name(name): tensor.cpu().contiguous() for name, tensor in weights.items() if _is_adapter(name)}
    with atomic_file(folder / WEIGHTS) as file:
        save_file(stored, file, metadata={"format": "pt"})
    write_json(folder / CONFIG, dict(config))


@torch.no_grad()
def load_adapters(model: Decoder, folder: Path) -> None:
    """Put the folder's A and B into a model that has adapters of that kind, bit for bit; a sharded one takes its rows.

    UserError where the folder is damaged, or of other adapters than the model's.
    """
    config, expected = read_json(folder / CONFIG), adapter_config(model, "")
    for key in ("r", "lora_alpha", "target_modules"):
        has = config.get(key) if isinstance(config, dict) else None
        if has != expected[key]:
            raise UserError(f"{folder}/{CONFIG} has {key} {has!r}, this model {expected[key]!r}: other adapters")
    try:
        stored = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}/{WEIGHTS} is damaged: {' '.join(str(error).split())[:200]}") from None
    own = {_saved_name(name): parameter for name, parameter in model.named_parameters() if _is_adapter(name)}
    for name in sorted(own.keys() | stored.keys()):
        if name not in own or name not in stored or stored[name].shape != own[name].shape:
            has = f"{name} {tuple(stored[name].shape)}" if name in stored else f"no {name}"
            raise UserError(f"{folder}/{WEIGHTS} has {has}, which is not this model's: damaged, or of another model")
    for name, parameter in own.items():
        local(parameter).copy_(local(own_rows(stored[name], parameter)))


def _adapters(model: Decoder) -> list[tuple[str, LoraLinear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear)]


def _is_adapter(name: str) -> bool:
    return name.endswith((".lora_A", ".lora_B"))


def _saved_name(name: str) -> str:
    """The decoder's name of an adapter -> peft's, of the same model in transformers."""
    return f"base_model.model.model.{name}.weight"
