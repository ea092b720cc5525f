"""How an answer is scored: environment.rewards with the reward models that they name."""

from collections.abc import Sequence

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer import reward_model, rewards
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.reward_model import RewardModel

Answered = tuple[Prompt, str]
"""A prompt and an answer to it."""


class Scorer:
    """environment.rewards of one run, ready to score."""

    def __init__(self, config: RunConfig, places: Places, device: str) -> None:
        """Loads the reward models; Refused where one is not there whole."""
        self._rewards = config.recipe.environment.rewards
        self._models = {
            place: _reward_model(config, f"environment.rewards.{place}", places, device)
            for place, reward in enumerate(self._rewards)
            if reward.model is not None
        }

    def scores(self, answered: Sequence[Answered]) -> list[float]:
        """The sum of weight * score of each answer; Refused where the right answer is needed and is not known."""
        totals = [0.0] * len(answered)
        for place, reward in enumerate(self._rewards):
            found = self._of(place, reward, answered)
            totals = [total + score for total, score in zip(totals, found, strict=True)]
        return totals

    def _of(self, place: int, reward: Reward, answered: Sequence[Answered]) -> list[float]:
        if place not in self._models:
            return [rewards.score([reward], answer, _gold(prompt, place, reward)) for prompt, answer in answered]
        found = self._models[place].scores([(prompt.messages, answer) for prompt, answer in answered])
        return [reward.weight * score for score in found]


def _reward_model(config: RunConfig, key: str, places: Places, device: str) -> RewardModel:
    source = config.sources[key]
    if source.kind != "reward-model":
        raise Refused(
            Reason.RUN_UNSUITABLE,
            f"{key}.model.fromRun: run {source.run} made a {source.kind}: name a run with method reward",
        )
    return reward_model.load(places.path(source.uri), source.uri, source.digest, device)


def _gold(prompt: Prompt, place: int, reward: Reward) -> str:
    if prompt.gold is None:
        raise Refused(
            Reason.DATASET_INVALID,
            f"row {prompt.number}: environment.rewards.{place} {reward.builtin} compares with the right answer, and "
            "the row has none: write it as completion or gold",
        )
    return prompt.gold
