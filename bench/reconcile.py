"""From a created TrainingRun to its preflight Job: one after another, and 300 at once; what that costs the operator.

The node is cordoned: the Jobs' pods stay Pending, so that the operator is measured and not the pods.
"""

import queue
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, watch
from prometheus_client.parser import text_string_to_metric_families
from tests.live import Access, Namespace
from urllib3.exceptions import ProtocolError

from bench.table import Row

OPERATOR_NAMESPACE = "posttrain-system"
NUM_SEQUENTIAL = 50
NUM_BURST = 300
LABEL = "posttrain.dev/training-run"


def rows(access: Access, _scratch: Path) -> list[Row]:
    """Measure on a cluster with the operator installed; its nodes are cordoned for as long."""
    with _cordoned(access):
        return [*_sequential(access), *_burst(access)]


@contextmanager
def _cordoned(access: Access) -> Iterator[None]:
    _for_all_nodes(access, "cordon")
    yield
    _for_all_nodes(access, "uncordon")


def _for_all_nodes(access: Access, command: str) -> None:
    names = access.kubectl("get", "nodes", "-o", "name").stdout.split()
    shown = access.kubectl(command, *names)
    assert shown.returncode == 0, shown.stderr


@contextmanager
def _namespace(access: Access, name: str) -> Iterator[Namespace]:
    namespace = Namespace(access, name)
    namespace.create()
    yield namespace
    namespace.remove()


class _Preflights:
    """When the watch told of each run's preflight Job, in seconds of the monotonic clock."""

    def __init__(self, namespace: Namespace) -> None:
        self.seen: dict[str, float] = {}
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._namespace = namespace
        self._stream = watch.Watch()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        jobs = client.BatchV1Api(self._namespace.client.client)
        arguments = {"namespace": self._namespace.name, "label_selector": LABEL, "deserialize": False}
        with suppress(ProtocolError):  # how a watch that is stopped ends
            self._take_in(self._stream.stream(jobs.list_namespaced_job, **arguments))

    def _take_in(self, events: Iterator[dict[str, Any]]) -> None:
        for event in events:
            name = event["object"]["metadata"]["labels"][LABEL]
            if name not in self.seen:
                self.seen[name] = time.monotonic()
                self._new.put(name)

    def close(self) -> None:
        """End the watch."""
        self._stream.stop()

    def wait_for(self, count: int, *, within: float) -> None:
        """Return when this many have come since the last call."""
        end = time.monotonic() + within
        for _ in range(count):
            self._new.get(timeout=max(0.01, end - time.monotonic()))


def _run(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "method": "sft",
            "baseModel": {"uri": "file:///models/tiny"},
            "environment": {"dataset": {"configMap": {"name": "data", "key": "rows"}}},
            "resources": {"gpus": 0},
        },
    }


def _sequential(access: Access) -> list[Row]:
    with _namespace(access, "bench-sequential") as namespace:
        preflights = _Preflights(namespace)
        latencies = []
        for index in range(NUM_SEQUENTIAL):
            name = f"run-{index}"
            namespace.resource("TrainingRun").create(body=_run(name), namespace=namespace.name)
            returned = time.monotonic()
            preflights.wait_for(1, within=30)
            latencies.append(preflights.seen[name] - returned)
        preflights.close()
    p50, p95 = statistics.median(latencies), sorted(latencies)[int(NUM_SEQUENTIAL * 0.95)]
    return [
        Row("create -> preflight Job, one after another, p50", f"{p50:.3f} s", "0.1 s", p50 <= 0.1),
        Row("create -> preflight Job, one after another, p95", f"{p95:.3f} s"),
    ]


@dataclass(frozen=True)
class _Cost:
    cpu_seconds: float
    memory_bytes: float
    requests: float


def _cost(access: Access) -> _Cost:
    """What the operator says of itself on /metrics."""
    pods = Namespace(access, OPERATOR_NAMESPACE).list("Pod", "app.kubernetes.io/component=operator")
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pods[0]['metadata']['name']}:8080/proxy/metrics"
    shown = access.kubectl("get", "--raw", path)
    assert shown.returncode == 0, shown.stderr
    samples = [sample for family in text_string_to_metric_families(shown.stdout) for sample in family.samples]

    def total(name: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name)

    return _Cost(
        total("process_cpu_seconds_total"),
        total("process_resident_memory_bytes"),
        total("posttrain_operator_api_requests_total"),
    )


def _burst(access: Access) -> list[Row]:
    with _namespace(access, "bench-burst") as namespace:
        preflights = _Preflights(namespace)
        before = _cost(access)
        resource = namespace.resource("TrainingRun")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: resource.create(body=_run(f"run-{i}"), namespace=namespace.name), range(NUM_BURST)))
        created = time.monotonic()
        preflights.wait_for(NUM_BURST, within=120)
        took = max(preflights.seen.values()) - created
        for index in range(NUM_BURST):
            namespace.wait_for("TrainingRun", f"run-{index}", _is_settled, within=60, what="settled")
        preflights.close()
        after = _cost(access)
    cpu_ms = (after.cpu_seconds - before.cpu_seconds) / NUM_BURST * 1000
    memory_mb = after.memory_bytes / 1e6
    return [
        Row(f"{NUM_BURST} runs at once: last create -> last preflight Job", f"{took:.1f} s", "10 s", took <= 10),
        Row(f"{NUM_BURST} runs at once: operator's CPU a run", f"{cpu_ms:.1f} ms", "25 ms", cpu_ms <= 25),
        Row(f"{NUM_BURST} runs at once: operator's memory", f"{memory_mb:.0f} MB", "120 MB", memory_mb <= 120),
        Row(f"{NUM_BURST} runs at once: API requests a run", f"{(after.requests - before.requests) / NUM_BURST:.1f}"),
    ]


def _is_settled(run: dict[str, Any]) -> bool:
    """Everything that follows from the creation has been written."""
    reasons = {found["type"]: found["reason"] for found in run["status"].get("conditions") or []}
    return reasons.get("Ready") == "Unschedulable"
