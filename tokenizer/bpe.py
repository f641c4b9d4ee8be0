"""Byte-level BPE with `tokenizers`: train on the training split, save, load, encode and decode without loss.

In: an iterator of texts. Out: a folder with tokenizer.json and tokenizer_config.json that `transformers` opens.
No normaliser, all 256 bytes in the alphabet, so decode(encode(s)) == s for every string. Text is split by a pattern
of tokenizer/patterns.py, by default that of the Qwen2 family. Ids 0 to 5 are the special tokens of
`tokenizer/template.py`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from common.errors import UserError
from common.files import atomic_folder
from common.text import error_line, not_unicode
from tokenizer.config import TokenizerConfig, default_vocab_size
from tokenizer.patterns import (
    LONG_WHITE,
    Digits,
    Pattern,
    break_of,
    cut,
    must_split_white,
    name_of,
    regex_of,
    split_white,
)
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, NUM_SPECIAL, PAD, SPECIAL_TOKENS
from tokenizer.words import word_splits

# Characters of a text, and of a list of such pieces, that the trainer is handed at once.
PIECE, BATCH = 1 << 16, 1 << 20


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    min_frequency: int,
    show_progress: bool,
    pattern: Pattern = "qwen2",
    digits: Digits | None = None,
    code: bool = False,
) -> tokenizers.Tokenizer:
    """Train on `texts`, split by `regex_of(pattern, digits, code)`; the result may have fewer tokens than asked for
    where the texts support no more."""
    regex = regex_of(pattern, digits, code)
    bpe = tokenizers.Tokenizer(models.BPE())
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([*word_splits(regex), as_bytes])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    # In a thread of its own, as no signal is heard inside: Ctrl-C ends the wait, and with it the process.
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(bpe.train_from_iterator, _batches(texts, break_of(regex)), trainer).result()
    finally:
        pool.shutdown(wait=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([word_splits(regex)[0], as_bytes])  # encoding bears words of any length
    # Engines that encode plain text put the bos in front that every document was trained with.
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL_TOKENS[BOS]} $A", special_tokens=[(SPECIAL_TOKENS[BOS], BOS)]
    )
    assert [bpe.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(NUM_SPECIAL))
    return bpe


def save_tokenizer(bpe: tokenizers.Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
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

    UserError where a token cannot be told in bytes.
    """

    def __init__(self, bpe: tokenizers.Tokenizer) -> None:
        bpe.encode_special_tokens = True  # text that spells a special token is encoded as text
        self._bpe = bpe
        self._white = tokenizers.Tokenizer(bpe.model)  # takes a text for one word of the pattern
        self._white.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.vocab_size: int = bpe.get_vocab_size()
        split = json.loads(bpe.pre_tokenizer.__getstate__()).get("pretokenizers", [{}])[0] if bpe.pre_tokenizer else {}
        regex = split.get("pattern", {}).get("Regex")
        self.pattern = name_of(regex)  # None: another one
        self.line_break = break_of(regex)  # behind which a text may be cut without a change of its ids; None: nowhere
        self._splits_white = must_split_white(regex)
        letters = {letter: byte for byte, letter in enumerate(_byte_letters())}
        pieces = [bpe.id_to_token(i) or "" for i in range(NUM_SPECIAL, self.vocab_size)]
        if "" in pieces or any(letter not in letters for piece in pieces for letter in piece):
            raise UserError("its ids have gaps, or its tokens letters that stand for no byte")
        self._bytes = [token.encode() for token in SPECIAL_TOKENS]
        self._bytes += [bytes(letters[letter] for letter in piece) for piece in pieces]

    def encode(self, text: str) -> list[int]:
        """Ids of content (no bos, no eos)."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, on all cores. UserError for a string that is not valid Unicode (a lone surrogate)."""
        short = not self._splits_white or all(len(text) < LONG_WHITE for text in texts)
        try:
            return _ids(self._bpe, texts) if short else [self._encode_pieces(split_white(text)) for text in texts]
        except TypeError:  # what the Rust side makes of it
            for found in map(not_unicode, texts):
                if found:
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
        tok = Tokenizer(bpe)
    except UserError as error:
        raise UserError(f"{file}: not a byte-level tokenizer: {error}") from None
    if min(chain.from_iterable(tok.encode_batch(list(SPECIAL_TOKENS))), default=NUM_SPECIAL) < NUM_SPECIAL:
        raise UserError(f'{file}: text that spells a special token becomes the token: all six must be "special": true')
    return tok


def train_tokenizer(texts: Iterator[str], num_bytes: int, config: TokenizerConfig, folder: Path) -> Tokenizer:
    """Train on `texts` (`num_bytes` of UTF-8) and write `folder`; UserError where they support no such vocabulary."""
    size = config.vocab_size or default_vocab_size(num_bytes)
    bpe = train_bpe(texts, size, config.min_frequency, True, config.pattern, config.digits, config.code)
    found = bpe.get_vocab_size()
    if config.vocab_size is not None and found < config.vocab_size:
        raise UserError(
            f"vocab_size {config.vocab_size}: {num_bytes:,} bytes of training text support {found} tokens "
            f"(pairs seen {config.min_frequency} times or more); ask for {found} or fewer"
        )
    with atomic_folder(folder) as temporary:
        save_tokenizer(bpe, temporary)
    return load_tokenizer(folder)


def _batches(texts: Iterable[str], end: re.Pattern[str] | None) -> Iterator[list[str]]:
    """Lists of pieces, about BATCH characters each: the trainer counts their words on all cores."""
    batch: list[str] = []
    size = 0
    for text in texts:
        for part in cut(text, end, PIECE):
            batch += split_white(part)[::2]  # megabytes of spaces teach nothing
            size += len(part)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    yield batch


def _ids(bpe: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in bpe.encode_batch_fast(texts, add_special_tokens=False)]


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
