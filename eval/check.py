"""Is a checkpoint sound: `python eval/check.py ckpt6`, or any folder that `transformers` loads.

  1. its files are there, are what was written, and say where they come from        (soundness.py)
  2. its tensors are those that config.json asks for, and hold numbers              (soundness_tensors.py)
  3. its tokenizer fits the model, loses nothing, and its template is training's    (soundness_tokens.py)
  4. its logits are finite and look back only; its loss is what loam.json says      (soundness_answers.py)
  5. it answers, stops, and neither copies the prompt nor repeats itself            (soundness_answers.py)

A line a check: pass, warn, fail or skip, what was found, what to do. Nothing is written into the folder. The exit code
is 0 when nothing fails, 1 when something does, 2 where the folder is no checkpoint.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from common.errors import UserError, run_command
from common.files import write_json
from common.runs import checkpoints, find_checkpoint
from common.text import error_line
from eval import soundness as parts
from eval import soundness_answers as spoken
from eval import soundness_tensors as weights_of
from eval import soundness_tokens as words
from eval.outputs import refuse_file
from eval.soundness import FAIL, SKIP, Folder, Line
from eval.soundness_tensors import Stored
from eval.speaker import Reader, Speaker, foreign_model, foreign_reader, foreign_speaker, own_reader, own_speaker
from eval.subjects import corpus_of
from eval.validation_text import corpus_prompts, plain_prompts, validation_documents
from tokenizer.bpe import load_tokenizer
from tokenizer.dialog import own_dialog
from tokenizer.encode import encode_table
from tokenizer.responses import Counts, response_tokens
from training import distributed
from training.memory import out_of_memory
from training.plan import free_memory

WORDS = ("vocabulary", "special tokens", "lossless", "control", "template")
SPOKEN = ("logits", "left to right", "loss", "answers", "stops", "markers", "parrots", "repeats")
WHOLE = 8 << 30  # bytes of a model in float32, up to which another's is computed in it


def check(path: Path, quick: bool = False, device: str = "cpu") -> dict[str, Any]:
    """All checks of one folder; returns what --json writes. quick: without loss and answers.

    UserError where it is no checkpoint, or is dropped by its run meanwhile.
    """
    folder = parts.open_folder(path)
    try:
        lines = look(folder, quick, distributed.start(device).device)
    except (OSError, UserError) as error:
        if not path.is_dir():
            raise _gone(path) from None
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: {error_line(error)}") from error
    if not path.is_dir():  # what was found missing is missing because all is
        raise _gone(path)
    counts = Counter(line.status for line in lines)
    return {
        "checkpoint": str(path),
        "kind": "loam" if folder.own else "other",
        "sound": counts[FAIL] == 0,
        "counts": {status: counts[status] for status in (parts.PASS, parts.WARN, FAIL, SKIP)},
        "lines": [asdict(line) for line in lines],
        "settings": {"quick": quick, "device": device},
    }


def look(folder: Folder, quick: bool, device: torch.device) -> list[Line]:
    """The lines, in order. What needs a part that failed is left out, and says so: a fault is told once."""
    lines = [parts.check_files(folder), parts.check_hashes(folder), parts.check_provenance(folder),
             parts.check_loss_weights(folder)]  # fmt: skip
    reader, line = open_reader(folder)
    stored, damaged = weights_of.read_headers(folder)
    speaker, model_lines = open_speaker(folder, stored, damaged, reader, device)
    lines += model_lines
    if reader is None:
        assert line is not None
        lines.append(line)
        lines += [Line(SKIP, name, "its tokenizer does not open") for name in WORDS]
    else:
        rows = folder.config.get("vocab_size")
        rows = rows if isinstance(rows, int) else speaker.vocab_size if speaker else None
        eos = speaker.eos if speaker else [token for token in [reader.roles["eos"]] if token is not None]
        lines += [words.check_vocabulary(folder, reader, rows), words.check_special(folder, reader, rows),
                  words.check_lossless(folder, reader), words.check_control(reader),
                  words.check_template(folder, reader, eos)]  # fmt: skip
    needed = ("vocabulary", "weights")
    failed = next((name for name in needed if parts.tell(lines, name) == FAIL), None)
    failed = failed or ("tokenizer" if reader is None else "tensors" if speaker is None else None)
    if failed or speaker is None or reader is None:
        return lines + [Line(SKIP, name, f"not tried, as the line {failed} has not passed") for name in SPOKEN]
    assert stored is not None
    try:
        return lines + speak(folder, stored, speaker, reader, quick, parts.tell(lines, "template") != FAIL)
    except Exception as error:
        if out_of_memory(error):
            return [*lines, Line(SKIP, "logits", "no memory is left to compute with: name another --device")]
        if folder.own:
            raise
        found = f"transformers loads it, but does not compute it: {error_line(error, 250)} ({type(error).__name__})"
        return [*lines, Line(FAIL, "logits", found, "see what its config.json asks for"),
                *(Line(SKIP, name, "the line logits has not passed") for name in SPOKEN[1:])]  # fmt: skip


def open_reader(folder: Folder) -> tuple[Reader | None, Line | None]:
    """The tokenizer, or the line that says why not."""
    for name in ("tokenizer.json", "tokenizer_config.json") if folder.own else ():
        if folder.lacks(name):
            return None, Line(SKIP, "tokenizer", f"{name} cannot be read")
    try:
        return (own_reader if folder.own else foreign_reader)(folder.path), None
    except UserError as error:
        if not folder.own:
            raise  # transformers is missing
        return None, words.failed_tokenizer(error, folder)
    except Exception as error:  # transformers and the Rust side raise anything
        return None, words.failed_tokenizer(error, folder)


def open_speaker(
    folder: Folder, stored: Stored | None, damaged: Line | None, reader: Reader | None, device: torch.device
) -> tuple[Speaker | None, list[Line]]:
    """The model in memory where its tensors are in order, and the lines `tensors`, `weights`, `size`."""
    if stored is None:
        assert damaged is not None
        return None, [damaged, *(Line(SKIP, name, "no tensors to look at") for name in ("weights", "size"))]
    weights, seq_len = weights_of.check_weights(stored), None
    speaker = None
    fits = 4 * stored.num_numbers <= 0.9 * free_memory(device)
    if folder.own:
        tensors, shape = weights_of.check_own_tensors(folder, stored)
        seq_len = shape.seq_len if shape else None
        if shape and fits:
            try:
                speaker = own_speaker(folder.path, device)
            except UserError as error:
                tensors = Line(FAIL, "tensors", error_line(error), parts.ANOTHER)
    elif fits:
        try:
            model, info = foreign_model(folder.path, device, 4 * stored.num_numbers <= WHOLE)
            sizes = [(name, found, expected) for name, found, expected in sorted(info["mismatched_keys"])]
            tensors = weights_of.compare_tensors(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), sizes,
                                            len(stored.shapes))  # fmt: skip
            if reader is not None and tensors.status != FAIL:
                speaker = foreign_speaker(model, reader, folder.generation, device)
                seq_len = speaker.seq_len
        except Exception as error:  # a config.json of anybody's makes transformers and torch raise what they like
            tensors = unopened(error, folder)
    else:
        tensors = Line(SKIP, "tensors", "not compared with config.json")
    if not fits and tensors.status != FAIL:
        found = f"{4 * stored.num_numbers:,} bytes are needed to open it, and so many are not free"
        tensors = Line(parts.WARN, "tensors", found, "check it on a larger machine, or name another --device")
    return speaker, [tensors, weights, weights_of.check_size(folder, stored, seq_len)]


def unopened(error: Exception, folder: Folder) -> Line:
    """The line `tensors` of another's folder that `transformers` does not load."""
    said = f"{error_line(error, 250)} ({type(error).__name__})"
    if out_of_memory(error):  # of this machine, or of any: a config.json may ask for more than its weights hold
        todo = "check it on a larger machine, or see that config.json asks for no more than its weights hold"
        return Line(parts.WARN, "tensors", f"no memory is left to open it: {said}", todo)
    own_code = "; it asks for code of its own (auto_map), which is not run" if "auto_map" in folder.config else ""
    return Line(FAIL, "tensors", f"transformers does not load it: {said}{own_code}",
                "see that its config.json and its weights belong together")  # fmt: skip


