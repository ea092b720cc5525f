"""What a run builds on: found, waited for, or refused; and what the runs upstream do for it."""

import pytest
from tests.unit.training_run.builders import DIGEST, World, children, run, training_report
from tests.unit.training_run.upstream import BASE, MERGED, child, other, unaccepted, upstream

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_operator.training_run import sources
from posttrain_operator.training_run.sources import Reference


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

    both = upstream(other(kind="model"), other("scorer", kind="reward-model"))
    world.manifest["spec"]["baseModel"] = {"fromRun": {"name": "sft"}}
    world.manifest["status"].pop("resolved")
    assert ("Job", "dates-0-0") in children(world.step(both))


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

    world.step(upstream())

    assert world.config == before
    assert world.reason() == Reason.PENDING


def test_a_recipe_that_is_deleted_while_it_trains_stops_nothing() -> None:
    world = child(other(kind="model"))

    world.step(upstream(), lambda world: world.see(recipe=None))

    assert world.held()["Trained"] == "Unknown"


def test_a_merged_base_is_used_with_both_digests() -> None:
    world = child(other(mergedBases=[MERGED]))

    source = {"run": "sft", "uri": MERGED["uri"], "digest": DIGEST, "baseDigest": BASE, "kind": "lora"}
    assert world.config["sources"] == {"baseModel": source}


def test_a_checkpoint_lies_beside_the_result() -> None:
    checkpoints = [{"name": "step-5", "digest": BASE}]
    world = child(other(kind="model", checkpoints=checkpoints), base={"name": "sft", "checkpoint": "step-5"})

    source = world.config["sources"]["baseModel"]
    assert (source["uri"], source["digest"]) == (f"pvc://posttrain-artifacts/dates/sha256-{'b' * 64}", BASE)
