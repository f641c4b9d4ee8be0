"""How much memory the BPE trainer needs: it keeps every distinct word of the text, and of some texts nearly all are.

In: a small sample of the text, and the pattern that splits it. Out: bytes of memory for more of the same text. Distinct
words grow as a power of the text's size (Heaps' law): about 0.6 of prose and code, 1 of random letters, and of scripts
without spaces, where a word is all between two signs. The power is read off two halves of the sample.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

LONGEST_WORD = 256  # characters that the trainer sees together: its time for a word grows with the square of its length
# Bytes of memory for a distinct word, and for each byte of it: above what was measured of base64, DNA and Chinese.
PER_WORD, PER_BYTE = 300, 100


@dataclass
class Growth:
    """Memory for the words of `num_bytes` of text, and the power of the text's size with which it grows."""

    num_bytes: int
    memory: float
    power: float

    def memory_of(self, num_bytes: int) -> float:
        """Bytes of memory for the words of so much of this text."""
        return self.memory * (num_bytes / self.num_bytes) ** self.power

    def text_within(self, memory: float) -> int:
        """Bytes of this text whose words take so much memory."""
        return int(self.num_bytes * (memory / self.memory) ** (1 / self.power))


def words_growth(texts: list[str], regex: str) -> Growth:
    """Counts the distinct words of every second text and of all; the texts hold a word or more."""
    half, rest = _words(iter(texts[::2]), regex), _words(iter(texts[1::2]), regex)
    num_bytes, in_half = (sum(len(text.encode()) for text in part) for part in (texts, texts[::2]))
    memory, of_half = _memory(half | rest), _memory(half)
    power = math.log(memory / of_half) / math.log(num_bytes / in_half) if 0 < in_half < num_bytes else 1.0
    return Growth(num_bytes, memory, min(1.0, max(0.1, power)))


def _memory(words: set[str]) -> float:
    return sum(PER_WORD + PER_BYTE * len(word.encode()) for word in words)


def _words(texts: Iterator[str], regex: str) -> set[str]:
    counter = tokenizers.Tokenizer(models.WordLevel())
    counter.pre_tokenizer = pre_tokenizers.Sequence(word_splits(regex))
    counter.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=1 << 40, min_frequency=0, show_progress=False)
    )
    return set(counter.get_vocab())


def word_splits(regex: str) -> list[pre_tokenizers.PreTokenizer]:
    """What parts a text into the words that the trainer counts."""
    return [
        pre_tokenizers.Split(Regex(regex), behavior="isolated"),
        pre_tokenizers.FixedLength(length=LONGEST_WORD),
    ]
