"""plan() as state transitions: what is observed, and what follows for children, pods and status."""

from dataclasses import replace

import pytest
from tests.unit.adapter_deployment.builders import (
    TOKEN,
    World,
    accepted,
    adapter_report,
    deployment,
    digest,
    failed,
    pod,
    ready_world,
    report,
    reported,
    run,
)

from posttrain_operator.actions import Tell
from posttrain_operator.adapter_deployment.replicas import Replica


def test_the_first_reconcile_makes_everything_and_waits_for_the_runs() -> None:
    world = World(deployment("support"), runs=[run("support")])

    decided = world.reconcile()

    assert [child["kind"] for child in decided.create] == ["Secret"]
    assert [child["kind"] for child in decided.apply] == ["ConfigMap", "NetworkPolicy", "Service", "Deployment"]
    assert world.desired.adapters == []
    assert (world.status["phase"], world.status["observedGeneration"]) == ("Starting", 1)
    assert world.adapter("support") == {
        "name": "support",
        "state": "Pending",
        "loadedReplicas": 0,
        "totalReplicas": 1,
        "reason": "WaitingForRun",
        "message": "TrainingRun support is not accepted yet: Training",
    }


def test_a_run_is_accepted_and_pods_are_told_without_a_restart() -> None:
    world = ready_world()
    world.with_spec(adapters=[{"name": name, "fromRun": {"name": name}} for name in ("legal", "new", "support")])
    world.runs.append(run("new"))
    assert not world.reconcile().tell
    assert world.condition("Ready")["reason"] == "WaitingForRun"

    world.runs[-1] = accepted("new", "c")
    decided = world.reconcile()

    assert [child["kind"] for child in decided.apply] == ["ConfigMap"]
    assert decided.tell == tuple(
        Tell(pod=f"pod-{index}", address=f"10.0.0.{index}", desired=world.desired, token=TOKEN) for index in (1, 2)
    )
    assert (world.adapter("new")["state"], world.condition("Ready")["reason"]) == ("Loading", "Loading")
    assert decided.recheck_seconds == 1.0

    world.serves("pod-1", "pod-2", legal="a", support="b", new="c")
    assert not world.reconcile().tell
    assert world.status["phase"] == "Ready"


def test_only_the_pods_that_have_not_heard_are_told() -> None:
    world = ready_world()
    informed = world.replicas[0]
    world.replicas = [
        informed,
        replace(world.replicas[1], report=report(digest("7"))),
        Replica(pod("pod-3", template=world.template), None),
        Replica(pod("pod-4", template=world.template, deleted=True), report(digest("7"))),
    ]

    assert [tell.pod for tell in world.reconcile().tell] == ["pod-2"]


def test_the_token_is_not_shown_by_a_plan() -> None:
    world = ready_world()
    world.replicas[1] = replace(world.replicas[1], report=report(digest("7")))

    assert TOKEN not in repr(world.reconcile())
    assert TOKEN not in repr(world.observed())


def test_a_digest_flips_and_the_old_one_is_named_until_all_have_the_new() -> None:
    world = ready_world()
    world.with_spec(adapters=[{"name": "support", "fromRun": {"name": "support-2"}}])
    world.runs.append(accepted("support-2", "d"))
    world.reconcile()
    new = report(world.desired, adapter_report("support", "d"))
    old = report(world.desired, adapter_report("support", "d", state="Loading", serving="b"))
    first, other = (pod(name, template=world.template) for name in ("pod-1", "pod-2"))

    world.replicas = [Replica(first, new), Replica(other, old)]
    world.reconcile()

    assert world.adapter("support") == {
        "name": "support",
        "digest": digest("d"),
        "previousDigest": digest("b"),
        "state": "Loading",
        "loadedReplicas": 1,
        "totalReplicas": 2,
        "reason": "Loading",
        "message": "proven on 1 of 2 replicas",
    }


