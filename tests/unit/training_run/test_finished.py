"""A run that is over costs nothing but its time to live, and nothing brings it back."""

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.training_run.builders import (
    Change,
    World,
    ends,
    in_training,
    job_condition,
    job_is,
    pass_time,
    reports,
    runs,
    training_report,
    waits,
)

from posttrain_operator.actions import Child, Plan
from posttrain_operator.jobs import JobSeen
from posttrain_operator.training_run.observe import Observed

JOB = Child("batch/v1", "Job", "dates-0-0")


def succeeded(**spec: Any) -> World:
    world = in_training(**spec)
    world.step(reports("training", training=training_report()))
    return world


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: None, id="nothing happens"),
        pytest.param(lambda world: world.see(training=JobSeen()), id="its Job is deleted"),
        pytest.param(lambda world: setattr(world, "observed", Observed()), id="all its children are deleted"),
        pytest.param(ends("training", exit_code=1), id="its pod says something else"),
        pytest.param(pass_time(timedelta(days=1000)), id="years pass"),
    ],
)
def test_nothing_follows_from_anything(change: Change) -> None:
    assert succeeded().step(change) == Plan()


def test_what_is_over_is_looked_at_once_more_at_once() -> None:
    assert succeeded().plans[-1].recheck_seconds == 0


@pytest.mark.parametrize(
    ("change", "deleted"),
    [
        pytest.param(waits("training", "InvalidImageName"), (JOB,), id="a pod that waits for its image is stopped"),
        pytest.param(ends("training", exit_code=1), (), id="a pod that ended stays, with its log"),
        pytest.param(job_is("training", **job_condition("FailureTarget", "DeadlineExceeded")), (), id="the deadline"),
    ],
)
def test_only_what_still_runs_is_stopped(change: Change, deleted: tuple[Child, ...]) -> None:
    world = in_training()
    first = world.step(change)

    second = world.step()

    assert first.delete == ()
    assert second.delete == deleted
    assert world.step().delete == ()


def test_its_time_to_live_is_awaited_and_kept() -> None:
    world = succeeded(ttlSecondsAfterFinished=600)

    assert world.step() == Plan(recheck_seconds=600)
    assert world.step(pass_time(timedelta(seconds=599))) == Plan(recheck_seconds=1)
    assert world.step(pass_time(timedelta(seconds=1))) == Plan(recheck_seconds=0, delete_parent=True)


def test_a_changed_operation_is_seen_and_changes_nothing() -> None:
    world = succeeded()
    before = world.status
    metadata = {**world.manifest["metadata"], "generation": 2}

    world.step(lambda world: setattr(world, "manifest", {**world.manifest, "metadata": metadata}))

    assert world.status["observedGeneration"] == 2
    assert {known["observedGeneration"] for known in world.status["conditions"]} == {2}
    assert world.held() == {known["type"]: known["status"] for known in before["conditions"]}
    assert world.step() == Plan()


def test_a_run_that_trains_is_not_over() -> None:
    world = in_training()
    world.step(runs("training"))

    assert "finishedAt" not in world.status
