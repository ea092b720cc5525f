"""The Job that merges a run's adapter into its base, once for everything that builds on the merged model. Pure.

Who needs the model makes the Job; the run owns it and writes what it made into its status.mergedBases.
"""

import json
from typing import Any

from posttrain_api import labels
from posttrain_api.artifact import ArtifactSummary, folder_name
from posttrain_api.trainer_contract import CONTAINER, EXIT_REFUSED, TERMINATION_MESSAGE, MergeConfig
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.training_run import KIND, TrainingRun
from posttrain_operator import pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.metadata import child, stamped
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


def job(run: TrainingRun, adapter: ArtifactSummary, *, settings: Settings) -> Manifest:
    """The Job that publishes the adapter's base with the adapter merged in."""
    own = {labels.TRAINING_RUN: run.metadata.name, labels.COMPONENT: COMPONENT}
    name = job_name(run.metadata.name, adapter.digest)
    head = child("batch/v1", "Job", name, parent_kind=KIND, parent=run.metadata, child_labels=own)
    spec = {
        "backoffLimit": MAX_TRIES - 1,
        "podFailurePolicy": {"rules": [_refusal_is_final()]},
        "template": {
            "metadata": {"labels": {labels.MANAGED_BY: labels.MANAGER, **own}},
            "spec": _pod_spec(run, adapter, settings),
        },
    }
    return stamped({**head, "spec": spec})


def config(run: TrainingRun, adapter: ArtifactSummary) -> MergeConfig:
    """What the trainer is told."""
    return MergeConfig(
        run=run.metadata.name,
        uid=run.metadata.uid,
        artifact_uri=adapter.uri,
        artifact_digest=adapter.digest,
        base=adapter.base,
        output=run.spec.output.uri,
    )


def _refusal_is_final() -> dict[str, Any]:
    codes = {"containerName": CONTAINER, "operator": "In", "values": [EXIT_REFUSED]}
    return {"action": "FailJob", "onExitCodes": codes}


def _pod_spec(run: TrainingRun, adapter: ArtifactSummary, settings: Settings) -> Manifest:
    template = pod_template.merged(run.spec.pod_template, settings.default_pod_template)
    claims = _claims(run, adapter)
    mounts = [pod_template.claim_mount(claim, read_only=read_only) for claim, read_only in claims.items()]
    arguments = ["--merge", json.dumps(config(run, adapter).to_json())]
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
