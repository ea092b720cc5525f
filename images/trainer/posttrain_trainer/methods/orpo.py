"""Odds ratio preference optimization: TRL's ORPOTrainer, fed with tokens that are ours.

Its likelihood term counts the prompt of the better side too, as TRL's does."""

from typing import Any

from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from posttrain_api.v1alpha1.methods import Orpo
from posttrain_trainer import fit, sides
from posttrain_trainer.job import Job


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on a task's pairs; returns it in evaluation mode."""
    return fit.run(lambda folder: trainer(model, job, folder), job)


def trainer(model: Any, job: Job, folder: str) -> ORPOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    chosen = job.recipe.orpo or Orpo()
    return _Trainer(
        model=model,
        args=ORPOConfig(**sides.arguments(job, folder), beta=chosen.beta),
        train_dataset=sides.dataset(job.task.training),
        processing_class=job.task.chat.tokenizer,
    )


class _Trainer(sides.Counting, ORPOTrainer):
    """TRL's, on rows that are tokens already."""
