"""How many optimizer steps a recipe takes, counted before anything is loaded, exactly as transformers counts them."""

import math
from collections.abc import Sequence
from typing import Protocol

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.hyperparameters import Hyperparameters
from posttrain_api.v1alpha1.methods import PAIRS, RL, SPLIT_STEPS
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer.refusal import Refused

MAX_TOKENS_PER_MICRO_BATCH = 16384


def planned(rows: int, recipe: Recipe) -> int:
    """Optimizer steps that a recipe takes for so many rows; what learns from its own answers asks for whole generations
    of them, those of ppo to the end."""
    chosen, method = recipe.hyperparameters, recipe.method
    if method not in RL or chosen.max_steps is not None:
        return total(rows, chosen)
    assert chosen.epochs is not None
    of_generation = per_generation(recipe) * _iterations(recipe)
    generations = per_epoch(rows, prompts_of_generation(recipe))
    if method == "ppo":
        return math.ceil(chosen.epochs * generations) * of_generation
    return math.ceil(chosen.epochs * generations * of_generation)


def per_generation(recipe: Recipe) -> int:
    """Optimizer steps that the answers of one generation are divided into."""
    if recipe.ppo is not None:
        return recipe.ppo.mini_batches
    return recipe.grpo.steps_per_generation if recipe.grpo is not None else 1


def group_size(recipe: Recipe) -> int:
    """Answers to each prompt."""
    block = recipe.grpo or recipe.rloo
    return block.group_size if block is not None else 1


def is_due(step: int, every: int, recipe: Recipe) -> bool:
    """Whether what happens every so many steps happens after this one: between the steps of one generation of answers
    nothing does, and what fell due there follows at its end."""
    span = per_generation(recipe) * _iterations(recipe)
    return step % span == 0 and step // every > (step - span) // every


def prompts_of_generation(recipe: Recipe) -> int:
    """Prompts that are asked at once."""
    return recipe.hyperparameters.effective_batch_size * per_generation(recipe) // group_size(recipe)


def _iterations(recipe: Recipe) -> int:
    return recipe.answering.num_iterations if recipe.answering is not None else 1


def total(rows: int, hyperparameters: Hyperparameters) -> int:
    """Optimizer steps for so many rows; the last, smaller batch of an epoch is a step too."""
    if hyperparameters.max_steps is not None:
        return hyperparameters.max_steps
    assert hyperparameters.epochs is not None
    return math.ceil(hyperparameters.epochs * per_epoch(rows, hyperparameters.effective_batch_size))


def per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one pass over so many rows."""
    return max(math.ceil(rows / batch_size), 1)


def micro_batch_size(batch_size: int, longest: int) -> int:
    """Rows that go through the model at once where all micro-batches of a step are alike: the largest divisor of the
    batch whose padded tokens stay in bounds."""
    fitting = max(MAX_TOKENS_PER_MICRO_BATCH // longest, 1)
    return next(size for size in range(min(batch_size, fitting), 0, -1) if batch_size % size == 0)


def max_tokens(recipe: Recipe, longest: int) -> int:
    """Padded tokens that go through the model at once, at most, where the longest row has so many."""
    chosen = recipe.hyperparameters
    if recipe.method not in SPLIT_STEPS:
        return longest * micro_batch_size(chosen.effective_batch_size, longest)
    limit = chosen.max_tokens_per_gpu or MAX_TOKENS_PER_MICRO_BATCH
    return longest * min(chosen.effective_batch_size, max(limit // longest, 1))


class Measured(Protocol):
    """A row to learn from."""

    @property
    def number(self) -> int:
        """The row's number in its dataset."""

    @property
    def num_tokens(self) -> int:
        """Length of its longest sequence."""


def check_fits(recipe: Recipe, rows: Sequence[Measured], name: str) -> None:
    """Refused where a row of this dataset is alone more than may go through the model at once."""
    limit = recipe.hyperparameters.max_tokens_per_gpu
    longest = max(rows, key=lambda row: row.num_tokens, default=None)
    if limit is None or longest is None:
        return
    needed = longest.num_tokens * (2 if recipe.method in PAIRS else 1)
    if needed > limit:
        raise Refused(
            Reason.DATASET_INVALID,
            f"{name}: row {longest.number}: {needed} tokens go through the model at once, both answers padded to the "
            f"longer, but maxTokensPerGpu is {limit}: write at least {needed}, or shorten the row",
        )
