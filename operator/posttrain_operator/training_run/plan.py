"""What to do for a run: the first that fits of finished, invalid, held up, refused, going on. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_operator.actions import Child, Manifest, Patch, Plan
from posttrain_operator.merge import Outcome
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import merges, stages, status
from posttrain_operator.training_run.observe import Observed
from posttrain_operator.training_run.stages import Decision, Run
from posttrain_operator.training_run.status import Situation

POLL_SECONDS = 2.0
RECHECK_SECONDS = 60.0
REFUSED_SECONDS = 30.0
LEFTOVER_SECONDS = 1.0
HELD_SECONDS = 2.0
"""Between two looks at a run whose time to live is over while others still need it."""


@dataclass(frozen=True)
class Refusal:
    """What the API server said where it did not take a child of the last plan."""

    message: str
    is_final: bool
    """The same child will never be taken; else it may be later, as when a quota is free again."""


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
    run = stages.run(parsed, observed, old, settings=settings, now=now)
    if observed.leftovers:
        return _after_leftovers(run, observed, now=now)
    decision = stages.decide(run, observed, settings=settings, now=now)
    # What was observed since then may have ended the run: the end is the news then, not the refusal.
    if refusal and not decision.situation.is_over:
        return _refused(run, observed, decision, refusal, now=now)
    return _going_on(run, observed, decision, now=now)


def _going_on(run: Run, observed: Observed, decision: Decision, *, now: datetime) -> Plan:
    """The plan of a run that goes on, or ends now."""
    return Plan(
        create=decision.create,
        apply=decision.apply,
        patch=() if decision.situation.is_over else _deadline_patches(run, observed),
        status=_status(decision.next_round or run, decision.situation, now=now),
        events=status.events(decision.situation, run.old),
        recheck_seconds=_recheck_seconds(decision, now=now),
    )


def _status(run: Run, situation: Situation, *, now: datetime) -> Manifest:
    generation = run.parsed.metadata.generation
    return status.status(situation, run.old, generation=generation, frozen=run.frozen, now=now)


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


def _finished(manifest: Manifest, observed: Observed, *, now: datetime) -> Plan:
    """A run that is over: its Jobs stop, its time to live runs; terminal status wins over missing children."""
    running = tuple(
        Child("batch/v1", "Job", seen.job["metadata"]["name"])
        for seen in (observed.preflight, observed.training)
        if seen.job and not seen.has_ended and "deletionTimestamp" not in seen.job["metadata"]
    )
    old = manifest["status"]
    known = _of_generation(old, manifest["metadata"]["generation"])
    found = merges.outcomes(manifest, observed.merges, now=now)
    new = merges.status({**manifest, "status": known}, found, now=now)
    left = _seconds_to_live(manifest, now=now)
    # What others need of it is not taken from under them, such as the Job that makes their base.
    is_held = observed.is_awaited or any(outcome.state == "Merging" for outcome in found)
    has_outlived = left is not None and left <= 0
    return Plan(
        delete=running,
        status=new if new != old else None,
        events=merges.events(old, new),
        recheck_seconds=_soonest(HELD_SECONDS if has_outlived and is_held else left, found, now=now),
        delete_parent=has_outlived and not is_held,
    )


def _soonest(left: float | None, found: list[Outcome], *, now: datetime) -> float | None:
    """When a finished run is to be looked at without an event."""
    rechecks = [(outcome.recheck_at - now).total_seconds() for outcome in found if outcome.recheck_at]
    return min([*rechecks, *([] if left is None else [left])], default=None)


def _seconds_to_live(manifest: Manifest, *, now: datetime) -> float | None:
    seconds = manifest["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return None
    end = datetime.fromisoformat(manifest["status"]["finishedAt"]) + timedelta(seconds=seconds)
    return (end - now).total_seconds()


def _of_generation(old: Manifest, generation: int) -> Manifest:
    """The same status for a newer spec: an operation of a finished run was changed."""
    if old.get("observedGeneration") == generation:
        return old
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


def _refused(run: Run, observed: Observed, decision: Decision, refusal: Refusal, *, now: datetime) -> Plan:
    """The situation without the child that was refused; it is tried again now and then."""
    situation = replace(
        decision.situation,
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
