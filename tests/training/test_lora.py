"""Adapters: nothing changes before training, only they change in it, and merged, stored or read by peft they say the
same."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import UserError
from model.config import ModelConfig, Shape, layer_parameters, resolve_shape, state_bytes
from model.decoder import Decoder
from model.huggingface import load_model, save_model, save_weights
from model.loss import weighted_nll
from training.config import TrainConfig
from training.lora import (
    TARGETS,
    adapter_config,
    add_adapters,
    load_adapters,
    lora_parameters,
    lora_state_bytes,
    merged_weights,
    num_trained,
    save_adapter,
)
from training.muon import Muon
from training.optimizer import make_optimizers
from training.step import loss_function

SHAPE = resolve_shape(
    ModelConfig(num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, intermediate_size=48, seq_len=64), 300
)


def base(seed: int = 0, shape: Shape = SHAPE) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(shape)


def adapted(seed: int = 0, rank: int = 4, dropout: float = 0.0, targets: tuple[str, ...] = TARGETS) -> Decoder:
    """Adapters whose B is as large as A, so that leaving something out shows."""
    model = base(seed)
    add_adapters(model, rank, alpha=2.5 * rank, dropout=dropout, targets=targets)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def plain(weights: dict[str, Tensor]) -> Decoder:
    model = base(9)
    model.load_state_dict(weights)
    return model


def micro_batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """ids, targets, weights, positions, documents of 3 rows that are two documents each."""
    torch.manual_seed(seed)
    ids = torch.randint(0, 300, (3, 40))
    documents = (torch.arange(40) >= 24).int().expand(3, 40).contiguous()
    positions = torch.cat((torch.arange(24), torch.arange(16))).expand(3, 40).contiguous()
    return ids, torch.randint(0, 300, (3, 40)), torch.rand(3, 40), positions, documents


def logits(model: Decoder, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    with torch.no_grad():
        return model.logits(model(torch.randint(0, 300, (3, 40))))


def update(model: Decoder, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    loss_function(model, False)(*micro_batch(seed)).backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def test_before_training_the_model_is_the_base_exactly() -> None:
    model = base()
    before = logits(model)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_adapters(model, 4, 8.0)
    assert torch.equal(logits(model), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in merged_weights(model).items())
    A = dict(model.named_parameters())["layers.0.self_attn.q_proj.lora_A"].detach()
    assert 0.5 / 32**0.5 < float(A.abs().max()) <= 1 / 32**0.5  # uniform as in nn.Linear, not zero


def test_merged_weights_have_the_decoders_names_and_say_what_the_adapted_model_says() -> None:
    model = adapted()
    weights = merged_weights(model)
    assert weights.keys() == base().state_dict().keys()
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert (logits(plain(weights)) - logits(model)).abs().max() < 2e-6  # of logits up to 0.4
    assert (logits(base()) - logits(model)).abs().max() > 1e-2  # and not because adapters do little


def test_merging_adds_alpha_over_rank_times_the_product() -> None:
    model = adapted(rank=4)
    parameters, stem = dict(model.named_parameters()), "layers.1.mlp.down_proj"
    expected = parameters[f"{stem}.weight"] + 2.5 * parameters[f"{stem}.lora_B"] @ parameters[f"{stem}.lora_A"]
    assert torch.allclose(merged_weights(model)[f"{stem}.weight"], expected, atol=1e-6)


def test_only_targets_are_adapted_and_only_adapters_get_gradients() -> None:
    model = adapted(targets=("q_proj", "v_proj"))
    loss_function(model, False)(*micro_batch()).backward()
    names = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert names == {
        f"layers.{layer}.self_attn.{target}.lora_{matrix}"
        for layer in (0, 1)
        for target in ("q_proj", "v_proj")
        for matrix in "AB"
    }


def test_gradients_are_those_of_the_merged_matrix_by_the_chain_rule() -> None:
    model = adapted()
    merged_model = plain(merged_weights(model))
    for each in (model, merged_model):
        loss_function(each, False)(*micro_batch()).backward()
    whole, parts = dict(merged_model.named_parameters()), dict(model.named_parameters())
    for stem in ("layers.0.self_attn.k_proj", "layers.1.mlp.gate_proj"):
        gradient = whole[f"{stem}.weight"].grad
        A, B = parts[f"{stem}.lora_A"], parts[f"{stem}.lora_B"]
        assert gradient is not None
        assert torch.allclose(A.grad, 2.5 * B.T @ gradient, atol=1e-5)  # type: ignore[arg-type]
        assert torch.allclose(B.grad, 2.5 * gradient @ A.T, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_updates_change_adapters_and_leave_all_else_bit_for_bit(optimizer: str) -> None:
    model = adapted()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TrainConfig(optimizer=optimizer)  # type: ignore[arg-type]
    optimizers = make_optimizers(model, config, 1e-2, 1e-3, 0.1)
    assert not any(isinstance(each, Muon) for each in optimizers)
    for seed in range(3):
        update(model, optimizers, seed)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_dropout_acts_on_the_adapters_alone_and_in_training_alone() -> None:
    model, without = adapted(dropout=0.5), adapted(dropout=0.0)
    assert torch.equal(logits(model.eval()), logits(without))
    assert not torch.equal(logits(model.train()), logits(without))
    for each in (model, without):
        for name, parameter in each.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.zeros_(parameter)
    assert torch.equal(logits(model.train()), logits(without))


def test_the_same_seed_gives_the_same_adapters() -> None:
    first, again, other = (dict(adapted(seed).named_parameters()) for seed in (0, 0, 1))
    name = "layers.1.mlp.up_proj.lora_A"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first[name.replace("layers.1", "layers.0")])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_plain(precision: str) -> None:
    model = adapted()
    found = []
    for compiled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_function(model, compiled)(*micro_batch())
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        found.append((float(loss.detach()), gradients))
    (loss_plain, plain_gradients), (loss_compiled, compiled_gradients) = found
    tolerance = 1e-5 if precision == "fp32" else 0.05  # bf16 has 8 bits, and the compiler rounds elsewhere
    assert loss_compiled == pytest.approx(loss_plain, rel=tolerance / 10)
    assert compiled_gradients.keys() == plain_gradients.keys()
    for name, gradient in plain_gradients.items():
        assert (compiled_gradients[name] - gradient).norm() < tolerance * gradient.norm(), name


def test_recomputed_activations_give_the_same_gradients() -> None:
    model = adapted()
    found = []
    for model.activation_checkpointing in (False, True):
        loss_function(model, False)(*micro_batch()).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert len(found[0]) == 2 * 2 * len(TARGETS)


def test_stored_adapters_come_back_bit_for_bit_and_training_goes_on_alike(tmp_path: Path) -> None:
    model = adapted()
    save_adapter(tmp_path, dict(model.named_parameters()), adapter_config(model, "base"))
    again = base()
    torch.manual_seed(7)
    add_adapters(again, 4, alpha=10.0)
    load_adapters(again, tmp_path)
    for each in (model, again):
        update(each, make_optimizers(each, TrainConfig(), 1e-2, 1e-3, 0.0), seed=3)
    expected = dict(model.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in again.named_parameters())


def test_peft_reads_them_as_the_merged_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = adapted(targets=("q_proj", "o_proj", "down_proj"))
    save_model(base(), tmp_path / "base", eos_id=2, bos_id=1, pad_id=0)
    save_adapter(tmp_path / "adapter", dict(model.named_parameters()), adapter_config(model, str(tmp_path / "base")))
    save_weights(merged_weights(model), SHAPE, tmp_path / "merged", eos_id=2, bos_id=1, pad_id=0)
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    frozen = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        bare = frozen(ids).logits
        theirs = peft.PeftModel.from_pretrained(frozen, tmp_path / "adapter")
        found = theirs(ids).logits
        alone = load_model(tmp_path / "merged")
        ours = alone.logits(alone(ids))
        merged = theirs.merge_and_unload()
    assert (found - ours).abs().max() < 2e-6
    assert (bare - ours).abs().max() > 1e-2
    weights = merged_weights(model)
    theirs_merged = {name.removeprefix("model."): weight for name, weight in merged.state_dict().items()}
    assert all((theirs_merged[name] - weight).abs().max() < 1e-7 for name, weight in weights.items())


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize(("rank", "targets"), [(8, TARGETS), (16, ("k_proj", "gate_proj"))])
def test_the_arithmetic_is_the_models_own(preset: str, rank: int, targets: tuple[str, ...]) -> None:
    shape = resolve_shape(ModelConfig(preset=preset), 300)
    with torch.device("meta"):
        model = Decoder(shape)
        everything = sum(p.numel() for p in model.parameters())
        add_adapters(model, rank, 8.0, targets=targets)
    assert lora_parameters(shape, rank, targets) == num_trained(model)
    assert lora_state_bytes(shape, rank, targets) == 4 * everything + 16 * num_trained(model)
    assert lora_state_bytes(shape, rank, targets) < state_bytes(shape, muon=True)


def test_optimizer_state_and_gradients_are_of_adapters_alone() -> None:
    model = adapted(rank=8)
    optimizers = make_optimizers(model, TrainConfig(), 1e-2, 1e-3, 0.1)
    loss_function(model, False)(*micro_batch()).backward()
    held = [p for p in model.parameters()] + [p.grad for p in model.parameters() if p.grad is not None]
    for optimizer in optimizers:
        optimizer.step()
        held += [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert sum(tensor.numel() * tensor.element_size() for tensor in held) == lora_state_bytes(SHAPE, 8)
    assert [len(group["params"]) for group in optimizers[0].param_groups] == [2 * 2 * len(TARGETS)]


def test_targets_are_all_matrices_of_a_layer() -> None:
    assert tuple(n.split(".")[-2] for n, size in layer_parameters(SHAPE).items() if len(size) == 2) == TARGETS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "lora_rank 0: must be from 1 to 16, the smaller side of k_proj"),
        ({"rank": 17}, "lora_rank 17: must be from 1 to 16"),
        ({"rank": 33, "targets": ("q_proj",)}, "lora_rank 33: must be from 1 to 32, the smaller side of q_proj"),
        ({"targets": ("q_proj", "lm_head")}, "lora_targets 'lm_head': a layer has no such matrix, choose from q_proj"),
        ({"targets": ("q_norm",)}, "lora_targets 'q_norm'"),
        ({"targets": ()}, "lora_targets is empty"),
        ({"alpha": 0.0}, "lora_alpha 0.0: must be a number above 0"),
        ({"alpha": float("nan")}, "lora_alpha nan"),
        ({"dropout": 1.0}, "lora_dropout 1.0: must be from 0"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_the_model(settings: dict, words: str) -> None:
    model = base()
    with pytest.raises(UserError, match="^" + words.replace("(", r"\(")) as error:
        add_adapters(model, **{"rank": 4, "alpha": 8.0, **settings})
    assert "\n" not in str(error.value)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_of_another_kind_or_damaged_are_refused(tmp_path: Path) -> None:
    model = adapted()
    save_adapter(tmp_path, dict(model.named_parameters()), adapter_config(model, "base"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for other, words in ((adapted(rank=8), "has r 4, this model 8"), (adapted(targets=("q_proj",)), "target_modules")):
        with pytest.raises(UserError, match=words):
            load_adapters(other, tmp_path)

    file = tmp_path / "adapter_model.safetensors"
    stored = load_file(file)
    first = min(stored)
    save_file({name: tensor for name, tensor in stored.items() if name != first}, file)
    with pytest.raises(UserError, match=f"has no {first}"):
        load_adapters(model, tmp_path)
    save_file({**stored, first: stored[first][:, :3].contiguous()}, file)
    with pytest.raises(UserError, match=rf"has {first} \(4, 3\)"):
        load_adapters(model, tmp_path)
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        load_adapters(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="has r None"):
        load_adapters(model, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_loss_of_a_frozen_head_has_the_same_gradients_and_makes_none_for_the_head() -> None:
    torch.manual_seed(0)
    head, targets, weights = torch.randn(300, 32), torch.randint(0, 300, (3, 40)), torch.rand(3, 40)
    found = []
    for trained in (True, False):
        hidden = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
        loss = weighted_nll(hidden, head.clone().requires_grad_(trained), targets, weights)
        saved = [tensor.shape for tensor in loss.grad_fn.saved_tensors if tensor is not None]  # type: ignore[union-attr]
        assert (torch.Size((300, 32)) in saved) is trained
        loss.backward()
        found.append((loss.detach(), hidden.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])  # type: ignore[arg-type]
