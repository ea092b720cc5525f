"""Rewards that run code which is not ours: the user's functions, and unit tests of what a model wrote."""

from collections.abc import Sequence
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.sandbox.limits import Limits

Answered = tuple[Prompt, str]
TESTS = "tests"
"""The column with the tests of an answer's code."""
_GIVEN = ("prompts", "completions", "gold")


class Code:
    """One reward that runs apart."""

    def __init__(self, reward: Reward, places: Places, apart: Apart) -> None:
        self._reward, self._apart = reward, apart
        self._folder = places.code(reward.python) if reward.python else None

    def scores(self, answered: Sequence[Answered]) -> list[float | RewardFailed | None]:
        """What it says of each answer, or why it says nothing; Refused where a row lacks its tests."""
        return self._tested(answered) if self._reward.python is None else self._called(answered)

    def _called(self, answered: Sequence[Answered]) -> list[float | RewardFailed | None]:
        python = self._reward.python
        assert python is not None
        assert self._folder is not None
        limits = Limits(seconds=self._reward.timeout_seconds, network=python.network)
        try:
            return list(self._apart.score(self._folder, python.entrypoint, arguments(answered), limits))
        except CallFailed as error:
            return [RewardFailed(f"{python.entrypoint} {error}")] * len(answered)

    def _tested(self, answered: Sequence[Answered]) -> list[float | RewardFailed | None]:
        tests = [_tests(prompt) for prompt, _ in answered]
        limits = Limits(seconds=self._reward.timeout_seconds)
        found = self._apart.unit_tests([answer for _, answer in answered], tests, limits)
        return [RewardFailed(f"unit_tests {score}") if isinstance(score, CallFailed) else score for score in found]


def arguments(answered: Sequence[Answered]) -> dict[str, list[Any]]:
    """What a reward is called with, a list with an element for each answer: `prompts` are lists of messages,
    `completions` the answers' text, `gold` the right answers or None, and each other column of the rows."""
    columns = {name for prompt, _ in answered for name in prompt.columns if name not in _GIVEN}
    return {
        "prompts": [prompt.messages for prompt, _ in answered],
        "completions": [answer for _, answer in answered],
        "gold": [prompt.gold for prompt, _ in answered],
        **{name: [prompt.columns.get(name) for prompt, _ in answered] for name in sorted(columns)},
    }


def _tests(prompt: Prompt) -> str:
    found = prompt.columns.get(TESTS)
    if not isinstance(found, str) or not found.strip():
        raise Refused(
            Reason.DATASET_INVALID,
            f"row {prompt.number}: builtin unit_tests needs the column {TESTS}: write Python statements, such as "
            '"assert double(2) == 4"',
        )
    return found
