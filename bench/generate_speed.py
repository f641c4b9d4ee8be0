"""How fast answers come, against `transformers`' generate, the memory's speed, and one row against eight.

    python bench/generate_speed.py --json bench/results/generate-speed.json

A decoder with random weights is saved as a folder, which both sides open in the same precision; they take turns, so
that what else the machine does hits both. Prefill is the time to the first token, decoding the median time from one
token to the next, greedy, without an end. "loam" is the model as chat and server have it (model/inference.py), "loam
unprepared" the decoder as it was trained. One row reads all weights for each token: the share of the memory's speed is
those bytes a second over the bytes that a sum or a copy of a large tensor reads and writes, whichever is more.

The engine answers one row, then eight, then eight while a long prompt is read in pieces. Needs `pip install -e
'.[bench]'`. The same on CUDA, which is written and was not measured.
"""

import importlib.util
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from bench.machine import facts, tell
from common.errors import UserError, run_command
from config import load_command
from model.config import PRESETS, Shape, count_parameters
from model.decoder import Decoder
from model.engine import PIECE, Engine, Request
from model.generate import generate
from model.huggingface import load_model, save_model
from model.inference import pack

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PEER = "transformers"
Sides = dict[str, Callable[[Callable[[], None]], Any]]  # name -> generate, and call that behind each step
Turn = dict[str, tuple[float, float]]  # name -> seconds of the prefill, and of a step after it


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        preset: model shape
        precisions: of weights and arithmetic: fp32, bf16
        rows: batch sizes
        prompt_tokens: of each row
        new_tokens: of each row
        turns: of each side; one more, which warms up, is not counted
        json: file to write the results to
    """

    preset: str = "seed-126m"
    precisions: list[str] = field(default_factory=lambda: ["fp32", "bf16"])
    rows: list[int] = field(default_factory=lambda: [1, 16])
    prompt_tokens: int = 128
    new_tokens: int = 25
    turns: int = 7
    json: str | None = None


def main() -> None:
    """The command."""
    options: Options = load_command(None, __doc__, options=Options).args.options
    if options.preset not in PRESETS:
        raise UserError(f"--preset {options.preset}: choose one of {', '.join(PRESETS)}")
    if other := set(options.precisions) - set(DTYPES):
        raise UserError(f"--precisions {min(other)}: choose of {', '.join(DTYPES)}")
    if options.turns < 1 or options.new_tokens < 2 or min([options.prompt_tokens, *options.rows]) < 1:
        raise UserError("--turns, --prompt_tokens and --rows must be 1 or more, --new_tokens 2 or more")
    if options.prompt_tokens + options.new_tokens > PRESETS[options.preset].seq_len:
        raise UserError(f"a context of {PRESETS[options.preset].seq_len:,} holds no such prompt and answer")
    if not importlib.util.find_spec("transformers"):
        raise UserError("the other side needs: pip install -e '.[bench]'")
    result = measure(options)
    tell(result, table(result), options.json)


def measure(options: Options) -> dict[str, Any]:
    """Everything that the table and the JSON file hold."""
    import transformers

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = PRESETS[options.preset]
    rows, engines = [], {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_model(Decoder(shape), Path(folder), eos_id=2, bos_id=1, pad_id=0)
        for precision in options.precisions:
            dtype = DTYPES[precision]
            prepared = pack(load_model(Path(folder), device, dtype))
            plain = load_model(Path(folder), device, dtype).eval()
            peer: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            peer = peer.to(device).eval()
            peer.generation_config.eos_token_id = None  # so that all rows go on
            for batch in options.rows:
                ids_BT = torch.randint(3, shape.vocab_size, (batch, options.prompt_tokens))
                sides: Sides = {
                    "loam": _own(prepared, ids_BT, options.new_tokens),
                    "loam unprepared": _own(plain, ids_BT, options.new_tokens),
                    PEER: _peers(peer, ids_BT.to(device), options.new_tokens),
                }
                turns, speeds = take_turns(sides, options, device)
                rows.append(
                    {"precision": precision, "rows": batch, **summary(turns, speeds, batch, options, shape, dtype)}
                )
            engines[precision] = measure_engine(prepared, options)
    first = rows[0]
    return {
        **facts(),
        "transformers": transformers.__version__,
        "preset": options.preset,
        "parameters": count_parameters(shape),
        "prompt_tokens": options.prompt_tokens,
        "new_tokens": options.new_tokens,
        "turns": options.turns,
        "ratio_vs_transformers": first["ratios"][PEER]["decode"],
        "share_of_memory_speed": first["sides"]["loam"]["share_of_memory_speed"],
        "measured": rows,
        "engine": engines,
    }


def _own(model: Decoder, ids_BT: torch.Tensor, number: int) -> Callable[[Callable[[], None]], Any]:
    prompts = ids_BT.tolist()
    return lambda tick: generate(
        model, prompts, number, eos_id=-1, on_token=lambda row, token: tick() if row == 0 else None
    )


class _Ticker:
    """What transformers' generate calls a streamer: it gets the prompt first, then each step's tokens."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick, self._begun = tick, False

    def put(self, ids: torch.Tensor) -> None:
        if self._begun:
            self._tick()
        self._begun = True

    def end(self) -> None:
        pass


