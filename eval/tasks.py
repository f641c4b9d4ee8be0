"""Questions and held-out texts as tasks of lm-eval: `python eval/tasks.py QUESTIONS --out FOLDER`.

    QUESTIONS (or the test split of --data)  ->  NAME_answers   greedy answers, keyword recall and F1 (scores.py)
                                                 NAME_ranking   the true answer among wrong ones, by likelihood
    test split of --data                     ->  NAME_texts     bits per byte of its texts

A folder of YAML and JSON lines that lm-eval runs offline on a checkpoint of loam's or of anybody's; the last line says
how. On texts that fit the context lm-eval's bits_per_byte is loam's: both give a text behind bos (lm-eval takes eos
where there is none) and count neither bos nor eos. A longer text is cut alike, into windows whose first token is given;
only the last differs: lm-eval's reaches back until it fills the context, which mostly makes its figure a little lower.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import json
import re
from collections.abc import Sequence
from typing import Any

from common.errors import UserError, run_command
from eval.held_out import find_corpus, held_out
from eval.outputs import refuse_inside
from eval.questions import Question, prompt_text, question_of, read_questions
from eval.ranking import choose_distractors

KINDS = ("answers", "ranking", "texts")
HELPERS = '''"""What lm-eval calls for NAME_answers: loam's own scores."""

import sys

sys.path.insert(0, {root!r})

from eval.questions import Question
from eval.scores import score


def process_results(doc, results):
    question = Question("", "", None, doc["question"], None, None, doc["reference"], tuple(doc["keywords"]))
    found = score(question, results[0], None, doc["prompt"])
    return {{name: float(found[name]) for name in ("keyword_recall", "token_f1") if found[name] is not None}}


def mean(values):
    return sum(values) / len(values)
'''


def write_tasks(
    folder: Path, name: str, questions: Sequence[Question], texts: Sequence[str], seed: int, distractors: int, most: int
) -> list[str]:
    """Write the tasks that the questions and texts are good for; returns their names. most: new tokens of an answer."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        _refuse_others(folder, f"{name}_{kind}")
    helpers = folder / "loam_scores.py"
    first = HELPERS.partition("\n")[0]
    if helpers.exists() and not helpers.read_text(encoding="utf-8", errors="replace").startswith(first):
        raise UserError(f"{helpers}: was not written by this command; take another --out")
    written = []
    asked = [question for question in questions if question.question is not None]
    told = [
        {"question": q.question, "prompt": prompt_text(q), "reference": q.reference, "keywords": list(q.keywords)}
        for q in asked
    ]
    if told:
        helpers.write_text(HELPERS.format(root=str(Path(__file__).resolve().parents[1])))
        metrics = ["keyword_recall"] * any(row["keywords"] for row in told)
        metrics += ["token_f1"] * any(row["reference"] for row in told)
        more: dict[str, Any] = {
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{reference}}",
            "process_results": "!function loam_scores.process_results",
            "generation_kwargs": {"until": [], "max_gen_toks": most, "do_sample": False},
            "metric_list": [
                {"metric": metric, "aggregation": "!function loam_scores.mean", "higher_is_better": True}
                for metric in metrics
            ],
        }
        if metrics:
            written.append(_write(folder, f"{name}_answers", told, more))
    chosen = choose_distractors(asked, seed, distractors)
    ranked = [
        {"prompt": prompt_text(q), "choices": list(of.answers)} for q, of in zip(asked, chosen, strict=True) if of
    ]
    if ranked:
        more = {
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": 0,
            "target_delimiter": "",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
        written.append(_write(folder, f"{name}_ranking", ranked, more))
    if texts:
        more = {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        }
        written.append(_write(folder, f"{name}_texts", [{"text": text} for text in texts], more))
    return written


def _refuse_others(folder: Path, name: str) -> None:
    """UserError where a task's files are there and were not written by this command."""
    file, named = folder.resolve() / f"{name}.jsonl", folder / f"{name}.yaml"
    mine = named.is_file() and f'"task": "{name}"' in named.read_text(encoding="utf-8", errors="replace")
    if not mine and (file.exists() or named.exists()):
        raise UserError(f"{file if file.exists() else named}: was not written by this command; take another --name")


def _write(folder: Path, name: str, rows: list[dict[str, Any]], more: dict[str, Any]) -> str:
    file, named = folder.resolve() / f"{name}.jsonl", folder / f"{name}.yaml"
    task = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}},
            "test_split": "test", **more}  # fmt: skip
    # YAML holds JSON, but for the tags that name a function.
    content = re.sub(r'"(!function [\w.]+)"', r"\1", json.dumps(task, indent=1, ensure_ascii=False))
    named.write_text(content + "\n", encoding="utf-8")
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return name


def main() -> None:
    """The command."""
    from config import load_command

    settings = load_command(
        "eval",
        description=__doc__,
        positional={"questions_file": "?"},
        flags={
            "data": (None, "corpus whose test split gives texts, and questions where no file is named"),
            "out": ("lm-eval-tasks", "folder for the tasks"),
            "name": ("loam", "what the tasks' names begin with"),
        },
    )
    args = settings.args
    if not re.fullmatch(r"[A-Za-z0-9_]+", args.name):
        raise UserError(f"--name {args.name!r}: letters, digits and '_', as in --name quantum")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    refuse_inside("out", out)
    if args.questions_file is None and args.data is None:
        raise UserError("name a file of questions, or --data RUN_OR_FOLDER, or both")
    questions = read_questions(Path(args.questions_file)) if args.questions_file else []
    texts: list[str] = []
    if args.data:
        rows = held_out([find_corpus(args.data)], [], settings.eval.documents, settings.eval.seed).table.to_pylist()
        texts = [row["text"] for row in rows if row["text"] is not None]
        if not questions:
            questions = [q for row in rows if row["question"] is not None and (q := question_of(row)) is not None]
    names = write_tasks(
        out, args.name, questions, texts, settings.eval.seed, settings.eval.distractors, settings.eval.max_new_tokens
    )
    if not names:
        raise UserError("there is nothing to ask: no reference or keyword in the questions, and no text in --data")
    print(f"wrote {', '.join(names)} to {out}: {len(questions):,} questions, {len(texts):,} texts")
    # Without add_bos_token=False lm-eval gives a text a second bos, which the first one has to predict.
    command = f"lm_eval --model hf --model_args pretrained=CKPT,add_bos_token=False --include_path {out} --tasks"
    asking = ",".join(name for name in names if not name.endswith("_texts"))
    lines = [f"{command} {asking} --apply_chat_template"] if asking else []
    lines += [f"{command} {args.name}_texts"] if texts else []
    print("\n".join(f"next: {line}" for line in lines))


if __name__ == "__main__":
    run_command(main)
