"""Kahneman-Tversky optimization: TRL's KTOTrainer, fed with tokens that are ours.

Its estimate of the divergence pairs each prompt with the answer of its neighbour in the batch. So the batches are
fixed: the rows are shuffled once, stay in that order, and the last batch is filled with rows of the beginning.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from trl import KTOConfig, KTOTrainer

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.methods import Kto
from posttrain_trainer import fit, reference, steps
from posttrain_trainer.examples import Labelled
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on a task's desirable and undesirable answers; returns it in evaluation mode."""
    fit.run(lambda folder: trainer(model, job, folder), job)
    return model.eval()


def trainer(model: Any, job: Job, folder: str) -> KTOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    rows = [row for row in job.task.training if isinstance(row, Labelled)]
    chosen = job.recipe.hyperparameters
    size = micro_batch_size(chosen.effective_batch_size, job.task.longest)
    shared = fit.arguments(job, folder) | {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": chosen.effective_batch_size // size,
        "train_sampling_strategy": "sequential",
    }
    found = _Trainer(
        model=reference.trainable(model),
        args=KTOConfig(**shared, **_settings(job.recipe.kto or Kto(), rows)),
        train_dataset=dataset(rows, size=size, seed=chosen.seed),
        processing_class=job.task.chat.tokenizer,
    )
    reference.without_copy(model)
    return found


def micro_batch_size(batch_size: int, longest: int) -> int:
    """Rows that go through the model at once: a divisor of the batch, at least the two that the divergence needs."""
    if batch_size < 2:
        raise Refused(Reason.INVALID_SPEC, "kto compares rows of a batch: write effectiveBatchSize: 2 or more")
    # Each row goes through the model with its own answer and with its neighbour's.
    found = steps.micro_batch_size(batch_size, 2 * longest)
    return found if found > 1 else next(size for size in range(2, batch_size + 1) if batch_size % size == 0)


def weights(chosen: Kto, rows: Sequence[Labelled]) -> tuple[float, float]:
    """Of desirable and of undesirable rows: what is left out makes both classes count alike, and none below 1."""
    desirable = sum(row.is_desirable for row in rows)
    undesirable = len(rows) - desirable
    ratio = undesirable / desirable if desirable and undesirable else 1.0
    match chosen.desirable_weight, chosen.undesirable_weight:
        case None, None:
            return max(ratio, 1.0), max(1 / ratio, 1.0)
        case None, other:
            return other * ratio, other
        case own, None:
            return own, own / ratio
        case own, other:
            return own, other


def dataset(rows: Sequence[Labelled], *, size: int, seed: int) -> Dataset:
    """The rows in a shuffled order, in whole batches, each with the answer of the row before it in its batch."""
    shuffled = random.Random(seed).sample(list(rows), len(rows))
    whole = [*shuffled, *itertools.islice(itertools.cycle(shuffled), -len(rows) % size)]
    return Dataset.from_dict(
        {
            "prompt_ids": [list(row.prompt) for row in whole],
            "completion_ids": [list(row.completion) for row in whole],
            "KL_completion_ids": [list(row.completion) for row in _neighbours(whole, size)],
            "label": [row.is_desirable for row in whole],
        }
    )


def _neighbours(rows: Sequence[Labelled], size: int) -> Iterator[Labelled]:
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield from [batch[-1], *batch[:-1]]


def _settings(chosen: Kto, rows: Sequence[Labelled]) -> dict[str, Any]:
    desirable, undesirable = weights(chosen, rows)
    return {
        "beta": chosen.beta,
        "loss_type": chosen.loss,
        "desirable_weight": desirable,
        "undesirable_weight": undesirable,
        "max_length": None,
        "precompute_ref_log_probs": True,
    }


class _Trainer(KTOTrainer):
    """Takes the rows as they are, and the model as it is for the reference."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        """TRL's own would take the model without its adapter where there is no copy of the adapter."""
        own: list[float] = []
        neighbours: list[float] = []
        for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator):
            own += reference.log_probabilities(self, batch).tolist()
            neighbours += reference.log_probabilities(self, batch, "KL_").tolist()
        return dataset.add_column("ref_logps", own).add_column("ref_KL_logps", neighbours)
