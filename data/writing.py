"""The folder of a corpus: a Parquet file for each split, the quarantine, the manifest; whole or not at all.

In: rows in a store, and where each goes (data/corpus.py). Each row is read once, in the order of its split: by a hash
of seed and content, so that what is read first is a sample of the whole. From JSON text to Parquet it is Arrow's way:
no row becomes a Python object.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_folder, file_sha256, fingerprint, read_json, write_json
from data.corpus import IN_BLOCKS, Corpus, hex_ids
from data.sources import SourceConfig
from data.split import SPLITS, order_key

_STRINGS = ["source", "kind", "text", "context", "question", "answer", "category", "difficulty", "group"]
DOCUMENT_SCHEMA = pa.schema(
    [("id", pa.string()), *((name, pa.string()) for name in _STRINGS), ("n_bytes", pa.int64()), ("origin", pa.string())]
)
QUARANTINE_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *((name, pa.string()) for name in ("reason", "detail", "raw"))])
FORMAT = 1
SEEN = ("id", "source", "category", "difficulty", "group")  # of a row; its id stands for its content
ROWS, BYTES = 4096, 64 << 20  # of a row group: one Arrow string column holds at most 2 GB


def write_corpus(
    corpus: Corpus, folder: Path, seed: int, sources: list[SourceConfig], more: dict[str, Any]
) -> dict[str, Any]:
    """Write splits, quarantine and manifest to `folder`; returns the manifest. `more` of the manifest is the caller's.

    Raises UserError where a split is empty, or where the folder holds a corpus of other content.
    """
    orders = {name: _in_order(corpus, corpus.of(name), seed) for name in SPLITS}
    for name, rows in orders.items():
        if not len(rows):
            raise UserError(f"the {name} split is empty after cleaning: {counted(Quarantine(corpus).reasons())}")
    with atomic_folder(folder) as temporary, _progress(corpus) as bar:
        marks = {}
        for name, rows in orders.items():
            marks[name] = _write_split(corpus, rows, temporary / f"{name}-00000.parquet", bar)
        mark = fingerprint(FORMAT, marks, sorted((str(source.name), source.weight) for source in sources))
        _refuse_other_corpus(folder, mark)
        quarantine = Quarantine(corpus)
        with pq.ParquetWriter(temporary / "quarantine-00000.parquet", QUARANTINE_SCHEMA, compression="zstd") as writer:
            for table in quarantine.tables():
                writer.write_table(table)
                bar.update(len(table))
        manifest = {
            "format": FORMAT,
            "fingerprint": mark,
            "rows_read": corpus.num_read,
            "pieces_added": len(corpus.pieces) - int((corpus.split == IN_BLOCKS).sum()),
            "splits": {name: _counts(corpus, rows) for name, rows in orders.items()},
            "quarantine": {
                "rows": len(quarantine.rows),
                "reasons": dict(quarantine.counts.most_common()),
                # Enough to look at without opening the file.
                "first": {reason: ": ".join(of) for reason, of in quarantine.first.items()},
            },
            **more,
        }
        check_accounts(corpus, manifest)
        manifest["sha256"] = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "manifest.json", manifest)
    return manifest


def _progress(corpus: Corpus) -> Any:
    total = int((corpus.split != IN_BLOCKS).sum())
    return tqdm(total=total, desc="writing", unit=" rows", leave=False, disable=None)


def _in_order(corpus: Corpus, rows: np.ndarray, seed: int) -> np.ndarray:
    keys = np.array([order_key(one, seed) for one in hex_ids(corpus.store.facts["id"][rows])], "S32")
    return rows[np.lexsort((rows, keys))] if len(rows) else rows


def _tables(corpus: Corpus, rows: np.ndarray, schema: pa.Schema) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """(rows, their columns), about a row group at a time; those that are out keep the group that a file gave them."""
    for part in corpus.store.chunks(rows, ROWS, BYTES):
        lines = b"".join(corpus.store.lines(part.tolist()))
        table = pj.read_json(
            io.BytesIO(lines),
            pj.ReadOptions(block_size=len(lines) + 1),
            pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        groups = [name or own for name, own in zip(corpus.groups(part), table["group"].to_pylist(), strict=True)]
        yield part, table.set_column(table.schema.get_field_index("group"), "group", pa.array(groups, pa.string()))


def _write_split(corpus: Corpus, rows: np.ndarray, path: Path, bar: Any) -> str:
    """Write the rows in their order. Returns a fingerprint of what training and evaluation see of them."""
    digest, gap = hashlib.sha256(b"[["), b""  # as common.files.fingerprint names a list of rows
    with pq.ParquetWriter(path, DOCUMENT_SCHEMA, compression="zstd") as writer:
        for part, table in _tables(corpus, rows, DOCUMENT_SCHEMA):
            writer.write_table(table)
            for seen in zip(*(table[name].to_pylist() for name in SEEN), strict=True):
                digest.update(gap + json.dumps(seen, ensure_ascii=False).encode())
                gap = b", "
            bar.update(len(part))
    digest.update(b"]]")
    return digest.hexdigest()[:16]


class Quarantine:
    """Rows that are out, with their reasons; counted while they are told."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.rows = corpus, corpus.out()
        self.counts: Counter[str] = Counter()
        self.first: dict[str, tuple[str, str]] = {}  # reason -> where and what

    def tables(self) -> Iterator[pa.Table]:
        """Columns of QUARANTINE_SCHEMA, in the order of places."""
        for part, table in _tables(self.corpus, self.rows, QUARANTINE_SCHEMA):
            told = zip(table["reason"].to_pylist(), table["detail"].to_pylist(), strict=True)
            verdicts = self.corpus.verdicts(part, list(told))
            assert all(reason for reason, _ in verdicts)
            for origin, (reason, detail) in zip(table["origin"].to_pylist(), verdicts, strict=True):
                self.counts[reason] += 1
                self.first.setdefault(reason, (origin, detail))
            for i, name in enumerate(("reason", "detail")):
                column = pa.array([verdict[i] for verdict in verdicts], pa.string())
                table = table.set_column(table.schema.get_field_index(name), name, column)
            yield table

    def reasons(self) -> Counter[str]:
        """How many rows are out for each reason."""
        for _ in self.tables():
            pass
        return self.counts


