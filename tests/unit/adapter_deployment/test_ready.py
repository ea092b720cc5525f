"""When an AdapterDeployment may say Ready: only while everything is proven, on every replica, now."""

from datetime import timedelta

import pytest
from tests.unit.adapter_deployment.builders import (
    NOW,
    PROVEN,
    STARTED,
    Change,
    World,
    adapter_report,
    deployment,
    digest,
    engine,
    pod,
    ready_world,
    report,
    reported,
    second,
)

from posttrain_operator.adapter_deployment.replicas import Replica

LOADED, ON_ONE = ("Loaded", 2), ("Loading", 1)


def test_ready_says_everything_there_is_to_say() -> None:
    world = ready_world()

    conditions = {found["type"]: (found["status"], found["reason"]) for found in world.status["conditions"]}
    status = {key: value for key, value in world.status.items() if key != "conditions"}

    assert conditions == dict.fromkeys(
        ["Resolved", "Compatible", "CapacityOK", "Available", "AdaptersLoaded", "Ready"], ("True", "Ready")
    )
    proven = [
        {"name": "legal", "digest": digest("a"), "provenAt": "2026-11-21T11:59:00Z"},
        {"name": "support", "digest": digest("b"), "provenAt": "2026-11-21T11:59:00Z"},
    ]
    assert status == {
        "observedGeneration": 1,
        "phase": "Ready",
        "url": "http://assistants.team.svc.cluster.local/v1",
        "selector": "posttrain.dev/adapter-deployment=assistants,posttrain.dev/component=server",
        "display": {
            "base": "pvc://models/qwen",
            "adapters": "2/2",
            "replicas": "2/2",
            "ready": "True",
            "reason": "",
        },
        "replicas": 2,
        "readyReplicas": 2,
        "adapters": [
            {"name": "legal", "digest": digest("a"), "state": "Loaded", "loadedReplicas": 2, "totalReplicas": 2},
            {"name": "support", "digest": digest("b"), "state": "Loaded", "loadedReplicas": 2, "totalReplicas": 2},
        ],
        "pods": [
            {"name": "pod-1", "uid": "uid-pod-1", "restartCount": 0, "adapters": proven},
            {"name": "pod-2", "uid": "uid-pod-2", "restartCount": 0, "adapters": proven},
        ],
    }


def test_nothing_is_written_when_nothing_changed() -> None:
    world = ready_world()
    world.now += timedelta(minutes=5)

    decided = world.reconcile()

    assert (decided.create, decided.apply, decided.tell, decided.status, decided.events) == ((), (), (), None, ())
    assert decided.recheck_seconds == 5.0


