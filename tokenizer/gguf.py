"""What a GGUF file says of a tokenizer: llama.cpp splits text by patterns that it knows by name, and by no others.

In: a tokenizer. Out: the metadata that name its model and its pattern, or the reason why there are none; and with
them all else that the file says: tokens, their kinds, merges or scores, special ids, the chat template.
"""

import json
from typing import Any

import tokenizers

from common.errors import UserError
from tokenizer.bpe import Tokenizer
from tokenizer.native import SPACE
from tokenizer.patterns import PATTERNS
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, NUM_SPECIAL, PAD, SPECIAL_TOKENS

NORMAL, CONTROL = 1, 3  # kinds of tokens, numbered as sentencepiece does; UNKNOWN 2, BYTE 6
# Texts at which llama.cpp ends an answer, whatever kind of token they are (llama-vocab.cpp of 0.3.36's llama.cpp).
ENDS = {
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
    *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<eos>"),
    *("<end_of_utterance>", "<turn|>", "<|tool_response>", "[e~["),
}
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


def gguf_tokenizer(tok: Tokenizer, template: str = CHAT_TEMPLATE) -> dict[str, Any]:
    """All metadata of a GGUF that are about text, by key. UserError as `gguf_rules`.

    add_bos_token: the chat template writes a bos, and llama.cpp takes it off again before it adds its own, some
    versions of 2025 even where they add none. So true is one bos in all of them, and in a text that is continued.
    """
    rules = gguf_rules(tok)
    vocabulary = _pieces(tok) if tok.backend == "sentencepiece" else _byte_level(tok)
    return {
        "tokenizer.ggml.pre": "default",
        **rules,
        **{f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()},
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.padding_token_id": PAD,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": template,
    }


def early_ends(tok: Tokenizer) -> list[str]:
    """Tokens of text at which llama.cpp ends an answer, though they are none of loam's."""
    return sorted({tok.decode([i]) for i in range(NUM_SPECIAL, tok.vocab_size)} & ENDS)


def _byte_level(tok: Tokenizer) -> dict[str, Any]:
    bpe = tokenizers.Tokenizer.from_str(tok.to_json())
    merges = json.loads(tok.to_json())["model"]["merges"]
    return {
        "tokens": [bpe.id_to_token(i) for i in range(tok.vocab_size)],
        "token_type": [CONTROL if i < NUM_SPECIAL else NORMAL for i in range(tok.vocab_size)],
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in merges],
    }


def _pieces(tok: Tokenizer) -> dict[str, Any]:
    from tokenizer.spm import schema

    assert tok.native is not None, "gguf_rules refuses it"
    pieces = schema.ModelProto.FromString(tok.native.serialized_model_proto()).pieces
    return {
        "tokens": [piece.piece for piece in pieces],
        "scores": [float(piece.score) for piece in pieces],
        "token_type": [int(piece.type) for piece in pieces],
        "unknown_token_id": PAD,
        "remove_extra_whitespaces": False,
    }


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
