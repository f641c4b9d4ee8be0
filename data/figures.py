"""The figures of an audit: sources, token lengths, what rows are about, how much there is.

In: the rows' facts (data/store.py) and their tokens (data/estimate.py). Out: parts of audit.json (docs/audit.md).
"""

from collections import Counter
from typing import Any

import numpy as np

from data.readers import detected
from data.sources import InputFile, SourceConfig
from data.store import Store

VALUES = 30  # of a category
BUCKETS = ((0, 128), (129, 256), (257, 384), (385, 512), (513, None))


def sources_told(
    store: Store,
    names: list[str],
    sources: list[SourceConfig],
    files: list[tuple[InputFile, SourceConfig]],
    tokens: np.ndarray,
) -> list[dict[str, Any]]:
    """Each source with its files, rows, bytes, tokens (int64 (N,), of each row) and the encodings of its files."""
    per_file = Counter(file.source for file, _ in files)
    total = max(1, int(store.facts["n_bytes"].sum())) if len(store) else 1
    told: list[dict[str, Any]] = []
    for number, (name, source) in enumerate(zip(names, sources, strict=True)):
        own = store.facts["source"] == number if len(store) else np.zeros(0, bool)
        size = int(store.facts["n_bytes"][own].sum()) if len(store) else 0
        told.append(
            {
                "name": name,
                "kind": source.kind,
                "files": per_file[name],
                "rows": int(own.sum()),
                "bytes": size,
                "tokens": int(tokens[own].sum()),
                "share": size / total,
                "encodings": _encodings([file for file, _ in files if file.source == name]),
            }
        )
    return told


def _encodings(files: list[InputFile]) -> list[dict[str, Any]]:
    """Files that are not UTF-8 beyond doubt, and what they were taken for."""
    found = ((file.shown, *detected(file)) for file in files)
    return [
        {"file": shown, "encoding": encoding or "undecided", "confidence": sure}
        for shown, encoding, sure in found
        if encoding not in ("utf-8", "utf-8-sig") or sure < 1
    ]


def length_tables(store: Store, names: list[str], tokens: np.ndarray, seq_len: int) -> dict[str, Any]:
    """Tables of the usable rows' tokens, of all of them and of each source."""
    if not len(store):
        return {"all": length_table(tokens, seq_len)}
    usable = store.facts["usable"]
    tables = {"all": length_table(tokens[usable], seq_len)}
    for number, name in enumerate(names):
        tables[name] = length_table(tokens[usable & (store.facts["source"] == number)], seq_len)
    return tables


def length_table(tokens: np.ndarray, seq_len: int) -> dict[str, Any]:
    """min, max, mean, median, p95, p99, the five buckets, and the share of rows longer than `seq_len`."""
    number = len(tokens)
    table: dict[str, Any] = {"rows": number}
    if not number:
        tokens = np.zeros(1, np.int64)
    table |= {"min": int(tokens.min()), "max": int(tokens.max()), "mean": float(tokens.mean())}
    for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99)):
        table[name] = float(np.quantile(tokens, share))
    table["buckets"] = []
    for low, high in BUCKETS:
        inside = int(((tokens >= low) & (tokens <= (high or tokens.max()))).sum()) if number else 0
        table["buckets"].append({"from": low, "to": high, "rows": inside, "share": inside / max(1, number)})
    table["cut_share"] = float((tokens > seq_len).mean()) if number else 0.0
    return table


def rows_of_sources(store: Store, names: list[str]) -> Counter[str]:
    """How many rows each source has that has any."""
    if not len(store):
        return Counter()
    counts = np.bincount(store.facts["source"], minlength=len(names)).tolist()
    return Counter({name: number for name, number in zip(names, counts, strict=True) if number})


def balance(counts: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """For each label its VALUES commonest values, cut to 80 characters, and all others together."""
    told: dict[str, dict[str, int]] = {}
    for name, counter in counts.items():
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        told[name] = {}
        for value, number in ranked[:VALUES]:
            told[name][value[:80]] = told[name].get(value[:80], 0) + number
        if ranked[VALUES:]:
            told[name]["(others)"] = sum(number for _, number in ranked[VALUES:])
    return told


def sizes_of(store: Store, tokens: np.ndarray, rows: np.ndarray) -> dict[str, int]:
    """Rows, tokens and bytes of those where `rows` (bool (N,)) is true."""
    size = int(store.facts["n_bytes"][rows].sum()) if len(store) else 0
    return {"rows": int(rows.sum()), "tokens": int(tokens[rows].sum()), "bytes": size}
