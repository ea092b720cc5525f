"""Group relative policy optimization: TRL's GRPOTrainer on answers and scores that are ours."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trl import GRPOConfig, GRPOTrainer

from posttrain_api.v1alpha1.methods import Grpo, GrpoLoss
from posttrain_trainer import fit
from posttrain_trainer.job import Job
from posttrain_trainer.rl import own_answers
from posttrain_trainer.rl.own_answers import OwnAnswers

_KNOBS: Mapping[GrpoLoss, Mapping[str, Any]] = MappingProxyType(
    {
        "grpo": {"loss_type": "grpo"},
        "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
        "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
        "bnpo": {"loss_type": "bnpo"},
        "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
        "sapo": {"loss_type": "sapo"},
    }
)
"""A variant by the name of its paper -> TRL's settings; the same score for all papers: divided by the group's spread
unless said otherwise."""


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on its own answers to a task's prompts; returns it in evaluation mode."""
    return fit.run(lambda folder: trainer(model, job, folder), job, own_answers.train)


def trainer(model: Any, job: Job, folder: str) -> GRPOTrainer:
    """TRL's trainer as the recipe wants it; `folder` is for what it insists to write."""
    chosen = job.recipe.grpo
    assert chosen is not None
    return _Trainer(job=job, model=model, args=GRPOConfig(**own_answers.arguments(job, folder), **knobs(chosen)))


def knobs(chosen: Grpo) -> dict[str, Any]:
    """What a variant means in TRL's words."""
    found = {"scale_rewards": "group", "importance_sampling_level": "token"} | dict(_KNOBS[chosen.loss])
    return found | ({} if chosen.epsilon_high is None else {"epsilon_high": chosen.epsilon_high})


class _Trainer(OwnAnswers, GRPOTrainer):
    """TRL's trainer, whose answers are ours."""

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """With a mask of what the model wrote itself, where its tools said the rest."""
        ids, answers, _, *others = super()._generate(prompts)
        owns = [one.sample.own for one in self._scored]
        masks = None if None in owns else [list(own) for own in owns]
        return ids, answers, masks, *others

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], list[list[float]]]:
        return self._completions, [list(one.sample.log_probabilities) for one in self._scored]
