"""prepare: files -> rows -> clean -> groups -> splits -> Parquet. The story of a corpus, top to bottom.

    1. gather    each file becomes rows, each row passes the steps for one row (data/gather.py); numbered by content,
                 so nothing after this line knows in which order files or threads came
    2. exact     duplicates out, the first by content stays (data/duplicates.py)
    3. group     near duplicates, shared fields, equal `group` values (data/duplicates.py)
    4. split     whole groups to train, val, test by quota; long texts cut into blocks (data/split.py)
    5. fitted    cleaning steps fitted on train, applied to all (data/fitting.py); what equals train leaves val, test,
                 as do blocks of which another text of train holds a part (data/overlaps.py)
    6. plant     canaries into train, where they were asked for (data/canaries.py)
    7. write     the folder, whole or not at all: train, val, test, quarantine, manifest (data/writing.py)

Every row read is in a split or in quarantine: asserted before the folder takes its name. Rows lie in a temporary file
beside it, about as large as the input; about 420 bytes a row are held in memory.
"""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import scratch_folder
from common.text import one_line
from data.canaries import SOURCE, made, rows_of, told
from data.clean import FITTED
from data.config import Engine, PrepareConfig, check_config
from data.corpus import EQUAL, EXACT, NEAR, NEAR_CUT, Corpus, hex_ids
from data.duplicates import first_copies, group_documents, longest_copies, shared_limit
from data.facts import Settings
from data.fitting import FittedStep, equal_to_earlier, run_step
from data.gather import gather
from data.guess import asked_in
from data.overlaps import overlapping
from data.repairs import parse_bounds
from data.sources import SourceConfig, check_sources, embedded_sources, list_files
from data.split import SPLITS, plan_split
from data.steps import fitted_steps as steps_of
from data.writing import Quarantine, counted, write_corpus

MANY_NEAR = 0.02  # of the rows: from then on prepare speaks of near duplicates


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
    names = tuple(str(source.name) for source in sources)
    if config.canaries and SOURCE in names:
        raise UserError(f"a source is named {SOURCE}, as the planted rows are: give it another name")
    files = [(file, source) for source in sources for file in list_files(source, base)]
    steps = [name for name in config.steps if name not in config.skip]
    settings = Settings(names, config.min_bytes, tuple(steps), parse_bounds(config.lengths))
    with scratch_folder(folder.parent / f".{folder.name}.rows") as scratch:
        store, notes, _ = gather(files, settings, scratch, config.engine)
        corpus = Corpus(store, names)
        split(corpus, config, steps, notes)
        clean_splits(corpus, _fitted(config, steps, base) if fitted_steps is None else fitted_steps, config.engine)
        canaries = plant(corpus, config) if config.canaries else {}
        counts = np.bincount(store.facts["source"][: corpus.num_read], minlength=len(names)).tolist()
        return write_corpus(
            corpus,
            folder,
            config.seed,
            sources,
            {
                "sources": [
                    {
                        "name": source.name,
                        "kind": source.kind,
                        "weight": source.weight,
                        "files": sum(file.source == source.name for file, _ in files),
                        "rows": rows,
                    }
                    for source, rows in zip(sources, counts, strict=True)
                ],
                "files": input_sizes(sources, base),
                "groups": corpus.num_groups(),
                "cut": len({text for text, _ in corpus.pieces.values()}),
                "shared_limit": corpus.shared_limit,
                "notes": dict(sorted(notes.items())),
                "config": asdict(config),
                **canaries,
            },
        )


