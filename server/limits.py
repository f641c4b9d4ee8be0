"""What a key may use in a minute and in a day. A request is let in if all that it may take still fits.

In any minute: the requests that began in it, the tokens that ended in it, and what running requests may yet take. So a
limit is never passed, however many come at once. After a start the ledger says what was used before.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import ApiError
from server.keys import Key
from server.ledger import Ledger

MINUTE, DAY = 60.0, 86400.0


@dataclass
class _Used:
    requests: deque[float] = field(default_factory=deque)  # when each of the last minute began
    tokens: deque[tuple[float, int]] = field(default_factory=deque)  # of the last minute
    reserved: int = 0  # of requests that run
    day: int = 0
    today: int = 0  # tokens


class Limits:
    """Counts by key; the event loop's."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock
        self._used: dict[str, _Used] = {}

    def take(self, key: Key, tokens: int) -> None:
        """Let a request in that may take so many tokens, and reserve them; ApiError 429 where a limit is reached."""
        now = self._clock()
        used = self._now(key.name, now)
        requests, minute, day = key.requests_per_minute, key.tokens_per_minute, key.tokens_per_day
        if requests is not None and len(used.requests) >= requests:
            raise _refusal(f"{requests:,} requests a minute", used.requests[0] + MINUTE - now)
        wanted = used.reserved + tokens
        for limit, words in ((minute, "minute"), (day, "day")):
            if limit is not None and tokens > limit:
                raise ApiError(
                    429, f"the request may take {tokens:,} tokens, more than the key's {limit:,} a {words}: lower "
                    "max_tokens", "max_tokens", "request_too_large"
                )  # fmt: skip
        if minute is not None and sum(number for _, number in used.tokens) + wanted > minute:
            raise _refusal(f"{minute:,} tokens a minute", used.tokens[0][0] + MINUTE - now if used.tokens else 1)
        if day is not None and used.today + wanted > day:
            raise _refusal(f"{day:,} tokens a day", (used.day + 1) * DAY - now if used.today else 1)
        used.requests.append(now)
        used.reserved += tokens

    def settle(self, name: str, reserved: int, tokens: int) -> None:
        """A request that was let in has ended: what it took in place of what it might have taken."""
        now = self._clock()
        used = self._now(name, now)
        used.reserved -= reserved
        used.tokens.append((now, tokens))
        used.today += tokens

    def _now(self, name: str, now: float) -> _Used:
        today = int(now // DAY)
        used = self._used.get(name)
        if used is None:
            used = self._used[name] = _Used(day=today)
            for began, tokens in self._ledger.tokens_since(name, min(today * DAY, now - MINUTE)):
                used.today += tokens if began >= today * DAY else 0
                if began > now - MINUTE:
                    used.requests.append(began)
                    used.tokens.append((began, tokens))
        if used.day != today:
            used.day, used.today = today, 0
        while used.requests and used.requests[0] <= now - MINUTE:
            used.requests.popleft()
        while used.tokens and used.tokens[0][0] <= now - MINUTE:
            used.tokens.popleft()
        return used


def _refusal(limit: str, seconds: float) -> ApiError:
    return ApiError(429, f"the key's limit of {limit} is reached", code="rate_limit_exceeded", retry_after=seconds)
