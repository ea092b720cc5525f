"""A merge as the run that owns it tells it, and as the runs that wait for it do: the same in the same words."""

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.training_run.builders import (
    DIGEST,
    NOW,
    Change,
    World,
    children,
    container,
    in_training,
    job_condition,
    pass_time,
    reports,
    text,
    training_report,
)
from tests.unit.training_run.upstream import BASE, MERGED, child, other, unaccepted, upstream

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason
from posttrain_operator import followed_run, merge
from posttrain_operator.actions import Manifest
from posttrain_operator.jobs import JobSeen

NAME = "dates-merge-aaaaaaaa"
SCHEDULED = {"type": "PodScheduled", "status": "True"}


def finished(**spec: Any) -> World:
    """A run whose adapter is accepted."""
    world = in_training(**spec)
    world.step(reports("training", training=training_report()))
    return world


def job(pod: Manifest | None = None, **status: Any) -> JobSeen:
    """The Job that merges the adapter of dates; its pod has this status."""
    metadata = {"name": NAME, "creationTimestamp": text(NOW)}
    return JobSeen({"metadata": metadata, "status": status}, pod and {"metadata": metadata, "spec": {}, "status": pod})


def said(world: World, **content: Any) -> Manifest:
    """A pod that ended with this report of the merge that it was told to do."""
    adapter = followed_run.accepted(world.manifest)
    assert adapter
    told = merge.config(world.manifest, adapter)
    words = {"uid": told.uid, "recipeDigest": digest_of(told.to_json()), **content}
    return container({"terminated": {"exitCode": 0, "message": json.dumps(words)}})


def waiting(reason: str, message: str) -> Manifest:
    """A pod on a node whose container waits for this."""
    state = container({"waiting": {"reason": reason, "message": message}})
    return {"startTime": text(NOW), "conditions": [SCHEDULED], **state}


def sees(found: JobSeen) -> Change:
    """The run's merge is like this."""
    return lambda world: world.see(merges={NAME: found})


def waits_for(parent: World, found: JobSeen) -> World:
    """A run that waits for the merge of this parent's adapter."""
    world = child(base={"name": "dates"}, name="dpo")
    world.now = parent.now
    world.step(upstream(parent.manifest, merges={NAME: found}))
    return world


def test_the_first_that_needs_a_merge_makes_its_job_for_the_run_that_owns_the_adapter() -> None:
    follower = child(other())

    (made,) = follower.plans[-1].create
    assert made["metadata"]["name"] == "sft-merge-aaaaaaaa"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-of-sft"
    assert (follower.status["phase"], follower.status["display"]["progress"]) == ("Merging", "for sft")
    again = follower.step(upstream(other(), merges={"sft-merge-aaaaaaaa": job()}))
    assert children(again) == []


FAILED = job_condition("Failed", message="Job has reached the backoff limit")
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
MERGING = f"Job {NAME} merges the adapter into its base"


@pytest.mark.parametrize(
    ("found", "minutes", "reason", "message"),
    [
        pytest.param(job(), 0, "Merging", MERGING, id="just made"),
        pytest.param(
            job(),
            1,
            "Merging",
            f"{MERGING}: The Job has no pod yet: `kubectl describe job {NAME}` says why.",
            id="a quota lets no pod be made",
        ),
        pytest.param(job({"conditions": [UNSCHEDULABLE]}), 60, "Merging", f"{MERGING}: no room", id="no node"),
        pytest.param(job(waiting("ContainerCreating", "")), 0, "Merging", MERGING, id="its image is pulled"),
        pytest.param(
            job(waiting("ErrImagePull", "not there")),
            9,
            "Merging",
            f"{MERGING}: image trainer:1 cannot be pulled: not there",
            id="its image is not there",
        ),
        pytest.param(
            job(waiting("ErrImagePull", "not there")),
            10,
            "MergeFailed",
            f"Job {NAME} cannot run: image trainer:1 cannot be pulled: not there; delete the Job to try again",
            id="its image is not there for long",
        ),
        pytest.param(job(container({"running": {}})), 60, "Merging", MERGING, id="running"),
        pytest.param(
            job(container({"terminated": {"exitCode": 1}})), 0, "Merging", MERGING, id="a pod failed, more may follow"
        ),
        pytest.param(
            job(said(finished(), failure={"reason": "ModelInvalid", "message": "no such layer"}), **FAILED),
            0,
            "MergeFailed",
            f"Job {NAME} failed: no such layer; delete the Job to try again",
            id="refused",
        ),
        pytest.param(
            job(**FAILED),
            0,
            "MergeFailed",
            f"Job {NAME} failed: Job has reached the backoff limit; delete the Job to try again",
            id="failed, and its pod is gone",
        ),
        pytest.param(
            job(said(finished(), merged=MERGED, recipeDigest=BASE), **job_condition("Complete")),
            0,
            "MergeFailed",
            f"Job {NAME} ended without a report of the merged model; delete the Job to try again",
            id="complete, with a report of another merge",
        ),
        pytest.param(
            job(**job_condition("Complete")),
            0,
            "MergeFailed",
            f"Job {NAME} ended without a report of the merged model; delete the Job to try again",
            id="complete, and its pod is gone",
        ),
    ],
)
def test_where_a_merge_stands(found: JobSeen, minutes: int, reason: str, message: str) -> None:
    parent = finished()
    parent.step(pass_time(timedelta(minutes=minutes)), sees(found))
    follower = waits_for(parent, found)

    told, read = parent.condition("Merged"), follower.condition("Ready")
    assert (told["status"], told["reason"]) == ("False" if reason == "MergeFailed" else "Unknown", reason)
    assert told["message"] == message
    assert (read["reason"], read["message"]) == (reason, f"baseModel: TrainingRun dates: {message}")
    assert bool(follower.condition("Stalled")) is (reason == "MergeFailed")
    assert parent.held()["Ready"] == "True"
    assert children(follower.plans[-1]) == []


