"""What a training will need, by arithmetic on the base's shapes: counted before a GPU is taken."""

from posttrain_api.trainer_contract import Machine
from posttrain_api.v1alpha1.methods import PAIRS, RL, TRAINING
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
_KEPT_IN_FLOAT32, _KEPT_IN_BF16 = 8.2, 5.2
"""Bytes that the backward pass needs for each output of a linear layer and token, with everything that is computed
between these layers: measured on Qwen2's layers, in bf16 under autocast. What weights are cast to is not among them."""
_FORWARD_ONLY = {"kto": 1, "distill": 1}
"""Method -> forward passes without a backward one, in each step."""
_BEFOREHAND = {"dpo": 1, "kto": 2}
"""Method -> forward passes over all rows before the first step: the reference's log probabilities."""
_ANSWERING = frozenset({"distill", "bestOf", *RL})
"""Methods whose model answers by itself: how long that takes depends on how long it answers."""
_UNKNOWN_GPU = (
    "the run asks for no GPU of the chart's gpus.table: select one by podTemplate.nodeSelector, such as "
    "nvidia.com/gpu.product: NVIDIA-H200"
)
_UNKNOWN_ANSWERS = "the model answers by itself: tokens are counted as if every answer were as long as it may be"


def estimate(recipe: Recipe, task: Task, machine: Machine | None = None) -> Estimate:
    """Rows, tokens, steps, weights that move, memory, and on a known machine time and cost."""
    samples = recipe.best_of.samples if recipe.best_of else steps.group_size(recipe)
    answers = samples * len(task.training) * task.answer_room
    prompts = samples * sum(row.total_tokens for row in task.training)
    trains = recipe.method in TRAINING
    found = Estimate(
        rows=len(task.training),
        trained_tokens=sum(row.num_trained for row in task.training) + (answers if trains else 0),
        total_tokens=prompts + answers,
        total_steps=steps.planned(len(task.training), recipe) if trains else 0,
        trainable_parameters=num_trainable(recipe, task.base),
        memory_gib=0.0,
        gpu=machine.gpu if machine else None,
    )
    memory = _memory(recipe, task, found.trainable_parameters, machine)
    found = found.replace(memory=memory, memory_gib=round(sum(memory.model_dump().values()), 3))
    return found if recipe.method == "merge" else _priced(found, recipe, task.base, machine)


def warnings(found: Estimate, machine: Machine | None) -> list[str]:
    """What of it cannot be on this machine."""
    if machine is None or found.memory_gib <= machine.memory_gib:
        return []
    return [
        f"about {found.memory_gib:.3g} GiB of GPU memory are needed and {machine.gpu} has {machine.memory_gib:g}: "
        "lower maxLength, maxTokensPerGpu or effectiveBatchSize, or select a larger GPU"
    ]


def num_trainable(recipe: Recipe, base: Base) -> int:
    """Weights that move; a reward model's head, one number for each hidden one, is among them."""
    head = base.hidden_size if recipe.method == "reward" else 0
    return _tuned_parameters(recipe.tuning, base) + head


def _tuned_parameters(tuning: Tuning, base: Base) -> int:
    if tuning.lora is not None:
        return trainable_parameters(tuning.lora, base)
    if tuning.full is not None:
        return base.num_parameters
    if tuning.osft is not None:
        ratio = tuning.osft.unfreeze_rank_ratio
        return sum(round(min(shape) * ratio) * (sum(shape) + 1) for shape in base.linear_layers.values())
    return tuning.prompt_tuning.virtual_tokens * base.hidden_size if tuning.prompt_tuning is not None else 0


def trainable_parameters(lora: Lora, base: Base) -> int:
    """Weights of LoRA: rank * (in + out) for each adapted layer; with DoRA the length of each of its columns too."""
    layers = base.adapted_layers(lora.target_modules).values()
    return sum(lora.rank * (rows + columns) + (rows if lora.dora else 0) for rows, columns in layers)


