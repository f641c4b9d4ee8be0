"""Pieces of answers -> JSON in OpenAI's two shapes, whole or as chunks of a stream.

Chunks of a chat's choice begin with its role. A token that is no UTF-8 by itself is spelled "bytes:\\xf0\\x9f".
"""

from collections.abc import Sequence
from typing import Any

from server.jobs import Job, Piece, Told

LEAST = -9999.0  # a log-probability of nothing at all: JSON has no infinity


class Replies:
    """The answers to one request, as its endpoint tells them."""

    def __init__(self, job: Job, chat: bool, logprobs: bool, fingerprint: str) -> None:
        self.job, self.chat, self.logprobs = job, chat, logprobs
        self._head = {"id": job.id, "created": int(job.began), "model": job.model, "system_fingerprint": fingerprint}
        self._begun: set[int] = set()

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All choices at once."""
        choices = [self._choice(piece, self._message(piece)) for piece in sorted(pieces, key=lambda one: one.index)]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self.usage()}

    def chunks(self, piece: Piece, usage: bool) -> list[dict[str, Any]]:
        """What a piece adds to a stream; `usage`: its last chunk will tell that, so the others say null."""
        parts: list[dict[str, Any]] = []
        if not self.chat:
            parts = [self._choice(piece, {"text": piece.text})]
        else:
            if piece.index not in self._begun:
                self._begun.add(piece.index)
                begin = Piece(piece.index, "", [])
                parts.append(self._choice(begin, {"delta": {"role": "assistant", "content": "", "refusal": None}}))
            if piece.text or piece.told:
                more = Piece(piece.index, piece.text, piece.told)
                parts.append(self._choice(more, {"delta": {"content": piece.text}}))
            if piece.finish:
                parts.append(self._choice(Piece(piece.index, "", [], piece.finish), {"delta": {}}))
        return [self._chunk([part], {"usage": None} if usage else {}) for part in parts]

    def last_chunk(self) -> dict[str, Any]:
        """The usage of all choices."""
        return self._chunk([], {"usage": self.usage()})

    def usage(self) -> dict[str, int]:
        """Tokens as they are charged; those that a stop text cut off are among them."""
        prompt, completion = self.job.num_prompt_tokens, self.job.num_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _chunk(self, choices: list[dict[str, Any]], rest: dict[str, Any]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, **rest}

    def _message(self, piece: Piece) -> dict[str, Any]:
        if self.chat:
            return {"message": {"role": "assistant", "content": piece.text, "refusal": None}}
        return {"text": piece.text}

    def _choice(self, piece: Piece, content: dict[str, Any]) -> dict[str, Any]:
        told = None
        if self.logprobs and (piece.told or not self.chat):
            told = _chat_logprobs(piece.told) if self.chat else _completion_logprobs(piece.told)
        return {"index": piece.index, **content, "logprobs": told, "finish_reason": piece.finish}


def spelled(data: bytes) -> str:
    """A token as text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _completion_logprobs(told: Sequence[Told]) -> dict[str, Any]:
    return {
        "tokens": [spelled(token.data) for token in told],
        "token_logprobs": [max(token.logprob, LEAST) for token in told],
        "top_logprobs": [{spelled(data): max(logprob, LEAST) for data, logprob in token.top} for token in told],
        "text_offset": [token.offset for token in told],
    }


def _chat_logprobs(told: Sequence[Told]) -> dict[str, Any]:
    def one(data: bytes, logprob: float) -> dict[str, Any]:
        return {"token": spelled(data), "logprob": max(logprob, LEAST), "bytes": list(data)}

    content = [
        {**one(token.data, token.logprob), "top_logprobs": [one(*likely) for likely in token.top]} for token in told
    ]
    return {"content": content, "refusal": None}
