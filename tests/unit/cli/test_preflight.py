"""`preflight`: the pod that reads a run's report, and what is said where there is none to read."""

from typing import Any

import pytest
from tests.unit.cli import builders

from posttrain_cli import report_pod
from posttrain_cli.failure import Failure
from posttrain_cli.report_pod import Verdict

Object = dict[str, Any]
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532}
CONTAINER_RESTRICTED = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
CLAIM = {"name": "claim-1", "persistentVolumeClaim": {"claimName": "out"}}
OTHER_CLAIM = {"name": "claim-2", "persistentVolumeClaim": {"claimName": "data"}}


def run() -> Object:
    """A run that publishes on the claim `out`."""
    found = builders.run(conditions=[builders.condition("Validated", "PreflightPassed")])
    found["metadata"]["uid"] = "123"
    return {**found, "spec": {"output": {"uri": "pvc://out/runs"}}}


def job(*, created: str = "2026-11-21T12:00:00Z", **spec: Any) -> Object:
    """The run's preflight Job; keywords are parts of its pod's spec."""
    trainer = {
        "name": "trainer",
        "image": "trainer:1",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--preflight"],
        "env": [{"name": "TOKEN", "value": "secret"}],
        "securityContext": CONTAINER_RESTRICTED,
        "volumeMounts": [
            {"name": "claim-2", "mountPath": "/var/lib/posttrain/claims/data", "readOnly": True},
            {"name": "claim-1", "mountPath": "/var/lib/posttrain/claims/out"},
        ],
    }
    template = {
        "automountServiceAccountToken": False,
        "securityContext": RESTRICTED,
        "containers": [{"name": "sidecar", "image": "other"}, trainer],
        "volumes": [OTHER_CLAIM, CLAIM],
        **spec,
    }
    return {"metadata": {"creationTimestamp": created}, "spec": {"template": {"spec": template}}}


def test_the_pod_reads_one_file_and_can_do_nothing_else():
    where = {"runtimeClassName": "local", "nodeSelector": {"disk": "ssd"}, "imagePullSecrets": [{"name": "registry"}]}
    assert report_pod.pod(run(), job(**where, initContainers=[{"name": "x"}])) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "dates-report-",
            "labels": {"posttrain.dev/training-run": "dates", "posttrain.dev/component": "report"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 600,
            "terminationGracePeriodSeconds": 0,
            "securityContext": RESTRICTED,
            **where,
            "containers": [
                {
                    "name": "report",
                    "image": "trainer:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["cat", "/var/lib/posttrain/claims/out/runs/dates/123/preflight.json"],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": CONTAINER_RESTRICTED,
                    "volumeMounts": [
                        {"name": "claim-1", "mountPath": "/var/lib/posttrain/claims/out", "readOnly": True}
                    ],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }
            ],
            "volumes": [CLAIM],
        },
    }


def test_the_newest_job_counts():
    old, new = job(), job(created="2026-11-21T13:00:00Z")
    assert report_pod.newest([new, old], "dates") is new
    with pytest.raises(Failure, match="trun/dates has no preflight Job: preflight was skipped, or has not begun"):
        report_pod.newest([], "dates")


REPORTLESS = {
    "a run that nobody has seen": ([], "trun/dates: preflight has not begun"),
    "a run that was refused": (
        [builders.condition("Validated", "DatasetInvalid", "row 3\nhas no answer", status="False")],
        "trun/dates has no report: DatasetInvalid: row 3 has no answer",
    ),
}


@pytest.mark.parametrize(("conditions", "expected"), REPORTLESS.values(), ids=REPORTLESS.keys())
def test_a_run_without_a_report_says_why(conditions: list[Object], expected: str):
    with pytest.raises(Failure) as failure:
        report_pod.check_validated(builders.run(conditions=conditions))
    assert str(failure.value) == expected


def test_a_run_that_was_checked_has_a_report():
    assert report_pod.check_validated(run()) is None


def state(phase: str, **container: Any) -> Object:
    """A pod in a phase, with the state of its container."""
    return {"status": {"phase": phase, "containerStatuses": [{"state": container}]}}


ENDS: dict[str, tuple[Object, Verdict | None]] = {
    "at work": (state("Running"), None),
    "new": ({}, None),
    "done": (state("Succeeded"), Verdict(True, "")),
    "no such file": (
        state("Failed", terminated={"message": "cat: x: No such file\n"}),
        Verdict(False, "cat: x: No such file"),
    ),
    "evicted": ({"status": {"phase": "Failed", "message": "the node is full"}}, Verdict(False, "the node is full")),
    "without a word": (state("Failed", terminated={"exitCode": 1}), Verdict(False, "it failed")),
}


@pytest.mark.parametrize(("pod", "expected"), ENDS.values(), ids=ENDS.keys())
def test_a_pods_end(pod: Object, expected: Verdict | None):
    assert report_pod.verdict(pod) == expected


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has disk"}
WAITS: dict[str, tuple[Object, str]] = {
    "an image": (state("Pending", waiting={"reason": "ErrImagePull", "message": "none"}), "ErrImagePull: none"),
    "its start": (state("Pending", waiting={"reason": "ContainerCreating"}), "ContainerCreating"),
    "a node": (
        {"status": {"phase": "Pending", "conditions": [UNSCHEDULABLE]}},
        "Unschedulable: no node has disk",
    ),
    "its end": (state("Running", running={}), "Running"),
    "a first word": ({}, "it has not been seen by a node"),
}


@pytest.mark.parametrize(("pod", "expected"), WAITS.values(), ids=WAITS.keys())
def test_what_a_pod_waits_for(pod: Object, expected: str):
    assert report_pod.waits_for(pod) == expected
