"""prepare: files -> rows -> clean -> groups -> splits -> Parquet. The story of a corpus, top to bottom.

    1. read      each file in daft becomes rows (data/readers.py), each row passes the per-row steps (data/clean.py)
    2. sort      by content, so that nothing after this line knows in which order files or threads came
    3. exact     duplicates out, the smallest by content stays (data/duplicates.py)
    4. group     near duplicates, shared fields, equal `group` values (data/duplicates.py)
    5. split     whole groups to train, val, test by quota; long texts cut into blocks (data/split.py)
    6. fitted    cleaning steps fitted on train, applied to all; what equals train leaves val, test (data/clean.py),
                 as do blocks of which another text of train holds a part (data/duplicates.py)
    7. write     the folder, whole or not at all: train, val, test, quarantine, manifest

Every row read is in a split or in quarantine: asserted before anything is written. The corpus is held in memory, about
ten times its size at the peak (0.7 GB for 54 MB).
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_folder, file_sha256, fingerprint, write_json
from common.text import one_line
from data.clean import (
    ALIKE,
    CHECKS,
    DEFAULT_STEPS,
    FITTED,
    REPAIRS,
    STEPS,
    FittedStep,
    clean_row,
    drop_equal_to_train,
    finish,
    run_fitted_steps,
)
from data.columns import ROW_COLUMNS, USER_ERROR, Row
from data.duplicates import drop_exact, drop_near, drop_overlapping, group_documents, shared_limit
from data.readers import read_file
from data.repairs import parse_bounds
from data.sources import InputFile, SourceConfig, check_sources, embedded_sources, list_files
from data.split import SPLITS, cut_text, order_key, plan_split

_STRINGS = ["source", "kind", "text", "context", "question", "answer", "category", "difficulty", "group"]
DOCUMENT_SCHEMA = pa.schema(
    [("id", pa.string()), *((name, pa.string()) for name in _STRINGS), ("n_bytes", pa.int64()), ("origin", pa.string())]
)
QUARANTINE_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *((name, pa.string()) for name in ("reason", "detail", "raw"))])
SORT_KEYS = ("id", "source", "category", "difficulty", "group", "origin")
FORMAT = 1
MANY_NEAR = 0.02  # of the rows: from then on prepare speaks of near duplicates


@dataclass
class PrepareConfig:
    """How files become splits.

    Args:
        val_share: share of the corpus's bytes to validate on
        test_share: share of the corpus's bytes to compare checkpoints on
        seed: another seed is another split
        min_bytes: shorter documents (all fields together, UTF-8) go to quarantine
        steps: cleaning steps, in their order (docs/audit.md): repairs html_to_text fix_mojibake strip_control
            cut_furniture; checks empty too_short length repetition refusal mojibake control_characters markup pii
            secret; alike exact_duplicate near_duplicate; fitted on the training split template truncated language
            boilerplate cut_boilerplate contamination
        skip: steps to leave out of those
        lengths: bounds in bytes for the step length, such as "answer 10..4000", "all ..20000"
        keep: rows of each template that stay
        questions: files whose questions the step contamination looks for, as evaluations are
    """

    val_share: float = 0.05
    test_share: float = 0.05
    seed: int = 0
    min_bytes: int = 8
    steps: list[str] = field(default_factory=lambda: list(DEFAULT_STEPS))
    skip: list[str] = field(default_factory=list)
    lengths: list[str] = field(default_factory=list)
    keep: int = 3
    questions: list[str] = field(default_factory=list)


def prepare(
    sources: list[SourceConfig],
    config: PrepareConfig,
    folder: Path,
    base: Path = Path("."),
    fitted_steps: list[FittedStep] | None = None,
) -> dict[str, Any]:
    """Write the corpus of `sources` to `folder` and return its manifest; no sources: the embedded corpus.

    Relative paths start from `base`. Raises UserError for what a user can mend, also where `folder` holds a corpus of
    other content; nothing is written then.
    """
    check_config(config)
    sources = check_sources(sources or embedded_sources())
    files = [(file, source) for source in sources for file in list_files(source, base)]
    table = read_sources(files, config)
    _raise_user_errors(table)
    notes = Counter(note for note in table["note"].to_pylist() if note)
    rows_of_source = Counter(table["source"].to_pylist())
    num_read = len(table)

    table = table.sort_by([(name, "ascending") for name in SORT_KEYS])
    usable = pc.is_null(table["reason"])
    quarantine = table.filter(pc.invert(usable)).to_pylist()
    documents = table.filter(usable)
    del table
    steps = [name for name in config.steps if name not in config.skip]
    if "exact_duplicate" in steps:
        documents, copies = drop_exact(documents)
        quarantine += copies.to_pylist()
    if not len(documents):
        raise UserError(_nothing_usable(num_read, quarantine))
    limit = shared_limit(sum(kind == "qa" for kind in documents["kind"].to_pylist()))
    groups, near = group_documents(documents)
    if "near_duplicate" in steps:
        documents, copies, groups, near = drop_near(documents, groups, near)
        quarantine += copies.to_pylist()
    elif (copied := len(documents) - len(np.unique(near))) > MANY_NEAR * len(documents):
        notes["nearly copies of others: python data/audit.py shows them, the step near_duplicate drops them"] = copied

    ids = documents["id"].to_pylist()
    sizes = documents["n_bytes"].to_numpy()
    is_text = pc.equal(documents["kind"], "text").to_numpy()
    plan = plan_split(ids, sizes, is_text, groups, near, config.val_share, config.test_share, config.seed)
    splits: dict[str, list[Row]] = {name: [] for name in SPLITS}
    num_cut = num_pieces_added = 0
    for i, row in enumerate(documents.to_pylist()):
        row["group"] = ids[groups[i]]
        if plan.splits[i] == "cut":
            pieces = _pieces(row, config)
            num_cut, num_pieces_added = num_cut + 1, num_pieces_added + len(pieces) - 1
            for name, piece in pieces:
                (quarantine if name == "gap" else splits[name]).append(piece)
        elif plan.splits[i] == "near_duplicate":
            keeper = documents["origin"][int(plan.keepers[i])].as_py()
            row |= {"reason": "near_duplicate", "detail": f"of {keeper}, which is cut between the splits"}
            quarantine.append(row)
        else:
            splits[plan.splits[i]].append(row)
    del documents

    quarantine += run_fitted_steps(splits, _fitted(config, steps, base) if fitted_steps is None else fitted_steps)
    quarantine += drop_equal_to_train(splits)
    quarantine += drop_overlapping(splits)
    for name, rows in splits.items():
        rows.sort(key=lambda row: (order_key(row["id"], config.seed), *(row[key] or "" for key in SORT_KEYS)))
        if not rows:
            raise UserError(f"the {name} split is empty after cleaning: {_reasons(quarantine)}")
    quarantine.sort(key=lambda row: (row["origin"], row["id"], row["reason"]))

    num_files = Counter(file.source for file, _ in files)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": _fingerprint(splits, sources),
        "rows_read": num_read,
        "pieces_added": num_pieces_added,
        "splits": {name: _counts(rows) for name, rows in splits.items()},
        "quarantine": {
            "rows": len(quarantine),
            "reasons": dict(Counter(row["reason"] for row in quarantine).most_common()),
            "first": _first_of_each_reason(quarantine),
        },
        "sources": [
            {
                "name": source.name,
                "kind": source.kind,
                "weight": source.weight,
                "files": num_files[str(source.name)],
                "rows": rows_of_source[source.name],
            }
            for source in sources
        ],
        "files": input_sizes(sources, base),
        "groups": len({row["group"] for rows in splits.values() for row in rows}),
        "cut": num_cut,
        "shared_limit": limit,
        "notes": dict(sorted(notes.items())),
        "config": asdict(config),
    }
    _check_accounts(manifest, splits, quarantine)
    _refuse_other_corpus(folder, manifest["fingerprint"])
    with atomic_folder(folder) as temporary:
        for name, rows in splits.items():
            _write(temporary / f"{name}-00000.parquet", rows, DOCUMENT_SCHEMA)
        _write(temporary / "quarantine-00000.parquet", quarantine, QUARANTINE_SCHEMA)
        manifest["sha256"] = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "manifest.json", manifest)
    return manifest


def check_config(config: PrepareConfig) -> None:
    """Raise UserError for values out of range."""
    for name in ("val_share", "test_share"):
        share = getattr(config, name)
        if not 0 < share < 0.5:
            raise UserError(f"{name} is a share of the corpus above 0 and below 0.5, as in 0.05, not {share}")
    if config.min_bytes < 0:
        raise UserError(f"min_bytes is 0 or more, not {config.min_bytes}")
    for setting in ("steps", "skip"):
        for name in getattr(config, setting):
            if name not in STEPS:
                raise UserError(f"{setting}: no cleaning step {name!r} (there are: {', '.join(STEPS)})")
    order = [
        next(i for i, sort in enumerate((REPAIRS, CHECKS, ALIKE, FITTED)) if name in sort) for name in config.steps
    ]
    for (name, sort), (following, next_sort) in pairwise(zip(config.steps, order, strict=True)):
        if next_sort < sort:
            raise UserError(f"steps: {following} runs before {name}, whatever is written: name it before it")
    if len(set(config.steps)) < len(config.steps):
        raise UserError("steps: a step is named twice")
    if config.keep < 0:
        raise UserError(f"keep is a number of rows, 0 or more, not {config.keep}")
    bounds = parse_bounds(config.lengths)
    for setting, given, step in (("lengths", bounds, "length"), ("questions", config.questions, "contamination")):
        if bool(given) != (step in config.steps):
            raise UserError(f"{setting} and the step {step} need each other: name both or none")


def input_sizes(sources: list[SourceConfig], base: Path) -> list[list[Any]]:
    """[name, bytes] of every file that the sources name now: what a corpus was made of, and whether that changed."""
    files = [file for source in check_sources(sources or embedded_sources()) for file in list_files(source, base)]
    return [[file.shown, file.path.stat().st_size if file.path.exists() else 0] for file in files]


# -- reading


def read_sources(files: list[tuple[InputFile, SourceConfig]], config: PrepareConfig) -> pa.Table:
    """All rows of all files, cleaned row by row, in any order; columns: ROW_COLUMNS, id, n_bytes, key."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # daft calls home otherwise
    import daft

    text, number = daft.DataType.string(), daft.DataType.int64()
    names = [*ROW_COLUMNS, "id", "key"]
    schema = daft.DataType.struct({**dict.fromkeys(names, text), "n_bytes": number})
    steps = [name for name in config.steps if name not in config.skip]
    bounds = parse_bounds(config.lengths)
    bar = tqdm(total=len(files), desc="reading", unit="file", leave=False, disable=None)

    @daft.func(return_dtype=schema)
    def rows(index: int) -> Iterator[Row]:
        file, source = files[index]
        for row in read_file(file, source):
            yield clean_row(row, config.min_bytes, steps, bounds)
        bar.update()

    frame = daft.from_pydict({"index": list(range(len(files)))}).select(rows(daft.col("index")).alias("row"))
    frame = frame.select(daft.col("row").unnest())
    table = frame.to_arrow()
    bar.close()
    return table.filter(pc.is_valid(table["origin"]))


