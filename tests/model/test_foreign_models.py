"""Folders that `transformers` made, Qwen3-shaped or Llama-shaped: the same logits here, and there again when saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from common.errors import UserError
from model.config import RopeScaling, count_parameters
from model.generate import generate
from model.huggingface import INDEX, load_model, load_shape, save_model

SIZES = {
    "vocab_size": 301, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def make(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.float32, shard: str = "5GB", **changes) -> Any:
    """A random model, norms too, that `transformers` saved into `folder`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SIZES | changes))).to(dtype)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    theirs.save_pretrained(folder, max_shard_size=shard)
    return theirs.eval()


def same_logits(folder: Path, ids: torch.Tensor | None = None) -> None:
    """In float32, whatever is stored."""
    from transformers import AutoModelForCausalLM

    ids = torch.randint(0, SIZES["vocab_size"], (2, 200)) if ids is None else ids
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours.logits(ours(ids)), expected, atol=2e-5 * float(expected.abs().max()), rtol=0)
    assert sum(p.numel() for p in theirs.parameters()) == count_parameters(ours.shape)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shard", ["5GB", "60KB"], ids=["one file", "several files"])
def test_logits_are_those_of_transformers_and_again_when_saved(
    tmp_path: Path, kind: str, tied: bool, dtype: torch.dtype, shard: str
) -> None:
    make(tmp_path / "theirs", kind, dtype, shard, tie_word_embeddings=tied)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1 or shard == "5GB"
    same_logits(tmp_path / "theirs")
    loaded = load_model(tmp_path / "theirs")
    assert loaded.head.dtype == dtype
    assert loaded.shape.qk_norm == (kind == "qwen3")
    save_model(loaded, tmp_path / "ours", eos_id=[2, 5], bos_id=1, pad_id=None)
    same_logits(tmp_path / "ours")
    assert load_shape(tmp_path / "ours") == loaded.shape
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    expected = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert {key: config[key] for key in ("architectures", "model_type", "dtype")} == {
        key: expected[key] for key in ("architectures", "model_type", "dtype")
    }
    from transformers import GenerationConfig

    assert GenerationConfig.from_pretrained(tmp_path / "ours").eos_token_id == [2, 5]


@pytest.mark.parametrize("changes", [{"num_key_value_heads": 4}, {"num_key_value_heads": 1, "rms_norm_eps": 1e-5},
                                     {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
                                     {"head_dim": 32}], ids=str)  # fmt: skip
def test_llamas_of_other_sizes(tmp_path: Path, changes: dict[str, Any]) -> None:
    make(tmp_path, **changes)
    same_logits(tmp_path)


def test_greedy_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = make(tmp_path)
    prompt = [5, 6, 7, 8]
    out = theirs.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None,
                          pad_token_id=0, attention_mask=torch.ones(1, 4, dtype=torch.long))  # fmt: skip
    assert generate(load_model(tmp_path), [prompt], 24, 400)[0].ids == out[0, 4:].tolist()


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_positions_stretched_as_llama_3_does(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "theirs", kind, rope_parameters=LLAMA3)
    assert load_shape(tmp_path / "theirs").rope_scaling == RopeScaling(8.0, 1.0, 4.0, 64)
    same_logits(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours", eos_id=2, bos_id=1, pad_id=0)
    same_logits(tmp_path / "ours")
    edit(tmp_path / "theirs", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    plain, stretched = load_model(tmp_path / "theirs"), load_model(tmp_path / "ours")
    ids = torch.arange(200)[None]
    with torch.no_grad():
        assert float((plain(ids) - stretched(ids)).abs().max()) > 0.1  # it matters, so equal logits say something


def test_the_older_way_to_state_stretched_positions(tmp_path: Path) -> None:
    make(tmp_path, rope_parameters=LLAMA3 | {"rope_theta": 5e5})
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_shape(tmp_path).rope_theta == 5e5
    same_logits(tmp_path)


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Other tensors in model.safetensors; None takes one out."""
    weights = load_file(folder / "model.safetensors") | {name: each for name, each in changes.items()}
    kept = {name: each.clone() for name, each in weights.items() if each is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_tied_head_that_is_stored_twice_is_read_once_and_another_head_is_refused(tmp_path: Path) -> None:
    make(tmp_path, tie_word_embeddings=True)
    embedding = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(tmp_path, **{"lm_head.weight": embedding})
    same_logits(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.head is loaded.embed_tokens.weight
    rewrite(tmp_path, **{"lm_head.weight": embedding + 1})
    assert "ties the head" in refused(tmp_path)
    rewrite(tmp_path, **{"lm_head.weight": embedding[1:]})
    assert "tensors" in refused(tmp_path)


def test_buffers_that_old_versions_stored_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(tmp_path, **{name: torch.ones(8)})
    same_logits(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral"},
        {"model_type": "gpt2"},
        {"model_type": ["llama"]},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"partial_rotary_factor": 0.5},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": 7},
        {"rope_parameters": LLAMA3 | {"factor": 0.0}},
        {"rope_parameters": LLAMA3 | {"factor": float("nan")}},
        {"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0}},
        {"rope_parameters": LLAMA3 | {"high_freq_factor": "many"}},
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": None}},
        {"rope_parameters": {"rope_type": "llama3"}},
        {"model_type": "qwen3"},
    ],
    ids=str,
)
def test_what_the_decoder_does_not_do_is_refused_before_weights_are_read(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    load_model(tmp_path)
    edit(tmp_path, **changes)
    monkeypatch.setattr("model.huggingface.load_file", lambda path: pytest.fail("weights were read"))
    message = refused(tmp_path)
    if changes.keys() & {"attention_bias", "mlp_bias", "hidden_act", "quantization_config"}:
        assert next(iter(changes)) in message


def test_weights_in_several_files_are_checked_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, shard="60KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / INDEX).read_text())
    monkeypatch.setattr("model.huggingface.load_file", lambda path: pytest.fail("weights were read"))
    whole = files[-1].read_bytes()

    def restored() -> None:
        files[-1].write_bytes(whole)
        (tmp_path / INDEX).write_text(json.dumps(index))

    files[-1].unlink()
    assert files[-1].name in refused(tmp_path)
    for length in (0, 8, 100, len(whole) - 1):
        files[-1].write_bytes(whole[:length])
        message = refused(tmp_path)
        assert files[-1].name in message
        assert "damaged" in message
    restored()

    with safe_open(files[-1], framework="pt") as header:
        weights = {name: header.get_tensor(name) for name in header.keys()}  # noqa: SIM118
    name = next(iter(weights))
    save_file(weights | {name: weights[name][:-1].contiguous()}, files[-1])
    assert name in refused(tmp_path)
    save_file({other: each for other, each in weights.items() if other != name}, files[-1])
    assert "tensors" in refused(tmp_path)
    save_file(weights | {"model.embed_tokens.weight": torch.zeros(301, 64)}, files[-1])
    assert "stands in another file too" in refused(tmp_path)
    restored()

    for wrong in ("[]", "{", "3", '{"weight_map": {}}', '{"weight_map": 3}'):
        (tmp_path / INDEX).write_text(wrong)
        refused(tmp_path)
    make(tmp_path / "other")  # the same model, in a folder that the index has no business in
    for place in ("other/model.safetensors", str(tmp_path / "other" / "model.safetensors"), ".."):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": place}}))
        assert "names no files of its folder" in refused(tmp_path) or place == ".."
