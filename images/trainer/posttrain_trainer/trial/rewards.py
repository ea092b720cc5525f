"""The rewards of an environment, tried with right and with cunning answers."""

from array import array

from posttrain_api.environment_report import Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import dataset_rows, formats, questions
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.scoring import Scorer

NUM_ROWS = 20


def rewards(config: RunConfig, places: Places) -> Finding:
    """What each reward says of the right answers."""
    environment = config.recipe.environment
    if not environment.rewards:
        return Finding(
            what="rewards", verdict="skipped", message="nothing scores an answer: environment.rewards is empty"
        )
    read = dataset_rows.read(environment.dataset, places, formats.of("bestOf", environment))
    questions.check_rewards(read, environment.rewards)
    known = [row for row in read.rows if row.right is not None][:NUM_ROWS]
    prompts = [Prompt(row.number, row.messages, array("i"), row.gold, dict(row.columns), row.right) for row in known]
    scores = Scorer(config, places, "cpu").score([(prompt, prompt.right or "") for prompt in prompts])
    rows = [[name, str(scores[0].each[name])] for name in scores[0].each] if scores else []
    return Finding(what="rewards", verdict="ok", message="right answers", columns=["reward", "right"], rows=rows)
