"""What a model says to an environment: how long its rows are for it, and whether it learns anything from its scores."""

from functools import cached_property

from posttrain_api.environment_report import Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.methods import RL
from posttrain_trainer import measurable, model, task
from posttrain_trainer.job import Job
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rewards import tools
from posttrain_trainer.rl import shape, signal


class Model:
    """A checkpoint that stands in for the run's base model."""

    def __init__(self, config: RunConfig, places: Places, stop: Stop) -> None:
        """Loads nothing yet."""
        self._config, self._places, self._stop = config, places, stop

    @cached_property
    def _job(self) -> Job:
        recipe = self._config.recipe
        prepared = task.prepare(self._config, self._places, self._stop)
        measurable.check(recipe, prepared)
        shape.check(recipe, prepared)
        chosen = model.precision(recipe.hyperparameters.precision)
        return Job(self._config, self._places, prepared, chosen, Progress(self._config.name), self._stop)

    def lengths(self) -> Finding:
        """The longest row in this model's tokens, beside what it was made for."""
        prepared, most = self._job.task, self._config.recipe.hyperparameters.max_length
        positions = prepared.base.num_positions
        made_for = "" if positions is None else f"; the model was made for {positions:,}"
        message = f"up to {prepared.longest:,} tokens with the answer, maxLength is {most:,}{made_for}"
        odd = [*prepared.warnings, *shape.warnings(self._config.recipe, prepared)]
        return Finding(what="lengths", verdict="warning" if odd else "ok", message="; ".join([message, *odd]))

    def tools(self) -> Finding:
        """Whether a conversation with this model can call them."""
        named = self._config.recipe.environment.tools
        assert named is not None
        tools.check(named, self._places, self._job.task.chat)
        return Finding(
            what="tools", verdict="ok", message=f"{named.entrypoint} begins, and the chat template tells of it"
        )

    def signal(self) -> Finding:
        """Whether this model's own answers score differently."""
        recipe = self._config.recipe
        if recipe.method not in RL:
            return Finding(what="signal", verdict="skipped", message=f"{recipe.method} does not learn from scores")
        loaded = model.load(self._config, self._places, self._job.precision)
        found = signal.measured(signal.sampled(loaded, self._job), self._job)
        problem = signal.problem(found, self._job)
        told = (
            f"{found.pass_rate:.0%} of {found.answers:,} answers to {found.prompts:,} prompts are right; for "
            f"{found.no_spread_share:.0%} of the prompts all answers score the same"
        )
        is_refused = problem is not None and not recipe.environment.allow_no_signal
        return Finding(what="signal", verdict="wrong" if is_refused else "ok", message=problem or told)