def _fitted(config: PrepareConfig, steps: list[str], base: Path) -> list[FittedStep]:
    if not any(name in FITTED for name in steps):
        return []
    from data.guess import asked_in
    from data.steps import fitted_steps  # which needs what only reading files needs

    return fitted_steps(steps, config.keep, asked_in([str(base / name) for name in config.questions]))


def _raise_user_errors(table: pa.Table) -> None:
    errors = table.filter(pc.equal(table["reason"], USER_ERROR)).sort_by("origin")
    if len(errors):
        raise UserError(errors["detail"][0].as_py())


def _nothing_usable(num_read: int, quarantine: list[Row]) -> str:
    first = min(quarantine, key=lambda row: row["origin"])
    return (
        f"no usable row: {num_read:,} read, all rejected ({_reasons(quarantine)}); "
        f"the first: {first['origin']}: {first['reason']}: {first['detail']}"
    )


def _first_of_each_reason(quarantine: list[Row]) -> dict[str, str]:
    """reason -> where and what, of the first row with it: enough to look at without opening the Parquet file."""
    first: dict[str, str] = {}
    for row in quarantine:
        first.setdefault(row["reason"], f"{row['origin']}: {row['detail']}")
    return first


def _reasons(quarantine: list[Row]) -> str:
    counts = Counter(row["reason"] for row in quarantine)
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())


