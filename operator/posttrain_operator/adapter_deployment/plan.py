"""Decides what a reconcile of an AdapterDeployment does. Pure: no clock, no client, no log."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import DesiredAdapters
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment, AdapterDeploymentStatus
from posttrain_operator import merge
from posttrain_operator.actions import Manifest, Plan, Tell
from posttrain_operator.adapter_deployment import adapters, base, resources, status
from posttrain_operator.adapter_deployment.adapters import Resolved
from posttrain_operator.adapter_deployment.base import Base, ResolvedBase
from posttrain_operator.adapter_deployment.replicas import Fleet, Replica, Trouble
from posttrain_operator.adapter_deployment.verdicts import Facts
from posttrain_operator.followed_run import FollowedRun, Missing
from posttrain_operator.metadata import is_current
from posttrain_operator.pod_waiting import PATIENCE, condition
from posttrain_operator.settings import Settings

BUSY_SECONDS = 1.0
"""Between two looks at pods that start or load: their agents cannot call us."""
QUIET_SECONDS = 5.0
"""Between two looks at pods that serve: an adapter that was taken out by hand shows only there."""
STOPPED_SECONDS = 60.0


@dataclass(frozen=True)
class Observed:
    """Everything that is, besides the object itself."""

    status: Mapping[str, Any] = field(default_factory=dict)
    """The object's status as the API server shows it."""
    deployment: Manifest | None = None
    service: Manifest | None = None
    config_map: Manifest | None = None
    network_policy: Manifest | None = None
    replicas: tuple[Replica, ...] = ()
    """Every pod with our labels, with what its agent answered."""
    runs: Mapping[str, FollowedRun] = field(default_factory=dict)
    """The followed runs that exist, by name."""
    token: str | None = field(default=None, repr=False)
    """The agents' token, None where its Secret is not there."""
    spare_token: str = field(default="", repr=False)
    """Random: becomes the token where there is none."""

    refusal: Trouble | None = None
    """What the API server said a moment ago to a child of the last plan: it is not tried again at once."""

    @property
    def children(self) -> dict[str, Manifest | None]:
        """The children that are applied, by kind."""
        return {
            "ConfigMap": self.config_map,
            "NetworkPolicy": self.network_policy,
            "Service": self.service,
            "Deployment": self.deployment,
        }


def plan(parent: AdapterDeployment, *, observed: Observed, settings: Settings, now: datetime) -> Plan:
    """Everything that this reconcile does."""
    before = _status_before(observed.status)
    model = _base(parent, observed, now=now)
    found = _adapters(parent, model.served, observed)
    desired = adapters.desired(found)
    children = _children(parent, model.served, found, observed=observed, settings=settings)
    fleet = _fleet(parent, children.get("Deployment"), desired=desired, replicas=observed.replicas)
    blocked = observed.refusal or _foreign(parent, observed)
    facts = Facts(
        base=model.missing,
        adapters=[adapters.observed(entry, fleet) for entry in found],
        fleet=fleet,
        trouble=blocked or _trouble(fleet, observed.deployment, now),
        max_cached_adapters=parent.spec.engine.max_cached_adapters,
    )
    new = status.observed(parent, facts, before=before, settings=settings, now=now)
    body = new.to_json()
    return Plan(
        create=() if blocked else tuple(_created(parent, model.missing, observed=observed, settings=settings)),
        apply=() if blocked else tuple(_outdated(children, observed)),
        tell=() if blocked else tuple(_tell(fleet, desired, observed.token)),
        status=None if body == observed.status else body,
        events=status.events(new, before=before),
        recheck_seconds=_recheck_seconds(new, blocked),
    )


def refuse(manifest: Manifest, problem: ValidationError, *, now: datetime) -> Plan:
    """The plan for an object whose spec cannot be read: say so, and touch nothing that was made from an earlier one."""
    before = _status_before(manifest.get("status") or {})
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in problem.errors())
    new = status.invalid(manifest["metadata"].get("generation", 1), "; ".join(faults), before=before, now=now)
    body = new.to_json()
    return Plan(status=None if body == manifest.get("status") else body, events=status.events(new, before=before))


def _status_before(raw: Mapping[str, Any]) -> AdapterDeploymentStatus:
    """The status as it was written last; one of another version of this program counts as none."""
    try:
        return AdapterDeploymentStatus.model_validate(raw)
    except ValidationError:
        return AdapterDeploymentStatus()


def _base(parent: AdapterDeployment, observed: Observed, *, now: datetime) -> ResolvedBase:
    given = parent.spec.base_model
    run = observed.runs.get(given.from_run.name) if given.from_run else None
    return base.resolve(given, run=run, before=base.recorded(observed.config_map), now=now)


def _adapters(parent: AdapterDeployment, model: Base | None, observed: Observed) -> list[Resolved]:
    before = adapters.served(observed.config_map)
    return adapters.resolve(parent.spec.adapters, followed=observed.runs, before=before, base=model)


