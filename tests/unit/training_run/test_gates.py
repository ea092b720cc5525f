"""What becomes of a result that is judged."""

from typing import Any

import pytest
from tests.unit.training_run.builders import (
    DIGEST,
    World,
    in_preflight,
    in_training,
    preflight_report,
    reports,
    training_report,
)

from posttrain_api.conditions import Reason
from posttrain_operator.actions import Event

MEASURED = {"before": {"loss": 3.0, "exactMatch": 0.1}, "after": {"loss": 0.5, "exactMatch": 0.9}, "rows": 8}


def judged(*gates: dict[str, Any], **report: Any) -> World:
    """A run with these gates whose training has ended."""
    world = in_training(evaluation={"metrics": ["loss", "exactMatch"], "gates": list(gates)})
    world.step(reports("training", training=training_report(**{"evaluation": MEASURED, **report})))
    return world


def test_a_result_that_passes_its_gates_is_accepted() -> None:
    world = judged({"metric": "loss", "max": 1.0}, {"metric": "exactMatch", "minGain": 0.5})

    assert world.condition("Accepted")["reason"] == Reason.GATES_PASSED
    assert world.held()["Ready"] == "True"
    assert world.status["phase"] == "Succeeded"
    assert world.status["display"]["gate"] == "2/2"
    assert [gate["passed"] for gate in world.status["evaluation"]["gates"]] == [True, True]


def test_a_result_that_fails_a_gate_is_rejected_with_its_numbers() -> None:
    world = judged({"metric": "loss", "max": 1.0}, {"metric": "exactMatch", "min": 0.95})

    message = "Not accepted: exactMatch is 0.9, the gate wants it at least 0.95."
    held = {"Trained": "True", "Evaluated": "True", "Accepted": "False", "Succeeded": "True", "Ready": "False"}
    assert world.held() == {"Validated": "True", **held, "Stalled": "True"}
    for type_ in ("Accepted", "Ready", "Stalled"):
        assert (world.condition(type_)["reason"], world.condition(type_)["message"]) == (Reason.GATE_FAILED, message)
    assert world.status["phase"] == "Rejected"
    assert world.status["display"]["gate"] == "1/2"
    assert "finishedAt" in world.status
    assert world.plans[-1].events == (Event("Warning", Reason.GATE_FAILED, message),)


def test_a_metric_that_is_no_number_fails_its_gate() -> None:
    nothing = {**MEASURED, "after": {"loss": None}}
    world = judged({"metric": "loss", "max": 1.0}, evaluation=nothing)

    assert world.condition("Accepted")["status"] == "False"
    assert "not a number" in world.condition("Accepted")["message"]


def test_a_result_without_gates_shows_none() -> None:
    world = judged()

    assert world.condition("Accepted")["reason"] == Reason.NO_GATES
    assert world.status["display"]["gate"] == ""


@pytest.mark.parametrize(
    ("spec", "report", "is_complete"),
    [
        pytest.param({}, {"stepsCompleted": 12}, False, id="a part of the steps"),
        pytest.param({}, {"stepsCompleted": 12, "stoppedEarly": True}, True, id="stopped early"),
        pytest.param({}, {"stepsCompleted": 0, "stepsPlanned": 0}, False, id="a training without steps"),
        pytest.param(
            {"method": "bestOf", "environment": {"dataset": {"uri": "pvc://d/p"}, "rewards": [{"builtin": "exact"}]}},
            {"stepsCompleted": 0, "stepsPlanned": 0},
            True,
            id="a method without steps",
        ),
    ],
)
def test_a_report_is_complete(spec: dict[str, Any], report: dict[str, Any], is_complete: bool) -> None:
    world = in_training(**spec)
    world.step(reports("training", training=training_report(**report)))

    assert (world.condition("Ready")["status"] == "True") is is_complete


def test_checkpoints_and_the_held_out_rows_are_named() -> None:
    world = judged(checkpoints=[{"name": "step-10", "digest": DIGEST}], evaluation={**MEASURED, "rowsDigest": DIGEST})

    assert world.status["checkpoints"] == [{"name": "step-10", "digest": DIGEST}]
    assert world.status["evaluation"]["rowsDigest"] == DIGEST


def test_what_preflight_saw_of_the_base_and_in_the_rows_stays() -> None:
    world = in_preflight()
    model = {"parameters": 1000, "layers": 2, "hiddenSize": 32, "vocabulary": 260, "tunedModules": {"q_proj": 2}}
    found = preflight_report(model=model, data={"rowsRead": 160, "duplicates": 3})
    world.step(reports("preflight", preflight=found))
    world.step()

    assert world.status["data"]["rowsRead"] == 160
    assert world.status["data"]["duplicates"] == 3
    assert world.status["model"] == model
