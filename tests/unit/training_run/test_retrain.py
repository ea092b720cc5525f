"""A failed gate with rounds left starts the next round, with the recipe that is meant for it."""

import json
from typing import Any

from tests.unit.training_run.builders import (
    World,
    children,
    in_training,
    preflight_report,
    reports,
    runs,
    says,
    trainer_status,
    training_report,
)

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason
from posttrain_operator.training_run.observe import Observed

GOOD = {"before": {"loss": 3.0}, "after": {"loss": 0.25}, "rows": 8}
BAD = {"before": {"loss": 3.0}, "after": {"loss": 2.0}, "rows": 8}


def judged(*, rounds: int = 2, **spec: Any) -> World:
    """A run whose first round has failed its gate."""
    patch = {"hyperparameters": {"learningRate": 0.001}}
    on_failure = {"action": "Retrain", "maxAttempts": rounds, "patch": patch}
    gates = [{"metric": "loss", "max": 0.5}]
    world = in_training(evaluation={"metrics": ["loss"], "gates": gates, "onFailure": on_failure}, **spec)
    return end(world, BAD)


def end(world: World, measured: dict[str, Any]) -> World:
    """The round's training ends with this measurement."""
    world.step(reports("training", training=training_report(evaluation=measured)))
    return world


def begin(world: World) -> World:
    """The next round is observed: its recipe is there, and nothing else."""
    recipe = next(child for child in world.plans[-1].apply if child["kind"] == "ConfigMap")
    world.observed = Observed(recipe=recipe, policy=world.observed.policy, has_default_claim=True)
    world.step()
    return world


def test_the_next_round_has_a_recipe_of_its_own() -> None:
    world = judged()

    assert children(world.plans[-1]) == [("ConfigMap", "dates-1-recipe")]
    config = json.loads(world.plans[-1].apply[0]["data"]["run.json"])
    assert config["round"] == 1
    assert config["recipe"]["hyperparameters"]["learningRate"] == 0.001
    assert config["recipe"]["hyperparameters"]["seed"] == 43
    assert world.status["resolved"] == config["recipe"]


def test_the_status_tells_of_the_round_that_failed_and_goes_on() -> None:
    world = judged()

    assert world.held() == {"Validated": "Unknown", "Ready": "False", "Reconciling": "True"}
    assert world.reason() == Reason.RETRAINING
    assert world.status["round"] == 1
    (first,) = world.status["rounds"]
    assert (first["round"], first["gates"][0]["passed"]) == (0, False)
    assert "artifact" not in world.status
    assert "finishedAt" not in world.status
    assert world.plans[-1].recheck_seconds == 0
    (event,) = world.plans[-1].events
    assert (event.type, event.reason) == ("Normal", Reason.RETRAINING)
    assert "loss is 2, the gate wants it at most 0.5" in event.message


def test_a_round_that_passes_is_accepted() -> None:
    world = begin(judged())
    assert children(world.plans[-1]) == [("Job", "dates-1-0")]

    end(world, GOOD)

    assert world.held()["Accepted"] == "True"
    assert world.status["round"] == 1
    assert [entry["gates"][0]["passed"] for entry in world.status["rounds"]] == [False, True]
    assert world.status["rounds"][1]["recipeDigest"] == digest_of(world.status["resolved"])
    assert world.status["lineage"]["recipeDigest"] == world.status["rounds"][1]["recipeDigest"]


def test_the_column_says_which_round_it_shows() -> None:
    world = judged()
    assert world.status["display"]["progress"] == "round 1: 0%"

    begin(world).step(runs("training"), says(trainer_status(120)))
    assert world.status["display"]["progress"] == "round 1: 24%"

    end(world, GOOD)
    assert (world.status["display"]["progress"], world.status["display"]["gate"]) == ("round 1: 100%", "1/1")


def test_the_last_round_ends_the_run() -> None:
    world = end(begin(judged()), BAD)

    assert world.status["phase"] == "Rejected"
    assert world.reason() == Reason.GATE_FAILED
    assert len(world.status["rounds"]) == 2
    assert "finishedAt" in world.status


def test_there_are_as_many_rounds_as_were_asked_for() -> None:
    world = end(begin(judged(rounds=3)), BAD)

    assert world.status["round"] == 2
    assert children(world.plans[-1]) == [("ConfigMap", "dates-2-recipe")]


def test_each_round_reads_its_rows_first() -> None:
    world = judged()
    world.manifest["spec"]["preflight"] = "Required"

    begin(world)

    assert children(world.plans[-1]) == [("Job", "dates-1-preflight")]
    world.step(reports("preflight", preflight=preflight_report()))
    assert children(world.plans[-1]) == [("Job", "dates-1-0")]


def test_what_the_first_round_built_on_the_next_builds_on_too() -> None:
    world = judged()
    source = {"run": "sft", "uri": "pvc://a/b", "digest": "sha256:" + "c" * 64, "kind": "model"}
    world = in_training(**{name: world.manifest["spec"][name] for name in ("evaluation",)})
    assert world.observed.recipe
    data = {"run.json": json.dumps({**world.config, "sources": {"baseModel": source}})}
    world.see(recipe={**world.observed.recipe, "data": data})

    end(world, BAD)

    config = json.loads(world.plans[-1].apply[0]["data"]["run.json"])
    assert config["sources"] == {"baseModel": source}
