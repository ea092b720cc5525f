"""Rows with gold answers and rewards that are tried with them, without any model."""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.unit.trainer import builders

from posttrain_api.v1alpha1.environment import Environment
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.rewards import check, forms
from posttrain_trainer.rewards.check import Line
from posttrain_trainer.scoring import Scorer

NUMBERS = [str(2 * number) for number in range(20, 60)]


class Given:
    """Rows with their gold answers, and rewards ready to score."""

    def __init__(
        self,
        golds: Sequence[str | None],
        *rewards: Mapping[str, Any],
        columns: Sequence[dict[str, Any]] | None = None,
        **environment: Any,
    ) -> None:
        spec = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": list(rewards), **environment}
        self.config = builders.run(Path("/base"), Path("/rows.jsonl"), environment=spec)
        self.environment: Environment = self.config.recipe.environment
        rows = zip(golds, columns or [{}] * len(golds), strict=True)
        self.prompts = [self._prompt(number, *row) for number, row in enumerate(rows, start=1)]

    def _prompt(self, number: int, gold: str | None, columns: dict[str, Any]) -> Prompt:
        messages = [{"role": "user", "content": f"Question {number}: what is it?"}]
        return Prompt(number, messages, array("i"), gold, columns, forms.right(gold, None, self.environment))

    def lines(self, places: Places | None = None, **options: Any) -> list[Line]:
        scorer = Scorer(self.config, places or Places(), None)
        try:
            return check.check(scorer, self.prompts, self.environment, seed=0, **options)
        finally:
            scorer.close()
