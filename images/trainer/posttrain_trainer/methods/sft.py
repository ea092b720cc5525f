"""Supervised fine-tuning: TRL's SFTTrainer, fed with tokens and labels that are ours.

Nothing of the data is left for TRL to decide: no template, no mask, no truncation.
"""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from posttrain_trainer import evaluate, fit, micro_batches
from posttrain_trainer.job import Job
from posttrain_trainer.task import Task


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on a task's answers; returns it in evaluation mode."""
    return fit.run(lambda folder: trainer(model, job, folder), job)


def trainer(model: Any, job: Job, folder: str) -> SFTTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    own = {
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        # TRL's own packing makes its rows before the first step, and our steps are counted in those of the dataset.
        "padding_free": job.recipe.hyperparameters.packing,
    }
    return _Trainer(
        limits=micro_batches.limits(job),
        model=model,
        args=SFTConfig(**micro_batches.arguments(job, folder), **own),
        train_dataset=dataset(job.task),
        processing_class=job.task.chat.tokenizer,
    )


def dataset(task: Task) -> Dataset:
    """The rows to learn from: `input_ids`, and `labels` that are -100 where the loss does not count."""
    return Dataset.from_dict(
        {
            "input_ids": [list(example.token_ids) for example in task.training],
            "labels": [evaluate.labels_of(example) for example in task.training],
        }
    )


class _Trainer(micro_batches.Splitting, SFTTrainer):
    """Its loss is a mean over the trained tokens, and so are its metrics."""

    def length(self, row: micro_batches.Row) -> int:
        return len(row["input_ids"])

    def weights(self, part: micro_batches.Batch) -> Mapping[str, float]:
        return {micro_batches.LOSS: int((part["labels"][:, 1:] != -100).sum())}
