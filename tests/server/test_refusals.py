"""What is wrong with a request is one line in OpenAI's shape, with the status that says whose fault it is; no text of
anybody's comes out where it should not."""

import json
import socket
from typing import Any

import httpx
import pytest

from server.app import BODY_SECONDS
from server.guard import HEADERS
from tests.server.conftest import NAME, SEQ_LEN, Running, until

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SECRET = "xyzzy-plugh-7731"


def post(running: Running, path: str, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **options.pop("headers", {})}
    return httpx.post(running.url + path, content=content, headers=headers, timeout=60, **options)


def assert_refused(response: httpx.Response, status: int, said: str) -> None:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 400
    assert "Traceback" not in response.text


def chat(**more: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, **more}


def message(role: Any, content: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content}]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (chat(model=None), "model: is missing"),
        (chat(model=3), "model: should be a valid string"),
        (chat(messages=[]), "messages: "),
        (chat(messages="hello"), "messages: should be a valid list"),
        (chat(messages=["hello"]), "messages[0]: "),
        (chat(**message("tool", "x")), "messages[0].role: should be 'system'"),
        (chat(**message("assistant", "x")), "the last one must not be the assistant's"),
        (chat(**message("user", None)), "messages[0].content: "),
        (chat(**message("user", [{"type": "image_url", "image_url": {"url": "x"}}])), "messages[0].content[0].type"),
        (chat(messages=[{"role": "user", "content": "x", "tool_calls": []}]), "messages[0].tool_calls: is not known"),
        (chat(temperature="hot"), "temperature: should be a valid number"),
        (chat(temperature=-1), "temperature: should be greater than or equal to 0"),
        (b'{"temperature": NaN}', "not JSON"),
        (chat(temperature=float("1e400")), "not JSON"),
        (chat(top_p=1.5), "top_p: should be less than or equal to 1"),
        (chat(n=0), "n: should be greater"),
        (chat(n=65), "n: should be less"),
        (chat(n=True), "n: should be a valid integer"),
        (chat(max_tokens=0), "max_tokens: "),
        (chat(max_tokens=2**70), "max_tokens: "),
        (chat(max_tokens=4, max_completion_tokens=5), "differs from max_completion_tokens"),
        (chat(min_tokens=5), "min_tokens: is more than max_tokens"),
        (chat(stop=[""]), "stop[0]: "),
        (chat(stop=["x"] * 17), "stop: "),
        (chat(seed=1.5), "seed: should be a valid integer"),
        (chat(stream="yes"), "stream: should be a valid boolean"),
        (chat(stream_options={"include": True}), "stream_options.include: is not known"),
        (chat(top_logprobs=2), "top_logprobs: needs logprobs"),
        (chat(logprobs=True, top_logprobs=21), "top_logprobs: should be less"),
        (chat(logprobs=True, top_logprobs=20, n=64, max_tokens=400), "may hold 537,600, and 500,000 are the most"),
        (chat(tools=[{"type": "function"}]), "tools: is not supported"),
        (chat(response_format={"type": "json_object"}), "response_format: is not supported"),
        (chat(presence_penalty=0.5), "presence_penalty: is not supported"),
        (chat(frobnicate=1), "frobnicate: is not known"),
        (chat(**{"a\nb" * 100: 1}), "is not known"),
    ],
)
def test_a_body_that_cannot_be_meant_is_400_with_what_is_wrong(running: Running, body: Any, said: str) -> None:
    if isinstance(body, dict) and body.get("temperature") == float("inf"):
        body = json.dumps(body).encode()  # Infinity, which is no JSON
    response = post(running, CHAT, body)
    assert_refused(response, 400, said)
    assert SECRET not in response.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": []}, "prompt: "),
        ({"prompt": [[]]}, "prompt: is empty"),
        ({"prompt": [1, -1]}, "prompt[0][1]: "),
        ({"prompt": [1, 100_000]}, "prompt: 100000 is no token"),
        ({"prompt": ["a", 1]}, "prompt[1]: "),
        ({"prompt": {"text": 1}}, "prompt: "),
        ({"prompt": ["a"] * 65}, "64 at most"),
        ({"prompt": "a", "echo": True}, "echo: is not supported"),
        ({"prompt": "a", "best_of": 2}, "best_of: is not supported"),
        ({"prompt": "a", "logprobs": 21}, "logprobs: "),
        ({"prompt": "a", "logprobs": True}, "logprobs: should be a valid integer"),
        ({}, "prompt: is missing"),
    ],
)
def test_a_completion_that_cannot_be_meant_is_400(running: Running, body: Any, said: str) -> None:
    assert_refused(post(running, TEXT, {"model": NAME, **body}), 400, said)


