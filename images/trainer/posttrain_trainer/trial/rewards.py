"""The rewards of an environment, tried with right and with cunning answers."""

from array import array

from posttrain_api.environment_report import Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import dataset_rows, formats, questions
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.rewards import check
from posttrain_trainer.scoring import Scorer

SCORED_AS = "bestOf"
"""A method whose rows are prompts with their right answers, which the rows of sft can be read as too."""


def rewards(config: RunConfig, places: Places) -> Finding:
    """What each kind of answer scores; Refused where a right one does not score the most, or a cunning one too much."""
    environment = config.recipe.environment
    if not environment.rewards:
        return Finding(what="rewards", verdict="skipped", message="environment.rewards is empty")
    prompts = _prompts(config, places)
    scorer = Scorer(config, places, None)
    lines = check.check(scorer, prompts, environment, seed=config.recipe.hyperparameters.seed)
    if not lines:
        why = "no row has a right answer to compare with: known is that each says the same twice, and is fast"
        return Finding(what="rewards", verdict="warning", message=why)
    return Finding(
        what="rewards",
        verdict="ok",
        message=f"{', '.join(scorer.rewards)}: the right answer scores the most, each says the same twice, and is fast",
        columns=["answer", "mean score", "worst", "at most", "row of the worst"],
        rows=check.table(lines),
    )


def _prompts(config: RunConfig, places: Places) -> list[Prompt]:
    """The rows as what is scored; Refused where one lacks what a reward needs."""
    environment = config.recipe.environment
    read = dataset_rows.read(environment.dataset, places, formats.of(SCORED_AS, environment))
    questions.check_rewards(read, environment.rewards)
    return [Prompt(row.number, row.messages, array("i"), row.gold, dict(row.columns), row.right) for row in read.rows]
