"""Many requests at a time, each joining and leaving between two steps: what a server generates with.

    engine.add(request) -> its number    waits until a step reads its prompt
    engine.step() -> events              a token more of each row that answers, and a piece of the prompts that wait
    engine.drop(number)                  a client has left

The cache's first rows answer, and the one behind them, if any, is reading its prompt. A row that ends leaves its place
to the last that answers. A long prompt is read in pieces of `PIECE` tokens, one a step, so that it holds the others up
for a bounded time. Nothing of one row reaches another: a place is zeroed when it is left, random numbers are each
row's own, and a row's tokens are those of `generate` on its prompt alone, but for what rounding does in near-ties.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.cache import Cache
from model.decoder import Decoder
from model.sampling import choose, penalised

# Tokens of waiting prompts that a step reads; 512 where nobody is held up. seed-126m, a prompt of 768: pieces of 64
# hold eight rows up for 3.4 of their steps each, and take 1.3 times as long in all as pieces of 256, which do for 9.6.
PIECE, PIECE_ALONE = 64, 512


@dataclass(frozen=True)
class Request:
    """A prompt, and how it is to be continued; the settings of sampling are those of `generate`.

    Args:
        prompt: token ids, at least one
        max_new_tokens: at least 1; the answer also ends where the context is full
        eos: ids that end the answer
        logprobs: None, or how many of the likeliest tokens are told with each token, beside its own log-probability.
            They are the model's: of the logits without banned tokens, before penalty, min_new_tokens, temperature and
            limits.
    """

    prompt: list[int]
    max_new_tokens: int
    eos: Sequence[int]
    banned: Sequence[int] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    seed: int = 0
    logprobs: int | None = None


@dataclass(frozen=True)
class Event:
    """One more token of a row, or its end, or both. `token` None: it ended without one more."""

    row: int
    token: int | None
    ended: str | None = None  # "eos", "length"; "failed": the model's numbers are none
    logprob: float | None = None  # of the token, natural
    top: list[tuple[int, float]] = field(default_factory=list)  # likeliest first


@dataclass
class _Row:
    number: int
    request: Request
    limit: int  # new tokens
    random: torch.Generator
    banned: Tensor
    seen_V: Tensor | None  # where repetition is penalised: the tokens that it holds
    last: int = 0  # its newest token
    count: int = 0  # of new tokens


class Engine:
    """Rows that answer together. Single-threaded: all calls come from one thread."""

    def __init__(self, model: Decoder, max_rows: int = 8, num_slots: int | None = None) -> None:
        """`max_rows`: at most so many at a time; `num_slots`: tokens of prompt and answer together, at most seq_len."""
        self.model = model.eval()
        self.max_rows, self.num_slots = max_rows, min(num_slots or model.shape.seq_len, model.shape.seq_len)
        self._cache = Cache(model.shape, max_rows, self.num_slots, model.head.dtype, model.head.device)
        self._rows: list[_Row] = []  # by place in the cache; all answer, but the last may be reading
        self._waiting: deque[_Row] = deque()
        self._num_answering = 0
        self._numbers = itertools.count()

    def num_rows(self) -> int:
        """How many have not ended."""
        return len(self._rows) + len(self._waiting)

    def has_room(self) -> bool:
        """Whether one more may be added."""
        return self.num_rows() < self.max_rows

    def add(self, request: Request) -> int:
        """The row's number, unique for the engine's life. ValueError where no token can come, or no row is free."""
        length, shape, device = len(request.prompt), self.model.shape, self.model.head.device
        if not self.has_room():
            raise ValueError(f"all {self.max_rows} rows are taken")
        if not 1 <= length < self.num_slots:
            raise ValueError(f"the prompt has {length:,} tokens: 1 to {self.num_slots - 1:,} leave room for an answer")
        if request.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {request.max_new_tokens}: 1 or more")
        seen_V = None
        if request.repetition_penalty != 1.0:
            seen_V = torch.zeros(shape.vocab_size, dtype=torch.bool, device=device)
            seen_V[request.prompt] = True
        row = _Row(
            next(self._numbers),
            request,
            min(request.max_new_tokens, self.num_slots - length),
            torch.Generator().manual_seed(request.seed),
            torch.tensor(list(request.banned), dtype=torch.int64, device=device),
            seen_V,
        )
        self._waiting.append(row)
        return row.number

    def drop(self, row: int) -> None:
        """Forget a row; one that has ended is gone already."""
        for waiting in self._waiting:
            if waiting.number == row:
                self._waiting.remove(waiting)
                return
        for place, held in enumerate(self._rows):
            if held.number == row:
                self._leave(place)
                return

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One more token of each row that answers; none of those whose prompt is still being read."""
        logits = [self._decode()] if self._num_answering else []
        logits += self._read_prompts()
        if not logits:
            return []
        events = self._choose(torch.cat(logits))
        for place in reversed([place for place, event in enumerate(events) if event.ended]):
            self._leave(place)
        return events

    def _decode(self) -> Tensor:
        """Logits behind the newest token of each row that answers."""
        rows = self._rows[: self._num_answering]
        ids_B1 = torch.tensor([[row.last] for row in rows], device=self.model.head.device)
        return self.model.logits(self.model(ids_B1, cache=self._cache.rows(0, len(rows)))[:, -1]).float()

    def _read_prompts(self) -> list[Tensor]:
        """Read a piece of the prompts, first come first; logits behind each prompt that is now read whole."""
        logits, left = [], PIECE if self._num_answering else PIECE_ALONE
        while left > 0 and (self._waiting or self._num_answering < len(self._rows)):
            place = self._num_answering
            if place == len(self._rows):
                self._rows.append(self._waiting.popleft())
            cache, prompt = self._cache.rows(place, place + 1), self._rows[place].request.prompt
            start = int(cache.lengths_B)
            ids_1T = torch.tensor([prompt[start : start + left]], device=self.model.head.device)
            hidden_1TD = self.model(ids_1T, cache=cache)
            left -= ids_1T.shape[1]
            if int(cache.lengths_B) == len(prompt):
                logits.append(self.model.logits(hidden_1TD[:, -1]).float())
                self._num_answering += 1
        return logits

    def _choose(self, logits_BV: Tensor) -> list[Event]:
        """The next token of each row that answers."""
        rows = self._rows[: len(logits_BV)]
        failed_B = ~logits_BV.isfinite().all(dim=1)
        logits_BV[failed_B] = 0.0  # there is no choosing from it, and the other rows go on
        for row, logits_V in zip(rows, logits_BV, strict=True):
            logits_V[row.banned] = -torch.inf
        raw_BV = logits_BV.clone() if any(row.request.logprobs is not None for row in rows) else logits_BV
        alike: dict[tuple[float, int, float, float], list[int]] = {}
        for place, (row, logits_V) in enumerate(zip(rows, logits_BV, strict=True)):
            asked = row.request
            if row.seen_V is not None:
                logits_V.copy_(penalised(logits_V, row.seen_V, asked.repetition_penalty))
            if row.count < asked.min_new_tokens:
                logits_V[list(asked.eos)] = -torch.inf
            settings = (asked.temperature, asked.top_k, asked.top_p, asked.min_p)
            alike.setdefault(settings, []).append(place)
        tokens = [0] * len(rows)
        for (temperature, top_k, top_p, min_p), places in alike.items():
            random = [rows[place].random for place in places]
            chosen_B = choose(logits_BV[places], temperature, top_k, top_p, random, min_p)
            for place, token in zip(places, chosen_B.tolist(), strict=True):
                tokens[place] = token
        return [
            Event(row.number, None, "failed") if lost else self._take(row, token, raw_V)
            for row, token, raw_V, lost in zip(rows, tokens, raw_BV, failed_B.tolist(), strict=True)
        ]

    def _take(self, row: _Row, token: int, raw_V: Tensor) -> Event:
        """A row's newest token, and what is told of it."""
        if token in row.request.eos:
            return Event(row.number, None, "eos")
        row.last, row.count = token, row.count + 1
        if row.seen_V is not None:
            row.seen_V[token] = True
        logprob, top = None, []
        if row.request.logprobs is not None:
            logprobs_V = raw_V.log_softmax(dim=-1)
            logprob = logprobs_V[token].item()
            values, ids = logprobs_V.topk(min(row.request.logprobs, len(logprobs_V)))
            top = list(zip(ids.tolist(), values.tolist(), strict=True))
        return Event(row.number, token, "length" if row.count == row.limit else None, logprob, top)

    def _leave(self, place: int) -> None:
        """Free a place: the last row that answers takes it, and the one that reads takes that one's."""
        if place < self._num_answering:
            self._num_answering -= 1
            place = self._replace(place, self._num_answering)
        self._replace(place, len(self._rows) - 1)
        self._rows.pop()

    def _replace(self, place: int, last: int) -> int:
        """What stands at `place` is gone, what stands at `last` goes there; the place that is free now."""
        self._cache.clear(place)
        if last != place:
            self._cache.move(last, place)
            self._rows[place] = self._rows[last]
        return last
