"""What the decoder promises: packed rows equal their documents alone, no token sees the future or a neighbour, and
precision, compilation and checkpointing change speed and memory only."""

from dataclasses import replace

import pytest
import torch

from model.config import RopeScaling, Shape
from model.decoder import Decoder
from model.loss import token_nll, weighted_nll

SHAPE = Shape(
    vocab_size=97,
    num_layers=3,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    seq_len=64,
)


def make_model(seed: int = 0, **changes) -> Decoder:
    """A decoder with larger weights than a fresh one has: attention that matters, so that a leak shows."""
    torch.manual_seed(seed)
    model = Decoder(replace(SHAPE, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return model


def pack(lengths: list[int], num_columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One row of random documents and padding: ids, positions, documents, each (1, num_columns)."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, SHAPE.vocab_size, (1, num_columns), generator=random)
    padding = num_columns - sum(lengths)
    positions = torch.cat([torch.arange(n) for n in [*lengths, padding]])[None]
    documents = torch.repeat_interleave(torch.tensor([*range(len(lengths)), -1]), torch.tensor([*lengths, padding]))
    return ids, positions, documents[None].int()


LLAMA = {"qk_norm": False, "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 32)}


@pytest.mark.parametrize("changes", [{}, LLAMA], ids=["Qwen3", "Llama"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lengths", [[1, 20, 7, 30], [64], [5, 5]])
def test_packed_row_equals_its_documents_alone_in_logits_and_loss(lengths: list[int], seed: int, changes: dict) -> None:
    model = make_model(seed, **changes)
    ids, positions, documents = pack(lengths, 64, seed)
    targets = torch.randint(0, SHAPE.vocab_size, (1, 64)).masked_fill(documents < 0, -100)
    weights = torch.rand(1, 64)
    packed = model(ids, positions, documents)
    total, start = torch.zeros(()), 0
    for n in lengths:
        part = slice(start, start + n)
        alone = model(ids[:, part])
        torch.testing.assert_close(model.logits(packed)[:, part], model.logits(alone), atol=1e-4, rtol=1e-4)
        total = total + weighted_nll(alone, model.head, targets[:, part], weights[:, part])
        start += n
    torch.testing.assert_close(weighted_nll(packed, model.head, targets, weights), total, atol=1e-3, rtol=1e-5)


def test_packed_batch_equals_separate_in_gradients() -> None:
    model = make_model()
    ids, positions, documents = pack([10, 25, 20], 64, seed=5)
    targets = ids.roll(-1, dims=1).masked_fill(documents < 0, -100)
    weighted_nll(model(ids, positions, documents), model.head, targets, torch.ones(1, 64)).backward()
    packed = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    for part in (slice(0, 10), slice(10, 35), slice(35, 55)):
        weighted_nll(
            model(ids[:, part]), model.head, targets[:, part], torch.ones_like(ids[:, part]).float()
        ).backward()
    assert len(packed) == len(list(model.parameters()))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(packed[name], weight.grad, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("column", [1, 17, 31, 63])
def test_a_changed_token_changes_no_earlier_hidden_state(column: int, packed: bool) -> None:
    model = make_model()
    ids, positions, documents = pack([64], 64, seed=1)
    changed = ids.clone()
    changed[0, column] = (ids[0, column] + 1) % SHAPE.vocab_size
    given = (positions, documents) if packed else ()
    before, after = model(ids, *given), model(changed, *given)
    assert torch.equal(before[:, :column], after[:, :column])
    assert not torch.allclose(before[:, column:], after[:, column:], atol=1e-3)


def test_no_gradient_flows_from_a_token_to_later_ones() -> None:
    model = make_model()
    inputs: list[torch.Tensor] = []

    def cut_off(_module: torch.nn.Module, _args: object, embedded: torch.Tensor) -> torch.Tensor:
        inputs.append(embedded.detach().requires_grad_())
        return inputs[0]

    model.embed_tokens.register_forward_hook(cut_off)
    hidden = model(torch.randint(0, SHAPE.vocab_size, (1, 40)))
    (gradient,) = torch.autograd.grad(hidden[0, 20].sum(), inputs[0])
    assert gradient[0, 21:].abs().max() == 0
    assert (gradient[0, :21].abs().amax(dim=1) > 0).all()


def test_a_changed_document_changes_no_other_document() -> None:
    model = make_model()
    ids, positions, documents = pack([20, 15, 22], 64, seed=2)
    changed = torch.where(documents == 1, (ids + 1) % SHAPE.vocab_size, ids)
    before, after = model(ids, positions, documents), model(changed, positions, documents)
    others = documents != 1
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[~others], after[~others], atol=1e-3)


def test_positions_matter_only_relative_to_each_other() -> None:
    model = make_model()
    ids = torch.randint(0, SHAPE.vocab_size, (1, 30))
    counted, moved = torch.arange(30)[None], torch.arange(30)[None] + 23
    torch.testing.assert_close(model(ids, counted), model(ids, moved), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(ids, counted), model(ids, 2 * counted), atol=1e-2)


def test_same_seed_same_weights_same_loss_and_gradients_bit_for_bit() -> None:
    def one_step() -> list[torch.Tensor]:
        torch.manual_seed(11)
        model = Decoder(replace(SHAPE, dropout=0.1))
        ids, positions, documents = pack([30, 30], 64, seed=3)
        loss = weighted_nll(model(ids, positions, documents), model.head, ids, torch.ones(1, 64))
        loss.backward()
        return [loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]

    first, second = one_step(), one_step()
    assert len(first) == 1 + len(list(Decoder(SHAPE).parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_initial_loss_is_that_of_a_uniform_guess() -> None:
    torch.manual_seed(0)
    model = Decoder(replace(SHAPE, vocab_size=500))
    ids = torch.randint(0, 500, (4, 64))
    nll = token_nll(model(ids), model.head, ids.roll(-1, dims=1))
    assert abs(nll.mean().item() - torch.tensor(500.0).log().item()) < 0.1


def test_activation_checkpointing_changes_no_gradient_even_with_dropout() -> None:
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model = make_model(dropout=0.2)
        model.activation_checkpointing = checkpointing
        ids, positions, documents = pack([30, 30], 64, seed=3)
        torch.manual_seed(4)
        weighted_nll(model(ids, positions, documents), model.head, ids, torch.ones(1, 64)).backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    pairs = list(zip(gradients(False), gradients(True), strict=True))
    assert len(pairs) == len(list(make_model().parameters()))
    assert all(torch.equal(one, other) for one, other in pairs)


def test_dropout_acts_in_training_only_and_zero_is_none() -> None:
    ids = torch.randint(0, SHAPE.vocab_size, (2, 32))
    dropped, whole = make_model(dropout=0.3), make_model(dropout=0.0)
    assert torch.equal(whole.train()(ids), whole.eval()(ids))
    assert torch.equal(dropped.eval()(ids), whole(ids))
    assert not torch.allclose(dropped.train()(ids), whole(ids), atol=1e-3)


def test_bf16_autocast_is_close_to_fp32() -> None:
    torch.manual_seed(0)
    model = Decoder(SHAPE)
    ids, positions, documents = pack([30, 30], 64, seed=3)
    exact = model(ids, positions, documents)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids, positions, documents)
        loss = weighted_nll(rounded, model.head, ids, torch.ones(1, 64))
    assert loss.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits: 0.4% a rounding, and the final norm brings hidden states to about 1.
    assert (rounded - exact).abs().mean() < 0.02
    torch.testing.assert_close(loss, weighted_nll(exact, model.head, ids, torch.ones(1, 64)), rtol=5e-3, atol=0)


def test_compiled_in_one_graph_equals_eager_in_loss_and_gradients() -> None:
    model = make_model(num_layers=1)
    ids, positions, documents = pack([30, 30], 64, seed=3)

    def loss_of(ids, positions, documents):
        return weighted_nll(model(ids, positions, documents), model.head, ids, torch.ones(1, 64))

    eager = loss_of(ids, positions, documents)
    eager.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    # aot_eager traces forward and backward like the default backend, without a C++ compiler; fullgraph forbids breaks.
    compiled = torch.compile(loss_of, fullgraph=True, backend="aot_eager")(ids, positions, documents)
    compiled.backward()
    torch.testing.assert_close(compiled, eager)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-4, msg=name)
