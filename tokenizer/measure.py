"""What a tokenizer makes of a corpus, counted as a stream: memory is bounded by vocabulary, parts and one slice.

  read_corpus -> slices -> the documents of the sample (by the hash of their ids: a larger share holds a smaller one)
              -> encode_table, as for training -> sums by source, category, language and length (Parts)
                                               -> of the training split, uses of each token and words of key terms

Sums rest on units: documents, long ones in blocks of BLOCK tokens, so that a figure of a few books has an interval.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.turns import texts_of
from tokenizer.bpe import Tokenizer
from tokenizer.encode import ABOUT, FIELDS, corpus_files, encode_table, read_corpus
from tokenizer.template import NUM_SPECIAL
from tokenizer.terms import TERM_BYTES, count_words

SPLITS = ("train", "val", "test")
SAMPLE_BYTES = 64 << 20  # of each split: all figures of more text agree to a fraction of a percent
LANGUAGE_DOCUMENTS = 1000  # of each split, 0.2 ms each
LONG_TEXT = 1 << 20  # characters
BLOCK = 1024  # tokens, about 4 KB: losses of such blocks of a novel correlate by 0.05 (docs/decisions.md)
BANDS = (256, 1024, 4096, 16384)  # bytes of a document
BAND_NAMES = ("under 256 B", "256 B to 1 kB", "1 to 4 kB", "4 to 16 kB", "16 kB and more")
MOST_VALUES = 1000  # of one dimension; what comes after these counts as OTHERS
OTHERS = "(others)"
SCRIPT_LETTERS = 100
SEED = 0
SUMS = ("documents", "bytes", "tokens", "words", "word_tokens", "single_bytes", "lone_bytes", "units", "bb", "bt", "tt")
# Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
UNSPACED_SHARE = 0.1  # of a document's characters: more, and it has no words to count

Parts = dict[tuple[str, str, str], np.ndarray]  # (dimension, value, split) -> SUMS; ("all", "", split) is the split


@dataclass
class Measured:
    """V: vocabulary size. Arrays are of the training split, markers of the template included."""

    parts: Parts
    counts: np.ndarray  # int64 (V,): uses of each token
    spread: np.ndarray  # int64 (V,): units that use it
    num_units: int
    shares: dict[str, float]  # of each split's documents that were counted
    languages: str  # what the languages rest on, or why there are none
    words: Counter[str] = field(default_factory=Counter)  # as written -> occurrences
    word_pieces: Counter[str] = field(default_factory=Counter)  # case-folded -> pieces of text that hold it
    cut: Counter[str] = field(default_factory=Counter)  # characters of which a token is a byte, in TERM_BYTES
    num_pieces: int = 0
    word_bytes: int = 0


def sample(corpus: Path, split: str, num_bytes: int) -> float:
    """The share of a split's documents that about `num_bytes` of text are."""
    total = sum(sum(table["n_bytes"].to_pylist()) for table in read_corpus(corpus, split, ["n_bytes"]))
    return min(1.0, num_bytes / max(1, total))


