"""Pairs under the names that TRL's trainers without a reference want: each side with its prompt before it."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset

from posttrain_trainer.examples import Pair

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


def num_tokens(batch: dict[str, torch.Tensor]) -> int:
    """Tokens of both sides of a padded batch, which these trainers do not count."""
    return sum(int(batch[f"{side}_attention_mask"].sum()) for side in _SIDES)
