"""The [tokenizer] section: its settings, their limits, and the size that is taken where none is named."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from common.errors import UserError
from tokenizer.patterns import Digits, Pattern
from tokenizer.template import NUM_SPECIAL

SMALLEST = 256 + NUM_SPECIAL
# Four times the largest of the field (Gemma's 262,144). The trainer allocates a table of so many tokens before it looks
# at a text, and its language ends the process where memory does not suffice.
LARGEST = 1_000_000


@dataclass
class TokenizerConfig:
    """The [tokenizer] section.

    Args:
        vocab_size: number of tokens, special ones included; by default the power of two nearest to 3 * sqrt(bytes of
            training text), 512 to 32768
        min_frequency: how often a pair must occur in the training text to become a token
        pattern: what text is split by before pairs are merged: qwen2 makes each digit a token, llama3 three at most,
            gpt2 numbers of any length
        digits: how many digits are one word, whatever the pattern has: single, three (at most) or whole numbers
        code: for source code: signs at a line's end, its break and the next line's indentation are one word
        backend: tokenizers (byte-level BPE) or sentencepiece (BPE on characters, in bytes where it lacks one), which
            knows no pattern, min_frequency and code, and digits single (its default) and whole
        sample_bytes: how much training text is read: of a larger corpus a sample of so many bytes
        seed: another seed is another sample
        file: a finished tokenizer to take instead of training one: a tokenizer.json, or a .model of sentencepiece
    """

    vocab_size: int | None = None
    min_frequency: int = 2
    pattern: Pattern = "qwen2"
    digits: Digits | None = None
    code: bool = False
    backend: Literal["tokenizers", "sentencepiece"] = "tokenizers"
    sample_bytes: int = 1_000_000_000
    seed: int = 0
    file: str | None = None

    def __post_init__(self) -> None:
        if self.vocab_size is not None and self.vocab_size < SMALLEST:
            raise UserError(
                f"vocab_size {self.vocab_size}: {SMALLEST} or more are needed (256 bytes, {NUM_SPECIAL} special tokens)"
            )
        if self.file is not None:
            if not self.file.strip():
                raise UserError("file: a path is needed, of a tokenizer.json or a .model of sentencepiece")
            told = [f.name for f in fields(self) if f.name != "file" and getattr(self, f.name) != f.default]
            if told:
                raise UserError(f"file {self.file}: a finished tokenizer is taken as it is; leave out {told[0]}")
        if self.backend == "sentencepiece":
            self._check_sentencepiece()
        if self.vocab_size is not None and self.vocab_size > LARGEST:
            raise UserError(f"vocab_size {self.vocab_size}: {LARGEST:,} or fewer are possible")
        if not 1 <= self.min_frequency < 2**63:
            raise UserError(f"min_frequency {self.min_frequency}: must be from 1 up to, not including, 2**63")
        if self.sample_bytes < 1:
            raise UserError(f"sample_bytes {self.sample_bytes}: 1 or more are needed, as in 1000000000 (1 GB)")

    def _check_sentencepiece(self) -> None:
        for f in fields(self):
            if f.name in ("pattern", "min_frequency", "code") and getattr(self, f.name) != f.default:
                raise UserError(f"{f.name}: sentencepiece knows no such setting; it is of backend tokenizers")
        if self.digits == "three":
            raise UserError("digits three: sentencepiece takes digits single or numbers whole")
        if self.vocab_size is not None and self.vocab_size < SMALLEST + 2:
            raise UserError(f"vocab_size {self.vocab_size}: sentencepiece needs two characters more, {SMALLEST + 2}")


def default_vocab_size(num_bytes: int) -> int:
    """Power of two nearest to 3 * sqrt(bytes), 512 to 32768: 1 MB gives 4096, 8 MB 8192, 100 MB 32768.

    The embedding grows with the vocabulary and is learned only from the corpus at hand, so it grows with its root.
    """
    return min(32768, max(512, 2 ** round(math.log2(max(1.0, 3 * math.sqrt(num_bytes))))))
