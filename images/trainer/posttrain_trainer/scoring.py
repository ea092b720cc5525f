"""How an answer is scored: environment.rewards with all that they name, ready to score."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import builtin, names
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.rewards.verifier import Verifier

if TYPE_CHECKING:
    from posttrain_trainer.reward_model import RewardModel

Answered = tuple[Prompt, str]
"""A prompt and an answer to it."""


@dataclass(frozen=True)
class Scores:
    """What the rewards say of one answer."""

    each: Mapping[str, float | None]
    """Name of a reward -> its score without its weight; None where it says nothing."""
    total: float | None
    """The sum of weight * score over those that teach; None where none of them says anything."""
    success: float | None
    """The mean of those with role success; None where none of them says anything."""


class Scorer:
    """environment.rewards of one run, ready to score."""

    def __init__(self, config: RunConfig, places: Places, device: str) -> None:
        """Loads the reward models; Refused where one is not there whole."""
        self.rewards: Mapping[str, Reward] = names.named(config.recipe.environment.rewards)
        """Name of a reward -> the reward, in the order of the recipe."""
        self._models = {
            name: _reward_model(config, f"environment.rewards.{place}", places, device)
            for place, (name, reward) in enumerate(self.rewards.items())
            if reward.model is not None
        }
        self._builtins = {
            name: _builtin(name, reward)
            for name, reward in self.rewards.items()
            if reward.builtin not in (None, "verifier", "unit_tests")
        }
        is_verified = any(reward.builtin == "verifier" for reward in self.rewards.values())
        self._verifier = Verifier(config.recipe) if is_verified else None

    def score(self, answered: Sequence[Answered]) -> list[Scores]:
        """What each reward says of each answer; Refused where a row lacks what one of them needs."""
        found = {name: self._of(name, reward, answered) for name, reward in self.rewards.items()}
        return [self._together({name: found[name][place] for name in found}) for place in range(len(answered))]

    def scores(self, answered: Sequence[Answered]) -> list[float]:
        """The sum of weight * score of each answer, over those that teach; 0 where none of them says anything."""
        return [scores.total or 0.0 for scores in self.score(answered)]

    def _together(self, each: Mapping[str, float | None]) -> Scores:
        teaching = [
            reward.weight * score
            for name, reward in self.rewards.items()
            if reward.teaches and (score := each[name]) is not None
        ]
        succeeding = [
            score for name, reward in self.rewards.items() if not reward.teaches and (score := each[name]) is not None
        ]
        return Scores(
            each,
            total=sum(teaching) if teaching else None,
            success=statistics.fmean(succeeding) if succeeding else None,
        )

    def _of(self, name: str, reward: Reward, answered: Sequence[Answered]) -> list[float | None]:
        if name in self._models:
            return list(self._models[name].scores([(prompt.messages, answer) for prompt, answer in answered]))
        if reward.builtin == "verifier":
            assert self._verifier is not None
            return self._verifier.scores(answered)
        return [self._said(name, reward, prompt, answer) for prompt, answer in answered]

    def _said(self, name: str, reward: Reward, prompt: Prompt, answer: str) -> float:
        """What a builtin says of an answer."""
        problem = builtin.lacking(reward, prompt.gold, prompt.columns)
        if problem is not None:
            raise Refused(Reason.DATASET_INVALID, f"row {prompt.number}: {problem}")
        try:
            return self._builtins[name](answer, prompt.gold, prompt.columns)
        except RewardFailed as error:
            raise RewardFailed(f"environment.rewards {name}: {error}") from None


def _reward_model(config: RunConfig, key: str, places: Places, device: str) -> "RewardModel":
    source = config.sources[key]
    if source.kind != "reward-model":
        raise Refused(
            Reason.RUN_UNSUITABLE,
            f"{key}.model.fromRun: run {source.run} made a {source.kind}: name a run with method reward",
        )
    # Only this needs torch: rewards are tried without it before a GPU is taken.
    from posttrain_trainer import reward_model

    return reward_model.load(places.path(source.uri), source.uri, source.digest, device)


def _builtin(name: str, reward: Reward) -> builtin.Score:
    try:
        return builtin.scoring(reward)
    except ValueError as error:
        raise Refused(Reason.REWARD_INVALID, f"environment.rewards {name}: {error}") from error
