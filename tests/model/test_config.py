"""Shapes, counts and estimates: equal to what the decoder really has, and impossible ones refused in one line."""

import subprocess
import sys
from dataclasses import replace
from math import prod

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UserError
from model.config import (
    PRESETS,
    ModelConfig,
    count_parameters,
    flops_per_token,
    layer_parameters,
    memory_estimate,
    outer_parameters,
    resolve_shape,
)
from model.decoder import Decoder


def on_meta(shape) -> Decoder:
    with torch.device("meta"):
        return Decoder(shape)


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_count_and_sizes_are_those_of_the_decoder(preset: str, tie: bool, qk_norm: bool) -> None:
    shape = replace(PRESETS[preset], tie_embeddings=tie, qk_norm=qk_norm)
    sizes = {name: tuple(weight.shape) for name, weight in on_meta(shape).named_parameters()}
    layers = range(shape.num_layers)
    inner = {f"layers.{i}.{name}": size for i in layers for name, size in layer_parameters(shape).items()}
    assert sizes == outer_parameters(shape) | inner
    assert count_parameters(shape) == sum(prod(size) for size in sizes.values())


def test_tied_head_is_counted_once_and_is_the_embedding() -> None:
    shape = PRESETS["tiny"]
    untied = replace(shape, tie_embeddings=False)
    assert count_parameters(untied) - count_parameters(shape) == shape.vocab_size * shape.hidden_size
    tied_model = on_meta(shape)
    assert tied_model.head is tied_model.embed_tokens.weight
    assert on_meta(untied).head is not tied_model.embed_tokens.weight


def test_tiny_is_about_one_million_and_the_named_presets_are_what_they_are_called() -> None:
    count = {name: count_parameters(shape) for name, shape in PRESETS.items()}
    assert 0.7e6 < count["tiny"] < 1.5e6
    assert round(count["seed-126m"] / 1e6) == 126
    assert round(count["gpt2-124m"] / 1e6) == 124
    assert 330e6 < count["350m"] < 360e6
    assert 0.95e9 < count["1b"] < 1.1e9


@pytest.mark.parametrize("tie", [True, False])
def test_flops_equal_those_that_torch_counts(tie: bool) -> None:
    """With attention written out (torch counts no fused CPU kernel), all pairs are multiplied: attended = seq_len."""
    torch.manual_seed(0)
    shape = replace(PRESETS["tiny"], vocab_size=512, seq_len=64, tie_embeddings=tie)
    model, ids = Decoder(shape), torch.randint(0, 512, (2, 64))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.logits(model(ids)).sum().backward()
    assert counter.get_total_flops() == flops_per_token(shape, attended=64) * ids.numel()


def test_overrides_replace_the_preset_and_the_vocabulary_is_the_tokenizers() -> None:
    shape = resolve_shape(ModelConfig(preset="small", num_layers=3, hidden_size=96, seq_len=100, dropout=0.1), 777)
    assert (shape.num_layers, shape.hidden_size, shape.head_dim, shape.seq_len) == (3, 96, 24, 100)
    assert (shape.vocab_size, shape.dropout, shape.intermediate_size) == (777, 0.1, PRESETS["small"].intermediate_size)


def test_number_of_heads_alone_can_be_changed() -> None:
    shape = resolve_shape(ModelConfig(num_heads=1), 300)
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim) == (1, 1, 128)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preset": "huge"}, "tiny, small, seed-126m"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_kv_heads": 0}, "num_kv_heads is 0"),
        ({"hidden_size": -128}, "hidden_size is -128"),
        ({"hidden_size": 130}, "130 is not a multiple of num_heads 4"),
        ({"num_kv_heads": 3}, "num_kv_heads 3 does not divide num_heads 4"),
        ({"hidden_size": 4}, "head_dim 1 is odd"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"seq_len": 0}, "seq_len is 0"),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(change: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_shape(ModelConfig(**change), 300)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_memory_estimate_grows_with_what_it_depends_on() -> None:
    shape = PRESETS["small"]
    four = memory_estimate(shape, 4)
    assert four > 16 * count_parameters(shape)
    rows = [memory_estimate(shape, rows) for rows in (1, 2, 3)]
    assert abs((rows[2] - rows[1]) - (rows[1] - rows[0])) <= 1  # the same for each row, rounding apart
    assert memory_estimate(shape, 4, "bf16") < four
    assert memory_estimate(shape, 4, activation_checkpointing=True) < four
    assert memory_estimate(replace(shape, vocab_size=2 * shape.vocab_size), 4) > four
    assert memory_estimate(replace(shape, dropout=0.1), 4) > four


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize(("precision", "checkpointing"), [("fp32", False), ("fp32", True), ("bf16", False)])
def test_memory_estimate_covers_what_autograd_keeps(precision: str, checkpointing: bool, qk_norm: bool) -> None:
    """Bytes of all tensors saved for the backward pass, once per storage, against the estimate's growth per row."""
    torch.manual_seed(0)
    shape = replace(
        PRESETS["tiny"], vocab_size=300, num_layers=24, seq_len=64, qk_norm=qk_norm
    )  # deep: what is kept is nearly all
    model = Decoder(shape)
    model.activation_checkpointing = checkpointing
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def kept(rows: int) -> int:
        saved: dict[int, torch.Tensor] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor  # the tensor too: a freed address would be used again
            return tensor

        ids = torch.zeros(rows, shape.seq_len, dtype=torch.long)
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            model(ids, documents_BT=ids)
        return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own)

    measured = kept(3) - kept(2)
    estimated = memory_estimate(shape, 3, precision, checkpointing, device="cuda") - memory_estimate(
        shape, 2, precision, checkpointing, device="cuda"
    )
    assert estimated > measured
    if not checkpointing:  # with checkpointing nearly all is passing, and the hooks see only what is kept
        assert estimated < 1.2 * measured


def test_config_needs_no_torch() -> None:
    code = "import sys, model.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
