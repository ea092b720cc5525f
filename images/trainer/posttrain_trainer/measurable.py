"""Whether a recipe's metrics can be measured on a task's rows, said before a GPU is taken."""

from array import array
from collections.abc import Iterator, Sequence

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import COMPARED_WITH_GOLD, Reward
from posttrain_api.v1alpha1.evaluation import GENERATED
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer import report
from posttrain_trainer.examples import Labelled, Pair, Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import builtin, verifier
from posttrain_trainer.task import Question, Task


def check(recipe: Recipe, task: Task) -> None:
    """Refused where a metric cannot be measured or reported, with what to write instead."""
    report.check_room(recipe, task.base.uri)
    verifier.check_held_out(recipe)
    for metric in recipe.evaluation.metrics:
        problem = _problem(metric, recipe, task)
        if problem is not None:
            raise Refused(Reason.EVALUATION_INVALID, f"evaluation.metrics: {metric} {problem}, or remove the metric")


def prompts(task: Task) -> list[Prompt]:
    """The held-out rows that the model answers, with the right answer where it is known."""
    if task.questions:
        return asked(task.questions)
    return [row for row in task.held_out_rows if isinstance(row, Prompt)]


def asked(questions: Sequence[Question]) -> list[Prompt]:
    """Questions with a right answer as prompts."""
    return [
        Prompt(
            q.number, q.messages, array("i", q.token_ids), q.answer if q.gold is None else q.gold, q.columns, q.answer
        )
        for q in questions
    ]


def _problem(metric: str, recipe: Recipe, task: Task) -> str | None:
    if metric == "preferenceAccuracy":
        return _preference_problem(task)
    if metric in ("loss", "tokenAccuracy") and not task.held_out:
        return "needs held-out rows with an answer: give evaluation.dataset rows with a completion"
    if metric in GENERATED:
        return _answer_problem(metric, recipe, prompts(task))
    return None


def _preference_problem(task: Task) -> str | None:
    if any(isinstance(row, Pair) for row in task.held_out_rows):
        return None
    labels = {row.is_desirable for row in task.held_out_rows if isinstance(row, Labelled)}
    if labels == {True, False}:
        return None
    if labels:
        only = "desirable" if True in labels else "undesirable"
        return f"needs rows of both labels and all that are held out are {only}: give evaluation.dataset rows of both"
    return "needs held-out rows with prompt, chosen and rejected, or prompt, completion and label: give such rows"


def _answer_problem(metric: str, recipe: Recipe, rows: Sequence[Prompt]) -> str | None:
    if not rows:
        return "needs held-out rows that ask something: give evaluation.dataset rows with a prompt"
    is_scored = metric in ("reward", "success")
    rewards = recipe.environment.rewards if is_scored else []
    if is_scored and not rewards:
        return "needs a score: give environment.rewards, such as builtin: exact"
    needs_gold = metric == "exactMatch" or any(r.builtin in COMPARED_WITH_GOLD for r in rewards)
    without = next((row for row in rows if row.gold is None), None)
    if needs_gold and without is not None:
        return f"needs the right answer and row {without.number} has none: give its completion or gold"
    return next(_lacking(rows, rewards), None)


def _lacking(rows: Sequence[Prompt], rewards: Sequence[Reward]) -> Iterator[str]:
    for row in rows:
        for reward in rewards:
            problem = builtin.lacking(reward, row.gold, row.columns)
            if problem is not None:
                yield f"cannot score row {row.number}: {problem}"
