"""Which numbers of a recipe are unusual: outside it a run may be right, but a slip of the pen is likelier."""

from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from posttrain_api.v1alpha1.hyperparameters import learning_rate
from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_api.v1alpha1.training_run import BLOCK_OF, Recipe

Range = tuple[float, float]
Choice = tuple[str, float | None, Range]
"""Where it stands in the spec, the number, and the usual range of it."""

_RATE_BELOW, _RATE_ABOVE = 10, 5
"""So many times smaller and larger than the usual learning rate is still usual."""
_ANSWERS: dict[str, Range] = {"temperature": (0.5, 1.2)}
_METHODS: dict[str, dict[str, Range]] = {
    "dpo": {"beta": (0.01, 0.5)},
    "simpo": {"beta": (1, 10), "gamma": (0.3, 5)},
    "orpo": {"beta": (0.05, 0.5)},
    "kto": {"beta": (0.01, 0.5)},
    "distill": {"temperature": (0.5, 1.2)},
    "grpo": {"group_size": (4, 64), "beta": (0, 0.1), "epsilon": (0.1, 0.3), "num_iterations": (1, 4), **_ANSWERS},
    "rloo": {"group_size": (2, 64), "beta": (0, 0.2), "epsilon": (0.1, 0.3), "num_iterations": (1, 4), **_ANSWERS},
    "bestOf": {"samples": (2, 64), "temperature": (0.5, 1.2)},
}
"""Method -> a setting of its block -> the usual range."""


def warnings(recipe: Recipe) -> list[str]:
    """A sentence for each number outside its usual range, with that range."""
    kind = _tuning(recipe)
    with_what = f"{recipe.method} with {kind}" if kind else recipe.method
    return [
        f"{name} {value:g} is unusual: for {with_what} it is mostly between {low:g} and {high:g}"
        for name, value, (low, high) in _choices(recipe, kind)
        if value is not None and not low <= value <= high
    ]


def _choices(recipe: Recipe, kind: str | None) -> Iterator[Choice]:
    block = getattr(recipe, BLOCK_OF[recipe.method])
    for name, usual in _METHODS.get(recipe.method, {}).items():
        yield f"{recipe.method}.{to_camel(name)}", getattr(block, name), usual
    if kind is not None and recipe.method in TRAINING:
        yield from _training(recipe, kind)
        yield from _of_tuning(recipe)


def _training(recipe: Recipe, kind: str) -> Iterator[Choice]:
    chosen = recipe.hyperparameters
    usual = learning_rate(recipe.method, tuning=kind)
    warmup = chosen.warmup_steps if chosen.warmup_steps < 1 else None
    yield "hyperparameters.learningRate", chosen.learning_rate, (usual / _RATE_BELOW, usual * _RATE_ABOVE)
    yield "hyperparameters.epochs", chosen.epochs, (0.5, 10 if kind == "promptTuning" else 5)
    yield "hyperparameters.effectiveBatchSize", chosen.effective_batch_size, (4, 512)
    yield "hyperparameters.warmupSteps", warmup, (0, 0.2)
    yield "hyperparameters.weightDecay", chosen.weight_decay, (0, 0.1)
    yield "hyperparameters.maxGradNorm", chosen.max_grad_norm, (0.1, 10)


def _of_tuning(recipe: Recipe) -> Iterator[Choice]:
    tuning = recipe.tuning
    if tuning.lora is not None:
        scale = tuning.lora.alpha / tuning.lora.rank
        yield "tuning.lora.rank", tuning.lora.rank, (4, 256)
        yield "tuning.lora.alpha / rank", None if tuning.lora.rank_stabilized else scale, (0.5, 4)
        yield "tuning.lora.dropout", tuning.lora.dropout, (0, 0.2)
    if tuning.osft is not None:
        yield "tuning.osft.unfreezeRankRatio", tuning.osft.unfreeze_rank_ratio, (0.05, 0.75)
    if tuning.prompt_tuning is not None:
        yield "tuning.promptTuning.virtualTokens", tuning.prompt_tuning.virtual_tokens, (5, 200)


def _tuning(recipe: Recipe) -> str | None:
    """lora, full, osft or promptTuning; None where nothing is tuned."""
    return next(iter(recipe.tuning.to_json()), None)
