"""REINFORCE leave one out: TRL's RLOOTrainer on answers and scores that are ours."""

from typing import Any

from trl import RLOOConfig, RLOOTrainer

from posttrain_trainer import fit
from posttrain_trainer.job import Job
from posttrain_trainer.rl import own_answers
from posttrain_trainer.rl.own_answers import OwnAnswers


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on its own answers to a task's prompts; returns it in evaluation mode."""
    return fit.run(lambda folder: trainer(model, job, folder), job, own_answers.train)


def trainer(model: Any, job: Job, folder: str) -> RLOOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    chosen = job.recipe.rloo
    assert chosen is not None
    own = {"normalize_advantages": chosen.normalize_advantages}
    return _Trainer(job=job, model=model, args=RLOOConfig(**own_answers.arguments(job, folder), **own))


class _Trainer(OwnAnswers, RLOOTrainer):
    """TRL's trainer, whose answers are ours."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
        return self._completions
