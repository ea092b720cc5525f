"""A plan is carried out in the order of its fields, and what was written is known at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from tests.unit.operator_core.builders import key, pod, run

from posttrain_api.server_contract import DesiredAdapters
from posttrain_operator.actions import Child, Event, Manifest, Patch, Plan, Tell
from posttrain_operator.execute import ChildRefused, execute, merge_patch
from posttrain_operator.kind import Kind, Tools
from posttrain_operator.kube import Api, ApiError, Refused
from posttrain_operator.metrics import Metrics
from posttrain_operator.pods import Pods
from posttrain_operator.reconcile import Reconciler
from posttrain_operator.settings import Settings
from posttrain_operator.store import Key, Store

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)


@dataclass
class Cluster:
    """Stands in for the API server and for agents: keeps what it is asked, refuses what it is told to."""

    asked: list[Any] = field(default_factory=list)
    refused: dict[str, ApiError] = field(default_factory=dict)
    version: int = 100

    def create(self, manifest: Manifest) -> Manifest | None:
        return self._written("create", manifest)

    def apply(self, manifest: Manifest) -> Manifest:
        return self._written("apply", manifest)

    def patch(self, key: Key, change: Manifest, *, subresource: str | None = None) -> Manifest:
        verb = f"patch {subresource}" if subresource else "patch"
        self._ask(verb, key.name, change)
        return self._versioned({**run(key.name), "kind": key.kind, **change})

    def delete(self, key: Key, *, uid: str | None = None) -> None:
        self._ask("delete", key.name, uid)

    def post_event(self, parent: Manifest, event: Event, *, time: str) -> None:
        self._ask("event", parent["metadata"]["name"], event.reason, time)

    async def tell(self, tells: tuple[Tell, ...]) -> None:
        self._ask("tell", *(tell.pod for tell in tells))

    def _written(self, verb: str, manifest: Manifest) -> Manifest:
        self._ask(verb, manifest["metadata"]["name"])
        return self._versioned(manifest)

    def _ask(self, verb: str, *what: Any) -> None:
        self.asked.append((verb, *what))
        if verb in self.refused:
            raise self.refused[verb]

    def _versioned(self, manifest: Manifest) -> Manifest:
        self.version += 1
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}


@contextmanager
def tools_of(cluster: Cluster) -> Iterator[Tools]:
    settings = Settings(trainer_image="t", server_image="s")
    with ThreadPoolExecutor(2) as threads:
        yield Tools(settings, Store(), cast(Api, cluster), cast(Pods, cluster), threads, lambda: NOW)


TELL = Tell("server-0", "10.0.0.9", DesiredAdapters(), "secret")
EVERYTHING = Plan(
    create=(pod("claim"),),
    apply=(pod("first"), pod("second")),
    patch=(Patch(Child("batch/v1", "Job", "job"), {"spec": {"activeDeadlineSeconds": 5}}),),
    delete=(Child("batch/v1", "Job", "old"),),
    tell=(TELL,),
    status={"phase": "Training"},
    events=(Event("Normal", "Training", "it trains"),),
    delete_parent=True,
)


async def test_a_plan_is_carried_out_in_order() -> None:
    cluster = Cluster()
    with tools_of(cluster) as tools:
        await execute(EVERYTHING, run(), tools=tools)

    assert cluster.asked == [
        ("create", "claim"),
        ("apply", "first"),
        ("apply", "second"),
        ("patch", "job", {"spec": {"activeDeadlineSeconds": 5}}),
        ("delete", "old", None),
        ("tell", "server-0"),
        ("patch status", "dates", {"status": {"phase": "Training"}}),
        ("event", "dates", "Training", "2026-11-21T12:00:00.250000Z"),
        ("delete", "dates", "uid-of-dates"),
    ]


async def test_what_was_written_is_known_at_once() -> None:
    with tools_of(Cluster()) as tools:
        await execute(EVERYTHING, run(), tools=tools)

        written = tools.store.get(key())
        assert written is not None
        assert written["status"] == {"phase": "Training"}
        assert {child["metadata"]["name"] for child in tools.store.children(key())} == {"claim", "first", "second"}


async def test_an_empty_plan_asks_for_nothing() -> None:
    cluster = Cluster()
    with tools_of(cluster) as tools:
        await execute(Plan(), run(), tools=tools)

    assert cluster.asked == []


async def test_a_status_that_is_so_already_is_not_written() -> None:
    cluster, status = Cluster(), {"phase": "Training", "progress": {"step": 1}}
    with tools_of(cluster) as tools:
        await execute(Plan(status=status), run(status=dict(status)), tools=tools)

    assert cluster.asked == []


async def test_nothing_follows_a_refused_child_but_what_was_written_is_known() -> None:
    cluster = Cluster(refused={"patch": Refused(422, "Invalid", "immutable")})
    with tools_of(cluster) as tools:
        with pytest.raises(ChildRefused, match="immutable"):
            await execute(EVERYTHING, run(), tools=tools)

        assert [asked[0] for asked in cluster.asked] == ["create", "apply", "apply", "patch"]
        assert len(tools.store.children(key())) == 3


async def test_an_event_that_cannot_be_told_is_no_failure() -> None:
    cluster = Cluster(refused={"event": Refused(403, "Forbidden", "terminating")})
    with tools_of(cluster) as tools:
        await execute(EVERYTHING, run(), tools=tools)

    assert cluster.asked[-1][0] == "delete"


def kind_of(plan: Plan, heard: list[Refused | None]) -> Kind:
    async def decide(_: Manifest, refusal: Refused | None) -> Plan:
        heard.append(refusal)
        return Plan(status={"phase": "Failed"}, recheck_seconds=30) if refusal else plan

    return Kind("TrainingRun", decide)


async def test_a_refused_child_is_planned_for_again() -> None:
    refusal = Refused(403, "Forbidden", "exceeded quota")
    cluster, heard = Cluster(refused={"apply": refusal}), list[Refused | None]()
    with tools_of(cluster) as tools:
        tools.store.put(run())
        kinds = {"TrainingRun": kind_of(Plan(apply=(pod(),)), heard)}
        delay = await Reconciler(tools=tools, kinds=kinds, metrics=Metrics())(key())

    assert heard == [None, refusal]
    assert delay == 30
    assert cluster.asked[-1] == ("patch status", "dates", {"status": {"phase": "Failed"}})


@pytest.mark.parametrize(
    "deleted", [pytest.param(None, id="is gone"), pytest.param({"deletionTimestamp": "now"}, id="is being deleted")]
)
async def test_what_goes_is_left_to_the_garbage_collector(deleted: dict[str, str] | None) -> None:
    cluster, heard = Cluster(), list[Refused | None]()
    with tools_of(cluster) as tools:
        if deleted:
            tools.store.put({**run(), "metadata": {**run()["metadata"], **deleted}})
        reconciler = Reconciler(tools=tools, kinds={"TrainingRun": kind_of(EVERYTHING, heard)}, metrics=Metrics())

        assert await reconciler(key()) is None

    assert heard == []


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, {}, id="equal"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="another value"),
        pytest.param({"a": 1, "b": 2}, {"b": 2}, {"a": None}, id="a value less"),
        pytest.param({}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="an object more"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, {"a": {"b": 3}}, id="within an object"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, {"a": [1]}, id="lists are replaced"),
        pytest.param({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}, id="another type"),
        pytest.param({"a": 3.0}, {"a": 3}, {}, id="the same number"),
    ],
)
def test_a_merge_patch_holds_the_difference_only(old: Manifest, new: Manifest, patch: Manifest) -> None:
    assert merge_patch(old, new) == patch
