"""Byte-level BPE by `tokenizers`: text is split into words by a pattern, and pairs are merged within words.

In: texts. Out: a `tokenizers.Tokenizer` without special tokens' rules (tokenizer/bpe.py adds them), and the bytes that
its letters stand for.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from common.errors import UserError
from tokenizer.patterns import Digits, Pattern, break_of, cut, regex_of, split_white
from tokenizer.template import SPECIAL_TOKENS
from tokenizer.words import cut_words

# Characters of a text, and of a list of such pieces, that the trainer is handed at once.
PIECE, BATCH = 1 << 16, 1 << 20


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    min_frequency: int,
    show_progress: bool,
    pattern: Pattern = "qwen2",
    digits: Digits | None = None,
    code: bool = False,
) -> tokenizers.Tokenizer:
    """Train on `texts`, split by `regex_of(pattern, digits, code)`; the result may have fewer tokens than asked for
    where the texts support no more."""
    regex = regex_of(pattern, digits, code)
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    # In a thread of its own, as no signal is heard inside: Ctrl-C ends the wait, and with it the process.
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(bpe.train_from_iterator, _batches(texts, break_of(regex)), trainer).result()
    finally:
        pool.shutdown(wait=False)
    return bpe


def byte_level_bytes(pieces: list[str]) -> list[bytes]:
    """The bytes of each piece in a vocabulary of letters that stand for bytes."""
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    if any(letter not in letters for piece in pieces for letter in piece):
        raise UserError("its tokens have letters that stand for no byte")
    if missing := letters.keys() - pieces:
        lowest = min(letters[letter] for letter in missing)
        raise UserError(f"it has no token for the byte 0x{lowest:02X}, so not every text can be told in it")
    return [bytes(letters[letter] for letter in piece) for piece in pieces]


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _batches(texts: Iterable[str], end: re.Pattern[str] | None) -> Iterator[list[str]]:
    """Lists of pieces, about BATCH characters each: the trainer counts their words on all cores."""
    batch: list[str] = []
    size = 0
    for text in texts:
        for part in cut(text, end, PIECE):
            for piece in split_white(part)[::2]:  # megabytes of spaces teach nothing
                batch += cut_words(piece)
            size += len(part)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    yield batch
