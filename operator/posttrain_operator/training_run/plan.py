"""What to do for a run: the first that fits of finished, invalid, refused, in preflight, in training. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Report, RunConfig, TrainingReport, recipe_digest
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, TrainingRun
from posttrain_operator.actions import Child, Manifest, Patch, Plan
from posttrain_operator.metadata import is_current
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import outcome, resources, status
from posttrain_operator.training_run.observe import JobSeen, Observed
from posttrain_operator.training_run.outcome import Identity, Outcome
from posttrain_operator.training_run.status import Frozen, Situation

POLL_SECONDS = 2.0
RECHECK_SECONDS = 60.0
REFUSED_SECONDS = 30.0
LEFTOVER_SECONDS = 1.0


@dataclass(frozen=True)
class Refusal:
    """What the API server said where it did not take a child of the last plan."""

    message: str
    is_final: bool
    """The same child will never be taken; else it may be later, as when a quota is free again."""


@dataclass(frozen=True)
class Run:
    """A run, its recipe as it was frozen, and its old status."""

    parsed: TrainingRun
    config: Manifest
    """run.json."""
    frozen: Frozen
    old: Mapping[str, Any]

    @property
    def identity(self) -> Identity:
        """Whom reports must speak of."""
        return Identity(self.parsed.metadata.uid, self.frozen.digest)


@dataclass(frozen=True)
class Decision:
    """Where a run stands, and the Job that is to be made for it."""

    situation: Situation
    job: Manifest | None = None
    recheck_at: datetime | None = None


def plan(
    manifest: Manifest, observed: Observed, *, settings: Settings, now: datetime, refusal: Refusal | None = None
) -> Plan:
    """What to do for a run, from its manifest and what was observed."""
    old = manifest.get("status") or {}
    if "finishedAt" in old:
        return _finished(manifest, observed, now=now)
    try:
        parsed = TrainingRun.model_validate({"metadata": manifest["metadata"], "spec": manifest["spec"]})
    except ValidationError as error:
        return _invalid(manifest, error, now=now)
    run = _run(parsed, observed, old)
    if observed.leftovers:
        return _after_leftovers(run, observed, now=now)
    if refusal:
        return _refused(run, observed, refusal, settings=settings, now=now)
    return _forward(run, observed, settings=settings, now=now)


def _run(parsed: TrainingRun, observed: Observed, old: Mapping[str, Any]) -> Run:
    """The run with its frozen recipe: what is in the ConfigMap, or was, is never resolved again."""
    if observed.recipe:
        config = json.loads(observed.recipe["data"]["run.json"])
    else:
        made = RunConfig(
            name=parsed.metadata.name,
            namespace=parsed.metadata.namespace,
            uid=parsed.metadata.uid,
            recipe=parsed.spec.recipe(),
        )
        config = made.to_json()
        config["recipe"] = old.get("resolved") or config["recipe"]
    return Run(parsed, config, Frozen(config["recipe"], recipe_digest(config)), old)


def _forward(run: Run, observed: Observed, *, settings: Settings, now: datetime) -> Plan:
    """The plan of a run that goes on, or ends now."""
    decision = _decide(run, observed, settings=settings, now=now)
    situation = decision.situation
    is_over = situation.is_over
    return Plan(
        create=() if is_over else _claims(run, observed, settings=settings),
        apply=() if is_over else (*_surroundings(run, observed, settings=settings), *_maybe(decision.job)),
        patch=() if is_over else _deadline_patches(run, observed),
        status=_status(run, situation, now=now),
        events=status.events(situation, run.old),
        recheck_seconds=_recheck_seconds(decision, now=now),
    )


def _maybe(manifest: Manifest | None) -> tuple[Manifest, ...]:
    return (manifest,) if manifest else ()


def _status(run: Run, situation: Situation, *, now: datetime) -> Manifest:
    generation = run.parsed.metadata.generation
    return status.status(situation, run.old, generation=generation, frozen=run.frozen, now=now)


def _claims(run: Run, observed: Observed, *, settings: Settings) -> tuple[Manifest, ...]:
    """The default claim, asked for once: before the recipe is frozen."""
    is_default = claim_of(run.parsed.spec.output.uri) == DEFAULT_CLAIM
    is_wanted = is_default and observed.recipe is None and not observed.has_default_claim
    return (resources.default_claim(run.parsed, settings=settings),) if is_wanted else ()


def _surroundings(run: Run, observed: Observed, *, settings: Settings) -> tuple[Manifest, ...]:
    """What the Jobs need to be there before them."""
    recipe = None if observed.recipe else resources.recipe(run.parsed, run.config)
    policy = resources.policy(run.parsed, settings=settings)
    return (*_maybe(recipe), *(() if is_current(policy, observed.policy) else (policy,)))


def _deadline_patches(run: Run, observed: Observed) -> tuple[Patch, ...]:
    """The one thing of a Job that may be changed while it lives."""
    job, wanted = observed.training.job, run.parsed.spec.deadline_seconds
    if job is None or observed.training.has_ended or job.get("spec", {}).get("activeDeadlineSeconds") == wanted:
        return ()
    child = Child("batch/v1", "Job", job["metadata"]["name"])
    return (Patch(child, {"spec": {"activeDeadlineSeconds": wanted}}),)


def _recheck_seconds(decision: Decision, *, now: datetime) -> float:
    if decision.situation.is_over:
        # At once: what still runs is stopped when the status says that the run is over, not before.
        return 0.0
    if decision.situation.reason is Reason.TRAINING:
        return POLL_SECONDS
    if decision.recheck_at is None:
        return RECHECK_SECONDS
    return min(RECHECK_SECONDS, max(0.0, (decision.recheck_at - now).total_seconds()))


def _decide(run: Run, observed: Observed, *, settings: Settings, now: datetime) -> Decision:
    """Where the run stands: in preflight, or beyond it."""
    validated = _known_validation(run)
    if validated:
        return _in_training(run, Situation(Reason.PENDING, "", validated), observed, settings=settings, now=now)
    decision = _in_preflight(run, observed.preflight, settings=settings, now=now)
    if decision.situation.validated:
        return _in_training(run, decision.situation, observed, settings=settings, now=now)
    return decision


def _known_validation(run: Run) -> Reason | None:
    """Why the run needs no preflight any more: the preflight's pod may be gone since."""
    if run.parsed.spec.preflight == "Skip":
        return Reason.PREFLIGHT_SKIPPED
    known = _condition(run.old, "Validated")
    return Reason.PREFLIGHT_PASSED if known and known["status"] == "True" else None


