"""How many tokens each row is: by the run's tokenizer, or, before there is one, by one that is trained on a sample of
the rows and thrown away, which gives tokens a byte for each source."""

from itertools import islice
from pathlib import Path

import numpy as np

from data.columns import Row
from data.store import Store

FIELDS = ("context", "text", "question", "answer")
SAMPLE_BYTES = 1 << 20  # over all sources
VOCABULARY = 8192
DEFAULT = 0.25  # tokens a byte, where there is nothing to learn from


def token_counts(store: Store, names: list[str], tokenizer: Path | None) -> tuple[np.ndarray, bool]:
    """(int64 (N,), whether they are estimates): tokens of each row's texts, without the template's own."""
    if not len(store):
        return np.zeros(0, np.int64), tokenizer is None
    if tokenizer is None:
        rates = np.array(tokens_per_byte(store, names))
        return np.ceil(store.facts["n_bytes"] * rates[store.facts["source"]]).astype(np.int64), True
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(tokenizer))
    counts = np.zeros(len(store), np.int64)
    rows = store.stream()
    while batch := list(islice(rows, 1024)):
        texts = [[row[name] for name in FIELDS if row[name]] for _, row in batch]
        encoded = iter(known.encode_batch_fast([text for of in texts for text in of], add_special_tokens=False))
        for (number, _), of in zip(batch, texts, strict=True):
            counts[number] = sum(len(next(encoded).ids) for _ in of)
    return counts, False


def _text(row: Row) -> str:
    return "\n".join(row[name] for name in FIELDS if row[name])


def tokens_per_byte(store: Store, names: list[str]) -> list[float]:
    """For each source, tokens a byte of a BPE vocabulary of 8,192 trained on a sample of all of them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts: list[list[str]] = []
    for number in range(len(names)):
        own = np.zeros(0, np.int64)
        if len(store):
            own = np.flatnonzero((store.facts["source"] == number) & store.facts["usable"])
        taken, size = list[str](), 0
        for start in range(0, len(own), 64):
            for row in store.take(own[start : start + 64].tolist()):
                text = _text(row)
                taken.append(text[: SAMPLE_BYTES // 4])
                size += len(text)
            if size * len(names) > SAMPLE_BYTES:
                break
        texts.append(taken)
    if not any(texts):
        return [DEFAULT] * len(names)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((text for taken in texts for text in taken), trainer)
    rates = []
    for taken in texts:
        size = sum(len(text.encode()) for text in taken)
        number = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(taken))
        rates.append(number / size if size else DEFAULT)
    return rates
