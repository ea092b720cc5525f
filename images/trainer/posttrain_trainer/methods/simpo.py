"""Simple preference optimization: TRL's CPOTrainer without its likelihood term, fed with tokens that are ours."""

from typing import Any

from trl.experimental.cpo import CPOConfig, CPOTrainer

from posttrain_api.v1alpha1.methods import SimPo
from posttrain_trainer import fit, sides
from posttrain_trainer.job import Job


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on a task's pairs; returns it in evaluation mode."""
    return fit.run(lambda folder: trainer(model, job, folder), job)


def trainer(model: Any, job: Job, folder: str) -> CPOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    chosen = job.recipe.simpo or SimPo()
    own = {
        "loss_type": "simpo",
        "beta": chosen.beta,
        "simpo_gamma": chosen.gamma,
        # The default of 1 would add the likelihood of the better answer.
        "cpo_alpha": 0.0,
    }
    return _Trainer(
        model=model,
        args=CPOConfig(**sides.arguments(job, folder), **own),
        train_dataset=sides.dataset(job.task.training),
        processing_class=job.task.chat.tokenizer,
    )


class _Trainer(sides.Counting, CPOTrainer):
    """TRL's, on rows that are tokens already."""
