"""Which checkpoint is better, by how much, how sure: `python eval/compare.py ckpt1 ckpt6`.

  1. find the checkpoints and the corpora that their runs trained on
  2. take the test documents that none of them trained on                              (held_out.py)
  3. losses of each checkpoint on these documents, with its own tokenizer              (losses.py)
  4. bits per byte with 95% intervals, and of each pair the difference and a verdict   (bootstrap.py, verdict.py)
  5. greedy answers to the same questions                                              (answers.py)
  6. a table here, all of it as --json, a page with the loss curves as --html          (report.py)

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
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from common.errors import UserError, run_command
from common.files import atomic_file, write_json
from common.runs import RUNS, find_checkpoint
from eval.answers import answer
from eval.bootstrap import effective_groups, group_sums, interval, resample
from eval.config import EvalConfig
from eval.held_out import HeldOut, find_corpus, held_out, read_manifest
from eval.losses import CONTENT, RESPONSES, DocumentLosses, document_losses, summary
from eval.questions import choose_questions
from eval.report import curves_of, write_page
from eval.verdict import comparability_notes, print_result, verdict
from model.config import count_parameters
from model.huggingface import load_shape
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.encode import encode_table
from training import distributed
from training.checkpoint import load_for_inference, read_meta


@dataclass
class Subject:
    """A checkpoint to be compared."""

    name: str  # as short as it can be told apart: ckpt6, or run/ckpt6
    path: Path
    meta: dict[str, Any]  # its loam.json
    tok: Tokenizer
    seq_len: int
    corpus: Path | None  # the corpus that it trained on; None where it is not on this machine

    @property
    def run(self) -> Path:
        return self.path.parent

    @property
    def responses_only(self) -> bool:
        """Whether questions and contexts had no weight in its training loss."""
        return self.meta.get("config", {}).get("train", {}).get("prompt_loss_weight", 1.0) == 0.0


def compare(paths: Sequence[Path], config: EvalConfig, data: Path | None = None) -> dict[str, Any]:
    """Compare two or more checkpoint folders; returns what --json writes. `data`: corpus to judge on, else their own.

    UserError for a folder that is no checkpoint of loam, is given twice, or knows every test document.
    """
    subjects = find_subjects(paths)
    device = distributed.start(config.device).device
    documents, unknown = common_documents(subjects, config, data)
    readers = [(subject.tok, subject.seq_len) for subject in subjects]
    questions = choose_questions(documents.table, config.num_answers, config.seed, readers, config.max_new_tokens)
    losses: list[DocumentLosses] = []
    answers: list[list[dict[str, Any]]] = []
    checkpoints: list[dict[str, Any]] = []
    for subject in subjects:
        found, said, facts = evaluate(subject, documents, questions, config, device)
        losses.append(found)
        answers.append(said)
        checkpoints.append(facts)

    parts = RESPONSES if any(subject.responses_only for subject in subjects) else CONTENT
    if not losses[0].bytes(parts).any():
        raise UserError("a compared checkpoint was trained on responses only, and the held-out documents hold none")
    bits_GK = group_sums(np.stack([loss.bits(parts) for loss in losses], axis=1), documents.groups)
    bytes_G = group_sums(losses[0].bytes(parts), documents.groups)
    bits_GK, bytes_G = bits_GK[bytes_G > 0], bytes_G[bytes_G > 0]
    figures = resample(bits_GK, bytes_G, config.resamples, config.seed)
    totals = bits_GK.sum(axis=0) / bytes_G.sum()
    for k, facts in enumerate(checkpoints):
        facts |= {"val_bpb": float(totals[k]), "val_bpb_ci95": list(interval(figures[:, k], effective_groups(bytes_G)))}
    basis = {
        "num_documents": int((losses[0].bytes(parts) > 0).sum()),
        "num_groups": len(bytes_G),
        "num_bytes": int(bytes_G.sum()),
    }
    pairs = [
        verdict(subjects[a].name, subjects[b].name, totals[[a, b]], figures[:, [a, b]], bytes_G, basis)
        for a in range(len(subjects))
        for b in range(a + 1, len(subjects))
    ]
    one_tokenizer = len({subject.meta["tokenizer"] for subject in subjects}) == 1
    return {
        "checkpoints": checkpoints,
        "pairs": pairs,
        "measured_on": "answers and texts" if parts == RESPONSES else "all content",
        "perplexity_comparable": one_tokenizer,
        "notes": comparability_notes(documents, unknown, one_tokenizer, parts == RESPONSES, basis),
        "held_out": {
            **basis,
            "corpora": documents.corpora,
            "num_found": documents.num_found,
            "num_removed": documents.num_removed,
            "num_left_out": documents.num_left_out,
        },
        "answers": [
            {
                **asdict(question),
                "answers": [{"checkpoint": s.name, **said[i]} for s, said in zip(subjects, answers, strict=True)],
            }
            for i, question in enumerate(questions)
        ],
        "settings": {**asdict(config), "device": str(device)},
    }


def find_subjects(paths: Sequence[Path]) -> list[Subject]:
    """Check every folder before any work is done."""
    if len(paths) < 2:
        raise UserError("compare takes two or more checkpoints, as in `python eval/compare.py ckpt1 ckpt6`")
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise UserError(f"{paths[i]} is given twice: a checkpoint cannot be compared with itself")
    return [
        Subject(
            name=name,
            path=path,
            meta=(meta := read_meta(path)),
            tok=load_tokenizer(path),
            seq_len=load_shape(path).seq_len,
            corpus=_corpus_of(path, meta),
        )
        for name, path in zip(_names(paths), resolved, strict=True)
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    """As short as they can be told apart: ckpt6, or run/ckpt6."""
    resolved = [path.resolve() for path in paths]
    one_run = len({path.parent for path in resolved}) == 1
    names = [path.name if one_run else f"{path.parent.name}/{path.name}" for path in resolved]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


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


def evaluate(
    subject: Subject, documents: HeldOut, questions: list[Any], config: EvalConfig, device: torch.device
) -> tuple[DocumentLosses, list[dict[str, Any]], dict[str, Any]]:
    """Losses, answers and facts of one checkpoint; its weights are in memory only here."""
    model, tok, meta = load_for_inference(subject.path, device, config.verify)
    tokens = encode_table(documents.table, tok)
    with _autocast(device, config.precision):
        losses = document_losses(
            model, tokens, subject.seq_len, device, config.batch_rows, progress=f"{subject.name}: losses"
        )
        if not np.isfinite(losses.nats).all():
            raise UserError(f"{subject.path}: its losses are not finite numbers, training has diverged: take another")
        said = answer(model, tok, questions, config.max_new_tokens)
    figures = summary(losses)
    facts = {
        "name": subject.name,
        "path": _shown(subject.path),
        "run": subject.run.name,
        "val_bpb": None,  # with its interval, once all checkpoints are there
        "val_ppl": figures.pop("perplexity"),
        "val_loss": figures.pop("loss"),
        **figures,
        "num_parameters": count_parameters(model.shape),
        "seq_len": subject.seq_len,
        "vocab_size": tok.vocab_size,
        **{key: meta.get(key) for key in ("epoch", "step", "corpus", "tokenizer", "git")},
        "trained_tokens": meta.get("tokens"),
        "config": meta.get("config", {}),
        "metrics": meta.get("metrics", {}),
    }
    return losses, said, facts


def default_page(paths: Sequence[Path]) -> Path:
    """compare-ckpt1-ckpt6.html in the first checkpoint's run folder, or here where it lies in no run."""
    run, names = Path(_shown(paths[0].resolve())).parent, _names(paths)
    if len(names) > 4:
        names = [names[0], f"to-{len(names)}", names[-1]]
    short = "-".join(name.strip("/").replace("/", ".") for name in names)
    folder = run if (run / "config.toml").exists() else Path()
    return folder / f"compare-{short[:120]}.html"


