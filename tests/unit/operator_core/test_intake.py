"""Who is woken by what the watches say."""

from collections.abc import Iterable
from typing import Any

import pytest
from tests.unit.operator_core.builders import key, pod, run

from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.intake import Intake
from posttrain_operator.kind import Kind
from posttrain_operator.kube import Refused
from posttrain_operator.queue import Queue
from posttrain_operator.store import Key, Store


async def nothing(_: Manifest, __: Refused | None) -> Plan:
    return Plan()


async def never(_: Key) -> float | None:
    raise AssertionError("the queue is not open")


def followed(manifest: Manifest) -> Iterable[Key]:
    return [key(name) for name in manifest["spec"]["follows"]]


KINDS = {
    "TrainingRun": Kind("TrainingRun", nothing),
    "AdapterDeployment": Kind("AdapterDeployment", nothing, followed),
}


class Recorder(Queue):
    """A queue that is not open and tells what was added."""

    def __init__(self) -> None:
        super().__init__(never)
        self.woken: list[str] = []

    def add(self, key: Key) -> None:
        """Keep the name."""
        self.woken.append(key.name)

    def taken(self) -> list[str]:
        """What was woken since it was asked last."""
        woken, self.woken = self.woken, []
        return woken


def deployment(*follows: str, version: int = 1) -> Manifest:
    found = run("assistants", version=version, spec={"follows": list(follows)})
    return {**found, "kind": "AdapterDeployment"}


@pytest.fixture
def queue() -> Recorder:
    return Recorder()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def intake(queue: Recorder, store: Store) -> Intake:
    return Intake(store=store, queue=queue, kinds=KINDS)


def test_an_object_wakes_itself(intake: Intake, queue: Recorder) -> None:
    intake.seen(run())

    assert queue.taken() == ["dates"]


def test_a_child_wakes_its_owner(intake: Intake, queue: Recorder) -> None:
    intake.seen(pod())
    assert queue.taken() == ["dates"]

    intake.gone(pod())
    assert queue.taken() == ["dates"]


def test_a_child_of_nobody_wakes_nobody(intake: Intake, queue: Recorder) -> None:
    stray = pod()
    stray["metadata"]["labels"] = {}

    intake.seen(stray)

    assert queue.taken() == []


def test_the_echo_of_our_own_write_wakes_nobody(intake: Intake, queue: Recorder, store: Store) -> None:
    store.put(run(version=7))

    intake.seen(run(version=7))
    intake.seen(run(version=6))

    assert queue.taken() == []


def test_an_object_that_is_gone_is_not_reconciled(intake: Intake, queue: Recorder) -> None:
    intake.seen(run())
    queue.taken()

    intake.gone(run(version=2))
    intake.gone(run(version=2))

    assert queue.taken() == []


@pytest.mark.parametrize(
    ("changes", "woken"),
    [
        pytest.param({"status": {"progress": {"step": 2}}}, ["dates"], id="progress"),
        pytest.param({"status": {"conditions": [1]}}, ["assistants", "dates"], id="conditions"),
        pytest.param({"status": {"artifact": {"digest": "x"}}}, ["assistants", "dates"], id="an artifact"),
        pytest.param({"status": {"checkpoints": [{"name": "best"}]}}, ["assistants", "dates"], id="a checkpoint"),
        pytest.param({"status": {"mergedBases": [{"uri": "x"}]}}, ["assistants", "dates"], id="a merged base"),
        pytest.param({"status": {"finishedAt": "now"}}, ["assistants", "dates"], id="its end"),
        pytest.param({"spec": {"ttl": 1}}, ["assistants", "dates"], id="another spec"),
    ],
)
def test_a_follower_is_woken_by_more_than_progress(
    intake: Intake, queue: Recorder, changes: dict[str, Any], woken: list[str]
) -> None:
    intake.seen(deployment("dates"))
    intake.seen(run())
    queue.taken()

    intake.seen(run(version=2, **changes))

    assert queue.taken() == woken


def test_a_follower_is_woken_by_what_we_write_ourselves(intake: Intake, store: Store, queue: Recorder) -> None:
    intake.seen(deployment("dates"))
    intake.seen(run())
    queue.taken()

    accepted = run(version=2, status={"artifact": {"digest": "x"}})
    store.put(accepted)
    assert queue.taken() == ["assistants"]

    intake.seen(accepted)
    assert queue.taken() == []


def test_a_follower_is_woken_when_what_it_follows_comes_and_goes(intake: Intake, queue: Recorder) -> None:
    intake.seen(deployment("dates"))
    queue.taken()

    intake.seen(run())
    assert queue.taken() == ["assistants", "dates"]

    intake.gone(run())
    assert queue.taken() == ["assistants"]


def test_who_follows_another_now_is_left_alone(intake: Intake, queue: Recorder) -> None:
    intake.seen(deployment("dates"))
    intake.seen(deployment("numbers", version=2))
    queue.taken()

    intake.seen(run())

    assert queue.taken() == ["dates"]
