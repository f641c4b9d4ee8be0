"""BPE by `sentencepiece`, lossless: train a model, and write its rules as a tokenizer.json that gives the same ids.

In: texts. Out: a ModelProto (tokenizer.model: what sentencepiece and llama.cpp read) and a `tokenizers.Tokenizer`.

  1. texts become sentences in a file: what sentencepiece would skip or join is cut there
  2. a process of its own trains on the file; its log moves a progress bar
  3. the model's pieces become vocabulary and merges

Characters that the model lacks are spelled in bytes, and no white space is added, removed or normalised. sentencepiece
writes a space as U+2581 and cannot tell the two apart. Our pieces hold spaces, and a U+2581 in a text is spelled in
bytes: by tokenizer.json because no piece holds it, by `encode_native` because it looks for it first. An engine that
reads tokenizer.model by itself takes U+2581 for a space.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from google.protobuf.message import DecodeError, Message
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models
from tqdm import tqdm

from common.errors import MachineError, UserError
from tokenizer.config import SMALLEST
from tokenizer.native import SPACE, usable_cores
from tokenizer.template import BOS, EOS, NUM_SPECIAL, PAD, SPECIAL_TOKENS

SENTENCE = 1000  # characters, 4,000 bytes at most: sentencepiece skips what is longer than max_sentence_length
COVERAGE = 0.9995  # of the text's characters have a piece of their own, as sentencepiece has it by default
# Ends of sentences. Line breaks, so that no piece holds one and a text may be cut there without a change of its ids;
# what sentencepiece skips a sentence for (NUL, U+2585) or cannot learn (U+2581); the last letter of what spells a byte
# token or a special one, so that no piece can spell it.
_END = re.compile(
    "[\n\0\u2581\u2585]+|(?<=<0x[0-9A-Fa-f][0-9A-Fa-f])(?=>)|"
    + "|".join(f"(?<={re.escape(token[:-1])})(?=>)" for token in SPECIAL_TOKENS)
)
_ODD = ("\0", "\u2581", "\u2585", "<0x", "<|")  # where none of these stands, only line breaks end sentences
_LONG = re.compile(rf".{{1,{SENTENCE}}}(?= |$)|.{{1,{SENTENCE}}}", re.DOTALL)
_TRAIN = "import json, sys, sentencepiece as s; s.SentencePieceTrainer.train(**json.load(sys.stdin))"
_MERGES = re.compile(rb"merges=(\d+)")
schema: Any = sentencepiece_model_pb2  # its classes are made when it is imported


def train_spm(texts: Iterable[str], vocab_size: int, split_digits: bool, show_progress: bool, scratch: Path) -> Message:
    """Train on `texts`; `scratch` is a folder for as much as they take. The result may have fewer pieces than asked for
    where the texts support no more. UserError where they hold nothing to learn from."""
    file = scratch / "sentences.txt"
    with file.open("w", encoding="utf-8", newline="") as out:
        out.writelines(line + "\n" for text in texts if (line := as_lines(text)))
    if not file.stat().st_size:
        raise UserError("the training text holds nothing but line breaks: there is nothing to learn a tokenizer from")
    settings = {
        "input": str(file),
        "model_prefix": str(scratch / "trained"),
        "model_type": "bpe",
        "vocab_size": vocab_size,
        "hard_vocab_limit": False,
        "character_coverage": COVERAGE,
        "required_chars": SPACE,  # else a space is spelled in the bytes of U+2581 where the texts hold none
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,  # indentation
        "split_digits": split_digits,
        "max_sentence_length": 4 * SENTENCE,
        "num_threads": usable_cores(),
        **bpe_settings(),
    }
    try:
        _train_in_a_process(settings, vocab_size, show_progress)
    except _NoRoom:
        common = _without_rare(file, max(1, (vocab_size - SMALLEST) // 2))
        settings |= {"input": str(common), "character_coverage": 1.0}
        _train_in_a_process(settings, vocab_size, show_progress)
    model = schema.ModelProto.FromString((scratch / "trained.model").read_bytes())
    for name in ("input", "model_prefix", "num_threads"):  # the same texts give the same bytes, wherever they lie
        model.trainer_spec.ClearField(name)
    assert [piece.piece for piece in model.pieces[:NUM_SPECIAL]] == list(SPECIAL_TOKENS)
    return model


def bpe_settings() -> dict[str, Any]:
    """What makes the first ids of a model those of SPECIAL_TOKENS, and the next those of bytes."""
    return {
        "byte_fallback": True,
        # sentencepiece must have an unknown piece. With 256 bytes nothing is unknown, so it may as well be padding.
        "unk_id": PAD,
        "unk_piece": SPECIAL_TOKENS[PAD],
        "pad_id": -1,
        "bos_id": BOS,
        "bos_piece": SPECIAL_TOKENS[BOS],
        "eos_id": EOS,
        "eos_piece": SPECIAL_TOKENS[EOS],
        "control_symbols": list(SPECIAL_TOKENS[EOS + 1 :]),
    }


def as_lines(text: str) -> str:
    """What sentencepiece is to learn from a text: sentences of SENTENCE characters at most, each a line."""
    text = text.replace("\r", "\n")
    if any(odd in text for odd in _ODD):
        text = "\n".join(filter(None, _END.split(text)))
    if max(map(len, text.split("\n"))) > SENTENCE:
        text = "\n".join(part for line in text.split("\n") for part in _LONG.findall(line))
    return text.strip("\n")


def read_model(path: Path) -> Message:
    """A .model file; UserError where it is none."""
    try:
        model = schema.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path} is not a model of sentencepiece") from None
    if not model.pieces:
        raise UserError(f"{path} is not a model of sentencepiece")
    return model


def as_tokenizer(model: Message) -> tokenizers.Tokenizer:
    """The rules of a BPE model with ids as ours (special tokens first, all 256 bytes): the same ids for every text."""
    normal = [piece.type == schema.ModelProto.SentencePiece.NORMAL for piece in model.pieces]
    names = [
        piece.piece.replace(SPACE, " ") if own else piece.piece for piece, own in zip(model.pieces, normal, strict=True)
    ]
    vocab = {name: i for i, name in enumerate(names)}
    pieces = {name: -model.pieces[i].score for name, i in vocab.items() if normal[i]}
    # sentencepiece merges any two neighbours that make a piece: the best piece first, of equals the leftmost. Here each
    # way to make a piece has a rank of its own; which of them goes first changed no id in 600 random vocabularies.
    ways = sorted(
        (rank, piece[:cut], piece[cut:])
        for piece, rank in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    )
    merges = [(left, right) for _, left, right in ways]
    bpe = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    bpe.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return bpe


class _NoRoom(Exception):
    """The vocabulary has fewer places than the text has characters that are to be covered."""


def _without_rare(file: Path, most: int) -> Path:
    """Another file of the sentences, ended at each character that is not among the `most` commonest.

    Chinese has more characters than a small vocabulary has room; half of it is for merges. sentencepiece itself would
    take no coverage below 0.98.
    """
    counts: Counter[str] = Counter()
    with file.open(encoding="utf-8", newline="") as lines:
        for line in lines:
            counts.update(line)
    del counts["\n"]
    rare = sorted(counts, key=lambda char: (-counts[char], char))[most:]
    ends = dict.fromkeys(map(ord, rare), "\n")
    common = file.with_name("common.txt")
    with file.open(encoding="utf-8", newline="") as lines, common.open("w", encoding="utf-8", newline="") as out:
        for line in lines:
            out.writelines(part + "\n" for part in line.translate(ends).split("\n") if part)
    return common


def _train_in_a_process(settings: dict[str, Any], vocab_size: int, show_progress: bool) -> None:
    """Its log is read as it comes, and Ctrl-C ends it, which inside of it would not be heard."""
    bar = tqdm(total=vocab_size, desc="merging", unit=" tokens", disable=not show_progress)
    command = [sys.executable, "-c", _TRAIN]
    with bar, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as trainer:
        assert trainer.stdin
        assert trainer.stderr
        try:
            trainer.stdin.write(json.dumps(settings).encode())
            trainer.stdin.close()
            last = b""
            for line in trainer.stderr:
                last = line.strip() or last
                if found := _MERGES.search(line):
                    bar.update(int(found.group(1)) - bar.n)
            if trainer.wait():
                if b"required_chars" in last:
                    raise _NoRoom
                if trainer.returncode < 0:
                    said = f"was ended by signal {-trainer.returncode}, as where memory does not suffice"
                    raise MachineError(f"sentencepiece {said}: a smaller [tokenizer] sample_bytes needs less")
                raise RuntimeError(f"sentencepiece ended with exit code {trainer.returncode}: {last.decode()}")
        finally:
            trainer.kill()
