"""The checkpoints that are compared: where they lie, what they bear, which corpus their run trained on.

In: paths from a command line. Out: a `Subject` each, all of them looked at before any work is done.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import file_sha256
from common.runs import RUNS
from common.text import error_line
from eval.held_out import read_manifest
from eval.opened import context_of, try_template
from eval.speaker import foreign_because, foreign_reader, need_transformers
from model.huggingface import load_shape
from tokenizer.bpe import load_tokenizer
from tokenizer.dialog import is_own
from tokenizer.template import Encoder
from training.checkpoint import read_meta

MOST_COMPARED = 20  # checkpoints: 190 pairs, of which a p of 10,000 draws is still below 0.05 when corrected


@dataclass
class Subject:
    """A checkpoint to be compared."""

    name: str  # as short as it can be told apart: ckpt6, or run/ckpt6
    path: Path
    meta: dict[str, Any]  # its loam.json
    tok: Encoder
    seq_len: int
    corpus: Path | None  # the corpus that it trained on; None where it is not on this machine
    own: bool = True  # of loam's template and tokenizer; else whatever `transformers` opens

    @property
    def tokenizer(self) -> str:
        """Tells tokenizers apart."""
        return self.meta["tokenizer"] if self.own else file_sha256(_tokenizer_file(self.path))

    @property
    def run(self) -> Path:
        return self.path.parent

    @property
    def responses_only(self) -> bool:
        """Whether questions and contexts had no weight in its training loss."""
        return self.meta.get("config", {}).get("train", {}).get("prompt_loss_weight", 1.0) == 0.0


def find_subjects(paths: Sequence[Path], asked: bool = True) -> list[Subject]:
    """Check every folder before any work is done. asked: whether questions are, for which a template must render."""
    if len(paths) < 2:
        raise UserError("compare takes two or more checkpoints, as in `python eval/compare.py ckpt1 ckpt6`")
    if len(paths) > MOST_COMPARED:
        raise UserError(
            f"{len(paths)} checkpoints: compare takes {MOST_COMPARED} at most, as {len(paths) * (len(paths) - 1) // 2} "
            "pairs would leave nothing certain; name fewer, or a range with fewer in it"
        )
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise UserError(f"{paths[i]} is given twice: a checkpoint cannot be compared with itself")
    subjects = [
        _own(name, path)
        if not (path / "config.json").exists() or ((path / "loam.json").exists() and is_own(path))
        else _foreign(name, path, asked)
        for name, path in zip(names_of(paths), resolved, strict=True)
    ]
    first: dict[str, Path] = {}  # runs of one corpus hold a copy each, of which one is read
    for subject in subjects:
        if subject.corpus is not None:
            subject.corpus = first.setdefault(subject.meta["corpus"], subject.corpus)
    return subjects


def _own(name: str, path: Path) -> Subject:
    meta = read_meta(path)
    return Subject(name, path, meta, load_tokenizer(path), load_shape(path).seq_len, corpus_of(path, meta))


def _foreign(name: str, path: Path, asked: bool) -> Subject:
    """Another's folder, or a checkpoint that loam trained on from one; only the tokenizer is opened as yet, its chat
    template tried. Raises UserError."""
    need_transformers(path)
    try:
        reader = foreign_reader(path)
    except Exception as error:  # transformers raises what it likes
        why = f"{foreign_because(path)}, and transformers cannot open its tokenizer"
        raise UserError(f"{path} {why}: {error_line(error)}") from None
    if asked:
        try_template(path, reader)
    meta = read_meta(path) if (path / "loam.json").exists() else {}
    return Subject(name, path, meta, reader, context_of(path), corpus_of(path, meta), own=False)


def _tokenizer_file(path: Path) -> Path:
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "config.json")
    return next(path / name for name in names if (path / name).exists())


def names_of(paths: Sequence[Path]) -> list[str]:
    """As short as they can be told apart: ckpt6, or run/ckpt6."""
    resolved = [path.resolve() for path in paths]
    one_run = len({path.parent for path in resolved}) == 1
    names = [path.name if one_run else f"{path.parent.name}/{path.name}" for path in resolved]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def corpus_of(path: Path, meta: dict[str, Any]) -> Path | None:
    """The corpus whose fingerprint the checkpoint bears: its run's, else that of any run here."""
    for corpus in (path.resolve().parent / "corpus", *sorted(RUNS.glob("*/corpus"))):
        with suppress(UserError):  # none there, or a damaged manifest
            if meta.get("corpus") and read_manifest(corpus).get("fingerprint") == meta["corpus"]:
                return Path(shown_path(corpus.resolve()))
    return None


def shown_path(path: Path) -> str:
    """A path as a user would type it: relative where it lies inside the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
