"""The way from watches, agents and the Secret to a plan: the real store, with stand-ins for the API server and pods."""

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from tests.unit.adapter_deployment.builders import (
    NOW,
    SETTINGS,
    TOKEN,
    accepted,
    adapter_report,
    deployment,
    digest,
    pod,
    report,
    run,
)

from posttrain_api import labels
from posttrain_api.server_contract import AgentReport
from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.adapter_deployment import handler
from posttrain_operator.kind import Tools
from posttrain_operator.kube import Api, Refused
from posttrain_operator.pods import Pods
from posttrain_operator.store import Key, Store

OWNED = {labels.ADAPTER_DEPLOYMENT: "assistants", labels.MANAGED_BY: labels.MANAGER}


@dataclass
class Cluster:
    """Stands in for the API server and for agents."""

    secrets: dict[Key, Manifest] = field(default_factory=dict)
    reports: dict[str, AgentReport] = field(default_factory=dict)
    asked: list[Key] = field(default_factory=list)
    store: Store = field(default_factory=Store)
    now: datetime = NOW

    def get(self, key: Key) -> Manifest | None:
        """A Secret."""
        self.asked.append(key)
        return self.secrets.get(key)

    async def agent_report(self, address: str) -> AgentReport | None:
        """What the agent at an address says."""
        return self.reports.get(address)

    def see(self, manifest: Manifest, *, kind: str, version: int = 1, **metadata: Any) -> None:
        """The watches tell of an object."""
        merged = {"namespace": "team", "uid": kind, "resourceVersion": str(version), **manifest["metadata"], **metadata}
        self.store.put({**manifest, "kind": kind, "metadata": merged})

    def keep(self, plan: Plan) -> None:
        """What a plan makes is there."""
        for child in plan.apply:
            self.see(child, kind=child["kind"])
        for secret in plan.create:
            token = base64.b64encode(secret["stringData"]["token"].encode()).decode()
            self.secrets[Key("Secret", "team", secret["metadata"]["name"])] = {"data": {"token": token}}


def tools(cluster: Cluster, threads: ThreadPoolExecutor) -> Tools:
    """What the core gives to the kind."""
    return Tools(
        settings=SETTINGS,
        store=cluster.store,
        api=cast(Api, cluster),
        pods=cast(Pods, cluster),
        threads=threads,
        clock=lambda: cluster.now,
    )


def manifest(**spec: Any) -> Manifest:
    """The deployment as the API server shows it."""
    return {**deployment("support", **spec).to_json(), "kind": "AdapterDeployment"}


async def test_from_nothing_to_ready() -> None:
    cluster = Cluster()
    cluster.see(accepted("support", "b"), kind="TrainingRun")
    with ThreadPoolExecutor(1) as threads:
        kind = handler.kind(tools(cluster, threads))
        first = await kind.decide(manifest(), None)
        cluster.keep(first)
        template = first.apply[-1]["metadata"]["annotations"][labels.TEMPLATE_DIGEST]
        cluster.see(pod("pod-1", template=template), kind="Pod", labels=OWNED)
        cluster.reports["10.0.0.1"] = report(digest("7"))
        second = await kind.decide(manifest(), None)
        (tell,) = second.tell
        cluster.reports["10.0.0.1"] = report(tell.desired, adapter_report("support", "b"))
        third = await kind.decide(manifest(), None)

    assert [child["kind"] for child in first.apply] == ["ConfigMap", "NetworkPolicy", "Service", "Deployment"]
    assert (second.apply, tell.address, tell.desired.adapters[0].digest) == ((), "10.0.0.1", digest("b"))
    assert tell.token == first.create[0]["stringData"]["token"] != TOKEN
    assert third.status
    assert (third.apply, third.tell, third.status["phase"]) == ((), (), "Ready")


async def test_a_token_is_read_once_while_all_is_well() -> None:
    cluster = Cluster()
    with ThreadPoolExecutor(1) as threads:
        kind = handler.kind(tools(cluster, threads))
        for _ in range(3):
            cluster.keep(await kind.decide(manifest(), None))
            cluster.now += timedelta(minutes=1)

    assert len(cluster.asked) == 2


