"""The metrics that docs/metrics/operator.md names are there, and no others."""

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from tests.unit.operator_core.builders import run

from posttrain_operator.metrics import Metrics

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics" / "operator.md"


def shown() -> str:
    metrics = Metrics()
    with metrics.reconcile("TrainingRun"):
        metrics.api_request("apply", "jobs", 201, 0.01)
    metrics.watch_queue(lambda: 3)
    training = {"status": {"phase": "Training"}}
    metrics.watch_objects(lambda: [run("a", **training), run("b", **training), run()])
    return generate_latest(metrics.registry).decode()


def test_what_is_served_is_what_is_documented() -> None:
    served = set(re.findall(r"^# TYPE (posttrain_operator_\w+) (?:counter|gauge|histogram)$", shown(), re.MULTILINE))
    documented = set(re.findall(r"^\| `(posttrain_operator_\w+)`", DOCUMENT.read_text(), re.MULTILINE))

    assert {name for name in served if not name.endswith("_created")} == documented


@pytest.mark.parametrize(
    "line",
    [
        'posttrain_operator_reconciles_total{kind="TrainingRun",result="ok"} 1.0',
        'posttrain_operator_api_requests_total{code="201",resource="jobs",verb="apply"} 1.0',
        "posttrain_operator_queue_depth 3.0",
        'posttrain_operator_objects{kind="TrainingRun",phase="Training"} 2.0',
        'posttrain_operator_objects{kind="TrainingRun",phase="Pending"} 1.0',
    ],
)
def test_counts_are_right(line: str) -> None:
    assert line in shown()


def test_a_reconcile_that_raises_is_an_error() -> None:
    metrics = Metrics()
    with pytest.raises(RuntimeError), metrics.reconcile("TrainingRun"):
        raise RuntimeError("unexpected")

    assert 'result="error"' in generate_latest(metrics.registry).decode()
