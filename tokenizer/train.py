"""Train the run's tokenizer, on the training split only, or take a finished one.

Reads runs/<run>/corpus, writes runs/<run>/tokenizer (tokenizer.json, tokenizer_config.json, report.json, report.html).
--against compares with other tokenizers, also where the run has its own already. --sweep 1024,2048,4096 compares sizes
and trains no tokenizer for the run.
"""

import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import pyarrow.parquet as pq

from common.errors import UserError, run_command
from common.files import read_json
from common.runs import run_folder
from config import Config, load_command
from tokenizer.advice import terminal_lines
from tokenizer.against import Other, open_others
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.bring import bring
from tokenizer.config import TokenizerConfig, default_vocab_size
from tokenizer.encode import corpus_files
from tokenizer.report import write_report
from tokenizer.sample import sample_texts, survey, training_sample, training_texts

AGAINST_HELP = (
    "tokenizers to compare with on the test split: tokenizer.json, sentencepiece .model or a folder; by commas"
)
SWEEP_HELP = "sizes to compare, separated by commas; the run's tokenizer is neither made nor changed"


def train(config: Config) -> Tokenizer:
    """Train and save the tokenizer of a run whose corpus is there; prints what it decided and why."""
    others = open_others(getattr(config.args, "against", None))  # first: a wrong path stops before the work
    with config.claimed("tokenizer") as folder:
        corpus, out = folder / "corpus", folder / "tokenizer"
        if (out / "tokenizer.json").exists():
            tok = load_tokenizer(out)
            if not isinstance(read_json(out / "tokenizer_config.json"), dict):
                raise UserError(f"{out / 'tokenizer_config.json'} is damaged: it holds no object")
            print(f"{out} is there already: {tok.vocab_size:,} tokens, made with the same settings")
            if others or not (out / "report.html").exists():
                report(tok, corpus, out, others, config.tokenizer)
            return tok
        settings = replace(config.tokenizer, file=finished(config))
        documents = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, "train"))
        num_bytes = sum(survey(corpus).values())
        print(f"training text: {num_bytes:,} bytes in {documents:,} documents of {corpus} (training split only)")
        if settings.file is not None:
            print(f"vocabulary: taken from {settings.file}, with loam's special tokens in place of its own")
            tok = train_tokenizer(iter([]), num_bytes, settings, out)
        else:
            reason = "as asked" if settings.vocab_size else "the power of two nearest to 3 * sqrt(bytes), 512 to 32,768"
            size = settings.vocab_size or default_vocab_size(num_bytes)
            print(f"vocabulary: {size:,} tokens, {reason}; BPE by {settings.backend}")
            sample, end = training_sample(corpus, settings)
            tok = train_tokenizer(sample_texts(corpus, sample, end), num_bytes, settings, out)
            print(*sample.lines(), sep="\n")
            if tok.vocab_size < size:
                print(f"vocabulary: {tok.vocab_size:,} tokens, as the text supports no more than that")
        if tok.backend == "tokenizers" and tok.pattern is None:
            print("note: llama.cpp has no name for the pattern that splits text here: there will be no GGUF of it")
        report(tok, corpus, out, others, settings)
        return tok


def finished(config: Config) -> str | None:
    """Where the finished tokenizer is that [tokenizer] file names: as the command sees it, or beside the TOML file."""
    file = config.tokenizer.file
    if file is None:
        return None
    places = [Path(file), config.base / file]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        where = f", here or in {config.base}" if config.base != Path(".") else ""
        raise UserError(
            f"file {file}: not found{where}; it is a tokenizer.json, a .model of sentencepiece, or a folder"
        )
    return str(found)


def report(tok: Tokenizer, corpus: Path, folder: Path, others: list[Other], settings: TokenizerConfig) -> None:
    """Write the report and print its main figures."""
    told = write_report(tok, corpus, folder, others, settings=settings)
    print(*terminal_lines(told, folder / "report.html"), sep="\n")


def main() -> None:
    """The command."""
    config = load_command("tokenizer", __doc__, flags={"against": (None, AGAINST_HELP), "sweep": (None, SWEEP_HELP)})
    if config.args.sweep is not None:
        from tokenizer.sweep import parse_sizes, sweep

        if config.args.against is not None:
            raise UserError("--sweep compares sizes and --against tokenizers: name one of them")
        if config.tokenizer.vocab_size is not None:
            print(f"note: vocab_size {config.tokenizer.vocab_size:,} has no part in this, as --sweep names the sizes")
        parse_sizes(config.args.sweep, config.tokenizer)  # refused before a corpus is made for it
    open_others(config.args.against)  # as is what is no tokenizer
    made = (run_folder(config.run) / "tokenizer" / "tokenizer.json").exists()
    if not made and (file := finished(config)) is not None:
        bring(Path(file))  # as is what cannot be taken
    if not (run_folder(config.run) / "corpus" / "manifest.json").exists():
        from data.prepare import prepare_run  # made here so that the owner's command works on a fresh clone

        print(f"run '{config.run}' has no corpus yet: preparing it first, as `python data/prepare.py` would")
        prepare_run(config)
    if config.args.sweep is not None:
        with config.claimed("prepare", write=False) as folder:  # of other sources it would be another corpus
            sweep(config, config.args.sweep, lambda: training_texts(folder / "corpus", config.tokenizer))
        return
    tok = train(config)
    print(f"{tok.vocab_size:,} tokens -> {run_folder(config.run) / 'tokenizer'}")
    print(f"next: torchrun train.py --run-name {config.run}")


if __name__ == "__main__":
    run_command(main)
