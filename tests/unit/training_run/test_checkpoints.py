"""Named results from the middle of a training: where a status names them, and for how long."""

import pytest
from tests.unit.training_run.builders import (
    DIGEST,
    Change,
    ends,
    in_sequence,
    in_training,
    reports,
    runs,
    says,
    trainer_status,
    training_report,
)

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run_status import NamedCheckpoint

STEP = NamedCheckpoint(name="step-10", digest=DIGEST)
CHECKPOINTS = [STEP.to_json()]
EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}]


def test_what_is_published_on_the_way_is_named_until_the_report_says_what_is_left() -> None:
    world = in_training()
    world.step(runs("training"), says(trainer_status(20, checkpoints=[STEP])))
    assert world.status["checkpoints"] == CHECKPOINTS

    world.step(reports("training", training=training_report()))
    assert "checkpoints" not in world.status


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            reports(
                "training",
                exit_code=3,
                failure={"reason": "TrainingDiverged", "message": "at step 12 of 30", "checkpoints": CHECKPOINTS},
            ),
            Reason.TRAINING_DIVERGED,
            id="diverged",
        ),
        pytest.param(
            in_sequence(
                reports(
                    "training",
                    exit_code=4,
                    failure={"reason": "TrainerStopped", "message": "stopped at step 12", "checkpoints": CHECKPOINTS},
                ),
                lambda world: world.observed.training.pod["status"].update(conditions=EVICTED),
            ),
            Reason.EVICTED,
            id="taken away, with a last word",
        ),
        pytest.param(
            in_sequence(
                runs("training"),
                says(trainer_status(20, checkpoints=[STEP])),
                lambda world: world.step(),
                ends("training", exit_code=137),
            ),
            Reason.TRAINER_STOPPED,
            id="killed without a word",
        ),
    ],
)
def test_a_failed_run_names_what_it_had_published(change: Change, reason: Reason) -> None:
    world = in_training()
    world.step(change)

    assert (world.status["phase"], world.condition("Stalled")["reason"]) == ("Failed", reason)
    assert world.status["checkpoints"] == CHECKPOINTS
    assert "artifact" not in world.status
