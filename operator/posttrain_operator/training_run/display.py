"""Texts for the printed columns, which cannot format. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run_status import Display, GateResult

BEST_METRICS = ("success", "exactMatch", "preferenceAccuracy", "reward", "tokenAccuracy", "loss")
"""Which measure of a result the column shows, in this order."""
STEP_METRICS = ("success", "reward", "loss")
"""Likewise of a training that goes on: the loss of a model that learns from rewards says nothing."""


def display(
    reason: Reason, gates: Sequence[GateResult], shown: Mapping[str, Any], *, round: int, waits_for: str | None
) -> Display:
    """Texts for the columns."""
    progress = shown.get("progress", {})
    seconds = progress.get("etaSeconds")
    is_training = reason is Reason.TRAINING
    return Display(
        progress=f"for {waits_for}" if waits_for else _progress(progress, round),
        metric=_metric(shown),
        eta=duration(seconds) if is_training and seconds is not None else "",
        step=f"{progress['step']}/{progress['totalSteps']}" if progress else "",
        gate=of_all(gates) if gates else "",
        reason=reason.value,
    )


def _progress(progress: Mapping[str, Any], round: int) -> str:
    """How far this round is; the first has no number where no other follows."""
    percent = f"{progress['percent']}%" if progress else ""
    return f"round {round}: {percent or '0%'}" if round else percent


def _metric(shown: Mapping[str, Any]) -> str:
    result = shown.get("evaluation", {}).get("after", {})
    best = next((name for name in BEST_METRICS if name in result), None)
    if best:
        return f"{best} {result[best]:.2f}"
    now = shown.get("metrics", {})
    latest = next((name for name in STEP_METRICS if now.get(name) is not None), None)
    return f"{latest} {now[latest]:.2f}" if latest else ""


def duration(seconds: float) -> str:
    """Seconds as people say them: 45s, 14m, 2h10m, 3d4h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if hours else f"{days}d"


def of_all(gates: Sequence[GateResult]) -> str:
    """How many gates were passed, of how many."""
    return f"{sum(gate.passed for gate in gates)}/{len(gates)}"
