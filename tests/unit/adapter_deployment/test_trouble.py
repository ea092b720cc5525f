"""What a user reads when pods do not serve."""

from datetime import timedelta

import pytest
from tests.unit.adapter_deployment.builders import (
    NOW,
    World,
    accepted,
    condition,
    deployment,
    engine,
    ready_world,
    report,
    second,
)

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import EngineReport
from posttrain_operator.adapter_deployment.replicas import Trouble


def waiting(reason: str, message: str = "") -> dict[str, object]:
    """An engine container that does not run."""
    return {
        "containers": [
            {
                "name": "engine",
                "image": "127.0.0.1:1/server:1",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}},
            }
        ],
        "phase": "Pending",
    }


def ended(reason: str, *, restarts: int, message: str = "", exit_code: int = 1) -> dict[str, object]:
    """An engine container that ended and is to be started again."""
    last = {"terminated": {"reason": reason, "exitCode": exit_code, "message": message}}
    status = engine(ready=False, restarts=restarts, lastState=last)
    return {"containers": [{**status, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}


UNSCHEDULABLE = {
    "conditions": [condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes are available")],
    "containers": [],
    "phase": "Pending",
}


@pytest.mark.parametrize(
    ("state", "reason", "message", "is_final"),
    [
        pytest.param(UNSCHEDULABLE, "Unschedulable", "0/1 nodes are available", False, id="no node"),
        pytest.param(
            waiting("ErrImagePull", "connection refused"),
            "ImagePullFailed",
            "image 127.0.0.1:1/server:1 cannot be pulled: connection refused",
            False,
            id="image pull",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "x" not found'),
            "PodRefused",
            'CreateContainerConfigError: secret "x" not found',
            False,
            id="a secret that is not there",
        ),
        pytest.param(
            ended("OOMKilled", restarts=1, exit_code=137),
            "OutOfMemory",
            "engine needed more memory than resources.memory allows (started again: 1)",
            False,
            id="out of memory once",
        ),
        pytest.param(
            ended("Error", restarts=3, message="Traceback\nValueError: no such model\n"),
            "EngineFailed",
            "engine ended with exit code 1 (started again: 3): ValueError: no such model",
            True,
            id="crash loop",
        ),
    ],
)
def test_a_pod_that_does_not_serve_says_why(
    state: dict[str, object], reason: str, message: str, *, is_final: bool
) -> None:
    world = ready_world()

    second(world, ready=False, about=None, **state)
    decided = world.reconcile()

    for type_ in ("Available", "Ready"):
        found = world.condition(type_)
        assert (found["status"], found["reason"], found["message"]) == ("False", reason, f"pod pod-2: {message}")
    assert (world.condition("Stalled") is not None) is is_final
    assert [(event.type, event.reason) for event in decided.events] == [("Warning", reason)]


def test_a_base_that_was_changed_after_it_was_published_is_said_and_is_final() -> None:
    world = ready_world()
    refused = EngineReport(state="Failed", reason=Reason.DIGEST_MISMATCH, message="the base was changed")

    second(world, ready=False, about=report(world.desired).replace(engine=refused))
    world.reconcile()

    for type_ in ("Available", "Ready", "Stalled"):
        found = world.condition(type_)
        assert (found["reason"], found["message"]) == ("DigestMismatch", "pod pod-2: the base was changed")


def test_an_image_that_cannot_be_pulled_for_ten_minutes_is_final() -> None:
    world = ready_world()
    second(world, ready=False, about=None, **waiting("ImagePullBackOff"))

    world.now = NOW + timedelta(minutes=10)
    world.reconcile()

    assert world.condition("Stalled")["reason"] == "ImagePullFailed"
    assert world.status["phase"] == "Failed"


def test_pods_that_the_api_server_refuses_are_told_of() -> None:
    world = World(deployment())
    world.reconcile()
    refused = condition("ReplicaFailure", message="exceeded quota: gpus")
    world.children["Deployment"] = {**world.children["Deployment"], "status": {"conditions": [refused]}}

    world.reconcile()

    assert (world.condition("Ready")["reason"], world.condition("Ready")["message"]) == (
        "PodRefused",
        "exceeded quota: gpus",
    )


def test_a_refused_child_is_not_tried_again_at_once() -> None:
    world = World(deployment(), refusal=Trouble(Reason.INVALID_SPEC, "no such volume", is_final=True))

    decided = world.reconcile()

    assert (decided.create, decided.apply, decided.recheck_seconds) == ((), (), 60.0)
    assert (world.status["phase"], world.condition("Stalled")["reason"]) == ("Failed", "InvalidSpec")


def test_children_of_a_deleted_namesake_are_left_alone() -> None:
    world = World(deployment("support"), runs=[accepted("support", "a")])
    world.reconcile()
    owner = {"uid": "uid-of-before", "controller": True}
    old = world.children["Deployment"]
    world.children["Deployment"] = {**old, "metadata": {**old["metadata"], "ownerReferences": [owner]}}
    world.with_spec(replicas=4)

    decided = world.reconcile()

    assert decided.apply == ()
    assert "belongs to another object" in world.condition("Ready")["message"]
