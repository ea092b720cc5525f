"""Whether a result is good enough: the gates of a recipe against its two measurements. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

from posttrain_api.v1alpha1.evaluation import LOWER_IS_BETTER, Gate, bare
from posttrain_api.v1alpha1.training_run_status import GateResult

Bound = Literal["min", "max", "minGain", "maxRegression"]
Metrics = Mapping[str, float | None]


def results(gates: Iterable[Gate], *, before: Metrics, after: Metrics) -> list[GateResult]:
    """What each gate says of a result. A metric that is not a number, or was not measured, fails its gate."""
    return [_result(gate, before.get(gate.metric), after.get(gate.metric)) for gate in gates]


def gain(metric: str, before: float, after: float) -> float:
    """By how much a result is better than the start: lower is better for some metrics."""
    return before - after if bare(metric) in LOWER_IS_BETTER else after - before


def sentence(found: GateResult) -> str:
    """A gate that failed, for people."""
    value = "not a number" if found.value is None else f"{found.value:.4g}"
    wanted = {
        "min": "at least",
        "max": "at most",
        "minGain": "better than the start by at least",
        "maxRegression": "worse than the start by at most",
    }[found.bound]
    what = f"{found.metric} is {value}" if found.bound in ("min", "max") else f"{found.metric} gained {value}"
    return f"{what}, the gate wants it {wanted} {found.threshold:g}"


def _result(gate: Gate, before: float | None, after: float | None) -> GateResult:
    if gate.min is not None:
        return _judged(gate, "min", gate.min, after, after is not None and after >= gate.min)
    if gate.max is not None:
        return _judged(gate, "max", gate.max, after, after is not None and after <= gate.max)
    gained = None if before is None or after is None else gain(gate.metric, before, after)
    if gate.min_gain is not None:
        return _judged(gate, "minGain", gate.min_gain, gained, gained is not None and gained >= gate.min_gain)
    assert gate.max_regression is not None
    has_passed = gained is not None and gained >= -gate.max_regression
    return _judged(gate, "maxRegression", gate.max_regression, gained, has_passed)


def _judged(gate: Gate, bound: Bound, threshold: float, value: float | None, has_passed: bool) -> GateResult:
    return GateResult(metric=gate.metric, bound=bound, threshold=threshold, value=value, passed=has_passed)
