"""A checkpoint in memory as comparisons use it, loam's own or another's: losses of documents, answers to questions.

loam's own are given documents and prompts by the one template (tokenizer/template.py). Others know none of its markers:
a document is its fields as plain text, a line each, behind the model's own first token (bos; without one eos, as
lm-eval has it); a question is asked by their chat template where they have one. The bytes are the corpus' own for all,
so bits per byte compare; what stands between fields is in none of them. A checkpoint that loam fine-tuned from
another's, and the start of such a run, is asked as it is trained: the losses of answers are those behind the prompts of
its own template.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from common.errors import UserError
from common.files import read_json
from common.text import error_line
from eval.answers import answer
from eval.losses import PASS_TOKENS, DocumentLosses, PositionLosses, document_losses
from eval.questions import Question, prompt_text
from eval.speaker import Reader, Speaker, foreign_because, foreign_model, foreign_reader, foreign_speaker
from model.config import count_parameters
from model.decoder import Decoder
from tokenizer.bpe import Tokenizer
from tokenizer.dialog import Dialog, open_dialog
from tokenizer.encode import encode_table
from tokenizer.template import IN_ANSWER, IN_CONTEXT, IN_QUESTION, IN_TEXT, MARKER, ROLE_NAMES, messages_of
from training.checkpoint import load_for_inference, verify
from training.start import NOTE

UNCOUNTED = -1  # the role of a token that a template writes by itself
LONGEST = 2048  # tokens of a pass: a context of 128,000 would take all memory
TOGETHER = 16  # prompts answered in one batch
ROLE_OF = {"context": IN_CONTEXT, "user": IN_QUESTION, "assistant": IN_ANSWER}  # of a message


@dataclass
class Opened:
    """What is asked of a checkpoint."""

    seq_len: int
    vocab_size: int
    num_parameters: int
    losses: Callable[..., DocumentLosses]  # (table, progress=None, by_position=None)
    answer: Callable[..., list[dict[str, Any]]]  # (questions, max_new_tokens, temperature=0.0, top_p=1.0, seeds=None)
    positions: PositionLosses | None  # to be handed to `losses`; None: not known of others' tokens
    own: tuple[Decoder, Tokenizer] | None  # loam's; None: another's


def open_own(path: Path, device: torch.device, hashes: bool, batch_rows: int | None) -> Opened:
    """A checkpoint of loam's. Raises UserError."""
    model, tok, _ = load_for_inference(path, device, hashes)
    seq_len = model.shape.seq_len

    def losses(table: pa.Table, progress: str | None = None, by_position: PositionLosses | None = None) -> Any:
        tokens = encode_table(table, tok)
        return document_losses(model, tokens, seq_len, device, batch_rows, progress=progress, by_position=by_position)

    return Opened(
        seq_len=seq_len,
        vocab_size=tok.vocab_size,
        num_parameters=count_parameters(model.shape),
        losses=losses,
        answer=partial(answer, model, tok),
        positions=PositionLosses(np.array(tok.token_bytes)),
        own=(model, tok),
    )


# -- others'


def context_of(path: Path) -> int:
    """Tokens of context that another's folder states, LONGEST at most."""
    config = read_json(path / "config.json")
    config = config.get("text_config") or config
    stated = [config.get(name) for name in ("max_position_embeddings", "n_positions")]
    return min([LONGEST, *(number for number in stated if isinstance(number, int) and number > 1)])


