"""Early stopping: measures while training, keeps the best weights, and ends where nothing improves any more."""

from typing import Any

import torch
from transformers import TrainerCallback

from posttrain_api.v1alpha1.evaluation import LOWER_IS_BETTER, EarlyStopping
from posttrain_trainer import evaluate, steps
from posttrain_trainer.job import Job


class Watch(TrainerCallback):
    """Measures one metric on the held-out rows every so many steps, and after the last."""

    def __init__(self, job: Job) -> None:
        self.has_stopped = False
        """It ended the training before its last step."""
        assert job.recipe.evaluation.early_stopping is not None
        self._job = job
        self._given: EarlyStopping = job.recipe.evaluation.early_stopping
        self._best: float | None = None
        self._weights: dict[str, torch.Tensor] = {}
        self._without_improvement = 0

    def on_train_end(self, _args: Any, _state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        """Give the model its best weights, before the method merges or unloads anything."""
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in self._weights:
                    weight.copy_(self._weights[name])

    def on_step_end(self, _args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        is_last = state.global_step >= state.max_steps
        if is_last or steps.is_due(state.global_step, self._every(state.max_steps), self._job.recipe):
            self._judge(self._measured(model), state.global_step, model)
            if self._without_improvement >= self._given.patience and not is_last:
                self.has_stopped = control.should_training_stop = True

    def _every(self, total_steps: int) -> int:
        return self._given.every_steps or max(total_steps // 10, 1)

    def _measured(self, model: Any) -> float | None:
        where = f"while it measured the model {self._job.progress.place}"
        model.eval()
        found = evaluate.measure(
            model, self._job, [self._given.metric], between=lambda: self._job.stop.check(where)
        ).metrics[self._given.metric]
        model.train()
        self._job.progress.held_out = {f"heldOut.{self._given.metric}": found}
        return found

    def _judge(self, found: float | None, step: int, model: Any) -> None:
        if found is None or not self._is_better(found):
            self._without_improvement += 1
            return
        self._best, self._without_improvement = found, 0
        best = {"metric": self._given.metric, "bestStep": step, "bestValue": found}
        self._job.progress.findings["earlyStopping"] = best
        moving = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        self._weights = {name: weight.detach().to("cpu", copy=True) for name, weight in moving}

    def _is_better(self, found: float) -> bool:
        if self._best is None:
            return True
        return found < self._best if self._given.metric in LOWER_IS_BETTER else found > self._best
