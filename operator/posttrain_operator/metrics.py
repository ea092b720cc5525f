"""Prometheus metrics of the operator: documented in docs/metrics/operator.md. Labels are bounded by our own code."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from posttrain_operator.actions import Manifest

PREFIX = "posttrain_operator"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The operator's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._reconciles = Counter(
            f"{PREFIX}_reconciles",
            "Reconciles by kind and result",
            ["kind", "result"],
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            f"{PREFIX}_reconcile_seconds", "Length of a reconcile", ["kind"], buckets=SECONDS, registry=self.registry
        )
        self._api_requests = Counter(
            f"{PREFIX}_api_requests",
            "Requests to the API server by verb, resource and status code (0: no answer)",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._api_seconds = Histogram(
            f"{PREFIX}_api_request_seconds", "Length of a request", ["verb"], buckets=SECONDS, registry=self.registry
        )

    @contextmanager
    def reconcile(self, kind: str) -> Iterator[None]:
        """Count and time one reconcile."""
        begin, result = perf_counter(), "error"
        try:
            yield
            result = "ok"
        finally:
            self._reconciles.labels(kind, result).inc()
            self._reconcile_seconds.labels(kind).observe(perf_counter() - begin)

    def api_request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count and time one request to the API server."""
        self._api_requests.labels(verb, resource, str(code)).inc()
        self._api_seconds.labels(verb).observe(seconds)

    def watch_queue(self, depth: Callable[[], float]) -> None:
        """Show how many objects wait or are being reconciled."""
        gauge = Gauge(f"{PREFIX}_queue_depth", "Objects that wait or are being reconciled", registry=self.registry)
        gauge.set_function(depth)

    def watch_objects(self, objects: Callable[[], Iterable[Manifest]]) -> None:
        """Show how many of our objects are in each phase, counted when they are asked for."""
        self.registry.register(_Phases(objects))


class _Phases(Collector):
    def __init__(self, objects: Callable[[], Iterable[Manifest]]) -> None:
        self._objects = objects

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(f"{PREFIX}_objects", "Objects by kind and phase", labels=["kind", "phase"])
        for (kind, phase), count in Counts(map(_phase, self._objects())).items():
            family.add_metric([kind, phase], count)
        yield family


def _phase(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], (manifest.get("status") or {}).get("phase") or "Pending"