def open_foreign(path: Path, device: torch.device, hashes: bool = True) -> Opened:
    """A folder that `transformers` loads; one that loam trained on from such is verified first. Raises UserError.

    That, and what a run of loam's starts from, is asked as the run asks.
    """
    if (path / "loam.json").exists():
        verify(path, hashes=hashes)
    of_run = any((path / name).exists() for name in ("loam.json", NOTE))
    dialog = open_dialog(path) if of_run else None
    try:
        reader = foreign_reader(path)
        model, info = foreign_model(path, device, whole=True)
    except UserError:
        raise
    except Exception as error:  # transformers raises what it likes
        why = f"{foreign_because(path)}, and transformers cannot open it"
        raise UserError(f"{path} {why}: {error_line(error)}") from None
    if lacking := sorted(info.get("missing_keys") or []):
        raise UserError(f"{path}: {len(lacking)} tensors are missing, the first {lacking[0]}")
    stated = path / "generation_config.json"
    speaker = foreign_speaker(model, reader, read_json(stated) if stated.exists() else {}, device)
    speaker.seq_len = context_of(path)
    return Opened(
        seq_len=speaker.seq_len,
        vocab_size=speaker.vocab_size,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        losses=partial(_foreign_losses, reader, speaker, dialog),
        answer=partial(_foreign_answers, reader, speaker, dialog),
        positions=None,
        own=None,
    )


def first_ids(reader: Reader) -> list[int]:
    """What stands before a text, so that its first token is a target too."""
    for found in (reader.begin, [reader.roles["bos"]], [reader.roles["eos"]], [reader.roles["pad"]], [0]):
        if found and found[0] is not None:
            return [found[0]]
    raise AssertionError("unreachable")


def _parts(row: dict[str, Any]) -> list[tuple[int, str]]:
    """(role, text) of a row's fields; of a conversation each turn, as what its role is."""
    if row.get("text") is not None:
        return [(IN_TEXT, row["text"])]
    return [(ROLE_OF[message["role"]], message["content"]) for message in messages_of(row)]


def _document(reader: Reader, parts: Sequence[tuple[int, str]]) -> tuple[list[int], list[int]]:
    """(ids, role of each) of a row as text; the first id is given."""
    ids, roles = first_ids(reader), [MARKER]
    for role, text in parts:
        if len(ids) > 1:
            gap = reader.encode_as_text("\n")
            ids, roles = ids + gap, roles + [MARKER] * len(gap)
        found = reader.encode_as_text(text)
        ids, roles = ids + found, roles + [role] * len(found)
    return ids, roles


