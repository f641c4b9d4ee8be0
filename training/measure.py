"""The measured speed of this machine: a few real micro-batches and one update of the real model, timed.

For `--plan`. The weights are thrown away; what the compiler made stays in its cache, where the run will find it.
"""

import time
from collections.abc import Callable

from data.loader import batches, epoch_plan
from data.tokens import Tokens
from model.config import Shape
from training.build import make_model
from training.config import TrainConfig
from training.distributed import World
from training.plan import RunPlan
from training.start import Start
from training.step import autocast, loss_function, to_device

TIMED = 3


def seconds_per_step(
    config: TrainConfig, plan: RunPlan, shape: Shape, tokens: Tokens, world: World, start: Start | None = None
) -> float:
    """Seconds of one optimizer step; of several processes all must call it, and ddp's sum of gradients is left out."""
    model, optimizers = make_model(config, plan, shape, world, start)
    loss_of = loss_function(model, plan.compile)
    rows = epoch_plan(tokens, shape.seq_len, config.seed, 0, plan.weights)
    state = {"epoch": 0, "step": 0}
    step, _ = next(batches(rows, tokens, plan.rows_per_step, plan.micro_batch, state, world.rank, world.size))
    tensors = to_device(step.micro_batches[0], world.device)

    def micro_batch() -> None:
        with autocast(world.device, plan.precision):
            loss = loss_of(*tensors)
        (loss / step.weight_sum).backward()
        loss.item()  # waits for the device

    def update() -> None:
        for optimizer in optimizers:
            optimizer.step()
        next(model.parameters()).sum().item()

    def seconds_of(action: Callable[[], None]) -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    micro_batch()  # compiles, allocates
    update()
    each = sorted(seconds_of(micro_batch) for _ in range(TIMED))[TIMED // 2]
    model.zero_grad(set_to_none=False)
    return each * len(step.micro_batches) + seconds_of(update)
