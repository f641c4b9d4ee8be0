"""What a vocabulary is used for: tokens that training shows a model never, seldom, or in few documents only.

In: uses of each token in the training split, and the units (measure.py) that use it; characters that are cut into
bytes. Out: sections of the report.

Of tokens that are never used, most BPE tokens are pieces: they stand inside of a longer token, which is always taken in
their place. Bytes are there so that every text can be encoded. What is neither is a glitch token: it never comes out of
encoding the training text, which mostly lacks its letters and otherwise cuts them in other ways, so a prompt that
holds it meets an embedding that was never trained.
"""

from collections import Counter
from typing import Any

import numpy as np

from tokenizer.bpe import Tokenizer
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

RARE = 10  # uses in the training split; fewer are almost none
LISTED = 30
USE_BANDS = (1, RARE, 100, 1000, 10_000)
BAND_NAMES = ("never", f"1 to {RARE - 1}", f"{RARE} to 99", "100 to 999", "1,000 to 9,999", "10,000 or more")
# A token of few documents: long, used as a word of the text is, and all of it in so few units that one text taught it.
LONG, FEW_UNITS, FEW_SHARE = 10, 5, 0.0001


def usage(tok: Tokenizer, counts: np.ndarray, spread: np.ndarray, num_units: int) -> dict[str, Any]:
    """counts, spread: int64 (V,). Ids of special tokens are told apart, and in no other figure."""
    sizes = np.asarray(tok.token_bytes)
    ordinary = np.arange(len(counts)) >= NUM_SPECIAL
    made = ordinary.copy()  # by merges, or of the text's characters: a vocabulary of any size has the 256 bytes
    made[_byte_tokens(tok, sizes)] = False
    never = np.flatnonzero(ordinary & (counts == 0))
    rare = np.flatnonzero(ordinary & (counts > 0) & (counts < RARE))
    inside = _inside_longer(tok, never[sizes[never] > 1], np.flatnonzero(ordinary & (counts > 0)))
    pieces = [i for i in never if i in inside]
    glitch = [i for i in never if sizes[i] > 1 and i not in inside]
    few = max(FEW_UNITS, int(FEW_SHARE * num_units))
    local = np.flatnonzero(ordinary & (sizes >= LONG) & (counts >= RARE) & (spread <= few))
    local = local[np.lexsort((local, -sizes[local] * counts[local]))]
    bands = np.bincount(np.searchsorted(USE_BANDS, counts[ordinary], side="right"), minlength=len(BAND_NAMES))

    def told(ids: Any, most: int = LISTED) -> list[dict[str, Any]]:
        return [
            {"id": int(i), "text": _shown(tok.decode_bytes([int(i)])), "bytes": int(sizes[i]), "count": int(counts[i]),
             "units": int(spread[i])} for i in ids[:most]
        ]  # fmt: skip

    by_size = sorted(pieces, key=lambda i: (-sizes[i], i))
    return {
        "tokens": int(ordinary.sum()),
        "uses": int(counts[ordinary].sum()),
        "units": num_units,
        "made": int(made.sum()),
        "made_never": int(made[never].sum()),
        "made_rare": int(made[rare].sum()),
        "unused_special": [SPECIAL_TOKENS[i] for i in range(NUM_SPECIAL) if not counts[i]],
        "never": len(never),
        "bytes_never": int((sizes[never] == 1).sum()),
        "pieces_never": len(pieces),
        "pieces": told(by_size),
        "typed": sum(_comes_out(tok, int(i)) for i in [*pieces, *glitch]),
        "glitch_never": len(glitch),
        "glitch": told(glitch),
        "rare_under": RARE,
        "rare": len(rare),
        "rare_tokens": told(rare[np.lexsort((rare, counts[rare]))]),
        "bands": [{"uses": name, "tokens": int(n)} for name, n in zip(BAND_NAMES, bands, strict=True)],
        "for_99_percent": int(_needed(counts[ordinary], 0.99)),
        "local_rule": f"{LONG} bytes or more, used {RARE} times or more, all in at most {few} documents or blocks",
        "local": len(local),
        "local_signs": sum(not any(c.isalnum() for c in tok.decode([int(i)])) for i in local),
        "local_tokens": told(local),
    }


def cut_characters(counted: Counter[str]) -> dict[str, Any]:
    """How many characters are cut so that a token is a byte of them, and the first by how often they are."""
    first = sorted(counted, key=lambda c: (-counted[c], c))[:LISTED]
    shown = [{"text": c if c.isprintable() else f"U+{ord(c):04X}", "count": counted[c]} for c in first]
    return {"number": len(counted), "first": shown}


def _byte_tokens(tok: Tokenizer, sizes: np.ndarray) -> list[int]:
    """The token of each byte: the first that is only it. A vocabulary of characters has them before its letters."""
    alone = np.flatnonzero(sizes == 1).tolist()
    return list({tok.decode_bytes([i]): i for i in reversed(alone)}.values())


def _shown(content: bytes) -> str:
    """A token's text; bytes that are no text by themselves as hexadecimal digits."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"<{content.hex(' ')}>"


def _inside_longer(tok: Tokenizer, ids: np.ndarray, used: np.ndarray) -> set[int]:
    """Those of `ids` whose bytes stand inside of a token that is used: so they do stand in the training text."""
    # One letter a byte, and between tokens a letter that is no byte: one search goes through the whole vocabulary.
    letters = "\u0100".join(tok.decode_bytes([int(i)]).decode("latin-1") for i in used)
    return {int(i) for i in ids if tok.decode_bytes([int(i)]).decode("latin-1") in letters}


def _comes_out(tok: Tokenizer, i: int) -> bool:
    """Whether somebody who types just this token's text gets the token."""
    try:
        text = tok.decode_bytes([i]).decode()
    except UnicodeDecodeError:
        return False
    return tok.encode(text) == [i]


def _needed(counts: np.ndarray, share: float) -> int:
    """How many of the most used tokens make up that share of all uses."""
    total = np.cumsum(np.sort(counts)[::-1])
    return int(np.searchsorted(total, share * total[-1])) + 1 if len(total) and total[-1] else 0
