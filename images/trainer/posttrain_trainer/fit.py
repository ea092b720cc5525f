"""Runs one of TRL's trainers: the settings that all of them share, and a watch over every step."""

import tempfile
from collections.abc import Callable
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer import evaluate, output_layer, steps
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""Ours -> transformers': its `constant` would leave out the warm-up."""
_METRICS = {
    "loss": "loss",
    "mean_token_accuracy": "tokenAccuracy",
    "entropy": "entropy",
    "learning_rate": "learningRate",
    "grad_norm": "gradNorm",
    "rewards/chosen": "rewardChosen",
    "rewards/rejected": "rewardRejected",
    "rewards/accuracies": "rewardAccuracy",
    "rewards/margins": "rewardMargin",
    "accuracy": "rewardAccuracy",
    "margin": "rewardMargin",
    "logps/chosen": "logProbabilityChosen",
    "logps/rejected": "logProbabilityRejected",
    "nll_loss": "nllLoss",
    "log_odds_chosen": "logOdds",
    "kl": "kl",
    "clip_ratio/region_mean": "clippedShare",
    "cispo_clip_ratio": "clippedShare",
}
"""TRL's name of a metric -> ours."""
OWN = "posttrain/"
"""What the name of a metric begins with that is ours already."""


def run(build: Callable[[str], Trainer], job: Job, train: Callable[[Any], Any] = Trainer.train) -> Any:
    """Train with the trainer that `build` makes for a folder of its own; returns the trained model in evaluation mode.

    `train`: what lets it train. Refused where the training diverges, Stopped on SIGTERM.
    """
    with tempfile.TemporaryDirectory(prefix="posttrain-") as folder:
        training = build(folder)
        training.remove_callback(PrinterCallback)
        for callback in watchers(job):
            training.add_callback(callback)
        with output_layer.on_learned_tokens():
            train(training)
    return ended(training.model, job)


def watchers(job: Job) -> list[TrainerCallback]:
    """What is told of every step: Progress first."""
    return [_Watch(job), *job.callbacks]


def ended(model: Any, job: Job) -> Any:
    """The trained model in evaluation mode; Refused where the training diverged, Stopped on SIGTERM."""
    job.stop.check(job.progress.place)
    _check_finite(job)
    model.gradient_checkpointing_disable()
    return model.eval()


def arguments(job: Job, folder: str, *, sequences: int = 1) -> dict[str, Any]:
    """TrainingArguments: a step is exactly effectiveBatchSize rows of so many sequences each, and nothing is reported
    or saved by itself."""
    chosen = job.recipe.hyperparameters
    micro_batch = steps.micro_batch_size(chosen.effective_batch_size, sequences * job.task.longest)
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
        "bf16": job.precision.dtype == "bfloat16",
        "use_cpu": job.precision.device == "cpu",
        "dataloader_pin_memory": job.precision.device != "cpu",
        "seed": chosen.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _renamed(logs: dict[str, float | None]) -> Metrics:
    """TRL's metrics of a step under our names; None where one is not a number."""
    names = _METRICS | {name: name.removeprefix(OWN) for name in logs if name.startswith(OWN)}
    values = {ours: logs[theirs] for theirs, ours in names.items() if theirs in logs}
    return {name: None if value is None else evaluate.finite(value) for name, value in values.items()}


def _check_finite(job: Job) -> None:
    was_repaired = job.monitor is not None and job.monitor.has_restored
    if job.progress.status.metrics.get("loss", 0.0) is None and not was_repaired:
        raise Refused(
            Reason.TRAINING_DIVERGED,
            f"{job.progress.place}: the loss is not a number any more: lower hyperparameters.learningRate",
        )


class _Watch(TrainerCallback):
    """Hands every step's numbers to Progress and ends the training where there is no use in going on: transformers
    logs each step before it looks whether to stop."""

    def __init__(self, job: Job) -> None:
        self._progress = job.progress
        self._stop = job.stop
        self._monitor = job.monitor
        self._tokens = 0

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._progress.begin_training(total_steps=state.max_steps)

    def on_log(self, _args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            metrics = _renamed(logs)
            if self._monitor is not None:
                metrics = self._monitor.step(state.global_step, metrics)
                control.should_training_stop |= self._monitor.has_stopped
            # A step that learns from the answers of an earlier one does not count them again.
            self._tokens = int(logs.get("num_tokens", self._tokens))
            self._progress.step(state.global_step, epoch=state.epoch, tokens=self._tokens, metrics=metrics)
            control.should_training_stop |= self._stop.requested or metrics["loss"] is None
