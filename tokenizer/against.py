"""Other tokenizers on the run's test split: what each makes of the same text, and whether it gives the text back.

In: paths of a tokenizer.json, a sentencepiece .model, or a folder with one; nothing is fetched. Each keeps its own
normaliser and split; its special tokens, truncation and padding are off. Tokens are counted document by document, each
field by itself, as this tokenizer's are. One that drops or changes text looks better than it is: what comes back from
decoding is held against the text, and unknown tokens are counted. Whether a corpus needs a tokenizer of its own is
asked only where one was trained on it and the other is not loam's, which the same user may have made otherwise.
"""

import math
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from common.files import file_sha256
from common.text import error_line
from tokenizer.bpe import Tokenizer
from tokenizer.encode import FIELDS
from tokenizer.measure import OTHERS, sampled
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
EQUAL = 0.02  # of the tokens: a difference below this decides nothing
LARGER = 1.2  # times: a vocabulary that is larger
LEAST = 10  # documents for an interval, and for an answer
MOST_SOURCES = 20
CANNOT = "Which one needs fewer tokens cannot be told"
SHOWN = 40  # characters around the first that does not come back


class Other(NamedTuple):
    """A tokenizer of any family."""

    name: str
    file: Path
    vocab_size: int
    unknown: int | None  # id of the token for what it has no token for
    encode: Callable[[list[str]], list[list[int]]]
    decode: Callable[[list[list[int]]], list[str]]
    loams: bool  # made by loam: its first tokens are loam's special tokens


def open_others(paths: str | None) -> list[Other]:
    """Tokenizers of a comma-separated list; UserError for what is none and for blank names; None: no list."""
    if paths is None:
        return []
    names = [name.strip() for name in paths.split(",")]
    if not all(names):
        raise UserError(
            f"--against '{paths}': a name is blank; name files or folders, separated by commas, as in a.json,b"
        )
    return [_open(Path(name)) for name in names]


def _open(path: Path) -> Other:
    if path.is_dir():
        file = next((path / name for name in FILES if (path / name).exists()), None)
        if file is None:
            raise UserError(f"--against {path}: the folder holds none of {', '.join(FILES)}")
    else:
        file = path
    if not file.is_file():
        raise UserError(f"--against {path}: no such file or folder (nothing is downloaded)")
    name = str(path)
    try:
        return _sentencepiece(name, file) if file.suffix == ".model" else _tokenizers(name, file)
    except Exception as error:  # both libraries raise plain ones for a damaged file
        raise UserError(f"--against {file}: not a tokenizer: {error_line(error)}") from None


def _tokenizers(name: str, file: Path) -> Other:
    import tokenizers

    found = tokenizers.Tokenizer.from_file(str(file))
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = True  # text that spells one is text here
    unknown = getattr(found.model, "unk_token", None)
    return Other(
        name, file, found.get_vocab_size(), None if unknown is None else found.token_to_id(unknown),
        lambda texts: [one.ids for one in found.encode_batch_fast(texts, add_special_tokens=False)],
        lambda ids: found.decode_batch(ids, skip_special_tokens=False),
        [found.id_to_token(i) for i in range(NUM_SPECIAL)] == list(SPECIAL_TOKENS),
    )  # fmt: skip


def _sentencepiece(name: str, file: Path) -> Other:
    import sentencepiece

    found = sentencepiece.SentencePieceProcessor(model_file=str(file))
    size = found.vocab_size()
    loams = [found.id_to_piece(i) for i in range(min(size, NUM_SPECIAL))] == list(SPECIAL_TOKENS)
    return Other(name, file, size, found.unk_id(), found.encode, found.decode, loams)


