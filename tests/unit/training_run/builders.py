"""Objects for the tests of TrainingRun, and a small world that keeps what a plan has written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from posttrain_api import trainer_contract
from posttrain_api.trainer_contract import TrainerStatus
from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.jobs import JobSeen
from posttrain_operator.settings import Settings
from posttrain_operator.training_run.observe import Observed
from posttrain_operator.training_run.plan import Refusal, plan

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SETTINGS = Settings(trainer_image="trainer:1", server_image="server:1", operator_namespace="posttrain-system")
UID = "uid-of-the-run"
DIGEST = "sha256:" + "a" * 64

Change = Callable[["World"], object]
"""Makes something else true of a world."""


def run(**spec: Any) -> Manifest:
    """A run as the API server gives it, with the smallest spec."""
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "dates", "namespace": "team", "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "method": "sft",
            "baseModel": {"uri": "pvc://models/tiny"},
            "environment": {"dataset": {"uri": "pvc://data/dates.jsonl"}},
            **spec,
        },
        "status": {"observedGeneration": -1},
    }


def text(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def preflight_report(**changes: Any) -> Manifest:
    """What a preflight finds of good rows."""
    estimate = {
        "rows": 160,
        "trainedTokens": 1000,
        "totalTokens": 2000,
        "totalSteps": 30,
        "trainableParameters": 4096,
        "memoryGib": 0.5,
    }
    mask = "user: one assistant: ⟦1⟧"
    return {"estimate": estimate, "mask": mask, "warnings": ["odd"], "datasetDigest": DIGEST, **changes}


def training_report(**changes: Any) -> Manifest:
    """A complete training of 30 steps."""
    artifact = {
        "uri": "pvc://posttrain-artifacts/dates/sha256-" + "a" * 64,
        "digest": DIGEST,
        "weightsDigest": DIGEST,
        "sizeBytes": 12345,
        "kind": "lora",
        "rank": 16,
        "targetModules": ["q_proj"],
        "base": {"uri": "pvc://models/tiny", "digest": DIGEST},
    }
    return {
        "artifact": artifact,
        "stepsCompleted": 30,
        "stepsPlanned": 30,
        "metrics": {"loss": 0.25, "entropy": None},
        "evaluation": {"before": {"exactMatch": 0.0}, "after": {"exactMatch": 0.98}, "rows": 8},
        "datasetDigest": DIGEST,
        "libraries": {"trl": "1.16.0"},
        **changes,
    }


def trainer_status(step: int, **changes: Any) -> TrainerStatus:
    """What a trainer says at this step of 500."""
    given = {"stage": "Training", "step": step, "total_steps": 500, "eta_seconds": 840.0, "metrics": {"loss": 1.314}}
    return TrainerStatus(**{**given, "updated_at": NOW, **changes})


@dataclass
class World:
    """A run and its children; what plans write is kept, time passes when it is told to."""

    manifest: Manifest = field(default_factory=run)
    observed: Observed = field(default_factory=Observed)
    now: datetime = NOW
    plans: list[Plan] = field(default_factory=list)

    @property
    def status(self) -> Manifest:
        """The run's status."""
        found: Manifest = self.manifest["status"]
        return found

    @property
    def config(self) -> Manifest:
        """The frozen run.json."""
        assert self.observed.recipe is not None
        found: Manifest = json.loads(self.observed.recipe["data"]["run.json"])
        return found

    def step(self, *changes: Change, refusal: Refusal | None = None) -> Plan:
        """Make these changes, plan, and keep what the plan writes."""
        for change in changes:
            change(self)
        made = plan(self.manifest, self.observed, settings=SETTINGS, now=self.now, refusal=refusal)
        self.plans.append(made)
        self._keep(made)
        return made

    def settle(self) -> Plan:
        """Plan until nothing is written any more; the last plan."""
        for _ in range(5):
            before = self.status
            made = self.step()
            if not (made.create or made.apply or made.patch or made.delete) and self.status == before:
                return made
        raise AssertionError("the plans do not come to rest")

    def see(self, **observed: Any) -> None:
        """Something else is observed."""
        self.observed = replace(self.observed, **observed)

    def reason(self) -> str:
        """Why Ready is as it is."""
        return str(self.condition("Ready")["reason"])

    def condition(self, type_: str) -> Manifest:
        """A condition, empty where there is none."""
        return next((found for found in self.status.get("conditions", []) if found["type"] == type_), {})

    def held(self) -> dict[str, str]:
        """Type of each condition -> its status."""
        return {found["type"]: found["status"] for found in self.status["conditions"]}

    def _keep(self, made: Plan) -> None:
        for manifest in (*made.create, *made.apply):
            self._keep_child(manifest)
        for child in made.delete:
            seen = {"dates-0-preflight": "preflight", "dates-0-0": "training"}
            if child.name in seen:
                self.see(**{seen[child.name]: JobSeen()})
        if made.status is not None:
            self.manifest = {**self.manifest, "status": made.status}

    def _keep_child(self, manifest: Manifest) -> None:
        match manifest["kind"], manifest["metadata"].get("labels", {}).get("posttrain.dev/component"):
            case "ConfigMap", _:
                self.see(recipe=manifest)
            case "NetworkPolicy", _:
                self.see(policy=manifest)
            case "PersistentVolumeClaim", _:
                self.see(has_default_claim=True)
            case "Job", "preflight":
                self.see(preflight=self._made(manifest))
            case "Job", "training":
                self.see(training=self._made(manifest))

    def _made(self, job: Manifest) -> JobSeen:
        metadata = {**job["metadata"], "creationTimestamp": text(self.now)}
        return JobSeen({**job, "metadata": metadata, "status": {}})


