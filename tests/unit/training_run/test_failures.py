"""Everything that can go wrong with a run's pods, and the reason that its user reads. Never Succeeded."""

from datetime import timedelta

import pytest
from tests.unit.training_run.builders import (
    NOW,
    Change,
    World,
    at,
    container,
    ends,
    in_preflight,
    in_sequence,
    in_training,
    job_condition,
    job_is,
    of_pod,
    preflight_report,
    reports,
    runs,
    text,
    training_report,
    waits,
)

from posttrain_api.conditions import Reason
from posttrain_operator.jobs import JobSeen

MINUTES = timedelta(minutes=1)
STOPPED = {"failure": {"reason": "TrainerStopped", "message": "stopped at step 7 of 30"}}


def disrupted(reason: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": f"by {reason}"}]


def other_recipe(world: World) -> str:
    """The frozen run.json with another rank."""
    assert world.observed.recipe is not None
    found: str = world.observed.recipe["data"]["run.json"].replace('"rank": 16', '"rank": 8')
    return found


ENDS = [
    pytest.param(ends("training"), Reason.ARTIFACT_MISSING, "exit code 0", id="exit 0 without a report"),
    pytest.param(
        ends("training", message="all good"), Reason.ARTIFACT_MISSING, "exit code 0", id="exit 0 with other words"
    ),
    pytest.param(ends("training", message='{"uid": "x"}'), Reason.ARTIFACT_MISSING, "exit code 0", id="half a report"),
    pytest.param(ends("training", exit_code=1), Reason.TRAINER_FAILED, "exit code 1", id="exit 1"),
    pytest.param(
        ends("training", exit_code=137, reason="OOMKilled"),
        Reason.OUT_OF_MEMORY,
        "resources.memory",
        id="out of memory",
    ),
    pytest.param(
        in_sequence(
            ends("training", exit_code=137, reason="OOMKilled"),
            lambda world: world.observed.training.container_status.update(resources={"limits": {"memory": "64Gi"}}),
        ),
        Reason.OUT_OF_MEMORY,
        "limit of 64Gi",
        id="out of memory, with a limit",
    ),
    pytest.param(ends("training", exit_code=137), Reason.TRAINER_STOPPED, "137", id="killed from outside"),
    pytest.param(ends("training", exit_code=143), Reason.TRAINER_STOPPED, "143", id="stopped without a word"),
    pytest.param(
        ends("training", exit_code=128, reason="StartError", message="exec: no such file"),
        Reason.POD_REFUSED,
        "no such file",
        id="an image without a program",
    ),
    pytest.param(reports("training", exit_code=4, **STOPPED), Reason.TRAINER_STOPPED, "step 7", id="stopped"),
    pytest.param(
        reports("training", exit_code=3, failure={"reason": "OutputUnwritable", "message": "pvc://out is full"}),
        Reason.OUTPUT_UNWRITABLE,
        "pvc://out is full",
        id="the trainer's own reason",
    ),
    pytest.param(
        reports("training", uid="another", training=training_report()),
        Reason.ARTIFACT_MISSING,
        "another run",
        id="a report of another run",
    ),
    pytest.param(
        in_sequence(
            reports("training", training=training_report()),
            lambda world: world.observed.recipe["data"].update({"run.json": other_recipe(world)}),
        ),
        Reason.ARTIFACT_MISSING,
        "another recipe",
        id="a report of another recipe",
    ),
    pytest.param(
        reports("training", preflight=preflight_report()), Reason.ARTIFACT_MISSING, "no artifact", id="no artifact"
    ),
    pytest.param(
        reports("training", training=training_report(stepsCompleted=29)),
        Reason.TRAINER_STOPPED,
        "29 of 30",
        id="a step is missing",
    ),
    pytest.param(
        reports("training", training=training_report(stepsCompleted=0, stepsPlanned=0)),
        Reason.TRAINER_STOPPED,
        "0 of 0",
        id="no step at all",
    ),
    pytest.param(
        ends("training", exit_code=143, conditions=disrupted("PreemptionByScheduler")),
        Reason.PREEMPTED,
        "by PreemptionByScheduler",
        id="preempted while it ran",
    ),
    pytest.param(
        in_sequence(
            reports("training", exit_code=4, **STOPPED),
            lambda world: world.observed.training.pod["status"].update(conditions=disrupted("EvictionByEvictionAPI")),
        ),
        Reason.EVICTED,
        "by EvictionByEvictionAPI",
        id="evicted by a drain, with a last word",
    ),
    pytest.param(
        at(
            "training",
            phase="Failed",
            reason="Evicted",
            message="The node was low on resource: memory.",
            **container({"terminated": {"exitCode": 137}}),
        ),
        Reason.EVICTED,
        "low on resource",
        id="evicted by the kubelet",
    ),
    pytest.param(
        at("training", phase="Failed", reason="Evicted", message="disk"), Reason.EVICTED, "disk", id="evicted before"
    ),
    pytest.param(
        at("training", phase="Failed", conditions=disrupted("PreemptionByScheduler")),
        Reason.PREEMPTED,
        "by",
        id="preempted before it ran",
    ),
    pytest.param(
        at("training", phase="Failed", conditions=disrupted("DeletionByTaintManager")),
        Reason.NODE_LOST,
        "by",
        id="the node is gone",
    ),
    pytest.param(
        at("training", phase="Failed", reason="UnexpectedAdmissionError", message="no devices left"),
        Reason.POD_REFUSED,
        "no devices left",
        id="refused by the node",
    ),
    pytest.param(
        job_is("training", **job_condition("Failed", "DeadlineExceeded")),
        Reason.DEADLINE_EXCEEDED,
        "deadlineSeconds",
        id="the deadline, without a pod",
    ),
    pytest.param(
        in_sequence(
            job_is("training", **job_condition("FailureTarget", "DeadlineExceeded")),
            reports("training", exit_code=4, **STOPPED),
        ),
        Reason.DEADLINE_EXCEEDED,
        "deadlineSeconds",
        id="the deadline, with a last word",
    ),
    pytest.param(
        in_sequence(
            lambda world: world.observed.training.job["spec"].update(activeDeadlineSeconds=600),
            job_is("training", startTime=text(NOW - 10 * MINUTES)),
            reports("training", exit_code=4, **STOPPED),
        ),
        Reason.DEADLINE_EXCEEDED,
        "(600)",
        id="the deadline, seen at the pod before it is seen at the Job",
    ),
    pytest.param(
        job_is("training", **job_condition("Complete")), Reason.ARTIFACT_MISSING, "pod is gone", id="the pod is gone"
    ),
    pytest.param(
        job_is("training", **job_condition("Failed", "BackoffLimitExceeded", "it failed")),
        Reason.TRAINER_STOPPED,
        "it failed",
        id="the pod is gone, and had failed",
    ),
    pytest.param(lambda world: world.see(training=JobSeen()), Reason.JOB_DELETED, "deleted", id="the Job is gone"),
    pytest.param(
        waits("training", "ErrImagePull", "connection refused", since=11 * MINUTES),
        Reason.IMAGE_PULL_FAILED,
        "connection refused",
        id="an image that cannot be pulled for ten minutes",
    ),
    pytest.param(
        waits("training", "InvalidImageName", "could not parse"),
        Reason.IMAGE_PULL_FAILED,
        "could not parse",
        id="no name of an image",
    ),
    pytest.param(
        waits("training", "CreateContainerConfigError", 'secret "hub" not found', since=11 * MINUTES),
        Reason.POD_REFUSED,
        "hub",
        id="a secret that is missing for ten minutes",
    ),
    pytest.param(
        in_sequence(runs("training"), of_pod("training", deletionTimestamp=text(NOW - MINUTES))),
        Reason.NODE_LOST,
        "does not answer",
        id="a pod that should have ended long ago",
    ),
]


@pytest.mark.parametrize(("change", "reason", "said"), ENDS)
def test_a_training_that_fails_says_why(change: Change, reason: Reason, said: str) -> None:
    world = in_training()

    plan = world.step(change)

    assert world.reason() == reason
    assert said in world.condition("Ready")["message"]
    held = {"Validated": "True", "Trained": "False", "Succeeded": "False", "Ready": "False", "Stalled": "True"}
    assert world.held() == held
    assert world.status["phase"] == "Failed"
    assert "artifact" not in world.status
    assert (plan.create, plan.apply) == ((), ())
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", reason)]


PREFLIGHT_ENDS = [
    pytest.param(
        reports("preflight", exit_code=3, failure={"reason": "DatasetInvalid", "message": "row 7: no completion"}),
        Reason.DATASET_INVALID,
        "row 7",
        id="a bad row",
    ),
    pytest.param(ends("preflight"), Reason.TRAINER_FAILED, "report", id="exit 0 without a report"),
    pytest.param(
        reports("preflight", training=training_report()), Reason.TRAINER_FAILED, "report", id="a wrong report"
    ),
    pytest.param(ends("preflight", exit_code=1), Reason.TRAINER_FAILED, "exit code 1", id="exit 1"),
    pytest.param(ends("preflight", exit_code=137, reason="OOMKilled"), Reason.OUT_OF_MEMORY, "memory", id="memory"),
    pytest.param(waits("preflight", "InvalidImageName"), Reason.IMAGE_PULL_FAILED, "image trainer:1", id="image"),
]


@pytest.mark.parametrize(("change", "reason", "said"), PREFLIGHT_ENDS)
def test_a_preflight_that_fails_ends_the_run_before_a_gpu_is_taken(change: Change, reason: Reason, said: str) -> None:
    world = in_preflight()

    plan = world.step(change)

    assert world.reason() == reason
    assert said in world.condition("Validated")["message"]
    assert world.held() == {"Validated": "False", "Succeeded": "False", "Ready": "False", "Stalled": "True"}
    assert plan.apply == ()
