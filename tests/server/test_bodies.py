"""Bodies that are wrong many times over cost as little as those that are wrong once, and nulls are nothing anywhere."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from server import bodies
from server.bodies import read_chat, read_completion
from server.errors import ApiError

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": [[-1] * 50]}, "prompt[0][0]: "),
    ({"prompt": [[-1], *[[-1]] * 50]}, "prompt[0][0]: "),
    ({"prompt": ["a", *[1] * 50]}, "prompt[1]: "),
    ({"prompt": "a", "stop": [""] * 16}, "stop[0]: "),
    ({"messages": [{}] * 50}, "messages[0].role: "),
    ({"messages": [{"role": "user", "content": [{"x": 1}] * 50}]}, "messages[0].content[0].type: "),
]


@pytest.mark.parametrize(("body", "said"), WRONG)
def test_of_a_list_the_first_wrong_element_is_looked_at(
    body: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds of the event loop went into errors of a body of 1 MB that nobody was told."""
    numbers: list[int] = []
    refusal = bodies._refusal

    def counted(error: ValidationError) -> ApiError:
        numbers.append(error.error_count())
        return refusal(error)

    monkeypatch.setattr(bodies, "_refusal", counted)
    read = read_chat if "messages" in body else read_completion
    with pytest.raises(ApiError) as error:
        read(json.dumps({"model": "a/ckpt1", **body}).encode())
    assert error.value.message.startswith(said)
    assert numbers[0] <= 3  # a message that is empty lacks two fields


def test_nulls_in_a_message_are_nothing_as_answers_come_with_them() -> None:
    """A client that sends an answer back as the OpenAI package dumps it."""
    said = {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None, "audio": None}
    parts = [{"type": "text", "text": "and?", "cache": None}]
    body = {"model": "m", "messages": [said, {"role": "user", "content": parts}], "stream_options": {"x": None}}
    asked = read_chat(json.dumps(body).encode())
    assert [message.plain() for message in asked.messages] == [
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and?"},
    ]
    with pytest.raises(ApiError, match=r"messages\[0\].content: is missing"):
        read_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": None}]}).encode())
