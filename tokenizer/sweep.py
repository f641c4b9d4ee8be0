"""How large should the vocabulary be? Several sizes side by side, and one of them recommended.

In: a run whose corpus is there, sizes in ascending order. Out: a table, and runs/<run>/tokenizer-sweep.json. The run's
own tokenizer is neither made nor changed.

  1. byte-level BPE is trained once, at the largest size, and holds all smaller ones: merges are made in order of
     frequency, and the size only ends them; sentencepiece is trained at each size
  2. each encodes the training and the validation split, rendered by the template as in training
  3. what an epoch then costs the run's model follows by arithmetic
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tokenizers
from tqdm import tqdm

from common.errors import UserError
from common.files import scratch_folder, write_json
from common.runs import run_folder
from config import Config
from data.loader import about_corpus
from data.packing import cut
from tokenizer.bpe import Tokenizer, check_supported, load_tokenizer, save_tokenizer, train_backend
from tokenizer.config import TokenizerConfig, default_vocab_size
from tokenizer.encode import ABOUT, FIELDS, corpus_files, encode_table, read_corpus
from tokenizer.sample import survey
from tokenizer.template import NUM_SPECIAL

SCRATCH = ".tokenizer-sweep.tmp"  # the next command on the run clears it, where a kill has left it


@dataclass(frozen=True)
class Counts:
    """One split in the tokens of one tokenizer."""

    num_bytes: int  # of content, UTF-8
    content_tokens: int
    targets: float  # tokens that an epoch predicts: content and markers but bos, each as often as its source's weight
    attended: float  # keys that a target attends to, itself among them, on average

    @property
    def bytes_per_token(self) -> float:
        """Of content: markers are in neither."""
        return self.num_bytes / max(1, self.content_tokens)


@dataclass(frozen=True)
class Row:
    """What one size would mean."""

    vocab_size: int
    bytes_per_token: float  # of the training split
    held_out_bytes_per_token: float  # of the validation split
    parameters: int
    embedding_share: float  # of the parameters; with a head that is not tied, the head's too
    tokens_per_epoch: int
    flops_per_epoch: float


def sweep(config: Config, asked: str, texts: Callable[[], Iterable[str]]) -> list[Row]:
    """Measure the sizes that the user `asked` for on a run's corpus; prints and writes the table and a recommendation.

    `texts`: of the training split. UserError for sizes that are none, or that the texts do not support.
    """
    # A room further down, for the size of the run's model: arithmetic, as in config.py, and no tensor.
    from model.config import count_parameters, flops_per_token, resolve_shape

    sizes = parse_sizes(asked, config.tokenizer)
    shapes = {size: resolve_shape(config.model, size) for size in sizes}
    folder = run_folder(config.run)
    corpus = folder / "corpus"
    num_bytes = sum(survey(corpus).values())
    toks = train_sizes(texts, sizes, config.tokenizer, folder / SCRATCH)
    _, weights = about_corpus(corpus / "manifest.json")
    seq_len = shapes[sizes[0]].seq_len
    train, held_out = (count_tokens(corpus, split, toks, seq_len, weights) for split in ("train", "val"))
    tables = 1 if config.model.tie_embeddings else 2  # of a number for each token and each unit of the width
    rows = [
        Row(
            vocab_size=size,
            bytes_per_token=round(train[size].bytes_per_token, 4),
            held_out_bytes_per_token=round(held_out[size].bytes_per_token, 4),
            parameters=count_parameters(shape),
            embedding_share=round(tables * size * shape.hidden_size / count_parameters(shape), 4),
            tokens_per_epoch=round(train[size].targets),
            flops_per_epoch=flops_per_token(shape, train[size].attended) * train[size].targets,
        )
        for size, shape in shapes.items()
    ]
    best, reason = recommend(sizes, num_bytes)
    print(*table_lines(rows), f"recommended: --vocab_size {best}: {reason}", sep="\n")
    result = {"training_bytes": num_bytes, "model": asdict(config.model), "tokenizer": asdict(config.tokenizer)}
    result |= {"sizes": [asdict(row) for row in rows], "recommended": best, "reason": reason}
    write_json(folder / "tokenizer-sweep.json", result)
    print(f"written: {folder / 'tokenizer-sweep.json'}")
    if (folder / "tokenizer").exists():
        print("the run's own tokenizer stays as it is; one of another size needs another --run")
    else:
        rule = default_vocab_size(num_bytes)  # which needs no flag
        settings = {**asdict(config.tokenizer), "vocab_size": best if best != rule else None}
        told = [f"--{field.name} {settings[field.name]}" for field in fields(TokenizerConfig)
                if settings[field.name] != field.default]  # fmt: skip
        print(f"next: python tokenizer/train.py --run {config.run} {' '.join(told)}")
    return rows


def parse_sizes(asked: str, config: TokenizerConfig) -> list[int]:
    """The sizes of a command line: "1024,2048". UserError unless they ascend and each is a possible `vocab_size`."""
    if config.file is not None:
        raise UserError(
            f"--sweep: file {config.file} is a finished tokenizer, which has one size; leave out one of them"
        )
    words = [word.strip() for word in asked.split(",")]
    if not all(re.fullmatch("[0-9]{1,18}", word) for word in words):
        raise UserError(f"--sweep {asked}: whole numbers separated by commas are needed, as in --sweep 1024,2048,4096")
    sizes = [int(word) for word in words]
    for size in sizes:
        replace(config, vocab_size=size)  # the section's own limits
    if any(low >= high for low, high in pairwise(sizes)):
        raise UserError(f"--sweep {asked}: sizes must ascend, each named once")
    return sizes


def train_sizes(
    texts: Callable[[], Iterable[str]], sizes: list[int], config: TokenizerConfig, scratch: Path
) -> dict[int, Tokenizer]:
    """A tokenizer of each size, ascending; `scratch` is a folder for a while. UserError where the texts support no
    such vocabulary.

    Byte-level BPE is trained once. sentencepiece is trained once a size: which characters it counts as rare, and spells
    in bytes, depends on the size.
    """
    toks = {}
    with scratch_folder(scratch) as folder:
        for size in reversed(sizes):
            bpe, model = train_backend(texts(), size, config, True, folder)
            check_supported(bpe, size, config)
            if config.backend == "tokenizers":
                return {smaller: Tokenizer(truncate_bpe(bpe, smaller)) for smaller in sizes}
            save_tokenizer(bpe, folder, model)
            toks[size] = load_tokenizer(folder)
    return {size: toks[size] for size in sizes}


def truncate_bpe(bpe: tokenizers.Tokenizer, size: int) -> tokenizers.Tokenizer:
    """The tokenizer that the texts of `bpe`, which is byte-level BPE, give at a smaller size: bit for bit the same."""
    state = json.loads(bpe.to_str())
    model = state["model"]
    model["vocab"] = {token: i for token, i in model["vocab"].items() if i < size}
    # Training would have ended at the merge that makes the last token.
    last = next((n for n, (a, b) in enumerate(model["merges"]) if bpe.token_to_id(a + b) == size - 1), -1)
    model["merges"] = model["merges"][: last + 1]
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def count_tokens(
    corpus: Path, split: str, toks: Mapping[int, Tokenizer], seq_len: int, weights: Mapping[str, float]
) -> dict[int, Counts]:
    """Bytes and tokens of a split by each tokenizer, whose documents are cut to `seq_len` as in training.

    `weights`: source -> how often an epoch shows its documents.
    """
    total = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
    sums = {size: np.zeros(4) for size in toks}  # bytes, content tokens, targets, pairs of target and key
    with tqdm(total=total, desc=f"encoding {split}", unit=" documents") as bar:
        for table in read_corpus(corpus, split, [*FIELDS, *ABOUT]):
            for size, tok in toks.items():
                tokens = encode_table(table, tok)
                documents, _, lengths = cut(tokens.lengths, seq_len)
                times = np.asarray([weights.get(name, 1.0) for name in tokens.source_names])[tokens.sources]
                shown = times[documents]
                num_bytes = sum(int(np.sum(tokens.table[f"bytes_{name}"].to_numpy())) for name in FIELDS)
                content = np.count_nonzero(tokens.ids >= NUM_SPECIAL)
                pairs = (shown * lengths * (lengths + 1.0) / 2).sum()
                sums[size] += [num_bytes, content, (shown * lengths).sum(), pairs]
            bar.update(len(table))
    return {
        size: Counts(int(num_bytes), int(content), targets, pairs / max(1.0, targets))
        for size, (num_bytes, content, targets, pairs) in sums.items()
    }


def recommend(sizes: list[int], num_bytes: int) -> tuple[int, str]:
    """Of these sizes the one that suits so much training text best, and why, in a sentence (docs/tokenizer.md)."""
    rule = default_vocab_size(num_bytes)
    best = min(sizes, key=lambda size: abs(np.log2(size / rule)))
    return best, (
        f"nearest to {rule:,}, the power of two nearest to 3 * sqrt({num_bytes:,} bytes), which for equal training "
        "FLOPs was within the noise of the best size on four corpora"
    )


def table_lines(rows: list[Row]) -> list[str]:
    """The table as text, FLOPs relative to the cheapest size too."""
    least = min(row.flops_per_epoch for row in rows)
    lines = ["vocabulary  bytes/token  held out  parameters  embedding  tokens/epoch  FLOPs/epoch"]
    lines += [
        f"{row.vocab_size:>10,}  {row.bytes_per_token:>11.3f}  {row.held_out_bytes_per_token:>8.3f}"
        f"  {row.parameters:>10,}  {row.embedding_share:>9.1%}  {row.tokens_per_epoch:>12,}"
        f"  {row.flops_per_epoch:>8.2e} ({row.flops_per_epoch / least:.2f} x)"
        for row in rows
    ]
    return lines
