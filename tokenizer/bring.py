"""A finished tokenizer, checked and renumbered: loam's special tokens first, then its own tokens in their order.

In: a tokenizer.json (byte-level BPE, or BPE of characters with byte tokens) or a .model of sentencepiece (BPE with
byte_fallback). Out: what `tokenizer.bpe.save_tokenizer` writes. UserError, in one line, where it is not lossless, or
not BPE. Its own special tokens are left out: loam renders every prompt with its own.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders

from common.errors import UserError
from common.files import read_json
from common.text import error_line, one_line
from tokenizer.bpe import Tokenizer
from tokenizer.config import LARGEST
from tokenizer.native import BYTE_TOKEN, SPACE
from tokenizer.patterns import PATTERNS
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

NAMES = ("tokenizer.model", "spiece.model", "tokenizer.json")  # in a folder, the first that can be taken
# What may stand in a pre-tokenizer: these only say where text is split, and drop nothing unless `behavior` says so.
_SPLITTERS = ("Split", "ByteLevel", "Digits", "Punctuation", "UnicodeScripts")
_KINDS = ("NORMAL", "USER_DEFINED", "BYTE")  # of sentencepiece's pieces; UNUSED ones are not, others are special
PROBES = [
    "".join(map(chr, range(0x100))),
    "".join(map(chr, range(0x0, 0xD800, 97))) + "\U0001f469\u200d\U0001f680 \U0010ffff",
    "  two  spaces \t tab\n\n  \r\n end ",
    "e\u0301 \u00e9 \ufb01 \u2581 \u1e9b\u0323 Ⅷ ① ｆｕｌｌ",  # what normalisers change
    "it's I'LL 12345 3.14 </s> <s> <unk> <0x0A> [UNK] <|endoftext|>",
]


def bring(path: Path) -> tuple[tokenizers.Tokenizer, bytes | None]:
    """The tokenizer of a file, or of a folder that holds one; and sentencepiece's model where it was one."""
    if path.is_dir():
        files = [path / name for name in NAMES if (path / name).is_file()]
        if not files:
            raise UserError(f"{path}: holds no {', '.join(NAMES[:-1])} or {NAMES[-1]}")
        for file, following in pairwise(files):
            try:
                return bring(file)
            except UserError as error:
                print(f"note: {error}: {following} is taken in its place")
        return bring(files[-1])
    if not path.is_file():
        raise UserError(f"{path}: no such file; it is a tokenizer.json, a .model of sentencepiece, or a folder of one")
    try:
        bpe, model = _from_model(path) if path.suffix == ".model" else (_from_json(path), None)
        _check(bpe)
        if bpe.get_vocab_size() > LARGEST:
            raise UserError(f"has {bpe.get_vocab_size():,} tokens: {LARGEST:,} or fewer are possible")
        return bpe, model
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith(str(path)) else f"{path}: {said}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _check(bpe: tokenizers.Tokenizer) -> None:
    """UserError where it lacks a byte, or a probe does not come out as it went in."""
    tok = Tokenizer(bpe)
    for probe, ids in zip(PROBES, tok.encode_batch(PROBES), strict=True):
        if tok.decode_bytes(ids) != probe.encode():
            raise UserError(f"is not lossless: {tok.decode(ids)[:40]!r} comes out for {probe[:40]!r}")


def _from_json(path: Path) -> tokenizers.Tokenizer:
    try:
        file = read_json(path)
        tokenizers.Tokenizer.from_file(str(path))
        model = file["model"]
        for name in ("end_of_word_suffix", "continuing_subword_prefix"):
            if model.get(name):
                raise UserError(f"marks parts of words ({name} {model[name]!r}), which is not lossless")
        if (kind := model.get("type", "BPE")) != "BPE":
            raise UserError(f"is a {kind} tokenizer: BPE can be taken, and nothing else")
        vocab: dict[str, int] = model["vocab"]
        merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        added = {token["content"]: bool(token.get("special")) for token in file.get("added_tokens") or []}
    except UserError:
        raise
    except Exception as error:  # the Rust side raises plain Exception for a damaged file
        raise UserError(f"is not a tokenizer.json: {error_line(error)}") from None
    by_bytes = any(BYTE_TOKEN.fullmatch(piece) for piece in vocab)
    if by_bytes and not model.get("byte_fallback"):
        raise UserError("has byte tokens and byte_fallback off, so characters that it lacks are lost")
    if by_bytes:
        vocab = {_spaced(piece): i for piece, i in vocab.items()}
        merges = [(_spaced(left), _spaced(right)) for left, right in merges]
        _refuse_normaliser(file.get("normalizer"), ("Prepend", "Replace"))
        if (splitter := file.get("pre_tokenizer")) is not None and splitter["type"] != "Metaspace":
            raise UserError(f"its pre-tokenizer ({splitter['type']}) parts text, which is not done beside byte tokens")
        splitter = None
        decoder: decoders.Decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        _refuse_normaliser(file.get("normalizer"), ())
        splitter, decoder = _splitter(file.get("pre_tokenizer")), decoders.ByteLevel()
    made = {left + right for left, right in merges}
    kept = [piece for piece in sorted(vocab, key=vocab.__getitem__) if piece not in added.keys() - made]
    if lost := [token for token, special in added.items() if not special and token not in made]:
        print(f"note: {path}: {len(lost)} tokens that no merge makes, as {one_line(lost[0], 30)!r}, are left out")
    if clash := set(SPECIAL_TOKENS) & set(kept):
        raise UserError(f"its text tokens include {min(clash)}, which is loam's own special token")
    numbered = {piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *kept])}
    own = {
        **{key: model[key] for key in ("type", "ignore_merges") if key in model},
        "type": "BPE",
        "vocab": numbered,
        "merges": [list(pair) for pair in merges],
        "byte_fallback": by_bytes,
    }
    content: dict[str, Any] = {"version": "1.0", "model": own, "pre_tokenizer": splitter}
    try:
        bpe = tokenizers.Tokenizer.from_str(json.dumps(content))
        bpe.decoder = decoder
        return bpe
    except Exception as error:
        raise UserError(f"cannot be taken: {error_line(error)}") from None


