"""Which checkpoint is better, by how much, how sure: `python eval/compare.py ckpt1 ckpt6`.

  1. find the checkpoints and the corpora that their runs trained on
  2. take the test documents that none of them trained on                              (held_out.py)
  3. losses of each checkpoint on these documents, with its own tokenizer              (losses.py)
  4. bits per byte with 95% intervals, and of each pair the difference and a verdict   (bootstrap.py, pairs.py)
  5. answers to the same questions, of a file or held out, scored beside baselines     (judged.py)
  6. what of the answers stands word for word in the training text                     (memorised.py)
  7. a table here, all of it as --json, a page with the loss curves as --html          (report.py)

No checkpoint is changed. Bits per byte compare across tokenizers; perplexity does not, and is marked where they differ.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch

from common.errors import UserError, run_command
from common.files import atomic_file, write_json
from common.runs import find_checkpoints
from eval.bootstrap import effective_groups, group_sums, interval, resample
from eval.breakdown import breakdowns, by_position
from eval.charts import curves_of
from eval.config import EvalConfig
from eval.gap import HeldOutSide, train_figures
from eval.held_out import HeldOut, find_corpus, held_out, read_manifest, sample_groups, training_sample
from eval.judged import Asked, ask, judged, said_by
from eval.leaks import known_questions
from eval.losses import CONTENT, RESPONSES, DocumentLosses, PositionLosses, summary
from eval.memorised import exposed, memorised
from eval.opened import open_foreign, open_own
from eval.outputs import refuse_file
from eval.pairs import judge_pairs
from eval.report import write_page
from eval.seed_noise import measured_noise, noise_of, replicas
from eval.subjects import Subject, find_subjects, names_of, shown_path
from eval.verdict import comparability_notes, print_result, question_notes
from training import distributed


def compare(paths: Sequence[Path], config: EvalConfig, data: Path | None = None) -> dict[str, Any]:
    """Compare two or more checkpoint folders; returns what --json writes. `data`: corpus to judge on, else their own.

    UserError for a folder that is no checkpoint of loam, is given twice, or knows every test document.
    """
    subjects = find_subjects(paths, asked=config.questions is not None or config.num_answers > 0)
    device = distributed.start(config.device).device
    documents, unknown = common_documents(subjects, config, data)
    readers = [(subject.tok, subject.seq_len) for subject in subjects]
    asked = ask(config, documents, readers)
    evaluated = [evaluate(subject, documents, asked, config, device) for subject in subjects]
    losses = [one.losses for one in evaluated]
    checkpoints = [one.facts for one in evaluated]
    parts = RESPONSES if any(subject.responses_only for subject in subjects) else CONTENT
    if not losses[0].bytes(parts).any():
        raise UserError("a compared checkpoint was trained on responses only, and the held-out documents hold none")
    bits_GK = group_sums(np.stack([loss.bits(parts) for loss in losses], axis=1), documents.groups)
    bytes_G = group_sums(losses[0].bytes(parts), documents.groups)
    bits_GK, bytes_G = bits_GK[bytes_G > 0], bytes_G[bytes_G > 0]
    figures = resample(bits_GK, bytes_G, config.resamples, config.seed)
    totals = bits_GK.sum(axis=0) / bytes_G.sum()
    judged_on = {read_manifest(Path(corpus)).get("fingerprint") for corpus in documents.corpora}
    for k, facts in enumerate(checkpoints):
        corpus = str(subjects[k].corpus) if subjects[k].corpus is not None else None
        facts |= {"contaminated_documents": documents.known_to[corpus] if corpus else None}
        own = judged_on == {subjects[k].meta.get("corpus")}  # else the two would be of different data
        side = HeldOutSide(float(totals[k]), figures[:, k], bytes_G) if own else None
        facts |= train_figures(evaluated[k].trained_on, evaluated[k].trained_groups, parts, side, config.seed)
        facts |= {"val_bpb": float(totals[k]), "val_bpb_ci95": list(interval(figures[:, k], effective_groups(bytes_G)))}
    num_documents = int((losses[0].bytes(parts) > 0).sum())
    basis = {"num_documents": num_documents, "num_groups": len(bytes_G), "num_bytes": int(bytes_G.sum())}
    seeds = same_but_for_seeds(subjects, totals)
    pairs = judge_pairs(
        [subject.name for subject in subjects],
        [str(subject.run if subject.own else subject.path) for subject in subjects],
        bits_GK,
        bytes_G,
        figures,
        num_documents,
        config.seed,
        noise_of(config),
        seeds["of"] if seeds else (),
    )
    corpora = [subject.corpus for subject in subjects]
    tables = judged(asked, [one.said for one in evaluated], corpora, config)
    references = [question.reference for question in asked.questions]
    memory = memorised([[row["text"] for row in one.said] for one in evaluated], references, corpora)
    for one, of in zip(evaluated, memory, strict=True):
        for row, own in zip(one.said, of.pop("answers") if of else [None] * len(one.said), strict=True):
            row["verbatim"] = own
    known_of = {corpus: _known_questions(asked, corpus) for corpus in dict.fromkeys(corpora)}
    known = {subject.name: known_of[subject.corpus] for subject in subjects}
    one_tokenizer = len({subject.tokenizer for subject in subjects}) == 1
    return {
        "checkpoints": checkpoints,
        "pairs": pairs,
        "measured_on": "answers and texts" if parts == RESPONSES else "all content",
        "perplexity_comparable": one_tokenizer,
        "seed_noise": seeds,
        "notes": [
            *comparability_notes(checkpoints, documents, unknown, one_tokenizer, parts == RESPONSES, basis),
            *question_notes(known, asked.file, len(asked.questions)),
        ],
        "held_out": {
            **basis,
            "corpora": documents.corpora,
            "num_found": documents.num_found,
            "num_removed": documents.num_removed,
            "num_left_out": documents.num_left_out,
        },
        "breakdown": {
            **breakdowns(losses, documents.table, documents.groups, parts, config.seed),
            "position": by_position([one.positions for one in evaluated], parts),
        },
        "answers": [
            {
                **asdict(question),
                "answers": [{"checkpoint": s.name, **one.said[i]} for s, one in zip(subjects, evaluated, strict=True)],
            }
            for i, question in enumerate(asked.questions)
        ],
        "memorised": [
            {"checkpoint": subject.name, "figures": of, "exposure": one.exposure}
            for subject, one, of in zip(subjects, evaluated, memory, strict=True)
        ],
        "scores": [
            {"checkpoint": subject.name, "known_questions": known[subject.name], **table}
            for subject, table in zip(subjects, tables, strict=True)
        ],
        "settings": {**asdict(config), "device": str(device)},
    }


def common_documents(subjects: Sequence[Subject], config: EvalConfig, data: Path | None) -> tuple[HeldOut, list[str]]:
    """Held-out documents, and the names of checkpoints whose training data is not here to be excluded."""
    trained_on = list(dict.fromkeys(subject.corpus for subject in subjects if subject.corpus is not None))
    evaluated = [data] if data is not None else trained_on
    if not evaluated:
        raise UserError(
            f"{subjects[0].path}: the corpus of its run is not beside it; name one with --data RUN_OR_FOLDER"
        )
    return (
        held_out(evaluated, trained_on, config.documents, config.seed),
        [subject.name for subject in subjects if subject.corpus is None],
    )


def _known_questions(asked: Asked, corpus: Path | None) -> int | None:
    """How many questions of a file stand in the training text; None where that is not known, or they are held out."""
    if asked.file is None or corpus is None:
        return None
    questions = [(one.context, one.question or "", one.reference) for one in asked.questions]
    return int(known_questions(questions, corpus).sum())


class Evaluated(NamedTuple):
    """What one checkpoint makes of the held-out documents, of some that it trained on, and of the questions."""

    losses: DocumentLosses
    trained_on: DocumentLosses | None  # where its corpus is here
    trained_groups: list[str]  # of these documents
    positions: PositionLosses | None  # None: not known of another's tokens
    said: list[dict[str, Any]]
    exposure: dict[str, Any] | None  # of canaries that were planted in its corpus
    facts: dict[str, Any]


def evaluate(subject: Subject, documents: HeldOut, asked: Asked, config: EvalConfig, device: torch.device) -> Evaluated:
    """Losses, answers and facts of one checkpoint; its weights are in memory only here."""
    if subject.own:
        opened = open_own(subject.path, device, config.verify, config.batch_rows)
    else:
        opened = open_foreign(subject.path, device, config.verify)
    trained_on, exposure, meta = None, None, subject.meta
    trained_groups: list[str] = []
    with _autocast(device, config.precision):
        losses = opened.losses(documents.table, f"{subject.name}: losses", opened.positions)
        if subject.corpus is not None and config.train_documents:
            table = training_sample(subject.corpus, config.train_documents)
            trained_on = opened.losses(table, f"{subject.name}: training documents")
            trained_groups = sample_groups(table)
        if not np.isfinite(losses.nats).all():
            raise UserError(f"{subject.path}: its losses are not finite numbers, training has diverged: take another")
        said = said_by(opened, asked, config)
        if opened.own:
            exposure = exposed(*opened.own, subject.corpus, config.canary_candidates, config.seed, device)
    figures = summary(losses)
    facts = {
        "name": subject.name,
        "path": shown_path(subject.path),
        "run": subject.run.name,
        "val_bpb": None,  # with its interval, once all checkpoints are there
        "val_ppl": figures.pop("perplexity"),
        "val_loss": figures.pop("loss"),
        **figures,
        "num_parameters": opened.num_parameters,
        "seq_len": subject.seq_len,
        "vocab_size": opened.vocab_size,
        **{key: meta.get(key) for key in ("epoch", "step", "corpus", "tokenizer", "git")},
        "trained_tokens": meta.get("tokens"),
        "config": meta.get("config", {}),
        "metrics": meta.get("metrics", {}),
    }
    return Evaluated(losses, trained_on, trained_groups, opened.positions, said, exposure, facts)


def same_but_for_seeds(subjects: Sequence[Subject], totals: np.ndarray) -> dict[str, Any] | None:
    """The noise of the compared runs that differ by their seed alone, and which they are; None where there are none."""
    found = replicas([(subject.path.name, subject.meta) for subject in subjects])
    noise = measured_noise([totals[own].tolist() for own in found])
    if noise is None:
        return None
    return {**noise._asdict(), "of": [[subjects[k].name for k in own] for own in found]}


def default_page(paths: Sequence[Path]) -> Path:
    """compare-ckpt1-ckpt6.html in the first checkpoint's run folder, or here where it lies in no run."""
    run, names = Path(shown_path(paths[0].resolve())).parent, names_of(paths)
    if len(names) > 4:
        names = [names[0], f"to-{len(names)}", names[-1]]
    short = "-".join(name.strip("/").replace("/", ".") for name in names)
    folder = run if (run / "config.toml").exists() else Path()
    return folder / f"compare-{short.encode()[:200].decode(errors='ignore')}.html"  # a name has 255 bytes at most


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def main() -> None:
    """The command."""
    from config import load_command

    settings = load_command(
        "eval",
        description=__doc__,
        positional={"checkpoints": "+"},
        flags={
            "data": (
                None,
                "corpus to be judged on: a run's name or folder, or a corpus folder (default: the runs' own)",
            ),
            "json": (None, "write everything to this file"),
            "html": (None, "where to write the page (default: into the first checkpoint's run folder)"),
        },
    )
    run = settings.args.run
    paths = [path for name in settings.args.checkpoints for path in find_checkpoints(name, run)]
    data = find_corpus(settings.args.data) if settings.args.data else None
    page = Path(settings.args.html) if settings.args.html else default_page(paths)
    refuse_file("html", page, paths)
    if settings.args.json:
        refuse_file("json", Path(settings.args.json), paths, ("checkpoints", "pairs"))
        if Path(settings.args.json).resolve() == page.resolve():
            raise UserError(f"--json {page}: is the page too; name another file")
    result = compare(paths, settings.eval, data)
    print_result(result)
    if settings.args.json:
        write_json(Path(settings.args.json), result)
    curves = curves_of([Path(checkpoint["path"]) for checkpoint in result["checkpoints"]])
    manifests = [read_manifest(Path(corpus)) for corpus in result["held_out"]["corpora"]]
    with atomic_file(page) as temporary:
        write_page(temporary, result, curves, manifests)
    print(f"page: {page}" + (f"\njson: {settings.args.json}" if settings.args.json else ""))
    best = min(result["checkpoints"], key=lambda checkpoint: checkpoint["val_bpb"])
    print(f"next: python chat.py {best['path']}")


if __name__ == "__main__":
    run_command(main)
