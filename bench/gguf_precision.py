"""What llama.cpp makes of exported checkpoints: greedy answers of the F32 file, and how far the other types move.

    python bench/gguf_precision.py runs/my/ckpt3 --llama_python VENV/bin/python --json bench/results/gguf-precision.json
    python bench/gguf_precision.py runs/my/tokenizer --preset seed-126m --llama_python VENV/bin/python

  1. export as F32; llama.cpp, with keys and values in float32, answers 50 prompts greedily, and so do we: tokens equal
     but for near-ties, prompts rendered by the file's template equal ours, logits equal to a thousandth
  2. export as F16, BF16 and Q8_0; llama.cpp as by default; KL(F32 || type) of next-token distributions, nats
  3. the same of our own model whose weights bear random errors as large as the type's largest: a yardstick

Where errors are small and independent, KL is half the variance of the logits' errors, and variances add. llama.cpp
rounds weights and what they are multiplied with, so twice the yardstick is to be expected; four times is the bound.
A trained checkpoint reads the run's validation split; with --preset the folder is a tokenizer's, the weights of that
preset are random, final norm times 4 (logits as wide as a trained model's), and text is random ids.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from bench.machine import facts, tell
from common.errors import UserError, run_command
from common.runs import find_checkpoint
from config import load_command
from export import Export, export
from model.config import count_parameters, resolve_shape
from model.decoder import Decoder
from model.generate import generate
from model.gguf_file import BLOCK
from tokenizer.bpe import load_tokenizer
from tokenizer.dialog import open_dialog
from tokenizer.template import BOS, EOS, messages_of, render
from training.checkpoint import load_for_inference
from training.save import snapshot, tokenizer_files, write_checkpoint

SIDE = Path(__file__).with_name("llama_side.py")
TYPES = ("F16", "BF16", "Q8_0")
NEAR = 0.001  # logits: what two float32 implementations may differ by, and so the largest gap of a near-tie
FACTOR = 4  # times the yardstick
NUM_TOKENS = 64


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        llama_python: a Python that has llama-cpp-python and NumPy
        preset: random weights of this shape instead of a checkpoint's
        positions: about how many next-token distributions are compared
        prompts: how many are answered
        json: file to write the results to
    """

    llama_python: str = sys.executable
    preset: str | None = None
    positions: int = 4000
    prompts: int = 50
    json: str | None = None


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, {"folder": "1"}, options=Options)
    options: Options = config.args.options
    folder = find_checkpoint(config.args.folder, config.args.run)
    with tempfile.TemporaryDirectory() as scratch:
        path = folder if options.preset is None else random_checkpoint(folder, options.preset, config, Path(scratch))
        result = measure(path, options, Path(scratch))
    tell({**facts(), **result}, [*summary(result)], options.json)


def summary(result: dict[str, Any]) -> Iterator[str]:
    """The figures in words."""
    yield (
        f"{result['parameters']:,} parameters, vocabulary {result['vocab_size']:,}; "
        f"llama-cpp-python {result['version']}"
    )
    yield (
        f"greedy: {result['greedy_equal']} of {result['prompts']} answers equal, {result['greedy_tokens']:,} tokens; "
        f"gaps where others part: {result['greedy_gaps']}; largest logit difference {result['logit_difference']:.1e}"
    )
    yield (
        f"prompts equal: {result['chat_equal']} of {result['prompts']} by llama-cpp-python, "
        f"{result['chat_cpp_equal']} as llama-server makes them"
    )
    for kind, each in result["types"].items():
        yield (
            f"{kind}: KL mean {each['mean']:.2e}, largest {each['largest']:.2e}, on {result['positions']:,} positions; "
            f"same likeliest token {each['same_likeliest']:.2%}; yardstick {each['noise_mean']:.2e}, "
            f"{each['noise_largest']:.2e}{'' if each['within_bound'] else '; ABOVE THE BOUND'}"
        )


def random_checkpoint(tokenizer: Path, preset: str, config: Any, folder: Path) -> Path:
    """A checkpoint of random weights that is saved as a trained one is."""
    shape = resolve_shape(replace(config.model, preset=preset), load_tokenizer(tokenizer).vocab_size)
    torch.manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.add_(0.1 * torch.randn_like(weight)).mul_(4.0 if name == "norm.weight" else 1.0)
    provenance = {"run": "random", "epoch": 0, "step": 0}
    taken = snapshot(model, [], copy=False)
    assert taken is not None
    write_checkpoint(folder / "random", taken, tokenizer_files(tokenizer, shape.seq_len), None, provenance)
    return folder / "random"