# -- splitting


def _pieces(row: Row, config: PrepareConfig) -> list[tuple[str, Row]]:
    """The blocks of a long text as rows; their group is the text's with the split's name."""
    pieces = []
    offset = 0
    for name, start, end in cut_text(row["text"], config.val_share, config.test_share):
        text = row["text"][start:end]
        size = len(text.encode())
        piece = {**row, "text": text, "origin": f"{row['origin']}[{offset}:{offset + size}]"}
        piece["group"] = f"{row['group']}/{name}"
        if name == "gap":
            piece |= {"reason": "gap", "detail": "between the splits of a text that is cut"}
        pieces.append((name, finish(piece)))
        offset += size
    assert offset == row["n_bytes"]
    return pieces


# -- writing


def _fingerprint(splits: dict[str, list[Row]], sources: list[SourceConfig]) -> str:
    """Of what training and evaluation see: the splits' content and labels in order, and the weights."""
    seen = ("id", "source", "category", "difficulty", "group")
    rows = {name: fingerprint([[row[key] for key in seen] for row in rows]) for name, rows in splits.items()}
    return fingerprint(FORMAT, rows, sorted((str(source.name), source.weight) for source in sources))


def _counts(rows: list[Row]) -> dict[str, Any]:
    by_source: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = by_source.setdefault(row["source"], {"documents": 0, "bytes": 0})
        counts["documents"] += 1
        counts["bytes"] += row["n_bytes"]
    total = {"documents": len(rows), "bytes": sum(row["n_bytes"] for row in rows)}
    return {**total, "sources": dict(sorted(by_source.items()))}


