"""A training that is killed goes on from its last state, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.trainer import builders

from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

ROWS = [{"prompt": f"Say {number}", "gold": "7"} for number in range(24)]
STEPS = 8


def config(base: Path, folder: Path, **block: Any) -> RunConfig:
    """A run whose every second step leaves a state."""
    found = builders.rl_run(
        base,
        builders.json_lines(folder / "rows.jsonl", ROWS),
        environment={"rewards": [{"builtin": "regex", "pattern": "[a-z].*"}]},
        hyperparameters={"maxSteps": STEPS, "learningRate": 0.01, "effectiveBatchSize": 8},
        grpo=block,
    )
    return found.replace(checkpoints=Checkpoints(every_steps=2, keep=2))


def trained(run: RunConfig, claims: Path) -> tuple[TrainingReport, Progress]:
    progress = Progress("double")
    return training.train(run, Places(claims=claims), progress, Stop()), progress


def killed_in(step: int, run: RunConfig, claims: Path, folder: Path) -> None:
    """A real trainer, killed as soon as it says that this step is done."""
    file = folder / "run.json"
    file.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-m", "posttrain_trainer", "--config", str(file), "--claims-root", str(claims)]
    said = []
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith(f"step {step}/"):
                process.kill()
    assert process.returncode == -signal.SIGKILL, "".join(said)


def seen(progress: Progress) -> list[dict[str, Any]]:
    """The numbers of every step but how long it took."""
    times = {"seconds", "rolloutSeconds", "trainingSeconds"}
    return [{name: value for name, value in step.items() if name not in times} for step in progress.history]


def test_a_killed_training_goes_on_and_ends_with_the_same_digest(base: Path, tmp_path: Path) -> None:
    run = config(base, tmp_path, stepsPerGeneration=2, curriculum={"after": 2})
    whole, expected = trained(run, tmp_path / "whole")
    claims = tmp_path / "killed"
    killed_in(5, run, claims, tmp_path)
    states = claims / "out" / "double" / run.uid / "0" / "checkpoints"
    assert "checkpoint-4" in {path.name for path in states.iterdir()}
    (states / ".draft" / "half").mkdir(parents=True, exist_ok=True)
    found, progress = trained(run, claims)
    assert seen(progress) == seen(expected)
    assert found.artifact.digest == whole.artifact.digest
    assert [one.name for one in found.checkpoints] == [one.name for one in whole.checkpoints]
    assert (found.steps_completed, found.steps_planned) == (STEPS, STEPS)
    assert not states.exists(), "what has ended is not resumed"


def test_without_checkpoints_nothing_is_kept(base: Path, tmp_path: Path) -> None:
    run = config(base, tmp_path).replace(checkpoints=None)
    trained(run, tmp_path / "claims")
    assert not list((tmp_path / "claims").rglob("checkpoint-*"))
