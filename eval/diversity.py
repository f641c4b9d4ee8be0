"""Does a model say the same again and again: inside an answer, from answer to answer, or as its training answers do.

  answers -> words (data/detect/words.py) -> distinct n-grams, repeated n-grams, equal answers        (`diversity`)
  training split -> stock phrases of each source, as the audit finds and names them                   (`learn_stock`)
  answers, stock phrases -> how many answers, and which share of their bytes, are boilerplate         (`boilerplate`)

What is boilerplate is said in one place, data/detect/boilerplate.py: what audit.json names of rows is what is counted
in the answers of a model that was trained on these rows.

Shares are sums over sums. Distinct n-grams fall as more is said, so they compare only where answers are as many and
about as long: the number of n-grams stands beside each.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.canaries import SOURCE
from data.clean import normal
from data.detect.boilerplate import SAMPLE, stock_phrases, stock_rows, stock_spans
from data.detect.phrases import NAMED, counted, phrases_of, shown
from data.detect.words import words
from tokenizer.encode import read_corpus

LONGEST = 4  # n of n-grams
COMMONEST = 10  # stock phrases of answers that are named
BATCH = 1024  # texts whose phrases are found at a time
_READ = ["id", "source", "text", "answer"]


def diversity(answers: Sequence[str]) -> dict[str, Any]:
    """distinct_1 to distinct_4: different n-grams of words per n-gram, over all answers (None where there are none);
    num_1 to num_4: n-grams; equal_share: answers that another equals, but for white space and Unicode composition;
    repetition: 4-grams that stand before in the same answer, per 4-gram; num_answers, num_empty."""
    said = [words(answer) for answer in answers]
    facts: dict[str, Any] = {"num_answers": len(answers), "num_empty": sum(not answer.strip() for answer in answers)}
    for n in range(1, LONGEST + 1):
        grams = Counter(gram for one in said for gram in _ngrams(one, n))
        facts[f"distinct_{n}"] = len(grams) / grams.total() if grams else None
        facts[f"num_{n}"] = grams.total()
    own = [Counter(_ngrams(one, LONGEST)) for one in said]
    total = facts[f"num_{LONGEST}"]
    facts["repetition"] = sum(grams.total() - len(grams) for grams in own) / total if total else None
    copies = Counter(normal(answer) for answer in answers)
    facts["equal_share"] = sum(n for n in copies.values() if n > 1) / len(answers) if answers else None
    return facts


class Stock(NamedTuple):
    """What is boilerplate in a training split."""

    keys: np.ndarray  # uint64, sorted: of each stock phrase of any source
    phrases: list[dict[str, Any]]  # the commonest: "text", "where", "rows" that have it
    share: float | None  # of the rows that were looked at, that hold a stock phrase of their source; None of several


def learn_stock(corpus: Path, split: str = "train") -> Stock:
    """The phrases that are stock in the answers (of texts: in the texts) of the sources of a split.

    Learned and named as by the audit, on the SAMPLE distinct rows of a source with the smallest ids. Raises UserError
    where there is no corpus.
    """
    keys, phrases, num_rows, num_holders = [np.zeros(0, np.uint64)], list[dict[str, Any]](), 0, 0
    for source, (num, last) in _sampled(corpus, split).items():
        own = stock_phrases(_batches(_bodies(corpus, split, source, last)), num)
        holders, first = list[int](), 0
        for texts in _batches(_bodies(corpus, split, source, last)) if len(own) else ():
            holders += (first + np.flatnonzero(stock_rows(texts, own))).tolist()
            first += len(texts)
        chosen = set(counted(holders))
        rows = enumerate(_bodies(corpus, split, source, last) if chosen else ())
        phrases += phrases_of(((i, text, own) for i, text in rows if i in chosen), len(holders) / max(1, len(chosen)))
        keys.append(own)
        num_rows, num_holders = num_rows + num, num_holders + len(holders)
    named = [{"text": one["text"], "where": one["where"], "rows": one["count"]} for one in phrases]
    return Stock(np.unique(np.concatenate(keys)), _commonest(named), num_holders / max(1, num_rows))


def of_any(learned: Sequence[Stock]) -> Stock:
    """What is stock in any of several corpora. A phrase's rows are those of the corpus where it has most: corpora that
    are compared hold many of the same rows."""
    most: dict[tuple[str, str], dict[str, Any]] = {}
    for one in (phrase for stock in learned for phrase in stock.phrases):
        key = (one["where"], shown(one["text"]))
        if key not in most or one["rows"] > most[key]["rows"]:
            most[key] = one
    keys = np.unique(np.concatenate([np.zeros(0, np.uint64), *(stock.keys for stock in learned)]))
    return Stock(keys, _commonest([*most.values()]), None)


def boilerplate(answers: Sequence[str], stock: Stock) -> dict[str, Any]:
    """share: answers that hold a stock phrase; byte_share: their bytes inside of one, of all bytes; phrases: the
    commonest in the answers, [words, answers that hold it]; training: the commonest in the training split, and how many
    "answers" hold each; spans: of each answer, [start, end) in characters; num_stock: keys that were learned, 0 where
    no phrase is stock."""
    spans = [stock_spans(answer, stock.keys) if len(stock.keys) else [] for answer in answers]
    inside = sum(
        len(answer[span.start : span.end].encode("utf-8", "surrogatepass"))
        for answer, of in zip(answers, spans, strict=True)
        for span in of
    )
    num_bytes = sum(len(answer.encode("utf-8", "surrogatepass")) for answer in answers)
    phrases: Counter[str] = Counter()
    for answer, of in zip(answers, spans, strict=True):
        phrases.update({shown(answer[span.start : span.end]) for span in of})
    commonest = sorted(phrases.items(), key=lambda pair: (-pair[1], pair[0]))[:COMMONEST]
    return {
        "num_answers": len(answers),
        "num_stock": len(stock.keys),
        "share": sum(map(bool, spans)) / len(answers) if answers else None,
        "byte_share": inside / num_bytes if num_bytes else None,
        "phrases": [list(pair) for pair in commonest],
        "training": [{**one, "answers": phrases[shown(one["text"])]} for one in stock.phrases],
        "spans": [[(span.start, span.end) for span in of] for of in spans],
    }


def _commonest(phrases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(phrases, key=lambda one: (-one["rows"], one["where"], one["text"]))[:NAMED]


def _ngrams(said: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(said[k:] for k in range(n)), strict=False)


def _sampled(corpus: Path, split: str) -> dict[str, tuple[int, bytes]]:
    """Source -> (rows of its sample, the last of their ids). Equal rows have one id, and count once; planted ones
    (data/canaries.py) teach nothing."""
    ids: dict[str, np.ndarray] = {}
    for table in read_corpus(corpus, split, columns=["id", "source"]):
        names = np.array(table["source"].to_pylist(), object)
        own = np.array(table["id"].to_pylist(), "S")
        for source in set(names.tolist()) - {SOURCE}:
            have, new = ids.get(source, own[:0]), own[names == source]
            if len(have) == SAMPLE:
                new = new[new < have[-1]]  # few: a sort of all for each table would take seconds of a million rows
            ids[source] = np.unique(np.concatenate([have, new]))[:SAMPLE] if len(new) else have
    return {source: (len(ids[source]), max(ids[source].tolist())) for source in sorted(ids, key=str)}


def _bodies(corpus: Path, split: str, source: str, last: bytes) -> Iterator[str]:
    """The answer, or the text, of each distinct row of a source up to an id."""
    known = set[str]()
    for table in read_corpus(corpus, split, columns=_READ):
        for identity, of, text, answer in zip(*(table[name].to_pylist() for name in _READ), strict=True):
            if of == source and identity.encode() <= last and identity not in known:
                known.add(identity)
                yield (answer if text is None else text) or ""


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(texts, BATCH)):
        yield some
