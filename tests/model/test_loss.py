"""The chunked loss is plain cross entropy: in value, in gradients, under autocast, for any number of chunks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import model.loss as loss_module
from model.loss import token_nll, weighted_nll

V, D = 61, 16


@pytest.fixture(params=[1, 7, 1000])
def tokens_in_chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(loss_module, "chunk_logits", lambda vocab_size, device: request.param * vocab_size)
    return request.param


def make_case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    hidden = torch.randn(3, 11, D, requires_grad=True)
    head = torch.randn(V, D, requires_grad=True)
    targets = torch.randint(0, V, (3, 11))
    targets[torch.rand(3, 11) < 0.2] = -100
    weights = torch.rand(3, 11) * (torch.rand(3, 11) < 0.8)
    return hidden, head, targets, weights


def plain(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    nll = F.cross_entropy((hidden @ head.T).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
    return (nll * weights.flatten()).sum()


def test_chunked_loss_equals_plain_cross_entropy_in_value_and_gradients(tokens_in_chunk: int) -> None:
    hidden, head, targets, weights = make_case()
    expected, found = plain(hidden, head, targets, weights), weighted_nll(hidden, head, targets, weights)
    torch.testing.assert_close(found, expected)
    # Scaled by 0.37: the backward pass must use the gradient that comes from above.
    for one, other in zip(
        torch.autograd.grad(0.37 * found, (hidden, head)),
        torch.autograd.grad(0.37 * expected, (hidden, head)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gradients_pass_a_numerical_check(tokens_in_chunk: int) -> None:
    """Along a random direction, against finite differences of the plain loss; all in float32, so steps are coarse."""
    hidden, head, targets, weights = make_case(1)
    direction_hidden, direction_head = torch.randn_like(hidden), torch.randn_like(head)
    grads = torch.autograd.grad(weighted_nll(hidden, head, targets, weights), (hidden, head))
    slope = (grads[0] * direction_hidden).sum() + (grads[1] * direction_head).sum()
    step = 1e-2
    with torch.no_grad():
        ahead = plain(hidden + step * direction_hidden, head + step * direction_head, targets, weights)
        behind = plain(hidden - step * direction_hidden, head - step * direction_head, targets, weights)
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-2, atol=1e-2)


def test_token_nll_equals_plain_cross_entropy_and_needs_no_gradient(tokens_in_chunk: int) -> None:
    hidden, head, targets, _ = make_case()
    expected = F.cross_entropy((hidden @ head.T).transpose(1, 2), targets, ignore_index=-100, reduction="none")
    found = token_nll(hidden, head, targets)
    torch.testing.assert_close(found, expected)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert (found[targets == -100] == 0).all()


def test_loss_is_the_same_without_gradients(tokens_in_chunk: int) -> None:
    hidden, head, targets, weights = make_case()
    with torch.no_grad():
        without = weighted_nll(hidden, head, targets, weights)
    torch.testing.assert_close(without, weighted_nll(hidden, head, targets, weights))


def test_sum_over_rows_does_not_depend_on_how_they_are_batched() -> None:
    hidden, head, targets, weights = make_case()
    whole = weighted_nll(hidden, head, targets, weights)
    parts = [weighted_nll(hidden[i : i + 1], head, targets[i : i + 1], weights[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize("nothing", ["targets", "weights"])
def test_no_target_gives_zero_loss_and_zero_gradients_not_nan(nothing: str) -> None:
    hidden, head, targets, weights = make_case()
    if nothing == "targets":
        targets = torch.full_like(targets, -100)
    else:
        weights = torch.zeros_like(weights)
    loss = weighted_nll(hidden, head, targets, weights)
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert head.grad is not None
    assert hidden.grad.abs().max() == 0
    assert head.grad.abs().max() == 0


def test_an_ignored_token_does_not_reach_the_loss_whatever_it_holds() -> None:
    hidden, head, targets, weights = make_case()
    other = hidden.detach().clone()
    other[(targets == -100) | (weights == 0)] = 50.0
    torch.testing.assert_close(
        weighted_nll(other.requires_grad_(), head, targets, weights), weighted_nll(hidden, head, targets, weights)
    )


def test_large_logits_do_not_overflow() -> None:
    hidden, head, targets, weights = make_case()
    huge = (100 * hidden).detach().requires_grad_()
    torch.testing.assert_close(weighted_nll(huge, head, targets, weights), plain(huge, head, targets, weights))


def test_under_autocast_only_the_products_are_rounded(tokens_in_chunk: int) -> None:
    """The same bfloat16 logits with log-sum-exp in float32 give the same value; a bfloat16 log-sum-exp would not."""
    hidden, head, targets, weights = make_case()
    with torch.autocast("cpu", torch.bfloat16):
        found = weighted_nll(hidden, head, targets, weights)
        evaluated = (token_nll(hidden, head, targets) * weights).sum()
    logits = (hidden.bfloat16() @ head.bfloat16().T).float()
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
    expected = (nll * weights.flatten()).sum()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(evaluated, expected, rtol=1e-5, atol=0)
    exact = torch.autograd.grad(plain(hidden, head, targets, weights), (hidden, head))
    for one, other in zip(torch.autograd.grad(found, (hidden, head)), exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_all_logits_are_never_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "chunk_logits", lambda vocab_size, device: 4 * vocab_size)
    seen: list[int] = []
    original = loss_module._nll

    def watched(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        result = original(hidden, head, targets)
        seen.append(result[1].shape[0])
        return result

    monkeypatch.setattr(loss_module, "_nll", watched)
    hidden, head, targets, weights = make_case()
    weighted_nll(hidden, head, targets, weights).backward()
    assert max(seen) == 4
    assert sum(seen) == targets.numel()
