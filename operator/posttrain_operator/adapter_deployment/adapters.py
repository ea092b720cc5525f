"""Which artifact each adapter of a deployment is to be, and what all replicas together proved of it.

Pure. A name never goes back to nothing: while the run that it follows now has no accepted result, the version before it
goes on answering, and the status says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from posttrain_api.artifact import ArtifactSummary
from posttrain_api.conditions import Reason
from posttrain_api.server_contract import DesiredAdapter, DesiredAdapters
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.adapter_deployment import Adapter, AdapterStatus
from posttrain_api.v1alpha1.references import CheckpointReference
from posttrain_operator import followed_run
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names, runs
from posttrain_operator.adapter_deployment.base import Base
from posttrain_operator.adapter_deployment.replicas import Fleet, Replica
from posttrain_operator.followed_run import FollowedRun, Missing


@dataclass(frozen=True)
class Served:
    """An entry of the desired list as it was written last."""

    adapter: DesiredAdapter
    run: str | None
    """The reference to a run that it was resolved from."""


@dataclass(frozen=True)
class Resolved:
    """An adapter of the spec and the artifact behind it."""

    name: str
    wanted: DesiredAdapter | None = None
    """What the spec asks for, where that is known and accepted."""
    served: DesiredAdapter | None = None
    """What pods are told: the wanted one, or the version before it."""
    run: str | None = None
    """The reference that the served one was resolved from."""
    is_failed: bool = False
    """There will be no wanted one unless the user changes something."""
    reason: Reason | None = None
    message: str | None = None


def served(config_map: Manifest | None) -> dict[str, Served]:
    """The desired list as it was written last, by adapter name."""
    data = config_map.get("data", {}) if config_map else {}
    try:
        sources = TypeAdapter(dict[str, str]).validate_json(data.get(names.SOURCES_KEY, "{}"))
        wanted = DesiredAdapters.model_validate_json(data.get(names.LIST_KEY, "{}"))
    except ValidationError:
        # Someone has edited it: it is written anew.
        return {}
    return {adapter.name: Served(adapter, run=sources.get(adapter.name)) for adapter in wanted.adapters}


def resolve(
    adapters: Iterable[Adapter], *, followed: Mapping[str, FollowedRun], before: Mapping[str, Served], base: Base | None
) -> list[Resolved]:
    """Each adapter's artifact, sorted by name; `before` is the list as it was written last."""
    ordered = sorted(adapters, key=lambda adapter: adapter.name)
    if base and base.kind == "reward-model":
        return [_on_reward_model(adapter) for adapter in ordered]
    return [_resolved(adapter, followed=followed, before=before.get(adapter.name)) for adapter in ordered]


def _on_reward_model(adapter: Adapter) -> Resolved:
    message = "the base is a reward model, which is served alone: take the adapter out of this deployment"
    return Resolved(adapter.name, is_failed=True, reason=Reason.UNSUPPORTED_ADAPTER, message=message)


def _resolved(adapter: Adapter, *, followed: Mapping[str, FollowedRun], before: Served | None) -> Resolved:
    if adapter.from_run is None:
        assert adapter.uri
        assert adapter.digest
        wanted = DesiredAdapter(name=adapter.name, uri=adapter.uri, digest=adapter.digest)
        return Resolved(adapter.name, wanted=wanted, served=wanted)
    return _from_run(adapter.name, adapter.from_run, run=followed.get(adapter.from_run.name), before=before)


def _from_run(name: str, reference: CheckpointReference, *, run: FollowedRun | None, before: Served | None) -> Resolved:
    source = runs.text(reference)
    found = _loadable(followed_run.result(reference.name, reference.checkpoint, run), reference)
    if isinstance(found, ArtifactSummary):
        wanted = DesiredAdapter(name=name, uri=found.uri, digest=found.digest)
        return Resolved(name, wanted=wanted, served=wanted, run=source)
    if run is None and before and before.run == source:
        # A run may be deleted, by its time to live as well: its artifact stays, and so does the adapter.
        return Resolved(name, wanted=before.adapter, served=before.adapter, run=source)
    served, of_run = (before.adapter, before.run) if before else (None, None)
    message = f"{found.message}; the version before it goes on answering" if before else found.message
    return Resolved(name, None, served, of_run, is_failed=found.is_failed, reason=found.reason, message=message)


