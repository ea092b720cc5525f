"""What a training will need, by arithmetic on the base's shapes: counted before a GPU is taken."""

from posttrain_api.trainer_contract import Machine
from posttrain_api.v1alpha1.methods import PAIRS, TRAINING
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import Estimate, MemoryEstimate
from posttrain_api.v1alpha1.tuning import Lora, Tuning
from posttrain_trainer import steps
from posttrain_trainer.base import Base
from posttrain_trainer.task import Task

_GIB = 2**30
_FLOAT32 = 4
_NF4 = 0.5625
"""Bytes of a weight in 4 bits, its share of the scales included."""
_ACTIVATIONS_PER_TOKEN = 17
"""Values that one transformer layer keeps for the backward pass, in units of its hidden size."""
_HAS_REFERENCE = frozenset({"dpo", "kto"})


def estimate(recipe: Recipe, task: Task, machine: Machine | None = None) -> Estimate:
    """Rows, tokens, steps, weights that move, memory, and on a known machine time and cost."""
    total_tokens = sum(row.num_tokens for row in task.training) * _sequences(recipe)
    trains = recipe.method in TRAINING
    found = Estimate(
        rows=len(task.training),
        trained_tokens=sum(row.num_trained for row in task.training),
        total_tokens=total_tokens,
        total_steps=steps.total(len(task.training), recipe.hyperparameters) if trains else 0,
        trainable_parameters=num_trainable(recipe, task.base),
        memory_gib=0.0,
    )
    memory = _memory(recipe, task, found.trainable_parameters)
    found = found.replace(memory=memory, memory_gib=round(sum(memory.model_dump().values()), 2))
    return found if machine is None or not trains else _priced(found, recipe, task.base, machine)


def num_trainable(recipe: Recipe, base: Base) -> int:
    """Weights that move; a reward model's head, one number for each hidden one, is among them."""
    head = _hidden(base) if recipe.method == "reward" else 0
    return _tuned_parameters(recipe.tuning, base) + head


def _tuned_parameters(tuning: Tuning, base: Base) -> int:
    if tuning.lora is not None:
        return trainable_parameters(tuning.lora, base)
    if tuning.full is not None:
        return base.num_parameters
    if tuning.osft is not None:
        ratio = tuning.osft.unfreeze_rank_ratio
        return sum(round(min(shape) * ratio) * (sum(shape) + 1) for shape in base.linear_layers.values())
    return tuning.prompt_tuning.virtual_tokens * _hidden(base) if tuning.prompt_tuning is not None else 0


def trainable_parameters(lora: Lora, base: Base) -> int:
    """Weights of LoRA: rank * (in + out) for each adapted layer; with DoRA the length of each of its columns too."""
    layers = base.adapted_layers(lora.target_modules).values()
    return sum(lora.rank * (rows + columns) + (rows if lora.dora else 0) for rows, columns in layers)


def _memory(recipe: Recipe, task: Task, trainable: int) -> MemoryEstimate:
    base, tokens = task.base, _tokens_at_once(recipe, task)
    moves_base = recipe.tuning.full is not None or recipe.tuning.osft is not None
    copy = 0 if moves_base else _FLOAT32
    has_logits = recipe.method in TRAINING - {"reward"}
    num_rewards = sum(reward.model is not None for reward in recipe.environment.rewards)
    bytes_of = {
        "weights": _weight_bytes(recipe, base),
        "gradients": trainable * _FLOAT32,
        "optimizer": trainable * (2 * _FLOAT32 + copy),
        "activations": tokens * _kept_values(recipe, base) * _width(recipe),
        # As the model writes them, once more in float32, and their gradient.
        "logits": tokens * base.vocabulary * (_width(recipe) + 2 * _FLOAT32) if has_logits else 0,
        # The reference of dpo and kto is numbers that were computed beforehand.
        # A teacher's or a reward model's shapes are not known here: it is taken to be as large as the base.
        "reference": base.num_parameters * _width(recipe) if recipe.method == "distill" else 0,
        "reward": num_rewards * base.num_parameters * _FLOAT32,
    }
    return MemoryEstimate(**{name: round(value / _GIB, 3) for name, value in bytes_of.items()})


def _weight_bytes(recipe: Recipe, base: Base) -> float:
    tuning = recipe.tuning
    if tuning.osft is not None:
        # Each linear layer is held as its singular vectors too.
        vectors = sum(min(shape) * (sum(shape) + 1) for shape in base.linear_layers.values())
        return (base.num_parameters + vectors) * _FLOAT32
    if tuning.full is not None or recipe.method == "reward":
        return base.num_parameters * _FLOAT32
    if tuning.lora is not None and tuning.lora.quantization == "nf4":
        linear = sum(rows * columns for rows, columns in base.linear_layers.values())
        return linear * _NF4 + (base.num_parameters - linear) * _width(recipe)
    return base.num_parameters * _width(recipe)


def _kept_values(recipe: Recipe, base: Base) -> int:
    """Values that the backward pass needs of the forward pass, for each token."""
    layers = int(base.config.get("num_hidden_layers", 0))
    if recipe.method not in TRAINING:
        return _hidden(base) * _ACTIVATIONS_PER_TOKEN
    if recipe.hyperparameters.gradient_checkpointing:
        return _hidden(base) * (layers + _ACTIVATIONS_PER_TOKEN)
    return _hidden(base) * layers * _ACTIVATIONS_PER_TOKEN


def _tokens_at_once(recipe: Recipe, task: Task) -> int:
    if not task.training:
        return 0
    return steps.max_tokens(recipe, task.longest * _sequences(recipe))


def _priced(found: Estimate, recipe: Recipe, base: Base, machine: Machine) -> Estimate:
    """Time by 6 operations for each weight and token: 2 forward, 4 backward, and 2 for each further forward pass."""
    rows = found.total_steps * recipe.hyperparameters.effective_batch_size
    passes = recipe.hyperparameters.epochs or rows / found.rows
    further = recipe.hyperparameters.gradient_checkpointing + (recipe.method in {*_HAS_REFERENCE, "distill"})
    operations = (6 + 2 * further) * base.num_parameters * found.total_tokens * passes
    seconds = operations / (machine.teraflops * 1e12)
    return found.replace(
        duration_seconds=round(seconds, 1),
        cost=f"{seconds / 3600 * machine.price_per_hour:.2f}",
        currency=machine.currency,
    )


def _sequences(recipe: Recipe) -> int:
    """Sequences that a row is made of."""
    return 2 if recipe.method in PAIRS else 1


def _width(recipe: Recipe) -> int:
    """Bytes of a number in the forward pass; precision auto is taken for a GPU's bf16."""
    return _FLOAT32 if recipe.hyperparameters.precision == "fp32" else 2


def _hidden(base: Base) -> int:
    return int(base.config.get("hidden_size", 0))
