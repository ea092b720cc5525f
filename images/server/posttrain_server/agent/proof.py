"""The behavioural proof: does the engine answer as the manifest says that base and adapter answer? Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from posttrain_api.artifact import Dtype, Probe

FULL_TOLERANCE = 2e-3
"""Mean difference in nats where manifest and engine both compute in float32. Measured on the CPU: 1e-5 at most; the
manifest rounds to 1e-4; the rest is room for other kernels and matrix units."""
HALF_TOLERANCE = 0.15
"""The same where either computes in bfloat16 or float16. Measured: 0.28 for the worst token of a tiny model, a tenth of
that in the mean. Other weights of the same size are several nats away."""
SAME_AS_BASE = 1e-6
"""In nats: below this in every token, the adapter changes nothing."""

LogProbabilities = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Served:
    """What the engine answered to the probes, cut to the probes' first `length` tokens."""

    base: LogProbabilities
    adapter: LogProbabilities


@dataclass(frozen=True)
class Verdict:
    """Whether the adapter is proven."""

    distance: float
    """Mean absolute difference between served and recorded log probabilities, in nats."""
    failure: str | None = None
    """Why it is not proven."""


def prompts(probes: Sequence[Probe], *, max_length: int) -> list[list[int]]:
    """The probes' tokens, cut to what the engine takes with one token of answer: what is before a cut stays true."""
    return [probe.token_ids[: max_length - 1] for probe in probes]


def tolerance(manifest: Dtype, engine: Dtype) -> float:
    """The mean difference that is allowed between the two precisions."""
    return FULL_TOLERANCE if (manifest, engine) == ("float32", "float32") else HALF_TOLERANCE


def judge(probes: Sequence[Probe], served: Served, *, allowed: float) -> Verdict:
    """Prove the adapter: it acts, it moves the base in the recorded direction and size, and it ends where recorded.

    The shift from the base is compared as served with as recorded: what the engine rounds away in both cancels out.
    """
    base = _cut([probe.base for probe in probes], served.base)
    result = _cut([probe.result for probe in probes], served.adapter)
    served_base, served_adapter = _flat(served.base), _flat(served.adapter)
    served_shift = _minus(served_adapter, served_base)
    recorded_shift = _minus(result, base)
    distance, base_distance = _mean(_minus(served_adapter, result)), _mean(_minus(served_base, base))
    if base_distance > allowed:
        return Verdict(distance, f"the base itself answers {base_distance:.4f} nats from its manifest's record of it")
    if max(map(abs, served_shift)) < SAME_AS_BASE:
        return Verdict(
            distance, "it changes nothing: the engine answers as the base does. Do its target modules exist?"
        )
    if _square(_minus(served_shift, recorded_shift)) >= _square(served_shift):
        return Verdict(distance, "its answers are nearer to the base's than to the manifest's result")
    if distance > allowed:
        return Verdict(
            distance,
            f"its log probabilities are {distance:.4f} nats from the manifest's on average, {allowed} are allowed",
        )
    return Verdict(distance)


def _cut(recorded: LogProbabilities, served: LogProbabilities) -> list[float]:
    return [value for old, new in zip(recorded, served, strict=True) for value in old[: len(new)]]


def _flat(values: LogProbabilities) -> list[float]:
    return [value for row in values for value in row]


def _minus(left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(map(abs, values)) / len(values)


def _square(values: Sequence[float]) -> float:
    return sum(value * value for value in values)
