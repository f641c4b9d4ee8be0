"""How many tokens a text will be, before there is a tokenizer: by one that is trained on a sample and thrown away."""

import numpy as np

from data.store import Store

SAMPLE_BYTES = 1 << 20  # over all sources
VOCABULARY = 8192
DEFAULT = 0.25  # tokens a byte, where there is nothing to learn from


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
                text = "\n".join(row[name] for name in ("context", "text", "question", "answer") if row[name])
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
