"""How far `compare` can be trusted, on runs whose truth is known.

    python bench/eval_trust.py --json bench/results/eval-trust.json
    python bench/eval_trust.py --parts speed --layers 15

A/A    pairs of runs of one configuration under other seeds are judged many times, as `compare` judges them: given the
       noise of seeds, measured on other runs of that configuration, and without it. None is better, so each
       "different" is wrong. Aim with seed noise: 5 of 100 or fewer
A/B    a run on all documents against one on half of them: the first is better. Aim: found in 95 of 100 or more. And
       against one on nine tenths, which is about as near as seeds are: how far seeds let one see
leak   5 of 100 test documents are put into the training split of another corpus, as they are, in other case and
       spacing, or inside a longer text: is the run named as contaminated, how many of the documents are found, and is
       any called known that is not. Once with a run that was trained so, by `compare` whole. Aim: named each time
speed  200 questions are answered by weights of seed-126m's widths and `--layers`, freshly drawn, so that no answer ends
       early: 128 tokens each. Aim for 140M parameters on 2 cores: 4 minutes

Intervals of the shares resample runs, not trials: of 24 runs there are many pairs, and few that have no run in common.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import numpy as np
import torch
from tqdm import tqdm

from bench.machine import facts, tell
from bench.trust_leak import leak_part
from bench.trust_runs import base_run, bits_of, derived_run, part_of, train_all, training_documents
from common.errors import UserError, run_command
from config import load_command
from eval.answers import answer
from eval.bootstrap import resample
from eval.held_out import held_out
from eval.pairs import judge_pairs
from eval.questions import choose_questions
from eval.seed_noise import SeedNoise, measured_noise
from model.config import ModelConfig, count_parameters, resolve_shape
from model.decoder import Decoder
from tokenizer.bpe import load_tokenizer

PARTS = ("pairs", "leak", "speed")
RESAMPLES = 1000  # of bootstrap and permutation test in a trial
BEST_AIM, WORST_AIM = 0.95, 0.05
QUESTIONS, NEW_TOKENS, SECONDS_AIM = 200, 128, 240.0


@dataclass
class Options:
    """The flags of this benchmark.

    Args:
        parts: pairs, leak, speed, or several with commas; by default all
        runs: of each of the three configurations
        noise_runs: other runs that the seed noise of a trial is measured on
        trials: pairs judged, and as often a leak is planted in each of its forms / 50
        epochs: of each run
        layers: of the model that answers; 15 of seed-126m's widths are 145M parameters with a vocabulary of 4,096
        folder: runs are named so, with a number behind
        json: file to write the results to
    """

    parts: str = ",".join(PARTS)
    runs: int = 24
    noise_runs: int = 5
    trials: int = 1000
    epochs: int = 1
    layers: int = 15
    folder: str = "trust"
    json: str | None = None


def main() -> None:
    """The command."""
    config = load_command(None, __doc__, options=Options)
    options: Options = config.args.options
    parts = options.parts.split(",")
    if wrong := [part for part in parts if part not in PARTS]:
        raise UserError(f"--parts {wrong[0]}: must be of {', '.join(PARTS)}")
    if options.runs < options.noise_runs + 2:
        raise UserError(f"--runs {options.runs}: must be {options.noise_runs + 2} or more: a pair, and --noise_runs")
    base = base_run(options.folder, config.args.config)
    result: dict[str, Any] = {**facts(), "options": {**vars(options), "json": None}}
    if "pairs" in parts:
        result["pairs"] = pairs_part(base, options)
    if "leak" in parts:
        result["leak"] = leak_part(base, max(1, options.trials // 50), options.epochs)
    if "speed" in parts:
        result["speed"] = speed_part(base, options.layers)
    tell(result, lines(result), options.json)


# -- A/A and A/B


def pairs_part(base: Path, options: Options) -> dict[str, Any]:
    """Train the configurations, judge pairs of runs."""
    train = training_documents(base / "corpus")
    data = {"all": None, "half": part_of(train, 1, 2), "nine tenths": part_of(train, 9, 10)}
    runs = {
        name: [
            derived_run(f"{options.folder}-{name.replace(' ', '-')}-{seed}", base, of) for seed in range(options.runs)
        ]
        for name, of in data.items()
    }
    train_all([(folder, seed) for of in runs.values() for seed, folder in enumerate(of)], options.epochs)
    checkpoints = [folder / f"ckpt{options.epochs}" for of in runs.values() for folder in of]
    documents = held_out([base / "corpus"], [of[0] / "corpus" for of in runs.values()])
    bits_GK, bytes_G = bits_of(checkpoints, documents)
    pools = {name: [*range(i * options.runs, (i + 1) * options.runs)] for i, name in enumerate(runs)}
    totals = bits_GK.sum(axis=0) / bytes_G.sum()
    figures = resample(bits_GK, bytes_G, RESAMPLES, 0)

    def judged(pair: tuple[int, int], noise: SeedNoise | None, seed: int) -> str | None:
        """Which is called better, "first" or "second"; None: cannot tell."""
        bits, drawn = bits_GK[:, [*pair]], figures[:, [*pair]]
        names = ("first", "second")
        [found] = judge_pairs(names, names, bits, bytes_G, drawn, len(documents.groups), seed, noise)
        return found["better"]

    return {
        "documents": len(documents.groups),
        "groups": len(bytes_G),
        "train_documents": {name: len(train if of is None else of) for name, of in data.items()},
        "bits_per_byte": {
            name: {"mean": float(totals[of].mean()), "seed_noise": measured_noise([totals[of].tolist()])._asdict()}  # type: ignore[union-attr]
            for name, of in pools.items()
        },
        "aa": {name: aa(of, totals, judged, options) for name, of in pools.items()},
        "ab": {name: ab(pools[name], pools["all"], totals, judged, options) for name in ("half", "nine tenths")},
    }


Judge = Callable[[tuple[int, int], SeedNoise | None, int], str | None]


def aa(pool: Sequence[int], totals: np.ndarray, judged: Judge, options: Options) -> dict[str, Any]:
    """Shares of pairs of one configuration that are called different."""
    generator = np.random.default_rng(0)
    pairs, given, alone = [], [], []
    for trial in tqdm(range(options.trials), desc="A/A", disable=None):
        first, second, *others = generator.choice(pool, 2 + options.noise_runs, replace=False).tolist()
        noise = measured_noise([totals[others].tolist()])
        pairs.append((first, second))
        given.append(judged((first, second), noise, trial) is not None)
        alone.append(judged((first, second), None, trial) is not None)
    return {"trials": len(pairs), "with_noise": share(pairs, given), "one_seed": share(pairs, alone)}


def ab(
    worse: Sequence[int], better: Sequence[int], totals: np.ndarray, judged: Judge, options: Options
) -> dict[str, Any]:
    """Shares of pairs of the two configurations of which the better is found; seed noise is that of the worse."""
    generator = np.random.default_rng(1)
    pairs, given, alone = [], [], []
    for trial in tqdm(range(options.trials), desc="A/B", disable=None):
        first, *others = generator.choice(worse, 1 + options.noise_runs, replace=False).tolist()
        pair = (first, int(generator.choice(better)))
        pairs.append(pair)
        given.append(judged(pair, measured_noise([totals[others].tolist()]), trial))
        alone.append(judged(pair, None, trial))
    return {
        "trials": len(pairs),
        "with_noise": share(pairs, [found == "second" for found in given]),
        "one_seed": share(pairs, [found == "second" for found in alone]),
        "wrong": given.count("first"),
        "wrong_one_seed": alone.count("first"),
    }


def share(pairs: Sequence[tuple[int, int]], found: Sequence[bool], draws: int = 2000) -> dict[str, Any]:
    """Share of trials, and its 95% interval by resampling runs: a trial counts as often as both its runs are drawn."""
    runs = sorted({run for pair in pairs for run in pair})
    at = {run: i for i, run in enumerate(runs)}
    first, second = (np.array([at[pair[side]] for pair in pairs]) for side in (0, 1))
    counts = np.random.default_rng(2).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), draws)
    weights = counts[:, first] * counts[:, second]
    weights = weights[weights.any(axis=1)]
    shares = weights @ np.asarray(found, float) / weights.sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return {"share": float(np.mean(found)), "ci95": [float(low), float(high)]}


# -- speed


def speed_part(base: Path, layers: int) -> dict[str, Any]:
    """Seconds to answer QUESTIONS questions with NEW_TOKENS tokens each, on as many threads as there are."""
    tok = load_tokenizer(base / "tokenizer")
    shape = resolve_shape(ModelConfig(preset="seed-126m", num_layers=layers), tok.vocab_size)
    torch.manual_seed(0)
    model = Decoder(shape).eval()
    documents = held_out([base / "corpus"], [])
    questions = choose_questions(documents.table, QUESTIONS, 0, [(tok, shape.seq_len)], NEW_TOKENS)
    started = time.perf_counter()
    said = answer(model, tok, questions, NEW_TOKENS)
    seconds = time.perf_counter() - started
    return {
        "layers": layers,
        "parameters": count_parameters(shape),
        "questions": len(questions),
        "tokens": sum(one["tokens"] for one in said),
        "seconds": seconds,
    }


# -- words


def lines(result: dict[str, Any]) -> list[str]:
    """The result in lines."""
    told = [f"{result['date']}, commit {result['commit']}, {result['device']}, {result['threads']} threads"]
    if pairs := result.get("pairs"):
        told.append(f"judged on {pairs['documents']:,} test documents in {pairs['groups']:,} groups")
        for name, of in pairs["bits_per_byte"].items():
            told.append(
                f"{pairs['train_documents'][name]:,} training documents: {of['mean']:.4f} bits per byte, seed noise "
                f"{of['seed_noise']['deviation']:.4f} over {of['seed_noise']['num_runs']} runs"
            )
        for name, of in pairs["aa"].items():
            told.append(
                f"A/A, {name}: called different with seed noise {_share(of['with_noise'])} (aim {WORST_AIM:.0%} or "
                f"less), without {_share(of['one_seed'])}; {of['trials']:,} trials"
            )
        for name, of in pairs["ab"].items():
            aim = f" (aim {BEST_AIM:.0%} or more)" if name == "half" else ""
            told.append(
                f"A/B, all against {name}: the better is found with seed noise {_share(of['with_noise'])}{aim}, "
                f"without {_share(of['one_seed'])}; the worse is called better {of['wrong']:,} and "
                f"{of['wrong_one_seed']:,} times of {of['trials']:,}"
            )
    if leak := result.get("leak"):
        told.append(
            f"leak: {leak['planted']} of {leak['test_documents']} test documents; without one "
            f"{leak['called_known_without_a_leak']} are called known"
        )
        for form, of in leak["forms"].items():
            told.append(
                f"  {form}: run named {of['named']} of {of['times']} times, {of['documents_found']:.1%} of them found, "
                f"{of['others_called_known']:.2f} others called known"
            )
        told.append(f"  compare says: {leak['by_compare']['note']}")
    if speed := result.get("speed"):
        told.append(
            f"speed: {speed['questions']} questions, {speed['tokens']:,} tokens, {speed['parameters']:,} parameters: "
            f"{speed['seconds']:.0f} s (aim {SECONDS_AIM:.0f} s)"
        )
    return told


def _share(of: dict[str, Any]) -> str:
    return f"{of['share']:.1%} [{of['ci95'][0]:.1%}, {of['ci95'][1]:.1%}]"


if __name__ == "__main__":
    run_command(main)