def _memory(recipe: Recipe, task: Task, trainable: int, machine: Machine | None) -> MemoryEstimate:
    base, tokens = task.base, _tokens_at_once(recipe, task)
    copy = 0 if _moves_base(recipe) else _FLOAT32
    has_logits = recipe.method in TRAINING - {"reward"}
    bytes_of = {
        "weights": _weight_bytes(recipe, base),
        "gradients": trainable * _FLOAT32,
        "optimizer": trainable * (2 * _FLOAT32 + copy),
        "activations": tokens * _kept_bytes(recipe, base),
        # As the model writes them, once more in float32, and their gradient.
        "logits": tokens * base.vocabulary * (_width(recipe) + 2 * _FLOAT32) if has_logits else 0,
        "reference": _reference_bytes(recipe, task),
        "reward": sum(model.num_parameters for model in task.named.reward_models) * _FLOAT32,
    }
    bytes_of["rollouts"] = max(_cache_bytes(recipe, task) - bytes_of["activations"] - bytes_of["logits"], 0)
    if machine is not None and (block := recipe.answering) and block.rollout.mode == "colocate":
        bytes_of["rollouts"] = block.rollout.gpu_memory_utilization * machine.memory_gib * _GIB
    return MemoryEstimate(**{name: round(value / _GIB, 3) for name, value in bytes_of.items()})


def _reference_bytes(recipe: Recipe, task: Task) -> float:
    """A teacher; the start, where it is not the model without its adapter. Of dpo and kto it is numbers that were
    computed beforehand."""
    if task.named.teacher is not None:
        return task.named.teacher.num_parameters * _width(recipe)
    block = recipe.answering
    is_apart = block is not None and block.beta > 0 and _moves_base(recipe)
    return task.base.num_parameters * _FLOAT32 if is_apart else 0


def _cache_bytes(recipe: Recipe, task: Task) -> float:
    """Keys and values of the answers that are written at once."""
    if recipe.answering is None or not task.training:
        return 0
    answers = steps.prompts_of_generation(recipe) * steps.group_size(recipe)
    tokens = min(answers * task.longest, max(steps.MAX_TOKENS_PER_MICRO_BATCH, task.longest))
    return tokens * task.base.cached_numbers * _width(recipe)


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


def _kept_bytes(recipe: Recipe, base: Base) -> float:
    """Bytes that the backward pass needs of the forward pass, for each token. Of a mixture of experts all count."""
    layers = max(base.num_layers, 1)
    each = _KEPT_IN_FLOAT32 if _width(recipe) == _FLOAT32 else _KEPT_IN_BF16
    whole = each * sum(outputs for outputs, _ in base.linear_layers.values())
    if recipe.method not in TRAINING:
        return whole / layers
    if recipe.hyperparameters.gradient_checkpointing:
        # What goes into each layer, and all of the one that is computed again.
        return layers * base.hidden_size * _width(recipe) + whole / layers
    return whole


def _tokens_at_once(recipe: Recipe, task: Task) -> int:
    if not task.training:
        return 0
    return steps.max_tokens(recipe, task.longest * _sequences(recipe))


def _priced(found: Estimate, recipe: Recipe, base: Base, machine: Machine | None) -> Estimate:
    """With time and cost, or why they are not known."""
    if recipe.method in _ANSWERING or machine is None:
        return found.replace(unpriced=_UNKNOWN_ANSWERS if recipe.method in _ANSWERING else _UNKNOWN_GPU)
    seconds = base.num_parameters * found.total_tokens * _operations(found, recipe) / (machine.teraflops * 1e12)
    return found.replace(
        duration_seconds=round(seconds, 1),
        cost=f"{seconds / 3600 * machine.price_per_hour:.2f}",
        currency=machine.currency,
    )


def _operations(found: Estimate, recipe: Recipe) -> float:
    """Operations for each weight and token of the rows: 2 forward, and backward 2 for what a layer is given and 2 for
    its weights where they move."""
    chosen, method = recipe.hyperparameters, recipe.method
    passes = chosen.epochs or found.total_steps * chosen.effective_batch_size / found.rows
    forward = 1 + chosen.gradient_checkpointing + _FORWARD_ONLY.get(method, 0)
    return passes * (2 * forward + (4 if _moves_base(recipe) else 2)) + 2 * _BEFOREHAND.get(method, 0)


def _sequences(recipe: Recipe) -> int:
    """Sequences that a row is made of."""
    return 2 if recipe.method in PAIRS else 1


def _moves_base(recipe: Recipe) -> bool:
    """Whether the base's own weights move, in float32."""
    return recipe.tuning.full is not None or recipe.tuning.osft is not None


def _width(recipe: Recipe) -> int:
    """Bytes of a number in the forward pass; precision auto is taken for a GPU's bf16."""
    return _FLOAT32 if recipe.hyperparameters.precision == "fp32" else 2