def measure(path: Path, options: Options, scratch: Path) -> dict[str, Any]:
    """All figures of one checkpoint."""
    model, tok, _ = load_for_inference(path)
    context = model.shape.seq_len
    if options.preset is None:
        rows = pq.read_table(next((path.parent / "corpus").glob("val-*.parquet"))).to_pylist()
        questions = [row for row in rows if row["question"]]
        chats = [messages_of({**row, "answer": None}) for row in questions[: options.prompts]]
        sequences = [render(tok, row)[:context] for row in rows]
    else:
        generator = np.random.default_rng(0)
        drawn = generator.integers(6, tok.vocab_size, (options.positions // context + 1, context))
        asked = drawn.reshape(-1)[: 16 * options.prompts].reshape(-1, 16)
        chats = [[{"role": "user", "content": tok.decode(row)}] for row in asked]
        sequences = [[BOS, *row[1:]] for row in drawn.tolist()]
    prompt = open_dialog(path).prompt
    expected = [prompt(messages) for messages in chats]
    prompts = [ids[: context - NUM_TOKENS] for ids in expected]
    kept, total = [], 0
    for ids in sequences:
        if total < options.positions:
            kept.append(ids)
            total += len(ids)
    job = {"context": context, "sequences": kept, "prompts": prompts, "num_tokens": NUM_TOKENS, "eos": EOS}
    exact = ask(path, "F32", job | {"chats": chats, "exact": True}, options.llama_python, scratch)
    ours = logits_of(model, kept)
    answers = [said.ids for said in generate(model, prompts, NUM_TOKENS, EOS)]
    theirs = json.loads(str(exact["greedy"]))
    gaps = [gap(model, *each) for each in zip(prompts, answers, theirs, strict=True) if each[1] != each[2]]
    reference = torch.from_numpy(exact["logits"])
    result: dict[str, Any] = {
        "parameters": count_parameters(model.shape),
        "vocab_size": tok.vocab_size,
        "preset": options.preset,
        "version": str(exact["version"]),
        "prompts": len(prompts),
        "greedy_equal": len(prompts) - len(gaps),
        "greedy_tokens": sum(map(len, answers)),
        "greedy_gaps": [round(each, 6) for each in gaps],
        "greedy_within_bound": all(each < NEAR for each in gaps),
        "logit_difference": float((reference - ours).abs().max()),
        "chat_equal": sum(a == b for a, b in zip(json.loads(str(exact["chat"])), expected, strict=True)),
        "chat_cpp_equal": sum(a == b for a, b in zip(json.loads(str(exact["chat_cpp"])), expected, strict=True)),
        "positions": total,
        "types": {},
    }
    del exact
    for kind in TYPES:
        shown = ask(path, kind, {"context": context, "sequences": kept}, options.llama_python, scratch)
        found = torch.from_numpy(shown["logits"])
        noise = divergence(ours, logits_of(noisy(path, kind), kept))
        moved = divergence(reference, found)
        same = (reference.argmax(1) == found.argmax(1)).double().mean()
        result["types"][kind] = {
            "mean": float(moved.mean()),
            "largest": float(moved.max()),
            "same_likeliest": float(same),
            "noise_mean": float(noise.mean()),
            "noise_largest": float(noise.max()),
            "within_bound": bool(moved.mean() < FACTOR * noise.mean() and moved.max() < FACTOR * noise.max()),
        }
    return result


def ask(path: Path, kind: str, job: dict[str, Any], python: str, scratch: Path) -> Any:
    """What llama.cpp says of the checkpoint exported as `kind`."""
    file = export(path, Export(to="gguf", type=kind, out=str(scratch / f"{kind}.gguf"))).path
    (scratch / "job.json").write_text(json.dumps({**job, "gguf": str(file)}))
    command = [python, str(SIDE), str(scratch / "job.json"), str(scratch / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{python} cannot run llama.cpp: {' '.join(done.stderr.split())[-300:]}")
    file.unlink()
    return np.load(scratch / "out.npz")


@torch.no_grad()
def logits_of(model: Decoder, sequences: list[list[int]]) -> Tensor:
    """Logits behind each id, float32 (positions, vocab)."""
    return torch.cat([model.logits(model(torch.tensor([ids])))[0] for ids in sequences])


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats of rows of logits, float64 (positions,)."""
    parts = []
    for some, other in zip(p.split(256), q.split(256), strict=True):
        log_p, log_q = some.double().log_softmax(1), other.double().log_softmax(1)
        parts.append((log_p.exp() * (log_p - log_q)).sum(1))
    return torch.cat(parts)


@torch.no_grad()
def noisy(path: Path, kind: str, seed: int = 0, norms: bool = False) -> Decoder:
    """The model whose matrices, or norms too, bear uniform errors up to the largest that rounding to `kind` makes."""
    model, _, _ = load_for_inference(path)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim == 1 and not norms:
            continue
        error = 2 * torch.rand(weight.shape, generator=generator) - 1
        if kind == "Q8_0":  # half a step of the block
            blocks = weight.view(-1, BLOCK)
            error = error.view(-1, BLOCK) * blocks.abs().amax(1, keepdim=True) / 127 / 2
            weight.add_(error.view(weight.shape))
        else:
            weight.mul_(1 + error * {"F16": 2.0**-11, "BF16": 2.0**-8}[kind])
    return model


@torch.no_grad()
def gap(model: Decoder, prompt: list[int], ours: list[int], theirs: list[int]) -> float:
    """How much likelier, in logits, our token is than theirs where two answers first differ; eos stands behind each."""
    ours, theirs = [*ours, EOS], [*theirs, EOS]
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    logits = model.logits(model(torch.tensor([prompt + ours[:place]])))[0, -1]
    return float(logits[ours[place]] - logits[theirs[place]])


if __name__ == "__main__":
    run_command(main)