@pytest.mark.parametrize(
    ("change", "reason", "support"),
    [
        pytest.param(reported(state="Loading", serving=None), "Loading", ON_ONE, id="not loaded on one replica"),
        pytest.param(reported(state="Loading", serving="c"), "Loading", ON_ONE, id="other weights answer on one"),
        pytest.param(reported(serving="c"), "Loading", ON_ONE, id="Loaded is claimed for other weights"),
        pytest.param(reported(serving=None), "Loading", ON_ONE, id="Loaded is claimed without a proof"),
        pytest.param(
            reported(provenAt=STARTED - timedelta(seconds=1)), "Loading", ON_ONE, id="proven before the engine started"
        ),
        pytest.param(lambda world: second(world, about=None), "Starting", ON_ONE, id="an agent does not answer"),
        pytest.param(
            lambda world: second(world, about=report(digest("7"), adapter_report("support", "b"))),
            "Loading",
            ON_ONE,
            id="a report of another list",
        ),
        pytest.param(
            lambda world: second(world, about=report(world.desired, state="Starting"), ready=False),
            "Starting",
            ON_ONE,
            id="an engine starts again",
        ),
        pytest.param(
            lambda world: second(
                world,
                containers=[engine(restarts=1, started=PROVEN + timedelta(seconds=1))],
            ),
            "Loading",
            ON_ONE,
            id="an engine was started again and nobody has noticed yet",
        ),
        pytest.param(lambda world: second(world, deleted=True), "Starting", ON_ONE, id="a pod is on its way out"),
        pytest.param(lambda world: second(world, phase="Failed"), "Starting", ON_ONE, id="a pod was evicted"),
        pytest.param(lambda world: world.replicas.pop(), "Starting", ON_ONE, id="a pod is gone"),
        pytest.param(lambda world: world.with_spec(replicas=3), "Starting", ("Loading", 2), id="scaled up"),
        pytest.param(lambda world: world.with_spec(replicas=1), "Ready", ("Loaded", 1), id="scaled down"),
        pytest.param(
            lambda world: world.with_spec(engine={"maxRank": 128}), "Starting", ("Loading", 0), id="a roll-out begins"
        ),
        pytest.param(
            lambda world: second(world, template=digest("0")), "Starting", ON_ONE, id="a roll-out is half done"
        ),
        pytest.param(
            lambda world: world.replicas.append(
                Replica(pod("pod-3", template=digest("0")), report(world.desired, adapter_report("support", "b")))
            ),
            "Starting",
            ("Loading", 2),
            id="an old pod is left over",
        ),
        pytest.param(
            lambda world: second(world, ready=False), "Starting", LOADED, id="a replica is out of the Service"
        ),
        pytest.param(
            lambda world: second(world, about=report(world.desired, state="Failed"), ready=False),
            "EngineFailed",
            ON_ONE,
            id="an engine does not answer",
        ),
    ],
)
def test_ready_needs_the_proof_of_every_replica(change: Change, reason: str, support: tuple[str, int]) -> None:
    world = ready_world()

    change(world)
    world.reconcile()

    adapter, is_ready = world.adapter("support"), world.condition("Ready")
    assert is_ready
    assert (is_ready["reason"], (adapter["state"], adapter["loadedReplicas"])) == (reason, support)
    assert is_ready["status"] == ("True" if reason == "Ready" else "False")
    assert (world.condition("Reconciling") is None) is (reason == "Ready")
    assert world.condition("Stalled") is None


def test_no_replicas_are_not_ready_and_not_on_the_way() -> None:
    world = ready_world()
    world.with_spec(replicas=0)
    world.replicas = []

    decided = world.reconcile()

    found = {name: world.condition(name) for name in ("Ready", "Available", "Reconciling", "Stalled")}
    assert {name: value and (value["status"], value["reason"]) for name, value in found.items()} == {
        "Ready": ("False", "ScaledToZero"),
        "Available": ("False", "ScaledToZero"),
        "Reconciling": None,
        "Stalled": None,
    }
    assert (world.status["phase"], decided.recheck_seconds) == ("Stopped", 60.0)


def test_a_repeated_proof_is_no_news_but_another_engine_is() -> None:
    world = ready_world()

    reported(provenAt=NOW)(world)
    assert world.reconcile().status is None

    second(
        world,
        containers=[engine(restarts=1, started=NOW)],
        about=report(
            world.desired,
            *(adapter_report(name, mark, provenAt=NOW) for name, mark in (("legal", "a"), ("support", "b"))),
        ),
    )
    world.reconcile()

    assert world.status["pods"][1]["restartCount"] == 1
    assert world.status["pods"][1]["adapters"][0]["provenAt"] == "2026-11-21T12:00:00Z"


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    world = ready_world()
    world.now += timedelta(minutes=1)

    reported(state="Loading", serving=None)(world)
    world.reconcile()

    assert world.condition("Available")["lastTransitionTime"] == "2026-11-21T12:00:00Z"
    assert world.condition("Ready")["lastTransitionTime"] == "2026-11-21T12:01:00Z"


def test_no_more_than_32_pods_are_listed() -> None:
    world = ready_world(replicas=40)

    assert (len(world.status["pods"]), world.status["readyReplicas"]) == (32, 40)


def test_without_adapters_the_base_alone_is_enough() -> None:
    world = World(deployment())
    world.reconcile()
    world.serves("pod-1")

    world.reconcile()

    assert (world.status["phase"], world.status["display"]["adapters"]) == ("Ready", "0/0")