def compare(
    tok: Tokenizer, others: list[Other], corpus: Path, share: float, terms: list[str], taken: bool = False
) -> list[dict[str, Any]]:
    """One section a tokenizer, from the sample of the test split; `terms`: key terms, whose tokens are counted too.

    `taken`: `tok` was not trained on this corpus.
    """
    sources: list[str] = []
    own: list[int] = []
    num_bytes: list[int] = []
    theirs: list[list[int]] = [[] for _ in others]
    told: list[dict[str, Any]] = [{"unknown_tokens": 0, "changed_documents": 0, "changed": None} for _ in others]
    for table, _ in sampled(corpus, "test", share) if others else ():
        rows = [[text for text in row if text] for row in zip(*(table[f].to_pylist() for f in FIELDS), strict=True)]
        texts = list(chain.from_iterable(rows))
        document = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        sources += map(str, table["source"].to_pylist())
        num_bytes += _by_document(document, [len(text.encode()) for text in texts], len(rows))
        own += _by_document(document, list(map(len, tok.encode_batch(texts))), len(rows))
        for k, other in enumerate(others):
            ids = other.encode(texts)
            theirs[k] += _by_document(document, list(map(len, ids)), len(rows))
            told[k]["unknown_tokens"] += sum(of.count(other.unknown) for of in ids) if other.unknown is not None else 0
            differ = [text != back for text, back in zip(texts, other.decode(ids), strict=True)]
            told[k]["changed_documents"] += len(np.unique(document[differ]))
            if told[k]["changed"] is None and any(differ):
                first = differ.index(True)
                told[k]["changed"] = _first_change(texts[first], other.decode(ids[first : first + 1])[0])
    sections = []
    for k, other in enumerate(others):
        tokens = np.asarray(theirs[k])
        section = {
            "name": other.name,
            "file": other.file.name,
            "sha256": file_sha256(other.file),
            "vocab_size": other.vocab_size,
            "loams": other.loams,
            "documents": len(own),
            "bytes": sum(num_bytes),
            "tokens": int(tokens.sum()),
            "bytes_per_token": _ratio(sum(num_bytes), tokens.sum()),
            "own_tokens": sum(own),
            "own_bytes_per_token": _ratio(sum(num_bytes), sum(own)),
            **_fewer(np.asarray(own), tokens, sources),
            **told[k],
            "tokens_per_term": _ratio(sum(map(len, other.encode([" " + term for term in terms]))), len(terms)),
            "by_source": _by_source(sources, np.asarray(num_bytes), np.asarray(own), tokens),
        }
        section["verdict"] = verdict(section, tok.vocab_size, taken or other.loams)
        sections.append(section)
    return sections


def _by_document(document: np.ndarray, values: list[int], number: int) -> list[int]:
    return np.bincount(document, weights=values, minlength=number).astype(int).tolist()


def _ratio(number: float, of: float) -> float | None:
    return round(float(number) / float(of), 4) if of else None


def _fewer(own: np.ndarray, theirs: np.ndarray, sources: list[str]) -> dict[str, Any]:
    """How many fewer tokens this tokenizer needs, in percent of the other's, and its 95% interval over documents.

    Sources are strata: a document is held against the ratio of its own source, as what sources differ by is no noise.
    """
    total = float(theirs.sum())
    if not total:
        return {"fewer_percent": None, "ci95": None}
    fewer, ci = 100 * (1 - float(own.sum()) / total), None
    if len(own) >= LEAST:
        source = np.unique(sources, return_inverse=True)[1]
        ratio = np.bincount(source, weights=own) / np.maximum(1, np.bincount(source, weights=theirs))
        squares = float(((own - ratio[source] * theirs) ** 2).sum())
        error = 196 * math.sqrt(len(own) / (len(own) - 1) * squares) / total
        ci = [round(fewer - error, 2), round(fewer + error, 2)]
    return {"fewer_percent": round(fewer, 2), "ci95": ci}


