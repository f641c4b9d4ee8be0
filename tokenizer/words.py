"""How much memory a BPE trainer needs: it keeps every distinct word of the text, and of some texts nearly all are.

In: a small sample of the text, and what splits it. Out: bytes of memory for more of the same text. Distinct words grow
as a power of the text's size (Heaps' law): about 0.6 of prose and code, 1 of random letters, and of scripts without
spaces, where a word is all between two signs. The power is read off two halves of the sample.
"""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

LONGEST_WORD = 256  # characters that the trainer sees together: its time for a word grows with the square of its length
_HALF, _LONG = (re.compile(rf"\w{{{n}}}|[^\w\s]{{{n}}}") for n in (LONGEST_WORD // 2, LONGEST_WORD))
PER_WORD = 300  # bytes of memory for a distinct word, and below for each byte of it and each byte of the text


@dataclass(frozen=True)
class Trainer:
    """What a trainer takes for a word, and what it keeps: above what was measured of base64, DNA and Chinese."""

    regex: str
    per_byte: float
    kept: float  # of each byte of the text, distinct or not


def byte_level_trainer(regex: str) -> Trainer:
    """That of `tokenizers`, which counts words as it reads."""
    return Trainer(regex, 100, 0)


SENTENCEPIECE = Trainer(r" ?[^ \r\n]+|[ \r\n]+", 60, 3)  # it reads all text, and then counts


@dataclass
class Growth:
    """Memory for the words of `num_bytes` of text, and the power of the text's size with which it grows."""

    num_bytes: int
    memory: float
    power: float
    kept: float = 0.0  # bytes for each byte of text, besides

    def memory_of(self, num_bytes: int) -> float:
        """Bytes of memory for so much of this text."""
        return self.memory * (num_bytes / self.num_bytes) ** self.power + self.kept * num_bytes

    def text_within(self, memory: float) -> int:
        """Bytes of this text that take so much memory."""
        return bisect_right(range(1 << 50), memory, key=self.memory_of) - 1


def words_growth(texts: list[str], trainer: Trainer) -> Growth:
    """Counts the distinct words of every second text and of all; the texts hold a word or more."""
    half, rest = _words(texts[::2], trainer.regex), _words(texts[1::2], trainer.regex)
    num_bytes, in_half = (sum(len(text.encode()) for text in part) for part in (texts, texts[::2]))
    memory, of_half = _memory(half | rest, trainer), _memory(half, trainer)
    power = math.log(memory / of_half) / math.log(num_bytes / in_half) if 0 < in_half < num_bytes else 1.0
    return Growth(num_bytes, memory, min(1.0, max(0.1, power)), trainer.kept)


def _memory(words: set[str], trainer: Trainer) -> float:
    return sum(PER_WORD + trainer.per_byte * len(word.encode()) for word in words)


def _words(texts: list[str], regex: str) -> set[str]:
    counter = tokenizers.Tokenizer(models.WordLevel())
    counter.pre_tokenizer = pre_tokenizers.Split(Regex(regex), behavior="isolated")
    trainer = trainers.WordLevelTrainer(vocab_size=1 << 40, min_frequency=0, show_progress=False)
    counter.train_from_iterator(map(cut_words, texts), trainer)
    return set(counter.get_vocab())


def cut_words(text: str) -> list[str]:
    """The text in pieces, cut behind each LONGEST_WORD characters of a run of letters and digits, or of signs."""
    # Of a run that long some LONGEST_WORD / 2 characters begin at one of these places: 1% of what a search would take.
    if not any(_HALF.match(text, place) for place in range(0, len(text), LONGEST_WORD // 2)):
        return [text]
    places = [0, *(run.end() for run in _LONG.finditer(text)), len(text)]
    return [text[first:last] for first, last in pairwise(places)]
