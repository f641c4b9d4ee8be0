"""What only a GPU can show: its attention, its compiled step, and that nothing in a step waits for it.

Needs one CUDA device of compute capability 8 or newer and Triton; not the data engine.
"""

from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from bench.data_speed import VOCABULARY, synthetic_tokens
from data.loader import batches, epoch_plan
from model.attention import additive, attend, build_mask, document_mask
from model.config import ModelConfig, Shape, resolve_shape
from model.decoder import Decoder
from model.loss import weighted_nll
from tests.made import assert_compiled_is_plain
from training.config import TrainConfig
from training.optimizer import make_optimizers
from training.step import loss_function, to_device, train_step, update
from training.trouble import Recent

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none")
CUDA = torch.device("cuda")
TOKENS = synthetic_tokens(600, mean_tokens=90, sigma=0.8, seed=0)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """fp32 products without TF32, so that they can be held against the CPU's."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def shape_of_tests() -> Shape:
    return resolve_shape(ModelConfig(num_layers=2, hidden_size=128, num_heads=4, num_kv_heads=2), VOCABULARY)


def documents(rows: int, columns: int, seed: int) -> torch.Tensor:
    """int32 (rows, columns): runs of random length, then padding (-1) over a random tail."""
    random = torch.Generator().manual_seed(seed)
    found = torch.full((rows, columns), -1, dtype=torch.int32)
    for row in range(rows):
        lengths = torch.randint(1, 120, (columns,), generator=random)
        filled = int(torch.randint(columns // 2, columns + 1, (), generator=random))
        found[row, :filled] = torch.repeat_interleave(torch.arange(columns), lengths)[:filled].int()
    return found.to(CUDA)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("seed", range(3))
def test_flex_attention_equals_a_dense_mask(dtype: torch.dtype, tolerance: float, seed: int) -> None:
    torch.manual_seed(seed)
    numbers = documents(3, 384, seed)
    q, k, v = (torch.randn(3, 384, heads, 32, device=CUDA, dtype=dtype, requires_grad=True) for heads in (4, 2, 2))
    weight = torch.randn_like(q)
    real = (numbers >= 0)[..., None, None]  # what padding attends to is nobody's loss

    def run(mask: object) -> list[torch.Tensor]:
        found = attend(q, k, v, mask) * real  # type: ignore[arg-type]
        return [found, *torch.autograd.grad((found * weight).sum(), (q, k, v))]

    flexible = build_mask(numbers, dtype)
    assert not isinstance(flexible, torch.Tensor), "FlexAttention was not taken"
    for name, a, b in zip("oqkv", run(flexible), run(additive(document_mask(numbers), dtype)), strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max(), name


def test_the_model_on_a_gpu_equals_the_cpu() -> None:
    torch.manual_seed(0)
    model = Decoder(shape_of_tests())
    step, _ = next(batches(epoch_plan(TOKENS, 256, 0, 0), TOKENS, 4, 4, {"epoch": 0, "step": 0}))

    def losses_and_gradients(device: torch.device) -> tuple[float, list[torch.Tensor]]:
        moved = model.to(device)
        ids, targets, weights, positions, numbers = to_device(step.micro_batches[0], device)
        loss = weighted_nll(moved(ids, positions, numbers), moved.head, targets, weights)
        return float(loss.detach()), [g.cpu() for g in torch.autograd.grad(loss, list(moved.parameters()))]

    on_cpu, gradients = losses_and_gradients(torch.device("cpu"))
    on_gpu, theirs = losses_and_gradients(CUDA)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-4)
    for a, b in zip(gradients, theirs, strict=True):
        assert (a - b).norm() <= 2e-3 * a.norm() + 1e-6


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.04)])
def test_a_compiled_step_has_the_gradients_of_a_plain_one(precision: str, tolerance: float, recomputed: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(1)
    assert_compiled_is_plain(Decoder(shape_of_tests()), CUDA, precision, tolerance, 1e-4, recomputed)


def some_steps(compiled: bool, number: int = 6) -> list[float]:
    """Losses of so many steps on the same rows."""
    torch.manual_seed(0)
    model = Decoder(shape_of_tests()).to(CUDA)
    optimizers = make_optimizers(model, TrainConfig(), 1e-2, 1e-2, 0.1, "bf16")
    loss_of = loss_function(model, compiled)
    step, _ = next(batches(epoch_plan(TOKENS, 256, 0, 0), TOKENS, 6, 2, {"epoch": 0, "step": 0}))
    losses = [train_step(model, optimizers, loss_of, step, CUDA, "bf16", 1.0)[0] for _ in range(number)]
    return torch.stack(losses).tolist()


def test_compiled_steps_learn_what_eager_ones_do() -> None:
    """With inductor on a CPU they are 0.0004 apart; without the document mask 0.016."""
    eager = some_steps(False)
    assert some_steps(True) == pytest.approx(eager, rel=0.004)
    assert eager[-1] < eager[0]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_update_that_is_left_out_changes_nothing_and_waits_for_nothing(optimizer: Literal["muon", "adamw"]) -> None:
    """torch's fused AdamW takes back its count of steps; Muon turns the gradient into the momentum it has."""
    torch.manual_seed(0)
    model = Decoder(shape_of_tests()).to(CUDA)
    optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer), 1e-2, 1e-2, 0.1, "bf16")

    def state() -> list[torch.Tensor]:
        kept = [value for each in optimizers for own in each.state.values() for value in own.values()]
        return [tensor.detach().clone() for tensor in (*model.parameters(), *kept)]

    def one(gradient: float, left_out: bool) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        flag = torch.tensor(left_out, device=CUDA)
        torch.cuda.set_sync_debug_mode("error")
        try:
            update(optimizers, flag, waits=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    one(1e-3, left_out=False)
    before = state()
    one(float("nan"), left_out=True)
    assert all(torch.equal(a, b) for a, b in zip(state(), before, strict=True))
    one(1e-3, left_out=False)
    assert not any(torch.equal(a, b) for a, b in zip(state(), before, strict=True))


@torch._dynamo.config.patch(error_on_recompile=True)
def test_no_step_waits_for_the_gpu_and_all_share_one_graph() -> None:
    model = Decoder(shape_of_tests()).to(CUDA)
    optimizers = make_optimizers(model, TrainConfig(), 1e-2, 1e-2, 0.1, "bf16")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    loss_of, recent = loss_function(model, True), Recent(CUDA)
    steps = batches(epoch_plan(TOKENS, 256, 0, 0), TOKENS, 6, 2, {"epoch": 0, "step": 0})
    for number, (step, _) in enumerate(steps):
        if number == 2:  # compiled and warm
            torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(model, optimizers, loss_of, step, CUDA, "bf16", 1.0, recent=recent)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if number == 5:
            break
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
