"""The TrainingRuns that a deployment follows, and the result that a reference to one of them means. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from posttrain_api import uri
from posttrain_api.artifact import ArtifactSummary, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeploymentSpec
from posttrain_api.v1alpha1.references import CheckpointReference
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM
from posttrain_operator.actions import Manifest
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
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    """Named checkpoint -> digest; each lies beside the artifact."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """Digest of an adapter -> folder of its base with that adapter merged in."""
    jobs: Mapping[str, Manifest] = field(default_factory=dict)
    """Its Jobs by name."""
    manifest: Manifest = field(default_factory=dict)
    """The object itself."""


@dataclass(frozen=True)
class Missing:
    """Why what a reference names cannot be used, or not yet."""

    reason: Reason
    message: str
    is_failed: bool = False
    """It will not be there by waiting."""


def references(spec: AdapterDeploymentSpec) -> list[CheckpointReference]:
    """Everything that a deployment takes from runs."""
    given = (spec.base_model.from_run, *(adapter.from_run for adapter in spec.adapters))
    return [reference for reference in given if reference]


def text(reference: CheckpointReference) -> str:
    """A reference as people, and our own records, write it."""
    return f"{reference.name}/{reference.checkpoint}" if reference.checkpoint else reference.name


def followed_run(body: Manifest, children: Iterable[Manifest] = ()) -> FollowedRun:
    """What matters of a TrainingRun's JSON and of its children."""
    spec, status = body.get("spec", {}), body.get("status", {})
    accepted, stalled = (condition(body, type_) for type_ in ("Accepted", "Stalled"))
    is_accepted = accepted.get("status") == "True" and "artifact" in status
    is_failed = stalled.get("status") == "True"
    return FollowedRun(
        name=body["metadata"]["name"],
        phase=status.get("phase", "Pending"),
        claim=uri.claim_of(spec.get("output", {}).get("uri", f"pvc://{DEFAULT_CLAIM}")),
        artifact=ArtifactSummary.model_validate(status["artifact"]) if is_accepted else None,
        failure=f"{stalled['reason']}: {stalled['message']}" if is_failed else None,
        checkpoints={entry["name"]: entry["digest"] for entry in status.get("checkpoints", [])},
        merged={entry["artifactDigest"]: entry["uri"] for entry in status.get("mergedBases", [])},
        jobs={child["metadata"]["name"]: child for child in children if child["kind"] == "Job"},
        manifest=body,
    )


def result(reference: CheckpointReference, run: FollowedRun | None) -> ArtifactSummary | Missing:
    """The accepted artifact that a reference means; of a checkpoint only uri, digest, kind and base are its own."""
    name = f"TrainingRun {reference.name}"
    if run is None:
        return Missing(Reason.RUN_NOT_FOUND, f"{name} does not exist")
    if run.artifact:
        return _checkpoint(run.artifact, reference, run)
    if run.failure:
        return Missing(Reason.RUN_FAILED, f"{name} failed: {run.failure}", is_failed=True)
    return Missing(Reason.WAITING_FOR_RUN, f"{name} is in phase {run.phase}")


def _checkpoint(
    artifact: ArtifactSummary, reference: CheckpointReference, run: FollowedRun
) -> ArtifactSummary | Missing:
    wanted = reference.checkpoint
    if wanted is None:
        return artifact
    digest = run.checkpoints.get(wanted)
    if digest is None:
        known = ", ".join(sorted(run.checkpoints)) or "none"
        message = f"TrainingRun {run.name} has no checkpoint {wanted}: it has {known}; without one it is the result"
        return Missing(Reason.RUN_UNSUITABLE, message, is_failed=True)
    beside = artifact.uri.rstrip("/").rpartition("/")[0]
    return artifact.replace(uri=uri.child(beside, folder_name(digest)), digest=digest)
