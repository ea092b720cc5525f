"""The training of one run from beginning to end: load, measure, train, measure again, publish."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from posttrain_api import uri
from posttrain_api.artifact import BaseReference, Manifest, base_digest, digest_of
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_api.v1alpha1.training_run_status import EvaluationResult, NamedCheckpoint
from posttrain_trainer import (
    card,
    early_stopping,
    evaluate,
    export,
    measurable,
    model,
    preflight,
    report,
    results,
    reward_model,
    steps,
    task,
    tuning,
)
from posttrain_trainer.evaluate import Measurement
from posttrain_trainer.job import Job
from posttrain_trainer.methods import best_of, distill, dpo, kto, merge, orpo, reward, sft, simpo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.task import Task


def train(config: RunConfig, places: Places, progress: Progress, stop: Stop) -> TrainingReport:
    """Train a run and publish its artifact; Refused and Stopped leave nothing published."""
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
    reference = BaseReference(uri=config.base_uri, digest=base_digest(folder))
    bare = model.load(config, places, precision)
    job = Job(config, places, prepared, precision, progress, stop)
    if recipe.method == "bestOf":
        return best_of.run(bare, job, reference)
    if recipe.method == "reward":
        reward_model.use_padding(bare, prepared.chat)
    before = _measured("before", bare, job)
    progress.enter("Training")
    stopping = recipe.evaluation.early_stopping
    watch = None if stopping is None else early_stopping.Watch(job, stopping)
    tuned = _learned(tuning.applied(bare, job), job if watch is None else replace(job, callbacks=[watch]))
    after = _measured("after", tuned, job)
    progress.enter("Publishing")
    found = _Publication(config, places, prepared, reference).publish(tuned, before, after, progress)
    progress.enter("Done")
    return found if watch is None else _best(found, has_stopped=watch.has_stopped)


def _best(found: TrainingReport, *, has_stopped: bool) -> TrainingReport:
    named = NamedCheckpoint(name="best", digest=found.artifact.digest)
    return found.replace(stopped_early=has_stopped, checkpoints=[*found.checkpoints, named])


def _learned(tuned: Any, job: Job) -> Any:
    """The model after its method's training."""
    match job.recipe.method:
        case "sft":
            return sft.train(tuned, job)
        case "dpo":
            return dpo.train(tuned, job)
        case "simpo":
            return simpo.train(tuned, job)
        case "orpo":
            return orpo.train(tuned, job)
        case "kto":
            return kto.train(tuned, job)
        case "reward":
            return reward.train(tuned, job)
        case "distill":
            return distill.train(tuned, job)
        case "merge":
            return merge.combined(tuned, job)
        case method:
            raise AssertionError(f"{method} has its own way")


def _measured(when: Literal["before", "after"], model: Any, job: Job) -> Measurement:
    job.progress.enter("Evaluating")
    where = f"while it measured the model {when} training"
    found = evaluate.measure(model, job, job.recipe.evaluation.metrics, between=lambda: job.stop.check(where))
    if job.recipe.method == "distill" and "divergence" in job.recipe.evaluation.metrics:
        teacher = distill.teacher(job)
        measured = distill.divergence(model, teacher, job, between=lambda: job.stop.check(where))
        found = replace(found, metrics=found.metrics | {"divergence": evaluate.finite(measured)})
    answers = job.recipe.method != "reward"
    samples = evaluate.sampled(model, job, between=lambda: job.stop.check(where)) if answers else []
    job.progress.evaluated(when, found.metrics)
    job.stop.check(where)
    return replace(found, samples=samples)


class _Publication:
    """What is published of a run: the artifact, and the report beside it."""

    def __init__(self, config: RunConfig, places: Places, prepared: Task, reference: BaseReference) -> None:
        self._config = config
        self._places = places
        self._task = prepared
        self._base = reference
        self._parent = places.path(config.recipe.output.uri) / config.name
        self._location = uri.child(config.recipe.output.uri, config.name)

    def publish(self, tuned: Any, before: Measurement, after: Measurement, progress: Progress) -> TrainingReport:
        """Publish a trained model; Refused where it does not differ from its base."""
        found: list[TrainingReport] = []

        def write(folder: Path) -> Manifest:
            manifest = self._payload(tuned, folder)
            found.append(self._report(manifest, before, after, progress))
            self._beside(folder, found[0], before, after, progress)
            return manifest

        unique = f"{self._config.uid}-{self._config.round}"
        try:
            artifact = export.publish(self._parent, self._location, unique, write)
        except OSError as error:
            raise preflight.unwritable(self._config.recipe.output.uri, self._parent, error) from error
        assert artifact == found[0].artifact
        return found[0]

    def _payload(self, tuned: Any, folder: Path) -> Manifest:
        chat = self._task.chat
        if self._config.recipe.method == "reward":
            reward_model.write(tuned, chat, folder)
            digest = digest_of(self._config.recipe.to_json())
            parents = self._config.parents
            return reward_model.manifest(tuned, chat, folder, base=self._base, recipe_digest=digest, parents=parents)
        return results.Result(tuned, self._config, self._places, chat, self._base).write(folder)

    def _report(
        self, manifest: Manifest, before: Measurement, after: Measurement, progress: Progress
    ) -> TrainingReport:
        return TrainingReport(
            artifact=export.summary(manifest, export.location(self._location, manifest)),
            steps_completed=progress.status.step,
            steps_planned=self._steps_planned(),
            metrics=progress.status.metrics,
            evaluation=EvaluationResult(
                before=before.metrics,
                after=after.metrics,
                rows=len(self._task.held_out_rows or self._task.held_out),
                rows_digest=self._task.held_out_digest,
            ),
            dataset_digest=self._task.dataset_digest,
            evaluation_digest=self._task.evaluation_digest,
            libraries=report.libraries(),
        )

    def _steps_planned(self) -> int:
        recipe = self._config.recipe
        return steps.total(len(self._task.training), recipe.hyperparameters) if recipe.method in TRAINING else 0

    def _beside(
        self, folder: Path, found: TrainingReport, before: Measurement, after: Measurement, progress: Progress
    ) -> None:
        config = self._config.model_dump(mode="json", exclude_none=True)
        content = {
            "run": config,
            "training": found.to_json(),
            "warnings": self._task.warnings,
            "seconds": progress.seconds,
        }
        report.write_json(folder / "report.json", content)
        _write_lines(folder / "metrics.jsonl", progress.history)
        samples = card.samples(self._config.recipe.evaluation.sample_prompts, before.samples, after.samples)
        _write_lines(folder / "samples.jsonl", [*_answers(self._task, before, after), *samples])
        (folder / card.CARD_FILE).write_text(card.card(self._config, found, samples))


def _answers(prepared: Task, before: Measurement, after: Measurement) -> list[dict[str, Any]]:
    rows = zip(measurable.prompts(prepared), before.answers, after.answers, strict=False)
    return [
        {"row": row.number, "messages": row.messages, "right": row.gold, "before": old, "after": new}
        for row, old, new in rows
    ]


def _write_lines(path: Path, values: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values))
