"""The rules of health, on the numbers of trainings that did not happen: each is broken by its own case, and by none
that comes near it."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from posttrain_api.v1alpha1.health import CONDITIONS, Health
from posttrain_trainer.rl import health

Curve = Callable[[float], float | None]
"""How far a training is, from 0 to 1 -> a metric."""
NUM_STEPS = 60


def history(*, steps: int = NUM_STEPS, noise: float = 0.02, **curves: Curve | float | None) -> list[dict[str, Any]]:
    """Steps whose metrics follow curves, each value off by a share of noise; what is not named is in good health."""
    healthy: dict[str, Curve | float | None] = {
        "loss": 0.1,
        "gradNorm": 0.5,
        "reward": lambda t: 0.3 + 0.4 * t,
        "success": lambda t: 0.2 + 0.5 * t,
        "entropy": lambda t: 1.0 - 0.5 * t,
        "kl": lambda t: 0.2 * t,
        "noSpreadShare": 0.4,
        "meanTokens": lambda t: 40 + 5 * t,
        "truncatedShare": 0.05,
        "samplingMismatch": 0.01,
    }
    drawn = random.Random(0)

    def value(curve: Curve | float | None, place: int) -> float | None:
        found = curve(place / max(steps - 1, 1)) if callable(curve) else curve
        return None if found is None else found * (1 + noise * drawn.gauss(0, 1))

    return [
        {"step": place + 1, **{name: value(curve, place) for name, curve in (healthy | curves).items()}}
        for place in range(steps)
    ]


def after(share: float, late: float, early: float) -> Curve:
    """One number until a share of the training, another from there on."""
    return lambda t: late if t > share else early


def between(begin: float, end: float) -> Curve:
    """A straight line."""
    return lambda t: begin + (end - begin) * t


@pytest.mark.parametrize(
    ("rule", "curves"),
    [
        pytest.param("entropy_collapse", {"entropy": lambda t: 0.5 * 0.001**t}, id="entropy falls to a thousandth"),
        pytest.param(
            "entropy_collapse",
            {"entropy": after(0.5, 0.0, 0.4), "success": None},
            id="nothing says whether the answers are right",
        ),
        pytest.param("no_signal", {"noSpreadShare": after(0.5, 0.97, 0.5)}, id="most groups are without spread"),
        pytest.param(
            "no_signal", {"noSpreadShare": 0.95, "success": 1.0, "entropy": 0.01}, id="everything is solved already"
        ),
        pytest.param("kl_drift", {"kl": between(0, 5)}, id="the model runs away"),
        pytest.param("reward_hacking", {"success": between(0.6, 0.3)}, id="success falls while reward rises"),
        pytest.param(
            "reward_hacking",
            {"success": lambda t: 0.2 + 0.6 * t if t < 0.5 else 0.5 - 0.6 * (t - 0.5)},
            id="success falls from its best, and ends where it began",
        ),
        pytest.param(
            "reward_hacking", {"success": 0.03, "reward": between(0.02, 0.13)}, id="a few percent, and the form is paid"
        ),
        pytest.param("reward_hacking", {"success": 0.0, "reward": between(0.0, 0.1)}, id="nothing is ever right"),
        pytest.param(
            "reward_hacking",
            {"success": after(0.3, 0.02, 0.4), "reward": after(0.3, 0.9, 0.2), "steps": 27},
            id="success is gone after eight steps",
        ),
        pytest.param(
            "length_explosion",
            {"meanTokens": between(40, 120), "truncatedShare": between(0, 0.6)},
            id="answers grow until they are cut off",
        ),
        pytest.param("length_explosion", {"truncatedShare": 0.99, "meanTokens": 64}, id="all were cut off always"),
        pytest.param("policy_mismatch", {"samplingMismatch": 0.3}, id="other probabilities"),
        pytest.param("policy_mismatch", {"samplingMismatch": after(0.8, 1.0, 0.001)}, id="since a while"),
        pytest.param("training_diverged", {"loss": after(0.99, float("nan"), 0.1)}, id="the loss is no number"),
        pytest.param("training_diverged", {"gradNorm": lambda t: None if t == 1 else 0.5}, id="no gradient"),
        pytest.param("training_diverged", {"gradNorm": after(0.94, 1e4, 0.5)}, id="a huge gradient, again and again"),
        pytest.param("training_diverged", {"gradNorm": after(0.3, 1e4, 0.5)}, id="most gradients are huge"),
    ],
)
def test_a_training_that_goes_wrong_breaks_one_rule(rule: str, curves: dict[str, Any]) -> None:
    steps = [{name: finite(value) for name, value in step.items()} for step in history(**curves)]
    assert list(health.broken(steps)) == [rule]


def finite(value: float | None) -> float | None:
    """As the trainer writes numbers that are none."""
    return None if value is None or value != value else value


@pytest.mark.parametrize(
    "curves",
    [
        pytest.param({}, id="a training in good health"),
        pytest.param({"noise": 0.4}, id="a noisy one"),
        pytest.param({"noise": 0.4, "steps": 1500}, id="a long and noisy one"),
        pytest.param({"steps": 1}, id="one step"),
        pytest.param({"entropy": between(1.0, 0.15)}, id="entropy falls to a seventh"),
        pytest.param({"entropy": after(0.5, 0.1, 2.0)}, id="entropy falls to little, of much"),
        pytest.param({"entropy": 0.03}, id="entropy was low from the start"),
        pytest.param({"entropy": after(0.9, 0.0, 1.0)}, id="entropy is low for six steps"),
        pytest.param(
            {"entropy": lambda t: 0.5 * 0.001**t, "success": lambda t: min(0.9 + t, 1.0)}, id="solved, and sure"
        ),
        pytest.param({"noSpreadShare": 0.85}, id="six of seven groups are without spread"),
        pytest.param({"noSpreadShare": after(0.8, 1.0, 0.5)}, id="groups are without spread for twelve steps"),
        pytest.param({"kl": between(0, 1.5)}, id="the model moves as far as it must"),
        pytest.param({"kl": lambda t: 9.0 if 0.5 < t < 0.6 else 0.5}, id="far away for a few steps"),
        pytest.param({"success": between(0.5, 0.3), "reward": between(0.7, 0.3)}, id="reward and success fall"),
        pytest.param({"success": 0.4}, id="reward rises, success stays"),
        pytest.param({"success": between(0.5, 0.49), "noise": 0.001}, id="success falls by next to nothing"),
        pytest.param({"success": between(0.5, 0.42), "noise": 0.25}, id="success falls by less than its noise"),
        pytest.param({"success": between(0.6, 0.3), "reward": 0.5}, id="success falls, reward does not rise"),
        pytest.param(
            {"success": between(0.02, 0.09), "reward": between(0.02, 0.2)}, id="success is low, and rises with reward"
        ),
        pytest.param({"success": 0.03, "reward": between(0.02, 0.13), "steps": 25}, id="the form comes first"),
        pytest.param({"success": None, "reward": between(0.02, 0.13)}, id="nobody knows what is right"),
        pytest.param({"meanTokens": between(40, 120)}, id="answers grow, and end"),
        pytest.param({"truncatedShare": 0.6}, id="many are cut off, as in the beginning"),
        pytest.param({"samplingMismatch": 0.08}, id="a mismatch of rounding"),
        pytest.param({"samplingMismatch": after(0.97, 1.0, 0.001)}, id="a mismatch for two steps"),
        pytest.param({"gradNorm": lambda t: 1e5 if 0.5 < t < 0.53 else 0.5}, id="two huge gradients"),
        pytest.param({"gradNorm": 2000.0}, id="gradients that are always long"),
        pytest.param({"gradNorm": 0.0, "loss": 0.0}, id="nothing is learned"),
        pytest.param(dict.fromkeys(("entropy", "kl", "meanTokens", "samplingMismatch")), id="numbers are missing"),
    ],
)
def test_what_comes_near_breaks_none(curves: dict[str, Any]) -> None:
    steps = history(**curves)
    assert [health.broken(steps[: place + 1]) for place in range(len(steps))] == [{}] * len(steps)


def test_no_steps_break_no_rule() -> None:
    assert health.broken([]) == {}


def test_a_number_that_comes_every_other_step_is_judged_as_well() -> None:
    steps = history(kl=between(0, 5))
    for step in steps[::2]:
        del step["kl"]
    assert list(health.broken(steps)) == ["kl_drift"]


def test_each_rule_of_the_api_is_there() -> None:
    assert set(health.RULES) == set(Health.model_fields) == set(CONDITIONS)


def test_a_message_gives_the_numbers_since_when_and_what_to_do() -> None:
    steps = history(success=between(0.6, 0.3), noise=0.0)
    assert health.broken(steps)["reward_hacking"] == (
        "since step 1 reward rose from 0.331 to 0.669, and success fell from 0.577 to 0.323: the model has found a way "
        "to score without being right: read its answers, and correct the reward that pays for them"
    )


@pytest.mark.parametrize("rule", sorted(health.RULES))
def test_a_message_fits_the_contract(rule: str) -> None:
    wide = 123456789.123456789
    found = health.RULES[rule](
        history(
            noise=0,
            entropy=after(0.2, 0.0, wide),
            noSpreadShare=1.0,
            kl=wide,
            reward=between(0, wide),
            success=between(0.9, 0),
            meanTokens=between(1, wide),
            truncatedShare=1.0,
            samplingMismatch=wide,
            gradNorm=lambda t: wide if t > 0.9 else 1,
        )
    )
    assert found is not None
    assert len(found) <= 400
    assert re.search(r"since step \d+", found)
