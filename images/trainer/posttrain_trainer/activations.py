"""EVA: LoRA matrices that begin as the main directions of what the layers see of the data.

Neither PEFT's wrapping nor TRL computes them: without this call they would silently be random.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel, initialize_lora_eva_weights
from peft.tuners.lora.eva import SVDHook

from posttrain_api.conditions import Reason
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused

_TOKENS = 2048
"""Tokens of a batch at least: each must hold more of them than there are directions."""
_MAX_BATCHES = 1000
"""Directions that have not settled by then never do."""


def initialize(model: PeftModel, rank: int, job: Job) -> float:
    """Set the A matrices from the training rows; Refused where the rows do not determine so many directions.

    Returns which share of the variance of what the layers see these directions hold, as a mean over the layers.
    """
    rows = [_text(row) for row in job.task.training]
    if sum(map(len, rows)) <= rank:
        raise Refused(
            Reason.DATASET_INVALID,
            f"tuning.lora.init eva: the rows have too few tokens for rank {rank}: add rows, or write init: default",
        )
    batches = _Batches(rows, max(_TOKENS, 2 * rank), rank, job)
    watched = _Watched()
    initialize_lora_eva_weights(model, dataloader=batches, forward_fn=watched.forward, show_progress_bar=False)
    return watched.explained_variance(rank)


class _Watched:
    """PEFT's forward passes: it keeps the components that it finds, and forgets how much they explain."""

    def __init__(self) -> None:
        self._hooks: dict[str, SVDHook] = {}

    def forward(self, model: Any, inputs: dict[str, torch.Tensor]) -> Any:
        for module in model.modules():
            self._hooks |= {hook.name: hook for hook in module._forward_hooks.values() if isinstance(hook, SVDHook)}
        return model(**inputs)

    def explained_variance(self, rank: int) -> float:
        shares = [hook.svd.explained_variance_ratio_[:rank].sum().item() for hook in self._hooks.values()]
        return statistics.fmean(shares)


class _Batches:
    """What PEFT goes through again and again, until the directions have settled."""

    def __init__(self, rows: list[list[int]], tokens: int, rank: int, job: Job) -> None:
        self._batches = list(_grouped(rows, tokens))
        self._rank = rank
        self._stop = job.stop
        self._seen = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for rows in self._batches:
            self._stop.check("while it looked for the start of the adapter")
            self._seen += 1
            if self._seen > _MAX_BATCHES:
                raise Refused(
                    Reason.TUNING_UNSUPPORTED,
                    f"tuning.lora.init eva: the rows do not determine {self._rank} directions: lower rank, or write "
                    "init: default",
                )
            yield _padded(rows)


def _text(row: Example | Pair | Labelled | Prompt) -> list[int]:
    match row:
        case Pair():
            return [*row.prompt, *row.chosen]
        case Labelled():
            return [*row.prompt, *row.completion]
        case _:
            return list(row.token_ids)


def _grouped(rows: list[list[int]], tokens: int) -> Iterator[list[list[int]]]:
    """Rows in their order, in batches of at least so many tokens; what is left over joins the last batch."""
    batch: list[list[int]] = []
    rest = sum(map(len, rows))
    for row in rows:
        batch.append(row)
        rest -= len(row)
        if sum(map(len, batch)) >= tokens and (rest >= tokens or not rest):
            yield batch
            batch = []
    if batch:
        yield batch


def _padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    }
