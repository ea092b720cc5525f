"""The Job that merges a run's adapter into its base, once for everything that builds on the merged model. Pure.

Who needs the model makes the Job; the run owns it and writes what it made into its status.mergedBases.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from posttrain_api import labels
from posttrain_api.artifact import ArtifactSummary, digest_of, folder_name
from posttrain_api.trainer_contract import CONTAINER, EXIT_REFUSED, TERMINATION_MESSAGE, MergeConfig, Report
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.training_run import KIND, TrainingRun
from posttrain_api.v1alpha1.training_run_status import MergedBase
from posttrain_operator import jobs, pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.jobs import JobSeen
from posttrain_operator.metadata import child, stamped
from posttrain_operator.pod_waiting import ORDINARY
from posttrain_operator.settings import Settings

COMPONENT = "merge"
MAX_TRIES = 3
"""Pods in all: a merge that was evicted half-way leaves nothing that harms."""


def job_name(run: str, artifact_digest: str) -> str:
    """Name of the Job for this adapter of a run."""
    return f"{run}-{COMPONENT}-{folder_name(artifact_digest).removeprefix('sha256-')[:8]}"


def is_merge(child: Manifest) -> bool:
    """Whether a child of a run is such a Job."""
    component = (child["metadata"].get("labels") or {}).get(labels.COMPONENT)
    return bool(child["kind"] == "Job" and component == COMPONENT)


@dataclass(frozen=True)
class Outcome:
    """Where a merge stands."""

    state: Literal["Merging", "Merged", "Failed"]
    """Failed: a person must change something, or delete the Job to try again."""
    message: str
    merged: MergedBase | None = None
    recheck_at: datetime | None = None
    """When it is something else by the passing of time alone."""


def outcome(seen: JobSeen, told: MergeConfig, *, now: datetime) -> Outcome:
    """Where the merge of a Job that exists stands, which was told this."""
    assert seen.job is not None
    name, report = seen.job["metadata"]["name"], _report(seen, told)
    if report and report.merged:
        return Outcome("Merged", f"Merged into its base as {report.merged.digest}.", report.merged)
    failed = seen.condition("Failed")
    if failed.get("status") == "True":
        said = report.failure.message if report and report.failure else failed.get("message") or "its pods failed"
        return _failed(name, f"failed: {said}")
    if seen.condition("Complete").get("status") == "True":
        return _failed(name, "ended without a report of the merged model")
    return _merging(name, seen, now=now)


def _failed(name: str, what: str) -> Outcome:
    return Outcome("Failed", f"Job {name} {what}; delete the Job to try again")


def _merging(name: str, seen: JobSeen, *, now: datetime) -> Outcome:
    message = f"Job {name} merges the adapter into its base"
    if seen.container_state.keys() & {"running", "terminated"}:
        return Outcome("Merging", message)
    found = jobs.waiting(seen, now=now)
    if found.is_final(now):
        return _failed(name, f"cannot run: {found.message}")
    held_up = "" if found.message in ORDINARY else f": {found.message}"
    return Outcome("Merging", message + held_up, recheck_at=found.recheck_at or found.gives_up_at)


def _report(seen: JobSeen, told: MergeConfig) -> Report | None:
    """What the newest pod of a merge reported, of this very merge."""
    report = jobs.report((seen.container_state.get("terminated") or {}).get("message", ""))
    if report is None or (report.uid, report.recipe_digest) != (told.uid, digest_of(told.to_json())):
        return None
    return report


def job(manifest: Manifest, adapter: ArtifactSummary, *, settings: Settings) -> Manifest:
    """The Job of a TrainingRun that publishes its adapter's base with the adapter merged in."""
    run = _parsed(manifest)
    own = {labels.TRAINING_RUN: run.metadata.name, labels.COMPONENT: COMPONENT}
    name = job_name(run.metadata.name, adapter.digest)
    head = child("batch/v1", "Job", name, parent_kind=KIND, parent=run.metadata, child_labels=own)
    spec = {
        "backoffLimit": MAX_TRIES - 1,
        "podFailurePolicy": {"rules": [_refusal_is_final()]},
        "template": {
            "metadata": {"labels": {labels.MANAGED_BY: labels.MANAGER, **own}},
            "spec": _pod_spec(run, adapter, config(manifest, adapter), settings),
        },
    }
    return stamped({**head, "spec": spec})


def config(manifest: Manifest, adapter: ArtifactSummary) -> MergeConfig:
    """What the trainer is told of this adapter of a TrainingRun."""
    run = _parsed(manifest)
    return MergeConfig(
        run=run.metadata.name,
        uid=run.metadata.uid,
        artifact_uri=adapter.uri,
        artifact_digest=adapter.digest,
        base=adapter.base,
        output=run.spec.output.uri,
    )


def _parsed(manifest: Manifest) -> TrainingRun:
    # The status is ours, and may be that of another version.
    return TrainingRun.model_validate({"metadata": manifest["metadata"], "spec": manifest["spec"]})


def _refusal_is_final() -> dict[str, Any]:
    codes = {"containerName": CONTAINER, "operator": "In", "values": [EXIT_REFUSED]}
    return {"action": "FailJob", "onExitCodes": codes}


def _pod_spec(run: TrainingRun, adapter: ArtifactSummary, told: MergeConfig, settings: Settings) -> Manifest:
    template = pod_template.merged(run.spec.pod_template, settings.default_pod_template)
    claims = _claims(run, adapter)
    mounts = [pod_template.claim_mount(claim, read_only=read_only) for claim, read_only in claims.items()]
    arguments = ["--merge", json.dumps(told.to_json())]
    container = pod_template.container(
        CONTAINER,
        image=pod_template.image(template, default=settings.trainer_image),
        args=[*arguments, "--termination-message", str(TERMINATION_MESSAGE)],
        mounts=[*mounts, *pod_template.scratch_mounts()],
        settings=settings,
        template=template,
        terminationMessagePath=str(TERMINATION_MESSAGE),
        terminationMessagePolicy="File",
        # On the CPU: the model is read, added to and written.
        resources=pod_template.resource_requirements(run.spec.resources.replace(gpus=0)),
    )
    return pod_template.pod_spec(
        template,
        containers=[container],
        volumes=[
            *map(pod_template.claim_volume, claims),
            *pod_template.scratch_volumes(run.spec.resources.shared_memory),
        ],
        restartPolicy="Never",
        terminationGracePeriodSeconds=10,
    )


def _claims(run: TrainingRun, adapter: ArtifactSummary) -> dict[str, bool]:
    """The claims of a merge, and whether they are read only: all but the output."""
    read = {claim: True for claim in map(claim_of, (adapter.base.uri, adapter.uri)) if claim}
    output = claim_of(run.spec.output.uri)
    assert output is not None, "an output is always on a claim"
    return dict(sorted({**read, output: False}.items()))
