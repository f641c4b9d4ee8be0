"""What a GGUF file says of a tokenizer: llama.cpp splits text by patterns that it knows by name, and by no others.

In: a tokenizer. Out: the metadata that name its model and its pattern, or the reason why there are none.
"""

from common.errors import UserError
from tokenizer.bpe import Tokenizer
from tokenizer.patterns import PATTERNS

PRE = {"qwen2": "qwen2", "llama3": "llama-bpe", "gpt2": "gpt-2"}  # llama.cpp's names


def gguf_rules(tok: Tokenizer) -> dict[str, str]:
    """`tokenizer.ggml.model` and `tokenizer.ggml.pre`. UserError where llama.cpp would give other ids."""
    if tok.backend == "sentencepiece":
        if tok.native is None:
            raise UserError(
                "llama.cpp merges by the scores of tokenizer.model, and there is none beside tokenizer.json"
            )
        return {"tokenizer.ggml.model": "llama"}
    if tok.pattern is None:
        raise UserError(
            f"llama.cpp knows patterns by name, {', '.join(PATTERNS)} among them, and this tokenizer has another one: "
            "it would give other ids; train one with a pattern of these, and without [tokenizer] digits and code"
        )
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": PRE[tok.pattern]}
