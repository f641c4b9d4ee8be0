"""The model and the optimizers that a plan describes, on their device and in their shards."""

import torch

from model.config import Shape
from model.decoder import Decoder
from model.huggingface import load_model
from training import sharding
from training.config import TrainConfig
from training.distributed import World
from training.lora import TARGETS, add_adapters
from training.optimizer import make_optimizers
from training.plan import RunPlan
from training.start import Start


def make_model(
    config: TrainConfig, plan: RunPlan, shape: Shape, world: World, start: Start | None = None
) -> tuple[Decoder, list[torch.optim.Optimizer]]:
    """The model that a run begins with, on its device, sharded where asked, and its optimizers.

    New from the run's seed, or the one that it starts from, in float32, with adapters where asked.
    """
    torch.manual_seed(config.seed)
    model = Decoder(start.shape if start else shape)
    if start:
        model.load_state_dict(load_model(start.folder, dtype=torch.float32).state_dict())
    if config.lora_rank:
        targets = config.lora_targets or TARGETS
        add_adapters(model, config.lora_rank, config.lora_alpha or 2.0 * config.lora_rank, config.lora_dropout, targets)
    if config.parallel == "fsdp" and world.size > 1:
        sharding.shard(model, world.device.type, world.size, plan.precision)
    model.to(world.device)
    model.activation_checkpointing = config.activation_checkpointing
    return model, make_optimizers(model, config, plan.lr, plan.embedding_lr, plan.weight_decay, plan.precision)
