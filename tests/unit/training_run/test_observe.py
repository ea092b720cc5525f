"""What of the watches is a run's own: by owner, not by label."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.unit.training_run.builders import NOW, SETTINGS, UID, container, run, trainer_status

from posttrain_api import labels
from posttrain_api.trainer_contract import TrainerStatus
from posttrain_operator.actions import Manifest
from posttrain_operator.kind import Tools
from posttrain_operator.kube import Api
from posttrain_operator.pods import Pods
from posttrain_operator.store import Store, key_of
from posttrain_operator.training_run import handler
from posttrain_operator.training_run.observe import Observed, observe


@dataclass
class Trainers:
    """Stands in for trainer pods."""

    asked: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    async def trainer_status(self, uid: str, address: str) -> TrainerStatus:
        """What every trainer says."""
        self.asked.append(f"{uid} {address}")
        return trainer_status(1)

    def forget(self, uids: list[str]) -> None:
        """A pod is over."""
        self.forgotten += uids


def child(kind: str, name: str, *, owner: str, owner_kind: str = "TrainingRun", **more: Any) -> Manifest:
    reference = {"kind": owner_kind, "name": "dates", "uid": owner, "controller": True}
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-of-{name}",
        "resourceVersion": "5",
        "creationTimestamp": "2026-11-21T12:00:00Z",
        "labels": {labels.TRAINING_RUN: "dates"},
        "ownerReferences": [reference],
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def pod(name: str, job: str, **status: Any) -> Manifest:
    return child("Pod", name, owner=f"uid-of-{job}", owner_kind="Job", status=status)


def tools(*seen: Manifest, trainers: Trainers | None = None) -> Tools:
    store = Store()
    for manifest in seen:
        store.put(manifest)
    pods = cast(Pods, trainers or Trainers())
    return Tools(SETTINGS, store, cast(Api, None), pods, cast(ThreadPoolExecutor, None), lambda: NOW)


async def test_a_run_without_children_is_bare() -> None:
    assert await observe(run(), tools=tools()) == Observed()


async def test_children_are_told_by_their_names() -> None:
    seen = [
        child("ConfigMap", "dates-0-recipe", owner=UID, data={}),
        child("NetworkPolicy", "dates-trainer", owner=UID),
        child("Job", "dates-0-preflight", owner=UID),
        child("Job", "dates-0-0", owner=UID),
        pod("dates-0-0-x", "dates-0-0"),
    ]

    found = await observe(run(), tools=tools(*seen))

    assert found.recipe
    assert found.policy
    assert found.preflight.job
    assert found.training.job
    assert found.preflight.pod is None
    assert found.training.pod
    assert found.training.pod["metadata"]["name"] == "dates-0-0-x"
    assert found.leftovers == ()


async def test_a_pod_with_our_labels_that_the_job_does_not_own_is_not_believed() -> None:
    forged = pod("forged", "another-job", **container({"terminated": {"exitCode": 0, "message": "{}"}}))

    found = await observe(run(), tools=tools(child("Job", "dates-0-0", owner=UID), forged))

    assert found.training.pod is None


async def test_what_an_earlier_run_of_the_name_left_is_told_apart() -> None:
    left = child("Job", "dates-0-0", owner="uid-of-an-earlier-run")

    found = await observe(run(), tools=tools(left))

    assert found.training.job is None
    assert [leftover["metadata"]["name"] for leftover in found.leftovers] == ["dates-0-0"]


async def test_the_newest_pod_of_a_job_counts() -> None:
    older, newer = pod("older", "dates-0-0"), pod("newer", "dates-0-0")
    newer["metadata"]["creationTimestamp"] = "2026-11-21T12:00:01Z"

    found = await observe(run(), tools=tools(child("Job", "dates-0-0", owner=UID), newer, older))

    assert found.training.pod
    assert found.training.pod["metadata"]["name"] == "newer"


def merge_job(name: str, *, owner: str) -> Manifest:
    job = child("Job", name, owner=owner)
    job["metadata"]["labels"][labels.COMPONENT] = "merge"
    return job


async def test_merges_are_a_runs_own_with_the_pods_that_they_own() -> None:
    seen = [
        merge_job("dates-merge-1", owner=UID),
        merge_job("dates-merge-2", owner="uid-of-an-earlier-run"),
        child("Job", "dates-0-0", owner=UID),
        pod("made-by-it", "dates-merge-1"),
        pod("forged", "another-job"),
    ]

    found = await observe(run(), tools=tools(*seen))

    (name,) = found.merges
    assert name == "dates-merge-1"
    made = found.merges[name].pod
    assert made
    assert made["metadata"]["name"] == "made-by-it"


def named(name: str, **status: Any) -> Manifest:
    """Another run, with this status."""
    metadata = {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "resourceVersion": "1", "generation": 1}
    return {**run(), "metadata": metadata, "status": status}


def reconciling(reason: str) -> Manifest:
    return {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": ""}]}


@pytest.mark.parametrize(
    ("status", "is_awaited"),
    [
        pytest.param({}, True, id="new"),
        pytest.param(reconciling("WaitingForRun"), True, id="waiting"),
        pytest.param(reconciling("Merging"), True, id="merging"),
        pytest.param(reconciling("Training"), False, id="it has what it needs"),
        pytest.param(reconciling("ReferenceCycle"), False, id="it will not begin"),
        pytest.param({**reconciling("WaitingForRun"), "finishedAt": "2026-11-21T12:00:00Z"}, False, id="finished"),
    ],
)
async def test_a_run_is_awaited_by_what_has_not_got_its_result_yet(status: Manifest, is_awaited: bool) -> None:
    follower = named("dpo", **status)
    given = tools(follower)
    given.store.follow(key_of(follower), [key_of(run())])

    assert (await observe(run(), tools=given)).is_awaited is is_awaited


def deployment(*, base: str = "", reason: str, adapter: Manifest | None = None) -> Manifest:
    """A deployment of the adapter of dates, or with it as its base, whose condition Resolved has this reason."""
    resolved = {"type": "Resolved", "status": "False" if reason else "True", "reason": reason, "message": ""}
    metadata = {"name": "assistants", "namespace": "team", "uid": "uid-of-assistants", "resourceVersion": "1"}
    model = {"fromRun": {"name": base}} if base else {"uri": "pvc://models/tiny"}
    adapters = [{"name": "a", "fromRun": {"name": "dates"}}] if adapter is not None else []
    status = {"conditions": [resolved], "adapters": [{"name": "a", **adapter}] if adapter else []}
    spec = {"baseModel": model, "adapters": adapters}
    return {"kind": "AdapterDeployment", "metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("follower", "is_awaited"),
    [
        pytest.param(deployment(base="dates", reason="WaitingForRun"), True, id="its base, before it was accepted"),
        pytest.param(deployment(base="dates", reason="MergeFailed"), False, id="its base, which cannot be merged"),
        pytest.param(deployment(base="dates", reason=""), False, id="its base, resolved"),
        pytest.param(deployment(base="other", reason="WaitingForRun"), False, id="another base"),
        pytest.param(deployment(reason="WaitingForRun", adapter={}), True, id="an adapter that is new"),
        pytest.param(
            deployment(reason="WaitingForRun", adapter={"reason": "WaitingForRun"}), True, id="an adapter that waits"
        ),
        pytest.param(
            deployment(reason="WaitingForRun", adapter={"digest": "sha256:1", "reason": "Loading"}),
            False,
            id="an adapter that is known, beside another that waits",
        ),
        pytest.param(deployment(reason="", adapter={"digest": "sha256:1"}), False, id="an adapter that is loaded"),
    ],
)
async def test_a_deployment_awaits_a_run_until_it_has_its_digest(follower: Manifest, is_awaited: bool) -> None:
    given = tools(follower)
    given.store.follow(key_of(follower), [key_of(run())])

    assert (await observe(run(), tools=given)).is_awaited is is_awaited


async def test_a_run_that_is_being_deleted_is_gone_for_those_that_name_it() -> None:
    parent = named("sft")
    parent["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    follower = run(baseModel={"fromRun": {"name": "sft"}})

    assert (await observe(follower, tools=tools(parent))).upstream == {}
    assert list((await observe(follower, tools=tools(named("sft")))).upstream) == ["sft"]


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        pytest.param({"podIP": "10.0.0.7", **container({"running": {}})}, ["uid-of-pod 10.0.0.7"], id="running"),
        pytest.param(container({"running": {}}), [], id="without an address"),
        pytest.param({"podIP": "10.0.0.7", **container({"waiting": {}})}, [], id="waiting"),
        pytest.param({"podIP": "10.0.0.7", **container({"terminated": {}})}, [], id="ended"),
    ],
)
async def test_only_a_trainer_that_runs_is_asked(status: Manifest, asked: list[str]) -> None:
    trainers = Trainers()

    await observe(
        run(), tools=tools(child("Job", "dates-0-0", owner=UID), pod("pod", "dates-0-0", **status), trainers=trainers)
    )

    assert trainers.asked == asked
    assert trainers.forgotten == ([] if asked else ["uid-of-pod"])


async def test_the_kind_decides_from_what_is_seen() -> None:
    plan = await handler.kind(tools()).decide(run(), None)

    assert [manifest["kind"] for manifest in plan.apply] == ["ConfigMap", "Job"]
