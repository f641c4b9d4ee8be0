"""Train the run's tokenizer, on the training split only, or take a finished one.

Reads runs/<run>/corpus, writes runs/<run>/tokenizer (tokenizer.json, tokenizer_config.json, report.json).
With --sweep 1024,2048,4096 it compares sizes instead and trains no tokenizer for the run.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import pyarrow.parquet as pq

from common.errors import run_command
from common.files import write_json
from common.runs import run_folder
from config import Config, load_command
from data.loader import about_corpus
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.config import TokenizerConfig, default_vocab_size
from tokenizer.encode import FIELDS, corpus_files, read_corpus
from tokenizer.patterns import AFTER_BREAK, break_of, regex_of
from tokenizer.sample import Sample, plan_sample, sample_texts, survey, within_memory


def train(config: Config) -> Tokenizer:
    """Train and save the tokenizer of a run whose corpus is there; prints what it decided and why."""
    with config.claimed("tokenizer") as folder:
        corpus, out = folder / "corpus", folder / "tokenizer"
        if (out / "tokenizer.json").exists():
            tok = load_tokenizer(out)
            print(f"{out} is there already: {tok.vocab_size:,} tokens, made with the same settings")
            return tok
        documents = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, "train"))
        settings, by_source = config.tokenizer, survey(corpus)
        num_bytes = sum(by_source.values())
        print(f"training text: {num_bytes:,} bytes in {documents:,} documents of {corpus} (training split only)")
        if settings.file is not None:
            print(f"vocabulary: taken from {settings.file}, with loam's special tokens in place of its own")
            tok = train_tokenizer(iter([]), num_bytes, settings, out)
        else:
            reason = "as asked" if settings.vocab_size else "the power of two nearest to 3 * sqrt(bytes), 512 to 32,768"
            size = settings.vocab_size or default_vocab_size(num_bytes)
            print(f"vocabulary: {size:,} tokens, {reason}; BPE by {settings.backend}")
            sample, end = training_sample(corpus, by_source, settings)
            tok = train_tokenizer(sample_texts(corpus, sample, end), num_bytes, settings, out)
            print(*sample.lines(), sep="\n")
        if tok.backend == "tokenizers" and tok.pattern is None:
            print("note: llama.cpp has no name for the pattern that splits text here: there will be no GGUF of it")
        write_json(out / "report.json", report(tok, corpus))
        return tok


def training_sample(
    corpus: Path, by_source: dict[str, int], settings: TokenizerConfig
) -> tuple[Sample, re.Pattern[str] | None]:
    """What a tokenizer of these settings reads of the training split, and behind what its long texts may be cut.

    `by_source`: bytes of the split.
    """
    _, weights = about_corpus(corpus / "manifest.json")
    sample = plan_sample(by_source, weights, settings.sample_bytes, settings.seed)
    if settings.backend != "tokenizers":
        return sample, AFTER_BREAK
    regex = regex_of(settings.pattern, settings.digits, settings.code)
    return within_memory(corpus, sample, weights, regex), break_of(regex)


def training_texts(corpus: Path, settings: TokenizerConfig) -> Iterator[str]:
    """The texts that `train` would read."""
    return sample_texts(corpus, *training_sample(corpus, survey(corpus), settings))


def report(tok: Tokenizer, corpus: Path) -> dict[str, object]:
    """Compression on each split: bytes, content tokens, bytes per token."""
    result: dict[str, object] = {"vocab_size": tok.vocab_size}
    for split in ("train", "val", "test"):
        num_bytes = num_tokens = 0
        for table in read_corpus(corpus, split, list(FIELDS)):
            for name in FIELDS:
                texts = [value for value in table[name].to_pylist() if value]
                num_bytes += sum(len(text.encode()) for text in texts)
                num_tokens += sum(map(len, tok.encode_batch(texts)))
        per_token = round(num_bytes / max(1, num_tokens), 4)
        result[split] = {"bytes": num_bytes, "tokens": num_tokens, "bytes_per_token": per_token}
        print(f"{split}: {per_token} bytes per token ({num_bytes:,} bytes, {num_tokens:,} tokens)")
    return result


def main() -> None:
    """The command."""
    flags = {"sweep": (None, "sizes to compare, separated by commas; the run's tokenizer is neither made nor changed")}
    config = load_command("tokenizer", __doc__, flags=flags)
    if config.args.sweep is not None:
        from tokenizer.sweep import parse_sizes, sweep

        parse_sizes(config.args.sweep, config.tokenizer)  # refused before a corpus is made for it
    if not (run_folder(config.run) / "corpus" / "manifest.json").exists():
        from data.prepare import prepare_run  # made here so that the owner's command works on a fresh clone

        print(f"run '{config.run}' has no corpus yet: preparing it first, as `python data/prepare.py` would")
        prepare_run(config)
    if config.args.sweep is not None:
        corpus = run_folder(config.run) / "corpus"
        sweep(config, config.args.sweep, lambda: training_texts(corpus, config.tokenizer))
        return
    tok = train(config)
    print(f"{tok.vocab_size:,} tokens -> {run_folder(config.run) / 'tokenizer'}")
    print(f"next: torchrun train.py --run-name {config.run}")


if __name__ == "__main__":
    run_command(main)
