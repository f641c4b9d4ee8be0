"""Is it only memorising: what of the answers stands word for word in the training text, and how alike they are.

In: the answers of each checkpoint, the corpus that it was trained on. Out: figures for each checkpoint, the same of the
held-out references (what new text of this kind shares with the training text by itself), and spans for the page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.canaries import planted
from eval import exposure, verbatim
from eval.diversity import boilerplate, diversity, learn_stock, of_any
from eval.held_out import read_manifest
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer

FIGURES = ("verbatim", "boilerplate", "diversity")


def memorised(
    said: Sequence[Sequence[str]], references: Sequence[str], corpora: Sequence[Path | None]
) -> list[dict[str, Any] | None]:
    """For each checkpoint {"verbatim", "boilerplate", "diversity", "references", "answers"}; None where its corpus is
    not here.

    said: the answers of each checkpoint. "references": the first three of the references, for the same corpus.
    "answers": of each answer its longest run, and where long runs and stock phrases stand in it. A corpus is read once
    for all checkpoints that were trained on it. Stock is what is so in any of the corpora: of a corpus that was cleaned
    of its boilerplate and one that was not, the answers are searched for the same. "training_share" of "boilerplate":
    rows of the checkpoint's own training split that hold what is stock there.
    """
    learned = {corpus: learn_stock(corpus) for corpus in dict.fromkeys(corpora) if corpus is not None}
    stock = of_any([*learned.values()])
    found: list[dict[str, Any] | None] = [None] * len(said)
    for corpus in dict.fromkeys(corpora):
        own = [k for k, of in enumerate(corpora) if of == corpus]
        if corpus is None:
            continue
        texts = [*(said[k] for k in own), [reference for reference in references if reference]]
        together = verbatim.runs([text for of in texts for text in of], corpus)
        told = []
        for of in texts:
            first, together = together[: len(of)], together[len(of) :]
            figures, phrases = verbatim.summary(first), boilerplate(list(of), stock)
            each = zip(figures.pop("answers"), phrases.pop("spans"), strict=True)
            told.append(
                {
                    "verbatim": figures,
                    "boilerplate": phrases | {"training_share": learned[corpus].share},
                    "diversity": diversity(of),
                    "answers": [{**run, "stock_spans": spans} for run, spans in each],
                }
            )
        for k, one in zip(own, told, strict=False):
            found[k] = {**one, "references": {name: told[-1][name] for name in FIGURES}}
    return found


def exposed(
    model: Decoder, tok: Tokenizer, corpus: Path | None, candidates: int, seed: int, device: torch.device
) -> dict[str, Any] | None:
    """Exposure of the corpus' canaries (eval/exposure.py); None where none were planted, or the corpus is not here."""
    manifest = read_manifest(corpus) if corpus is not None else {}
    canaries = planted(manifest)
    if not canaries:
        return None
    return exposure.summary(manifest, exposure.exposures(model, tok, canaries, candidates, seed, device))


def memorised_rows(names: Sequence[str], told: Sequence[dict[str, Any] | None]) -> list[list[str]]:
    """A table: each checkpoint, then the references beside which its figures stand."""
    rows = [["memorised", "longest run", "in runs of 50 bytes", "with one", "with stock", "distinct 1, 2"]]
    there = [(name, one) for name, one in zip(names, told, strict=True) if one is not None]
    rows += [[name, *_row(one)] for name, one in there]
    references: list[tuple[str, dict[str, Any]]] = []  # one a corpus
    for name, one in there:
        if one["references"]["verbatim"]["num_answers"] and one["references"] not in [of for _, of in references]:
            references.append((name, one["references"]))
    for name, of in references:
        rows.append([f"references, {name}'s corpus" if len(references) > 1 else "the references", *_row(of)])
    return rows if len(rows) > 1 else []


def _row(one: dict[str, Any]) -> list[str]:
    runs, stock, distinct = one["verbatim"], one["boilerplate"], one["diversity"]
    shares = [f"{distinct[f'distinct_{n}']:.2f}" for n in (1, 2) if distinct[f"distinct_{n}"] is not None]
    return [
        f"{runs['longest']:,} bytes",
        f"{runs['share_in_runs_50']:.1%}",
        f"{runs['num_with_runs_50']:,} of {runs['num_answers']:,}",
        f"{stock['share']:.0%}" if stock["share"] is not None else "",
        f"{', '.join(shares)} of {distinct['num_1']:,} words" if shares else "",  # it falls as more is said
    ]


def exposure_rows(names: Sequence[str], told: Sequence[dict[str, Any] | None]) -> list[list[str]]:
    """A table of exposures in bits: a checkpoint a row, a column for each number of copies that were planted."""
    there = [(name, one) for name, one in zip(names, told, strict=True) if one is not None]
    copies = sorted({of["copies"] for _, one in there for of in one["by_copies"]})
    rows = [["exposure of canaries, bits", *(f"{n} cop{'y' if n == 1 else 'ies'}" for n in copies)]]
    for name, one in there:
        by = {of["copies"]: of for of in one["by_copies"]}
        rows.append([name, *(f"{by[n]['mean_bits']:.1f}" if n in by else "" for n in copies)])
    counts = [{of["copies"]: str(of["num_canaries"]) for of in one["by_copies"]} for _, one in there]
    if counts and all(of == counts[0] for of in counts):
        rows.append(["canaries", *counts[0].values()])
    return rows if there else []
