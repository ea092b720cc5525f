"""The rewards of an environment, tried with right and with cunning answers."""

from array import array
from collections.abc import Sequence
from contextlib import closing

from posttrain_api.environment_report import Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import dataset_rows, formats, questions
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import check
from posttrain_trainer.scoring import Scorer

SCORED_AS = "bestOf"
"""A method whose rows are prompts with their right answers, which the rows of sft can be read as too."""


def rewards(config: RunConfig, places: Places) -> Finding:
    """What each kind of answer scores. Refused where a right one does not score the most, or a cunning one too much;
    for sft, which learns from no score, that is a warning."""
    recipe = config.recipe
    if not recipe.environment.rewards:
        return Finding(what="rewards", verdict="skipped", message="environment.rewards is empty")
    prompts = _prompts(config, places)
    with closing(Scorer(config, places, None)) as scorer:
        try:
            lines = check.check(scorer, prompts, recipe.environment, seed=recipe.hyperparameters.seed)
        except Refused as error:
            if recipe.method != "sft":
                raise
            return Finding(what="rewards", verdict="warning", message=str(error))
        return _told(lines, list(scorer.rewards))


def _told(lines: Sequence[check.Line], names: Sequence[str]) -> Finding:
    if not lines:
        why = "no row has a right answer to compare with: known is that each says the same twice, and is fast"
        return Finding(what="rewards", verdict="warning", message=why)
    return Finding(
        what="rewards",
        verdict="ok",
        message=f"{', '.join(names)}: the right answer scores the most, each says the same twice, and is fast",
        columns=["answer", "mean score", "worst", "at most", "row of the worst"],
        rows=check.table(lines),
    )


def _prompts(config: RunConfig, places: Places) -> list[Prompt]:
    """The rows as what is scored; Refused where one lacks what a reward needs."""
    environment = config.recipe.environment
    read = dataset_rows.read(environment.dataset, places, formats.of(SCORED_AS, environment))
    questions.check_rewards(read, environment.rewards)
    return [Prompt(row.number, row.messages, array("i"), row.gold, dict(row.columns), row.right) for row in read.rows]
