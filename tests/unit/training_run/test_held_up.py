"""A run that cannot go on yet: leftovers of an earlier one, a child that is refused, a spec that is not valid."""

import pytest
from tests.unit.training_run.builders import World, children, ends, in_preflight, preflight_report, reports, run

from posttrain_api.conditions import Reason
from posttrain_operator.actions import Child
from posttrain_operator.training_run.plan import Refusal


def test_what_an_earlier_run_of_the_name_left_goes_first() -> None:
    left = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "dates-0-0"}}
    going = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dates-0-recipe", "deletionTimestamp": "x"}}
    world = World()

    plan = world.step(lambda world: world.see(leftovers=(left, going)))

    assert plan.delete == (Child("batch/v1", "Job", "dates-0-0"),)
    assert children(plan) == []
    assert world.held()["Reconciling"] == "True"
    assert plan.recheck_seconds == 1


@pytest.mark.parametrize(
    ("is_final", "shown"), [(True, "Stalled"), (False, "Reconciling")], ids=["not valid", "not allowed now"]
)
def test_a_child_that_the_api_server_refuses_is_the_reason(is_final: bool, shown: str) -> None:
    world = World()

    plan = world.step(refusal=Refusal('jobs.batch "dates-0-preflight" is forbidden: exceeded quota', is_final))

    assert children(plan) == []
    assert world.reason() == Reason.POD_REFUSED
    assert world.held()[shown] == "True"
    assert "exceeded quota" in world.condition("Ready")["message"]
    assert plan.recheck_seconds == 30


def test_an_end_that_is_seen_after_a_refusal_is_the_reason() -> None:
    world = in_preflight()

    world.step(ends("preflight", exit_code=1), refusal=Refusal("the namespace is being terminated", is_final=False))

    assert world.reason() == Reason.TRAINER_FAILED


def test_a_refused_training_job_is_not_taken_for_a_deleted_one() -> None:
    world = in_preflight()
    world.step(reports("preflight", preflight=preflight_report()), refusal=Refusal("exceeded quota", is_final=False))
    assert world.held()["Validated"] == "True"

    plan = world.step()

    assert ("Job", "dates-0-0") in children(plan)


def test_a_spec_that_our_models_refuse_is_said_and_not_raised() -> None:
    world = World(run(method="grpo", hyperparameters={"epochs": "three"}))

    plan = world.step()

    assert children(plan) == []
    assert world.reason() == Reason.INVALID_SPEC
    assert world.held()["Stalled"] == "True"
    assert "spec.hyperparameters.epochs" in world.condition("Ready")["message"]
    assert [event.type for event in plan.events] == ["Warning"]
