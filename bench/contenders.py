"""Those who train in train_speed.py, each in a process of its own: loam, and the `transformers` Trainer.

A contender makes model and data ready, then runs as many steps as the pipe asks for and answers with their seconds, so
that contenders take turns and each has its own peak memory and start-up time. The Trainer waits inside a callback.
"""

import multiprocessing
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from data.tokens import Tokens
from model.config import Shape


@dataclass(frozen=True)
class Task:
    """What all contenders train on and at."""

    run: Path
    shape: Shape
    rows: int  # a step
    precision: str  # "bf16" | "fp32"
    device: str
    optimizer: str  # of loam; the Trainer has AdamW


def serve(pipe: Connection, name: str, task: Task, started: float) -> None:
    """Be the contender `name`: "loam" or "trainer padded" or "trainer packed", " compiled" behind it or not.

    started: `time.time()` when the process was asked for, so that its imports count.
    """
    compiled = name.endswith(" compiled")
    with suppress(EOFError), tempfile.TemporaryDirectory() as cache:  # whoever asked for steps is gone
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # so that compiling costs what it costs the first time
        if name.startswith("loam"):
            _serve_loam(pipe, task, compiled, started)
        else:
            _serve_trainer(pipe, task, compiled, "padded" in name, started)


def _peak_bytes(device: str) -> int:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as file:  # getrusage would tell of the parent too: its peak outlives fork and exec
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0]) * 1024


def _open(task: Task) -> Tokens:
    from tokenizer.encode import build_store

    return build_store(task.run / "corpus", "train", task.run / "tokenizer", task.run / "tokens", quiet=True)


def _serve_loam(pipe: Connection, task: Task, compiled: bool, started: float) -> None:
    import torch

    from data.loader import batches, epoch_plan
    from model.decoder import Decoder
    from training.config import TrainConfig
    from training.optimizer import make_optimizers
    from training.step import loss_function, prefetched, train_step
    from training.trouble import Recent

    tokens, device = _open(task), torch.device(task.device)
    torch.manual_seed(0)
    model = Decoder(task.shape).to(device)
    config = TrainConfig(optimizer=task.optimizer)  # type: ignore[arg-type]
    optimizers = make_optimizers(model, config, 1e-3, 1e-3, 0.1, task.precision)
    loss_of, recent = loss_function(model, compiled), Recent(device)

    def forever() -> Any:
        epoch = 0
        while True:
            plan = epoch_plan(tokens, task.shape.seq_len, 0, epoch)
            whole = len(plan) // task.rows * task.rows  # full batches only
            for step, state in batches(plan, tokens, task.rows, task.rows, {"epoch": epoch, "step": 0}):
                if state["step"] * task.rows <= whole:
                    yield step
            epoch += 1

    steps = prefetched(forever())
    pipe.send({"ready": time.time() - started})
    while (number := pipe.recv()) > 0:
        seconds, targets = [], 0
        for _ in range(number):
            start = time.perf_counter()
            step = next(steps)
            loss, _, _ = train_step(model, optimizers, loss_of, step, device, task.precision, 1.0, recent=recent)
            loss.item()
            seconds.append(time.perf_counter() - start)
            targets += step.num_targets
        pipe.send({"seconds": seconds, "targets": targets, "loss": float(loss)})
    pipe.send({"peak_bytes": _peak_bytes(task.device)})


def padded_rows(tokens: Tokens, seq_len: int, pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Each document a row: cut at seq_len, padded with `pad`, whose labels are -100."""
    ids = np.full((len(tokens), seq_len), pad, dtype=np.int64)
    labels = np.full((len(tokens), seq_len), -100, dtype=np.int64)
    for row in range(len(tokens)):
        document = tokens.document(row)[:seq_len]
        ids[row, : len(document)] = labels[row, : len(document)] = document
    return ids, labels


def packed_rows(tokens: Tokens, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """All documents behind each other, cut into rows: no mask between them, as the usual grouping of texts does."""
    whole = len(tokens.ids) // seq_len * seq_len
    rows = np.asarray(tokens.ids[:whole], dtype=np.int64).reshape(-1, seq_len)
    return rows, rows


def _serve_trainer(pipe: Connection, task: Task, compiled: bool, padded: bool, started: float) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[
        0
    ]  # as many as loam has
    multiprocessing.set_start_method("fork", force=True)  # for its loader's worker; a spawned process spawns else
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Trainer, TrainerCallback, TrainingArguments

    tokens, shape = _open(task), task.shape
    ids, labels = padded_rows(tokens, shape.seq_len) if padded else packed_rows(tokens, shape.seq_len)
    order = np.random.default_rng(0).permutation(len(ids))

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            row = order[index % len(order)]
            item = {"input_ids": torch.from_numpy(ids[row]), "labels": torch.from_numpy(labels[row])}
            return {**item, "attention_mask": (item["labels"] >= 0).long()} if padded else item

    class TakesTurns(TrainerCallback):
        """Stops after the steps that were asked for, tells their seconds, and waits for the next turn."""

        def __init__(self) -> None:
            self.left, self.start = 0, 0.0
            self.seconds: list[float] = []

        def wait(self, control: Any) -> None:
            self.left = pipe.recv()
            if self.left == 0:
                control.should_training_stop = True
            self.seconds, self.start = [], time.perf_counter()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            pipe.send({"ready": time.time() - started})
            self.wait(control)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.start)
            self.start = time.perf_counter()
            self.left -= 1
            if self.left == 0:
                number = len(self.seconds)
                rows = order[
                    np.arange((state.global_step - number) * task.rows, state.global_step * task.rows) % len(order)
                ]
                pipe.send({"seconds": self.seconds, "targets": int((labels[rows, 1:] >= 0).sum())})
                self.wait(control)

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(range(10**9))

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            max_position_embeddings=shape.seq_len,
            tie_word_embeddings=shape.tie_embeddings,
            attn_implementation="sdpa",  # type: ignore[call-arg]
            use_cache=False,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=task.rows,
            max_steps=10**6,
            bf16=task.precision == "bf16",
            use_cpu=task.device == "cpu",
            optim="adamw_torch_fused",
            torch_compile=compiled,
            dataloader_num_workers=1,
            dataloader_drop_last=True,
            report_to=[],
            logging_steps=10**6,
            save_strategy="no",
            disable_tqdm=True,
        )
        InOrder(model=model, args=arguments, train_dataset=Rows(), callbacks=[TakesTurns()]).train()
    pipe.send({"peak_bytes": _peak_bytes(task.device)})
