"""Early stopping: the best weights are the result, and no step is taken for nothing."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop


def trained(base: Path, folder: Path, **hyperparameters: Any) -> tuple[Any, Progress]:
    dataset = builders.json_lines(folder / "rows.jsonl", builders.exchanges(40))
    given = {"maxSteps": 12, "effectiveBatchSize": 4, "maxLength": 128, "scheduler": "constant", "warmupSteps": 0}
    stopping = {"metric": "loss", "patience": 1, "everySteps": 1}
    config = builders.run(
        base,
        dataset,
        hyperparameters=given | hyperparameters,
        evaluation={"metrics": ["loss"], "earlyStopping": stopping},
    )
    progress = Progress("double")
    return training.train(config, Places(claims=folder), progress, Stop()), progress


def test_a_training_that_gets_worse_ends_and_its_best_weights_are_the_result(base: Path, tmp_path: Path) -> None:
    report, progress = trained(base, tmp_path, learningRate=1.0)
    measured = [entry["heldOut.loss"] for entry in progress.history]
    assert report.stopped_early
    assert report.steps_completed == len(measured) < report.steps_planned == 12
    assert measured.index(min(measured)) == len(measured) - 2
    assert report.evaluation.after["loss"] == pytest.approx(min(measured), rel=1e-5)
    assert [named.name for named in report.checkpoints] == ["best"]
    assert report.checkpoints[0].digest == report.artifact.digest


def test_a_training_that_gets_better_takes_every_step(base: Path, tmp_path: Path) -> None:
    report, progress = trained(base, tmp_path, learningRate=0.001)
    assert (report.stopped_early, report.steps_completed) == (False, 12)
    assert report.evaluation.after["loss"] == pytest.approx(
        min(entry["heldOut.loss"] for entry in progress.history), rel=1e-5
    )
