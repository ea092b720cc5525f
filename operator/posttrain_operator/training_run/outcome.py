"""What became of one of a run's Jobs: it waits, it runs, or it ended with a report or a reason. Pure.

The pod's termination message is the last word: not the Job's condition, which comes seconds later, never an exit code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import EXIT_STOPPED, Failure, Report
from posttrain_api.v1alpha1.training_run_status import NamedCheckpoint
from posttrain_operator import jobs, pod_waiting
from posttrain_operator.actions import Manifest
from posttrain_operator.jobs import JobSeen

NODE_PATIENCE = timedelta(seconds=10)
"""How long after a pod's last moment a silent kubelet counts as lost."""
DISRUPTIONS = {
    "PreemptionByScheduler": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
}
"""Reason of a pod's condition DisruptionTarget -> ours."""
POD_REASONS = {
    "Evicted": Reason.EVICTED,
    "Preempting": Reason.PREEMPTED,
    "NodeShutdown": Reason.NODE_LOST,
    "NodeLost": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,
    "DeadlineExceeded": Reason.DEADLINE_EXCEEDED,
}
"""Reason in a failed pod's status -> ours; others say that the node refused it."""
KILLED = {128 + 9, 128 + 15, EXIT_STOPPED}


@dataclass(frozen=True)
class Outcome:
    """What became of a Job."""

    stage: Literal["Waiting", "Running", "Ended"]
    reason: Reason
    message: str
    report: Report | None = None
    """What a trainer that ended well reported; of this run and this recipe."""
    checkpoints: Sequence[NamedCheckpoint] = ()
    """What a trainer that failed had published before."""
    recheck_at: datetime | None = None
    """When it is something else by the passing of time alone."""


@dataclass(frozen=True)
class Identity:
    """Whom a report must speak of to be believed."""

    uid: str
    recipe_digest: str


def outcome(seen: JobSeen, *, identity: Identity, now: datetime) -> Outcome:
    """What became of a Job that exists."""
    assert seen.job is not None
    ended = seen.container_state.get("terminated")
    if ended is not None:
        return _of_termination(ended, seen, identity=identity)
    failure = _failure_without_a_word(seen, now=now)
    if failure:
        return _ended(failure)
    if seen.is_running:
        return Outcome("Running", Reason.TRAINING, "", recheck_at=_last_moment(seen.pod))
    return _waiting(seen, now=now)


def _ended(failure: Failure) -> Outcome:
    return Outcome("Ended", failure.reason, failure.message, checkpoints=failure.checkpoints)


def _of_termination(ended: dict[str, Any], seen: JobSeen, *, identity: Identity) -> Outcome:
    report = jobs.report(ended.get("message", ""))
    if report and (report.uid, report.recipe_digest) != (identity.uid, identity.recipe_digest):
        return _ended(
            Failure(reason=Reason.ARTIFACT_MISSING, message="The report speaks of another run or another recipe.")
        )
    if report and report.failure is None:
        return Outcome("Ended", Reason.SUCCEEDED, "", report)
    said = report.failure if report else None
    if said is None or said.reason is Reason.TRAINER_STOPPED:
        found = _stopped_from_outside(ended, seen) or said or _exit_failure(ended)
        return _ended(found.replace(checkpoints=said.checkpoints if said else []))
    return _ended(said)


def _stopped_from_outside(ended: dict[str, Any], seen: JobSeen) -> Failure | None:
    """Who stopped a trainer that says no more than that it was stopped."""
    if ended.get("reason") == "OOMKilled":
        limits = (seen.container_status.get("resources") or {}).get("limits") or {}
        limit = f" of {limits['memory']}" if "memory" in limits else ""
        message = f"The trainer needed more than its memory limit{limit} and was killed: raise resources.memory."
        return Failure(reason=Reason.OUT_OF_MEMORY, message=message)
    return _deadline(seen, end=ended.get("finishedAt")) or _disruption(seen.pod) or _eviction(seen.pod)


def _exit_failure(ended: dict[str, Any]) -> Failure:
    code = ended.get("exitCode")
    if code == 0:
        message = "The trainer ended with exit code 0 but without a report of a complete artifact."
        return Failure(reason=Reason.ARTIFACT_MISSING, message=message)
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        message = f"The container could not be started: {ended.get('message', '')[:500]}"
        return Failure(reason=Reason.POD_REFUSED, message=message)
    if code in KILLED:
        return Failure(reason=Reason.TRAINER_STOPPED, message=f"The trainer was stopped (exit code {code}).")
    message = f"The trainer ended with exit code {code} and without a report: see the pod's log."
    return Failure(reason=Reason.TRAINER_FAILED, message=message)


