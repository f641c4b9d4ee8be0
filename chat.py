"""Talk to a checkpoint in the terminal: `python chat.py ckpt3`, or one answer with `--question "..."`.

Two checkpoints (`python chat.py ckpt1 ckpt3`) answer each question side by side, each with its own memory of the talk.

Each line is a question; the answer appears as it is generated and ends where the model stops by itself, before a stop
text, at max_new_tokens, or where its context is full. Earlier turns are given along, the oldest left out when they do
not fit. A `transformers` folder of a Qwen3- or Llama-shaped model is asked by its own chat template.
  /reset   forget the earlier turns        /quit   leave (as do Ctrl-D and Ctrl-C)
Questions can be piped in, one a line.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py

if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError, run_command
from common.runs import find_checkpoint
from common.text import not_unicode
from config import load_command
from model.decoder import Decoder
from model.generate import Generation, generate
from model.inference import PRECISIONS, pack
from tokenizer.dialog import Dialog
from tokenizer.writer import Writer
from training import distributed
from training.checkpoint import load_to_ask

Turn = tuple[str, str]  # question, answer
ROLES = ("user", "assistant")


@dataclass
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: 0 takes the likeliest token always
        top_k: draw from the k likeliest tokens only; 0 draws from all
        top_p: draw from the fewest likeliest tokens that have this probability together
        min_p: draw from tokens of at least this share of the likeliest one's probability
        repetition_penalty: above 1, tokens that the conversation holds become less likely
        max_new_tokens: longest answer, in tokens
        min_new_tokens: the model does not end its answer before so many; a stop text may
        stop: texts that end an answer, as ["\\n\\n", "Q:"]; what stands before them is the answer
        seed: another seed, other draws
    """

    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    min_new_tokens: int = 0
    stop: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = (("temperature", 0, 100), ("top_p", 0, 1), ("min_p", 0, 1), ("repetition_penalty", 0.01, 100))
        for name, low, high in ranges:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name} {getattr(self, name)}: must be from {low} to {high}")
        for name, least in (("top_k", 0), ("max_new_tokens", 1), ("min_new_tokens", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: must be {least} or more")
            if getattr(self, name) >= 2**63:
                raise UserError(f"--{name} {getattr(self, name)}: must be less than 2**63")
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"--min_new_tokens {self.min_new_tokens}: is more than max_new_tokens, {self.max_new_tokens}"
            )
        if "" in self.stop:
            raise UserError("--stop: an empty text ends every answer before it begins")


def fitting_history(
    dialog: Dialog, history: list[Turn], question: str, seq_len: int, max_new_tokens: int, system: str | None = None
) -> tuple[list[int], list[Turn]]:
    """Prompt with as many of the newest whole turns as leave room for an answer, behind `system`, and those turns.

    Room: max_new_tokens, or a quarter of the context where that is less. UserError for a question that fills it all, or
    that the template refuses.
    """
    room = min(max_new_tokens, max(1, seq_len // 4))
    for first in range(len(history) + 1):
        kept = history[first:]
        turns = [*kept, (question,)]
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": role, "content": text} for turn in turns for role, text in zip(ROLES, turn, strict=False)]
        try:
            prompt = dialog.prompt(messages)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from None
        if len(prompt) + room <= seq_len:
            return prompt, kept
    if len(prompt) >= seq_len:
        raise UserError(f"the question is too long: {len(prompt):,} tokens, and the model's context holds {seq_len:,}")
    return prompt, []


def printable(text: str) -> str:
    """Text without control characters: those of a corpus must not reach the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def reply(
    model: Decoder, dialog: Dialog, prompt: list[int], sampling: Sampling, turn: int, write: Callable[[str], Any]
) -> tuple[Generation, str]:
    """Generate and write one answer, and what follows it; the draw depends on the seed and the number of the turn."""
    writer = Writer(dialog, lambda text: write(printable(text)), sampling.stop)
    said = generate(
        model,
        [prompt],
        max_new_tokens=sampling.max_new_tokens,
        eos_id=dialog.eos,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        seed=sampling.seed + turn,
        on_token=writer.on_token,
        banned=dialog.banned,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        min_new_tokens=sampling.min_new_tokens,
        ends=writer.ends,
    )[0]
    return said, writer.finish()


@dataclass
class Side:
    """A checkpoint that answers, its memory of the talk, and what stands before its answers where there are two."""

    model: Decoder
    dialog: Dialog
    name: str = ""
    history: list[Turn] = field(default_factory=list)
    system: str | None = None  # what stands before every talk


def chat(sides: list[Side], lines: Iterator[str], sampling: Sampling, write: Callable[[str], Any]) -> None:
    """Every side answers each line, one after the other, until they end or /quit.

    Then a side's history holds the turns that its last answer had before it, and itself.
    """
    turn = 0
    for line in lines:
        question = line.strip()
        if question == "/quit":
            break
        if question == "/reset":
            for side in sides:
                side.history.clear()
            write("(forgotten)\n")
            continue
        if question.startswith("/"):
            write("commands are /reset and /quit\n")
            continue
        if not question:
            continue
        for side in sides:
            if side.name:
                write(f"{side.name}: ")
            try:
                answer_question(side, question, sampling, turn, write)
            except UserError as error:
                write(f"error: {error}\n")
                continue
            write("\n")
        turn += 1


def answer_question(side: Side, question: str, sampling: Sampling, turn: int, write: Callable[[str], Any]) -> None:
    """Answer with as much of the side's history as fits, and add to it. UserError for a question that is too long."""
    context = side.model.shape.seq_len
    prompt, kept = fitting_history(side.dialog, side.history, question, context, sampling.max_new_tokens, side.system)
    said, answer = reply(side.model, side.dialog, prompt, sampling, turn, write)
    write(f"{ending(said, answer)}\n")
    side.history = [*kept, (question, answer)]


def continue_text(side: Side, text: str, sampling: Sampling, write: Callable[[str], Any]) -> None:
    """Go on with a text, as documents do. UserError for one that fills the context, or leaves nothing to go on with."""
    prompt = [*side.dialog.begin, *side.dialog.encode(text)]
    if not prompt:
        raise UserError("--text: is empty, and this model has no token that begins a text")
    if len(prompt) >= side.model.shape.seq_len:
        raise UserError(f"--text: {len(prompt):,} tokens, and the model's context holds {side.model.shape.seq_len:,}")
    write(f"{ending(*reply(side.model, side.dialog, prompt, sampling, 0, write))}\n")


def ending(said: Generation, answer: str) -> str:
    """What follows an answer: nothing where the model stopped by itself, or a stop text ended it."""
    if said.stopped or said.ended:
        return "" if answer else "(no answer)"
    return " ... (cut off)"


def typed_lines() -> Iterator[str]:
    """Lines of a person, with a prompt, or of a pipe, without."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # what is no UTF-8 is refused with its question
        encoding = None if sys.stdin.isatty() else "utf-8"  # a terminal has its own
        sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape")
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history in input())
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return


def main() -> None:
    """The command."""
    settings = load_command(
        None,
        description=__doc__,
        positional={"checkpoints": "+"},
        flags={
            "question": (None, "answer this question and exit"),
            "text": (None, "continue this text and exit, as books are continued: no question, no answer"),
            "system": (None, "a system's words, or a context that questions are about: stands before every talk"),
            "verify": (True, "compare the checkpoint's files with their hashes (a second a gigabyte)"),
            "device": ("auto", "auto, cpu, cuda or mps"),
            "precision": ("stored", "of the weights: as they are stored, fp32, or bf16: sooner, answers may differ"),
        },
        options=Sampling,
    )
    args, sampling = settings.args, settings.args.options
    if args.device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {args.device}: expected one of auto, cpu, cuda, mps")
    if args.precision not in PRECISIONS:
        raise UserError(f"--precision {args.precision}: expected one of {', '.join(PRECISIONS)}")
    if args.question is not None and not args.question.strip():
        raise UserError("--question: is empty; ask something, or leave the flag out and type")
    if args.question is not None and args.text is not None:
        raise UserError("--question and --text: one is answered, the other continued; give one of them")
    for flag, given in (("--question", args.question), ("--text", args.text), ("--system", args.system)):
        if given is not None and (found := not_unicode(given)):
            raise UserError(f"{flag}: is not valid UTF-8: {found}")
    if len(args.checkpoints) > 2:
        raise UserError(f"{len(args.checkpoints)} checkpoints: one answers, or two side by side")
    paths = [find_checkpoint(name, args.run) for name in args.checkpoints]
    device = distributed.start(args.device).device
    sides = []
    for path in paths:
        model, dialog, meta = load_to_ask(path, device, args.verify, PRECISIONS[args.precision])
        sides.append(Side(pack(model), dialog, str(path) if len(paths) > 1 else "", system=args.system))
        if sys.stdin.isatty() and args.question is None and args.text is None:
            print(f"{path}, epoch {meta.get('epoch', '?')}, context {model.shape.seq_len} tokens")

    def write(text: str) -> None:
        print(text, end="", flush=True)

    if args.question is None and args.text is None:
        if sys.stdin.isatty():
            print("(/reset forgets, /quit ends)")
        chat(sides, typed_lines(), sampling, write)
        return
    for side in sides:
        if side.name:
            write(f"{side.name}: ")
        if args.question is not None:
            answer_question(side, args.question, sampling, 0, write)
        else:
            continue_text(side, args.text, sampling, write)


if __name__ == "__main__":
    run_command(main)
