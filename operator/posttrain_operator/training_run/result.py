"""What a training's report is worth: whether it is complete, and whether it passes the recipe's gates. Pure."""

from dataclasses import replace

from posttrain_api import gates
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Report, TrainingReport
from posttrain_api.v1alpha1.evaluation import Gate
from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_operator.actions import Manifest
from posttrain_operator.jobs import JobSeen
from posttrain_operator.training_run.outcome import Outcome
from posttrain_operator.training_run.status import Situation


def after_training(found: Outcome, seen: JobSeen, so_far: Situation, *, recipe: Manifest) -> Situation:
    """Where a run stands whose training Job has ended."""
    if found.report is None:
        ended = replace(so_far, reason=found.reason, message=found.message, is_over=True)
        return replace(ended, checkpoints=found.checkpoints)
    report = found.report.training
    if report is None or not _is_complete(report, method=recipe["method"]):
        reason, message = _incomplete(found.report)
        return replace(so_far, reason=reason, message=message, is_over=True)
    return _judged(report, replace(so_far, is_over=True, image=_image(seen)), recipe=recipe)


def _judged(report: TrainingReport, so_far: Situation, *, recipe: Manifest) -> Situation:
    measured = report.evaluation
    wanted = [Gate.model_validate(gate) for gate in recipe["evaluation"].get("gates", [])]
    found = gates.results(wanted, before=measured.before, after=measured.after)
    judged = replace(so_far, training=report.replace(evaluation=measured.replace(gates=found)))
    failed = [gates.sentence(gate) for gate in found if not gate.passed]
    if failed:
        return replace(judged, reason=Reason.GATE_FAILED, message=f"Not accepted: {'; '.join(failed)}.")
    return replace(judged, reason=Reason.READY, message="The artifact is complete, proven and judged.")


def _is_complete(report: TrainingReport, *, method: str) -> bool:
    if report.steps_planned == 0:
        return method not in TRAINING
    return report.stopped_early or report.steps_completed == report.steps_planned


def _incomplete(report: Report) -> tuple[Reason, str]:
    if report.training is None:
        return Reason.ARTIFACT_MISSING, "The trainer's report names no artifact."
    done, planned = report.training.steps_completed, report.training.steps_planned
    return Reason.TRAINER_STOPPED, f"The trainer stopped after {done} of {planned} steps."


def _image(seen: JobSeen) -> str | None:
    statuses = (seen.pod or {}).get("status", {}).get("containerStatuses") or []
    return next((container["imageID"] or container["image"] for container in statuses), None)
