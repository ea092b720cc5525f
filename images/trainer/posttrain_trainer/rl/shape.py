"""Whether prompts and answers fit into the model, and groups into a generation: said before a GPU is taken."""

from collections.abc import Sequence

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.methods import RL
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer import steps
from posttrain_trainer.base import Base
from posttrain_trainer.examples import Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.task import Task


def check(recipe: Recipe, task: Task) -> None:
    """Refused where a prompt leaves no room for an answer."""
    positions = task.base.num_positions
    longest = max(_prompts(recipe, task), key=lambda prompt: prompt.num_tokens, default=None)
    if positions is not None and longest is not None and longest.num_tokens >= positions:
        raise Refused(
            Reason.DATASET_INVALID,
            f"environment.dataset: row {longest.number}: its prompt has {longest.num_tokens} tokens and "
            f"{task.base.uri} was made for {positions}, so there is no room for an answer: shorten it, or set "
            f"hyperparameters.maxLength to at most {positions - 1} and dataset.invalidRows: Skip",
        )


def warnings(recipe: Recipe, task: Task) -> list[str]:
    """What is odd about the lengths of answers and the number of prompts."""
    prompts = _prompts(recipe, task)
    if not prompts:
        return []
    return [
        *_about_room(recipe, task.base, prompts),
        *_about_generations(recipe, len(prompts)),
        *_about_dropout(recipe),
    ]


def _prompts(recipe: Recipe, task: Task) -> list[Prompt]:
    """What a method asks that learns from the scores of its own answers."""
    return task.prompts if recipe.method in RL else []


def _about_room(recipe: Recipe, model: Base, prompts: Sequence[Prompt]) -> list[str]:
    block = recipe.answering
    positions = model.num_positions
    if block is None or positions is None:
        return []
    longest, room = max(prompt.num_tokens for prompt in prompts), block.max_completion_tokens
    cut = sum(prompt.num_tokens + room > positions for prompt in prompts)
    if not cut:
        return []
    return [
        f"answers of {room} tokens to {cut} of {len(prompts)} prompts would be longer than the {positions} tokens that "
        f"the base was made for: set {recipe.method}.maxCompletionTokens to at most {positions - longest}"
    ]


def _about_generations(recipe: Recipe, count: int) -> list[str]:
    at_once = steps.prompts_of_generation(recipe)
    if count >= at_once:
        return []
    return [
        f"a generation asks {at_once} prompts and there are {count}, so some are asked several times in it: lower "
        "hyperparameters.effectiveBatchSize, or add rows"
    ]


def _about_dropout(recipe: Recipe) -> list[str]:
    lora = recipe.tuning.lora
    if lora is None or lora.dropout == 0:
        return []
    return [f"tuning.lora.dropout is off with {recipe.method}: what is trained must be what answered: remove it"]
