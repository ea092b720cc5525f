"""The reward verifier: what the package of environment.dataset says of an answer."""

from collections.abc import Sequence

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer.examples import Prompt
from posttrain_trainer.packages import named
from posttrain_trainer.refusal import Refused


class Verifier:
    """The package's scoring of one environment."""

    def __init__(self, recipe: Recipe) -> None:
        """Refused where the package cannot be had."""
        self._package = recipe.environment.dataset.package
        self._answer_format = recipe.environment.answer_format
        self._verifier = named.verifier(recipe.environment.dataset)

    def scores(self, answered: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        """A score for each answer; 0 where it has not the form of environment.answerFormat."""
        return [self._score(prompt, answer) for prompt, answer in answered]

    def _score(self, prompt: Prompt, answer: str) -> float:
        lacking = [name for name in self._verifier.columns if name not in prompt.columns]
        if lacking:
            raise Refused(
                Reason.DATASET_INVALID,
                f"row {prompt.number}: builtin verifier needs the column {lacking[0]}, which {self._package} gives its "
                "rows: remove dataset.columns, or write another reward",
            )
        told = named.told_answer(answer, self._answer_format)
        return 0.0 if told is None else self._verifier.score(told, prompt.gold, prompt.columns)


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
