"""What the app works with: the models, who may ask, and what becomes of a request that was taken.

ask -> prompts -> limits -> worker's queue ... clerk -> `deliver` -> whoever answers the client
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from common.text import one_line
from model.engine import Request
from server.bodies import Asked, Chat, Completion
from server.clerk import Clerk
from server.errors import ApiError
from server.jobs import Choice, Job, Update
from server.keys import Key, any_keys, find_key
from server.ledger import Ledger
from server.limits import Limits
from server.metrics import Metrics
from server.worker import Worker
from tokenizer.dialog import Dialog

MOST_TOLD = 500_000  # log-probabilities of one request: each takes about half a kilobyte until it is sent
DEFAULT_TOKENS = 16  # of a completion that does not say how many, as OpenAI has it; a chat's may fill the context


@dataclass(frozen=True)
class Served:
    """A model that answers."""

    name: str
    dialog: Dialog
    worker: Worker
    seq_len: int
    created: int
    fingerprint: str


class Service:
    """The state of a running server; the event loop's, but for `prompts`.

    Args:
        reading: a connection to the ledger, for the event loop
        most_tokens: of an answer; None: what the context holds
    """

    def __init__(
        self, models: Mapping[str, Served], reading: Ledger, most_tokens: int | None, log: Callable[[str], None]
    ) -> None:
        self.models, self.metrics, self.log = models, Metrics(), log
        self.running: set[Job] = set()
        self.stopping = False
        self.clerk: Clerk | None = None
        self._ledger, self._most, self._limits = reading, most_tokens, Limits(reading)
        self._reserved: dict[str, int] = {}  # job -> tokens

    def start(self, writing: Ledger) -> None:
        """Begin: in the event loop."""
        self.clerk = Clerk(writing, asyncio.get_running_loop(), self.deliver)
        self.clerk.start()
        for served in self.models.values():
            served.worker.start(self.clerk.publish)

    async def stop(self, seconds: float) -> None:
        """Take no more requests, let running ones end for so long, then interrupt them; all is charged then."""
        self.stopping = True
        until = time.monotonic() + seconds
        while self.running and time.monotonic() < until:
            await asyncio.sleep(0.05)
        for served in self.models.values():
            await asyncio.to_thread(served.worker.close)
        assert self.clerk is not None
        await asyncio.to_thread(self.clerk.close)
        await asyncio.sleep(0)  # what the clerk handed over last

    def key(self, authorization: str | None) -> Key | None:
        """Who asks; None where no key was ever made. ApiError 401."""
        if not self.has_keys():
            return None
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise ApiError(401, "an API key is needed: Authorization: Bearer KEY", code="missing_api_key")
        key = find_key(self._ledger, given.strip())
        if key is None:
            raise ApiError(401, "the API key is wrong, or it is revoked", code="invalid_api_key")
        return key

    def has_keys(self) -> bool:
        """Whether one is needed."""
        return any_keys(self._ledger)

    def model(self, name: str) -> Served:
        """ApiError 404 where it is not served."""
        if name not in self.models:
            there = ", ".join(self.models)
            raise ApiError(404, f"no model {one_line(name, 80)!r} here; there are {there}", "model", "model_not_found")
        return self.models[name]

    def prompts(self, served: Served, asked: Asked) -> list[list[int]]:
        """Ids of what is to be answered, each with room for a token more; in any thread. ApiError 400."""
        dialog = served.dialog
        try:
            if isinstance(asked, Chat):
                if asked.messages[-1].role == "assistant":
                    raise ApiError(400, "messages: the last one must not be the assistant's", "messages")
                found, what = [dialog.prompt([message.plain() for message in asked.messages])], "messages"
            else:
                assert isinstance(asked, Completion)
                what = "prompt"
                found = [
                    [*dialog.begin, *dialog.encode(one)] if isinstance(one, str) else list(one) for one in asked.prompt
                ]
        except ValueError as error:  # of the template, about roles and their order
            raise ApiError(400, f"messages: {one_line(str(error), 200)}", "messages", "invalid_value") from None
        for ids in found:
            if len(ids) >= served.seq_len:
                said = (
                    f"{what}: {len(ids):,} tokens, and the context of {served.name} holds {served.seq_len:,} with the "
                )
                raise ApiError(400, said + "answer: shorten it", what, "context_length_exceeded")
            if not ids:
                raise ApiError(400, f"{what}: is empty", what, "invalid_value")
            if max(ids) >= dialog.vocab_size:
                said = f"prompt: {max(ids)} is no token; {served.name} has {dialog.vocab_size:,}"
                raise ApiError(400, said, what, "invalid_value")
        return found

    def submit(self, served: Served, key: Key | None, asked: Asked, prompts: list[list[int]], began: float) -> Job:
        """Take a request: its limits are reserved and its answers queued. ApiError 400, 429, 503."""
        if self.stopping:
            raise ApiError(503, "the server is stopping", code="stopping", retry_after=5)
        prefix = "chatcmpl" if isinstance(asked, Chat) else "cmpl"
        num_prompt = sum(map(len, prompts))
        job = Job(f"{prefix}-{secrets.token_hex(16)}", key.name if key else "", served.name, num_prompt, asked.stream)
        job.began = began
        seed = secrets.randbits(62) if asked.seed is None else asked.seed
        for prompt in prompts:
            request = self._request(served, asked, prompt)
            for _ in range(asked.n):
                index = len(job.choices)
                own = replace(request, seed=(seed + index) % 2**63)
                job.choices.append(Choice(job, index, own, served.dialog, asked.stop))
        most = sum(choice.request.max_new_tokens for choice in job.choices)
        told = asked.num_logprobs()
        if told is not None and most * (told + 1) > MOST_TOLD:
            said = (
                f"logprobs: the answer may hold {most * (told + 1):,}, and {MOST_TOLD:,} are the most: lower max_tokens"
            )
            raise ApiError(400, said, "logprobs", "invalid_value")
        wanted = num_prompt + most
        if key is not None:
            self._limits.take(key, wanted)
            self._reserved[job.id] = wanted
        try:
            served.worker.submit(job)
        except ApiError:
            self._release(job)
            raise
        self.running.add(job)
        return job

    def leave(self, job: Job) -> None:
        """A client went away, or has got all."""
        if job.status is None:
            self.models[job.model].worker.cancel(job)

    def deliver(self, updates: list[Update]) -> None:
        """Of the clerk."""
        for update in updates:
            job = update.job
            job.receive(update)
            if job.status is not None and job in self.running:
                self.running.discard(job)
                self._release(job)
                self.metrics.ended(job)
                if job.status == "failed":  # where the ledger could not be written, the engine does not know yet
                    self.models[job.model].worker.cancel(job)
                with suppress(OSError):  # who read the log may be gone: that is no reason to answer nobody
                    self.log(
                        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {job.id} {job.key or '-'} {job.model} {job.status} "
                        f"{job.num_prompt_tokens}+{job.num_tokens} tokens {time.time() - job.began:.3f} s"
                    )

    def trouble(self) -> str | None:
        """Why no request can be answered now; None: all is well."""
        if self.stopping:
            return "stopping"
        if self.clerk is None or self.clerk.failing:
            return "the ledger cannot be written"
        dead = [name for name, served in self.models.items() if not served.worker.alive()]
        return f"the engine of {dead[0]} has ended" if dead else None

    def _request(self, served: Served, asked: Asked, prompt: list[int]) -> Request:
        room = served.seq_len - len(prompt)
        wanted = asked.max_tokens or (room if isinstance(asked, Chat) else DEFAULT_TOKENS)
        most = min(room, wanted, self._most or room)
        return Request(
            prompt=prompt,
            max_new_tokens=most,
            eos=served.dialog.eos,
            banned=served.dialog.banned,
            temperature=asked.temperature,
            top_k=asked.top_k,
            top_p=asked.top_p,
            min_p=asked.min_p,
            repetition_penalty=asked.repetition_penalty,
            min_new_tokens=min(asked.min_tokens, most),
            logprobs=asked.num_logprobs(),
        )

    def _release(self, job: Job) -> None:
        """Give back what a job reserved of its key's limits, less what it took."""
        if job.id in self._reserved:
            taken = job.num_prompt_tokens + job.num_tokens if job.entered else 0
            self._limits.settle(job.key, self._reserved.pop(job.id), taken)
