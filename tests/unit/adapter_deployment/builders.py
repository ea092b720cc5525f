"""Objects for the tests of AdapterDeployment, and a small world that keeps what a plan has written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from posttrain_api import labels
from posttrain_api.server_contract import AdapterReport, AgentReport, DesiredAdapters, EngineReport
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_operator import followed_run
from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.adapter_deployment import resources
from posttrain_operator.adapter_deployment.base import Base
from posttrain_operator.adapter_deployment.plan import Observed, plan
from posttrain_operator.adapter_deployment.replicas import Replica, Trouble
from posttrain_operator.settings import Settings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STARTED = NOW - timedelta(minutes=2)
PROVEN = NOW - timedelta(minutes=1)
SETTINGS = Settings(trainer_image="trainer:1", server_image="server:1")
BASE = Base(uri="pvc://models/qwen")
TOKEN = "token-of-the-agents"

Change = Callable[["World"], object]
"""Makes something else true of a world."""


def digest(character: str) -> str:
    """A digest that is easy to tell from others."""
    return "sha256:" + character * 64


def deployment(*followed: str, **spec: Any) -> AdapterDeployment:
    """A deployment whose adapters are called after the runs that they follow."""
    given = {
        "baseModel": {"uri": "pvc://models/qwen"},
        "adapters": [{"name": name, "fromRun": {"name": name}} for name in followed],
        **spec,
    }
    metadata = {"name": "assistants", "namespace": "team", "uid": "uid-1", "generation": 1}
    return AdapterDeployment.model_validate({"metadata": metadata, "spec": given})


def condition(type_: str, status: str = "True", *, reason: str = "Because", message: str = "so") -> Manifest:
    """A condition in an object's JSON."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": STARTED.isoformat(),
    }


def run(name: str, *, phase: str = "Training", output: str = "pvc://posttrain-artifacts") -> Manifest:
    """A TrainingRun without a result."""
    spec = {
        "method": "sft",
        "baseModel": {"uri": "pvc://models/qwen"},
        "environment": {"dataset": {"uri": "pvc://data/rows.jsonl"}},
        "output": {"uri": output},
        "resources": {"gpus": 1, "memory": "8Gi"},
    }
    metadata = {"name": name, "namespace": "team", "uid": f"uid-of-{name}"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


def accepted(
    name: str, character: str, *, output: str = "pvc://posttrain-artifacts", kind: str = "lora", **status: Any
) -> Manifest:
    """A TrainingRun with an accepted result of this digest."""
    artifact = {
        "uri": f"{output}/{name}/sha256-{character * 64}",
        "digest": digest(character),
        "weightsDigest": digest("0"),
        "sizeBytes": 1,
        "kind": kind,
        "rank": 16,
        "targetModules": ["q_proj"],
        "base": {"uri": "pvc://models/qwen", "digest": digest("9")},
    }
    found = {"phase": "Succeeded", "conditions": [condition("Accepted")], "artifact": artifact, **status}
    return {**run(name, output=output), "status": found}


def failed(name: str) -> Manifest:
    """A TrainingRun that ended without a result."""
    stalled = condition("Stalled", reason="OutOfMemory", message="the trainer needed more memory")
    conditions = [condition("Accepted", "False"), stalled]
    return {**run(name), "status": {"phase": "Failed", "conditions": conditions, "finishedAt": NOW.isoformat()}}


def engine(*, ready: bool = True, restarts: int = 0, started: datetime = STARTED, **more: Any) -> Manifest:
    """The status of an engine container."""
    running = {"running": {"startedAt": started.isoformat()}}
    return {"name": "engine", "image": "server:1", "ready": ready, "restartCount": restarts, "state": running, **more}


def pod(
    name: str,
    *,
    template: str | None,
    ready: bool = True,
    phase: str = "Running",
    containers: Iterable[Manifest] | None = None,
    conditions: Iterable[Manifest] = (),
    deleted: bool = False,
) -> Manifest:
    """A server pod as the API server shows it."""
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "creationTimestamp": STARTED.isoformat(),
        "annotations": {labels.TEMPLATE_DIGEST: template},
        **({"deletionTimestamp": NOW.isoformat()} if deleted else {}),
    }
    status = {
        "phase": phase,
        "podIP": "10.0.0." + name.removeprefix("pod-"),
        "conditions": [condition("Ready", "True" if ready else "False"), *conditions],
        "containerStatuses": list(containers if containers is not None else [engine(ready=ready)]),
    }
    return {"kind": "Pod", "metadata": metadata, "status": status}


def adapter_report(
    name: str, character: str, *, state: str = "Loaded", serving: str | None = "same", **more: Any
) -> AdapterReport:
    """What an agent says of one adapter; `serving` is the digest's character."""
    serving = character if serving == "same" else serving
    given = {
        "name": name,
        "digest": digest(character),
        "state": state,
        "servingDigest": digest(serving) if serving else None,
        "provenAt": PROVEN if serving else None,
        **more,
    }
    return AdapterReport.model_validate(given)


