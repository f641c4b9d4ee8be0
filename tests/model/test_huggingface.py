"""A saved decoder is a `transformers` model with the same logits; what is not one costs one line."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from common.errors import UserError
from model.config import Shape
from model.decoder import Decoder
from model.generate import generate
from model.huggingface import load_model, load_shape, save_model

SHAPE = Shape(
    vocab_size=301,
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    seq_len=128,
)
PAD, BOS, EOS = 0, 1, 2


def make_model(**changes) -> Decoder:
    """Every parameter random, norms too: a weight under the wrong name shows."""
    torch.manual_seed(0)
    model = Decoder(replace(SHAPE, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def save(model: Decoder, folder: Path, dtype: torch.dtype | None = None) -> Path:
    save_model(model, folder, eos_id=EOS, bos_id=BOS, pad_id=PAD, dtype=dtype)
    return folder


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": False}, {"num_kv_heads": 4}, {"num_kv_heads": 1, "head_dim": 32, "rope_theta": 5e4}],
    ids=["tied", "untied", "one key head per query head", "one key head, wide heads, other theta"],
)
def test_transformers_gives_the_same_logits_and_the_same_greedy_tokens(tmp_path: Path, changes: dict) -> None:
    from transformers import AutoModelForCausalLM

    model = make_model(**changes).eval()
    theirs = AutoModelForCausalLM.from_pretrained(save(model, tmp_path)).eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert theirs.dtype == torch.float32
    ids = torch.randint(0, SHAPE.vocab_size, (2, 100))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model.logits(model(ids)), atol=1e-4, rtol=0)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    assert (theirs.config.eos_token_id, theirs.config.bos_token_id, theirs.config.pad_token_id) == (EOS, BOS, PAD)
    prompt = [5, 6, 7, 8]
    out = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, attention_mask=torch.ones(1, 4, dtype=torch.long))
    expected = [token for token in out[0, len(prompt) :].tolist() if token != EOS]
    assert generate(model, [prompt], 12, EOS)[0].ids == expected


@pytest.mark.parametrize("tie", [True, False])
def test_load_gives_back_what_was_saved_bit_for_bit(tmp_path: Path, tie: bool) -> None:
    model = make_model(tie_embeddings=tie)
    loaded = load_model(save(model, tmp_path))
    assert loaded.shape == model.shape
    theirs, ours = loaded.state_dict(), model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert (loaded.head is loaded.embed_tokens.weight) == tie


def test_tied_head_is_stored_once_and_names_are_those_of_transformers(tmp_path: Path) -> None:
    for tie in (True, False):
        folder = save(make_model(tie_embeddings=tie), tmp_path / str(tie))
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            names = set(file.keys())
            assert file.metadata() == {"format": "pt"}
        assert ("lm_head.weight" in names) == (not tie)
        assert "model.layers.1.self_attn.q_norm.weight" in names


def test_saving_as_bfloat16_rounds_and_says_so(tmp_path: Path) -> None:
    model = make_model()
    folder = save(model, tmp_path, torch.bfloat16)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = load_model(folder)
    assert loaded.head.dtype == torch.bfloat16
    assert torch.equal(loaded.head, model.head.bfloat16())
    assert load_model(folder, dtype=torch.float32).head.dtype == torch.float32
    assert model.head.dtype == torch.float32


def test_loading_draws_no_random_numbers_and_does_not_need_the_file_afterwards(tmp_path: Path) -> None:
    model = make_model()
    folder = save(model, tmp_path)
    state = torch.get_rng_state()
    loaded = load_model(folder)
    assert torch.equal(torch.get_rng_state(), state)
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)  # in place: a mapped file would show it
    assert torch.equal(loaded.head, model.head)


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = save(make_model(), tmp_path)
    (folder / missing).unlink()
    assert missing in refused(folder)


def test_missing_folder_and_plain_file_are_refused(tmp_path: Path) -> None:
    assert "not a model folder" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    assert "not a model folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"qwen3"', b"{}", b'{"model_type": "qwen3"}'])
def test_damaged_config_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = save(make_model(), tmp_path)
    (folder / "config.json").write_bytes(content)
    refused(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**12},
        {"vocab_size": 10**15},
        {"intermediate_size": 97},
        {"num_hidden_layers": 1},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 3},
        {"num_attention_heads": 0},
        {"num_attention_heads": 0, "head_dim": None},
        {"head_dim": 15},
        {"hidden_size": "64"},
        {"hidden_size": 64.5},
        {"hidden_size": -64},
        {"vocab_size": None},
        {"vocab_size": True},
        {"max_position_embeddings": 0},
        {"rms_norm_eps": "small"},
        {"rms_norm_eps": 0},
        {"rms_norm_eps": 10**400},
        {"rope_theta": float("nan"), "rope_parameters": {"rope_theta": float("nan")}},
        {"rope_parameters": {"rope_theta": -1.0}},
        {"max_position_embeddings": 10**30},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": [1]}},
        {"rope_parameters": "default"},
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"use_sliding_window": True},
        {"hidden_act": "gelu"},
        {"model_type": "llama"},
    ],
    ids=str,
)
def test_absurd_or_mismatched_or_foreign_config_is_refused_before_anything_is_allocated(
    tmp_path: Path, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(make_model(), tmp_path)
    edit_config(folder, **changes)
    monkeypatch.setattr("model.huggingface.Decoder", lambda shape: pytest.fail("a decoder was built"))
    monkeypatch.setattr("model.huggingface.load_file", lambda path: pytest.fail("weights were read"))
    refused(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn])
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = save(make_model(), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(dtype)
    save_file(weights, folder / "model.safetensors")
    assert "model.norm.weight holds no weights" in refused(folder)


def test_a_config_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    folder = save(make_model(), tmp_path)
    (folder / "config.json").write_text("[" * 200_000)
    assert "damaged" in refused(folder)


def test_damaged_weights_are_refused_wherever_they_are_cut(tmp_path: Path) -> None:
    folder = save(make_model(), tmp_path)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for length in (0, 4, 8, 100, 8 + header, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "damaged" in refused(folder)
    file.write_bytes(b"\xff" * 8 + whole[8:])  # a header of 16 EiB
    assert "damaged" in refused(folder)


@pytest.mark.parametrize("change", ["remove", "add", "rename", "transpose"])
def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path, change: str) -> None:
    folder = save(make_model(), tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if change == "remove":
        del weights[name]
    elif change == "add":
        weights["model.layers.1.mlp.up_proj.bias"] = torch.zeros(96)
    elif change == "rename":
        weights["model.layers.1.mlp.other.weight"] = weights.pop(name)
    else:
        weights[name] = weights[name].T.contiguous()
    save_file(weights, folder / "model.safetensors")
    message = refused(folder)
    assert name in message if change in ("rename", "transpose") else "tensors" in message


def test_older_configs_with_rope_theta_alone_load(tmp_path: Path) -> None:
    folder = save(make_model(rope_theta=5e4), tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config))
    assert load_shape(folder).rope_theta == 5e4