def _peers(model: Any, ids_BT: torch.Tensor, number: int) -> Callable[[Callable[[], None]], Any]:
    settings = {"attention_mask": torch.ones_like(ids_BT), "max_new_tokens": number, "do_sample": False}
    return lambda tick: model.generate(ids_BT, streamer=_Ticker(tick), **settings)


def take_turns(sides: Sides, options: Options, device: torch.device) -> tuple[list[Turn], list[float]]:
    """What each side took in each turn, and the memory's speed in bytes a second, measured before each turn."""
    turns, speeds = [], []
    for turn in range(options.turns + 1):
        speed, taken = memory_speed(device), {}
        for name, run in sides.items():
            ticks = [time.perf_counter()]
            run(lambda ticks=ticks: ticks.append(time.perf_counter()))  # type: ignore[misc]
            first, *later = [end - start for start, end in itertools.pairwise(ticks)]
            taken[name] = (first, statistics.median(later))
        if turn > 0:
            turns.append(taken)
            speeds.append(speed)
    return turns, speeds


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """What `run` takes, until the device is done with it."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_speed(device: torch.device, num_bytes: int = 2**28) -> float:
    """Bytes a second that a sum reads or a copy reads and writes, whichever is more; the best of three each."""
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    reads = min(seconds(source.sum, device) for _ in range(3))
    copies = min(seconds(lambda: target.copy_(source), device) for _ in range(3))
    return max(num_bytes / reads, 2 * num_bytes / copies)


def weight_bytes(shape: Shape, dtype: torch.dtype) -> int:
    """Bytes of weights that each forward pass of one token reads: all matrices, of the embedding one row."""
    lookup = 0 if shape.tie_embeddings else shape.vocab_size * shape.hidden_size
    return (count_parameters(shape) - lookup) * dtype.itemsize


def summary(
    turns: list[Turn], speeds: list[float], batch: int, options: Options, shape: Shape, dtype: torch.dtype
) -> dict[str, Any]:
    """Medians over the turns of each side, and the medians of loam's ratios to the others in each turn."""
    sides, ratios = {}, {}
    for name in turns[0]:
        decode = [turn[name][1] for turn in turns]
        sides[name] = {
            "prefill_tokens_per_s": batch * options.prompt_tokens / statistics.median(turn[name][0] for turn in turns),
            "decode_tokens_per_s": batch / statistics.median(decode),
            "decode_tokens_per_s_spread": [batch / max(decode), batch / min(decode)],
            "share_of_memory_speed": statistics.median(
                weight_bytes(shape, dtype) / each / speed for each, speed in zip(decode, speeds, strict=True)
            ),
        }
        if name != "loam":
            pairs = [(turn["loam"], turn[name]) for turn in turns]
            prefill, per_token = (statistics.median(b[i] / a[i] for a, b in pairs) for i in range(2))
            ratios[name] = {"prefill": prefill, "decode": per_token}
    return {"memory_bytes_per_s": statistics.median(speeds), "sides": sides, "ratios": ratios}


