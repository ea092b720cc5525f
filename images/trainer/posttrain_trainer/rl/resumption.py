"""What a training that is killed needs to go on from: its last state at the end of a generation of answers.

The trainer's own state and ours lie in one folder, which is there whole or not at all. The next start of the same round
of the same run reads it; a training that has ended removes it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from posttrain_api.v1alpha1.training_run_status import NamedCheckpoint
from posttrain_trainer import preflight, progress, steps
from posttrain_trainer.job import Job
from posttrain_trainer.rl.generations import Generations

_OURS = "posttrain.json"
_DRAFT = ".draft"


class Resumption(TrainerCallback):
    """Keeps the newest state of a training, every checkpoints.everySteps steps, and none where these are not given."""

    def __init__(self, job: Job, generations: Generations) -> None:
        self._job = job
        self._generations = generations
        self._folder = folder(job)
        self._training: Trainer | None = None

    def latest(self) -> Path | None:
        """The state that an earlier start has left; None where there is none."""
        if self._job.config.checkpoints is None or not self._folder.is_dir():
            return None
        states = [path for path in self._folder.iterdir() if path.name != _DRAFT]
        return max(states, key=_step_of, default=None)

    def train(self, training: Trainer) -> None:
        """Train, from where an earlier start was if it has left something."""
        self._training = training
        found = self.latest()
        if found is not None:
            self._go_on(json.loads((found / _OURS).read_bytes()))
            progress.say(f"goes on after step {_step_of(found)}, which an earlier start has reached")
        training.train(resume_from_checkpoint=None if found is None else str(found))
        if not self._job.stop.requested:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _go_on(self, ours: dict[str, Any]) -> None:
        self._generations.restore(ours["generations"])
        self._job.progress.resume(ours["history"])
        self._job.progress.published([NamedCheckpoint.model_validate(one) for one in ours["published"]])
        if self._job.monitor is not None:
            self._job.monitor.resume(ours["history"])

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float], **_: Any) -> None:
        """Told of a step after Progress was, so that the step is a part of what is kept."""
        chosen = self._job.config.checkpoints
        is_step = chosen is not None and "loss" in logs and state.global_step < state.max_steps
        if is_step and steps.is_due(state.global_step, chosen.every_steps, self._job.recipe):
            try:
                self._write(state.global_step)
            except OSError as error:
                raise preflight.unwritable(self._job.recipe.output.uri, self._folder, error) from error

    def _write(self, step: int) -> None:
        training = self._training
        assert training is not None
        # TRL would write a model card with each.
        Trainer._save_checkpoint(training, training.model, None)
        made = Path(training.args.output_dir) / f"checkpoint-{step}"
        ours = {
            "generations": self._generations.state(),
            "history": self._job.progress.history,
            "published": [found.to_json() for found in self._job.progress.checkpoints],
        }
        (made / _OURS).write_text(json.dumps(ours))
        draft = self._folder / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(made, draft)
        shutil.rmtree(made)
        draft.rename(self._folder / made.name)
        for older in self._folder.iterdir():
            if older.name != made.name:
                shutil.rmtree(older)


def folder(job: Job) -> Path:
    """Where a round of a run leaves its states."""
    config = job.config
    run = job.places.path(job.recipe.output.uri) / config.name / config.uid
    return run / str(config.round) / "checkpoints"


def _step_of(state: Path) -> int:
    return int(state.name.rpartition("-")[2])
