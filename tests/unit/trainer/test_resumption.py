"""A training that is killed goes on from its last state, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

ROWS = [{"prompt": f"Say {number}", "gold": "7"} for number in range(24)]
STEPS = 8


def config(base: Path, folder: Path, method: str, **block: Any) -> RunConfig:
    """A run whose every second step leaves a state."""
    found = builders.rl_run(
        base,
        builders.json_lines(folder / "rows.jsonl", ROWS),
        method=method,
        environment={"rewards": [{"builtin": "regex", "pattern": "[a-z].*"}]},
        hyperparameters={"maxSteps": STEPS, "learningRate": 0.01, "effectiveBatchSize": 8},
        **{method: block},
    )
    return found.replace(checkpoints=Checkpoints(every_steps=2, keep=2))


def trained(run: RunConfig, claims: Path) -> tuple[TrainingReport, Progress]:
    progress = Progress("double")
    return training.train(run, Places(claims=claims), progress, Stop()), progress


def killed_after(step: int, run: RunConfig, claims: Path, folder: Path) -> None:
    """A real trainer, killed as soon as it has left the state of this step."""
    file = folder / "run.json"
    file.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-m", "posttrain_trainer", "--config", str(file), "--claims-root", str(claims)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    )
    states = claims / "out" / "double" / run.uid / "0" / "checkpoints"
    until = time.monotonic() + 120
    while not any(_is_reached(path, step) for path in (states.iterdir() if states.is_dir() else [])):
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _is_reached(state: Path, step: int) -> bool:
    return state.name.startswith("checkpoint-") and int(state.name.partition("-")[2]) >= step


def seen(progress: Progress) -> list[dict[str, Any]]:
    """The numbers of every step but how long it took."""
    times = {"seconds", "rolloutSeconds", "trainingSeconds"}
    return [{name: value for name, value in step.items() if name not in times} for step in progress.history]


@pytest.mark.parametrize(
    ("method", "block"),
    [
        pytest.param("grpo", {"stepsPerGeneration": 2, "curriculum": {"after": 2}}, id="grpo"),
        pytest.param("rloo", {}, id="rloo"),
    ],
)
def test_a_killed_training_goes_on_and_ends_with_the_same_digest(
    base: Path, tmp_path: Path, method: str, block: dict[str, Any]
) -> None:
    run = config(base, tmp_path, method, **block)
    whole, expected = trained(run, tmp_path / "whole")
    claims = tmp_path / "killed"
    killed_after(4, run, claims, tmp_path)
    left = sorted(path.name for path in (claims / "out" / "double" / run.uid / "0" / "checkpoints").iterdir())
    found, progress = trained(run, claims)
    assert [name for name in left if name != ".draft"][-1] != f"checkpoint-{STEPS}"
    assert seen(progress) == seen(expected)
    assert found.artifact.digest == whole.artifact.digest
    assert [one.name for one in found.checkpoints] == [one.name for one in whole.checkpoints]
    assert (found.steps_completed, found.steps_planned) == (STEPS, STEPS)
    assert not (claims / "out" / "double" / run.uid / "0" / "checkpoints").exists(), "what has ended is not resumed"


def test_without_checkpoints_nothing_is_kept(base: Path, tmp_path: Path) -> None:
    run = config(base, tmp_path, "grpo").replace(checkpoints=None)
    trained(run, tmp_path / "claims")
    assert not list((tmp_path / "claims").rglob("checkpoint-*"))
