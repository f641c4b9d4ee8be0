"""Talk to a checkpoint in the terminal: `python chat.py ckpt3`, or one answer with `--question "..."`.

Each line is a question; the answer appears as it is generated and ends where the model stops by itself, at
max_new_tokens, or where its context is full. Earlier turns are given along, the oldest left out when they do not fit.
  /reset   forget the earlier turns        /quit   leave (as do Ctrl-D and Ctrl-C)
Questions can be piped in, one a line.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py

if __name__ == "__main__":
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import codecs
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from common.errors import UserError, run_command
from common.runs import find_checkpoint
from common.text import not_unicode
from config import load_command
from model.decoder import Decoder
from model.generate import Generation, generate
from tokenizer.bpe import Tokenizer
from tokenizer.template import BOS, EOS, NUM_SPECIAL, render_prompt
from training import distributed
from training.checkpoint import load_for_inference

Turn = tuple[str, str]  # question, answer


@dataclass
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: 0 takes the likeliest token always
        top_k: draw from the k likeliest tokens only; 0 draws from all
        top_p: draw from the fewest likeliest tokens that have this probability together
        max_new_tokens: longest answer, in tokens
        seed: another seed, other draws
    """

    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0, 100), ("top_p", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name} {getattr(self, name)}: must be from {low} to {high}")
        for name, least in (("top_k", 0), ("max_new_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: must be {least} or more")
            if getattr(self, name) >= 2**63:
                raise UserError(f"--{name} {getattr(self, name)}: must be less than 2**63")


def fitting_history(
    tok: Tokenizer, history: list[Turn], question: str, seq_len: int, max_new_tokens: int
) -> tuple[list[int], list[Turn]]:
    """Prompt with as many of the newest whole turns as leave room for an answer, and those turns.

    Room: max_new_tokens, or a quarter of the context where that is less. UserError for a question that fills it all.
    """
    room = min(max_new_tokens, max(1, seq_len // 4))
    for first in range(len(history) + 1):
        kept = history[first:]
        prompt = render_prompt(tok, question, history=kept)
        if len(prompt) + room <= seq_len:
            return prompt, kept
    if len(prompt) >= seq_len:
        raise UserError(f"the question is too long: {len(prompt):,} tokens, and the model's context holds {seq_len:,}")
    return prompt, []


def printer(tok: Tokenizer, write: Callable[[str], Any]) -> Callable[[int, int], None]:
    """`on_token` of `generate`: writes text as soon as its characters are whole; a token may end inside of one."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def on_token(row: int, token: int) -> None:
        text = decoder.decode(tok.decode_bytes([token]))
        if text:  # control characters of a corpus must not reach the terminal
            write("".join(c if c.isprintable() or c in "\n\t" else " " for c in text))

    return on_token


def reply(
    model: Decoder, tok: Tokenizer, prompt: list[int], sampling: Sampling, turn: int, write: Callable[[str], Any]
) -> Generation:
    """Generate and write one answer; the draw depends on the seed and the number of the turn."""
    return generate(
        model,
        [prompt],
        max_new_tokens=sampling.max_new_tokens,
        eos_id=EOS,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        seed=sampling.seed + turn,
        banned=[marker for marker in range(NUM_SPECIAL) if marker != EOS],
        on_token=printer(tok, write),
    )[0]


def chat(
    model: Decoder, tok: Tokenizer, lines: Iterator[str], sampling: Sampling, write: Callable[[str], Any]
) -> list[Turn]:
    """Answer each line until they end or /quit; returns the turns that the last answer had before it, and itself."""
    history: list[Turn] = []
    turn = 0
    for line in lines:
        question = line.strip()
        if question == "/quit":
            break
        if question == "/reset":
            history.clear()
            write("(forgotten)\n")
            continue
        if question.startswith("/"):
            write("commands are /reset and /quit\n")
            continue
        if not question:
            continue
        try:
            prompt, history = fitting_history(tok, history, question, model.shape.seq_len, sampling.max_new_tokens)
        except UserError as error:
            write(f"error: {error}\n")
            continue
        said = reply(model, tok, prompt, sampling, turn, write)
        write(f"{ending(said)}\n\n")
        history = [*history, (question, tok.decode(said.ids))]
        turn += 1
    return history


def ending(said: Generation) -> str:
    """What follows an answer: nothing where the model stopped by itself."""
    if said.stopped:
        return "" if said.ids else "(no answer)"
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
        positional={"checkpoint": "1"},
        flags={
            "question": (None, "answer this question and exit"),
            "text": (None, "continue this text and exit, as books are continued: no question, no answer"),
            "verify": (True, "compare the checkpoint's files with their hashes (a second a gigabyte)"),
            "device": ("auto", "auto, cpu, cuda or mps"),
        },
        options=Sampling,
    )
    args, sampling = settings.args, settings.args.options
    if args.device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {args.device}: expected one of auto, cpu, cuda, mps")
    if args.question is not None and not args.question.strip():
        raise UserError("--question: is empty; ask something, or leave the flag out and type")
    for flag, given in (("--question", args.question), ("--text", args.text)):
        if given is not None and (found := not_unicode(given)):
            raise UserError(f"{flag}: is not valid UTF-8: {found}")
    path = find_checkpoint(args.checkpoint, args.run)
    model, tok, meta = load_for_inference(path, distributed.start(args.device).device, args.verify)

    def write(text: str) -> None:
        print(text, end="", flush=True)

    if args.question is not None or args.text is not None:
        if args.question is not None:
            prompt, _ = fitting_history(tok, [], args.question, model.shape.seq_len, sampling.max_new_tokens)
        else:
            prompt = [BOS, *tok.encode(args.text)]
            if len(prompt) >= model.shape.seq_len:
                raise UserError(
                    f"--text: {len(prompt):,} tokens, and the model's context holds {model.shape.seq_len:,}"
                )
        said = reply(model, tok, prompt, sampling, 0, write)
        write(f"{ending(said)}\n")
        return
    if sys.stdin.isatty():
        print(
            f"{path}, epoch {meta.get('epoch', '?')}, context {model.shape.seq_len} tokens (/reset forgets, /quit ends)"
        )
    chat(model, tok, typed_lines(), sampling, write)


if __name__ == "__main__":
    run_command(main)
