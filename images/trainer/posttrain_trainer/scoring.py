"""How an answer is scored: environment.rewards with all that they name, ready to score."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import builtin, judge, names
from posttrain_trainer.rewards.apart import Apart
from posttrain_trainer.rewards.code import Code
from posttrain_trainer.rewards.failure import PATIENCE, Patience, RewardFailed
from posttrain_trainer.rewards.judge import Judge
from posttrain_trainer.rewards.verifier import Verifier

Answered = tuple[Prompt, str]
"""A prompt and an answer to it."""
Said = float | RewardFailed | None
"""What a reward says of an answer: a score, nothing, or that it failed."""
Scoring = Callable[[Sequence[Answered]], Sequence[Said]]
"""One reward, ready to score."""
TOOLS = "tools"
"""What the score of environment.tools is called among the rewards."""


@dataclass(frozen=True)
class Scores:
    """What the rewards say of one answer."""

    each: Mapping[str, float | None]
    """Name of a reward -> its score without its weight; None where it says nothing."""
    total: float | None
    """The sum of weight * score over those that teach; None where none of them says anything."""
    success: float | None
    """The mean of those with role success; None where none of them says anything."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name of a reward that failed -> why. The total is None where it teaches."""

    def plus(self, name: str, score: float | None) -> Self:
        """The same with one more part that teaches; itself where that says nothing."""
        if score is None:
            return self
        total = None if self.failed else (self.total or 0.0) + score
        return replace(self, each={**self.each, name: score}, total=total)


class Scorer:
    """environment.rewards of one run, ready to score."""

    def __init__(self, config: RunConfig, places: Places, device: str | None, *, patience: int = PATIENCE) -> None:
        """Loads the reward models, which are left out where device is None; Refused where one is not there whole.

        patience: failed calls of a reward in a row with which `score` gives up."""
        self.rewards: Mapping[str, Reward] = names.named(config.recipe.environment.rewards)
        """Name of a reward -> the reward, in the order of the recipe."""
        self._patience = Patience(patience)
        self._apart = Apart(places.rewards_socket)
        self._judges: list[Judge] = []
        self._scoring: dict[str, Scoring] = {}
        for place, (name, reward) in enumerate(self.rewards.items()):
            if reward.model is None:
                self._scoring[name] = self._scoring_of(name, place, config, places)
            elif device is not None:
                self._scoring[name] = _by_model(config, f"environment.rewards.{place}", places, device)

    @property
    def apart(self) -> Apart:
        """Where code runs that is not ours."""
        return self._apart

    def with_tools(self, found: Sequence[Scores], earned: Sequence[float | RewardFailed | None]) -> list[Scores]:
        """The scores with what environment.tools say of each answer; RewardFailed where they fail too often."""
        borne = self._patience.borne(TOOLS, earned)
        return [scores.plus(TOOLS, score) for scores, score in zip(found, borne, strict=True)]

    def is_there(self, name: str) -> bool:
        """Whether it scores here: reward models may be left out."""
        return name in self._scoring

    def of(self, name: str, answered: Sequence[Answered]) -> list[Said]:
        """What one reward says of each answer, without its weight; Refused where a row lacks what it needs."""
        try:
            return list(self._scoring[name](answered)) if answered else []
        except RewardFailed as error:
            return [error] * len(answered)

    @property
    def failures(self) -> int:
        """Answers for which a reward failed until now."""
        return self._patience.failures

    def close(self) -> None:
        """End what runs for it beside this process."""
        self._apart.close()

    def forget(self) -> None:
        """Ask judges again what they were asked before."""
        for asked in self._judges:
            asked.forget()

    def score(self, answered: Sequence[Answered]) -> list[Scores]:
        """What all say of each answer; Refused where a row lacks what one of them needs, RewardFailed where one of them
        fails too often."""
        said = {name: self.of(name, answered) for name in self._scoring}
        found = {name: self._patience.borne(name, said[name]) for name in said}
        return [
            self._together(
                {name: found[name][place] if name in found else None for name in self.rewards},
                {name: str(failure) for name in said if isinstance(failure := said[name][place], RewardFailed)},
            )
            for place in range(len(answered))
        ]

    def scores(self, answered: Sequence[Answered]) -> list[float]:
        """The sum of weight * score of each answer, over those that teach; 0 where none of them says anything."""
        return [scores.total or 0.0 for scores in self.score(answered)]

    def _together(self, each: Mapping[str, float | None], failed: Mapping[str, str]) -> Scores:
        known = [(self.rewards[name], score) for name, score in each.items() if score is not None]
        teaching = [reward.weight * score for reward, score in known if reward.teaches]
        succeeding = [score for reward, score in known if not reward.teaches]
        # A sum that lacks a part can be compared with no other.
        is_whole = not any(self.rewards[name].teaches for name in failed)
        return Scores(
            each,
            total=sum(teaching) if teaching and is_whole else None,
            success=statistics.fmean(succeeding) if succeeding else None,
            failed=failed,
        )

    def _scoring_of(self, name: str, place: int, config: RunConfig, places: Places) -> Scoring:
        reward = self.rewards[name]
        if reward.builtin == "verifier":
            return Verifier(config.recipe, self._apart, timeout_seconds=reward.timeout_seconds).scores
        if reward.runs_apart:
            return Code(reward, places, self._apart).scores
        if reward.http is not None:
            self._judges.append(Judge(reward, judge.token(reward, place, places.tokens)))
            return self._judges[-1].scores
        return _by_builtin(name, reward)


def _by_model(config: RunConfig, key: str, places: Places, device: str) -> Scoring:
    source = config.sources[key]
    if source.kind != "reward-model":
        raise Refused(
            Reason.RUN_UNSUITABLE,
            f"{key}.model.fromRun: run {source.run} made a {source.kind}: name a run with method reward",
        )
    # Only this needs torch: rewards are tried without it before a GPU is taken.
    from posttrain_trainer import reward_model

    loaded = reward_model.load(places.path(source.uri), source.uri, source.digest, device)
    return lambda answered: loaded.scores([(prompt.messages, answer) for prompt, answer in answered])


def _by_builtin(name: str, reward: Reward) -> Scoring:
    try:
        score = builtin.scoring(reward)
    except ValueError as error:
        raise Refused(Reason.REWARD_INVALID, f"environment.rewards {name}: {error}") from error
    return lambda answered: [_said(score, reward, prompt, answer) for prompt, answer in answered]


def _said(score: builtin.Score, reward: Reward, prompt: Prompt, answer: str) -> Said:
    problem = builtin.lacking(reward, prompt.gold, prompt.columns)
    if problem is not None:
        raise Refused(Reason.DATASET_INVALID, f"row {prompt.number}: {problem}")
    try:
        return score(answer, prompt.gold, prompt.columns)
    except RewardFailed as error:
        return error
