"""A run's way from its creation to its result, as state transitions of the pure plan()."""

from datetime import timedelta

import pytest
from tests.unit.training_run.builders import (
    DIGEST,
    NOW,
    World,
    at,
    children,
    in_preflight,
    in_training,
    preflight_report,
    reports,
    run,
    runs,
    says,
    trainer_status,
    training_report,
)

from posttrain_api.conditions import Reason
from posttrain_operator.actions import Child, Event, Manifest, Patch
from posttrain_operator.execute import merge_patch
from posttrain_operator.jobs import JobSeen


def test_a_new_run_gets_its_claim_its_recipe_and_its_preflight() -> None:
    world = World()

    plan = world.step()

    assert children(plan) == [
        ("PersistentVolumeClaim", "posttrain-artifacts"),
        ("ConfigMap", "dates-0-recipe"),
        ("Job", "dates-0-preflight"),
    ]
    assert world.status["phase"] == "Pending"
    assert world.status["observedGeneration"] == 1
    assert world.held() == {"Validated": "Unknown", "Ready": "False", "Reconciling": "True"}
    assert world.status["resolved"]["hyperparameters"]["epochs"] == 3.0


def test_a_run_without_preflight_trains_at_once() -> None:
    world = World(run(preflight="Skip", output={"uri": "pvc://results"}))

    plan = world.step()

    assert children(plan) == [
        ("ConfigMap", "dates-0-recipe"),
        ("NetworkPolicy", "dates-trainer"),
        ("Job", "dates-0-0"),
    ]
    assert world.condition("Validated")["reason"] == Reason.PREFLIGHT_SKIPPED
    assert world.held()["Trained"] == "Unknown"


def test_a_claim_that_is_there_is_not_asked_for() -> None:
    world = World()
    world.see(has_default_claim=True)

    assert not world.step().create


@pytest.mark.parametrize("component", ["preflight", "training"])
def test_waiting_for_the_pod_writes_nothing(component: str) -> None:
    world = World(run(preflight="Required" if component == "preflight" else "Skip"))
    world.step()
    before = world.status

    for change in (lambda _: None, at(component, phase="Pending", conditions=[])):
        assert children(world.step(change)) == []
        assert world.status == before


def test_preflight_runs() -> None:
    world = in_preflight()

    plan = world.step(runs("preflight"))

    assert children(plan) == []
    assert world.status["phase"] == "Preflight"
    assert plan.recheck_seconds == 60


def test_rows_that_pass_start_the_training_in_the_same_plan() -> None:
    world = in_preflight()

    plan = world.step(runs("preflight"), reports("preflight", preflight=preflight_report()))

    assert children(plan) == [("NetworkPolicy", "dates-trainer"), ("Job", "dates-0-0")]
    assert world.condition("Validated")["reason"] == Reason.PREFLIGHT_PASSED
    assert world.status["estimate"]["totalSteps"] == 30
    assert world.status["mask"] == "user: one assistant: ⟦1⟧"
    assert world.status["warnings"] == ["odd"]


def test_what_preflight_found_stays_when_its_job_is_gone() -> None:
    world = in_preflight()
    world.step(reports("preflight", preflight=preflight_report()))

    world.step(lambda world: world.see(preflight=JobSeen()), runs("training"))

    assert world.status["phase"] == "Training"
    assert world.status["estimate"]["totalSteps"] == 30
    assert world.held()["Validated"] == "True"


def test_progress_is_shown_and_asked_for_again() -> None:
    world = in_training()

    plan = world.step(runs("training"), says(trainer_status(120)))

    assert world.status["display"] == {
        "progress": "24%",
        "metric": "loss 1.31",
        "eta": "14m",
        "step": "120/500",
        "gate": "",
        "reason": "Training",
    }
    assert world.status["metrics"] == {"loss": 1.314}
    assert plan.recheck_seconds == 2
    assert plan.events == (Event("Normal", Reason.TRAINING, "The model is being trained."),)


def test_a_trainer_that_does_not_answer_keeps_its_last_progress() -> None:
    world = in_training()
    world.step(runs("training"), says(trainer_status(120)))
    before = world.status

    plan = world.step(says(None))

    assert world.status == before
    assert plan.events == ()


def test_a_complete_artifact_is_success() -> None:
    world = in_training()
    world.step(runs("training"), says(trainer_status(120)))

    plan = world.step(reports("training", training=training_report()))

    assert world.status["phase"] == "Succeeded"
    assert set(world.held().values()) == {"True"}
    assert {"Trained", "Evaluated", "Accepted", "Succeeded", "Ready"} < world.held().keys()
    assert world.condition("Accepted")["reason"] == Reason.NO_GATES
    assert world.status["artifact"]["digest"] == DIGEST
    assert world.status["display"] == {
        "progress": "100%",
        "metric": "exactMatch 0.98",
        "eta": "",
        "step": "30/30",
        "gate": "",
        "reason": "Ready",
    }
    assert world.status["lineage"]["image"] == "trainer@sha256:1"
    assert world.status["lineage"]["baseModel"] == {"uri": "pvc://models/tiny", "digest": DIGEST}
    assert world.status["metrics"] == {"loss": 0.25}
    assert world.status["finishedAt"] == "2026-11-21T12:00:00Z"
    assert [event.type for event in plan.events] == ["Normal"]