def at(component: str, **status: Any) -> Change:
    """The Job of this component has a pod with this status, on a node."""

    def change(world: World) -> None:
        seen: JobSeen = getattr(world.observed, component)
        metadata = {"name": "pod", "uid": "uid-of-the-pod", "creationTimestamp": text(world.now)}
        pod = {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node"}, "status": status}
        world.see(**{component: JobSeen(seen.job, pod)})

    return change


def container(state: Manifest) -> Manifest:
    """Status of a pod whose trainer container is in this state."""
    shown = {"name": "trainer", "image": "trainer:1", "imageID": "trainer@sha256:1", "state": state}
    return {"containerStatuses": [shown]}


def runs(component: str) -> Change:
    """The component's container runs."""
    return at(component, phase="Running", podIP="10.0.0.7", **container({"running": {}}))


def waits(component: str, reason: str, message: str = "", *, since: timedelta = timedelta()) -> Change:
    """The component's container waits, on a node since so long."""
    state = container({"waiting": {"reason": reason, "message": message}})
    scheduled = [{"type": "PodScheduled", "status": "True"}]

    def change(world: World) -> None:
        at(component, startTime=text(world.now - since), conditions=scheduled, **state)(world)

    return change


def ends(component: str, *, message: str = "", exit_code: int = 0, reason: str = "", **status: Any) -> Change:
    """The component's container has ended with these words."""

    def change(world: World) -> None:
        ended = {"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": text(world.now)}
        at(component, **container({"terminated": ended}), **status)(world)

    return change


def reports(component: str, *, exit_code: int = 0, uid: str = UID, **content: Any) -> Change:
    """The component's container has ended with this report, of this run's recipe."""

    def change(world: World) -> None:
        digest = trainer_contract.recipe_digest(world.config)
        words = json.dumps({"uid": uid, "recipeDigest": digest, **content})
        ends(component, message=words, exit_code=exit_code)(world)

    return change


def says(status: TrainerStatus | None) -> Change:
    """The trainer's last words while it runs."""
    return lambda world: world.see(trainer=status)


def job_is(component: str, **status: Any) -> Change:
    """The Job of this component has this status, its pod is as it was."""

    def change(world: World) -> None:
        seen: JobSeen = getattr(world.observed, component)
        assert seen.job is not None
        world.see(**{component: JobSeen({**seen.job, "status": status}, seen.pod)})

    return change


def job_condition(type_: str, reason: str = "", message: str = "") -> Manifest:
    """Status of a Job with one condition."""
    return {"conditions": [{"type": type_, "status": "True", "reason": reason, "message": message}]}


def pass_time(duration: timedelta) -> Change:
    """Time passes."""

    def change(world: World) -> None:
        world.now += duration

    return change


def in_sequence(*changes: Change) -> Change:
    """All of these changes, one after another."""

    def change(world: World) -> None:
        for one in changes:
            one(world)

    return change


def of_pod(component: str, **metadata: str) -> Change:
    """The metadata of the component's pod say this too."""

    def change(world: World) -> None:
        seen: JobSeen = getattr(world.observed, component)
        assert seen.pod is not None
        pod = {**seen.pod, "metadata": {**seen.pod["metadata"], **metadata}}
        world.see(**{component: JobSeen(seen.job, pod)})

    return change


def children(plan: Plan) -> list[tuple[str, str]]:
    """Kind and name of what a plan makes, in order."""
    return [(child["kind"], child["metadata"]["name"]) for child in (*plan.create, *plan.apply)]


def in_training(**spec: Any) -> World:
    """A run whose training Job was made."""
    world = World(run(preflight="Skip", **spec))
    world.step()
    return world


def in_preflight(**spec: Any) -> World:
    """A run whose preflight Job was made."""
    world = World(run(**spec))
    world.step()
    return world
