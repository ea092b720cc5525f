"""Direct preference optimization: TRL's DPOTrainer, fed with tokens that are ours.

The reference is the model as it is when training starts, whatever is tuned. Its log probabilities are computed once:
there is no second model, and no second adapter, in memory while training. TRL switches dropout off.
"""

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.methods import WHOLE_STEP_LOSSES, Dpo
from posttrain_trainer import batching, fit, micro_batches, reference, steps
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
    is_whole = not WHOLE_STEP_LOSSES.isdisjoint((job.recipe.dpo or Dpo()).loss)
    found = _Trainer(
        limits=micro_batches.WHOLE if is_whole else micro_batches.limits(job),
        model=reference.trainable(model),
        args=DPOConfig(**micro_batches.arguments(job, folder), **_settings(job)),
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


_CHOSEN = "mean_token_accuracy"
"""What TRL counts over the tokens of the chosen answers: its plain fine-tuning loss is a mean over them too."""


class _Trainer(micro_batches.Splitting, DPOTrainer):
    """Takes the rows as they are, and the model as it is for the reference. Its losses are means over the pairs, but
    the one of plain fine-tuning."""

    def length(self, row: micro_batches.Row) -> int:
        return 2 * (len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])))

    def weights(self, part: micro_batches.Batch) -> Mapping[str, float]:
        chosen, rejected = (int(mask.sum()) for mask in part["completion_mask"][:, 1:].chunk(2))
        return {
            micro_batches.LOSS: len(part["input_ids"]) // 2,
            "entropy": chosen + rejected,
            "logits/chosen": chosen,
            "logits/rejected": rejected,
            _CHOSEN: chosen,
        }

    def compute_loss(self, model: Any, inputs: Any, **_: Any) -> torch.Tensor:
        """TRL's loss of a part, times its share of the step."""
        by_tokens = self.shares.get(_CHOSEN, 1.0) / self.shares[micro_batches.LOSS]
        given = self.loss_weights
        names = zip(self.loss_types, given, strict=True)
        self.loss_weights = [weight * by_tokens if name == "sft" else weight for name, weight in names]
        loss = super().compute_loss(model, inputs)
        self.loss_weights = given
        return loss

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        """TRL's own would take the model without its adapter where there is no copy of the adapter."""
        found: dict[int, tuple[float, float]] = {}
        rows = list(enumerate(dataset))
        limit = min(self.limits.tokens, steps.MAX_TOKENS_PER_MICRO_BATCH)
        for batch in batching.batches(rows, lambda row: self.length(row[1]), limit):
            scores = reference.log_probabilities(self, self.data_collator([row for _, row in batch]))
            chosen, rejected = (part.tolist() for part in scores.chunk(2))
            found |= {place: both for (place, _), *both in zip(batch, chosen, rejected, strict=True)}
        better, worse = zip(*(found[place] for place in range(len(rows))), strict=True)
        return dataset.add_column("ref_chosen_logps", better).add_column("ref_rejected_logps", worse)