def sampled(corpus: Path, split: str, share: float) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Slices of the sample, and the place of each document in [0, 1): those below a smaller share are its sample.

    Of a text longer than LONG_TEXT that share is in, from its middle: a corpus of a few huge books has a sample too.
    """
    for table in read_corpus(corpus, split, [*FIELDS, *ABOUT]):
        places = np.asarray([zlib.crc32(f"{SEED} {name}".encode()) for name in table["id"].to_pylist()]) / 2**32
        if share < 1:
            long = pc.greater(pc.fill_null(pc.utf8_length(table["text"]), 0), LONG_TEXT).to_numpy()
            kept = (places < share) | long
            table, places = table.filter(pa.array(kept)), places[kept]
            if long.any():
                texts = pa.array([_middle(text, share) for text in table["text"].to_pylist()], pa.string())
                table = table.set_column(table.column_names.index("text"), "text", texts)
        if len(table):
            yield table, places


def _middle(text: str | None, share: float) -> str | None:
    if text is None or len(text) <= LONG_TEXT:
        return text
    length = int(share * len(text))
    start = (len(text) - length) // 2
    return text[start : start + length]


def measure(tok: Tokenizer, corpus: Path, sample_bytes: int = SAMPLE_BYTES) -> Measured:
    """Read a run's corpus once."""
    vocab = tok.vocab_size
    identify, why = _identifier()
    found = Measured({}, np.zeros(vocab, np.int64), np.zeros(vocab, np.int64), 0, {}, why)
    token_bytes = np.asarray(tok.token_bytes, dtype=np.int64)
    alone = token_bytes == 1
    lone = alone & np.asarray([i >= NUM_SPECIAL and tok.decode_bytes([i])[:1] > b"\x7f" for i in range(vocab)])
    looked_at = 0
    for split in SPLITS:
        share = found.shares[split] = sample(corpus, split, sample_bytes)
        documents = sum(pq.read_metadata(file).num_rows for file in corpus_files(corpus, split))
        language_share = min(share, LANGUAGE_DOCUMENTS / max(1, documents))
        term_share = sample(corpus, split, TERM_BYTES) / share
        for table, places in sampled(corpus, split, share):
            texts = [texts_of(row) for row in zip(*(table[f].to_pylist() for f in FIELDS), strict=True)]
            sums, ids, unit = _sums(table, texts, tok, token_bytes, alone, lone)
            languages = None
            if identify is not None:
                asked = places < language_share
                looked_at += int(asked.sum())
                languages = [_language(identify, of) if yes else None for of, yes in zip(texts, asked, strict=True)]
            _add(found.parts, split, sums, {"all": [""] * len(table), **_labels(table, texts, sums, languages)})
            if split != "train":
                continue
            found.counts += np.bincount(ids, minlength=vocab)
            of_content = ids[ids >= NUM_SPECIAL].astype(np.int64)
            found.spread += np.bincount(np.unique(unit * vocab + of_content) % vocab, minlength=vocab)
            found.num_units += int(sums["units"].sum())
            ends = np.cumsum(sums["tokens"])
            for i in np.flatnonzero((sums["lone_bytes"] > 0) & (places < term_share)):
                of_document = of_content[ends[i] - sums["tokens"][i] : ends[i]]
                found.cut.update(_cut("".join(texts[i]), token_bytes[of_document], lone[of_document]))
            for name, of in zip(table["id"].to_pylist(), texts, strict=True):
                for text in of:
                    amounts = count_words(text, name, term_share, found.words, found.word_pieces)
                    found.num_pieces, found.word_bytes = found.num_pieces + amounts[0], found.word_bytes + amounts[1]
    if identify is not None:
        found.languages = f"told by py3langid from the beginning of {looked_at:,} documents"
    return found


