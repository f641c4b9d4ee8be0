"""Train the run's tokenizer: byte-level BPE on the training split only.

Reads runs/<run>/corpus, writes runs/<run>/tokenizer (tokenizer.json, tokenizer_config.json, report.json, report.html).
--against compares with other tokenizers, also where the run has its own already.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import pyarrow.parquet as pq

from common.errors import run_command
from common.runs import run_folder
from config import Config, load_command
from tokenizer.against import Other, open_others
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.config import default_vocab_size
from tokenizer.encode import FIELDS, corpus_files, read_corpus
from tokenizer.report import terminal_lines, write_report

AGAINST_HELP = (
    "tokenizers to compare with on the test split: tokenizer.json, sentencepiece .model or a folder; by commas"
)


def training_texts(corpus: Path) -> Iterator[str]:
    """Every field of every training document."""
    for table in read_corpus(corpus, "train", list(FIELDS)):
        for name in FIELDS:
            yield from (value for value in table[name].to_pylist() if value)


def train(config: Config) -> Tokenizer:
    """Train and save the tokenizer of a run whose corpus is there; prints what it decided and why."""
    others = open_others(getattr(config.args, "against", None))  # first: a wrong path stops before the work
    with config.claimed("tokenizer") as folder:
        corpus, out = folder / "corpus", folder / "tokenizer"
        if (out / "tokenizer.json").exists():
            tok = load_tokenizer(out)
            print(f"{out} is there already: {tok.vocab_size:,} tokens, made with the same settings")
            if others or not (out / "report.html").exists():
                report(tok, corpus, out, others)
            return tok
        documents = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, "train"))
        num_bytes = sum(sum(table["n_bytes"].to_pylist()) for table in read_corpus(corpus, "train", ["n_bytes"]))
        wanted, file = config.tokenizer.vocab_size, config.tokenizer.file
        reason = "as asked" if wanted else "the power of two nearest to 3 * sqrt(bytes), 512 to 32,768"
        print(f"training text: {num_bytes:,} bytes in {documents:,} documents of {corpus} (training split only)")
        if file is None:
            by = f"BPE by {config.tokenizer.backend}"
            print(f"vocabulary: {wanted or default_vocab_size(num_bytes):,} tokens, {reason}; {by}")
        else:
            print(f"vocabulary: taken from {file}, with loam's special tokens in place of its own")
        tok = train_tokenizer(training_texts(corpus), num_bytes, config.tokenizer, out)
        report(tok, corpus, out, others)
        return tok


def report(tok: Tokenizer, corpus: Path, folder: Path, others: list[Other]) -> None:
    """Write the report and print its main figures."""
    print("\n".join(terminal_lines(write_report(tok, corpus, folder, others), folder / "report.html")))


def main() -> None:
    """The command."""
    config = load_command("tokenizer", __doc__, flags={"against": (None, AGAINST_HELP)})
    if not (run_folder(config.run) / "corpus" / "manifest.json").exists():
        from data.prepare import prepare_run  # made here so that the owner's command works on a fresh clone

        print(f"run '{config.run}' has no corpus yet: preparing it first, as `python data/prepare.py` would")
        prepare_run(config)
    tok = train(config)
    print(f"{tok.vocab_size:,} tokens -> {run_folder(config.run) / 'tokenizer'}")
    print(f"next: torchrun train.py --run-name {config.run}")


if __name__ == "__main__":
    run_command(main)