@pytest.mark.parametrize(
    ("runs", "state", "message"),
    [
        pytest.param([run("next")], "Pending", "TrainingRun next is not accepted yet: Training", id="unfinished"),
        pytest.param([], "Pending", "TrainingRun next does not exist", id="not there"),
        pytest.param(
            [failed("next")],
            "Failed",
            "TrainingRun next failed: OutOfMemory: the trainer needed more memory",
            id="failed",
        ),
    ],
)
def test_the_version_before_goes_on_answering(runs: list[dict[str, object]], state: str, message: str) -> None:
    world = ready_world()
    world.runs = [*runs, accepted("legal", "a")]
    world.with_spec(
        adapters=[{"name": "legal", "fromRun": {"name": "legal"}}, {"name": "support", "fromRun": {"name": "next"}}]
    )

    decided = world.reconcile()

    assert [adapter.digest for adapter in world.desired.adapters] == [digest("a"), digest("b")]
    assert decided.tell == ()
    assert decided.apply == ()
    adapter = world.adapter("support")
    assert (adapter["state"], adapter["previousDigest"], adapter["message"]) == (
        state,
        digest("b"),
        f"{message}; the version before it goes on answering",
    )
    assert world.condition("Ready")["status"] == "False"
    assert (world.condition("Stalled") is not None) is (state == "Failed")


def test_a_deleted_run_leaves_its_adapter() -> None:
    world = ready_world()
    world.runs = []

    decided = world.reconcile()

    assert (decided.apply, decided.status, world.status["phase"]) == ((), None, "Ready")


def test_a_removed_adapter_restarts_nothing_and_its_claim_stays_mounted() -> None:
    world = World(
        deployment("legal", "support"),
        runs=[accepted("legal", "a", output="pvc://elsewhere"), accepted("support", "b")],
    )
    world.reconcile()
    before = world.children["Deployment"]

    world.with_spec(adapters=[{"name": "support", "fromRun": {"name": "support"}}])
    decided = world.reconcile()

    assert [child["kind"] for child in decided.apply] == ["ConfigMap"]
    assert before["metadata"]["annotations"]["posttrain.dev/mounted-claims"] == "elsewhere,models,posttrain-artifacts"


def test_an_adapter_on_a_claim_that_is_not_mounted_restarts_the_pods_one_by_one() -> None:
    world = ready_world()
    adapter = {"name": "far", "uri": "pvc://elsewhere/far", "digest": digest("f")}

    world.with_spec(adapters=[*world.parent.to_json()["spec"]["adapters"], adapter])
    decided = world.reconcile()

    assert [child["kind"] for child in decided.apply] == ["ConfigMap", "Deployment"]
    assert world.condition("Ready")["message"] == "rolling out: 0 of 2 replicas are of the current template"
    assert world.condition("Available")["status"] == "True"


@pytest.mark.parametrize(
    "reason",
    ["BaseMismatch", "RankTooLarge", "UnsupportedAdapter", "DigestMismatch", "AdapterNotFound", "BehaviourMismatch"],
)
def test_one_refused_adapter_fails_alone(reason: str) -> None:
    world = ready_world()
    refused = {"state": "Failed", "serving": None, "reason": reason, "message": "not this one"}

    reported(**refused)(world)
    decided = world.reconcile()

    assert world.adapter("legal")["state"] == "Loaded"
    assert world.adapter("support") == {
        "name": "support",
        "digest": digest("b"),
        "state": "Failed",
        "loadedReplicas": 1,
        "totalReplicas": 2,
        "reason": reason,
        "message": "pod pod-2: not this one",
    }
    found = {name: world.condition(name) for name in ("Ready", "Stalled", "Compatible", "Available", "Reconciling")}
    assert {name: value and (value["status"], value["reason"]) for name, value in found.items()} == {
        "Ready": ("False", reason),
        "Stalled": ("True", reason),
        "Compatible": ("False", reason),
        "Available": ("True", "Ready"),
        "Reconciling": None,
    }
    assert world.status["phase"] == "Failed"
    assert [(event.type, event.reason) for event in decided.events] == [("Warning", reason)]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param("Deployment", {"spec": {"replicas": 7}}, id="scaled by hand"),
        pytest.param("ConfigMap", {"data": {"adapters.json": '{"adapters": []}'}}, id="edited by hand"),
        pytest.param("ConfigMap", {"data": {"adapters.json": "no JSON"}}, id="made unreadable by hand"),
    ],
)
def test_what_was_changed_by_hand_is_repaired(kind: str, change: dict[str, object]) -> None:
    world = ready_world()
    before = world.children[kind]
    world.children[kind] = {**before, **change}

    decided = world.reconcile()

    assert decided.apply == (before,)
