"""The reward verifier: what the package of environment.dataset says of an answer.

Its code may evaluate what a model wrote, so it is called where foreign code runs.
"""

from collections.abc import Mapping, Sequence

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer.examples import Prompt
from posttrain_trainer.packages import named
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.sandbox.limits import Limits

Answered = tuple[Prompt, str]


class Verifier:
    """The package's scoring of one environment."""

    def __init__(self, recipe: Recipe, apart: Apart, *, timeout_seconds: float) -> None:
        self._environment = recipe.environment
        self._scoring = named.scoring(recipe.environment.dataset)
        self._apart = apart
        self._limits = Limits(seconds=timeout_seconds)

    def scores(self, answered: Sequence[Answered]) -> list[float]:
        """A score for each answer; 0 where it has not the form of environment.answerFormat. RewardFailed where the
        package's code gives none."""
        told = {place: text for place, (_, answer) in enumerate(answered) if (text := self._told(answer)) is not None}
        found = self._scored({place: (answered[place][0], text) for place, text in told.items()})
        return [found.get(place, 0.0) for place in range(len(answered))]

    def _told(self, answer: str) -> str | None:
        return named.told_answer(answer, self._environment.answer_format)

    def _scored(self, told: Mapping[int, Answered]) -> Mapping[int, float]:
        """Place of an answer -> its score."""
        if not told:
            return {}
        try:
            return dict(zip(told, self._called(list(told.values())), strict=True))
        except CallFailed as error:
            raise RewardFailed(f"verifier of {self._environment.dataset.package}: {error}") from error

    def _called(self, answered: Sequence[Answered]) -> list[float]:
        for prompt, _ in answered:
            self._check(prompt)
        golds, columns = [prompt.gold for prompt, _ in answered], [prompt.columns for prompt, _ in answered]
        arguments = self._scoring.arguments([answer for _, answer in answered], golds, columns)
        if self._scoring.may_run_here:
            return list(self._scoring.function(**arguments))
        scores = self._apart.score(named.SCORES, self._scoring.entrypoint, arguments, self._limits)
        return [score or 0.0 for score in scores]

    def _check(self, prompt: Prompt) -> None:
        lacking = next((name for name in self._scoring.columns if name not in prompt.columns), None)
        if lacking is not None:
            raise Refused(
                Reason.DATASET_INVALID,
                f"row {prompt.number}: builtin verifier needs the column {lacking}, which "
                f"{self._environment.dataset.package} gives its rows: remove dataset.columns, or write another reward",
            )


def check_held_out(recipe: Recipe) -> None:
    """Refused where answers to the held-out rows are scored by another environment's verifier."""
    ours, judged = recipe.environment.dataset.package, recipe.evaluation.dataset
    is_verified = any(reward.builtin == "verifier" for reward in recipe.environment.rewards)
    is_scored = not {"reward", "success"}.isdisjoint(recipe.evaluation.metrics)
    if is_verified and is_scored and judged is not None and judged.package != ours:
        raise Refused(
            Reason.EVALUATION_INVALID,
            f"evaluation.dataset: builtin verifier scores rows of {ours} only: write package: {ours} with another "
            "packageOptions.seed, or leave evaluation.dataset out",
        )
