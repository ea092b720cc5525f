"""The operator against a real API server: what follows from each thing that can happen to a run's pods."""

from typing import Any

import pytest
from tests.api_server import kubelet
from tests.live import Namespace, condition, has_condition

pytestmark = pytest.mark.usefixtures("operator")


def run(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "run"},
        "spec": {
            "method": "sft",
            "baseModel": {"uri": "file:///models/tiny"},
            "environment": {"dataset": {"configMap": {"name": "data", "key": "rows"}}},
            **spec,
        },
    }


def start_training(namespace: Namespace, **spec: Any) -> dict[str, Any]:
    """A run that trains: its training pod, made by the Job controller."""
    namespace.apply(run(preflight="Skip", **spec))
    return kubelet.pod_of(namespace, "run", "training")


def ready_with(namespace: Namespace, status: str, reason: str) -> dict[str, Any]:
    return namespace.wait_for("TrainingRun", "run", has_condition("Ready", status, reason), within=10, what=reason)


def test_a_run_goes_from_preflight_over_training_to_ready(namespace: Namespace):
    namespace.apply(run())
    preflight = kubelet.pod_of(namespace, "run", "preflight")
    assert [job["metadata"]["name"] for job in namespace.list("Job")] == ["run-0-preflight"]
    checked = kubelet.report(namespace, "run", preflight=kubelet.preflight_report())
    kubelet.end_pod(namespace, preflight, message=checked)

    training = kubelet.pod_of(namespace, "run", "training")
    checked_run = namespace.wait_for(
        "TrainingRun", "run", lambda item: "estimate" in item["status"], within=10, what="estimated"
    )
    found = checked_run["status"]
    assert (found["estimate"]["totalSteps"], found["estimate"]["cost"]) == (30, "3.50")
    assert (found["model"], found["data"]["rowsRead"]) == (kubelet.MODEL, 168)
    assert "⟦1<|im_end|>⟧" in found["mask"]
    kubelet.run_pod(namespace, training)
    namespace.wait_for("TrainingRun", "run", lambda r: r["status"]["phase"] == "Training", within=10, what="Training")
    done = kubelet.report(namespace, "run", training=kubelet.training_report())
    kubelet.end_pod(namespace, training, message=done)

    ready = ready_with(namespace, "True", "Ready")
    held = {
        type_: condition(ready, type_)["status"]
        for type_ in ("Validated", "Trained", "Evaluated", "Accepted", "Succeeded")
    }
    assert set(held.values()) == {"True"}
    assert condition(ready, "Reconciling") is None
    assert condition(ready, "Stalled") is None
    assert ready["status"]["artifact"]["digest"] == kubelet.DIGEST
    assert ready["status"]["evaluation"]["after"] == {"loss": 0.25}
    assert ready["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        pytest.param({"exit_code": 0}, "ArtifactMissing", id="exit 0 without a report"),
        pytest.param({"exit_code": 0, "message": "all good"}, "ArtifactMissing", id="exit 0 with other words"),
        pytest.param({"exit_code": 1}, "TrainerFailed", id="exit 1"),
        pytest.param({"exit_code": 137, "reason": "OOMKilled"}, "OutOfMemory", id="out of memory"),
    ],
)
def test_an_exit_code_is_never_success(namespace: Namespace, ending: dict[str, Any], reason: str):
    kubelet.end_pod(namespace, start_training(namespace), **ending)
    failed = ready_with(namespace, "False", reason)
    assert condition(failed, "Stalled")["status"] == "True"
    assert condition(failed, "Trained")["status"] == "False"
    assert failed["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stepsCompleted": 29}, id="a step is missing"),
        pytest.param({"stepsCompleted": 0, "stepsPlanned": 30}, id="no step"),
    ],
)
def test_an_incomplete_training_is_no_success(namespace: Namespace, changes: dict[str, Any]):
    pod = start_training(namespace)
    text = kubelet.report(namespace, "run", training=kubelet.training_report(**changes))
    kubelet.end_pod(namespace, pod, message=text)
    failed = namespace.wait_for("TrainingRun", "run", has_condition("Stalled", "True"), within=10, what="Stalled")
    assert condition(failed, "Ready")["status"] == "False"


