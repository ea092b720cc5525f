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
    own = {"beta": chosen.beta}
    return _Trainer(
        model=model,
        args=ORPOConfig(
            **fit.arguments(job, folder, sequences=2),
            **own,
            max_length=job.task.longest,
            remove_unused_columns=False,
        ),
        train_dataset=sides.dataset(job.task.training),
        processing_class=job.task.chat.tokenizer,
    )


class _Trainer(ORPOTrainer):
    """Takes the rows as they are, and counts their tokens."""

    num_tokens = 0

    def tokenize_row(self, feature: dict[str, Any], *_: Any) -> dict[str, Any]:
        return feature

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        self.num_tokens += sides.num_tokens(inputs)
        return super().training_step(model, inputs, *rest)

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        super().log({**logs, "num_tokens": self.num_tokens}, *rest)
