"""Bodies of requests -> checked values: what is not known, not of its type, or out of range is one line, status 400.

Fields are OpenAI's, and top_k, min_p, repetition_penalty and min_tokens beside them. Null is as good as nothing. A
field that this server cannot honour is refused where it asks for anything: no request is half understood.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from common.text import one_line
from server.errors import ApiError

MOST_CHOICES = 64  # answers to one request
MOST_LOGPROBS = 20  # likeliest tokens told with each token

# Fields of OpenAI's that change no answer here, and those that would, with the values that ask for nothing.
IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
           "prompt_cache_retention", "parallel_tool_calls"}  # fmt: skip
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}

Of = TypeVar("Of", bound="Asked")
Id = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Texts, Tokens = "texts", "tokens"
FIRST = Field(fail_fast=True)  # one error is told, and a list of a million bytes has errors for two seconds


def _listed(found: Any) -> Any:
    """One text, or the ids of one, as a list of one."""
    if isinstance(found, str) or (isinstance(found, list) and found and isinstance(found[0], int)):
        return [found]
    return found


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, found: Any) -> Any:
        return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else found


class StreamOptions(_Strict):
    """What a stream holds beside the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Asked(_Strict):
    """What both endpoints take."""

    model: str
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    min_tokens: int = Field(0, ge=0, lt=2**31)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    top_k: int = Field(0, ge=0, lt=2**31)
    min_p: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stop: Annotated[list[Stop], FIRST, Field(max_length=16), BeforeValidator(_listed)] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)

    def num_logprobs(self) -> int | None:
        """Likeliest tokens to tell with each; None: no log-probabilities."""
        raise NotImplementedError


class Completion(Asked):
    """A text, or tokens, to go on with."""

    prompt: Annotated[
        Annotated[list[str], FIRST, Tag(Texts)] | Annotated[list[Annotated[list[Id], FIRST]], FIRST, Tag(Tokens)],
        Discriminator(
            lambda found: Tokens if found and isinstance(found, list) and isinstance(found[0], list) else Texts
        ),
        BeforeValidator(_listed),
        Field(min_length=1),
    ]
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)

    def num_logprobs(self) -> int | None:
        """As `Asked`."""
        return self.logprobs


class Part(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _parts(found: Any) -> Any:
    return [Part(type="text", text=found)] if isinstance(found, str) else found


class Message(_Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "context", "user", "assistant"]
    content: Annotated[list[Part], FIRST, BeforeValidator(_parts)]
    name: str | None = None
    refusal: str | None = None

    def plain(self) -> dict[str, str]:
        """As `tokenizer.dialog` takes it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "".join(part.text for part in self.content)}


class Chat(Asked):
    """A conversation that is to be answered."""

    messages: Annotated[list[Message], FIRST] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MOST_LOGPROBS)

    def num_logprobs(self) -> int | None:
        """As `Asked`."""
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs: needs logprobs to be true", "top_logprobs")
        return self.top_logprobs if self.logprobs else None


def read_completion(body: bytes) -> Completion:
    """A body of /v1/completions; ApiError 400."""
    return _checked(Completion, body)


def read_chat(body: bytes) -> Chat:
    """A body of /v1/chat/completions; ApiError 400."""
    asked = _checked(Chat, body)
    if asked.max_completion_tokens is not None:
        if asked.max_tokens not in (None, asked.max_completion_tokens):
            raise ApiError(400, "max_tokens: differs from max_completion_tokens; give one", "max_tokens")
        asked.max_tokens = asked.max_completion_tokens
    return asked


def _checked(kind: type[Of], body: bytes) -> Of:
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {one_line(str(error), 120)}") from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body is not a JSON object")
    values = {name: value for name, value in values.items() if value is not None and name not in IGNORED}
    for name, neutral in UNSUPPORTED.items():
        if name in values and values.pop(name) not in neutral:
            raise ApiError(400, f"{name}: is not supported by this server", name, "unsupported_parameter")
    try:
        asked = kind.model_validate(values)
    except ValidationError as error:
        raise _refusal(error) from None
    if isinstance(asked, Completion) and len(asked.prompt) * asked.n > MOST_CHOICES:
        raise ApiError(400, f"prompt: {len(asked.prompt)} of {asked.n} answers each; {MOST_CHOICES} at most", "prompt")
    if asked.max_tokens is not None and asked.min_tokens > asked.max_tokens:
        raise ApiError(400, "min_tokens: is more than max_tokens", "min_tokens")
    return asked


def _refusal(error: ValidationError) -> ApiError:
    """The first thing that is wrong, without the value: it may be long."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    names = [part for part in found["loc"] if part not in (Texts, Tokens)]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in names).strip(".")
    where, param = one_line(where, 100), one_line(str(names[0]), 100)
    if found["type"] == "extra_forbidden":
        return ApiError(400, f"{where}: is not known here", param, "unknown_parameter")
    if found["type"] == "missing":
        return ApiError(400, f"{where}: is missing", param, "missing_required_parameter")
    return ApiError(400, f"{where}: {one_line(found['msg'].removeprefix('Input '), 120)}", param, "invalid_value")
