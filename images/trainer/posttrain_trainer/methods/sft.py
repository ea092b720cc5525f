"""Supervised fine-tuning: TRL's SFTTrainer on a PEFT LoRA, fed with tokens and labels that are ours.

Nothing of the data is left for TRL to decide: no template, no mask, no truncation.
"""

import tempfile
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.tuning import Lora
from posttrain_trainer import evaluate, steps
from posttrain_trainer.model import Precision
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.task import Task

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""Ours -> transformers': its `constant` would leave out the warm-up."""
_METRICS = {
    "loss": "loss",
    "mean_token_accuracy": "tokenAccuracy",
    "entropy": "entropy",
    "learning_rate": "learningRate",
    "grad_norm": "gradNorm",
}
"""TRL's name of a metric -> ours."""


def train(model: Any, recipe: Recipe, task: Task, precision: Precision, progress: Progress, stop: Stop) -> Any:
    """Train LoRA matrices on the base; returns the PEFT model. Refused where it diverges, Stopped on SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="posttrain-") as folder:
        training = trainer(model, recipe, task, precision, folder)
        training.add_callback(_Watch(progress, stop))
        training.train()
    stop.check(progress.place)
    _check_finite(progress)
    training.model.gradient_checkpointing_disable()
    return training.model.eval()


def trainer(model: Any, recipe: Recipe, task: Task, precision: Precision, folder: str) -> SFTTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    found = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(recipe, task, precision, folder)),
        train_dataset=dataset(task),
        processing_class=task.chat.tokenizer,
        peft_config=lora(recipe.tuning.lora),
    )
    found.remove_callback(PrinterCallback)
    return found


def dataset(task: Task) -> Dataset:
    """The rows to learn from: `input_ids`, and `labels` that are -100 where the loss does not count."""
    return Dataset.from_dict(
        {
            "input_ids": [list(example.token_ids) for example in task.training],
            "labels": [evaluate.labels_of(example) for example in task.training],
        }
    )


def lora(chosen: Lora) -> LoraConfig:
    """PEFT's configuration of a recipe's LoRA."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=chosen.rank,
        lora_alpha=int(chosen.alpha) if chosen.alpha.is_integer() else chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=chosen.target_modules or "all-linear",
        bias="none",
    )


def arguments(recipe: Recipe, task: Task, precision: Precision, folder: str) -> dict[str, Any]:
    """SFTConfig's arguments: a step is exactly effectiveBatchSize rows, and nothing is reported or saved by itself."""
    chosen = recipe.hyperparameters
    micro_batch = steps.micro_batch_size(chosen.effective_batch_size, task.longest)
    return {
        "output_dir": folder,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": chosen.effective_batch_size // micro_batch,
        "num_train_epochs": chosen.epochs or 1.0,
        "max_steps": chosen.max_steps or -1,
        "learning_rate": chosen.learning_rate,
        "lr_scheduler_type": _SCHEDULERS[chosen.scheduler],
        "warmup_steps": chosen.warmup_steps,
        "weight_decay": chosen.weight_decay,
        "max_grad_norm": chosen.max_grad_norm,
        "gradient_checkpointing": chosen.gradient_checkpointing,
        "bf16": precision.dtype == "bfloat16",
        "use_cpu": precision.device == "cpu",
        "dataloader_pin_memory": precision.device != "cpu",
        "seed": chosen.seed,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _check_finite(progress: Progress) -> None:
    if progress.status.metrics.get("loss", 0.0) is None:
        raise Refused(
            Reason.TRAINING_DIVERGED,
            f"{progress.place}: the loss is not a number any more: lower hyperparameters.learningRate",
        )


class _Watch(TrainerCallback):
    """Hands every step's numbers to Progress and ends the training where there is no use in going on: transformers
    logs each step before it looks whether to stop."""

    def __init__(self, progress: Progress, stop: Stop) -> None:
        self._progress = progress
        self._stop = stop

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._progress.begin_training(total_steps=state.max_steps)

    def on_log(self, _args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            metrics = {ours: evaluate.finite(logs[theirs]) for theirs, ours in _METRICS.items() if theirs in logs}
            tokens = int(logs.get("num_tokens", 0))
            self._progress.step(state.global_step, epoch=state.epoch, tokens=tokens, metrics=metrics)
            control.should_training_stop |= self._stop.requested or metrics["loss"] is None