def _created(
    parent: AdapterDeployment, missing: Missing | None, *, observed: Observed, settings: Settings
) -> Iterator[Manifest]:
    """What is made once: the agents' token, and the Job of another run that merges its adapter into its base."""
    if not observed.token:
        yield resources.secret(parent, token=observed.spare_token)
    if missing and missing.to_merge:
        yield merge.job(*missing.to_merge, settings=settings)


def _children(
    parent: AdapterDeployment, model: Base | None, found: list[Resolved], *, observed: Observed, settings: Settings
) -> dict[str, Manifest]:
    """The children as they are to be, in the order in which they are applied: the pods come last, and not before there
    is a base."""
    sources, desired = adapters.sources(found), adapters.desired(found)
    children = {
        "ConfigMap": resources.config_map(parent, desired=desired, sources=sources, base=model),
        "NetworkPolicy": resources.network_policy(parent, settings),
        "Service": resources.service(parent),
    }
    if model is None:
        return children
    claims = _claims(parent, model, found, observed=observed, settings=settings)
    pods = resources.deployment(parent, base=model, claims=claims, settings=settings)
    return {**children, "Deployment": pods}


def _claims(
    parent: AdapterDeployment, model: Base, found: list[Resolved], *, observed: Observed, settings: Settings
) -> set[str]:
    """The claims to mount. Those that are mounted stay while they suffice and nothing else changes the pods: an adapter
    that was removed is no reason to restart the engine."""
    claim = claim_of(model.uri)
    needed = adapters.claims(found, observed.runs) | ({claim} if claim else set())
    mounted = resources.mounted_claims(observed.deployment)
    if not needed <= mounted:
        return needed
    same = resources.deployment(parent, base=model, claims=mounted, settings=settings)
    is_same = resources.template_digest(same) == resources.template_digest(observed.deployment)
    return mounted if is_same else needed


def _fleet(
    parent: AdapterDeployment, deployment: Manifest | None, *, desired: DesiredAdapters, replicas: Iterable[Replica]
) -> Fleet:
    return Fleet(
        live=tuple(sorted((pod for pod in replicas if pod.is_live), key=lambda pod: pod.name)),
        total=parent.spec.replicas,
        template_digest=resources.template_digest(deployment),
        list_digest=desired.digest,
    )


def _outdated(children: Mapping[str, Manifest], observed: Observed) -> Iterator[Manifest]:
    for kind, child in children.items():
        found = observed.children[kind]
        if not is_current(child, found) or _was_changed(child, found):
            yield child


def _was_changed(child: Manifest, found: Manifest | None) -> bool:
    """Whether someone scaled the Deployment or edited the list, which leaves our digest on it as it was."""
    parts = [("data",), ("spec", "replicas")]
    return any(_at(child, path) is not None and _at(child, path) != _at(found or {}, path) for path in parts)


def _at(manifest: Manifest, path: tuple[str, ...]) -> Any:
    found: Any = manifest
    for name in path:
        found = (found or {}).get(name)
    return found


def _tell(fleet: Fleet, desired: DesiredAdapters, token: str | None) -> Iterator[Tell]:
    for replica in fleet.live:
        if token and replica.report and replica.address and not replica.works_on(fleet.list_digest):
            yield Tell(pod=replica.name, address=replica.address, desired=desired, token=token)


def _foreign(parent: AdapterDeployment, observed: Observed) -> Trouble | None:
    """A child of another owner: of an object of the same name that was deleted a moment ago, or of someone else."""
    for kind, child in observed.children.items():
        owners = child["metadata"].get("ownerReferences", []) if child else []
        if child and any(owner.get("controller") and owner["uid"] != parent.metadata.uid for owner in owners):
            message = f"{kind} {child['metadata']['name']} belongs to another object: waiting until it is gone"
            return Trouble(Reason.PENDING, message, is_final=False)
    return None


def _trouble(fleet: Fleet, deployment: Manifest | None, now: datetime) -> Trouble | None:
    """The worst trouble: a final one before one that may pass; a pod's before the Deployment's."""
    pods = [trouble for replica in fleet.live if (trouble := replica.trouble(now))]
    refused = _refused(deployment, now)
    troubles = [*pods, *([refused] if refused else [])]
    return min(troubles, key=lambda trouble: not trouble.is_final, default=None)


def _refused(deployment: Manifest | None, now: datetime) -> Trouble | None:
    """The API server refuses the pods: a quota, a policy, a service account that is not there."""
    failure = condition(deployment, "ReplicaFailure") if deployment else {}
    if failure.get("status") != "True":
        return None
    is_final = now - datetime.fromisoformat(failure["lastTransitionTime"]) >= PATIENCE
    return Trouble(Reason.POD_REFUSED, failure.get("message", ""), is_final=is_final)


def _recheck_seconds(new: AdapterDeploymentStatus, blocked: Trouble | None) -> float:
    if blocked and blocked.is_final:
        return STOPPED_SECONDS
    match new.phase:
        case "Starting" | "Loading":
            return BUSY_SECONDS
        case "Stopped":
            return STOPPED_SECONDS
        case _:
            return QUIET_SECONDS
