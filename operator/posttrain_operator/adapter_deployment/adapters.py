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
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names
from posttrain_operator.adapter_deployment.replicas import Fleet, Replica
from posttrain_operator.pod_waiting import condition


@dataclass(frozen=True)
class FollowedRun:
    """What a deployment needs to know of a TrainingRun."""

    name: str
    phase: str = "Pending"
    claim: str | None = DEFAULT_CLAIM
    """The claim that its artifact lies on, or will."""
    artifact: ArtifactSummary | None = None
    """Its result, only where that was accepted."""
    failure: str | None = None
    """Why it will never have one."""


@dataclass(frozen=True)
class Served:
    """An entry of the desired list as it was written last."""

    adapter: DesiredAdapter
    run: str | None
    """The run that it came from."""


@dataclass(frozen=True)
class Resolved:
    """An adapter of the spec and the artifact behind it."""

    name: str
    wanted: DesiredAdapter | None = None
    """What the spec asks for, where that is known and accepted."""
    served: DesiredAdapter | None = None
    """What pods are told: the wanted one, or the version before it."""
    run: str | None = None
    """The run that the served one came from."""
    is_failed: bool = False
    """There will be no wanted one unless the user changes something."""
    reason: Reason | None = None
    message: str | None = None


def followed(adapters: Iterable[Adapter]) -> list[str]:
    """Names of the runs that these adapters follow, sorted."""
    return sorted({adapter.from_run.name for adapter in adapters if adapter.from_run})


def followed_run(body: Manifest) -> FollowedRun:
    """What matters of a TrainingRun's JSON."""
    spec, status = body.get("spec", {}), body.get("status", {})
    accepted, stalled = (condition(body, type_) for type_ in ("Accepted", "Stalled"))
    is_accepted = accepted.get("status") == "True" and "artifact" in status
    is_failed = stalled.get("status") == "True"
    return FollowedRun(
        name=body["metadata"]["name"],
        phase=status.get("phase", "Pending"),
        claim=claim_of(spec.get("output", {}).get("uri", f"pvc://{DEFAULT_CLAIM}")),
        artifact=ArtifactSummary.model_validate(status["artifact"]) if is_accepted else None,
        failure=f"{stalled['reason']}: {stalled['message']}" if is_failed else None,
    )


def served(config_map: Manifest | None) -> dict[str, Served]:
    """The desired list as it was written last, by adapter name."""
    data = config_map.get("data", {}) if config_map else {}
    try:
        runs = TypeAdapter(dict[str, str]).validate_json(data.get(names.SOURCES_KEY, "{}"))
        wanted = DesiredAdapters.model_validate_json(data.get(names.LIST_KEY, "{}"))
    except ValidationError:
        # Someone has edited it: it is written anew.
        return {}
    return {adapter.name: Served(adapter, run=runs.get(adapter.name)) for adapter in wanted.adapters}


def resolve(
    adapters: Iterable[Adapter], *, runs: Mapping[str, FollowedRun], before: Mapping[str, Served]
) -> list[Resolved]:
    """Each adapter's artifact, sorted by name; `before` is the list as it was written last."""
    ordered = sorted(adapters, key=lambda adapter: adapter.name)
    return [_resolved(adapter, runs=runs, before=before.get(adapter.name)) for adapter in ordered]


def _resolved(adapter: Adapter, *, runs: Mapping[str, FollowedRun], before: Served | None) -> Resolved:
    if adapter.from_run is None:
        assert adapter.uri
        assert adapter.digest
        wanted = DesiredAdapter(name=adapter.name, uri=adapter.uri, digest=adapter.digest)
        return Resolved(adapter.name, wanted=wanted, served=wanted)
    return _from_run(adapter.name, adapter.from_run.name, run=runs.get(adapter.from_run.name), before=before)


def _from_run(name: str, run_name: str, *, run: FollowedRun | None, before: Served | None) -> Resolved:
    if run and run.artifact:
        wanted = DesiredAdapter(name=name, uri=run.artifact.uri, digest=run.artifact.digest)
        return Resolved(name, wanted=wanted, served=wanted, run=run_name)
    if run is None and before and before.run == run_name:
        # A run may be deleted, by its time to live as well: its artifact stays, and so does the adapter.
        return Resolved(name, wanted=before.adapter, served=before.adapter, run=run_name)
    served, of_run = (before.adapter, before.run) if before else (None, None)
    still = "; the version before it goes on answering" if before else ""
    if run and run.failure:
        message = f"TrainingRun {run_name} failed: {run.failure}{still}"
        return Resolved(name, None, served, of_run, is_failed=True, reason=Reason.RUN_FAILED, message=message)
    what = f"is in phase {run.phase}" if run else "does not exist"
    message = f"TrainingRun {run_name} {what}{still}"
    return Resolved(name, None, served, of_run, reason=Reason.WAITING_FOR_RUN, message=message)


def desired(resolved: Iterable[Resolved]) -> DesiredAdapters:
    """The list for the pods."""
    return DesiredAdapters(adapters=[entry.served for entry in resolved if entry.served])


def sources(resolved: Iterable[Resolved]) -> dict[str, str]:
    """Adapter name -> the run that its served artifact came from."""
    return {entry.name: entry.run for entry in resolved if entry.served and entry.run}


def claims(resolved: Iterable[Resolved], runs: Mapping[str, FollowedRun]) -> set[str]:
    """Claims on which these adapters lie, or will: a run's claim is mounted before its result is accepted."""
    served = {claim_of(entry.served.uri) for entry in resolved if entry.served}
    return {claim for claim in served | {run.claim for run in runs.values()} if claim}


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
