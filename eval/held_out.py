"""Which documents the compared checkpoints are judged on: held out from every one of them.

  1. the test splits of the runs' corpora (or of one corpus that the user names), each document once
  2. minus every document that any compared run trained on, by id or by content (spelling, case and white space made
     equal), or whose group is in a training split; and with it the rest of its group
  3. cut to a number of documents by whole groups, in an order that content and seed decide

Training splits are streamed and only the hits kept, so memory grows with the test splits alone.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import UserError
from common.runs import RUNS
from data.duplicates import normalise
from tokenizer.encode import read_corpus

COLUMNS = ["id", "source", "kind", "text", "context", "question", "answer", "category", "difficulty", "group"]


@dataclass
class HeldOut:
    """Documents that no compared checkpoint trained on."""

    table: pa.Table  # COLUMNS
    groups: list[str]  # one a document; a document without a group is its own
    corpora: list[str]  # where they come from
    num_found: int  # documents of the test splits, each counted once
    num_removed: int  # of them, trained on by a compared run
    num_left_out: int  # of them, left out by the limit

    @property
    def num_groups(self) -> int:
        return len(set(self.groups))


def held_out(evaluated: Sequence[Path], trained_on: Iterable[Path], limit: int = 0, seed: int = 0) -> HeldOut:
    """Test documents of the corpora `evaluated` that are in no training split of `trained_on`; limit 0: all of them.

    UserError where nothing is left.
    """
    table = _test_documents(evaluated)
    groups = [group or document for group, document in zip(*_columns(table, "group", "id"), strict=True)]
    seen = _seen(table, groups, trained_on)
    unseen = np.flatnonzero(~seen)
    names = [str(corpus) for corpus in evaluated]
    if len(unseen) == 0:
        raise UserError(
            f"none of the {len(table):,} test documents of {', '.join(names)} is unknown to every compared checkpoint: "
            "name other data with --data RUN_OR_FOLDER"
        )
    keep = unseen[_limited([groups[i] for i in unseen], limit, seed)]
    return HeldOut(
        table=table.take(pa.array(keep)),
        groups=[groups[i] for i in keep],
        corpora=names,
        num_found=len(table),
        num_removed=int(seen.sum()),
        num_left_out=len(unseen) - len(keep),
    )


def find_corpus(name: str) -> Path:
    """The corpus folder that `--data` names: a corpus, a run's folder, or a run's name."""
    for folder in (Path(name), Path(name) / "corpus", RUNS / name / "corpus"):
        if (folder / "manifest.json").exists():
            return folder
    raise UserError(f"--data {name}: no corpus there (a folder with manifest.json, a run's folder, or a run's name)")


def read_manifest(corpus: Path) -> dict[str, Any]:
    """What `data/prepare.py` wrote about a corpus."""
    try:
        return json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{corpus}: no manifest.json; make the corpus with `python data/prepare.py`") from None
    except ValueError as error:
        raise UserError(f"{corpus}/manifest.json is damaged: {error}") from None


def content_key(row: dict[str, str | None]) -> str:
    """Hash of a document's content, the same for spellings that `data.duplicates.normalise` makes equal."""
    parts = [row["text"]] if row["text"] is not None else [row["question"], row["answer"]]
    joined = "\x00".join(normalise(part or "") for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _test_documents(corpora: Sequence[Path]) -> pa.Table:
    """All test documents, one each of those that several corpora hold."""
    table = pa.concat_tables(
        batch for corpus in corpora for batch in read_corpus(corpus, "test", columns=COLUMNS)
    ).select(COLUMNS)
    first: dict[str, int] = {}
    for i, row in enumerate(table.to_pylist()):
        first.setdefault(content_key(row), i)
    return table.take(pa.array(sorted(first.values())))


def _seen(table: pa.Table, groups: list[str], trained_on: Iterable[Path]) -> np.ndarray:
    """Mask of documents that a training split holds, or whose group it touches."""
    keys = [content_key(row) for row in table.to_pylist()]
    wanted_ids, wanted_keys, wanted_groups = set(table["id"].to_pylist()), set(keys), set(groups)
    ids: set[str] = set()
    contents: set[str] = set()
    tainted: set[str] = set()
    for corpus in trained_on:
        for batch in read_corpus(corpus, "train", columns=COLUMNS):
            for row in batch.to_pylist():
                if row["id"] in wanted_ids:
                    ids.add(row["id"])
                if (row["group"] or row["id"]) in wanted_groups:
                    tainted.add(row["group"] or row["id"])
                if (key := content_key(row)) in wanted_keys:
                    contents.add(key)
    direct = [
        document in ids or key in contents for document, key in zip(table["id"].to_pylist(), keys, strict=True)
    ]
    tainted |= {group for group, hit in zip(groups, direct, strict=True) if hit}
    return np.asarray([group in tainted for group in groups], dtype=bool)


def _limited(groups: list[str], limit: int, seed: int) -> np.ndarray:
    """Indices of documents to keep: whole groups in hash order until `limit` documents are there; order unchanged."""
    if limit == 0 or len(groups) <= limit:
        return np.arange(len(groups))
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    taken: set[str] = set()
    total = 0
    for group in sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        if total >= limit:
            break
        taken.add(group)
        total += sizes[group]
    return np.asarray([i for i, group in enumerate(groups) if group in taken])


def _columns(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]
