"""What is true of rows, by code of its own that shares nothing with the audit's.

Near duplicates: Jaccard similarity of the sets of word 3-grams, case-folded, of question and answer together. All pairs
at a threshold t come from an exact prefix filter: with the 3-grams of a set in one global order, the rarest first, two
sets of similarity t or more share one of the first n - ceil(t n) + 1 of each. Every pair that shares one is measured.
"""

import math
import re
from collections import Counter, defaultdict
from itertools import combinations

Shingles = frozenset[tuple[str, ...]]
NEAR = 0.8
MIN_WORDS = 50  # of a text that is compared


def words(text: str) -> list[str]:
    """Case-folded runs of letters, digits and underscores."""
    return re.findall(r"\w+", text.casefold())


def shingles(text: str) -> Shingles:
    """The set of 3 words in a row."""
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Size of the intersection over that of the union; 0 of two empty sets."""
    return len(a & b) / len(a | b) if a or b else 0.0


def pairs_brute(texts: list[str], threshold: float = NEAR) -> set[tuple[int, int]]:
    """All pairs of texts at the threshold or above, each pair measured."""
    sets = [shingles(text) for text in texts]
    return {(i, j) for i, j in combinations(range(len(sets)), 2) if jaccard(sets[i], sets[j]) >= threshold}


def pairs(texts: list[str], threshold: float = NEAR) -> set[tuple[int, int]]:
    """The same pairs by the prefix filter."""
    sets = [shingles(text) for text in texts]
    frequency = Counter(shingle for one in sets for shingle in one)
    posted: dict[tuple[str, ...], list[int]] = defaultdict(list)
    found = set()
    for j, one in enumerate(sets):
        ordered = sorted(one, key=lambda shingle: (frequency[shingle], shingle))
        # 1e-9: 0.8 x 5 is 4.000000000000000x in floats, and its ceiling must be 4.
        prefix = ordered[: len(one) - math.ceil(threshold * len(one) - 1e-9) + 1]
        candidates = {i for shingle in prefix for i in posted[shingle]}
        found |= {(i, j) for i in candidates if jaccard(sets[i], one) >= threshold}
        for shingle in prefix:
            posted[shingle].append(j)
    return found


def luhn(digits: str) -> bool:
    """Whether the checksum of a card number is right; what is no digit is passed over."""
    numbers = [int(digit) for digit in digits if digit.isdigit()]
    doubled = [2 * number for number in numbers[-2::-2]]
    return (sum(numbers[-1::-2]) + sum(number - 9 if number > 9 else number for number in doubled)) % 10 == 0


def loose(text: str) -> str:
    """Text without case, punctuation and white space: what a lenient comparison would call equal."""
    return "".join(words(text))


def control_characters(text: str) -> bool:
    """Whether there is a C0 control character other than tab and line ends, or DEL."""
    return re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text) is not None
