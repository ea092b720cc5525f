"""Gates: what a result must reach, in the right direction, at the very bound."""

import pytest

from posttrain_api import gates
from posttrain_api.v1alpha1.evaluation import Gate

BEFORE = {"exactMatch": 0.5, "loss": 2.0, "retention.loss": 1.0, "meanTokens": None}


def passes(after: float | None, **gate: object) -> bool:
    metric = str(gate["metric"])
    (found,) = gates.results([Gate.model_validate(gate)], before=BEFORE, after={metric: after})
    return found.passed


@pytest.mark.parametrize(
    ("gate", "good", "bad"),
    [
        pytest.param({"metric": "exactMatch", "min": 0.75}, 0.75, 0.74, id="min"),
        pytest.param({"metric": "loss", "max": 0.75}, 0.75, 0.76, id="max"),
        pytest.param({"metric": "exactMatch", "minGain": 0.25}, 0.75, 0.74, id="a gain, higher is better"),
        pytest.param({"metric": "loss", "minGain": 0.5}, 1.5, 1.51, id="a gain, lower is better"),
        pytest.param({"metric": "exactMatch", "maxRegression": 0.25}, 0.25, 0.24, id="a loss, higher is better"),
        pytest.param({"metric": "retention.loss", "maxRegression": 0.5}, 1.5, 1.51, id="a loss, lower is better"),
        pytest.param({"metric": "loss", "maxRegression": 0.0}, 2.0, 2.01, id="no worse at all"),
    ],
)
def test_a_gate_holds_up_to_its_bound(gate: dict[str, object], good: float, bad: float):
    assert (passes(good, **gate), passes(bad, **gate)) == (True, False)


@pytest.mark.parametrize("bound", ["min", "max", "minGain", "maxRegression"])
def test_what_is_no_number_passes_no_gate(bound: str):
    assert not passes(None, metric="loss", **{bound: 100.0 if bound == "max" else 0.0})


def test_without_a_start_there_is_no_gain():
    assert not passes(1.0, metric="meanTokens", minGain=0.0)


def test_a_gate_that_failed_is_a_sentence():
    wanted = [
        Gate.model_validate({"metric": "loss", "max": 0.5}),
        Gate.model_validate({"metric": "loss", "minGain": 1}),
    ]
    found = gates.results(wanted, before={"loss": 2.0}, after={"loss": 1.5})
    assert [gates.sentence(result) for result in found] == [
        "loss is 1.5, the gate wants it at most 0.5",
        "loss gained 0.5, the gate wants it better than the start by at least 1",
    ]
