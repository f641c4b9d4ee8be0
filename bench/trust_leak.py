"""Test documents of one corpus planted in the training split of another: is the run named, for bench/eval_trust.py.

5 of 100 test documents, drawn anew each time, in three forms: as they are, in other case and spacing, inside a longer
text. Out: how often the other corpus' run is named as contaminated, the share of the planted documents that are called
known, and how many others are: of the group of a planted one. What is known without a leak is not drawn.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from bench.trust_runs import derived_run, part_of, put_training, train_all, training_documents
from eval.compare import compare
from eval.config import EvalConfig
from eval.held_out import held_out

LEAKED = 0.05  # of the test documents

Rewrite = Callable[[list[dict[str, Any]], pa.Table], list[dict[str, Any]]]


def leak_part(base: Path, times: int, epochs: int) -> dict[str, Any]:
    """Plant test documents of the base in the training split of a corpus of half its documents, `times` in each form;
    once train a run so, and let `compare` judge it."""
    clean = part_of(training_documents(base / "corpus"), 1, 2)
    other = derived_run(f"{base.name}-half-0", base, clean) / "corpus"
    before = _known(base / "corpus", other)
    whole = held_out([base / "corpus"], [base / "corpus"]).table
    test = whole.filter(pa.array([one not in before for one in whole["id"].to_pylist()]))
    number = max(1, round(LEAKED * len(test)))
    result: dict[str, Any] = {"test_documents": len(test), "planted": number, "forms": {}}
    result["called_known_without_a_leak"] = len(before)
    with TemporaryDirectory() as temporary:
        for form, rewritten in FORMS.items():
            named, found, others = 0, [], []
            for time_ in tqdm(range(times), desc=f"leak, {form}", disable=None):
                chosen = np.random.default_rng([3, time_]).choice(len(test), number, replace=False)
                corpus = _leaked(Path(temporary) / f"{form}-{time_}", other, clean, test, chosen, rewritten)
                known = _known(base / "corpus", corpus)
                planted = {*test.take(pa.array(chosen))["id"].to_pylist()}
                named += bool(known - before)
                found.append(len(known & planted) / number)
                others.append(len(known - planted - before))
            result["forms"][form] = {
                "times": times,
                "named": named,
                "documents_found": float(np.mean(found)),
                "others_called_known": float(np.mean(others)),
            }
    result["by_compare"] = _compared(base, clean, test, number, epochs)
    return result


def _known(sound: Path, leaked: Path) -> set[str]:
    """Ids of the test documents that `compare` takes for known to the second, whichever of the two is named first."""
    whole = {*held_out([sound], [sound]).table["id"].to_pylist()}
    left = [held_out(order, order).table["id"].to_pylist() for order in ([sound, leaked], [leaked, sound])]
    return whole - {one for of in left for one in of}


def _as_it_is(rows: list[dict[str, Any]], _: pa.Table) -> list[dict[str, Any]]:
    return rows


def _other_case(rows: list[dict[str, Any]], _: pa.Table) -> list[dict[str, Any]]:
    fields = ("text", "question", "answer")
    return [{**row, **{key: row[key] and row[key].upper().replace(" ", "  ") for key in fields}} for row in rows]


def _inside(rows: list[dict[str, Any]], clean: pa.Table) -> list[dict[str, Any]]:
    """As a part of a text, question and answer behind each other, between two training answers."""
    around = [row["text"] or row["answer"] for row in clean.slice(0, 2 * len(rows)).to_pylist()]
    return [
        {**row, "kind": "text", "question": None, "answer": None, "context": None,
         "text": "\n\n".join([around[2 * i], row["text"] or f"{row['question']}\n{row['answer']}", around[2 * i + 1]])}
        for i, row in enumerate(rows)
    ]  # fmt: skip


FORMS = {"as they are": _as_it_is, "other case and spaces": _other_case, "inside a longer text": _inside}


def _leaked(corpus: Path, other: Path, clean: pa.Table, test: pa.Table, chosen: np.ndarray, rewritten: Rewrite) -> Path:
    """A copy of a corpus with these test documents among its training documents."""
    shutil.copytree(other, corpus)
    put_training(corpus, with_leak(clean, test.take(pa.array(chosen)), rewritten))
    return corpus


def with_leak(clean: pa.Table, leaked: pa.Table, rewritten: Rewrite) -> pa.Table:
    """Training documents with others among them, under ids and groups of their own."""
    rows = [
        {**row, "id": f"leak{i:028x}", "group": None, "origin": f"leak:{i}", "n_bytes": 0}
        for i, row in enumerate(rewritten(leaked.to_pylist(), clean))
    ]
    for row in rows:
        row["n_bytes"] = sum(len((row[key] or "").encode()) for key in ("text", "context", "question", "answer"))
    return pa.concat_tables([clean, pa.Table.from_pylist(rows, schema=clean.schema)])


def _compared(base: Path, clean: pa.Table, test: pa.Table, number: int, epochs: int) -> dict[str, Any]:
    """`compare` whole, of a run that trained on test documents and one that did not: what it says of them."""
    chosen = np.random.default_rng([3, 0]).choice(len(test), number, replace=False)
    leaked = derived_run(f"{base.name}-leaked-0", base, with_leak(clean, test.take(pa.array(chosen)), _as_it_is))
    sound = derived_run(f"{base.name}-all-0", base, None)
    train_all([(leaked, 0), (sound, 0)], epochs)
    paths = [folder / f"ckpt{epochs}" for folder in (sound, leaked)]
    result = compare(paths, EvalConfig(num_answers=0, resamples=1000, device="cpu"))
    return {
        "note": next((note for note in result["notes"] if note.startswith("contaminated")), None),
        "contaminated_documents": [each["contaminated_documents"] for each in result["checkpoints"]],
    }