_UNSUPPORTED = {
    "model": "a whole model: serve it by baseModel.fromRun",
    "reward-model": "a reward model: serve it by baseModel.fromRun in a deployment of its own",
    "prompt": "a prompt: vLLM cannot serve prompt tuning; train with tuning.lora",
    "dataset": "a dataset: there is nothing to serve; train on it",
}


def _loadable(found: ArtifactSummary | Missing, reference: CheckpointReference) -> ArtifactSummary | Missing:
    if isinstance(found, Missing) or found.kind == "lora":
        return found
    message = f"the result of TrainingRun {reference.name} is {_UNSUPPORTED[found.kind]}"
    return Missing(Reason.UNSUPPORTED_ADAPTER, message, is_failed=True)


def desired(resolved: Iterable[Resolved]) -> DesiredAdapters:
    """The list for the pods."""
    return DesiredAdapters(adapters=[entry.served for entry in resolved if entry.served])


def sources(resolved: Iterable[Resolved]) -> dict[str, str]:
    """Adapter name -> the run that its served artifact came from."""
    return {entry.name: entry.run for entry in resolved if entry.served and entry.run}


def claims(resolved: Iterable[Resolved], followed: Mapping[str, FollowedRun]) -> set[str]:
    """Claims on which these adapters lie, or will: a run's claim is mounted before its result is accepted."""
    served = {claim_of(entry.served.uri) for entry in resolved if entry.served}
    return {claim for claim in served | {run.claim for run in followed.values()} if claim}


def observed(resolved: Resolved, fleet: Fleet) -> AdapterStatus:
    """What the replicas proved of an adapter."""
    wanted = resolved.wanted
    status = AdapterStatus(
        name=resolved.name,
        digest=wanted.digest if wanted else None,
        previous_digest=_previous(resolved, fleet.live),
        state="Failed" if resolved.is_failed else "Pending",
        total_replicas=fleet.total,
        reason=resolved.reason.value if resolved.reason else None,
        message=resolved.message,
    )
    if wanted is None:
        return status
    proven = sum(replica.proves(wanted) for replica in fleet.informed)
    status = status.replace(loaded_replicas=min(fleet.total, proven))
    return _failure(status, wanted, fleet.informed) or _progress(status, wanted, fleet)


def _failure(status: AdapterStatus, wanted: DesiredAdapter, informed: Iterable[Replica]) -> AdapterStatus | None:
    failures = ((replica.name, replica.failure(wanted)) for replica in informed)
    pod, report = next(((pod, report) for pod, report in failures if report), (None, None))
    if report is None:
        return None
    reason = report.reason or Reason.LOAD_FAILED
    return status.replace(state="Failed", reason=reason.value, message=f"pod {pod}: {report.message or reason.value}")


def _progress(status: AdapterStatus, wanted: DesiredAdapter, fleet: Fleet) -> AdapterStatus:
    if fleet.is_complete and all(replica.proves(wanted) for replica in fleet.live):
        return status.replace(state="Loaded")
    if any(replica.is_healthy for replica in fleet.live):
        message = f"proven on {status.loaded_replicas} of {fleet.total} replicas"
        return status.replace(state="Loading", reason=Reason.LOADING.value, message=message)
    reason = Reason.STARTING if fleet.total else Reason.SCALED_TO_ZERO
    message = "no replica's engine answers yet" if fleet.total else "replicas is 0"
    return status.replace(state="Pending", reason=reason.value, message=message)


def _previous(resolved: Resolved, replicas: Iterable[Replica]) -> str | None:
    proofs = (proof for replica in replicas for proof in replica.proofs() if proof.name == resolved.name)
    wanted = resolved.wanted.digest if resolved.wanted else None
    return min((proof.serving_digest for proof in proofs if proof.serving_digest not in (None, wanted)), default=None)