def _by_source(sources: list[str], num_bytes: np.ndarray, own: np.ndarray, theirs: np.ndarray) -> list[dict[str, Any]]:
    largest = sorted(set(sources), key=lambda name: (-num_bytes[np.asarray(sources) == name].sum(), name))
    kept = largest[:MOST_SOURCES]
    names = np.asarray([name if name in kept else OTHERS for name in sources])
    rows = []
    for name in dict.fromkeys([*kept, *([OTHERS] if len(largest) > len(kept) else [])]):
        of = names == name
        size, own_tokens, tokens = (int(values[of].sum()) for values in (num_bytes, own, theirs))
        rows.append({"name": name, "documents": int(of.sum()), "bytes": size, "own_tokens": own_tokens,
                     "tokens": tokens, "own_bytes_per_token": _ratio(size, own_tokens),
                     "bytes_per_token": _ratio(size, tokens)})  # fmt: skip
    return rows


def _first_change(text: str, back: str) -> list[str]:
    """What stands around the first character that does not come back, before and after."""
    place = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    start = max(0, place - SHOWN // 2)
    return [text[start : start + SHOWN], back[start : start + SHOWN]]


def verdict(of: dict[str, Any], own_size: int, plain: bool = False) -> str:
    """Figures in one sentence, with their interval and what they rest on, and what follows from them.

    plain: which of the two needs fewer tokens; else whether the corpus needs a tokenizer of its own.
    """
    fewer, ci, documents = of["fewer_percent"], of["ci95"], of["documents"]
    if fewer is None:
        return f"{of['name']}: the test split has no text that could be compared"
    times = of["vocab_size"] / own_size
    factor, kind = max(times, 1 / times), "smaller" if times > 1 else "larger"
    many = f"{factor:.1f}" if factor < 10 else f"{factor:,.0f}"
    size = f"{many} times {kind}" if factor >= LARGER else "of the same size"
    interval = "" if ci is None else " [{:.3g}, {:.3g}]".format(*sorted(ci if fewer >= 0 else (-ci[0], -ci[1])))
    line = (
        f"{of['name']}: {of['bytes_per_token']:.2f} bytes a token, this one {of['own_bytes_per_token']:.2f}, in "
        f"{documents:,} document{'' if documents == 1 else 's'} ({of['bytes']:,} bytes) of the test split: "
        f"{abs(fewer):.3g}%{interval} {'fewer' if fewer >= 0 else 'more'} tokens with a vocabulary {size}"
    )
    flaws = " and ".join(_flaws(of))
    if ci is None:
        answer = f"{CANNOT}: {documents} document{' is' if documents == 1 else 's are'} too few"
    elif ci[0] <= 0 <= ci[1] and max(-ci[0], ci[1]) > 100 * EQUAL:
        answer = f"{CANNOT}: the interval holds 0"
    elif flaws and not plain and fewer <= 100 * EQUAL:
        return f"{line}. Yes, the corpus needs its own: the other one {flaws}, so its figure is of another text"
    else:
        answer = _answer(fewer, times >= LARGER, plain)
    return f"{line}. {answer}" + (f", with a reservation: the other one {flaws}" if flaws else "")


def _flaws(of: dict[str, Any]) -> list[str]:
    """What the other one makes of the text that is not the text."""
    flaws = []
    if of["changed_documents"]:
        flaws.append(f"does not give back {of['changed_documents']:,} of {of['documents']:,} documents")
    if of["unknown_tokens"]:
        flaws.append(f"has no token for parts of them ({of['unknown_tokens']:,} of its tokens are unknown ones)")
    return flaws


def _answer(fewer: float, smaller: bool, plain: bool) -> str:
    """What follows from a difference that can be told; smaller: this vocabulary is the smaller one."""
    if abs(fewer) <= 100 * EQUAL:
        equal = f"about as many tokens ({EQUAL:.0%} apart or less)"
        if plain:
            return f"They need {equal}"
        return f"Yes, for its size: {equal}, and fewer embeddings to learn" if smaller else f"No: both need {equal}"
    if plain:
        return "This one needs fewer tokens" if fewer > 0 else "The other one needs fewer tokens"
    if fewer > 0:
        return "Yes, the corpus is worth a tokenizer of its own: it needs fewer tokens"
    if smaller:
        return "Only for its size: the other one's larger vocabulary needs fewer tokens"
    return "No: the other one needs fewer tokens"
