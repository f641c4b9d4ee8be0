"""Which documents the compared checkpoints are judged on: held out from every one of them.

  1. the test splits of the runs' corpora (or of one corpus that the user names), each document once
  2. a long text that is alone in its group is judged in blocks of about 2,000 bytes, each a document and a group: else
     a corpus of one book would be one piece of evidence, and nothing could ever be told from it
  3. minus every document that any compared run trained on: by content (case and white space made equal), or whose group
     is in a training split, or of whose 13-grams a training split holds half (leaks.py: a row that was cleaned in one
     corpus and not in the other, a page of a book, an answer inside a longer text); and with it the rest of its group
  4. cut to a number of documents by whole groups, in an order that content and seed decide

Training splits are streamed and only the hits kept, so memory grows with the test splits alone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import UserError
from common.runs import RUNS
from data.clean import normal
from eval.leaks import KNOWN, overlap_shares
from tokenizer.encode import read_corpus

# Bytes of a long text that are judged as one. Neighbours are nearly independent evidence: on 400 KB of a novel, how
# much better one checkpoint was correlated by 0.11, 0.05 and 0.06 between neighbouring blocks of 1, 2 and 4 KB.
BLOCK = 2048
COLUMNS = ["id", "source", "kind", "text", "context", "question", "answer", "category", "difficulty", "group"]


@dataclass
class HeldOut:
    """Documents that no compared checkpoint trained on."""

    table: pa.Table  # COLUMNS
    groups: list[str]  # one a document; a document without a group is its own
    corpora: list[str]  # where they come from
    num_found: int  # documents of the test splits, each counted once; a block is one
    num_removed: int  # of them, trained on by a compared run
    num_left_out: int  # of them, left out by the limit
    num_cut: int  # long texts that stand here as blocks
    known_to: dict[str, int]  # corpus -> test documents that its training split knows, all of them removed


def held_out(evaluated: Sequence[Path], trained_on: Iterable[Path], limit: int = 0, seed: int = 0) -> HeldOut:
    """Test documents of the corpora `evaluated` that are in no training split of `trained_on`; limit 0: all of them.

    UserError where nothing is left.
    """
    whole = _test_documents(evaluated)
    whole_groups = [group or document for group, document in zip(*_columns(whole, "group", "id"), strict=True)]
    table, groups, of = _in_blocks(whole, whole_groups)
    known = {
        str(corpus): _seen(whole, whole_groups, corpus)[of] | _overlapping(table, groups, corpus)
        for corpus in trained_on
    }
    seen = np.any([np.zeros(len(table), bool), *known.values()], axis=0)
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
        num_cut=int((np.bincount(of)[np.unique(of[keep])] > 1).sum()),
        known_to={name: int(own.sum()) for name, own in known.items()},
    )


def training_sample(corpus: Path, number: int) -> pa.Table:
    """About `number` documents of a training split, long texts in blocks as held-out ones are: the first of its files,
    whose order is that of a hash, so that they are a sample of it."""
    rows: list[dict[str, Any]] = []
    for batch in read_corpus(corpus, "train", columns=COLUMNS):
        blocks, _, _ = _in_blocks(batch, batch["id"].to_pylist())
        rows += blocks.select(COLUMNS).to_pylist()
        if len(rows) >= number:
            break
    step = max(1, len(rows) // number)  # of one book, blocks from all of it
    return pa.Table.from_pylist(rows[::step][:number], schema=pa.schema([(name, pa.string()) for name in COLUMNS]))


def sample_groups(sample: pa.Table) -> list[str]:
    """The group of each document of a `training_sample`; a block of a long text is one by itself."""
    each = zip(*_columns(sample, "id", "group"), strict=True)
    return [document if "/" in document or group is None else group for document, group in each]


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
    """Hash of a text, or of question and answer; equal where only case, white space or Unicode composition differ."""
    parts = [row["text"]] if row["text"] is not None else [row["question"], row["answer"]]
    joined = "\x00".join(normal(part or "").casefold() for part in parts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _test_documents(corpora: Sequence[Path]) -> pa.Table:
    """All test documents, one each of those that several corpora hold."""
    parts = [pa.concat_tables(read_corpus(corpus, "test", columns=COLUMNS)).select(COLUMNS) for corpus in corpora]
    table = pa.concat_tables(parts)
    first: dict[str, int] = {}
    for i, row in enumerate(table.to_pylist()):
        first.setdefault(content_key(row), i)
    return table.take(pa.array(sorted(first.values()), pa.int64()))


def _overlapping(table: pa.Table, groups: list[str], corpus: Path) -> np.ndarray:
    """Mask of documents of which the corpus' training split holds half of the 13-grams, and of the rest of their
    group."""
    tainted = {groups[i] for i in np.flatnonzero(overlap_shares(table, corpus) >= KNOWN).tolist()}
    return np.asarray([group in tainted for group in groups], dtype=bool)


def _seen(table: pa.Table, groups: list[str], corpus: Path) -> np.ndarray:
    """Mask of documents that the corpus' training split holds, or whose group it touches."""
    documents = table.select(["id", "text", "question", "answer"]).to_pylist()
    by_content = {content_key(row): i for i, row in enumerate(documents)}
    known_groups = set(groups)
    blocks: dict[str, list[int]] = {}  # whole text -> its blocks here
    for i, group in enumerate(groups):
        if "/" in group:
            blocks.setdefault(group.partition("/")[0], []).append(i)
    tainted: set[str] = set()
    for batch in read_corpus(corpus, "train", columns=["id", "text", "question", "answer", "group"]):
        for row in batch.to_pylist():
            group = row["group"] or row["id"]
            same = by_content.get(content_key(row))
            hits = {i for i in blocks.get(group.partition("/")[0], ()) if _overlaps(documents[i], row)}
            tainted |= {groups[i] for i in hits | ({same} if same is not None else set())}
            if group in known_groups:
                tainted.add(group)
    return np.asarray([group in tainted for group in groups], dtype=bool)


