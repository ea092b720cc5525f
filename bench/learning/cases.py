"""The table's rows: a method or tuning, what it is shown, and the least that it must reach."""

from dataclasses import dataclass, field
from typing import Any, Literal

Measure = Literal["exactMatch", "preferenceAccuracy", "rankingAccuracy", "divergence", "score", "bothTasks"]
SFT_RATE, WHOLE_RATE = 2e-3, 1e-3


@dataclass(frozen=True)
class Case:
    """One training and what is claimed of it."""

    name: str
    method: str
    measure: Measure
    at_least: float
    """Least gain of the measured number; for divergence, the least share of it that goes away."""
    num_rows: int = 1600
    start: Literal["base", "sft"] = "base"
    """sft: the base after a shared supervised training."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    is_variant: bool = False
    """A variant of another row: measured with one seed."""


def _sft(
    name: str, tuning: dict[str, Any], *, rate: float = SFT_RATE, at_least: float = 0.5, variant: bool = True
) -> Case:
    return Case(
        name,
        "sft",
        "exactMatch",
        at_least,
        hyperparameters={"learningRate": rate, "epochs": 3},
        spec={"tuning": tuning},
        is_variant=variant,
    )


def _lora(name: str, **lora: Any) -> Case:
    return _sft(name, {"lora": {"rank": 16, "alpha": 32, **lora}})


def _pairs(method: str, rate: float, *, start: Literal["base", "sft"] = "sft", **block: Any) -> Case:
    return Case(
        method,
        method,
        "preferenceAccuracy",
        0.5,
        num_rows=640,
        start=start,
        hyperparameters={"learningRate": rate, "epochs": 1},
        spec={method: block} if block else {},
    )


CASES = (
    _sft("sft, lora", {"lora": {"rank": 16, "alpha": 32}}, variant=False),
    _lora("sft, lora gaussian", init="gaussian"),
    _lora("sft, lora olora", init="olora"),
    _lora("sft, lora pissa", init="pissa"),
    _lora("sft, lora eva", init="eva"),
    _lora("sft, dora", dora=True),
    _lora("sft, rank-stabilized", rankStabilized=True, alpha=8),
    _sft("sft, full", {"full": {}}, rate=WHOLE_RATE, variant=False),
    _sft("sft, osft", {"osft": {"unfreezeRankRatio": 0.5}}, rate=WHOLE_RATE, variant=False),
    _pairs("dpo", 5e-4),
    _pairs("simpo", 2e-4),
    _pairs("orpo", 2e-3, start="base"),
    Case("kto", "kto", "preferenceAccuracy", 0.5, 1280, "sft", {"learningRate": 5e-4, "epochs": 1}),
    Case("reward", "reward", "rankingAccuracy", 0.9, 640, "sft", {"learningRate": 1e-3, "epochs": 1}),
    Case("bestOf", "bestOf", "score", 0.05, 60, "sft"),
)
