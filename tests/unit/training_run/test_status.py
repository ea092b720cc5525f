"""Texts for people, and the phase."""

from typing import Any

import pytest
from tests.unit.training_run.builders import NOW

from posttrain_api.conditions import Reason
from posttrain_operator.training_run import display, status
from posttrain_operator.training_run.status import Situation


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (59.6, "1m"),
        (840, "14m"),
        (3599, "1h"),
        (7800, "2h10m"),
        (86399, "1d"),
        (273600, "3d4h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, shown: str) -> None:
    assert display.duration(seconds) == shown


@pytest.mark.parametrize(
    ("shown", "metric"),
    [
        pytest.param({"metrics": {"loss": 1.234}}, "loss 1.23", id="a loss"),
        pytest.param({"metrics": {"loss": 0.0, "reward": 0.5, "entropy": 2.0}}, "reward 0.50", id="a score"),
        pytest.param({"metrics": {"reward": 0.5, "success": 0.25}}, "success 0.25", id="a clean metric"),
        pytest.param({"metrics": {"reward": None, "loss": None}}, "", id="nothing finite"),
        pytest.param(
            {"evaluation": {"after": {"reward": 0.5}}, "metrics": {"success": 1}}, "reward 0.50", id="a result"
        ),
    ],
)
def test_the_most_telling_metric_is_shown(shown: dict[str, Any], metric: str) -> None:
    assert display.display(Reason.TRAINING, [], shown, round=0, waits_for=None).metric == metric


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("is_over", [True, False], ids=["over", "going on"])
def test_every_situation_has_a_phase_and_one_of_reconciling_stalled(reason: Reason, *, is_over: bool) -> None:
    found = status.conditions(Situation(reason, "so", is_over=is_over), generation=1, now=NOW)

    types = {condition.type for condition in found}
    assert len(types & {"Reconciling", "Stalled"}) == 1
    assert status.phase(found) in {"Pending", "Waiting", "Merging", "Preflight", "Training", "Rejected", "Failed"}


def test_a_text_that_is_too_long_is_cut() -> None:
    found = status.conditions(Situation(Reason.TRAINER_FAILED, "x" * 10_000), generation=1, now=NOW)

    assert max(len(condition.message) for condition in found) == 4096
