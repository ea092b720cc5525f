"""The agent's own metrics, in a registry of their own. The adapter label holds wanted names only."""

from collections.abc import Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from posttrain_api.server_contract import AgentReport

Stage = Literal["fetch", "load", "prove"]
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class AgentMetrics:
    """What the agent counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._loaded = Gauge(
            "posttrain_server_adapter_loaded",
            "1 while the wanted version of the adapter is proven and answers here.",
            ["adapter"],
            registry=registry,
        )
        self._distance = Gauge(
            "posttrain_server_adapter_proof_distance",
            "Mean difference between served and recorded log probabilities at the last proof, in nats.",
            ["adapter"],
            registry=registry,
        )
        self._seconds = Histogram(
            "posttrain_server_adapter_load_seconds",
            "Seconds that a stage on the way to a loaded adapter took: fetch, load, prove.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "posttrain_server_adapter_failures_total",
            "Tries that ended in a failure, by reason.",
            ["reason"],
            registry=registry,
        )
        self._engine = Gauge("posttrain_server_engine_healthy", "1 while the engine is healthy.", registry=registry)
        self._starts = Counter(
            "posttrain_server_engine_starts_total", "Starts of the engine that the agent saw.", registry=registry
        )
        self._known: frozenset[str] = frozenset()

    def show(self, report: AgentReport) -> None:
        """Set the gauges to a report; adapters that are no longer wanted lose their labels."""
        self._engine.set(report.engine.state == "Healthy")
        names = frozenset(adapter.name for adapter in report.adapters)
        for name in self._known - names:
            self._loaded.remove(name)
            self._distance.remove_by_labels({"adapter": name})
        self._known = names
        for adapter in report.adapters:
            self._loaded.labels(adapter.name).set(adapter.state == "Loaded")

    def took(self, stage: Stage, seconds: float) -> None:
        """A stage ended well."""
        self._seconds.labels(stage).observe(seconds)

    def proved(self, name: str, distance: float) -> None:
        """An adapter's answers were compared."""
        self._distance.labels(name).set(distance)

    def failed(self, reason: str) -> None:
        """A try failed."""
        self._failures.labels(reason).inc()

    def engine_started(self) -> None:
        """The engine is another one than before."""
        self._starts.inc()

    def text(self, others: Sequence[bytes] = ()) -> bytes:
        """These metrics and others', in Prometheus' text format."""
        return b"".join([generate_latest(self._registry), *others])
