"""What there is of a run: its children as the watches say, and what its trainer says."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from posttrain_api.trainer_contract import CONTAINER, TrainerStatus
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, KIND
from posttrain_operator import merge
from posttrain_operator.actions import Manifest
from posttrain_operator.kind import Tools
from posttrain_operator.store import Key, key_of
from posttrain_operator.training_run import names, sources
from posttrain_operator.training_run.sources import Upstream

ENDS = frozenset({"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"})
"""Conditions of a Job that is over, or whose controller is ending it."""


@dataclass(frozen=True)
class JobSeen:
    """A Job and its newest pod, as far as they exist."""

    job: Manifest | None = None
    pod: Manifest | None = None

    @property
    def container_status(self) -> dict[str, Any]:
        """What the node says of the trainer container."""
        statuses = (self.pod or {}).get("status", {}).get("containerStatuses") or []
        return next((status for status in statuses if status["name"] == CONTAINER), {})

    @property
    def container_state(self) -> dict[str, Any]:
        """State of the trainer container: waiting, running or terminated."""
        return self.container_status.get("state") or {}

    @property
    def is_running(self) -> bool:
        """The trainer container runs."""
        return "running" in self.container_state

    @property
    def has_ended(self) -> bool:
        """Nothing of it will run any more."""
        conditions = ((self.job or {}).get("status") or {}).get("conditions") or []
        is_over = any(found["type"] in ENDS and found["status"] == "True" for found in conditions)
        return self.job is None or is_over or "terminated" in self.container_state


@dataclass(frozen=True)
class Observed:
    """Everything that plan() may know of the cluster; recipe and Jobs are those of the present round."""

    recipe: Manifest | None = None
    policy: Manifest | None = None
    preflight: JobSeen = JobSeen()
    training: JobSeen = JobSeen()
    trainer: TrainerStatus | None = None
    """What the trainer said last, while it runs."""
    has_default_claim: bool = False
    upstream: Upstream = field(default_factory=Upstream)
    merges: tuple[JobSeen, ...] = ()
    """The Jobs that merge this run's own adapters into their base."""
    leftovers: tuple[Manifest, ...] = ()
    """Objects of an earlier run of the same name, which the garbage collector has not reached yet."""


async def observe(run: Manifest, *, tools: Tools) -> Observed:
    """Gather what there is of a run."""
    metadata = run["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    children = tools.store.children(key_of(run))
    own = {(child["kind"], child["metadata"]["name"]): child for child in children if _owner(child) == metadata["uid"]}
    round = (run.get("status") or {}).get("round", 0)
    training = _job_seen(own.get(("Job", names.training(name, round))), children)
    return Observed(
        recipe=own.get(("ConfigMap", names.recipe(name, round))),
        policy=own.get(("NetworkPolicy", names.policy(name))),
        preflight=_job_seen(own.get(("Job", names.preflight(name, round))), children),
        training=training,
        trainer=await _trainer(training, tools=tools),
        has_default_claim=tools.store.get(Key("PersistentVolumeClaim", namespace, DEFAULT_CLAIM)) is not None,
        upstream=_upstream(run, tools=tools),
        merges=tuple(_job_seen(child, children) for child in own.values() if merge.is_merge(child)),
        leftovers=tuple(child for child in children if _is_leftover(child, uid=metadata["uid"])),
    )


def references(run: Manifest) -> Iterable[Key]:
    """The runs that this one names, while it may still wait for them."""
    if "finishedAt" in (run.get("status") or {}):
        return ()
    namespace = run["metadata"]["namespace"]
    return [Key(KIND, namespace, reference.name) for reference in sources.references(run["spec"])]


def _upstream(run: Manifest, *, tools: Tools) -> Upstream:
    """The runs that a run names, those that they wait for, and so on."""
    found: dict[str, Manifest] = {}
    wanted = list(references(run))
    while wanted:
        key = wanted.pop()
        named = None if key.name in found else tools.store.get(key)
        if named and "deletionTimestamp" not in named["metadata"]:
            found[key.name] = named
            wanted += references(named)
    children = (child for key in references(run) for child in tools.store.children(key))
    return Upstream(found, frozenset(child["metadata"]["name"] for child in children if merge.is_merge(child)))


def _controller(child: Manifest) -> dict[str, Any]:
    references = child["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), {})


def _owner(child: Manifest) -> str | None:
    uid: str | None = _controller(child).get("uid")
    return uid


def _is_leftover(child: Manifest, *, uid: str) -> bool:
    controller = _controller(child)
    return controller.get("kind") == KIND and controller["uid"] != uid


def _job_seen(job: Manifest | None, children: Iterable[Manifest]) -> JobSeen:
    """The Job with the pod that it owns: a label alone could be anybody's."""
    if job is None:
        return JobSeen()
    pods = [child for child in children if child["kind"] == "Pod" and _owner(child) == job["metadata"]["uid"]]
    return JobSeen(job, max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None))


async def _trainer(training: JobSeen, *, tools: Tools) -> TrainerStatus | None:
    if training.pod is None:
        return None
    uid, address = training.pod["metadata"]["uid"], training.pod["status"].get("podIP")
    if training.is_running and address:
        return await tools.pods.trainer_status(uid, address)
    tools.pods.forget([uid])
    return None
