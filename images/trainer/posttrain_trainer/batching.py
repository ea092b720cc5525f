"""How rows go through a model: similar lengths together, padded to the longest of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

MAX_TOKENS = 16384
"""Padded tokens that go through the model at once."""
_MAX_LOGITS = 2**28
"""Logits that are in memory at once: 1 GiB in float32."""

T = TypeVar("T")


def batches(
    items: Sequence[T], length: Callable[[T], int], limit: int, *, max_padding: int | None = None
) -> Iterator[list[T]]:
    """Items of similar length together, so that a batch padded to its longest stays within `limit` tokens, no more
    than `max_padding` of which are padding. None: any number."""
    batch: list[T] = []
    filled = 0
    for item in sorted(items, key=length):
        tokens = (len(batch) + 1) * length(item)
        filled += length(item)
        if batch and (tokens > limit or (max_padding is not None and tokens - filled > max_padding)):
            yield batch
            batch, filled = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def packed(items: Sequence[T], length: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Items in their order, so that a batch without padding stays within `limit` tokens."""
    batch: list[T] = []
    filled = 0
    for item in items:
        filled += length(item)
        if batch and filled > limit:
            yield batch
            batch, filled = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def max_tokens(model: Any) -> int:
    """Tokens whose logits fit into memory at once."""
    return min(MAX_TOKENS, _MAX_LOGITS // int(model.config.get_text_config().vocab_size))


def padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> torch.Tensor:
    """Rows filled up with `pad` behind their end, shape [rows, longest]."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)


def padded_left(rows: Sequence[Sequence[int]], pad: int, device: Any) -> torch.Tensor:
    """Rows filled up with `pad` before their beginning, shape [rows, longest]."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*[pad] * (longest - len(row)), *row] for row in rows], device=device)


def ones(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """A 1 for each token of each row: what padded with 0 is the attention mask."""
    return [[1] * len(row) for row in rows]
