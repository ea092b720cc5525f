"""What a run waits for, and for how long: waiting is no failure until it makes no sense any more."""

from datetime import timedelta

import pytest
from tests.unit.training_run.builders import (
    NOW,
    Change,
    World,
    at,
    container,
    in_sequence,
    in_training,
    of_pod,
    pass_time,
    reports,
    runs,
    text,
    training_report,
    waits,
)

from posttrain_api.conditions import Reason
from posttrain_operator.actions import Manifest

MINUTES = timedelta(minutes=1)
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}


def sidecar_waits(reason: str, message: str = "", *, ended: Manifest | None = None) -> Change:
    """A sidecar waits, and the trainer for it; it may have ended before."""
    return sidecar_is({"waiting": {"reason": reason, "message": message}}, ended=ended)


def sidecar_is(now: Manifest, *, ended: Manifest | None = None) -> Change:
    """A sidecar is in this state, and the trainer waits for it; it may have ended before."""
    state = {"state": now}
    last = {"lastState": {"terminated": ended}} if ended else {}
    shown = {"name": "rewards", "image": "trainer:1", "restartCount": 3, **state, **last}

    def change(world: World) -> None:
        waits("training", "PodInitializing")(world)
        assert world.observed.training.pod is not None
        world.observed.training.pod["status"]["initContainerStatuses"] = [shown]

    return change


WAITS = [
    pytest.param(
        in_sequence(
            at("training", conditions=[UNSCHEDULABLE]), lambda world: world.observed.training.pod.update(spec={})
        ),
        Reason.UNSCHEDULABLE,
        "0/1 nodes",
        id="no node",
    ),
    pytest.param(
        waits("training", "ErrImagePull", "dial tcp 127.0.0.1:1: connection refused"),
        Reason.IMAGE_PULL_FAILED,
        "connection refused",
        id="an image that cannot be pulled yet",
    ),
    pytest.param(
        waits("training", "CreateContainerConfigError", 'secret "hub" not found'),
        Reason.POD_REFUSED,
        "hub",
        id="a secret that is missing",
    ),
    pytest.param(
        sidecar_waits("ErrImagePull", "posttrain.dev/trainer: not found"),
        Reason.IMAGE_PULL_FAILED,
        "not found",
        id="a sidecar's image that cannot be pulled yet",
    ),
    pytest.param(
        sidecar_waits("CrashLoopBackOff", ended={"exitCode": 2, "reason": "Error"}),
        Reason.POD_REFUSED,
        "container rewards ends as soon as it runs (exit code 2, Error): `kubectl logs -c rewards` says why",
        id="a sidecar that ends before the trainer begins",
    ),
    pytest.param(
        sidecar_is({"running": {}}, ended={"exitCode": 137}),
        Reason.PULLING_IMAGE,
        "pulls",
        id="a sidecar that runs again",
    ),
    pytest.param(waits("training", "ContainerCreating"), Reason.PULLING_IMAGE, "pulls", id="the image comes"),
]


@pytest.mark.parametrize(("change", "reason", "said"), WAITS)
def test_waiting_is_no_failure(change: Change, reason: Reason, said: str) -> None:
    world = in_training()

    plan = world.step(change)

    assert world.reason() == reason
    assert said in world.condition("Reconciling")["message"]
    assert "Stalled" not in world.held()
    assert "finishedAt" not in world.status
    assert plan.recheck_seconds is not None


def test_a_job_without_a_pod_is_worth_a_word_after_ten_seconds() -> None:
    world = in_training()
    assert world.step().recheck_seconds == 10
    before = world.status

    world.step(pass_time(timedelta(seconds=10)))

    assert world.status["phase"] == before["phase"] == "Pending"
    assert "kubectl describe job dates-0-0" in world.condition("Reconciling")["message"]


def test_a_node_that_takes_long_over_volumes_is_worth_a_word_after_a_minute() -> None:
    world = in_training()
    early = world.step(waits("training", "ContainerCreating", since=0.5 * MINUTES))
    assert (world.reason(), early.recheck_seconds) == (Reason.PULLING_IMAGE, 30)

    world.step(pass_time(0.5 * MINUTES))

    said = world.condition("Reconciling")["message"]
    assert "`kubectl describe pod pod` says why it takes long" in said
    assert "Stalled" not in world.held()


def test_both_words_for_a_failed_pull_are_written_once() -> None:
    world = in_training()
    world.step(waits("training", "ErrImagePull", "connection refused"))
    before = world.status

    world.step(waits("training", "ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: connection refused'))

    assert world.status == before


def test_an_image_gets_ten_minutes() -> None:
    world = in_training()
    almost = world.step(waits("training", "ErrImagePull", "refused", since=9.5 * MINUTES))
    assert "Reconciling" in world.held()
    assert almost.recheck_seconds == 30

    world.step(pass_time(timedelta(seconds=30)))

    assert world.held()["Stalled"] == "True"


def test_a_sidecar_gets_ten_minutes() -> None:
    world = in_training()
    world.step(sidecar_waits("CrashLoopBackOff", ended={"exitCode": 2}))
    assert "Reconciling" in world.held()

    world.step(pass_time(10 * MINUTES))

    assert (world.status["phase"], world.reason()) == ("Failed", Reason.POD_REFUSED)


def test_a_sidecar_that_is_started_again_fails_no_run() -> None:
    world = in_training()
    world.step(runs("training"))
    killed = {"exitCode": 137, "reason": "OOMKilled"}
    world.step(sidecar_waits("CrashLoopBackOff", ended=killed), trainer_goes_on, pass_time(60 * MINUTES))
    assert world.status["phase"] == "Training"

    world.step(reports("training", training=training_report()))

    assert world.status["phase"] == "Succeeded"


def trainer_goes_on(world: World) -> None:
    """The trainer's container runs, whatever is beside it."""
    assert world.observed.training.pod is not None
    world.observed.training.pod["status"] |= container({"running": {}})


def test_a_pod_on_its_way_out_may_still_report() -> None:
    world = in_training()
    world.step(runs("training"), of_pod("training", deletionTimestamp=text(NOW + MINUTES)))
    assert world.status["phase"] == "Training"

    world.step(reports("training", training=training_report()))

    assert world.status["phase"] == "Succeeded"
