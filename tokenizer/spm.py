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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from google.protobuf.message import Message
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models
from tqdm import tqdm

from common.errors import UserError
from tokenizer.config import SMALLEST
from tokenizer.native import SPACE
from tokenizer.template import BOS, EOS, NUM_SPECIAL, PAD, SPECIAL_TOKENS

SENTENCE = 1000  # characters, 4,000 bytes at most: sentencepiece skips what is longer than max_sentence_length
COVERAGE = 0.9995  # of the text's characters get a piece of their own, as sentencepiece has it by default
# Ends of sentences. Line breaks, so that no piece holds one and a text may be cut there without a change of its ids;
# what sentencepiece skips a sentence for (NUL, U+2585) or cannot learn (U+2581); the last letter of what spells a byte
# token or a special one, so that no piece can spell it.
_END = re.compile(
    "[\r\n\0\u2581\u2585]+|(?<=<0x[0-9A-Fa-f][0-9A-Fa-f])(?=>)|"
    + "|".join(f"(?<={re.escape(token[:-1])})(?=>)" for token in SPECIAL_TOKENS)
)
_LONG = re.compile(rf".{{1,{SENTENCE}}}(?= |$)|.{{1,{SENTENCE}}}", re.DOTALL)
_TRAIN = "import json, sys, sentencepiece as s; s.SentencePieceTrainer.train(**json.load(sys.stdin))"
_MERGES = re.compile(rb"merges=(\d+)")
schema: Any = sentencepiece_model_pb2  # its classes are made when it is imported


def train_spm(texts: Iterable[str], vocab_size: int, split_digits: bool, show_progress: bool, scratch: Path) -> Message:
    """Train on `texts`; `scratch` is a folder for as much as they take. The result may have fewer pieces than asked for
    where the texts support no more. UserError where they hold nothing to learn from."""
    file = scratch / "sentences.txt"
    counts = _write_sentences(texts, file)
    if not counts:
        raise UserError("the training text holds nothing but line breaks: there is nothing to learn a tokenizer from")
    rare = _rare(counts, max(1, (vocab_size - SMALLEST) // 2))
    if rare:
        file = _without(rare, file)
    settings = {
        "input": str(file),
        "model_prefix": str(scratch / "trained"),
        "model_type": "bpe",
        "vocab_size": vocab_size,
        "hard_vocab_limit": False,
        "character_coverage": COVERAGE if not rare else 1.0,
        "required_chars": SPACE,  # else a space is spelled in the bytes of U+2581 where the texts hold none
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,  # indentation
        "split_digits": split_digits,
        "max_sentence_length": 4 * SENTENCE,
        **bpe_settings(),
    }
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


def sentences(text: str) -> Iterator[str]:
    """What sentencepiece is to learn from a text, in pieces of at most SENTENCE characters, cut at spaces if it can."""
    for sentence in _END.split(text):
        if len(sentence) > SENTENCE:
            yield from _LONG.findall(sentence)
        elif sentence:
            yield sentence


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


def _write_sentences(texts: Iterable[str], file: Path) -> Counter[int]:
    """One sentence a line; returns how often each character is there, by its code point."""
    counts: Counter[int] = Counter()
    total = np.zeros(sys.maxunicode + 1, dtype=np.int64)
    with file.open("w", encoding="utf-8", newline="") as out:
        for text in texts:
            lines = "\n".join(sentences(text))
            if lines:
                out.write(lines + "\n")
                codes = np.frombuffer(lines.encode("utf-32-le"), dtype=np.uint32)
                found = np.bincount(codes)
                total[: len(found)] += found
    total[ord("\n")] = 0
    (present,) = total.nonzero()
    counts.update(dict(zip(present.tolist(), total[present].tolist(), strict=True)))
    return counts


def _rare(counts: Counter[int], most: int) -> list[int]:
    """The characters that get no piece because `most` commoner ones make less than COVERAGE of the text; else none.

    Chinese has more characters than a small vocabulary has room; half of it is for merges. sentencepiece itself
    refuses a coverage below 0.98, and a vocabulary without room for the characters that it covers.
    """
    common = counts.most_common()
    covered = sum(count for _, count in common[:most])
    return [code for code, _ in common[most:]] if covered < COVERAGE * counts.total() else []


def _without(rare: list[int], file: Path) -> Path:
    """The sentences of a file, ended at each rare character, in another file."""
    ends = dict.fromkeys(rare, "\n")
    other = file.with_name("common.txt")
    with file.open(encoding="utf-8", newline="") as lines, other.open("w", encoding="utf-8", newline="") as out:
        for line in lines:
            out.writelines(part + "\n" for part in line.translate(ends).split("\n") if part)
    return other


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
                raise RuntimeError(f"sentencepiece ended with exit code {trainer.returncode}: {last.decode()}")
        finally:
            trainer.kill()