def _sequences(reader: Reader, dialog: Dialog | None, row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """What is computed for a row: each token of its content stands in one of them.

    With a dialog, answers are counted behind the prompts of its template, and what it writes by itself is not. Where it
    writes earlier answers otherwise, as templates do that drop thoughts, those are plain text.
    """
    parts = _parts(row)
    try:
        asked = dialog.document(messages_of(row)) if dialog is not None and row.get("answer") is not None else None
    except ValueError:  # its template refuses it
        asked = None
    if asked is None:
        return [_document(reader, parts)]
    begun = np.flatnonzero((asked.trained > 0) & (np.append(0, asked.trained[:-1]) == 0))  # each answer's first token
    answers = [i for i, (role, _) in enumerate(parts) if role == IN_ANSWER]
    if len(begun) != len(answers):
        begun, answers = begun[-1:], answers[-1:]
    roles = np.choose(asked.trained, [UNCOUNTED, IN_ANSWER, MARKER])
    roles[: begun[0]] = UNCOUNTED
    return [_document(reader, [part for i, part in enumerate(parts) if i not in answers]), (asked.ids, roles.tolist())]


@torch.no_grad()
def _foreign_losses(
    reader: Reader,
    speaker: Speaker,
    dialog: Dialog | None,
    table: pa.Table,
    progress: str | None = None,
    by_position: PositionLosses | None = None,
) -> DocumentLosses:
    """Losses of every document, each by itself in windows of the model's context: a window's first token is given."""
    rows = table.to_pylist()
    nats = np.zeros((len(rows), len(ROLE_NAMES)))
    counts = np.zeros((len(rows), len(ROLE_NAMES)), dtype=np.int64)
    sizes = np.zeros((len(rows), len(ROLE_NAMES)), dtype=np.int64)
    width = speaker.seq_len
    windows: list[tuple[int, list[int], list[int]]] = []  # (document, ids, roles)
    for number, row in enumerate(rows):
        for ids, roles in _sequences(reader, dialog, row):
            starts = range(0, len(ids) - 1, width)
            windows += [(number, ids[i : i + width + 1], roles[i : i + width + 1]) for i in starts]
        for role, text in _parts(row):
            sizes[number, role] += len(text.encode())
    windows.sort(key=lambda window: len(window[1]))  # rows of one length waste nothing
    at_once = PASS_TOKENS[speaker.device.type]
    bar = tqdm(total=len(windows), desc=progress, unit=" rows", disable=progress is None, leave=False)
    while windows:
        longest = len(windows[-1][1]) - 1
        batch = windows[-max(1, at_once // longest) :]
        del windows[-len(batch) :]
        inputs = torch.zeros((len(batch), longest), dtype=torch.long)
        targets = torch.full((len(batch), longest), -100)
        for i, (_, of, _) in enumerate(batch):
            inputs[i, : len(of) - 1], targets[i, : len(of) - 1] = torch.tensor(of[:-1]), torch.tensor(of[1:])
        found = speaker.nats(inputs.to(speaker.device), targets.to(speaker.device)).double().cpu().numpy()
        for i, (number, of, roles) in enumerate(batch):
            counted = np.asarray(roles[1:]) != UNCOUNTED
            role = np.asarray(roles[1:])[counted]
            np.add.at(nats[number], role, found[i, : len(of) - 1][counted])
            np.add.at(counts[number], role, 1)
        bar.update(len(batch))
    bar.close()
    return DocumentLosses(nats, counts, sizes)


def _foreign_answers(
    reader: Reader,
    speaker: Speaker,
    dialog: Dialog | None,
    questions: Sequence[Question],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Greedy answers, or sampled ones with a seed a question; to a prompt that fills the context by itself none."""
    prompts = [_prompt(reader, dialog, question) for question in questions]
    rooms = [min(max_new_tokens, speaker.seq_len - len(prompt)) for prompt in prompts]
    said: list[dict[str, Any]] = [{"text": "", "stopped": False, "tokens": 0} for _ in prompts]
    order = sorted((i for i in range(len(prompts)) if rooms[i] > 0), key=lambda i: (rooms[i], len(prompts[i])))
    for room in sorted(set(rooms)):  # of most questions the same
        alike = [i for i in order if rooms[i] == room]
        for first in range(0, len(alike), TOGETHER):
            some = alike[first : first + TOGETHER]
            own = None if seeds is None else [seeds[i] for i in some]
            made = speaker.answer([prompts[i] for i in some], room, temperature, top_p, own)
            for i, of in zip(some, made, strict=True):
                said[i] = {"text": reader.decode(of.ids), "stopped": of.stopped, "tokens": len(of.ids)}
    return said


def try_template(path: Path, reader: Reader) -> None:
    """UserError where the folder's chat template cannot ask a question: its answers come after all losses."""
    if reader.converse is None:
        return
    try:
        rendered = reader.converse([{"role": "user", "content": "What is water?"}], True)
    except Exception as error:  # whatever a template of anybody's makes jinja or transformers raise
        said = error_line(error)
    else:
        said = "" if rendered else "it gives no tokens"
    if said:
        raise UserError(f"{path}: its chat template does not render a question: {said}; mend it, or take it out")


def _prompt(reader: Reader, dialog: Dialog | None, question: Question) -> list[int]:
    text = prompt_text(question)
    if dialog is not None and question.question is not None:
        with suppress(ValueError):  # its template refuses it
            return dialog.prompt(messages_of({"context": question.context, "question": question.question}))
    if question.question is not None and reader.converse is not None:
        return reader.converse([{"role": "user", "content": text}], True)
    return first_ids(reader) + reader.encode_as_text(text if question.question is None else f"{text}\n")
