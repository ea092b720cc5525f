"""Everything that the parts of one training share."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer import model, named_models
from posttrain_trainer.model import Precision
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rl.engine import Engine
from posttrain_trainer.rl.monitor import Monitor
from posttrain_trainer.scoring import Scorer
from posttrain_trainer.task import Task


@dataclass(frozen=True)
class Job:
    """One round of one run, ready to be trained."""

    config: RunConfig
    places: Places
    task: Task
    precision: Precision
    progress: Progress
    stop: Stop
    callbacks: list[Any] = field(default_factory=list)
    """What else watches the training: transformers' callbacks."""

    @cached_property
    def scorer(self) -> Scorer:
        """Scores answers by environment.rewards; loads the reward models when it is asked for first."""
        return Scorer(self.config, self.places, self.precision.device)

    @cached_property
    def monitor(self) -> Monitor | None:
        """Watches the health of a training that learns from rewards; None for other methods."""
        if self.recipe.health is None:
            return None
        return Monitor(
            self.recipe.health,
            self.progress,
            pad=self.task.chat.tokenizer.pad_token_id,
            precision=self.precision,
            keeps_best=self.recipe.evaluation.early_stopping is None,
        )

    @cached_property
    def engine(self) -> Engine:
        """The vLLM beside the trainer, for rollout.mode server; Refused where nobody has started one."""
        if self.places.rollout_url is None:
            raise Refused(
                Reason.INVALID_SPEC,
                "rollout.mode server: the operator starts vLLM beside the trainer, and nobody has done so here: write "
                "transformers, or give --rollout-url",
            )
        return Engine(self.places.rollout_url, self.places.rollout_folder)

    @property
    def gives_best(self) -> bool:
        """Whether the result of the training has its best weights, not its last."""
        was_stopped = self.monitor is not None and self.monitor.has_stopped
        return self.recipe.evaluation.early_stopping is not None or was_stopped

    @cached_property
    def teacher(self) -> Any:
        """The model that distill learns from, in evaluation mode, loaded when it is asked for first; that it has the
        base's vocabulary is known since preflight."""
        uri = named_models.teacher_uri(self.config)
        return model.load_base(self.places.path(uri), uri, self.precision)

    @property
    def recipe(self) -> Recipe:
        """What to train."""
        return self.config.recipe
