"""Muon's batches do what torch's Muon does matrix by matrix."""

import pytest
import torch

from training import muon as muon_module
from training.muon import Muon, newton_schulz, orthogonalised, shares

SHAPES = [(8, 8), (24, 8), (8, 24), (8, 8), (4, 8), (24, 8), (5, 7)]


def matrices(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def test_steps_equal_torch_muon() -> None:
    ours, theirs = ([m.clone().requires_grad_() for m in matrices(0)] for _ in range(2))
    muon = Muon(ours, lr=0.02, weight_decay=0.1, momentum=0.9)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.9)
    for step in range(4):
        for a, b, gradient in zip(ours, theirs, matrices(step + 1), strict=True):
            a.grad, b.grad = gradient, gradient.clone()
        muon.step()
        reference.step()
        for a, b, before in zip(ours, theirs, matrices(0), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=0)  # bfloat16 products in another order of summation
            assert (a - before).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_result_has_the_singular_vectors_and_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (result,) = orthogonalised([matrix], torch.float32)
    values = torch.linalg.svdvals(result)
    assert 0.6 < values.min() <= values.max() < 1.3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ result @ vh.T  # diagonal if the singular vectors are the same
    assert (core - core.diag().diag()).abs().max() < 1e-4


def test_a_matrix_without_gradient_stays_and_zeros_stay_finite() -> None:
    first, second = (m.requires_grad_() for m in matrices(0)[:2])
    before = first.detach().clone()
    second.grad = torch.zeros_like(second)
    Muon([first, second], lr=0.02).step()
    assert torch.equal(first, before)
    assert torch.isfinite(second).all()


def test_a_batch_gives_what_each_matrix_gives_alone() -> None:
    stack = torch.randn(5, 12, 20, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([newton_schulz(one[None]) for one in stack])
    torch.testing.assert_close(newton_schulz(stack), alone)


def test_batches_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [torch.randn(shape) for shape in ((12, 20), (20, 12), (12, 12), (12, 20), (12, 20))]
    whole = orthogonalised([m.clone() for m in some], torch.float32)
    for size in (1, 480, 500):  # a matrix, two, two
        monkeypatch.setattr(muon_module, "MUON_BATCH", size)
        parts = orthogonalised([m.clone() for m in some], torch.float32)
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(a, b)


def test_ranks_share_the_work_evenly_and_every_matrix_has_one_owner() -> None:
    shapes: list[tuple[int, ...]] = [
        (256, 256),
        (128, 256),
        (128, 256),
        (256, 256),
        (768, 256),
        (768, 256),
        (256, 768),
    ] * 12
    for num_ranks in (1, 2, 3, 8, 200):
        owners = shares(shapes, num_ranks)
        assert sorted(n for owned in owners for n in owned) == list(range(len(shapes)))
        if num_ranks <= 8:
            loads = [
                sum(min(shapes[n]) ** 2 * (2 * max(shapes[n]) + min(shapes[n])) for n in owned) for owned in owners
            ]
            assert max(loads) < 1.1 * sum(loads) / num_ranks
