"""The [train] section. No torch here: every command reads it."""

from dataclasses import dataclass, fields
from typing import Literal

from common.errors import UserError

MOST_EPOCHS = 1_000_000  # each leaves a checkpoint; 1M parameters in so many of them are 4 TB
MOST = 2**63  # of any whole number
MOST_FLOAT = 1e9  # of any other; torch's own limit of a rate is 3e38, and nothing is learned long before


@dataclass
class TrainConfig:
    """The [train] section.

    Args:
        stage: pretrain, or finetune: answers alone are trained, from a checkpoint, with its tokenizer and template
        init_from: checkpoint to start from: one of loam's, or a transformers folder (Qwen3- or Llama-shaped)
        long_rows: when fine-tuning, what becomes of a turn that is longer than the context: shorten its context, then
            its answer, or leave_out
        lora_rank: train low-rank adapters of this rank in place of the weights; 0 for the weights
        lora_alpha: the adapters' sum is scaled by lora_alpha / lora_rank; by default twice the rank
        lora_dropout: share of the adapters' input that is dropped in training
        lora_targets: the layers' matrices that get one; by default all
        epochs: passes over the training split; each ends with a checkpoint
        batch_tokens: positions per optimizer step over all processes and micro-batches; by default about 400 steps an
            epoch
        optimizer: muon (for the layers' matrices, AdamW for the rest) or adamw
        lr: peak learning rate of the layers' matrices; by default 0.02 for muon, 0.5 / hidden_size for adamw
        embedding_lr: peak learning rate of embedding, head and norms; by default lr
        min_lr: learning rate at the end of the cosine; by default a tenth of lr
        warmup_ratio: share of all steps over which the rate rises from 0
        weight_decay: decay of the layers' matrices (embedding and norms have none); by default 0.1 for adamw,
            for muon such that each epoch shrinks them to 1/e, at most 1; none when fine-tuning
        momentum: Muon's momentum
        beta1: AdamW's first moment
        beta2: AdamW's second moment
        grad_clip: largest norm of the gradient; 0 for no clipping
        seed: initial weights, order of documents, samples
        prompt_loss_weight: weight of the prompt's tokens (question, context) in the loss of Q&A documents, 0 to 1
        precision: auto takes bf16 autocast where the hardware is fast at it, else fp32
        compile: torch.compile the step; by default on CUDA, and on the CPU for long runs
        device: auto takes cuda, else mps, else cpu
        parallel: with several processes: ddp keeps the whole model on each; fsdp shards weights, gradients and
            optimizer state over them (more traffic, for models that do not fit otherwise)
        micro_batch: rows per forward pass and process; by default found from free memory
        activation_checkpointing: recompute activations in the backward pass: less memory, one more forward pass
        deterministic: bit-equal results on CUDA too (slower)
        save_minutes: minutes between checkpoints for resume inside an epoch; 0 for none
        save_steps: steps between them, besides; 0 for none
        verify: before resuming, compare every file with its hash (a second a gigabyte)
        average: after the last epoch, keep the mean of the last epochs' weights too if it validates better than each
        samples: answers (or continuations) printed after each epoch
        sample_tokens: longest sample, in tokens
    """

    stage: Literal["pretrain", "finetune"] = "pretrain"
    init_from: str | None = None
    long_rows: Literal["shorten", "leave_out"] = "shorten"
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    lora_targets: list[str] | None = None
    epochs: int = 10
    batch_tokens: int | None = None
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float | None = None
    embedding_lr: float | None = None
    min_lr: float | None = None
    warmup_ratio: float = 0.05
    weight_decay: float | None = None
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    seed: int = 0
    prompt_loss_weight: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    micro_batch: int | None = None
    activation_checkpointing: bool = False
    deterministic: bool = False
    save_minutes: float = 10.0
    save_steps: int = 0
    verify: bool = True
    average: bool = True
    samples: int = 2
    sample_tokens: int = 64

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int) and abs(value) >= MOST:
                shown = value if abs(value) < 10**40 else "far too large"
                raise UserError(f"{name} {shown}: must be less than 2**63")
            if isinstance(value, float) and value > MOST_FLOAT:
                raise UserError(f"{name} {value:g}: must be {MOST_FLOAT:.0e} or less")
        if self.stage == "finetune":
            if self.prompt_loss_weight not in (0, 1):
                raise UserError(f"prompt_loss_weight {self.prompt_loss_weight}: fine-tuning trains answers alone")
            self.prompt_loss_weight = 0.0
        if self.lora_rank and self.stage != "finetune":
            raise UserError("lora_rank: adapters are for --stage finetune")
        if not self.lora_rank and (self.lora_alpha or self.lora_dropout or self.lora_targets):
            raise UserError("lora_alpha, lora_dropout, lora_targets: are for adapters, which lora_rank asks for")
        positive = ("lora_alpha", "epochs", "batch_tokens", "lr", "embedding_lr", "micro_batch")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} {value}: must be more than 0")
        for name in (
            "weight_decay",
            "grad_clip",
            "save_minutes",
            "save_steps",
            "samples",
            "sample_tokens",
            "min_lr",
            "seed",
            "lora_rank",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UserError(f"{name} {value}: must be 0 or more")
        for name in ("warmup_ratio", "prompt_loss_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)}: must be from 0 to 1")
        for name in ("momentum", "beta1", "beta2", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: must be from 0 up to, not including, 1")
        if self.epochs > MOST_EPOCHS:
            raise UserError(f"epochs {self.epochs}: must be {MOST_EPOCHS:,} or fewer")
        if self.min_lr is not None and self.lr is not None and self.min_lr > self.lr:
            raise UserError(f"min_lr {self.min_lr}: is more than lr {self.lr}")