def _condition(old: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    return next((known for known in old.get("conditions") or [] if known["type"] == type_), None)


def _in_preflight(run: Run, seen: JobSeen, *, settings: Settings, now: datetime) -> Decision:
    if seen.job is None:
        job = resources.preflight(run.parsed, settings=settings)
        return Decision(Situation(Reason.PENDING, "The preflight Job is made."), job)
    found = outcome.outcome(seen, identity=run.identity, now=now)
    if found.stage == "Running":
        return Decision(Situation(Reason.PREFLIGHT_RUNNING, "The rows are being read."), recheck_at=found.recheck_at)
    if found.stage == "Waiting":
        return Decision(Situation(found.reason, found.message), recheck_at=found.recheck_at)
    return Decision(_after_preflight(found))


def _after_preflight(found: Outcome) -> Situation:
    if found.report and found.report.preflight:
        return Situation(Reason.PENDING, "", Reason.PREFLIGHT_PASSED, preflight=found.report.preflight)
    if found.report or found.reason is Reason.ARTIFACT_MISSING:
        return Situation(Reason.TRAINER_FAILED, "Preflight ended without a report of its own.", is_over=True)
    return Situation(found.reason, found.message, is_over=True)


def _in_training(run: Run, so_far: Situation, observed: Observed, *, settings: Settings, now: datetime) -> Decision:
    seen, so_far = observed.training, replace(so_far, has_trained=True)
    if seen.job is None and _condition(run.old, "Trained"):
        message = "The training Job was deleted before it ended."
        return Decision(replace(so_far, reason=Reason.JOB_DELETED, message=message, is_over=True))
    if seen.job is None:
        job = resources.training(run.parsed, settings=settings)
        return Decision(replace(so_far, reason=Reason.PENDING, message="The training Job is made."), job)
    found = outcome.outcome(seen, identity=run.identity, now=now)
    if found.stage == "Running":
        message = "The model is being trained."
        situation = replace(so_far, reason=Reason.TRAINING, message=message, trainer=observed.trainer)
    elif found.stage == "Waiting":
        situation = replace(so_far, reason=found.reason, message=found.message)
    else:
        situation = _after_training(found, seen, so_far)
    return Decision(situation, recheck_at=found.recheck_at)


def _after_training(found: Outcome, seen: JobSeen, so_far: Situation) -> Situation:
    if found.report is None:
        return replace(so_far, reason=found.reason, message=found.message, is_over=True)
    report = found.report.training
    if report is None or not _is_complete(report):
        reason, message = _incomplete(found.report)
        return replace(so_far, reason=reason, message=message, is_over=True)
    message = "The artifact is complete, proven and judged."
    image = _image(seen)
    return replace(so_far, reason=Reason.READY, message=message, is_over=True, training=report, image=image)


def _is_complete(report: TrainingReport) -> bool:
    return report.steps_completed == report.steps_planned > 0


def _incomplete(report: Report) -> tuple[Reason, str]:
    if report.training is None:
        return Reason.ARTIFACT_MISSING, "The trainer's report names no artifact."
    done, planned = report.training.steps_completed, report.training.steps_planned
    return Reason.TRAINER_STOPPED, f"The trainer stopped after {done} of {planned} steps."


def _image(seen: JobSeen) -> str | None:
    statuses = (seen.pod or {}).get("status", {}).get("containerStatuses") or []
    return next((container["imageID"] or container["image"] for container in statuses), None)


def _finished(manifest: Manifest, observed: Observed, *, now: datetime) -> Plan:
    """A run that is over: its Jobs stop, its time to live runs; terminal status wins over missing children."""
    old = manifest["status"]
    running = tuple(
        Child("batch/v1", "Job", seen.job["metadata"]["name"])
        for seen in (observed.preflight, observed.training)
        if seen.job and not seen.has_ended and "deletionTimestamp" not in seen.job["metadata"]
    )
    left = _seconds_to_live(manifest, now=now)
    return Plan(
        delete=running,
        status=_of_generation(old, manifest["metadata"]["generation"]),
        recheck_seconds=left,
        delete_parent=left is not None and left <= 0,
    )


def _seconds_to_live(manifest: Manifest, *, now: datetime) -> float | None:
    seconds = manifest["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return None
    end = datetime.fromisoformat(manifest["status"]["finishedAt"]) + timedelta(seconds=seconds)
    return (end - now).total_seconds()


def _of_generation(old: Manifest, generation: int) -> Manifest | None:
    """The same status for a newer spec: an operation of a finished run was changed. None where it is of this one."""
    if old.get("observedGeneration") == generation:
        return None
    known = [{**condition, "observedGeneration": generation} for condition in old.get("conditions") or []]
    return {**old, "observedGeneration": generation, "conditions": known}


def _invalid(manifest: Manifest, error: ValidationError, *, now: datetime) -> Plan:
    """Our models are stricter than the schema in a few places; the API server has let this one through."""
    found = [f"{'.'.join(map(str, known['loc']))}: {known['msg']}" for known in error.errors()]
    situation = Situation(Reason.INVALID_SPEC, "; ".join(found), is_stalled=True)
    old, generation = manifest.get("status") or {}, manifest["metadata"]["generation"]
    new = status.status(situation, old, generation=generation, frozen=None, now=now)
    return Plan(status=new, events=status.events(situation, old))


def _after_leftovers(run: Run, observed: Observed, *, now: datetime) -> Plan:
    """Names are fixed: what an earlier run of this name has left must go first."""
    unwanted = [found for found in observed.leftovers if "deletionTimestamp" not in found["metadata"]]
    situation = Situation(Reason.PENDING, "Waits until the objects of an earlier run of this name are gone.")
    return Plan(
        delete=tuple(Child(found["apiVersion"], found["kind"], found["metadata"]["name"]) for found in unwanted),
        status=_status(run, situation, now=now),
        recheck_seconds=LEFTOVER_SECONDS,
    )


def _refused(run: Run, observed: Observed, refusal: Refusal, *, settings: Settings, now: datetime) -> Plan:
    """The situation without the child that was refused; it is tried again now and then."""
    situation = replace(
        _decide(run, observed, settings=settings, now=now).situation,
        reason=Reason.POD_REFUSED,
        message=refusal.message,
        is_stalled=refusal.is_final,
        has_trained=observed.training.job is not None,
    )
    return Plan(
        status=_status(run, situation, now=now),
        events=status.events(situation, run.old),
        recheck_seconds=REFUSED_SECONDS,
    )
