"""The rules of health that a trainer finds broken, as conditions and events. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from posttrain_api.conditions import Condition, Reason, condition
from posttrain_api.trainer_contract import TrainingReport
from posttrain_api.v1alpha1.health import CONDITIONS, HealthFinding
from posttrain_operator.actions import Event, Manifest

RULES = {reason.value for reason in CONDITIONS.values()}


def known(findings: Iterable[HealthFinding]) -> list[Manifest]:
    """The findings for a status, each rule once: an image may be anybody's, and say Ready."""
    found = {finding.rule: finding.to_json() for finding in findings if finding.rule in RULES}
    return list(found.values())


def conditions(status: Mapping[str, Any], generation: int, now: datetime) -> list[Condition]:
    """One condition for each rule that a status says is broken; its reason is the rule again."""
    return [
        condition(found["rule"], True, Reason(found["rule"]), found["message"], generation=generation, now=now)
        for found in status.get("health", [])
    ]


def events(findings: Iterable[HealthFinding], old: Mapping[str, Any]) -> tuple[Event, ...]:
    """A warning for each rule that was not broken before."""
    before = {finding["rule"] for finding in old.get("health", [])}
    return tuple(
        Event("Warning", found["rule"], found["message"]) for found in known(findings) if found["rule"] not in before
    )


def steps(report: TrainingReport) -> str:
    """How many steps were done, and which rule ended the training, where one did."""
    done, planned = report.steps_completed, report.steps_planned
    stopped = next((finding for finding in report.health if finding.stopped), None)
    return f"{done} of {planned} steps, stopped for {stopped.rule}" if stopped else f"{done} steps"
