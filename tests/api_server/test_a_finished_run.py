"""An operator at rest: what is finished costs nothing but the list every ten minutes."""

import threading
from collections.abc import Callable

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families
from tests.api_server import kubelet
from tests.api_server.conftest import METRICS_PORT
from tests.api_server.test_training_run import ready_with, start_training
from tests.live import Namespace

pytestmark = pytest.mark.usefixtures("operator")


def metric(name: str, holds: Callable[[dict[str, str]], bool]) -> float:
    """Sum of the operator's samples of this name whose labels fit."""
    text = urllib3.request("GET", f"http://127.0.0.1:{METRICS_PORT}/metrics").data.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and holds(sample.labels))


def num_requests() -> float:
    return metric("posttrain_operator_api_requests_total", lambda labels: labels["verb"] != "list")


def num_reconciles() -> float:
    return metric("posttrain_operator_reconciles_total", lambda labels: labels["kind"] == "TrainingRun")


def wait_until(holds: Callable[[], bool], what: str, *, within: float = 5) -> None:
    """Return when it holds; metrics cannot be watched."""
    for _ in range(round(within / 0.05)):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"not {what} within {within} s")


def is_alone() -> bool:
    """Whether the objects of the tests before are gone, whose ends are not awaited there."""
    return metric("posttrain_operator_objects", lambda _: True) == 1


def test_a_finished_run_causes_no_request_whatever_happens_to_it(namespace: Namespace):
    pod = start_training(namespace)
    kubelet.end_pod(namespace, pod, message=kubelet.report(namespace, "run", training=kubelet.training_report()))
    ready_with(namespace, "True", "Ready")
    namespace.wait_for_any("Event", lambda event: event["reason"] == "Ready", within=5, what="told")
    namespace.wait_for("Job", "run-0-0", lambda job: job["status"].get("succeeded") == 1, within=10, what="complete")

    wait_until(is_alone, "alone", within=60)
    requests = num_requests()
    for index in range(5):
        reconciles = num_reconciles()
        assert namespace.kubectl("label", "--overwrite", "trun", "run", f"touched={index}").returncode == 0
        wait_until(lambda before=reconciles: num_reconciles() > before, "reconciled")
    namespace.delete("Job", "run-0-0", propagation_policy="Background")
    namespace.wait_gone("Job", "run-0-0", within=10)

    assert num_requests() == requests
    run = namespace.get("TrainingRun", "run")
    assert run is not None
    writers = {entry["manager"] for entry in run["metadata"]["managedFields"] if entry.get("subresource") == "status"}
    assert writers == {"posttrain"}
