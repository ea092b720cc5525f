"""What is said of an AdapterDeployment: conditions from what was observed, the rest from the conditions. Pure.

`Ready` is never true because something was so a moment ago: each reconcile derives it anew from the pods as they are
and from what their agents answered in this very reconcile.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from posttrain_api.conditions import Condition, Reason, carry_times, condition
from posttrain_api.v1alpha1.adapter_deployment import (
    AdapterDeployment,
    AdapterDeploymentStatus,
    AdapterStatus,
    DeploymentDisplay,
    PodAdapter,
    PodStatus,
)
from posttrain_operator.actions import Event
from posttrain_operator.adapter_deployment import names, runs
from posttrain_operator.adapter_deployment.replicas import Fleet, Replica, Trouble
from posttrain_operator.followed_run import Missing
from posttrain_operator.settings import Settings

MAX_PODS = 32
_INCOMPATIBLE = frozenset(
    {
        Reason.ADAPTER_NOT_FOUND,
        Reason.DIGEST_MISMATCH,
        Reason.BASE_MISMATCH,
        Reason.RANK_TOO_LARGE,
        Reason.UNSUPPORTED_ADAPTER,
        Reason.BEHAVIOUR_MISMATCH,
        Reason.NO_EFFECT,
    }
)
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


class Verdict(NamedTuple):
    """A condition without its name and times; None is Unknown."""

    holds: bool | None
    reason: Reason
    message: str


@dataclass(frozen=True)
class Facts:
    """Everything that conditions are made from."""

    adapters: Sequence[AdapterStatus]
    fleet: Fleet
    trouble: Trouble | None
    """The worst of what keeps pods from serving."""
    max_cached_adapters: int
    base: Missing | None = None
    """Why the base is not the wanted one."""

    @property
    def num_ready(self) -> int:
        """Pods that take requests."""
        return sum(replica.is_ready for replica in self.fleet.live)

    def in_state(self, state: str) -> list[AdapterStatus]:
        """The adapters in this state."""
        return [adapter for adapter in self.adapters if adapter.state == state]


def resolved(facts: Facts) -> Verdict:
    """Whether the base and each adapter have an accepted artifact."""
    if facts.base:
        return _about_base(facts.base)
    missing = [adapter for adapter in facts.adapters if adapter.digest is None]
    if not missing:
        return Verdict(True, Reason.READY, "the base and every adapter have an artifact")
    return _about(min(missing, key=lambda adapter: adapter.state != "Failed"))


def compatible(facts: Facts) -> Verdict:
    """Whether the engine can serve each adapter as what it claims to be."""
    refused = [adapter for adapter in facts.in_state("Failed") if adapter.reason in _INCOMPATIBLE]
    if refused:
        return _about(refused[0])
    if len(facts.in_state("Loaded")) == len(facts.adapters):
        return Verdict(True, Reason.READY, "every adapter fits base and engine")
    return Verdict(None, Reason.PENDING, "not every adapter was checked on every replica yet")


def capacity(facts: Facts) -> Verdict:
    """Whether the engine has a place for each adapter."""
    refused = [adapter for adapter in facts.in_state("Failed") if adapter.reason == Reason.OVER_CAPACITY]
    if refused:
        return _about(refused[0])
    return Verdict(True, Reason.READY, f"{len(facts.adapters)} of {facts.max_cached_adapters} places are taken")


def available(facts: Facts) -> Verdict:
    """Whether the base answers on as many replicas as are wanted, be they of an old template or of the current one."""
    ready, total = facts.num_ready, facts.fleet.total
    if total == 0:
        return Verdict(False, Reason.SCALED_TO_ZERO, "replicas is 0: nothing answers")
    if ready >= total:
        return Verdict(True, Reason.READY, f"{ready} of {total} replicas answer")
    return _troubled(facts) or Verdict(False, Reason.STARTING, f"{ready} of {total} replicas answer")


def loaded(facts: Facts) -> Verdict:
    """Whether each adapter is proven on every replica."""
    rest = [adapter for adapter in facts.adapters if adapter.state != "Loaded"]
    if not rest:
        return Verdict(True, Reason.READY, f"{len(facts.adapters)} of {len(facts.adapters)} adapters are proven")
    return _about(_most_telling(rest))


def ready(facts: Facts) -> Verdict:
    """Whether these very weights, and the base, answer on every replica of the current template, and on no other pod.

    With replicas 0 nothing answers, so it is not Ready, though nothing is left to do either.
    """
    if facts.base and not (facts.trouble and facts.trouble.is_final):
        return _about_base(facts.base)
    failed = facts.in_state("Failed")
    if failed:
        return _about(failed[0])
    return _troubled(facts) or _not_answering(facts) or _not_loaded(facts) or _all_well(facts)


def _troubled(facts: Facts) -> Verdict | None:
    return Verdict(False, facts.trouble.reason, facts.trouble.message) if facts.trouble else None


def _not_answering(facts: Facts) -> Verdict | None:
    fleet, base = facts.fleet, available(facts)
    if base.holds is not True:
        return base
    if len(fleet.current) < len(fleet.live) or len(fleet.current) < fleet.total:
        message = f"rolling out: {len(fleet.current)} of {fleet.total} replicas are of the current template"
        return Verdict(False, Reason.STARTING, message)
    silent = [replica.name for replica in fleet.live if not (replica.is_ready and replica.is_healthy)]
    return Verdict(False, Reason.STARTING, f"pod {silent[0]} does not answer yet") if silent else None


def _not_loaded(facts: Facts) -> Verdict | None:
    adapters = loaded(facts)
    if adapters.holds is not True:
        return adapters
    if facts.fleet.is_complete:
        return None
    return Verdict(False, Reason.LOADING, "not every replica works on the list of now")


def _all_well(facts: Facts) -> Verdict:
    adapters, total = len(facts.adapters), facts.fleet.total
    return Verdict(True, Reason.READY, f"the base and {adapters} adapters answer on {total} replicas")


def _most_telling(adapters: Sequence[AdapterStatus]) -> AdapterStatus:
    order = [Reason.LOADING, Reason.STARTING, Reason.SCALED_TO_ZERO, Reason.WAITING_FOR_RUN, Reason.RUN_NOT_FOUND]
    ranks = {reason.value: index for index, reason in enumerate(order)}
    return min(adapters, key=lambda adapter: ranks.get(adapter.reason or "", -1))


def _about(adapter: AdapterStatus) -> Verdict:
    return Verdict(False, Reason(adapter.reason or Reason.PENDING), f"{adapter.name}: {adapter.message}")


def _about_base(missing: Missing) -> Verdict:
    return Verdict(False, missing.reason, f"baseModel: {missing.message}")


def is_stalled(facts: Facts) -> bool:
    """Whether it stays as it is until the user changes something."""
    failed = facts.in_state("Failed") or (facts.base and facts.base.is_failed)
    return bool(failed) or (facts.trouble is not None and facts.trouble.is_final)


def conditions(facts: Facts, *, generation: int, now: datetime) -> list[Condition]:
    """Every condition of a deployment, as observed now."""
    whole = ready(facts)
    verdicts = {
        "Resolved": resolved(facts),
        "Compatible": compatible(facts),
        "CapacityOK": capacity(facts),
        "Available": available(facts),
        "AdaptersLoaded": loaded(facts),
        "Ready": whole,
    }
    if is_stalled(facts):
        verdicts["Stalled"] = whole._replace(holds=True)
    elif not whole.holds and (facts.fleet.total or facts.fleet.live):
        verdicts["Reconciling"] = whole._replace(holds=True)
    return [
        condition(type_, verdict.holds, verdict.reason, verdict.message, generation=generation, now=now)
        for type_, verdict in verdicts.items()
    ]


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
    found = carry_times(conditions(facts, generation=parent.metadata.generation, now=now), before.conditions)
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
    whole, base = ready(facts), parent.spec.base_model
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
