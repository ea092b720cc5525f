"""What is said of an AdapterDeployment: its conditions, and all else derived from them and from the pods. Pure."""

from collections.abc import Iterable
from datetime import datetime

from posttrain_api.conditions import Condition, Reason, carry_times, condition
from posttrain_api.v1alpha1.adapter_deployment import (
    AdapterDeployment,
    AdapterDeploymentStatus,
    DeploymentDisplay,
    PodAdapter,
    PodStatus,
)
from posttrain_operator.actions import Event
from posttrain_operator.adapter_deployment import names, runs, verdicts
from posttrain_operator.adapter_deployment.replicas import Replica
from posttrain_operator.adapter_deployment.verdicts import Facts
from posttrain_operator.settings import Settings

MAX_PODS = 32
_PHASES = {
    Reason.READY: "Ready",
    Reason.SCALED_TO_ZERO: "Stopped",
    Reason.LOADING: "Loading",
    Reason.WAITING_FOR_RUN: "Pending",
    Reason.RUN_NOT_FOUND: "Pending",
    Reason.MERGING: "Pending",
    Reason.UNSCHEDULABLE: "Pending",
}
_GOING_WELL = frozenset(
    {
        Reason.READY,
        Reason.SCALED_TO_ZERO,
        Reason.LOADING,
        Reason.WAITING_FOR_RUN,
        Reason.MERGING,
        Reason.STARTING,
        Reason.PENDING,
    }
)


def phase(found: Iterable[Condition]) -> str:
    """The conditions as one word for people."""
    by_type = {condition.type: condition for condition in found}
    if "Stalled" in by_type:
        return "Failed"
    return _PHASES.get(Reason(by_type["Ready"].reason), "Starting")


def observed(
    parent: AdapterDeployment, facts: Facts, *, before: AdapterDeploymentStatus, settings: Settings, now: datetime
) -> AdapterDeploymentStatus:
    """The whole status."""
    name, namespace, fleet = parent.metadata.name, parent.metadata.namespace, facts.fleet
    new = verdicts.conditions(facts, generation=parent.metadata.generation, now=now.replace(microsecond=0))
    found = carry_times(new, before.conditions)
    return AdapterDeploymentStatus(
        observed_generation=parent.metadata.generation,
        phase=phase(found),
        conditions=found,
        url=f"http://{name}.{namespace}.svc.{settings.cluster_domain}/v1",
        selector=",".join(f"{key}={value}" for key, value in sorted(names.pod_labels(name).items())),
        display=_display(parent, facts),
        replicas=len(fleet.live),
        ready_replicas=facts.num_ready,
        adapters=list(facts.adapters),
        pods=_pods(fleet.live[:MAX_PODS], before.pods),
    )


def _display(parent: AdapterDeployment, facts: Facts) -> DeploymentDisplay:
    whole, base = verdicts.ready(facts), parent.spec.base_model
    return DeploymentDisplay(
        base=f"run:{runs.text(base.from_run)}" if base.from_run else base.location,
        adapters=f"{len(facts.in_state('Loaded'))}/{len(facts.adapters)}",
        replicas=f"{facts.num_ready}/{facts.fleet.total}",
        ready=str(whole.holds),
        reason="" if whole.holds else whole.reason.value,
    )


def _pods(replicas: Iterable[Replica], before: Iterable[PodStatus]) -> list[PodStatus]:
    """What each pod proved. A proof that is repeated by the same engine keeps its first time: it is no news."""
    old = {(pod.uid, pod.restart_count): pod for pod in before}
    return [_pod(replica, old.get((replica.uid, replica.restart_count))) for replica in replicas]


def _pod(replica: Replica, before: PodStatus | None) -> PodStatus:
    times = {(adapter.name, adapter.digest): adapter.proven_at for adapter in before.adapters} if before else {}
    proven = [
        PodAdapter(name=proof.name, digest=digest, proven_at=times.get((proof.name, digest), at))
        for proof in replica.proofs()
        if (digest := proof.serving_digest) and (at := proof.proven_at)
    ]
    return PodStatus(name=replica.name, uid=replica.uid, restart_count=replica.restart_count, adapters=proven)


def invalid(
    generation: int, message: str, *, before: AdapterDeploymentStatus, now: datetime
) -> AdapterDeploymentStatus:
    """The status of an object whose spec this operator cannot read; what was made from an earlier one is left alone."""
    now = now.replace(microsecond=0)
    found = [
        condition("Ready", False, Reason.INVALID_SPEC, message, generation=generation, now=now),
        condition("Stalled", True, Reason.INVALID_SPEC, message, generation=generation, now=now),
    ]
    return AdapterDeploymentStatus(
        observed_generation=generation,
        phase="Failed",
        conditions=carry_times(found, before.conditions),
        display=DeploymentDisplay(ready="False", reason=Reason.INVALID_SPEC.value),
    )


def events(new: AdapterDeploymentStatus, *, before: AdapterDeploymentStatus) -> tuple[Event, ...]:
    """What `kubectl describe` tells: each change of Ready, or of the reason why it is not."""
    is_, was = _ready_of(new), _ready_of(before)
    if is_ is None or (was and (was.status, was.reason) == (is_.status, is_.reason)):
        return ()
    return (Event("Normal" if is_.reason in _GOING_WELL else "Warning", is_.reason, is_.message),)


def _ready_of(status: AdapterDeploymentStatus) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == "Ready"), None)
