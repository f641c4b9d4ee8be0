"""The files of a tokenizer that was made elsewhere: what they say, before anything is made of it."""

from pathlib import Path
from typing import Any

import tokenizers

from common.errors import UserError
from common.files import read_json
from common.text import error_line

# Of a folder that has none.
PLAIN_TEMPLATE = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- 'Question:\\n' + message['content'] + '\\n\\n' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- 'Answer:\\n' + message['content'] -}}{{- eos_token -}}{{- '\\n\\n' -}}"
    "{%- else -%}{{- message['content'] + '\\n\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Answer:\\n' -}}{%- endif -%}"
)


def read_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """tokenizer.json, told to cut and pad nothing; UserError where there is none, or a damaged one."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"{folder} has no tokenizer.json; AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers "
            "makes one of other kinds of tokenizer"
        )
    try:
        tok = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust side raises plain Exception for a damaged file
        raise UserError(f"{file}: not a tokenizer: {error_line(error)}") from None
    tok.no_truncation()
    tok.no_padding()
    return tok


def template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template, by `transformers`' order; None where there is none."""
    if (file := folder / "chat_template.jinja").is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is damaged: {error_line(error)}") from None
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and found else None


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. UserError for anything else."""
    found = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged: it holds no object")
    return found


def spelling(token: Any) -> str | None:
    """A token of tokenizer_config.json: its text, or an object that holds it."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) and found else None


def added_tokens(decoder: Any) -> dict[str, tuple[int, bool]]:
    """`added_tokens_decoder` by id: text -> (id, whether it is special)."""
    found = decoder if isinstance(decoder, dict) else {}
    numbered = sorted((int(key), value) for key, value in found.items() if key.isdecimal() and isinstance(value, dict))
    return {text: (key, bool(value.get("special"))) for key, value in numbered if (text := spelling(value))}


def more_special(config: dict[str, Any]) -> list[str]:
    """Special tokens without a role, under the names that versions of `transformers` gave them."""
    listed: list[Any] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        found = config.get(key)
        listed += found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
    return [text for token in listed if (text := spelling(token))]


def eos_of(config: dict[str, Any]) -> list[Any]:
    """What config.json or generation_config.json says that ends an answer: one id or several."""
    found = config.get("eos_token_id")
    return found if isinstance(found, list) else [found]