def test_a_failed_merge_is_told_once() -> None:
    world = finished()

    plan = world.step(sees(job(**FAILED)))

    assert [event.reason for event in plan.events] == [Reason.MERGE_FAILED]
    assert world.step().events == ()


def test_a_merge_that_may_still_recover_is_looked_at_when_its_patience_ends() -> None:
    world = finished()

    assert world.step(sees(job(waiting("ErrImagePull", "not there")))).recheck_seconds == 600
    assert world.step(sees(job(container({"running": {}})))).recheck_seconds is None


def test_what_a_merge_made_is_recorded_and_outlives_its_job() -> None:
    world = finished()

    world.step(sees(job(said(world, merged=MERGED))))

    assert world.status["mergedBases"] == [MERGED]
    assert world.held()["Merged"] == "True"
    assert world.step().status is None
    world.step(lambda world: world.see(merges={}))
    assert world.status["mergedBases"] == [MERGED]


def test_a_merge_is_used_when_it_is_recorded() -> None:
    parent = finished()
    done = job(said(parent, merged=MERGED))

    follower = waits_for(parent, done)
    assert follower.reason() == Reason.MERGING
    parent.step(sees(done))
    follower.step(upstream(parent.manifest, merges={NAME: done}))

    source = {"run": "dates", "uri": MERGED["uri"], "digest": DIGEST, "baseDigest": BASE, "kind": "lora"}
    assert follower.config["sources"] == {"baseModel": source}


def test_a_failed_merge_whose_job_is_deleted_is_forgotten_and_tried_again() -> None:
    parent, failed = finished(), job(**FAILED)
    parent.step(sees(failed))
    follower = waits_for(parent, failed)
    assert parent.held()["Merged"] == "False"

    parent.step(lambda world: world.see(merges={}))
    follower.step(upstream(parent.manifest))

    assert "Merged" not in parent.held()
    assert children(follower.plans[-1]) == [("Job", NAME)]


@pytest.mark.parametrize(
    "need",
    [
        pytest.param(sees(job(container({"running": {}}))), id="a merge of its adapter runs"),
        pytest.param(lambda world: world.see(is_awaited=True), id="another run has not begun"),
    ],
)
def test_a_run_outlives_its_time_while_others_need_it(need: Change) -> None:
    world = finished(ttlSecondsAfterFinished=600)

    held = world.step(need, pass_time(timedelta(seconds=601)))
    over = world.step(lambda world: world.see(merges={}, is_awaited=False))

    assert (held.delete_parent, held.recheck_seconds) == (False, 2.0)
    assert over.delete_parent


def test_a_failed_merge_holds_up_no_end() -> None:
    world = finished(ttlSecondsAfterFinished=600)

    assert world.step(sees(job(**FAILED)), pass_time(timedelta(seconds=601))).delete_parent


@pytest.mark.parametrize(
    ("runs", "age", "reason", "message"),
    [
        pytest.param([], 60, "WaitingForRun", "TrainingRun sft does not exist yet", id="deleted, and young"),
        pytest.param([], 6000, "RunNotFound", "TrainingRun sft does not exist: create it", id="deleted"),
        pytest.param([unaccepted()], 60, "WaitingForRun", "sft is not accepted yet: Training", id="made anew"),
        pytest.param(
            [unaccepted(stalled="GateFailed")], 60, "RunFailed", "sft does not go on: GateFailed: so", id="rejected"
        ),
    ],
)
def test_the_parent_of_a_merge_changes_its_mind(runs: list[Manifest], age: int, reason: str, message: str) -> None:
    follower = child(other(), age=age)
    assert follower.reason() == Reason.MERGING

    plan = follower.step(upstream(*runs))

    assert (follower.reason(), children(plan)) == (reason, [])
    assert message in follower.condition("Ready")["message"]
    assert bool(follower.condition("Stalled")) is (reason in ("RunFailed", "RunNotFound"))


def test_a_run_that_was_trained_on_a_merge_is_not_touched_when_its_parent_goes() -> None:
    world = child(other(mergedBases=[MERGED]))
    world.step(reports("training", training=training_report()))
    before = world.status

    plan = world.step(upstream())

    assert (plan.status, plan.delete, plan.delete_parent) == (None, (), False)
    assert before["lineage"]["parents"] == {"baseModel": DIGEST}
    assert world.held()["Ready"] == "True"
