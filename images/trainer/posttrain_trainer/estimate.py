"""What a training will need, by arithmetic on the base's shapes: counted before a GPU is taken."""

from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import Estimate
from posttrain_api.v1alpha1.tuning import Lora
from posttrain_trainer import steps
from posttrain_trainer.base import Base
from posttrain_trainer.task import Task

_GIB = 2**30
_BYTES_PER_TRAINED_WEIGHT = 16
"""float32 weight, gradient and AdamW's two moments."""
_ACTIVATIONS_PER_TOKEN = 17
"""Values that one transformer layer keeps for the backward pass, in units of its hidden size."""


def estimate(recipe: Recipe, task: Task) -> Estimate:
    """Rows, tokens, steps, weights that move and memory."""
    trainable = trainable_parameters(recipe.tuning.lora, task.base)
    return Estimate(
        rows=len(task.training),
        trained_tokens=sum(example.num_trained for example in task.training),
        total_tokens=sum(row.num_tokens for row in task.training),
        total_steps=steps.total(len(task.training), recipe.hyperparameters),
        trainable_parameters=trainable,
        memory_gib=round(_memory_bytes(recipe, task.base, trainable, task.longest) / _GIB, 2),
    )


def trainable_parameters(lora: Lora, base: Base) -> int:
    """Weights of the LoRA matrices: rank * (in + out) for each adapted layer."""
    layers = base.adapted_layers(lora.target_modules)
    return sum(lora.rank * (rows + columns) for rows, columns in layers.values())


def _memory_bytes(recipe: Recipe, base: Base, trainable: int, longest: int) -> float:
    """Precision auto is taken for a GPU's bf16."""
    hyperparameters = recipe.hyperparameters
    width = 4 if hyperparameters.precision == "fp32" else 2
    tokens = longest * steps.micro_batch_size(hyperparameters.effective_batch_size, longest)
    hidden, layers = int(base.config.get("hidden_size", 0)), int(base.config.get("num_hidden_layers", 0))
    kept = (
        layers + _ACTIVATIONS_PER_TOKEN if hyperparameters.gradient_checkpointing else layers * _ACTIVATIONS_PER_TOKEN
    )
    return base.num_parameters * width + trainable * _BYTES_PER_TRAINED_WEIGHT + tokens * hidden * kept * width
