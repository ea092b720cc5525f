"""What a run builds on: found, waited for, or refused; and what the runs upstream do for it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.training_run.builders import (
    DIGEST,
    NOW,
    World,
    children,
    container,
    in_training,
    job_condition,
    reports,
    run,
    text,
    training_report,
)

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_operator import merge
from posttrain_operator.actions import Manifest
from posttrain_operator.training_run import sources
from posttrain_operator.training_run.observe import JobSeen
from posttrain_operator.training_run.sources import Reference, Upstream

BASE = "sha256:" + "b" * 64
MERGED = {"artifactDigest": DIGEST, "uri": "pvc://posttrain-artifacts/sft/base", "digest": BASE}
MERGE_JOB = "sft-merge-aaaaaaaa"


def other(name: str = "sft", *, kind: str = "lora", spec: Manifest | None = None, **status: Any) -> Manifest:
    """An accepted run with a result of this kind."""
    artifact = {**training_report()["artifact"], "kind": kind}
    accepted = {"type": "Accepted", "status": "True", "reason": "NoGates", "message": ""}
    metadata = {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "generation": 1}
    known = {"phase": "Succeeded", "conditions": [accepted], "artifact": artifact, **status}
    return {"metadata": metadata, "spec": {**run()["spec"], **(spec or {})}, "status": known}


def unaccepted(name: str = "sft", *, stalled: str = "", from_run: str = "") -> Manifest:
    """A run that is not accepted, or never will be."""
    found = [{"type": "Stalled", "status": "True", "reason": stalled, "message": "so"}] if stalled else []
    spec = {"baseModel": {"fromRun": {"name": from_run}}} if from_run else {}
    manifest = other(name, spec=spec, phase="Training", conditions=found)
    del manifest["status"]["artifact"]
    return manifest


def child(
    *runs: Manifest, merges: frozenset[str] = frozenset(), base: Manifest | None = None, age: int = 0, **spec: Any
) -> World:
    """A run that starts from another's result, beside these runs, after its first plan."""
    manifest = run(preflight="Skip", baseModel={"fromRun": base or {"name": "sft"}}, **spec)
    manifest["metadata"]["creationTimestamp"] = text(NOW - timedelta(seconds=age))
    world = World(manifest)
    world.see(upstream=Upstream({found["metadata"]["name"]: found for found in runs}, merges))
    world.step()
    return world


def test_every_place_that_may_name_a_run_is_known() -> None:
    spec = {
        "baseModel": {"fromRun": {"name": "a", "checkpoint": "best"}},
        "distill": {"teacher": {"fromRun": {"name": "b"}}},
        "environment": {
            "dataset": {"fromRun": {"name": "c"}},
            "rewards": [{"builtin": "exact"}, {"model": {"fromRun": {"name": "d"}}}],
        },
        "evaluation": {
            "dataset": {"fromRun": {"name": "e"}},
            "retention": {"dataset": {"fromRun": {"name": "f"}}},
        },
        "merge": {"runs": [{"name": "g"}, {"name": "h"}]},
    }

    assert sources.references(spec) == [
        Reference("baseModel", "a", "best", "base"),
        Reference("distill.teacher", "b", None, "teacher"),
        Reference("environment.dataset", "c", None, "dataset"),
        Reference("evaluation.dataset", "e", None, "dataset"),
        Reference("evaluation.retention.dataset", "f", None, "dataset"),
        Reference("environment.rewards.1", "d", None, "reward"),
        Reference("merge.runs.0", "g", None, "adapter"),
        Reference("merge.runs.1", "h", None, "adapter"),
    ]
    assert sources.references(run()["spec"]) == []


