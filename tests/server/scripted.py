"""A small server on loopback that serves the page and plays an OpenAI-compatible API by a script, faults included.

Each model answers by its `Answer`; pieces are sent one by one, and a `threading.Event` among them waits until the test
sets it (ten seconds at most). What was asked is kept in `requests`.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "server" / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (  # as strict as the server's own
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONGEST_WAIT = 10.0  # seconds for an event of a test
PAUSE = 0.05  # seconds


@dataclass
class Answer:
    """How a model answers.

    Args:
        pieces: texts of the stream; seconds between them; an event is waited for
        ended: finish_reason; None: the connection ends in the middle
        tokens: prompt and completion tokens of the usage
        status: another one refuses with `error` as body's error and `headers`
        raw: sent as it is after the pieces, in place of the end, byte by byte
        fits: most messages that the context takes; more are refused as too long
    """

    pieces: list[str | float | threading.Event] = field(default_factory=lambda: ["An ", "answer."])
    ended: str | None = "stop"
    tokens: tuple[int, int] = (5, 2)
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: str = ""
    fits: int = 1000


TOO_LONG = {
    "message": "messages: 600 tokens, and the context of ckpt1 holds 512 with the answer: shorten it",
    "code": "context_length_exceeded",
}


class Scripted(ThreadingHTTPServer):
    """The server.

    Attributes:
        answers: by model, in the order of the list of models
        key: wanted of every request to the API, if any
        requests: bodies of the chat requests in the order of their arrival, each with its "key"
        left: set once a client has gone away in the middle of an answer
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {"ckpt1": Answer(), "ckpt3": Answer()}
        self.key = ""
        self.requests: list[dict[str, Any]] = []
        self.left = threading.Event()

    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.server_port}/"

    def models(self) -> list[dict[str, Any]]:
        """As the API lists them."""
        return [{"id": name, "object": "model", "max_model_len": 512} for name in self.answers]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """One request; the connection closes after it."""

    server: Scripted

    def do_GET(self) -> None:
        """The page, its files and the list of models."""
        if self.path == "/v1/models":
            if self._knows_key():
                self._json(200, {"object": "list", "data": self.server.models()})
            return
        name = "index.html" if self.path == "/" else self.path.removeprefix("/page/")
        file = PAGE / name
        if file.name != name or not file.is_file():
            self._json(404, {"error": {"message": "not found"}})
            return
        self._send(200, file.read_bytes(), {"Content-Type": TYPES[file.suffix], "Content-Security-Policy": POLICY})

    def do_POST(self) -> None:
        """An answer, or what the script has in its place."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(asked | {"key": self.headers.get("Authorization", "")})
        answer = self.server.answers[asked["model"]]
        if not self._knows_key():
            return
        if answer.status != 200:
            self._json(answer.status, {"error": answer.error}, answer.headers)
        elif len(asked["messages"]) > answer.fits:
            self._json(400, {"error": TOO_LONG})
        else:
            self._send(200, None, {"Content-Type": "text/event-stream", **answer.headers})
            try:
                self._stream(answer)
            except OSError:
                self.server.left.set()

    def _stream(self, answer: Answer) -> None:
        for piece in answer.pieces:
            if isinstance(piece, str):
                self._event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            elif isinstance(piece, float):
                time.sleep(piece)
            else:  # a comment now and then shows whether the client is still there
                for _ in range(int(LONGEST_WAIT / 0.05)):
                    if piece.wait(0.05):
                        break
                    self._write(": waiting\n\n")
        if answer.raw:
            for byte in answer.raw.encode():
                self.wfile.write(bytes([byte]))
                if byte > 127:  # inside a character: what comes next is in a packet of its own
                    time.sleep(PAUSE)
        elif answer.ended:
            read, written = answer.tokens
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": answer.ended}]})
            self._event({"choices": [], "usage": usage})
            self._write("data: [DONE]\n\n")

    def _event(self, body: dict[str, Any]) -> None:
        self._write(f"data: {json.dumps(body)}\n\n")

    def _write(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()

    def _knows_key(self) -> bool:
        if not self.server.key or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self._json(401, {"error": {"message": "no valid API key", "code": "invalid_api_key"}})
        return False

    def _json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A running server."""
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LONGEST_WAIT)
