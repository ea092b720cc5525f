"""Splits an optimizer step into micro-batches of similar lengths, with the loss and gradient of one big batch.

For what TRL's trainers of sft, dpo and reward compute: means over the tokens or the rows of a batch. Padding is
computed and thrown away, so rows of one length go through the model together.
"""

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer

from posttrain_trainer import batching, fit, steps
from posttrain_trainer.job import Job

Row = Mapping[str, Any]
Batch = Mapping[str, torch.Tensor]

LOSS = "loss"
_MAX_PADDING = {"cpu": 128, "cuda": 2048}
"""Device -> tokens whose computation takes about as long as one more micro-batch's overhead: what would bring more
padding goes through the model apart."""


@dataclass(frozen=True)
class Limits:
    """How large a micro-batch may be."""

    tokens: int
    """Its rows times its longest row."""
    padding: int
    """Tokens of these that are padding."""
    is_packed: bool = False
    """Its rows stand behind each other in one sequence: `tokens` are their sum, and there is no padding."""


WHOLE = Limits(sys.maxsize, sys.maxsize)
"""A step is not split."""


def arguments(job: Job, folder: str) -> dict[str, Any]:
    """TrainingArguments in which transformers' batch is a whole step."""
    whole = {
        "per_device_train_batch_size": job.recipe.hyperparameters.effective_batch_size,
        "gradient_accumulation_steps": 1,
    }
    return fit.arguments(job, folder) | whole


def limits(job: Job) -> Limits:
    """What the recipe says, or else what suits the device."""
    tokens = job.recipe.hyperparameters.max_tokens_per_gpu or steps.MAX_TOKENS_PER_MICRO_BATCH
    return Limits(tokens, _MAX_PADDING[job.precision.device], job.recipe.hyperparameters.packing)


class Splitting(Trainer):
    """For a base class before one of TRL's trainers: its batch is a step, which goes through the model in parts."""

    shares: Mapping[str, float] = {LOSS: 1.0}
    """Of the part that goes through the model: LOSS or TRL's name of a metric -> its share of the step."""

    def __init__(self, *, limits: Limits, **arguments: Any) -> None:
        self.limits = limits
        super().__init__(**arguments)

    @abstractmethod
    def length(self, row: Row) -> int:
        """Tokens of a row in a batch whose longest it is."""

    @abstractmethod
    def weights(self, part: Batch) -> Mapping[str, float]:
        """How many tokens or rows the LOSS of a part is a mean over, and each metric that is a mean over others."""

    def get_train_dataloader(self) -> Any:
        """Steps, each a batch for each of its parts."""
        collate, self.data_collator = self.data_collator, _Collate(self.data_collator, self.length, self.limits)
        loader = super().get_train_dataloader()
        self.data_collator = collate
        return loader

    def training_step(self, model: Any, inputs: Mapping[str, list[Batch]], *_: Any) -> torch.Tensor:
        """The step's loss, after the backward pass of each of its parts."""
        parts = inputs["parts"]
        shares = _shares([self.weights(part) for part in parts])
        loss = torch.zeros((), device=self.args.device)
        for part, self.shares in zip(parts, shares, strict=True):
            loss += super().training_step(model, part)
        # TRL collects a number of each part and would log their plain mean. Our steps are logged one by one.
        for name, values in self._metrics["train"].items():
            if len(values) == len(parts) > 1:
                own = (share.get(name, share[LOSS]) for share in shares)
                values[:] = [sum(value * share for value, share in zip(values, own, strict=True))]
        return loss

    def compute_loss(self, model: Any, inputs: Any, **_: Any) -> torch.Tensor:
        """TRL's loss of a part, times its share of the step."""
        loss: torch.Tensor = super().compute_loss(model, inputs)
        return loss * self.shares[LOSS]

    def floating_point_ops(self, _inputs: Any) -> int:
        """Not counted: nothing reads it."""
        return 0


@dataclass(frozen=True)
class _Collate:
    """Makes a step's rows into one batch for each part."""

    collate: Callable[[list[Row]], Batch]
    length: Callable[[Row], int]
    limits: Limits

    def __call__(self, rows: list[Row]) -> dict[str, list[Batch]]:
        if self.limits.is_packed:
            parts = batching.packed(rows, self.length, self.limits.tokens)
        else:
            parts = batching.batches(rows, self.length, self.limits.tokens, max_padding=self.limits.padding)
        return {"parts": [self.collate(part) for part in parts]}


def _shares(weights: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Each part's share of the sum; equal ones where there is nothing to sum."""
    totals = {name: sum(part[name] for part in weights) for name in weights[0]}
    return [
        {name: part[name] / total if total else 1 / len(weights) for name, total in totals.items()} for part in weights
    ]