def counted(reasons: Counter[str]) -> str:
    """`empty 12, too_short 3`."""
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())


def _counts(corpus: Corpus, rows: np.ndarray) -> dict[str, Any]:
    source, size = corpus.store.facts["source"][rows], corpus.store.facts["n_bytes"][rows]
    by_source = {
        name: {"documents": int((source == number).sum()), "bytes": int(size[source == number].sum())}
        for number, name in enumerate(corpus.sources)
        if (source == number).any()
    }
    return {"documents": len(rows), "bytes": int(size.sum()), "sources": dict(sorted(by_source.items()))}


def check_accounts(corpus: Corpus, manifest: dict[str, Any]) -> None:
    """Nothing is lost, nothing is counted twice, no group stands on two sides."""
    documents = sum(split["documents"] for split in manifest["splits"].values())
    quarantined = sum(manifest["quarantine"]["reasons"].values())
    assert quarantined == manifest["quarantine"]["rows"]
    planted = manifest["canaries"]["rows"] if "canaries" in manifest else 0
    assert planted == corpus.num_planted, "planted rows are not told"
    assert manifest["rows_read"] + manifest["pieces_added"] + planted == documents + quarantined, "rows are missing"
    assert manifest["rows_read"] == sum(source["rows"] for source in manifest["sources"])
    whole = np.setdiff1d(corpus.of(*SPLITS), list(corpus.pieces))
    sides = np.unique(np.stack([corpus.group[whole], corpus.split[whole]]), axis=1)
    assert len(np.unique(sides[0])) == sides.shape[1], "a group is in two splits"


def _refuse_other_corpus(folder: Path, mark: str) -> None:
    """What was made of an older state of the files (a tokenizer, checkpoints) must not lose its corpus."""
    old = folder / "manifest.json"
    if old.exists() and read_json(old).get("fingerprint") != mark:
        raise UserError(
            f"{folder} holds a corpus of other content; nothing is overwritten: take another name with --run"
        )
