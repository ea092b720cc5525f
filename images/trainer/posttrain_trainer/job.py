"""Everything that the parts of one training share."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer import model, named_models
from posttrain_trainer.model import Precision
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
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
    def teacher(self) -> Any:
        """The model that distill learns from, in evaluation mode, loaded when it is asked for first; that it has the
        base's vocabulary is known since preflight."""
        uri = named_models.teacher_uri(self.config)
        return model.load_base(self.places.path(uri), uri, self.precision)

    @property
    def recipe(self) -> Recipe:
        """What to train."""
        return self.config.recipe
