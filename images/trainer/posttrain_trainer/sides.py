"""What TRL's trainers without a reference share: pairs as they want them, each side with its prompt before it."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer

from posttrain_trainer import fit
from posttrain_trainer.examples import Pair
from posttrain_trainer.job import Job

_SIDES = ("chosen", "rejected")


def dataset(rows: Sequence[Any]) -> Dataset:
    """Token ids, attention masks and labels, -100 in the prompt, of both sides of each pair."""
    pairs: list[Pair] = [row for row in rows if isinstance(row, Pair)]
    assert len(pairs) == len(rows), "the method learns from pairs"
    columns: dict[str, list[list[int]]] = {}
    for side in _SIDES:
        answers = [list(getattr(pair, side)) for pair in pairs]
        together = list(zip([list(pair.prompt) for pair in pairs], answers, strict=True))
        columns[f"{side}_input_ids"] = [prompt + answer for prompt, answer in together]
        columns[f"{side}_attention_mask"] = [[1] * len(prompt + answer) for prompt, answer in together]
        columns[f"{side}_labels"] = [[-100] * len(prompt) + answer for prompt, answer in together]
    return Dataset.from_dict(columns)


def arguments(job: Job, folder: str) -> dict[str, Any]:
    """TrainingArguments with which the rows of `dataset` are taken whole."""
    own = {"max_length": job.task.longest, "remove_unused_columns": False}
    return fit.arguments(job, folder, sequences=2) | own


class Counting(Trainer):
    """For a base class before one of these trainers: takes the rows as they are, and counts their tokens."""

    num_tokens = 0

    def tokenize_row(self, feature: dict[str, Any], *_: Any) -> dict[str, Any]:
        """The row, whose tokens are made."""
        return feature

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        """TRL's, after counting."""
        self.num_tokens += _num_tokens(inputs)
        return super().training_step(model, inputs, *rest)

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        """TRL's, with the tokens so far."""
        super().log({**logs, "num_tokens": self.num_tokens}, *rest)


def _num_tokens(batch: dict[str, torch.Tensor]) -> int:
    """Tokens of both sides of a padded batch, which these trainers do not count."""
    return sum(int(batch[f"{side}_attention_mask"].sum()) for side in _SIDES)
