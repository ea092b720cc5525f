"""adapters[].fromRun: which artifact a name is to answer with, and which it never will."""

import pytest
from tests.unit.adapter_deployment.builders import World, accepted, deployment, digest, failed

from posttrain_operator.actions import Manifest

FOLDER = "pvc://posttrain-artifacts/support"
STEPS = [{"name": "step-20", "digest": digest("c")}, {"name": "final", "digest": digest("a")}]


def following(run: Manifest, *, checkpoint: str | None = None, **spec: object) -> World:
    """A deployment with the adapter support of the run support."""
    reference = {"name": "support", **({"checkpoint": checkpoint} if checkpoint else {})}
    return World(deployment(adapters=[{"name": "support", "fromRun": reference}], **spec), runs=[run])


@pytest.mark.parametrize(
    ("checkpoint", "character"),
    [
        pytest.param(None, "a", id="the result"),
        pytest.param("step-20", "c", id="a step"),
        pytest.param("final", "a", id="the last one"),
    ],
)
def test_a_checkpoint_lies_beside_the_artifact(checkpoint: str | None, character: str) -> None:
    world = following(accepted("support", "a", checkpoints=STEPS), checkpoint=checkpoint)

    world.reconcile()

    assert [(adapter.digest, adapter.uri) for adapter in world.desired.adapters] == [
        (digest(character), f"{FOLDER}/sha256-{character * 64}")
    ]


@pytest.mark.parametrize(
    ("run", "checkpoint", "reason", "message"),
    [
        pytest.param(
            accepted("support", "a", checkpoints=STEPS),
            "best",
            "RunUnsuitable",
            "TrainingRun support has no checkpoint best: it has step-20, final; leave checkpoint out for the result",
            id="another checkpoint",
        ),
        pytest.param(
            accepted("support", "a"),
            "best",
            "RunUnsuitable",
            "TrainingRun support has no checkpoint best: it has none; leave checkpoint out for the result",
            id="no checkpoints",
        ),
        pytest.param(
            accepted("support", "a", kind="model"),
            None,
            "UnsupportedAdapter",
            "the result of TrainingRun support is a whole model: serve it by baseModel.fromRun",
            id="a model",
        ),
        pytest.param(
            accepted("support", "a", kind="reward-model"),
            None,
            "UnsupportedAdapter",
            "the result of TrainingRun support is a reward model: serve it by baseModel.fromRun in a deployment of its "
            "own",
            id="a reward model",
        ),
        pytest.param(
            accepted("support", "a", kind="prompt"),
            None,
            "UnsupportedAdapter",
            "the result of TrainingRun support is a prompt: vLLM cannot serve prompt tuning; train with tuning.lora",
            id="a prompt",
        ),
        pytest.param(
            accepted("support", "a", kind="dataset"),
            None,
            "UnsupportedAdapter",
            "the result of TrainingRun support is a dataset: there is nothing to serve; train on it",
            id="a dataset",
        ),
    ],
)
def test_what_cannot_be_loaded_fails_alone(run: Manifest, checkpoint: str | None, reason: str, message: str) -> None:
    world = following(run, checkpoint=checkpoint)

    world.reconcile()

    assert world.desired.adapters == []
    adapter = world.adapter("support")
    assert (adapter["state"], adapter["reason"], adapter["message"]) == ("Failed", reason, message)
    assert world.condition("Stalled")["reason"] == reason
    assert (world.condition("Compatible")["status"] == "False") is (reason == "UnsupportedAdapter")


def test_a_checkpoint_of_a_failed_run_is_not_loaded() -> None:
    """What nobody has judged is served by uri and digest only, by somebody who says so."""
    run = failed("support")
    run["status"]["checkpoints"] = STEPS
    world = following(run, checkpoint="step-20")

    world.reconcile()

    assert world.desired.adapters == []
    assert (world.adapter("support")["state"], world.adapter("support")["reason"]) == ("Failed", "RunFailed")


def test_a_deleted_run_leaves_its_checkpoint_and_no_other() -> None:
    world = following(accepted("support", "a", checkpoints=STEPS), checkpoint="step-20")
    world.reconcile()
    world.runs = []

    world.reconcile()
    assert world.condition("Resolved")["status"] == "True"

    world.with_spec(adapters=[{"name": "support", "fromRun": {"name": "support"}}])
    world.reconcile()
    assert (world.condition("Resolved")["status"], world.condition("Resolved")["reason"]) == ("False", "RunNotFound")
    assert [adapter.digest for adapter in world.desired.adapters] == [digest("c")]


def test_a_reward_model_takes_no_adapters() -> None:
    world = following(accepted("support", "a"), baseModel={"fromRun": {"name": "judge"}})
    world.runs.append(accepted("judge", "b", kind="reward-model"))

    world.reconcile()

    assert world.desired.adapters == []
    assert (world.adapter("support")["state"], world.adapter("support")["message"]) == (
        "Failed",
        "the base is a reward model, which is served alone: take the adapter out of this deployment",
    )
