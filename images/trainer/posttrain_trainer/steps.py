"""How many optimizer steps a recipe takes, counted before anything is loaded, exactly as transformers counts them."""

import math

from posttrain_api.v1alpha1.hyperparameters import Hyperparameters

MAX_TOKENS_PER_MICRO_BATCH = 16384


def total(rows: int, hyperparameters: Hyperparameters) -> int:
    """Optimizer steps for so many rows; the last, smaller batch of an epoch is a step too."""
    if hyperparameters.max_steps is not None:
        return hyperparameters.max_steps
    assert hyperparameters.epochs is not None
    return math.ceil(hyperparameters.epochs * per_epoch(rows, hyperparameters.effective_batch_size))


def per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one pass over so many rows."""
    return max(math.ceil(rows / batch_size), 1)


def micro_batch_size(batch_size: int, longest: int, *, max_tokens: int | None = None) -> int:
    """Rows that go through the model at once: the largest divisor of the batch whose padded tokens stay in bounds."""
    fitting = max((max_tokens or MAX_TOKENS_PER_MICRO_BATCH) // longest, 1)
    return next(size for size in range(min(batch_size, fitting), 0, -1) if batch_size % size == 0)