def test_null_and_values_that_ask_for_nothing_are_taken(running: Running) -> None:
    body = chat(
        temperature=None, stop=None, tools=[], presence_penalty=0, user="somebody", response_format={"type": "text"}
    )
    assert post(running, CHAT, body).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_longer_than_the_context_is_refused_and_never_cut(running: Running, stream: bool) -> None:
    long = "cat " * SEQ_LEN
    turns = [{"role": role, "content": long[: SEQ_LEN // 2]} for _ in range(9) for role in ("user", "assistant")]
    for path, body in (
        (TEXT, {"model": NAME, "prompt": long}),
        (TEXT, {"model": NAME, "prompt": [7] * SEQ_LEN}),
        (CHAT, chat(**message("user", long))),
        (CHAT, chat(messages=[*turns, {"role": "user", "content": "What?"}])),
    ):
        response = post(running, path, {**body, "stream": stream})
        assert_refused(response, 400, f"the context of {NAME} holds {SEQ_LEN:,}")
        assert response.json()["error"]["code"] == "context_length_exceeded"
    fits = post(running, TEXT, {"model": NAME, "prompt": [7] * (SEQ_LEN - 1)})
    assert fits.json()["usage"]["completion_tokens"] <= 1


def test_other_refusals_have_their_own_status(running: Running) -> None:
    assert_refused(post(running, CHAT, chat(model="b/ckpt9")), 404, f"no model 'b/ckpt9' here; there are {NAME}")
    assert_refused(httpx.get(running.url + "/v1/nothing"), 404, "nothing here")
    assert_refused(httpx.get(running.url + CHAT), 405, "not for this address")
    assert_refused(post(running, CHAT, chat(), headers={"content-type": "text/plain"}), 415, "application/json")
    assert_refused(post(running, CHAT, b" " * (1 << 20) + b"  "), 413, "larger than 1,048,576 bytes")
    assert post(running, CHAT, json.dumps(chat()).encode().ljust(1 << 20)).status_code == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(running: Running) -> None:
    def endless() -> Any:
        for _ in range(64):
            yield b" " * (1 << 16)

    try:
        response = httpx.post(running.url + CHAT, content=endless(), headers={"content-type": "application/json"})
    except httpx.WriteError:  # it did not even read the rest
        return
    assert_refused(response, 413, "larger than")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1"])
def test_a_request_for_another_host_is_refused(running: Running, host: str) -> None:
    response = httpx.get(running.url + "/v1/models", headers={"host": host})
    assert_refused(response, 403, "--allow_hosts")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8000"])
def test_a_request_for_this_machine_is_answered(running: Running, host: str) -> None:
    assert httpx.get(running.url + "/v1/models", headers={"host": host}).status_code == 200


def test_two_hosts_are_none(running: Running) -> None:
    with socket.create_connection((httpx.URL(running.url).host, httpx.URL(running.url).port)) as sock:
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 200 " not in sock.recv(4096).split(b"\r\n")[0]


def test_every_answer_keeps_other_origins_out(running: Running) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answers = [
        httpx.get(running.url + "/", headers=asked),
        httpx.get(running.url + "/v1/models", headers=asked),
        httpx.options(running.url + CHAT, headers=asked),
        post(running, CHAT, chat(), headers=asked),
        post(running, CHAT, chat(stream=True), headers=asked),
        post(running, CHAT, b"", headers=asked),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "http" not in HEADERS["content-security-policy"]
    assert HEADERS["content-security-policy"].startswith("default-src 'none'")


def test_the_page_is_its_files_and_nothing_beside_them(running: Running) -> None:
    for path in ("/page/../app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/app.py", "/page/", "/docs"):
        assert httpx.get(running.url + path).status_code == 404


def test_health_and_nothing_secret_in_the_log(running: Running) -> None:
    assert httpx.get(running.url + "/healthz").json() == {"status": "ok"}
    assert post(running, CHAT, chat()).status_code == 200
    until(lambda: [line for line in running.said if f" {NAME} completed " in line])
    said = "".join(running.said)
    assert SECRET not in said
    assert "Traceback" not in said
    assert BODY_SECONDS > 1
