"""What Ollama needs beside a GGUF: a Modelfile with the one template in Go's words.

In: a GGUF's name and the model's context. Out: the text of the Modelfile, or the reason why Ollama cannot be given one.

Ollama puts the bos in front by itself, as `tokenizer.ggml.add_bos_token` says, so the template has none. Go's templates
can neither search a text nor refuse one: content that spells a special token becomes that token there, where the jinja
template raises. Ollama joins neighbours of the same role by an empty line before the template sees them.
"""

from common.errors import UserError
from tokenizer.bpe import Tokenizer
from tokenizer.template import ASSISTANT, CONTEXT, EOS, SPECIAL_TOKENS, USER

_USER, _ASSISTANT, _CONTEXT, _EOS = (SPECIAL_TOKENS[i] for i in (USER, ASSISTANT, CONTEXT, EOS))

GO_TEMPLATE = (
    "{{ range .Messages }}"
    f'{{{{ if eq .Role "user" }}}}{_USER}{{{{ .Content }}}}'
    f'{{{{ else if eq .Role "assistant" }}}}{_ASSISTANT}{{{{ .Content }}}}{_EOS}'
    f"{{{{ else }}}}{_CONTEXT}{{{{ .Content }}}}{{{{ end }}}}"
    f"{{{{ end }}}}{_ASSISTANT}"
)


def check_ollama(tok: Tokenizer, architecture: str) -> None:
    """UserError where Ollama would give other ids: its own engine, which runs qwen3, has one pattern for all."""
    if architecture == "qwen3" and tok.pattern != "qwen2":
        kind = "sentencepiece's" if tok.backend == "sentencepiece" else f"pattern {tok.pattern}'s"
        raise UserError(
            f"Ollama reads every model of this shape by qwen2's pattern, and this tokenizer is {kind}: it would give "
            "other ids; use llama.cpp (--to gguf), or train a tokenizer with the default pattern"
        )


def modelfile(gguf: str, seq_len: int) -> str:
    """A Modelfile for the GGUF of that name beside it.

    num_ctx: Ollama's own default is more than small models have. repeat_penalty: its default, 1.1 in many versions,
    changes answers. stop: Ollama shows a marker that a model writes, and goes on.
    """
    stops = "".join(f'PARAMETER stop "{token}"\n' for token in SPECIAL_TOKENS)
    return (
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{GO_TEMPLATE}"""\n'
        f"PARAMETER num_ctx {seq_len}\n"
        "PARAMETER repeat_penalty 1.0\n" + stops
    )
