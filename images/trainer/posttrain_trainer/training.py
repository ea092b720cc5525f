"""The training of one run from beginning to end: load, measure, train, measure again, publish."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from posttrain_api.artifact import BaseReference, base_digest
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.methods import RL
from posttrain_api.v1alpha1.training_run_status import NamedCheckpoint
from posttrain_trainer import evaluate, measurable, model, preflight, reward_model, task, tuning
from posttrain_trainer.checkpoints import Keeper
from posttrain_trainer.early_stopping import Watch
from posttrain_trainer.evaluate import Measurement
from posttrain_trainer.job import Job
from posttrain_trainer.methods import best_of, distill, dpo, grpo, kto, merge, orpo, ppo, reward, rloo, sft, simpo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.publication import Publication
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rewards import check, tools
from posttrain_trainer.rl import colocation, shape, signal

_LEARN: Mapping[str, Callable[[Any, Job], Any]] = {
    "sft": sft.train,
    "dpo": dpo.train,
    "simpo": simpo.train,
    "orpo": orpo.train,
    "kto": kto.train,
    "reward": reward.train,
    "distill": distill.train,
    "ppo": ppo.train,
    "grpo": grpo.train,
    "rloo": rloo.train,
    "merge": merge.combined,
}
"""Method -> how a tuned model learns; bestOf has its own way."""


def train(config: RunConfig, places: Places, progress: Progress, stop: Stop) -> TrainingReport:
    """Train a run and publish its artifact; Refused and Stopped leave nothing but named checkpoints."""
    try:
        return _trained(config, places, progress, stop)
    except torch.OutOfMemoryError as error:
        raise Refused(
            Reason.OUT_OF_MEMORY,
            f"{progress.place}: the GPU's memory is full: lower maxLength or effectiveBatchSize, or set "
            f"gradientCheckpointing: {error}",
        ) from error


def _trained(config: RunConfig, places: Places, progress: Progress, stop: Stop) -> TrainingReport:
    recipe = config.recipe
    folder = places.path(config.base_uri)
    preflight.check_writable(places.path(recipe.output.uri), recipe.output.uri)
    precision = model.precision(recipe.hyperparameters.precision)
    prepared = task.prepare(config, places, stop)
    measurable.check(recipe, prepared)
    shape.check(recipe, prepared)
    reference = BaseReference(uri=config.base_uri, digest=base_digest(folder))
    bare = model.load(config, places, precision)
    job = Job(config, places, prepared, precision, progress, stop)
    if recipe.method == "bestOf":
        return best_of.run(bare, job, reference)
    if recipe.method == "reward":
        reward_model.use_padding(bare, prepared.chat)
    before = _measured("before", bare, job)
    if recipe.method in RL:
        _check_answering(bare, job)
    progress.enter("Training")
    tuned = tuning.applied(bare, job)
    publication = Publication(job, reference, tuned)
    watch = Watch(job) if recipe.evaluation.early_stopping else None
    keeper = Keeper(job, publication) if config.checkpoints else None
    trained = _kept(tuned, job, keeper, watch)
    after = _measured("after", trained, job)
    progress.enter("Publishing")
    found = publication.result(
        trained,
        before,
        after,
        named=lambda digest: _named(digest, job, keeper),
        stopped_early=any(one is not None and one.has_stopped for one in (watch, job.monitor)),
    )
    if keeper is not None:
        keeper.prune(found.checkpoints)
    progress.enter("Done")
    return found


def _check_answering(start: Any, job: Job) -> None:
    """Refused where the model cannot answer as the recipe wants it to, or has nothing to learn from its answers."""
    colocation.check(job)
    if job.recipe.environment.tools is not None:
        tools.check(job.recipe.environment.tools, job.places, job.task.chat)
    _check_reward_models(job)
    signal.check(start, job)


def _check_reward_models(job: Job) -> None:
    """Refused where a reward model, which preflight could not load, scores cunning answers like right ones."""
    if any(reward.model is not None and reward.teaches for reward in job.scorer.rewards.values()):
        seed = job.recipe.hyperparameters.seed
        lines = check.check(job.scorer, job.task.prompts, job.recipe.environment, seed=seed)
        job.progress.findings["rewards"] = [line.to_json() for line in lines]


def _kept(tuned: Any, job: Job, keeper: Keeper | None, watch: Watch | None) -> Any:
    """The model after its training, in the middle of which it may be published and measured; Refused where its weights
    are no numbers any more."""
    # The keeper is told of the end first: it publishes the last weights, before the others restore the best.
    job.callbacks.extend(callback for callback in (keeper, job.monitor, watch) if callback is not None)
    try:
        trained = _LEARN[job.recipe.method](tuned, job)
    except Refused as error:
        if error.reason is Reason.TRAINING_DIVERGED and keeper is not None and watch is not None:
            keeper.keep_best()
        raise
    if not tuning.is_finite(trained):
        raise Refused(
            Reason.TRAINING_DIVERGED,
            f"{job.progress.place}: weights are not numbers any more: lower hyperparameters.learningRate",
        )
    return trained


def _named(result: str, job: Job, keeper: Keeper | None) -> list[NamedCheckpoint]:
    """The names of a result with this digest, and of what was published on the way."""
    if keeper is not None:
        return keeper.named(result)
    return [NamedCheckpoint(name="best", digest=result)] if job.gives_best else []


def _measured(when: Literal["before", "after"], model: Any, job: Job) -> Measurement:
    job.progress.enter("Evaluating")
    where = f"while it measured the model {when} training"
    found = evaluate.measure(model, job, job.recipe.evaluation.metrics, between=lambda: job.stop.check(where))
    answers = job.recipe.method != "reward"
    samples = evaluate.sampled(model, job, between=lambda: job.stop.check(where)) if answers else []
    job.progress.evaluated(when, found.metrics)
    job.stop.check(where)
    return replace(found, samples=samples)