def split(corpus: Corpus, config: PrepareConfig, steps: list[str], notes: Counter[str]) -> None:
    """Exact duplicates out, groups, near duplicates out, splits; long texts become blocks. Raises UserError."""
    store = corpus.store
    rows = np.flatnonzero(store.facts["usable"]) if len(store) else np.zeros(0, np.int64)
    if "exact_duplicate" in steps and len(rows):
        first = first_copies(store, rows)
        corpus.drop(rows[first != rows], EXACT, first[first != rows])
        rows = rows[first == rows]
    if not len(rows):
        raise UserError(_nothing_usable(corpus))
    corpus.shared_limit = shared_limit(int((~store.facts["is_text"][rows]).sum()))
    groups, near = group_documents(store, rows)
    if "near_duplicate" in steps:
        best = longest_copies(store, rows, near)
        stays = best == rows
        corpus.drop(rows[~stays], NEAR, best[~stays])
        rows, groups, near = rows[stays], groups[stays], near[stays]
    elif (copied := len(rows) - len(np.unique(near))) > MANY_NEAR * len(rows):
        notes["nearly copies of others: python data/audit.py shows them, the step near_duplicate drops them"] = copied
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    groups = first[of]  # the first of those that stay: its id names the group
    sizes, is_text = store.facts["n_bytes"][rows], store.facts["is_text"][rows]
    shares = (config.val_share, config.test_share)
    plan = plan_split(hex_ids(store.facts["id"][rows]), sizes, is_text, groups, near, *shares, config.seed)
    corpus.group[rows] = rows[groups]
    for number, name in enumerate(SPLITS):
        corpus.split[rows[plan.splits == name]] = number
    copies = plan.splits == "near_duplicate"
    corpus.drop(rows[copies], NEAR_CUT, rows[plan.keepers[copies]])
    for row in rows[plan.splits == "cut"].tolist():
        corpus.cut(row, *shares)


def clean_splits(corpus: Corpus, steps: list[FittedStep], engine: Engine) -> None:
    """Steps fitted on train, applied to all; then what has become equal to train, or overlaps it, leaves val, test."""
    store = corpus.store
    for step in steps:
        run_step(store, corpus.of("train"), corpus.of("val", "test"), step, corpus.sources, engine)
        corpus.drop(corpus.of(*SPLITS)[~store.facts["usable"][corpus.of(*SPLITS)]])
    for i, j, rows in equal_to_earlier(store, [corpus.of(name) for name in SPLITS]):
        corpus.drop(rows, EQUAL[SPLITS[j], SPLITS[i]])
    blocks = np.array([row for row in corpus.of("val", "test").tolist() if row in corpus.pieces], np.int64)
    train = corpus.of("train")
    train = train[store.facts["is_text"][train]]
    cut_from = {row: text for row, (text, _) in corpus.pieces.items()}
    for row, evidence in overlapping(store, blocks, train, cut_from).items():
        corpus.drop(np.array([row]), said=("overlaps_train", evidence))


def plant(corpus: Corpus, config: PrepareConfig) -> dict[str, Any]:
    """Canaries go to train: texts where most of it is, else questions with answers. Returns what the manifest says."""
    train = corpus.of("train")
    kind = "text" if 2 * int(corpus.store.facts["is_text"][train].sum()) > len(train) else "qa"
    canaries = made(config.canaries, config.canary_copies, kind, config.seed)
    corpus.plant(rows_of(canaries), SOURCE)
    return {"canaries": told(canaries)}


def _nothing_usable(corpus: Corpus) -> str:
    quarantine = Quarantine(corpus)
    reasons = quarantine.reasons()
    if not reasons:
        return "no usable row: there is none in any file"
    reason, (origin, detail) = next(iter(quarantine.first.items()))
    return (
        f"no usable row: {corpus.num_read:,} read, all rejected ({counted(reasons)}); "
        f"the first: {origin}: {reason}: {detail}"
    )


def _fitted(config: PrepareConfig, steps: list[str], base: Path) -> list[FittedStep]:
    if not any(name in FITTED for name in steps):
        return []
    return steps_of(steps, config.keep, asked_in([str(base / name) for name in config.questions]))


def input_sizes(sources: list[SourceConfig], base: Path) -> list[list[Any]]:
    """[name, bytes] of every file that the sources name now: what a corpus was made of, and whether that changed."""
    files = [file for source in check_sources(sources or embedded_sources()) for file in list_files(source, base)]
    return [[file.shown, file.path.stat().st_size if file.path.exists() else 0] for file in files]


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
    if canaries := manifest.get("canaries"):
        size = manifest["splits"]["train"]["sources"][canaries["source"]]["bytes"]
        lines.append(
            f"canaries: {len(canaries['made']):,} made sentences, planted in train as {canaries['rows']:,} rows "
            f"({size:,} bytes, source {canaries['source']!r}); manifest.json lists them"
        )
    total = sum(split["bytes"] for split in manifest["splits"].values())
    lines.append(f"splits: {manifest['groups']:,} groups of related documents, none on two sides")
    for name, split in manifest["splits"].items():
        share = split["bytes"] / total
        lines.append(f"  {name:<6} {split['documents']:>9,} documents {split['bytes']:>13,} bytes  {share:6.1%}")
    return lines
