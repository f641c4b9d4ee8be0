"""What a GGUF file says of a tokenizer: llama.cpp splits text by patterns that it knows by name, and by no others.

In: a tokenizer. Out: the metadata that name its model and its pattern, or the reason why there are none.
"""

import tokenizers

from common.errors import UserError
from tokenizer.bpe import Tokenizer
from tokenizer.native import SPACE
from tokenizer.patterns import PATTERNS
from tokenizer.template import NUM_SPECIAL, SPECIAL_TOKENS

PRE = {"qwen2": "qwen2", "llama3": "llama-bpe", "gpt2": "gpt-2"}  # llama.cpp's names


def gguf_rules(tok: Tokenizer) -> dict[str, str]:
    """`tokenizer.ggml.model` and `tokenizer.ggml.pre`. UserError where llama.cpp would give other ids."""
    if tok.backend == "sentencepiece":
        _check_pieces(tok)
        return {"tokenizer.ggml.model": "llama"}
    if tok.pattern is None:
        raise UserError(
            f"llama.cpp knows patterns by name, {', '.join(PATTERNS)} among them, and this tokenizer has another one: "
            "it would give other ids; train one with a pattern of these, and without [tokenizer] digits and code"
        )
    _check_merges(tok)
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": PRE[tok.pattern]}


def _check_merges(tok: Tokenizer) -> None:
    """Under the name llama-bpe a word that is a token is taken without merging, under the others it is merged."""
    words = [word for i in range(NUM_SPECIAL, tok.vocab_size) if "\ufffd" not in (word := tok.decode([i]))]
    other = tokenizers.Tokenizer.from_str(tok.to_json())
    other.encode_special_tokens = True
    other.model.ignore_merges = tok.pattern == "llama3"
    theirs = [encoding.ids for encoding in other.encode_batch(words, add_special_tokens=False)]
    for word, ours, got in zip(words, tok.encode_batch(words), theirs, strict=True):
        if ours != got:
            raise UserError(
                f"llama.cpp, under the name {PRE[tok.pattern or '']}, would give {word!r} other ids: the tokenizer has "
                "tokens that no merges make; train one with loam"
            )


def _check_pieces(tok: Tokenizer) -> None:
    """llama.cpp merges any two pieces whose text is a token's, control and bytes among them."""
    if tok.native is None:
        raise UserError(
            "llama.cpp merges by the scores of tokenizer.model: none is beside tokenizer.json, or no library"
        )
    names = (*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)))
    pieces = {tok.native.id_to_piece(i).replace(SPACE, " ") for i in range(len(names), tok.vocab_size)}
    for name in names:
        if any(name[:cut] in pieces and name[cut:] in pieces for cut in range(1, len(name))):
            raise UserError(f"llama.cpp would read text that spells {name} as that token: pieces of it join to it")