@torch.inference_mode()
def speak(
    folder: Folder, stored: Stored, speaker: Speaker, reader: Reader, quick: bool, has_template: bool
) -> list[Line]:
    """The lines about logits, loss and answers."""
    lines = spoken.check_logits(speaker, reader)
    rest = SPOKEN[2:] if folder.own else tuple(name for name in SPOKEN[2:] if name != "markers")
    if lines[0].status == FAIL or quick:
        why = "left out by --quick" if quick else "the logits tell that it cannot"
        return lines + [Line(SKIP, name, why) for name in rest]
    budget, most_new = spoken.token_budget(stored.num_numbers), spoken.answer_budget(stored.num_numbers)
    most_new = min(most_new, max(1, speaker.seq_len // 2))
    corpus = corpus_of(folder.path, folder.meta) if folder.own else None
    said = parts.inside(folder.meta, "metrics")
    text = np.asarray([*reader.begin, *reader.encode(spoken.TEXT)])[: min(budget, speaker.seq_len)]
    prompts = plain_prompts(reader) if has_template else []
    if corpus is None:
        where = "an English text (its corpus is not here)" if folder.own else "an English text"
        lines.append(spoken.check_loss_of_guessing(speaker, [text], where))
    else:
        documents, tok = validation_documents(corpus), load_tokenizer(folder.path)
        train = parts.inside(parts.inside(folder.meta, "config"), "train")
        seq_len, tokens = speaker.seq_len, encode_table(documents, tok)
        if train.get("stage") == "finetune":  # its figures are of rows as they are trained on
            seq_len = min(seq_len, parts.inside(parts.inside(folder.meta, "config"), "model").get("seq_len", seq_len))
            policy = train.get("long_rows", "shorten")
            tokens = response_tokens(documents, own_dialog(tok), seq_len, Counts(), policy)
        places, total = spoken.draw_places(tokens, seq_len, budget)
        pieces = [tokens.ids[place] for place in places]
        counted = None if tokens.trained is None else [tokens.trained[place][1:] > 0 for place in places]
        if isinstance(said.get("val_loss"), float):
            total = said["val_tokens"] if isinstance(said.get("val_tokens"), int) else total
            lines.append(spoken.check_loss(speaker, pieces, total, said["val_loss"], len(documents), counted))
        else:
            where = "the validation split (loam.json states no loss)"
            lines.append(spoken.check_loss_of_guessing(speaker, pieces, where, counted))
        prompts = corpus_prompts(documents, tok, speaker.seq_len, spoken.NUM_PROMPTS, most_new)
    return lines + spoken.check_answers(speaker, reader, prompts, most_new, folder.own)


def print_lines(result: dict[str, Any]) -> None:
    """A line a check, then the verdict."""
    width = max(len(line["name"]) for line in result["lines"])
    for line in result["lines"]:
        todo = f": {line['todo']}" if line["todo"] else ""
        print(f"{line['status']}  {line['name']:{width}}  {line['found']}{todo}")
    counts = ", ".join(f"{number} {status}" for status, number in result["counts"].items() if number)
    print(f"{result['checkpoint']} is {'sound' if result['sound'] else 'NOT sound'}: {counts}")


def main() -> None:
    """The command."""
    from config import load_command

    settings = load_command(
        None,
        description=__doc__,
        positional={"checkpoint": "1"},
        flags={
            "json": (None, "write everything to this file"),
            "quick": (False, "leave out loss and answers"),
            "device": ("cpu", "cpu, cuda, mps or auto; a cpu leaves the GPU to the run that trains"),
        },
    )
    args = settings.args
    if args.device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {args.device}: expected one of auto, cpu, cuda, mps")
    path = find_checkpoint(args.checkpoint, args.run)
    if args.json:
        refuse_file("json", Path(args.json), [path], ("checkpoint", "lines"))
    result = check(path, args.quick, args.device)
    print_lines(result)
    if args.json:
        write_json(Path(args.json), result)
        print(f"json: {args.json}")
    following = next_command(path, result)
    if following:
        print(f"next: {following}")
    if not result["sound"]:
        sys.exit(1)


def next_command(path: Path, result: dict[str, Any]) -> str | None:
    """Talk to it; instead of an unsound one of a run, look at the newest other."""
    if result["kind"] != "loam":
        return None
    if result["sound"]:
        return f"python chat.py {path}"
    others = [other for other in checkpoints(path.parent) if other.name != path.name]
    return f"python eval/check.py {others[-1]}" if others else None


def _gone(path: Path) -> UserError:
    return UserError(f"{path} went away while it was looked at: its run drops old step-... ones; take a newer one")


if __name__ == "__main__":
    run_command(main)