def _corpus_of(path: Path, meta: dict[str, Any]) -> Path | None:
    """The corpus whose fingerprint the checkpoint bears: its run's, else that of any run here."""
    for corpus in (path.parent / "corpus", *sorted(RUNS.glob("*/corpus"))):
        corpus = Path(_shown(corpus.resolve()))
        if (corpus / "manifest.json").exists() and read_manifest(corpus).get("fingerprint") == meta.get("corpus"):
            return corpus
    return None


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
    paths = [find_checkpoint(name, run) for name in settings.args.checkpoints]
    data = find_corpus(settings.args.data) if settings.args.data else None
    for flag in ("json", "html"):
        target = getattr(settings.args, flag)
        if target and not Path(target).absolute().parent.is_dir():
            raise UserError(f"--{flag} {target}: its folder does not exist")
        if target and Path(target).is_dir():
            raise UserError(f"--{flag} {target}: is a folder; name a file in it")
    page = Path(settings.args.html) if settings.args.html else default_page(paths)
    for flag, target in (("html", page), ("json", settings.args.json)):
        if target and not os.access(Path(target).absolute().parent, os.W_OK):
            raise UserError(f"{target}: cannot be written there; name another place with --{flag} FILE")
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


def _shown(path: Path) -> str:
    """A path as a user would type it: relative where it lies inside the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


if __name__ == "__main__":
    run_command(main)