@pytest.mark.parametrize(
    ("world", "reason", "message"),
    [
        pytest.param(child(), Reason.WAITING_FOR_RUN, "does not exist yet", id="not there yet"),
        pytest.param(child(unaccepted()), Reason.WAITING_FOR_RUN, "is not accepted yet: Training", id="training"),
        pytest.param(child(age=599), Reason.WAITING_FOR_RUN, "does not exist yet", id="just before patience ends"),
    ],
)
def test_a_run_waits_for_another(world: World, reason: Reason, message: str) -> None:
    assert world.condition("Reconciling")["reason"] == reason
    assert world.condition("Reconciling")["message"] == f"baseModel: TrainingRun sft {message}"
    assert world.status["phase"] == "Waiting"
    assert world.status["display"]["reason"] == reason
    assert children(world.plans[-1]) == []


@pytest.mark.parametrize(
    ("world", "reason", "message"),
    [
        pytest.param(child(age=600), Reason.RUN_NOT_FOUND, "sft does not exist", id="never came"),
        pytest.param(child(unaccepted(stalled="GateFailed")), Reason.RUN_FAILED, "GateFailed: so", id="rejected"),
        pytest.param(child(other(kind="dataset")), Reason.RUN_UNSUITABLE, "of kind dataset", id="a dataset as a base"),
        pytest.param(
            child(other(checkpoints=[{"name": "best", "digest": BASE}]), base={"name": "sft", "checkpoint": "step-5"}),
            Reason.RUN_UNSUITABLE,
            "no checkpoint step-5: it has best",
            id="no such checkpoint",
        ),
        pytest.param(
            child(
                other(kind="model"),
                other("scorer"),
                environment={
                    "dataset": {"uri": "pvc://data/a"},
                    "rewards": [{"model": {"fromRun": {"name": "scorer"}}}],
                },
            ),
            Reason.RUN_UNSUITABLE,
            "environment.rewards.0: TrainingRun scorer made an artifact of kind lora",
            id="an adapter as a reward model",
        ),
        pytest.param(
            child(unaccepted(from_run="dates")), Reason.REFERENCE_CYCLE, "dates -> sft -> dates", id="a cycle of two"
        ),
        pytest.param(
            child(unaccepted(from_run="b"), unaccepted("b", from_run="dates")),
            Reason.REFERENCE_CYCLE,
            "dates -> sft -> b -> dates",
            id="a cycle of three",
        ),
    ],
)
def test_what_waiting_does_not_help_is_said_and_is_not_the_end(world: World, reason: Reason, message: str) -> None:
    assert world.condition("Stalled")["reason"] == reason
    assert message in world.condition("Stalled")["message"]
    assert "finishedAt" not in world.status
    assert world.plans[-1].events[0].reason == reason
    assert children(world.plans[-1]) == []

    both = {found: other(found, kind="model") for found in ("sft",)} | {"scorer": other("scorer", kind="reward-model")}
    world.manifest["spec"]["baseModel"] = {"fromRun": {"name": "sft"}}
    world.see(upstream=Upstream(both))
    world.manifest["status"].pop("resolved")
    assert ("Job", "dates-0-0") in children(world.step())


def test_a_run_beside_a_cycle_is_not_in_it() -> None:
    world = child(unaccepted(from_run="b", stalled="ReferenceCycle"), unaccepted("b", from_run="sft"))

    assert world.reason() == Reason.RUN_FAILED


def test_a_model_is_used_as_it_is_and_frozen_with_its_digest() -> None:
    world = child(other(kind="model"))

    source = {"run": "sft", "uri": training_report()["artifact"]["uri"], "digest": DIGEST, "kind": "model"}
    assert world.config["sources"] == {"baseModel": source}
    assert world.status["lineage"]["parents"] == {"baseModel": DIGEST}
    assert RunConfig.model_validate(world.config).base_uri == source["uri"]


def test_nothing_upstream_changes_what_was_frozen() -> None:
    world = child(other(kind="model"))
    before = world.config

    world.step(lambda world: world.see(upstream=Upstream()))

    assert world.config == before
    assert world.reason() == Reason.PENDING


def test_a_recipe_that_is_deleted_while_it_trains_stops_nothing() -> None:
    world = child(other(kind="model"))

    world.step(lambda world: world.see(upstream=Upstream(), recipe=None))

    assert world.held()["Trained"] == "Unknown"


