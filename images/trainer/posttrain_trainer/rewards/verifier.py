"""The reward verifier: what the package of environment.dataset says of an answer.

Its code may evaluate what a model wrote, so it is called where foreign code runs.
"""

from collections.abc import Sequence

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

    def scores(self, answered: Sequence[Answered]) -> list[float | RewardFailed]:
        """A score for each answer, or why there is none; 0 where it has not the form of environment.answerFormat."""
        told = {place: text for place, one in enumerate(answered) if (text := self._told(*one)) is not None}
        try:
            scores = self._called([(answered[place][0], text) for place, text in told.items()])
        except CallFailed as error:
            return [RewardFailed(f"the verifier of {self._environment.dataset.package} {error}")] * len(answered)
        found = dict(zip(told, scores, strict=True))
        return [found.get(place, 0.0) for place in range(len(answered))]

    def _told(self, prompt: Prompt, answer: str) -> str | None:
        """What the package is shown of an answer; None for what is not even looked at."""
        told = named.told_answer(answer, self._environment.answer_format)
        return None if told is None or named.is_disguised(told, prompt.gold) else told

    def _called(self, answered: Sequence[Answered]) -> list[float]:
        if not answered:
            return []
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
