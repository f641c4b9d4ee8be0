"""What the server counts, for Prometheus: in a registry of its own, with labels that no client chooses."""

import time
from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.jobs import Job
from server.worker import Worker

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
SECONDS_A_TOKEN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


class Metrics:
    """The counters; all are the event loop's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        made = partial(Counter, registry=self._registry)
        self._responses = made("loam_responses", "HTTP responses", ["status"])
        self._requests = made("loam_requests", "Requests that were begun, by how they ended", ["model", "status"])
        self._tokens = made("loam_tokens", "Tokens charged", ["model", "kind"])
        shown = partial(Gauge, registry=self._registry)
        self._queue = shown("loam_queue_length", "Answers that wait for a row", ["model"])
        self._rows = shown("loam_rows", "Answers that are generated now", ["model"])
        timed = partial(Histogram, registry=self._registry)
        self._first = timed("loam_time_to_first_token_seconds", "From the request", ["model"], buckets=SECONDS)
        self._each = timed(
            "loam_seconds_per_token", "Behind the first of an answer", ["model"], buckets=SECONDS_A_TOKEN
        )

    def response(self, status: int) -> None:
        """One was begun."""
        self._responses.labels(str(status)).inc()

    def ended(self, job: Job) -> None:
        """A job has its status."""
        self._requests.labels(job.model, job.status).inc()
        if not job.entered:
            return
        self._tokens.labels(job.model, "prompt").inc(job.num_prompt_tokens)
        self._tokens.labels(job.model, "completion").inc(job.num_tokens)
        if job.first is not None:
            self._first.labels(job.model).observe(job.first - job.began)
            if len(job.choices) == 1 and job.num_tokens > 1:
                self._each.labels(job.model).observe((time.time() - job.first) / (job.num_tokens - 1))

    def page(self, workers: Mapping[str, Worker]) -> bytes:
        """All of it, as Prometheus reads it."""
        for name, worker in workers.items():
            self._queue.labels(name).set(worker.num_waiting())
            self._rows.labels(name).set(worker.num_rows())
        return generate_latest(self._registry)
