"""Direct preference optimization: TRL's DPOTrainer, fed with tokens that are ours.

The reference is the model as it is when training starts, whatever is tuned. Its log probabilities are computed once:
there is no second model, and no second adapter, in memory while training. TRL switches dropout off.
"""

from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from trl import DPOConfig, DPOTrainer

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.methods import Dpo
from posttrain_trainer import fit, reference
from posttrain_trainer.examples import Pair
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused
from posttrain_trainer.task import Task


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on a task's pairs; returns it in evaluation mode."""
    fit.run(lambda folder: trainer(model, job, folder), job)
    return model.eval()


def trainer(model: Any, job: Job, folder: str) -> DPOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    found = _Trainer(
        model=reference.trainable(model),
        args=DPOConfig(**fit.arguments(job, folder, sequences=2), **_settings(job)),
        train_dataset=dataset(job.task),
        processing_class=job.task.chat.tokenizer,
    )
    reference.without_copy(model)
    return found


def dataset(task: Task) -> Dataset:
    """The pairs to learn from, under TRL's names."""
    pairs = [row for row in task.training if isinstance(row, Pair)]
    return Dataset.from_dict(
        {
            "prompt_ids": [list(pair.prompt) for pair in pairs],
            "chosen_ids": [list(pair.chosen) for pair in pairs],
            "rejected_ids": [list(pair.rejected) for pair in pairs],
        }
    )


def _settings(job: Job) -> dict[str, Any]:
    chosen = job.recipe.dpo or Dpo()
    if "exo_pair" in chosen.loss and chosen.label_smoothing == 0:
        raise Refused(Reason.INVALID_SPEC, "dpo.loss exo_pair needs dpo.labelSmoothing above 0: write 0.001")
    return {
        "beta": chosen.beta,
        "loss_type": list(chosen.loss),
        "loss_weights": chosen.loss_weights,
        "label_smoothing": chosen.label_smoothing,
        "max_length": None,
        "precompute_ref_log_probs": True,
    }


class _Trainer(DPOTrainer):
    """Takes the rows as they are, and the model as it is for the reference."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        """TRL's own would take the model without its adapter where there is no copy of the adapter."""
        chosen: list[float] = []
        rejected: list[float] = []
        for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator):
            better, worse = reference.log_probabilities(self, batch).chunk(2)
            chosen += better.tolist()
            rejected += worse.tolist()
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)