def _sums(
    table: pa.Table,
    texts: list[list[str]],
    tok: Tokenizer,
    token_bytes: np.ndarray,
    alone: np.ndarray,
    lone: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """SUMS of each of N documents, each (N,); ids of all with markers; the unit of each content token."""
    tokens = encode_table(table, tok)
    number = len(table)
    ids = np.asarray(tokens.ids)
    content = ids >= NUM_SPECIAL
    document = np.repeat(np.arange(number), tokens.lengths)[content]
    kept = ids[content]
    num_tokens = np.bincount(document, minlength=number)
    place = np.arange(len(kept)) - (np.cumsum(num_tokens) - num_tokens)[document]
    first = np.flatnonzero(place % BLOCK == 0)  # of each unit
    unit_tokens = np.diff([*first, len(kept)])
    unit_bytes = np.add.reduceat(token_bytes[kept], first) if len(first) else np.zeros(0, np.int64)
    of, sizes = document[first], np.stack([unit_bytes * unit_bytes, unit_bytes * unit_tokens, unit_tokens**2])
    words = np.asarray([_num_words(fields) for fields in texts])
    sums = {
        "documents": np.ones(number),
        "bytes": sum(tokens.table[f"bytes_{name}"].to_numpy() for name in FIELDS),
        "tokens": num_tokens,
        "words": np.maximum(0, words),
        "word_tokens": np.where(words >= 0, num_tokens, 0),
        "single_bytes": np.bincount(document, weights=alone[kept], minlength=number),
        "lone_bytes": np.bincount(document, weights=lone[kept], minlength=number),
        "units": np.bincount(of, minlength=number),
        **{name: np.bincount(of, weights=size, minlength=number)
           for name, size in zip(("bb", "bt", "tt"), sizes, strict=True)},
    }  # fmt: skip
    return sums, ids, np.cumsum(place % BLOCK == 0) - 1


def _cut(text: str, sizes: np.ndarray, lone: np.ndarray) -> list[str]:
    """Characters of which a token is a byte. sizes: int (N,), bytes of each token; lone: bool (N,), those that are."""
    starts = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) & 0xC0 != 0x80)  # of characters
    places = (np.cumsum(sizes) - sizes)[lone]
    return [text[i] for i in np.unique(np.searchsorted(starts, places, side="right") - 1)]


def _num_words(fields: list[str]) -> int:
    """Runs of characters between white space; -1 where the script has no spaces between words."""
    unspaced = sum(len(_UNSPACED.findall(text)) for text in fields if not text.isascii())
    if unspaced > UNSPACED_SHARE * sum(map(len, fields)):
        return -1
    return sum(len(text.split()) for text in fields)


def _script(fields: list[str]) -> int:
    """A number for the script of a document's longest field: the block of the middle one of its first characters."""
    start = sorted(max(fields, key=len, default="")[:SCRIPT_LETTERS])
    code = ord(start[len(start) // 2]) if start else 0
    return 0 if code < 0x250 else code >> 8 if code < 0x2E00 else 0xAC if 0xAC00 <= code < 0xD800 else 0x4E


def _labels(
    table: pa.Table, texts: list[list[str]], sums: dict[str, np.ndarray], languages: list[str | None] | None
) -> dict[str, list]:
    """Of each dimension the value of each document; None: it has none there. Kin: one source in one script."""
    sources = table["source"].to_pylist()
    labels = {
        "source": sources,
        "category": table["category"].to_pylist(),
        "length": [BAND_NAMES[i] for i in np.searchsorted(BANDS, sums["bytes"], side="right")],
        "kin": [f"{source} {_script(of)}" for source, of in zip(sources, texts, strict=True)],
    }
    return labels if languages is None else {**labels, "language": languages}


def _add(parts: Parts, split: str, sums: dict[str, np.ndarray], labels: dict[str, list]) -> None:
    """Add a slice's documents to the parts they belong to."""
    table = np.stack([sums[name] for name in SUMS], axis=1).astype(np.float64)
    for dimension, values in labels.items():
        names = sorted({value for value in values if value is not None})
        code = {name: i for i, name in enumerate(names)}
        codes = np.asarray([code.get(value, len(names)) for value in values])
        for i, name in enumerate(names):
            key = (dimension, name, split)
            if key not in parts and sum(of == dimension for of, _, _ in parts) >= MOST_VALUES:
                key = (dimension, OTHERS, split)
            parts[key] = parts.get(key, np.zeros(len(SUMS))) + table[codes == i].sum(axis=0)


def _identifier():  # type: ignore[no-untyped-def]
    """What tells a text's language, and why there is none."""
    try:
        import py3langid  # noqa: F401

        from data.detect.languages import identify
    except ImportError as error:
        return None, f"languages are not told: {error.name} is not installed"
    return identify, ""


def _language(identify, fields: list[str]) -> str:  # type: ignore[no-untyped-def]
    sure = identify(" ".join(fields[::-1])[:2000])  # an answer says more than its question
    code, share = next(iter(sure.items()), ("", 0.0))
    return code if share >= 0.5 else "unsure"
