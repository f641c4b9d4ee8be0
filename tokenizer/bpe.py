"""A tokenizer's folder: train by one of two backends, save, load, encode and decode without loss.

In: an iterator of texts, or a finished tokenizer. Out: a folder with tokenizer.json and tokenizer_config.json that
`transformers` opens, and from sentencepiece a tokenizer.model with the same ids.
No normaliser, all 256 bytes in the alphabet, so decode(encode(s)) == s for every string. Byte-level BPE by `tokenizers`
(tokenizer/byte_level.py) splits text by a pattern first and writes all of it in bytes; BPE by sentencepiece
(tokenizer/spm.py) writes characters, and in bytes those that it lacks. Ids 0 to 5 are the special tokens of
`tokenizer/template.py`.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import pre_tokenizers, processors

from common.errors import UserError
from common.files import atomic_folder, scratch_folder
from common.text import error_line, not_unicode
from tokenizer.byte_level import byte_level_bytes, train_bpe
from tokenizer.config import TokenizerConfig, default_vocab_size
from tokenizer.native import BYTE_TOKEN, encode_native
from tokenizer.patterns import AFTER_BREAK, LONG_WHITE, break_of, must_split_white, name_of, split_white
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, NUM_SPECIAL, PAD, SPECIAL_TOKENS

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor


def save_tokenizer(bpe: tokenizers.Tokenizer, folder: Path, model: bytes | None = None) -> None:
    """Write tokenizer.json and tokenizer_config.json, and sentencepiece's `model` where there is one."""
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    assert [bpe.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(NUM_SPECIAL))
    # Engines that encode plain text put the bos in front that every document was trained with.
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL_TOKENS[BOS]} $A", special_tokens=[(SPECIAL_TOKENS[BOS], BOS)]
    )
    if model is not None:
        (folder / "tokenizer.model").write_bytes(model)
    bpe.save(str(folder / "tokenizer.json"))
    config = {
        # Without this class AutoTokenizer builds a Qwen2 tokenizer, which normalises: other ids, and lossy.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[BOS],
        "eos_token": SPECIAL_TOKENS[EOS],
        "pad_token": SPECIAL_TOKENS[PAD],
        "additional_special_tokens": list(SPECIAL_TOKENS[EOS + 1 :]),
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


class Tokenizer:
    """A trained tokenizer: content to ids and back; special tokens never come out of `encode`.

    Attributes:
        vocab_size: number of tokens, special ones included
        backend: tokenizers (byte-level BPE) or sentencepiece
        pattern: name of the pattern that byte-level BPE splits text by; None: another one
        native: sentencepiece with the model that lay beside tokenizer.json, if any
        line_break: behind which a text may be cut without a change of its ids; None: nowhere
    UserError where a token cannot be told in bytes.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, native: "SentencePieceProcessor | None" = None) -> None:
        bpe.encode_special_tokens = True  # text that spells a special token is encoded as text
        self._bpe, self.native = bpe, native
        self._white = tokenizers.Tokenizer(bpe.model)  # takes a text for one word of the pattern
        self._white.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.vocab_size: int = bpe.get_vocab_size()
        self.backend = "sentencepiece" if getattr(bpe.model, "byte_fallback", False) else "tokenizers"
        regex = _regex(bpe)
        self.pattern = name_of(regex)
        self._splits_white = must_split_white(regex)
        pieces = [bpe.id_to_token(i) or "" for i in range(NUM_SPECIAL, self.vocab_size)]
        if "" in pieces:
            raise UserError("its ids have gaps")
        self._bytes = [token.encode() for token in SPECIAL_TOKENS]
        self._bytes += byte_level_bytes(pieces) if self.backend == "tokenizers" else _with_byte_tokens(pieces)
        self.line_break = break_of(regex)
        if self.backend == "sentencepiece" and all(b"\n" not in token[:-1] for token in self._bytes):
            self.line_break = AFTER_BREAK

    def to_json(self) -> str:
        """What tokenizer.json holds."""
        return self._bpe.to_str()

    def encode(self, text: str) -> list[int]:
        """Ids of content (no bos, no eos)."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, on all cores. UserError for a string that is not valid Unicode (a lone surrogate)."""
        try:
            if self.native is not None:
                return encode_native(self.native, texts)
            if not self._splits_white or all(len(text) < LONG_WHITE for text in texts):
                return _ids(self._bpe, texts)
            return [self._encode_pieces(split_white(text)) for text in texts]
        except (TypeError, RuntimeError):  # what the Rust and the C++ side make of it
            for text in texts:
                if isinstance(text, str) and (found := not_unicode(text)):
                    line = f"a text is not valid UTF-8, or holds a lone surrogate: {found}; repair it first"
                    raise UserError(line) from None
            raise

    def _encode_pieces(self, pieces: list[str]) -> list[int]:
        """Ids of a text that `split_white` has split, in a row."""
        encoded = [_ids(self._white if i % 2 else self._bpe, [piece])[0] for i, piece in enumerate(pieces)]
        return [*chain.from_iterable(encoded)]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of ids; a token may hold part of a character. Special tokens come out as their names."""
        return b"".join(self._bytes[i] for i in ids)

    @property
    def token_bytes(self) -> list[int]:
        """How many bytes of text each token is; of a special one none."""
        return [0] * NUM_SPECIAL + [*map(len, self._bytes[NUM_SPECIAL:])]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; decode(encode(s)) == s. Bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Open a tokenizer folder (a run's tokenizer/, or a checkpoint); UserError where it is missing or not ours."""
    file = folder / "tokenizer.json"
    if not file.exists():
        raise UserError(f"{file}: not found; make it with `python tokenizer/train.py`")
    try:
        bpe = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust side raises plain Exception for a damaged file
        raise UserError(f"{file}: not a tokenizer: {error_line(error)}") from None
    if [bpe.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(NUM_SPECIAL)):
        raise UserError(f"{file}: its first tokens are not {' '.join(SPECIAL_TOKENS)}, so it is not one of loam's")
    try:
        tok = Tokenizer(bpe, _native(folder / "tokenizer.model", bpe))
    except UserError as error:
        raise UserError(f"{file}: not a tokenizer of loam's: {error}") from None
    if min(chain.from_iterable(tok.encode_batch(list(SPECIAL_TOKENS))), default=NUM_SPECIAL) < NUM_SPECIAL:
        raise UserError(f'{file}: text that spells a special token becomes the token: all six must be "special": true')
    return tok


def train_tokenizer(texts: Iterator[str], num_bytes: int, config: TokenizerConfig, folder: Path) -> Tokenizer:
    """Train on `texts` (`num_bytes` of UTF-8) and write `folder`; UserError where they support no such vocabulary.

    A finished tokenizer that `config` names is taken as it is, and no text is read.
    """
    with atomic_folder(folder) as temporary:
        if config.file is not None:
            from tokenizer.bring import bring

            bpe, model = bring(Path(config.file))
        else:
            size = config.vocab_size or default_vocab_size(num_bytes)
            bpe, model = train_backend(texts, size, config, sys.stderr.isatty(), temporary)
            if config.vocab_size is not None:
                check_supported(bpe, size, config)
        save_tokenizer(bpe, temporary, model)
    return load_tokenizer(folder)


def check_supported(bpe: tokenizers.Tokenizer, size: int, config: TokenizerConfig) -> None:
    """UserError where the text that `bpe` was trained on does not support `size` tokens."""
    if (found := bpe.get_vocab_size()) < size:
        often = f" (pairs seen {config.min_frequency} times or more)" if config.backend == "tokenizers" else ""
        raise UserError(f"vocab_size {size}: the text that was read supports {found} tokens{often}; ask for no more")


def train_backend(
    texts: Iterable[str], vocab_size: int, config: TokenizerConfig, show_progress: bool, folder: Path
) -> tuple[tokenizers.Tokenizer, bytes | None]:
    """Train by the backend of `config`: the tokenizer, and sentencepiece's model of the same rules or None.

    It may have fewer tokens than asked for. sentencepiece reads its text from a file, for a while in `folder`.
    """
    if config.backend == "tokenizers":
        settings = (config.pattern, config.digits, config.code)
        return train_bpe(texts, vocab_size, config.min_frequency, show_progress, *settings), None
    try:
        from tokenizer.spm import as_tokenizer, train_spm
    except ImportError as error:
        raise UserError(f"backend sentencepiece needs the library {error.name}, which is not installed here") from None
    with scratch_folder(folder / "sentencepiece") as scratch:
        model = train_spm(texts, vocab_size, config.digits != "whole", show_progress, scratch)
    return as_tokenizer(model), model.SerializeToString()


def _ids(bpe: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    try:
        return [encoding.ids for encoding in bpe.encode_batch_fast(texts, add_special_tokens=False)]
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # Oniguruma's, after 10 million tries; no Exception
            raise UserError("a text has more white space in a row than this tokenizer's pattern can split") from None
        raise


def _regex(bpe: tokenizers.Tokenizer) -> str | None:
    """The pattern that parts text into words, where nothing else does."""
    state = json.loads(bpe.pre_tokenizer.__getstate__()) if bpe.pre_tokenizer else {}
    match state.get("pretokenizers"):
        case [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return regex
    return None


def _native(file: Path, bpe: tokenizers.Tokenizer) -> "SentencePieceProcessor | None":
    """sentencepiece with the model beside a tokenizer.json; None where the file or a library is missing: the ids are
    the same. UserError for a model of other rules.

    It takes two thirds of the time on texts of a line each.
    """
    if not file.is_file():
        return None
    try:
        from sentencepiece import SentencePieceProcessor

        from tokenizer.spm import as_tokenizer, read_model
    except ImportError:
        return None
    model = read_model(file)
    theirs, ours = (json.loads(one.to_str())["model"] for one in (as_tokenizer(model), bpe))
    if any(theirs[key] != ours[key] for key in ("vocab", "merges")):
        raise UserError("tokenizer.model beside it holds other tokens")
    return SentencePieceProcessor(model_proto=model.SerializeToString())


def _with_byte_tokens(pieces: list[str]) -> list[bytes]:
    """The bytes of each piece in a vocabulary of characters and of names of bytes."""
    found = [bytes([int(piece[3:5], 16)]) if BYTE_TOKEN.fullmatch(piece) else piece.encode() for piece in pieces]
    missing = {*range(256)} - {int(piece[3:5], 16) for piece in pieces if BYTE_TOKEN.fullmatch(piece)}
    if missing:
        raise UserError(f"it has no token for the byte 0x{min(missing):02X}, so not every text can be told in it")
    return found
