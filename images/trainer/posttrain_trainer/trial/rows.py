"""The rows of an environment: what is in them, and how many steps they make."""

from posttrain_api.environment_report import Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.methods import RL
from posttrain_trainer import dataset_rows, formats, split, steps
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.places import Places
from posttrain_trainer.rewards import verifier

NUM_SHOWN = 3
MAX_CHARACTERS = 200


def read(config: RunConfig, places: Places) -> Rows:
    """The rows as the method reads them; Refused where they cannot be used."""
    environment = config.recipe.environment
    return dataset_rows.read(environment.dataset, places, formats.of(config.recipe.method, environment))


def rows(config: RunConfig, places: Places) -> Finding:
    """How many there are, and the first of them."""
    found = read(config, places)
    odd = [*found.warnings, *(found.problems.warnings() if found.problems else []), *_repeated(found, config)]
    return Finding(
        what="rows",
        verdict="warning" if odd else "ok",
        message="; ".join([f"{len(found.rows):,} of {found.name}, {found.digest[:19]}", *odd]),
        columns=["row", "prompt", "right answer"],
        rows=[_shown(row) for row in found.rows[:NUM_SHOWN]],
    )


def held_out(config: RunConfig, places: Places) -> Finding | None:
    """Those of evaluation.dataset; None where they are taken out of training."""
    recipe = config.recipe
    verifier.check_held_out(recipe)
    if recipe.evaluation.dataset is None:
        return None
    judged = dataset_rows.read(recipe.evaluation.dataset, places, formats.of(recipe.method, recipe.environment))
    parts = split.apart(read(config, places), judged)
    leaked = f"; {parts.leaked:,} of them are among the rows to learn from, and are left out there" * bool(parts.leaked)
    verdict = "warning" if leaked else "ok"
    return Finding(what="held-out rows", verdict=verdict, message=f"{len(judged.rows):,} of {judged.name}{leaked}")


def steps_of(config: RunConfig, places: Places) -> Finding | None:
    """What one step asks, and how many there are; None for a method that answers nothing."""
    recipe = config.recipe
    if recipe.method not in RL:
        return None
    found = read(config, places)
    judged = recipe.evaluation.dataset
    training = found if judged else split.split(found, seed=recipe.hyperparameters.seed).training
    asked, size = steps.prompts_of_generation(recipe), steps.group_size(recipe)
    told = (
        f"{steps.planned(len(training.rows), recipe):,} steps; each generation asks {asked:,} prompts, {size:,} answers"
    )
    few = f", but there are {len(training.rows):,} to learn from: lower effectiveBatchSize, or add rows"
    is_few = len(training.rows) < asked
    return Finding(what="steps", verdict="warning" if is_few else "ok", message=f"{told} each{few if is_few else ''}")


def _repeated(found: Rows, config: RunConfig) -> list[str]:
    """What there is to say of rows that are there more than once; a package makes some now and then."""
    count = len(found.rows) - len({split.content_digest(row) for row in found.rows})
    if count == 0 or config.recipe.environment.dataset.package is not None:
        return []
    return ["1 of them repeats another: remove it" if count == 1 else f"{count:,} of them repeat others: remove them"]


def _shown(row: Row) -> list[str]:
    asked = row.messages[-1] if row.messages else {"content": row.text}
    answer = row.right or row.gold or ""
    if row.messages and asked["role"] == "assistant":
        answer = str(asked["content"])
        asked = row.messages[-2] if len(row.messages) > 1 else asked
    return [str(row.number), _short(str(asked["content"])), _short(answer)]


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