def report(desired: DesiredAdapters | str, *entries: AdapterReport, state: str = "Healthy") -> AgentReport:
    """What an agent says of a pod that works on this list."""
    about = desired if isinstance(desired, str) else desired.digest
    return AgentReport(
        desired_digest=about, engine=EngineReport.model_validate({"state": state}), adapters=list(entries)
    )


def made(job: Manifest) -> Manifest:
    """A Job as the API server shows it."""
    metadata = {**job["metadata"], "uid": f"uid-of-{job['metadata']['name']}", "creationTimestamp": NOW.isoformat()}
    return {**job, "metadata": metadata}


@dataclass
class World:
    """An AdapterDeployment and what is around it. A reconcile writes into it as the API server would."""

    parent: AdapterDeployment
    runs: list[Manifest] = field(default_factory=list)
    jobs: list[Manifest] = field(default_factory=list)
    """Children of the runs."""
    replicas: list[Replica] = field(default_factory=list)
    children: dict[str, Manifest] = field(default_factory=dict)
    token: str | None = None
    status: Manifest = field(default_factory=dict)
    refusal: Trouble | None = None
    now: datetime = NOW

    def observed(self) -> Observed:
        """What observe() would find."""
        followed = (run for body in self.runs if (run := followed_run.seen(body, self.jobs)))
        return Observed(
            status=self.status,
            deployment=self.children.get("Deployment"),
            service=self.children.get("Service"),
            config_map=self.children.get("ConfigMap"),
            network_policy=self.children.get("NetworkPolicy"),
            replicas=tuple(self.replicas),
            runs={run.name: run for run in followed},
            token=self.token,
            spare_token=TOKEN,
            refusal=self.refusal,
        )

    def reconcile(self) -> Plan:
        """Plan, and keep what was planned."""
        decided = plan(self.parent, observed=self.observed(), settings=SETTINGS, now=self.now)
        self.children |= {child["kind"]: child for child in decided.apply}
        self.jobs += [made(child) for child in decided.create if child["kind"] == "Job"]
        self.token = TOKEN if decided.create else self.token
        self.status = self.status if decided.status is None else decided.status
        return decided

    @property
    def template(self) -> str | None:
        """Digest of the current pod template."""
        return resources.template_digest(self.children["Deployment"])

    @property
    def desired(self) -> DesiredAdapters:
        """The list as it was written last."""
        return DesiredAdapters.model_validate_json(self.children["ConfigMap"]["data"]["adapters.json"])

    def condition(self, type_: str) -> Manifest | None:
        """One condition of the status."""
        return next((found for found in self.status["conditions"] if found["type"] == type_), None)

    def adapter(self, name: str) -> Manifest:
        """What the status says of one adapter."""
        return next(found for found in self.status["adapters"] if found["name"] == name)

    def serves(self, *names: str, **adapters_by_name: str) -> "World":
        """Pods of the current template that proved everything: adapter name -> digest's character."""
        entries = [adapter_report(name, character) for name, character in adapters_by_name.items()]
        self.replicas = [Replica(pod(name, template=self.template), report(self.desired, *entries)) for name in names]
        return self

    def with_spec(self, **changes: Any) -> "World":
        """The user changes the spec."""
        spec = {**self.parent.spec.to_json(), **changes}
        generation = self.parent.metadata.generation + 1
        metadata = {**self.parent.metadata.to_json(), "generation": generation}
        self.parent = AdapterDeployment.model_validate({"metadata": metadata, "spec": spec})
        return self


def ready_world(*, replicas: int = 2) -> World:
    """Two adapters of accepted runs, loaded on every replica."""
    runs = [accepted("legal", "a"), accepted("support", "b")]
    world = World(deployment("legal", "support", replicas=replicas), runs=runs)
    world.reconcile()
    world.serves(*(f"pod-{index}" for index in range(1, replicas + 1)), legal="a", support="b")
    world.reconcile()
    assert world.status["phase"] == "Ready", world.status
    return world


def second(world: World, *, legal: str = "a", **more: object) -> None:
    """Something else is true of the second replica."""
    entries = [adapter_report("legal", legal), adapter_report("support", "b")]
    about = more.pop("about", report(world.desired, *entries))
    world.replicas[1] = Replica(pod("pod-2", **{"template": world.template, **more}), about)


def reported(**changes: object) -> Change:
    """The second replica says this of support."""

    def change(world: World) -> None:
        entry = adapter_report("support", "b", **changes)
        second(world, about=report(world.desired, adapter_report("legal", "a"), entry))

    return change