def _overlaps(block: dict[str, str], row: dict[str, str | None]) -> bool:
    """Whether a training row holds some of a block of the same text: two runs may have cut it at other places."""
    text, size = block["text"], len(block["text"])
    probes = [text[size * k // 8 : size * k // 8 + 80] for k in range(8)]
    return any(probe in (row["text"] or "") for probe in probes if len(probe) >= 40)


def _limited(groups: list[str], limit: int, seed: int) -> np.ndarray:
    """Indices of documents to keep: whole groups in hash order until `limit` documents are there; order unchanged."""
    if limit == 0 or len(groups) <= limit:
        return np.arange(len(groups))
    sizes = Counter(groups)
    taken: set[str] = set()
    total = 0
    for group in sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        if total >= limit:
            break
        taken.add(group)
        total += sizes[group]
    return np.asarray([i for i, group in enumerate(groups) if group in taken])


def _in_blocks(table: pa.Table, groups: list[str]) -> tuple[pa.Table, list[str], np.ndarray]:
    """(documents, their groups, of each the row it comes from): texts of more than two blocks that are alone in their
    group are cut, and ids and groups get the block's number."""
    sizes = Counter(groups)
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    of: list[int] = []
    for number, (row, group) in enumerate(zip(table.to_pylist(), groups, strict=True)):
        blocks = _blocks(row["text"]) if row["text"] is not None and sizes[group] == 1 else [""]
        of += [number] * len(blocks)
        if len(blocks) < 2:
            rows.append(row)
            names.append(group)
            continue
        for i, block in enumerate(blocks, start=1):
            rows.append({**row, "id": f"{row['id']}/{i}", "text": block})
            names.append(f"{group}/{i}")
    return pa.Table.from_pylist(rows, schema=table.schema), names, np.array(of, np.int64)


def _blocks(text: str) -> list[str]:
    """Pieces of about BLOCK bytes, together the text; each ends behind white space where there is some nearby."""
    size = len(text.encode("utf-8"))
    number = size // BLOCK
    if number < 3:
        return [text]
    ends = [0, *(_block_end(text, len(text) * k // number) for k in range(1, number)), len(text)]
    return [text[first:last] for first, last in pairwise(ends)]


def _block_end(text: str, wanted: int) -> int:
    """Behind the last line end, else the last space, of the 400 characters before; a block has at least 512."""
    for sign in ("\n", " "):
        if (at := text.rfind(sign, wanted - 400, wanted)) >= 0:
            return at + 1
    return wanted


def _columns(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]
