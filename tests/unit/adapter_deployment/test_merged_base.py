"""A base that is a run's adapter merged into its base: made once, by a Job of that run, and what becomes of it."""

import pytest
from tests.unit.adapter_deployment.builders import accepted, condition, digest, failed, run
from tests.unit.adapter_deployment.test_base import FOLDER, MERGED, base_in_pods, following

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MergeConfig
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment.replicas import Trouble


def test_an_adapter_is_merged_by_a_job_of_its_run_before_there_are_pods() -> None:
    world = following(accepted("sft", "a"))

    (_, job) = world.reconcile().create
    again = world.reconcile()

    assert job["metadata"]["name"] == "sft-merge-aaaaaaaa"
    assert [(owner["kind"], owner["uid"]) for owner in job["metadata"]["ownerReferences"]] == [
        ("TrainingRun", "uid-of-sft")
    ]
    assert again.create == ()
    assert "Deployment" not in world.children
    assert (world.status["phase"], world.condition("Ready")["reason"]) == ("Pending", "Merging")

    world.runs = [accepted("sft", "a", mergedBases=[MERGED])]
    world.reconcile()

    assert base_in_pods(world) == MERGED["uri"]


def test_the_job_is_told_what_to_merge_and_takes_no_gpu() -> None:
    world = following(accepted("sft", "a"))

    pod = world.reconcile().create[-1]["spec"]["template"]["spec"]

    (trainer,) = pod["containers"]
    option, told = trainer["args"][:2]
    assert option == "--merge"
    assert MergeConfig.model_validate_json(told).to_json() == {
        "run": "sft",
        "uid": "uid-of-sft",
        "artifactUri": f"{FOLDER}/sha256-{'a' * 64}",
        "artifactDigest": digest("a"),
        "base": {"uri": "pvc://models/qwen", "digest": digest("9")},
        "output": "pvc://posttrain-artifacts",
    }
    assert trainer["resources"] == {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}}
    claims = {mount["mountPath"].rsplit("/", 1)[-1]: mount.get("readOnly") for mount in trainer["volumeMounts"][:2]}
    assert claims == {"models": True, "posttrain-artifacts": None}


def test_a_merge_that_failed_is_said() -> None:
    world = following(accepted("sft", "a"))
    world.reconcile()
    world.jobs[0]["status"] = {"conditions": [condition("Failed", message="Job has reached the backoff limit")]}

    decided = world.reconcile()

    assert decided.create == ()
    assert (world.condition("Stalled")["reason"], world.condition("Stalled")["message"]) == (
        "MergeFailed",
        "baseModel: TrainingRun sft: Job sft-merge-aaaaaaaa failed: Job has reached the backoff limit; delete the Job "
        "to try again",
    )


def test_a_failed_merge_is_tried_again_when_its_job_is_deleted() -> None:
    world = following(accepted("sft", "a"))
    world.reconcile()
    world.jobs[0]["status"] = {"conditions": [condition("Failed", message="no room")]}
    world.reconcile()
    world.jobs = []

    (job,) = world.reconcile().create

    assert job["metadata"]["name"] == "sft-merge-aaaaaaaa"
    assert world.condition("Ready")["reason"] == "Merging"
    assert world.condition("Stalled") is None


@pytest.mark.parametrize(
    ("runs", "reason", "phase"),
    [
        pytest.param([], "RunNotFound", "Pending", id="deleted"),
        pytest.param([run("sft")], "WaitingForRun", "Pending", id="made anew"),
        pytest.param([failed("sft")], "RunFailed", "Failed", id="made anew and failed"),
    ],
)
def test_the_run_changes_its_mind_during_a_merge(runs: list[Manifest], reason: str, phase: str) -> None:
    world = following(accepted("sft", "a"))
    world.reconcile()
    world.runs, world.jobs = runs, []

    decided = world.reconcile()

    assert decided.create == ()
    assert (world.condition("Ready")["reason"], world.status["phase"]) == (reason, phase)


def test_a_merge_that_the_api_server_refuses_is_said() -> None:
    world = following(accepted("sft", "a"))
    world.refusal = Trouble(Reason.INVALID_SPEC, "no such volume", is_final=True)

    decided = world.reconcile()

    assert decided.create == ()
    assert (world.condition("Ready")["reason"], world.condition("Ready")["message"]) == (
        "InvalidSpec",
        "no such volume",
    )