def test_a_complete_report_counts_whatever_the_exit_code() -> None:
    world = in_training()

    world.step(reports("training", exit_code=1, training=training_report()))

    assert world.status["phase"] == "Succeeded"


def test_the_same_world_twice_is_the_same_status() -> None:
    world = in_training()
    world.step(runs("training"), says(trainer_status(120)))
    before = world.status

    world.step(lambda world: setattr(world, "now", NOW + timedelta(minutes=1)))

    assert world.status == before


def test_a_transition_time_stays_while_the_status_of_a_condition_does() -> None:
    world = in_training()
    world.step(lambda world: setattr(world, "now", NOW + timedelta(minutes=1)), runs("training"))

    assert world.condition("Ready")["reason"] == Reason.TRAINING
    assert world.condition("Ready")["lastTransitionTime"] == "2026-11-21T12:00:00Z"


def test_an_operator_that_starts_again_finds_its_way() -> None:
    world = in_training()
    world.step(runs("training"), says(trainer_status(120)))
    again = World(world.manifest, world.observed, world.now)

    plan = again.step()

    assert children(plan) == []
    assert again.status == world.status


def test_the_frozen_recipe_wins_over_what_the_spec_would_resolve_to_now() -> None:
    world = in_training()
    assert world.observed.recipe is not None
    older = world.observed.recipe["data"]["run.json"].replace('"rank": 16', '"rank": 8')
    world.see(recipe={**world.observed.recipe, "data": {"run.json": older}})

    world.step()

    assert world.status["resolved"]["tuning"]["lora"]["rank"] == 8


def test_a_recipe_that_was_deleted_is_made_again_as_it_was() -> None:
    world = in_training()
    world.manifest["status"]["resolved"]["tuning"]["lora"]["rank"] = 8

    plan = world.step(lambda world: world.see(recipe=None))

    assert children(plan) == [("ConfigMap", "dates-0-recipe")]
    assert world.config["recipe"]["tuning"]["lora"]["rank"] == 8


def test_a_network_policy_that_was_deleted_is_made_again() -> None:
    world = in_training()

    assert children(world.step(lambda world: world.see(policy=None))) == [("NetworkPolicy", "dates-trainer")]


def test_a_preflight_that_was_deleted_is_made_again() -> None:
    world = in_preflight()

    assert children(world.step(lambda world: world.see(preflight=JobSeen()))) == [("Job", "dates-0-preflight")]


@pytest.mark.parametrize(
    ("deadline", "wanted"), [(None, None), (60, 60)], ids=["the deadline is taken away", "another deadline"]
)
def test_a_deadline_is_patched_while_the_job_lives(deadline: int | None, wanted: int | None) -> None:
    world = in_training(deadlineSeconds=3600)
    spec = {**world.manifest["spec"], "deadlineSeconds": deadline}
    changed = {key: value for key, value in spec.items() if value is not None}

    plan = world.step(lambda world: setattr(world, "manifest", {**world.manifest, "spec": changed}))

    change = {"spec": {"activeDeadlineSeconds": wanted}}
    assert plan.patch == (Patch(Child("batch/v1", "Job", "dates-0-0"), change),)


def test_other_operations_do_not_touch_a_job_that_lives() -> None:
    world = in_training()
    spec = {**world.manifest["spec"], "resources": {"gpus": 0}, "podTemplate": {"image": "other:1"}}

    plan = world.step(lambda world: setattr(world, "manifest", {**world.manifest, "spec": spec}))

    assert (plan.apply, plan.patch) == ((), ())


def as_patched(old: Manifest, new: Manifest) -> Manifest:
    """What the API server makes of the merge patch from one object to another."""
    return _merged(old, merge_patch(old, new))


def _merged(old: Manifest, patch: Manifest) -> Manifest:
    merged = {key: value for key, value in old.items() if patch.get(key, ...) is not None}
    for key, value in patch.items():
        if isinstance(value, dict):
            merged[key] = _merged(old[key] if isinstance(old.get(key), dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def test_the_api_server_ends_up_with_the_status_that_was_planned() -> None:
    world = in_training()
    before = world.status
    world.step(runs("training"), says(trainer_status(120)))
    middle = world.status
    world.step(reports("training", training=training_report()))

    assert as_patched(before, middle) == middle
    assert as_patched(middle, world.status) == world.status


def test_plans_come_to_rest() -> None:
    world = in_preflight()
    world.step(reports("preflight", preflight=preflight_report()))

    assert world.settle() == world.plans[-1]
