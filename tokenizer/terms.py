"""The key terms of a corpus, without another corpus to hold it against, and how many tokens each takes.

    text -> pieces of PIECE characters -> how often each word occurs, and in how many pieces
         -> how much fewer pieces these are than chance would give (residual inverse document frequency)

A word of grammar falls on pieces as chance has it; a word that a text is about returns where it has been (Church and
Gale, 1995). So a key term is a word of LEAST_LETTERS or more whose score is high:
pieces that hold it * residual IDF^2 * ln(letters). A word that stands in nearly every piece looks like grammar.
"""

import math
import re
from collections import Counter
from typing import Any
from zlib import crc32

from tokenizer.bpe import Tokenizer

TERM_BYTES = 4 << 20  # of training text, 1 s
PIECE = 4096  # characters
LEAST_LETTERS, LEAST_PIECES = 5, 5
LEAST_TEXT = 20  # pieces; fewer tell nothing of spread
SHOWN = 40
# Letters, joined by hyphens and apostrophes; neither a command of LaTeX nor the name of an environment.
_WORD = re.compile(r"(?<![\\\w])(?<!begin\{)(?<!end\{)[^\W\d_]+(?:[-'’][^\W\d_]+)*")
RULE = (
    f"words of {LEAST_LETTERS} letters or more in {LEAST_PIECES} pieces of {PIECE:,} characters or more, by "
    "pieces * residual IDF^2 * ln(letters): frequent, spread, and denser where they occur than chance would have it"
)


def count_words(text: str, name: str, share: float, words: Counter[str], pieces: Counter[str]) -> tuple[int, int]:
    """Add the words of a share of a text's pieces, as written, and for each case-folded one the pieces that hold it.

    `name`, the document's, decides with a piece's place whether it is in. Returns how many pieces were, and bytes.
    """
    starts = [i for i in range(0, len(text), PIECE) if share >= 1 or crc32(f"{name} {i}".encode()) < share * 2**32]
    num_bytes = 0
    for start in starts:
        piece = text[start : start + PIECE]
        num_bytes += len(piece.encode())
        found = Counter(_WORD.findall(piece))
        words.update(found)
        pieces.update({word.casefold() for word in found})
    return len(starts), num_bytes


def residual_idf(count: int, pieces: int, num_pieces: int) -> float:
    """Bits by which a word's pieces are fewer than so many occurrences would fall on by chance (Poisson)."""
    return math.log2(-math.expm1(-count / num_pieces) * num_pieces / pieces)


def key_terms(words: Counter[str], pieces: Counter[str], num_pieces: int) -> list[tuple[str, int, int]]:
    """(word as it is mostly written, occurrences, pieces that hold it), the best first."""
    if num_pieces < LEAST_TEXT:
        return []
    counts: Counter[str] = Counter()
    written: dict[str, tuple[int, str]] = {}
    for word, count in words.items():
        folded = word.casefold()
        if len(folded) >= LEAST_LETTERS and pieces[folded] >= LEAST_PIECES:
            counts[folded] += count
            written[folded] = max(written.get(folded, (0, "")), (count, word))

    def score(word: str) -> float:
        residual = max(0.0, residual_idf(counts[word], pieces[word], num_pieces))
        return pieces[word] * residual**2 * math.log(len(word))

    best = sorted(counts, key=lambda word: (-score(word), word))[:SHOWN]
    return [(written[word][1], counts[word], pieces[word]) for word in best if score(word) > 0]


def terms(tok: Tokenizer, words: Counter[str], pieces: Counter[str], num_pieces: int, num_bytes: int) -> dict[str, Any]:
    """The section of the report: each term with its tokens, encoded as inside of a sentence, a space in front."""
    listed: list[dict[str, Any]] = []
    for word, count, held in key_terms(words, pieces, num_pieces):
        ids = tok.encode(" " + word)
        cut = [tok.decode([i]) for i in ids]
        listed.append({"word": word, "count": count, "pieces": held, "tokens": len(ids), "cut": cut})
    result: dict[str, Any] = {"rule": RULE, "bytes": num_bytes, "pieces": num_pieces, "terms": listed}
    if listed:
        result["one_token"] = sum(term["tokens"] == 1 for term in listed)
        result["tokens_per_term"] = round(sum(term["tokens"] for term in listed) / len(listed), 3)
    return result