def measure_engine(model: Decoder, options: Options) -> dict[str, float]:
    """Tokens a second of one row and of eight, in turns, and how long a step takes while a long prompt is read."""
    shape = model.shape
    steps, length = options.new_tokens - 1, min(options.prompt_tokens, shape.seq_len - options.new_tokens)
    long = shape.seq_len - 1
    found: dict[str, list[float]] = {"one": [], "eight": [], "plain": [], "reading": []}
    for turn in range(options.turns + 1):
        step_times = {}
        for number in (1, 8):
            engine = Engine(model, max_rows=9)
            for row in range(number):  # of several lengths, as a server has them
                prompt = torch.randint(3, shape.vocab_size, (max(1, length - 5 * row),)).tolist()
                engine.add(Request(prompt, shape.seq_len, []))
            while len(engine.step()) < number:
                pass
            step_times[number] = _steps(engine, steps)
        engine.add(Request(torch.randint(3, shape.vocab_size, (long,)).tolist(), 1, []))
        reading = _steps(engine, max(1, long // PIECE))
        if turn > 0:
            found["one"].append(1 / statistics.median(step_times[1]))
            found["eight"].append(8 / statistics.median(step_times[8]))
            found["plain"].append(statistics.median(step_times[8]))
            found["reading"].append(statistics.median(reading))
    return {
        "tokens_per_s_of_1": statistics.median(found["one"]),
        "tokens_per_s_of_8": statistics.median(found["eight"]),
        "ratio": statistics.median(b / a for a, b in zip(found["one"], found["eight"], strict=True)),
        "step_seconds_of_8": statistics.median(found["plain"]),
        "step_seconds_of_8_while_reading": statistics.median(found["reading"]),
        "piece_tokens": PIECE,
    }


def _steps(engine: Engine, number: int) -> list[float]:
    return [seconds(engine.step, engine.model.head.device) for _ in range(number)]


def table(result: dict[str, Any]) -> list[str]:
    """The result in lines."""
    lines = [
        f"{result['date']}, commit {result['commit']}, {result['device']}, {result['threads']} threads, torch "
        f"{result['torch']}, transformers {result['transformers']}",
        f"{result['preset']}: {result['parameters']:,} parameters; prompts of {result['prompt_tokens']} tokens, "
        f"{result['new_tokens']} new ones; medians of {result['turns']} turns",
        f"{'':32}{'prefill/s':>12}{'decode/s':>12}{'of memory':>12}",
    ]
    for row in result["measured"]:
        title = f"{row['precision']}, {row['rows']} {'row' if row['rows'] == 1 else 'rows'}"
        for name, side in row["sides"].items():
            lines.append(
                f"{title + ', ' + name:32}{side['prefill_tokens_per_s']:12,.0f}{side['decode_tokens_per_s']:12,.1f}"
                f"{side['share_of_memory_speed']:12.0%}"
            )
        for name, ratio in row["ratios"].items():
            lines.append(f"  loam / {name}: prefill {ratio['prefill']:.2f}, decode {ratio['decode']:.2f}")
    for precision, engine in result["engine"].items():
        lines.append(
            f"engine, {precision}: {engine['tokens_per_s_of_1']:,.1f} tokens/s of 1 row, "
            f"{engine['tokens_per_s_of_8']:,.1f} of 8 ({engine['ratio']:.2f} times); a step of 8 takes "
            f"{engine['step_seconds_of_8'] * 1e3:.0f} ms, {engine['step_seconds_of_8_while_reading'] * 1e3:.0f} ms "
            f"while a prompt is read {engine['piece_tokens']} tokens at a time"
        )
    return lines


if __name__ == "__main__":
    run_command(main)