def test_an_adapter_is_merged_first_by_a_job_of_its_own_run() -> None:
    world = child(other())

    (job,) = world.plans[-1].create
    assert job["metadata"]["name"] == MERGE_JOB
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-of-sft"
    assert world.status["phase"] == "Merging"
    assert children(child(other(), merges=frozenset({MERGE_JOB})).plans[-1]) == []


def test_a_merged_base_is_used_with_both_digests() -> None:
    world = child(other(mergedBases=[MERGED]))

    source = {"run": "sft", "uri": MERGED["uri"], "digest": DIGEST, "baseDigest": BASE, "kind": "lora"}
    assert world.config["sources"] == {"baseModel": source}


def test_a_checkpoint_lies_beside_the_result() -> None:
    checkpoints = [{"name": "step-5", "digest": BASE}]
    world = child(other(kind="model", checkpoints=checkpoints), base={"name": "sft", "checkpoint": "step-5"})

    source = world.config["sources"]["baseModel"]
    assert (source["uri"], source["digest"]) == (f"pvc://posttrain-artifacts/dates/sha256-{'b' * 64}", BASE)


def finished() -> World:
    """A run whose adapter is accepted."""
    world = in_training()
    world.step(reports("training", training=training_report()))
    return world


def merging(world: World, *, said: Manifest | None = None, **job_status: Any) -> JobSeen:
    """The Job that merges this run's adapter, with a pod that has said this."""
    parsed = TrainingRun.model_validate({**world.manifest, "status": {}})
    adapter = sources.accepted(world.manifest)
    assert adapter
    config = merge.config(parsed, adapter)
    job = {"metadata": {"name": merge.job_name("dates", DIGEST)}, "status": job_status}
    words = {"uid": config.uid, "recipeDigest": digest_of(config.to_json()), **(said or {})}
    ended = container({"terminated": {"exitCode": 0, "message": json.dumps(words)}})
    return JobSeen(job, {"metadata": {}, "status": ended} if said else None)


def test_a_finished_run_tells_what_its_merge_made() -> None:
    world = finished()

    world.step(lambda world: world.see(merges=(merging(world, said={"merged": MERGED}),)))

    assert world.status["mergedBases"] == [MERGED]
    assert world.held()["Merged"] == "True"
    assert world.step().status is None
    world.step(lambda world: world.see(merges=()))
    assert world.status["mergedBases"] == [MERGED]


def test_a_report_of_another_merge_is_not_believed() -> None:
    world = finished()
    said = {"merged": MERGED, "recipeDigest": BASE}

    world.step(lambda world: world.see(merges=(merging(world, said=said, **job_condition("Complete")),)))

    assert "mergedBases" not in world.status
    assert world.condition("Merged")["reason"] == Reason.MERGE_FAILED


def test_a_failed_merge_is_told_by_the_run_and_by_those_that_wait_for_it() -> None:
    world = finished()
    failure = {"failure": {"reason": "ModelInvalid", "message": "no room"}}

    plan = world.step(
        lambda world: world.see(merges=(merging(world, said=failure, **job_condition("Failed", message="x")),))
    )

    message = "Job dates-merge-aaaaaaaa failed: no room; delete the Job to try again"
    assert world.condition("Merged")["message"] == message
    assert world.held()["Ready"] == "True"
    assert [event.reason for event in plan.events] == [Reason.MERGE_FAILED]
    assert world.step().events == ()

    told = [{**world.condition("Merged"), "message": message.replace("dates", "sft")}]
    parent = other()
    parent["status"]["conditions"] += told
    follower = child(parent, merges=frozenset({MERGE_JOB}))
    assert follower.condition("Stalled")["reason"] == Reason.MERGE_FAILED
    assert "no room" in follower.condition("Stalled")["message"]


def test_a_failed_merge_whose_job_is_deleted_is_forgotten_and_tried_again() -> None:
    world = finished()
    world.step(lambda world: world.see(merges=(merging(world, **job_condition("Failed", message="x")),)))
    assert world.held()["Merged"] == "False"

    world.step(lambda world: world.see(merges=()))

    assert "Merged" not in world.held()
