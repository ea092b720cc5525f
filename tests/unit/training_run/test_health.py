"""What a trainer says of a training's health: in the status, as conditions, and as one event each."""

from datetime import timedelta

import pytest
from tests.unit.training_run.builders import (
    Change,
    World,
    ends,
    in_training,
    pass_time,
    reports,
    runs,
    says,
    trainer_status,
    training_report,
)

from posttrain_api.v1alpha1.health import HealthFinding
from posttrain_operator.actions import Event

HACKING = HealthFinding(rule="RewardHacking", message="reward 0.9 up, success 0.1 down", step=40)
DRIFT = HealthFinding(rule="KLDrift", message="12 nats since step 30", step=30)
ENDED = HACKING.replace(stopped=True)
RULES = {
    "EntropyCollapsed",
    "NoSignal",
    "KLDrift",
    "RewardHacking",
    "LengthExplosion",
    "PolicyMismatch",
    "TrainingDiverged",
}


def finds(*findings: HealthFinding) -> Change:
    """The trainer runs, and these rules are broken."""
    return says(trainer_status(40, health=list(findings)))


def broken(world: World) -> dict[str, str]:
    """Type of each condition of health -> why people are told."""
    return {found["type"]: found["message"] for found in world.status["conditions"] if found["type"] in RULES}


def in_health(*findings: HealthFinding) -> World:
    """A run that trains, with these rules broken."""
    world = in_training()
    world.step(runs("training"), finds(*findings))
    return world


@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule_has_a_condition_of_its_name(rule: str) -> None:
    world = in_health(HACKING.replace(rule=rule))
    condition = world.condition(rule)

    assert (condition["status"], condition["reason"], condition["message"]) == ("True", rule, HACKING.message)
    assert world.status["health"] == [HACKING.replace(rule=rule).to_json()]


def test_a_run_goes_on_whose_rules_are_broken() -> None:
    world = in_health(HACKING, DRIFT)

    assert broken(world) == {"RewardHacking": HACKING.message, "KLDrift": DRIFT.message}
    assert (world.status["phase"], world.status["display"]["reason"]) == ("Training", "Training")


def test_a_rule_is_told_when_it_breaks_and_not_again() -> None:
    world = in_health(DRIFT)
    assert Event("Warning", "KLDrift", DRIFT.message) in world.plans[-1].events

    more = world.step(finds(DRIFT.replace(message="13 nats since step 30"), HACKING))

    assert more.events == (Event("Warning", "RewardHacking", HACKING.message),)
    assert broken(world)["KLDrift"] == "13 nats since step 30"
    assert world.step().events == ()


def test_a_rule_that_holds_again_is_gone() -> None:
    world = in_health(DRIFT, HACKING)

    world.step(finds(HACKING))
    assert set(broken(world)) == {"RewardHacking"}

    world.step(finds())
    assert broken(world) == {}
    assert "health" not in world.status


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(says(None), id="the trainer does not answer"),
        pytest.param(ends("training", exit_code=137), id="it was killed without a word"),
        pytest.param(
            reports("training", exit_code=3, failure={"reason": "TrainingDiverged", "message": "the loss is nan"}),
            id="it failed",
        ),
    ],
)
def test_what_was_found_stays_where_nobody_says_otherwise(change: Change) -> None:
    world = in_health(DRIFT)

    plan = world.step(change)

    assert broken(world) == {"KLDrift": DRIFT.message}
    assert "KLDrift" not in [event.reason for event in plan.events]


@pytest.mark.parametrize(
    ("report", "left"),
    [
        pytest.param({}, set(), id="well in the end"),
        pytest.param({"health": [DRIFT.to_json()]}, {"KLDrift"}, id="as before"),
        pytest.param({"health": [HACKING.to_json()]}, {"RewardHacking"}, id="otherwise than before"),
    ],
)
def test_after_the_end_it_is_as_the_report_says(report: dict[str, object], left: set[str]) -> None:
    world = in_health(DRIFT)

    world.step(reports("training", training=training_report(**report)))
    world.step()

    assert set(broken(world)) == left
    assert world.status["phase"] == "Succeeded"


def test_a_training_that_a_rule_has_ended_is_trained_and_says_why() -> None:
    world = in_health(HACKING)
    stopped = {"stepsCompleted": 12, "stoppedEarly": True, "health": [ENDED.to_json()]}

    plan = world.step(reports("training", training=training_report(**stopped)))

    assert "12 of 30 steps, stopped for RewardHacking" in world.condition("Trained")["message"]
    assert (world.held()["Trained"], world.held()["Ready"], world.status["phase"]) == ("True", "True", "Succeeded")
    assert [event.type for event in plan.events] == ["Normal"]


def test_a_transition_time_stays_while_a_rule_is_broken() -> None:
    world = in_health(DRIFT)
    before = world.condition("KLDrift")["lastTransitionTime"]

    world.step(pass_time(timedelta(minutes=1)), finds(DRIFT.replace(message="14 nats")))

    assert world.condition("KLDrift")["lastTransitionTime"] == before


def test_the_next_round_begins_healthy() -> None:
    gates = [{"metric": "exactMatch", "min": 0.5}]
    world = in_training(evaluation={"metrics": ["exactMatch"], "gates": gates, "onFailure": {"action": "Retrain"}})
    world.step(runs("training"), finds(DRIFT))
    bad = {"before": {"exactMatch": 0.0}, "after": {"exactMatch": 0.1}, "rows": 8}

    world.step(reports("training", training=training_report(evaluation=bad, health=[DRIFT.to_json()])))

    assert (world.status["round"], broken(world)) == (1, {})
    assert "health" not in world.status


@pytest.mark.parametrize("rule", ["Ready", "Accepted", "Nonsense"])
def test_a_trainer_cannot_write_other_conditions(rule: str) -> None:
    world = in_health(HACKING.replace(rule=rule), DRIFT, DRIFT)

    assert [found["rule"] for found in world.status["health"]] == ["KLDrift"]
    assert world.held().get(rule) != "True"
    types = [found["type"] for found in world.status["conditions"]]
    assert len(types) == len(set(types))
