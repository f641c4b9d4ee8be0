"""How fast a tokenizer is trained and encodes, against its library alone, on one core and on all.

In: a run with a corpus. Out: MB/s of each cell (backend, training or encoding, cores) for two sides:

  training   loam: Parquet files -> a tokenizer's folder, all that `tokenizer/train.py` does before its report;
             the library: the same texts as strings in memory -> a model, by its own trainer and the same settings
  encoding   loam: Parquet files -> an opened token store; the library: its batch call on the same strings

Sides take turns, each turn in a process of its own that may use so many cores, so that what else the machine does hits
both, and no thread pool or cache of an earlier turn helps.
"""

import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

from tokenizer.bpe import train_tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.encode import FIELDS, build_store, read_corpus
from tokenizer.patterns import LINE_BREAK, PATTERNS
from tokenizer.sample import plan_sample, sample_texts, survey
from tokenizer.spm import as_lines, bpe_settings
from tokenizer.template import SPECIAL_TOKENS

Backend = Literal["tokenizers", "sentencepiece"]
Ready = Callable[[], object]  # what is timed


def measure_tokenizers(run: Path, vocab_size: int, turns: int) -> list[dict[str, Any]]:
    """Each backend, on one core and on all, trained and used to encode the run's training split."""
    num_bytes = sum(len(text.encode()) for text in texts_of(run))
    cores = sorted(usable_cores())
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    found = []
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory(dir=run, prefix="bench-") as folder:
            config = TokenizerConfig(vocab_size=vocab_size, backend=backend)
            train_tokenizer(iter(texts_of(run)), num_bytes, config, Path(folder) / "tokenizer")
            for what in ("training", "encoding"):
                for some in (cores[-1:], cores) if len(cores) > 1 else (cores,):
                    seconds: dict[str, list[float]] = {"library": [], "loam": []}
                    for _ in range(turns):
                        for side, taken in seconds.items():
                            with ProcessPoolExecutor(1, mp_context=processes) as process:
                                turn = process.submit(one_turn, backend, what, side, some, run, config, Path(folder))
                                taken.append(turn.result())
                    found.append({
                        "backend": backend,
                        "what": what,
                        "cores": len(some),
                        "bytes": num_bytes,
                        "vocab_size": vocab_size,
                        "seconds": {side: [round(s, 5) for s in taken] for side, taken in seconds.items()},
                        "mb_per_s": {
                            side: round(num_bytes / statistics.median(taken) / 1e6, 2)
                            for side, taken in seconds.items()
                        },
                        "ratio": round(statistics.median(
                            theirs / ours for theirs, ours in zip(seconds["library"], seconds["loam"], strict=True)
                        ), 3),
                    })  # fmt: skip
    return found


def one_turn(
    backend: Backend, what: str, side: str, cores: list[int], run: Path, config: TokenizerConfig, folder: Path
) -> float:
    """Seconds of one side's turn on some cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ["RAYON_NUM_THREADS"] = str(len(cores))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch)
        if side == "library":
            ready = BACKENDS[backend][what](texts_of(run), config, folder / "tokenizer", len(cores))
            start = time.perf_counter()
            ready()
        elif what == "training":
            start = time.perf_counter()
            sample = plan_sample(survey(run / "corpus"), {}, config.sample_bytes, config.seed)
            texts = sample_texts(run / "corpus", sample, LINE_BREAK)
            train_tokenizer(texts, sum(sample.bytes.values()), config, out / "tokenizer")
        else:
            start = time.perf_counter()
            build_store(run / "corpus", "train", folder / "tokenizer", out, quiet=True)
        return time.perf_counter() - start


def tokenizers_trains(texts: list[str], config: TokenizerConfig, folder: Path, num_threads: int) -> Ready:
    """`train_from_iterator` over the texts, as its documentation has it."""
    bpe = tokenizers.Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PATTERNS[config.pattern]), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    assert config.vocab_size
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return lambda: bpe.train_from_iterator(texts, trainer)


def tokenizers_encodes(texts: list[str], config: TokenizerConfig, folder: Path, num_threads: int) -> Ready:
    """`encode_batch_fast` of the texts."""
    bpe = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    bpe.encode_special_tokens = True
    return lambda: bpe.encode_batch_fast(texts, add_special_tokens=False)


def sentencepiece_trains(texts: list[str], config: TokenizerConfig, folder: Path, num_threads: int) -> Ready:
    """`SentencePieceTrainer.train` over the sentences that loam would make of the texts, made before."""
    made = [line for text in texts for line in as_lines(text).split("\n") if line]
    settings = {
        "model_type": "bpe",
        "vocab_size": config.vocab_size,
        "hard_vocab_limit": False,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "num_threads": num_threads,
        "minloglevel": 2,
        **bpe_settings(),
    }
    return lambda: sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(made), model_writer=io.BytesIO(), **settings
    )


def sentencepiece_encodes(texts: list[str], config: TokenizerConfig, folder: Path, num_threads: int) -> Ready:
    """`SentencePieceProcessor.encode` of the texts."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return lambda: model.encode(texts, num_threads=num_threads)


BACKENDS: dict[Backend, dict[str, Callable[[list[str], TokenizerConfig, Path, int], Ready]]] = {
    "tokenizers": {"training": tokenizers_trains, "encoding": tokenizers_encodes},
    "sentencepiece": {"training": sentencepiece_trains, "encoding": sentencepiece_encodes},
}


def texts_of(run: Path) -> list[str]:
    """The fields of the training split that hold text, document by document."""
    return [
        text
        for part in read_corpus(run / "corpus", "train", list(FIELDS))
        for row in zip(*(part[name].to_pylist() for name in FIELDS), strict=True)
        for text in row
        if text is not None
    ]


def usable_cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def speed_line(found: dict[str, Any]) -> str:
    """One cell as text."""
    rates = found["mb_per_s"]
    return (
        f"  {found['what']} by {found['backend']}, {found['cores']} cores: {rates['loam']:.2f} MB/s, the library alone "
        f"{rates['library']:.2f}: {found['ratio']:.0%}"
    )
