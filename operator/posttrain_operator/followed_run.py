"""What a TrainingRun has for the objects that name it: its accepted result, a named checkpoint, the model with its
adapter merged in; or why not, or not yet. Both kinds ask here. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from posttrain_api import uri
from posttrain_api.artifact import ArtifactSummary, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, KIND
from posttrain_api.v1alpha1.training_run_status import MergedBase
from posttrain_operator import jobs, merge
from posttrain_operator.actions import Manifest
from posttrain_operator.jobs import JobSeen
from posttrain_operator.pod_waiting import condition

_AWAITING = (None, Reason.WAITING_FOR_RUN, Reason.MERGING)
"""Why an object is not Ready that has not got yet what it names; None before its first reconcile."""


@dataclass(frozen=True)
class FollowedRun:
    """A TrainingRun that another object names, and the Jobs that merge its adapters, by name."""

    manifest: Manifest
    merges: Mapping[str, JobSeen] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def claim(self) -> str | None:
        """The claim that its artifacts lie on, or will."""
        output = self.manifest["spec"].get("output") or {}
        return uri.claim_of(output.get("uri", f"pvc://{DEFAULT_CLAIM}"))


@dataclass(frozen=True)
class Missing:
    """Why what another run is to give cannot be used, or not yet."""

    reason: Reason
    message: str
    is_failed: bool = False
    """It will not be there by waiting: a run must change."""
    run: str | None = None
    """The run that is waited for."""
    to_merge: tuple[Manifest, ArtifactSummary] | None = None
    """The run, and the adapter of it, that no Job merges yet."""
    recheck_at: datetime | None = None
    """When it is something else by the passing of time alone."""


def seen(manifest: Manifest | None, children: Iterable[Manifest]) -> FollowedRun | None:
    """A run with these children; None for one that is not there, or is being deleted."""
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        return None
    known = list(children)
    return FollowedRun(manifest, merges(manifest["metadata"]["uid"], known))


def merges(uid: str, children: Iterable[Manifest]) -> dict[str, JobSeen]:
    """The merges among the children of the run with this UID, by name; not those of an earlier run of its name."""
    known = list(children)
    own = (child for child in known if merge.is_merge(child) and jobs.is_owned(child, uid))
    return {child["metadata"]["name"]: jobs.seen(child, known) for child in own}


def is_awaiting(manifest: Manifest, name: str) -> bool:
    """Whether an object that names the run of this name has not got yet what it needs of it."""
    if manifest["kind"] == KIND:
        return "finishedAt" not in _status(manifest) and condition(manifest, "Ready").get("reason") in _AWAITING
    return any(reason in _AWAITING for reason in _reasons(manifest, name))


def _reasons(deployment: Manifest, name: str) -> Iterator[str | None]:
    """Why a deployment has not got the base and the adapters that it takes of this run, where it has not."""
    spec, said = deployment["spec"], {found["name"]: found for found in _status(deployment).get("adapters", [])}
    if _names(spec["baseModel"], name) and condition(deployment, "Resolved").get("status") != "True":
        yield condition(deployment, "Resolved").get("reason")
    for adapter in spec.get("adapters", []):
        found = said.get(adapter["name"], {})
        if _names(adapter, name) and "digest" not in found:
            yield found.get("reason")


def _names(source: Manifest, name: str) -> bool:
    return (source.get("fromRun") or {}).get("name") == name


def accepted(manifest: Manifest) -> ArtifactSummary | None:
    """The result of a run, where it may be used."""
    status = _status(manifest)
    if condition(manifest, "Accepted").get("status") != "True" or "artifact" not in status:
        return None
    return ArtifactSummary.model_validate(status["artifact"])


def checkpoints(manifest: Manifest) -> dict[str, str]:
    """Named checkpoint of a run -> its digest, as trained."""
    return {found["name"]: found["digest"] for found in _status(manifest).get("checkpoints", [])}


def checkpoint(result: ArtifactSummary, digest: str) -> ArtifactSummary:
    """A named checkpoint beside a result: its uri and digest are its own, kind and base the result's."""
    beside = result.uri.rstrip("/").rpartition("/")[0]
    return result.replace(uri=uri.child(beside, folder_name(digest)), digest=digest)


def result(name: str, wanted: str | None, run: FollowedRun | None) -> ArtifactSummary | Missing:
    """The accepted result of the run of this name, or its wanted checkpoint."""
    if run is None:
        return Missing(Reason.RUN_NOT_FOUND, f"TrainingRun {name} does not exist", run=name)
    found = accepted(run.manifest)
    if found is None:
        return _unaccepted(run)
    if wanted is None:
        return found
    known = checkpoints(run.manifest)
    if wanted in known:
        return checkpoint(found, known[wanted])
    named = ", ".join(known) or "none"
    message = f"TrainingRun {name} has no checkpoint {wanted}: it has {named}; leave checkpoint out for the result"
    return Missing(Reason.RUN_UNSUITABLE, message, is_failed=True)


def _unaccepted(run: FollowedRun) -> Missing:
    status, stalled = _status(run.manifest), condition(run.manifest, "Stalled")
    if stalled.get("status") == "True":
        how = "failed" if "finishedAt" in status else "does not go on"
        why = f"TrainingRun {run.name} {how}: {stalled['reason']}: {stalled['message']}"
        return Missing(Reason.RUN_FAILED, why, is_failed=True)
    phase = status.get("phase") or "Pending"
    return Missing(Reason.WAITING_FOR_RUN, f"TrainingRun {run.name} is not accepted yet: {phase}", run=run.name)


def merged(run: FollowedRun, adapter: ArtifactSummary, *, now: datetime) -> MergedBase | Missing:
    """The base of this adapter of the run with it merged in, which whoever needs it first has made."""
    made = next((found for found in merged_bases(run.manifest) if found.artifact_digest == adapter.digest), None)
    if made:
        return made
    name = merge.job_name(run.name, adapter.digest)
    if name not in run.merges:
        message = f"TrainingRun {run.name}: Job {name} merges the adapter into its base"
        return Missing(Reason.MERGING, message, run=run.name, to_merge=(run.manifest, adapter))
    found = merge.outcome(run.merges[name], merge.config(run.manifest, adapter), now=now)
    message = f"TrainingRun {run.name}: {found.message}"
    if found.state == "Failed":
        return Missing(Reason.MERGE_FAILED, message, is_failed=True)
    # What was merged is used when the run's status has it: that outlives the Job.
    return Missing(Reason.MERGING, message, run=run.name)


def merged_bases(manifest: Manifest) -> list[MergedBase]:
    """The models that merges of a run have made."""
    return [MergedBase.model_validate(found) for found in _status(manifest).get("mergedBases", [])]


def _status(manifest: Manifest) -> Manifest:
    found: Manifest = manifest.get("status") or {}
    return found