def _check_accounts(manifest: dict[str, Any], splits: dict[str, list[Row]], quarantine: list[Row]) -> None:
    """Nothing is lost, nothing is counted twice, no group stands on two sides."""
    documents = sum(split["documents"] for split in manifest["splits"].values())
    assert manifest["rows_read"] + manifest["pieces_added"] == documents + len(quarantine), "rows are missing"
    assert manifest["rows_read"] == sum(source["rows"] for source in manifest["sources"])
    assert all(row["reason"] for row in quarantine)
    side: dict[str, str] = {}
    for name, rows in splits.items():
        for row in rows:
            assert side.setdefault(row["group"], name) == name, f"group {row['group']} is in two splits"


def _refuse_other_corpus(folder: Path, fingerprint: str) -> None:
    """What was made of an older state of the files (a tokenizer, checkpoints) must not lose its corpus."""
    old = folder / "manifest.json"
    if old.exists() and json.loads(old.read_text(encoding="utf-8")).get("fingerprint") != fingerprint:
        raise UserError(
            f"{folder} holds a corpus of other content; nothing is overwritten: take another name with --run"
        )


def _write(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Rows as Parquet, a few thousand at a time: one Arrow string column holds at most 2 GB."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, max(len(rows), 1), 4096):
            chunk = [{name: row.get(name) for name in schema.names} for row in rows[start : start + 4096]]
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def summary(manifest: dict[str, Any]) -> list[str]:
    """What was read, what became of it, in lines for a terminal."""
    lines = []
    for source in manifest["sources"]:
        lines.append(
            f"read   {source['name']}: {source['rows']:,} rows in {source['files']:,} files ({source['kind']})"
        )
    for note, count in manifest["notes"].items():
        lines.append(f"note   {note} ({count:,} rows)")
    quarantine, rows = manifest["quarantine"], manifest["rows_read"]
    lines.append(f"quarantine: {quarantine['rows']:,} of {rows + manifest['pieces_added']:,} rows and blocks")
    for reason, count in quarantine["reasons"].items():
        lines.append(f"  {reason:<16} {count:>9,}   first: {one_line(quarantine['first'][reason], 150)}")
    if "encoding" in quarantine["reasons"]:
        lines.append('  files in another encoding can be read by naming it in their [[source]]: encoding = "cp1252"')
    if manifest["cut"]:
        lines.append(
            f"cut    {manifest['cut']:,} texts of over 2% of the corpus into blocks train | gap | val | gap | test"
        )
    total = sum(split["bytes"] for split in manifest["splits"].values())
    lines.append(f"splits: {manifest['groups']:,} groups of related documents, none on two sides")
    for name, split in manifest["splits"].items():
        share = split["bytes"] / total
        lines.append(f"  {name:<6} {split['documents']:>9,} documents {split['bytes']:>13,} bytes  {share:6.1%}")
    return lines
