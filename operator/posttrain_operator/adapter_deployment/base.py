"""Which model is to lie under the adapters: one that the spec names, or the accepted result of a run. Pure.

A deployment never goes back to nothing: while the run that it follows now has no accepted result, the base before it
goes on answering, and the status says so.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from posttrain_api.artifact import ArtifactSummary
from posttrain_api.conditions import Reason
from posttrain_api.model import Model
from posttrain_api.v1alpha1.adapter_deployment import ServedBase
from posttrain_api.v1alpha1.references import CheckpointReference
from posttrain_operator import followed_run
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names, runs
from posttrain_operator.followed_run import FollowedRun, Missing

BaseKind = Literal["model", "reward-model"]


class Base(Model):
    """The model that pods load; as JSON it stands in the ConfigMap, so that it outlives the run that it came from."""

    uri: str
    """Its folder."""
    kind: BaseKind = "model"
    """reward-model: it answers with scores, and takes no adapters."""
    run: str | None = None
    """The reference that it was resolved from."""


@dataclass(frozen=True)
class ResolvedBase:
    """The base of the spec and the model behind it."""

    served: Base | None
    """What pods load: the wanted one, or the one before it."""
    missing: Missing | None = None
    """Why it is not the wanted one."""


def recorded(config_map: Manifest | None) -> Base | None:
    """The base as it was written last."""
    data = config_map.get("data", {}) if config_map else {}
    try:
        return Base.model_validate_json(data[names.BASE_KEY]) if names.BASE_KEY in data else None
    except ValidationError:
        # Someone has edited it: it is written anew.
        return None


def resolve(given: ServedBase, *, run: FollowedRun | None, before: Base | None, now: datetime) -> ResolvedBase:
    """The base as it is to be; `before` is what was written last."""
    if given.from_run is None:
        return ResolvedBase(Base(uri=given.location))
    if run is None and before and before.run == runs.text(given.from_run):
        # A run may be deleted, by its time to live as well: its artifact stays, and so does the base.
        return ResolvedBase(before)
    found = _from_run(given.from_run, run, now=now)
    if found.missing is None or before is None:
        return found
    still = f"{found.missing.message}; the base before it goes on answering"
    return replace(found, served=before, missing=replace(found.missing, message=still))


def _from_run(reference: CheckpointReference, run: FollowedRun | None, *, now: datetime) -> ResolvedBase:
    found = followed_run.result(reference.name, reference.checkpoint, run)
    if isinstance(found, Missing):
        return ResolvedBase(None, found)
    assert run is not None
    match found.kind:
        case "model" | "reward-model":
            return ResolvedBase(Base(uri=found.uri, kind=found.kind, run=runs.text(reference)))
        case "lora":
            return _merged(found, reference, run, now=now)
        case other:
            message = f"the result of TrainingRun {run.name} is of kind {other}, {_NO_BASES[other]}"
            return ResolvedBase(None, Missing(Reason.RUN_UNSUITABLE, message, is_failed=True))


_NO_BASES = {
    "prompt": "which vLLM cannot serve: train with tuning.lora or tuning.full",
    "dataset": "which holds rows and no weights: train on it, and name the run that did",
}


def _merged(
    adapter: ArtifactSummary, reference: CheckpointReference, run: FollowedRun, *, now: datetime
) -> ResolvedBase:
    made = followed_run.merged(run, adapter, now=now)
    if isinstance(made, Missing):
        return ResolvedBase(None, made)
    return ResolvedBase(Base(uri=made.uri, run=runs.text(reference)))