def test_a_report_of_another_run_is_not_believed(namespace: Namespace):
    pod = start_training(namespace)
    text = kubelet.report(namespace, "run", training=kubelet.training_report())
    other = text.replace(namespace.get("TrainingRun", "run")["metadata"]["uid"], "00000000-0000-0000-0000-000000000000")
    kubelet.end_pod(namespace, pod, message=other)
    ready_with(namespace, "False", "ArtifactMissing")


def test_what_the_trainer_refuses_is_what_the_user_reads(namespace: Namespace):
    namespace.apply(run())
    preflight = kubelet.pod_of(namespace, "run", "preflight")
    failure = {"reason": "DatasetInvalid", "message": 'ConfigMap data, key rows: row 7: "completion" is missing'}
    kubelet.end_pod(namespace, preflight, message=kubelet.report(namespace, "run", failure=failure), exit_code=3)
    failed = ready_with(namespace, "False", "DatasetInvalid")
    assert condition(failed, "Validated")["status"] == "False"
    assert "row 7" in condition(failed, "Validated")["message"]
    assert [job["metadata"]["name"] for job in namespace.list("Job")] == ["run-0-preflight"]
    namespace.wait_for_any("Event", lambda event: event["reason"] == "DatasetInvalid", within=5, what="told")


def test_waiting_for_a_node_is_waiting(namespace: Namespace):
    kubelet.unschedulable(
        namespace, start_training(namespace), "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    )
    waiting = ready_with(namespace, "False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in condition(waiting, "Ready")["message"]
    assert condition(waiting, "Reconciling")["status"] == "True"
    assert condition(waiting, "Stalled") is None


def test_an_image_that_cannot_be_pulled_is_named(namespace: Namespace):
    kubelet.wait_pod(namespace, start_training(namespace), "ImagePullBackOff", "cannot pull 127.0.0.1:1/trainer:1")
    waiting = ready_with(namespace, "False", "ImagePullFailed")
    assert "127.0.0.1:1/trainer:1" in condition(waiting, "Ready")["message"]


@pytest.mark.parametrize(
    ("reason", "conditions", "expected"),
    [
        pytest.param("Evicted", [], "Evicted", id="evicted"),
        pytest.param(
            "",
            [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}],
            "Preempted",
            id="preempted",
        ),
    ],
)
def test_a_pod_taken_away_is_named(namespace: Namespace, reason: str, conditions: list[Any], expected: str):
    kubelet.fail_pod(namespace, start_training(namespace), reason, "taken away", conditions)
    ready_with(namespace, "False", expected)


def test_a_deadline_is_kept(namespace: Namespace):
    start_training(namespace, deadlineSeconds=1)
    ready_with(namespace, "False", "DeadlineExceeded")


def test_the_recipe_is_frozen_and_shown(namespace: Namespace):
    namespace.apply(run())
    kubelet.pod_of(namespace, "run", "preflight")
    config_map = namespace.get("ConfigMap", "run-0-recipe")
    assert config_map["immutable"] is True
    shown = namespace.wait_for(
        "TrainingRun", "run", lambda item: "resolved" in item["status"], within=10, what="resolved"
    )
    assert shown["status"]["resolved"]["hyperparameters"]["learningRate"] == 0.0002


def test_the_operator_writes_no_metadata_of_users(namespace: Namespace):
    namespace.apply(run())
    kubelet.pod_of(namespace, "run", "preflight")
    metadata = namespace.get("TrainingRun", "run")["metadata"]
    assert "finalizers" not in metadata
    assert not metadata.get("annotations")
    assert not metadata.get("labels")


def test_the_default_claim_is_made_and_stays(namespace: Namespace):
    namespace.apply(run())
    kubelet.pod_of(namespace, "run", "preflight")
    claim = namespace.get("PersistentVolumeClaim", "posttrain-artifacts")
    assert "ownerReferences" not in claim["metadata"]


def test_deleting_a_run_deletes_its_children(namespace: Namespace):
    pod = start_training(namespace)
    namespace.delete("TrainingRun", "run")
    namespace.wait_gone("Job", "run-0-0", within=20)
    namespace.wait_gone("Pod", pod["metadata"]["name"], within=20)
    namespace.wait_gone("ConfigMap", "run-0-recipe", within=20)


def test_a_finished_run_is_deleted_after_its_time(namespace: Namespace):
    pod = start_training(namespace, ttlSecondsAfterFinished=2)
    kubelet.end_pod(namespace, pod, exit_code=1)
    namespace.wait_gone("TrainingRun", "run", within=15)
