"""The model and the optimizers that a plan describes, on their device and in their shards."""

import torch

from model.config import Shape
from model.decoder import Decoder
from training import sharding
from training.config import TrainConfig
from training.distributed import World
from training.optimizer import make_optimizers
from training.plan import RunPlan


def make_model(
    config: TrainConfig, plan: RunPlan, shape: Shape, world: World
) -> tuple[Decoder, list[torch.optim.Optimizer]]:
    """A new model from the run's seed on its device, sharded where asked, and its optimizers."""
    torch.manual_seed(config.seed)
    model = Decoder(shape)
    if config.parallel == "fsdp" and world.size > 1:
        sharding.shard(model, world.device.type, world.size, plan.precision)
    model.to(world.device)
    model.activation_checkpointing = config.activation_checkpointing
    return model, make_optimizers(model, config, plan.lr, plan.embedding_lr, plan.weight_decay, plan.precision)
