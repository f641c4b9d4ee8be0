"""Small runs whose truth is known, for bench/eval_trust.py: one configuration, many seeds, all and half the data.

    a corpus, its tokenizer -> folders of a run each: the same corpus, or one with other training documents
                            -> `train.py` in each, as many at once as there are cores, one thread each
                            -> bits of each group of test documents under each checkpoint

Runs that are there already are not trained again.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from common.errors import UserError
from common.files import file_sha256, fingerprint, write_json
from common.runs import run_folder
from eval.bootstrap import group_sums
from eval.held_out import HeldOut, read_manifest
from eval.losses import CONTENT
from eval.opened import open_own

ROOT = Path(__file__).resolve().parents[1]
# 336,320 parameters with a vocabulary of 4,096: an epoch of the embedded corpus takes 16 s on one thread
SHAPE = {"num_layers": 2, "hidden_size": 64, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 128}


def base_run(name: str, config: str | None) -> Path:
    """A run's corpus and tokenizer, made by the commands where they are missing."""
    folder = run_folder(name)
    chosen = ["--config", config] if config else []
    for command, made in (("data/prepare.py", "corpus/manifest.json"), ("tokenizer/train.py", "tokenizer")):
        if not (folder / made).exists():
            _run([command, "--run", name, *chosen])
    return folder


def training_documents(corpus: Path) -> pa.Table:
    """All of its training split."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(corpus.glob("train-*.parquet"))])


def part_of(documents: pa.Table, groups: int, out_of: int) -> pa.Table:
    """So many of `out_of` groups, in the order of the split, which is that of a hash: a sample of the whole."""
    names = [group or one for group, one in zip(*(documents[c].to_pylist() for c in ("group", "id")), strict=True)]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return documents.filter(pa.array([number[name] % out_of < groups for name in names]))


def derived_run(name: str, base: Path, train: pa.Table | None) -> Path:
    """A run's folder with the base's corpus and tokenizer; `train`: documents in place of its training split."""
    folder = run_folder(name)
    if folder.exists():
        return folder
    temporary = folder.with_name(folder.name + ".making")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for part in ("corpus", "tokenizer"):
        shutil.copytree(base / part, temporary / part)
    shutil.copy(base / "config.toml", temporary)
    if train is not None:
        put_training(temporary / "corpus", train)
    temporary.rename(folder)
    return folder


def put_training(corpus: Path, documents: pa.Table) -> None:
    """These are the corpus' training documents from now on; manifest and fingerprint say so."""
    for old in corpus.glob("train-*.parquet"):
        old.unlink()
    pq.write_table(documents, corpus / "train-00000.parquet", compression="zstd")
    manifest = read_manifest(corpus)
    manifest["splits"]["train"] |= {"documents": len(documents), "bytes": sum(documents["n_bytes"].to_pylist())}
    manifest["sha256"] = {file.name: file_sha256(file) for file in sorted(corpus.glob("*.parquet"))}
    manifest["fingerprint"] = fingerprint(manifest["fingerprint"], manifest["sha256"])
    write_json(corpus / "manifest.json", manifest)


def train_all(runs: Sequence[tuple[Path, int]], epochs: int) -> None:
    """`train.py` in each (folder, seed) that has not ended yet, one thread each, as many at once as there are cores."""
    shape = [part for key, value in SHAPE.items() for part in (f"--model.{key}", str(value))]
    waiting = [
        ["train.py", "--run", folder.name, "--epochs", str(epochs), "--seed", str(seed), "--samples", "0", *shape]
        for folder, seed in runs
        if not (folder / f"ckpt{epochs}" / "loam.json").exists()
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, tqdm(total=len(waiting), desc="runs", disable=None) as bar:
        for _ in pool.map(_run, waiting):
            bar.update(1)


def _run(command: list[str]) -> None:
    """A command of the repository in a process of its own. Raises UserError with the end of what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / command[0]), *command[1:]],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout.strip()[-500:]}")


def bits_of(checkpoints: Sequence[Path], documents: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Bits (G, K) and bytes (G,) of each group of documents under each checkpoint, as `compare` counts them."""
    bits, sizes = [], np.zeros(0)
    for path in tqdm(checkpoints, desc="losses", disable=None):
        losses = open_own(path, torch.device("cpu"), True, None).losses(documents.table)
        bits.append(group_sums(losses.bits(CONTENT), documents.groups))
        sizes = group_sums(losses.bytes(CONTENT), documents.groups)
    counted = sizes > 0
    return np.stack(bits, axis=1)[counted], sizes[counted]
