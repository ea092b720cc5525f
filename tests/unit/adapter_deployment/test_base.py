"""baseModel.fromRun: what lies under the adapters follows a run."""

import json

import pytest
from tests.unit.adapter_deployment.builders import (
    World,
    accepted,
    deployment,
    digest,
    failed,
    run,
)

from posttrain_operator.actions import Manifest

MERGED = {"artifactDigest": digest("a"), "uri": "pvc://posttrain-artifacts/sft/base-1", "digest": digest("1")}
FOLDER = "pvc://posttrain-artifacts/sft"


def following(*runs: Manifest, checkpoint: str | None = None, **spec: object) -> World:
    """A deployment whose base is the result of the run sft."""
    reference = {"name": "sft", **({"checkpoint": checkpoint} if checkpoint else {})}
    return World(deployment(baseModel={"fromRun": reference}, **spec), runs=list(runs))


def base_in_pods(world: World) -> str | None:
    """What the engine and the agent are told."""
    containers = world.children["Deployment"]["spec"]["template"]["spec"]["containers"]
    found = {container["args"][container["args"].index("--base") + 1] for container in containers}
    (base,) = found
    return str(base)


@pytest.mark.parametrize(
    ("runs", "reason", "message", "phase"),
    [
        pytest.param([], "RunNotFound", "TrainingRun sft does not exist", "Pending", id="not there"),
        pytest.param(
            [run("sft")], "WaitingForRun", "TrainingRun sft is not accepted yet: Training", "Pending", id="training"
        ),
        pytest.param(
            [failed("sft")],
            "RunFailed",
            "TrainingRun sft failed: OutOfMemory: the trainer needed more memory",
            "Failed",
            id="failed",
        ),
        pytest.param(
            [accepted("sft", "a", kind="prompt")],
            "RunUnsuitable",
            "the result of TrainingRun sft is of kind prompt, which vLLM cannot serve: train with tuning.lora or "
            "tuning.full",
            "Failed",
            id="a prompt",
        ),
        pytest.param(
            [accepted("sft", "a", kind="dataset")],
            "RunUnsuitable",
            "the result of TrainingRun sft is of kind dataset, which holds rows and no weights: train on it, and name "
            "the run that did",
            "Failed",
            id="a dataset",
        ),
    ],
)
def test_no_pods_are_made_without_a_base(runs: list[Manifest], reason: str, message: str, phase: str) -> None:
    world = following(*runs)

    decided = world.reconcile()

    assert "Deployment" not in world.children
    assert [child["kind"] for child in decided.create] == ["Secret"]
    for type_ in ("Resolved", "Ready"):
        found = world.condition(type_)
        assert (found["status"], found["reason"], found["message"]) == ("False", reason, f"baseModel: {message}")
    assert (world.condition("Stalled") is not None) is (phase == "Failed")
    assert (world.status["phase"], world.status["display"]["base"]) == (phase, "run:sft")
    assert decided.recheck_seconds == 5.0


@pytest.mark.parametrize(
    ("found", "checkpoint", "base"),
    [
        pytest.param(accepted("sft", "a", kind="model"), None, f"{FOLDER}/sha256-{'a' * 64}", id="a model"),
        pytest.param(accepted("sft", "a", kind="reward-model"), None, f"{FOLDER}/sha256-{'a' * 64}", id="reward model"),
        pytest.param(accepted("sft", "a", mergedBases=[MERGED]), None, MERGED["uri"], id="a merged adapter"),
        pytest.param(
            accepted("sft", "a", kind="model", checkpoints=[{"name": "best", "digest": digest("c")}]),
            "best",
            f"{FOLDER}/sha256-{'c' * 64}",
            id="a checkpoint",
        ),
        pytest.param(
            accepted(
                "sft",
                "c",
                checkpoints=[{"name": "step-20", "digest": digest("a")}],
                mergedBases=[{**MERGED, "artifactDigest": digest("c"), "uri": "pvc://another"}, MERGED],
            ),
            "step-20",
            MERGED["uri"],
            id="a merged checkpoint",
        ),
    ],
)
def test_the_result_of_a_run_is_the_base(found: Manifest, checkpoint: str | None, base: str) -> None:
    world = following(found, checkpoint=checkpoint)

    world.reconcile()

    assert base_in_pods(world) == base
    assert world.condition("Resolved")["status"] == "True"
    mounted = world.children["Deployment"]["metadata"]["annotations"]["posttrain.dev/mounted-claims"]
    assert mounted == "posttrain-artifacts"


def served_world() -> World:
    """A base of a run that answers."""
    world = following(accepted("sft", "a", kind="model"))
    world.reconcile()
    world.serves("pod-1")
    world.reconcile()
    assert world.status["phase"] == "Ready", world.status
    return world


def test_a_deleted_run_leaves_its_base() -> None:
    world = served_world()
    world.runs = []

    decided = world.reconcile()

    assert (decided.apply, decided.status, world.status["phase"]) == ((), None, "Ready")


def test_another_run_that_is_not_there_is_not_taken_for_the_deleted_one() -> None:
    world = served_world()
    world.runs = []
    world.with_spec(baseModel={"fromRun": {"name": "dpo"}})

    world.reconcile()

    assert (world.condition("Ready")["status"], world.condition("Ready")["reason"]) == ("False", "RunNotFound")
    assert base_in_pods(world) == f"{FOLDER}/sha256-{'a' * 64}"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        pytest.param([failed("sft")], "RunFailed", id="made anew and failed"),
        pytest.param([run("sft")], "WaitingForRun", id="made anew"),
        pytest.param([accepted("sft", "b")], "Merging", id="made anew, and to be merged"),
    ],
)
def test_the_base_before_goes_on_answering(runs: list[Manifest], reason: str) -> None:
    world = served_world()
    before = world.children["Deployment"]
    world.runs = runs

    decided = world.reconcile()

    assert decided.apply == ()
    assert world.children["Deployment"] == before
    assert (world.condition("Available")["status"], world.condition("Ready")["reason"]) == ("True", reason)
    assert world.condition("Ready")["message"].endswith("; the base before it goes on answering")


def test_another_result_restarts_the_pods() -> None:
    world = served_world()
    world.runs = [accepted("sft", "b", kind="model")]

    decided = world.reconcile()

    assert [child["kind"] for child in decided.apply] == ["ConfigMap", "Deployment"]
    assert json.loads(world.children["ConfigMap"]["data"]["base.json"])["uri"] == f"{FOLDER}/sha256-{'b' * 64}"


def test_a_base_record_that_was_edited_by_hand_is_written_anew() -> None:
    world = served_world()
    before = world.children["ConfigMap"]
    world.children["ConfigMap"] = {**before, "data": {**before["data"], "base.json": "no JSON"}}

    assert world.reconcile().apply == (before,)


def test_an_unknown_checkpoint_of_a_base_is_refused_with_those_that_exist() -> None:
    steps = [{"name": "step-20", "digest": digest("c")}, {"name": "final", "digest": digest("a")}]
    world = following(accepted("sft", "a", kind="model", checkpoints=steps), checkpoint="best")

    world.reconcile()

    assert (world.condition("Stalled")["reason"], world.condition("Stalled")["message"]) == (
        "RunUnsuitable",
        "baseModel: TrainingRun sft has no checkpoint best: it has step-20, final; leave checkpoint out for the result",
    )
    assert world.status["display"]["base"] == "run:sft/best"