def _failure_without_a_word(seen: JobSeen, *, now: datetime) -> Failure | None:
    """Why nothing will come of a Job whose trainer container has not ended."""
    return _deadline(seen) or _pod_failure(seen.pod) or _lost(seen.pod, now=now) or _job_end(seen)


def _deadline(seen: JobSeen, *, end: str | None = None) -> Failure | None:
    """The Job's deadline, where it is over; `end` is when the container ended."""
    assert seen.job is not None
    failed = seen.condition("FailureTarget") or seen.condition("Failed")
    seconds = (seen.job.get("spec") or {}).get("activeDeadlineSeconds")
    started = (seen.job.get("status") or {}).get("startTime")
    is_over = failed.get("status") == "True" and failed.get("reason") == "DeadlineExceeded"
    if end and started and seconds:
        # The container may be seen to end before the Job's condition is.
        last = datetime.fromisoformat(started) + timedelta(seconds=seconds)
        is_over = is_over or datetime.fromisoformat(end) >= last
    if not is_over:
        return None
    message = f"The Job took longer than deadlineSeconds ({seconds}), waiting included."
    return Failure(reason=Reason.DEADLINE_EXCEEDED, message=message)


def _disruption(pod: Manifest | None) -> Failure | None:
    found = pod_waiting.condition(pod or {}, "DisruptionTarget")
    if found.get("status") != "True":
        return None
    reason = DISRUPTIONS.get(found.get("reason", ""), Reason.EVICTED)
    return Failure(reason=reason, message=f"The pod was taken away: {found.get('message') or found.get('reason')}")


def _pod_failure(pod: Manifest | None) -> Failure | None:
    """Why a pod failed whose container never ran, or has no status any more."""
    status = (pod or {}).get("status") or {}
    if status.get("phase") != "Failed":
        return None
    said = status.get("message") or status.get("reason") or "no reason given"
    refused = Failure(reason=Reason.POD_REFUSED, message=f"The node refused the pod: {said}")
    return _disruption(pod) or _eviction(pod) or refused


def _eviction(pod: Manifest | None) -> Failure | None:
    """Who ended a pod, as far as its status has a word for it."""
    status = (pod or {}).get("status") or {}
    reason = POD_REASONS.get(status.get("reason", ""))
    message = f"The pod was taken away: {status.get('message') or status.get('reason')}"
    return Failure(reason=reason, message=message) if reason else None


def _last_moment(pod: Manifest | None) -> datetime | None:
    """When a pod that is being deleted must be over; None for others."""
    text = (pod or {}).get("metadata", {}).get("deletionTimestamp")
    return datetime.fromisoformat(text) + NODE_PATIENCE if text else None


def _lost(pod: Manifest | None, *, now: datetime) -> Failure | None:
    last = _last_moment(pod)
    if last is None or now < last:
        return None
    disruption = _disruption(pod)
    message = "The pod should have ended, and its node does not answer."
    return disruption or Failure(reason=Reason.NODE_LOST, message=message)


def _job_end(seen: JobSeen) -> Failure | None:
    """The end of a Job whose pod is gone: the report went with it."""
    if seen.condition("Complete").get("status") == "True":
        message = "The Job is complete, but its pod is gone, and the report with it."
        return Failure(reason=Reason.ARTIFACT_MISSING, message=message)
    failed = seen.condition("Failed")
    if failed.get("status") != "True":
        return None
    message = f"The Job failed, and its pod is gone: {failed.get('message') or failed.get('reason')}"
    return _disruption(seen.pod) or Failure(reason=Reason.TRAINER_STOPPED, message=message)


def _waiting(seen: JobSeen, *, now: datetime) -> Outcome:
    found = jobs.waiting(seen, now=now)
    if found.is_final(now):
        return Outcome("Ended", found.reason, found.message)
    recheck_at = found.recheck_at or found.gives_up_at or _last_moment(seen.pod)
    return Outcome("Waiting", found.reason, found.message, recheck_at=recheck_at)