async def test_a_lost_secret_is_made_anew_for_a_pod_that_waits_for_it() -> None:
    cluster = Cluster()
    with ThreadPoolExecutor(1) as threads:
        kind = handler.kind(tools(cluster, threads))
        cluster.keep(await kind.decide(manifest(), None))
        await kind.decide(manifest(), None)
        cluster.secrets.clear()
        cluster.see(pod("pod-1", template=digest("1"), ready=False), kind="Pod", labels=OWNED)
        at_once = await kind.decide(manifest(), None)
        cluster.now += timedelta(seconds=30)
        later = await kind.decide(manifest(), None)

    assert (len(at_once.create), len(later.create)) == (0, 1)


async def test_a_spec_that_cannot_be_read_is_said_and_nothing_is_touched() -> None:
    broken = manifest()
    broken["spec"]["replicas"] = -1
    with ThreadPoolExecutor(1) as threads:
        plan = await handler.kind(tools(Cluster(), threads)).decide(broken, None)

    assert plan.status
    assert (plan.create, plan.apply, plan.status["phase"]) == ((), (), "Failed")
    assert [(found["type"], found["status"], found["reason"]) for found in plan.status["conditions"]] == [
        ("Ready", "False", "InvalidSpec"),
        ("Stalled", "True", "InvalidSpec"),
    ]
    assert plan.status["conditions"][0]["message"].startswith("spec.replicas: ")


async def test_a_status_of_another_version_is_no_fault_of_the_user() -> None:
    other = {**manifest(), "status": {"observedGeneration": 1, "unheardOf": True}}
    with ThreadPoolExecutor(1) as threads:
        plan = await handler.kind(tools(Cluster(), threads)).decide(other, None)

    assert plan.status
    assert plan.status["phase"] == "Starting"


async def test_what_the_api_server_refuses_is_said() -> None:
    with ThreadPoolExecutor(1) as threads:
        plan = await handler.kind(tools(Cluster(), threads)).decide(
            manifest(), Refused(422, "Invalid", "no such volume")
        )

    assert plan.status
    assert (plan.apply, plan.status["conditions"][-1]["type"]) == ((), "Stalled")
    assert plan.status["conditions"][-1]["message"] == "the API server refuses a child: no such volume"


def test_the_runs_that_it_follows_wake_it() -> None:
    with ThreadPoolExecutor(1) as threads:
        kind = handler.kind(tools(Cluster(), threads))
        adapters = [{"fromRun": "text"}, "text", {}]
        broken = {"metadata": {"namespace": "team"}, "spec": {"baseModel": "text", "adapters": adapters}}
        both = manifest(baseModel={"fromRun": {"name": "sft", "checkpoint": "best"}})

        assert kind.references(manifest()) == [Key("TrainingRun", "team", "support")]
        assert kind.references(both) == [Key("TrainingRun", "team", "sft"), Key("TrainingRun", "team", "support")]
        assert kind.references(broken) == []


async def test_a_run_that_is_not_accepted_is_waited_for() -> None:
    cluster = Cluster()
    cluster.see(run("support"), kind="TrainingRun")
    with ThreadPoolExecutor(1) as threads:
        plan = await handler.kind(tools(cluster, threads)).decide(manifest(), None)

    assert plan.status
    assert plan.status["adapters"][0]["message"] == "TrainingRun support is not accepted yet: Training"


async def test_a_base_is_merged_once_and_taken_from_the_runs_status() -> None:
    cluster, merging = Cluster(), manifest(baseModel={"fromRun": {"name": "sft"}}, adapters=[])
    cluster.see(accepted("sft", "a"), kind="TrainingRun", uid="uid-of-sft")
    with ThreadPoolExecutor(1) as threads:
        kind = handler.kind(tools(cluster, threads))
        first = await kind.decide(merging, None)
        cluster.see(first.create[-1], kind="Job", creationTimestamp=NOW.isoformat())
        second = await kind.decide(merging, None)
        merged = {"artifactDigest": digest("a"), "uri": "pvc://posttrain-artifacts/base", "digest": digest("1")}
        cluster.see(accepted("sft", "a", mergedBases=[merged]), kind="TrainingRun", version=2, uid="uid-of-sft")
        third = await kind.decide(merging, None)

    assert [child["kind"] for child in first.create] == ["Secret", "Job"]
    assert [child["kind"] for child in second.create] == ["Secret"]
    assert [child["kind"] for child in third.apply][-1] == "Deployment"
