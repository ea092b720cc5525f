"""Texts for people, and the phase."""

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
