"""The table's rows: a method or tuning, what it learns from, and the least change that is claimed of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LORA = {"lora": {"rank": 16, "alpha": 32}}


@dataclass(frozen=True, eq=False)
class Case:
    """One training and what is claimed of it."""

    name: str
    claims: Mapping[str, float]
    """Name of a measure -> the least change of it; below 0 where it is to fall."""
    data: str
    """A kind of rows, or the name of a bestOf case, whose kept rows are learned from."""
    num_rows: int
    method: str = "sft"
    start: str | None = None
    """A case whose adapter is merged into the base to start from; left out: the bare base."""
    tuning: Mapping[str, Any] = field(default_factory=lambda: LORA)
    learning_rate: float = 2e-3
    epochs: float = 1
    batch_size: int = 32
    block: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the method."""
    runs: tuple[str, ...] = ()
    """Cases that it builds on: the adapters of a merge, the teacher, or what it is compared with."""
    is_variant: bool = False
    """A variant of another row: measured with one seed."""


def _sft(name: str, tuning: Mapping[str, Any], **other: Any) -> Case:
    return Case(name, tuning=tuning, **{"claims": {EXACT: 0.8}, "data": "dates", "num_rows": 1600, **other})


def _lora(name: str, *, is_variant: bool = True, **lora: Any) -> Case:
    return _sft(name, {"lora": {**LORA["lora"], **lora}}, is_variant=is_variant)


def _pairs(name: str, method: str, rate: float, claims: Mapping[str, float], **other: Any) -> Case:
    return Case(
        name, claims, "pairs", **{"num_rows": 640, "method": method, "start": MIXED, "learning_rate": rate, **other}
    )


EXACT, EXACT_NUMBERS, NATS = "exact match", "exact match of numbers", "nats a token"
PREFERENCE = "preference accuracy"
MIXED, DATES, NUMBERS, FULL_SECOND = "mixed", "sft, lora", "sft, lora, numbers", "full, second task"
STARTS = (
    Case(MIXED, {}, "mixed", 1600, learning_rate=3e-3),
    Case(FULL_SECOND, {}, "numbers", 352, start=DATES, tuning={"full": {}}, learning_rate=1e-3),
)
"""Trainings that others start from or are compared with, and that claim nothing."""
CASES = (
    _sft(DATES, LORA, claims={EXACT: 0.8, "exact match, by lm-eval": 0.8}),
    _lora("sft, lora gaussian", init="gaussian"),
    _lora("sft, lora olora", init="olora"),
    _lora("sft, lora pissa", init="pissa"),
    _lora("sft, lora eva", init="eva"),
    _lora("sft, lora rank-stabilized", is_variant=False, rankStabilized=True, rank=64, alpha=16),
    _lora("sft, dora", is_variant=False, dora=True),
    _sft("sft, full", {"full": {}}, learning_rate=1e-3),
    _sft("sft, osft", {"osft": {"unfreezeRankRatio": 0.75}}, learning_rate=4e-3, claims={EXACT: 0.6}),
    _sft("sft, prompt tuning", {"promptTuning": {"virtualTokens": 20}}, learning_rate=3e-2, claims={NATS: -3.5}),
    _pairs("dpo", "dpo", 5e-4, {PREFERENCE: 0.8, EXACT: 0.5}),
    _pairs("dpo, ipo", "dpo", 5e-4, {PREFERENCE: 0.8}, block={"loss": ["ipo"]}, is_variant=True),
    _pairs("dpo, sigmoid and sft", "dpo", 5e-4, {PREFERENCE: 0.8}, block={"loss": ["sigmoid", "sft"]}, is_variant=True),
    _pairs("simpo", "simpo", 2e-4, {PREFERENCE: 0.8}),
    _pairs("orpo", "orpo", 3e-3, {PREFERENCE: 0.6}, start=None, num_rows=960),
    Case(
        "kto",
        {PREFERENCE: 0.8, "probability of the desirable answer": 0.4, "probability of the undesirable answer": -0.4},
        "labelled",
        640,
        method="kto",
        start=MIXED,
        learning_rate=5e-4,
    ),
    Case("reward", {"ranking accuracy": 0.3, "ranking loss": -0.4}, "rankings", 640, method="reward"),
    Case(
        "distill",
        {"divergence from the teacher": -2.5},
        "prompts",
        640,
        method="distill",
        learning_rate=3e-3,
        batch_size=16,
        block={"maxCompletionTokens": 16},
        runs=(DATES,),
    ),
    Case(
        "bestOf",
        {"score of the answers": 0.3},
        "prompts",
        80,
        method="bestOf",
        start=MIXED,
        tuning={},
        block={"samples": 8, "maxCompletionTokens": 20},
    ),
    Case("sft, on what bestOf kept", {EXACT: 0.5}, "bestOf", 0, start=MIXED, epochs=4),
    Case(NUMBERS, {EXACT_NUMBERS: 0.8}, "numbers", 1600),
    Case(
        "merge",
        {EXACT: 0.2, EXACT_NUMBERS: 0.3},
        "dates",
        64,
        method="merge",
        tuning={},
        block={"weight": 0.5},
        runs=(DATES, NUMBERS),
    ),
    Case(
        "osft, second task",
        {EXACT_NUMBERS: 0.5, "second task, by full and by osft": -0.01, "first task, by full and by osft": -0.2},
        "numbers",
        1600,
        start=DATES,
        tuning={"osft": {"unfreezeRankRatio": 0.5}},
        learning_rate=4e-3,
        runs=(FULL_SECOND,),
    ),
)


def named(name: str) -> Case:
    """The case or start of a name."""
    return next(case for case in (*STARTS, *CASES) if case.name == name)