def _spaced(piece: str) -> str:
    return piece.replace(SPACE, " ")


def _refuse_normaliser(normaliser: dict[str, Any] | None, known: tuple[str, ...]) -> None:
    """Whether text comes out as it went in: what writes spaces as U+2581 (`known`) is left out, as is its prefix."""
    if normaliser is None:
        return
    parts = normaliser["normalizers"] if normaliser["type"] == "Sequence" else [normaliser]
    for part in parts:
        harmless = part["type"] == "Replace" and part.get("pattern") == {"String": " "} and part["content"] == SPACE
        if part["type"] not in known or not (harmless or part["type"] == "Prepend"):
            raise UserError(
                f"its normaliser ({part['type']}) changes text, so that it is not lossless; "
                'set "normalizer": null in the file to take it without'
            )


def _splitter(pre: dict[str, Any] | None) -> dict[str, Any]:
    """A byte-level pre-tokenizer that drops nothing, in the form in which loam's own has it."""
    parts = [] if pre is None else pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    if not parts or parts[-1]["type"] != "ByteLevel":
        raise UserError("is neither byte-level BPE nor BPE with byte tokens: characters that it lacks are lost")
    if parts[-1].get("add_prefix_space"):
        raise UserError('puts a space in front of each text; set "add_prefix_space": false in the file to take it so')
    for part in parts:
        if part["type"] not in _SPLITTERS or part.get("behavior") == "Removed":
            raise UserError(f"its pre-tokenizer ({part['type']}) drops or changes text, so that it is not lossless")
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    if parts[-1].get("use_regex", True):  # GPT-2's own pattern
        pattern = {"Regex": PATTERNS["gpt2"]}
        parts = [*parts[:-1], {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}]
    else:
        parts = parts[:-1]
    return {"type": "Sequence", "pretokenizers": [*parts, last]}


def _from_model(path: Path) -> tuple[tokenizers.Tokenizer, bytes]:
    try:
        from tokenizer.spm import as_tokenizer, bpe_settings, read_model, schema
    except ImportError as error:
        raise UserError(f"needs the library {error.name}, which is not installed here") from None
    theirs = read_model(path)
    kinds, piece_type = schema.TrainerSpec.ModelType, schema.ModelProto.SentencePiece.Type
    if theirs.trainer_spec.model_type != kinds.BPE:
        raise UserError(f"is a {kinds.Name(theirs.trainer_spec.model_type)} model: BPE can be taken, and nothing else")
    of_type = {kind: [p for p in theirs.pieces if p.type == getattr(piece_type, kind)] for kind in _KINDS}
    missing = {f"<0x{byte:02X}>" for byte in range(256)} - {piece.piece for piece in of_type["BYTE"]}
    if missing:
        raise UserError("spells characters that it lacks as <unk>: it must be trained with byte_fallback")
    spec = theirs.normalizer_spec
    if spec.precompiled_charsmap:
        raise UserError(
            f"normalises text ({spec.name or 'by a table'}), so that it is not lossless: identity is needed"
        )
    if spec.remove_extra_whitespaces or not spec.escape_whitespaces:
        raise UserError("removes white space, so that it is not lossless")
    if theirs.trainer_spec.treat_whitespace_as_suffix:
        raise UserError("puts spaces behind words, which no tokenizer.json can say")
    if of_type["USER_DEFINED"]:
        first = of_type["USER_DEFINED"][0].piece
        raise UserError(f"has pieces that are taken before any merge ({first!r}), which no tokenizer.json can say")
    ours = schema.ModelProto()
    ours.trainer_spec.CopyFrom(theirs.trainer_spec)
    for name in ("input", "model_prefix", "num_threads", "control_symbols"):
        ours.trainer_spec.ClearField(name)
    for name, value in bpe_settings().items():
        if isinstance(value, list):
            getattr(ours.trainer_spec, name).extend(value)
        else:
            setattr(ours.trainer_spec, name, value)
    ours.normalizer_spec.CopyFrom(spec)
    ours.normalizer_spec.add_dummy_prefix = False
    for i, token in enumerate(SPECIAL_TOKENS):
        ours.pieces.add(piece=token, score=0, type=piece_type.CONTROL if i else piece_type.UNKNOWN)
    for byte in range(256):
        ours.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=piece_type.BYTE)
    # Of equal scores sentencepiece takes the leftmost, which no tokenizer.json can say: here no two are equal.
    order = sorted(range(len(of_type["NORMAL"])), key=lambda i: -of_type["NORMAL"][i].score)
    score = {i: -float(rank) for rank, i in enumerate(order)}
    for i, piece in enumerate(of_type["NORMAL"]):
        if piece.piece in SPECIAL_TOKENS:
            raise UserError(f"its text tokens include {piece.piece}, which is loam's own special token")
        ours.pieces.add(piece=piece.piece, score=score[i], type=piece_type.NORMAL)
    ours.trainer_spec.vocab_size = len(ours.pieces)
    assert len(ours.pieces) == NUM_SPECIAL + 256 + len(of_type["NORMAL"])
    return as_tokenizer(ours), ours.SerializeToString()
