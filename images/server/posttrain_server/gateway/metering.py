"""What clients used, per adapter. vLLM's own counters know only the base model's name, so the gateway counts."""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

UNKNOWN = "unknown"
"""The label of every name that is not in the table: what clients invent must not become a label."""


class Meter:
    """The gateway's metrics, in their own registry. Labels are names of the table, two routes and HTTP statuses."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "posttrain_server_requests_total",
            "Requests answered, by model, route and HTTP status.",
            ["model", "route", "code"],
            registry=registry,
        )
        self._tokens = Counter(
            "posttrain_server_tokens_total",
            "Tokens of answered requests, by model and kind (prompt, completion).",
            ["model", "kind"],
            registry=registry,
        )
        self._seconds = Histogram(
            "posttrain_server_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["model"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=registry,
        )
        self._refused = Counter(
            "posttrain_server_refused_total",
            "Requests refused by the gateway before the engine saw them, by code.",
            ["code"],
            registry=registry,
        )

    def answered(self, model: str, *, route: str, status: int, seconds: float) -> None:
        """An answer ended; status 0 is one that never began."""
        self._requests.labels(model, route, str(status)).inc()
        self._seconds.labels(model).observe(seconds)

    def usage(self, model: str, usage: dict[str, Any]) -> None:
        """Count OpenAI's usage object."""
        self._tokens.labels(model, "prompt").inc(usage.get("prompt_tokens") or 0)
        self._tokens.labels(model, "completion").inc(usage.get("completion_tokens") or 0)

    def refuse(self, code: str, *, model: str | None, route: str | None, status: int) -> None:
        """A request was refused."""
        self._refused.labels(code).inc()
        if route is not None:
            self._requests.labels(model or UNKNOWN, route, str(status)).inc()

    def forget(self, models: Iterable[str]) -> None:
        """Drop the labels of models that are gone."""
        for model in models:
            for metric in (self._requests, self._tokens, self._seconds):
                metric.remove_by_labels({"model": model})

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)
