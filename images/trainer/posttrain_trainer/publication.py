"""Publishes what a training made: its result with all that is told of it, and what there is of it on the way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posttrain_api import uri
from posttrain_api.artifact import ArtifactSummary, BaseReference, Manifest, digest_of, folder_name
from posttrain_api.trainer_contract import TrainingReport
from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_api.v1alpha1.training_run_status import EvaluationResult, NamedCheckpoint
from posttrain_trainer import card, export, measurable, preflight, report, results, reward_model, steps
from posttrain_trainer.evaluate import Measurement
from posttrain_trainer.job import Job


@dataclass(frozen=True)
class Checkpoint:
    """The model in the middle of its training, published."""

    digest: str
    is_new: bool
    """It was not there before."""


class Publication:
    """Where a training's artifacts go, and what is written into them."""

    def __init__(self, job: Job, base: BaseReference, tuned: Any) -> None:
        self.tuned = tuned
        """The model that is trained."""
        self._job = job
        self._base = base
        self._written = results.Result(tuned, job.config, job.places, job.task.chat, base)
        self._parent = job.places.path(job.recipe.output.uri) / job.config.name
        self._location = uri.child(job.recipe.output.uri, job.config.name)

    def checkpoint(self) -> Checkpoint:
        """Publish the model as it is; Refused where it does not differ from its base. It stays in evaluation mode."""
        was_there: list[bool] = []

        def write(folder: Path) -> Manifest:
            manifest = self._payload(self.tuned.eval(), folder)
            was_there.append(export.is_complete(self._parent / folder_name(manifest.digest), manifest.digest))
            return manifest

        return Checkpoint(self._publish(write).digest, is_new=not was_there[0])

    def remove(self, digest: str) -> None:
        """Take away what was published under a digest."""
        export.remove(self._parent / folder_name(digest))

    def result(
        self,
        trained: Any,
        before: Measurement,
        after: Measurement,
        *,
        named: Callable[[str], list[NamedCheckpoint]],
        stopped_early: bool = False,
    ) -> TrainingReport:
        """Publish the trained model; Refused where it does not differ from its base. `named`: digest of the result ->
        the named results."""
        found: list[TrainingReport] = []

        def write(folder: Path) -> Manifest:
            manifest = self._payload(trained, folder)
            told = self._report(manifest, before, after)
            found.append(told.replace(stopped_early=stopped_early, checkpoints=named(manifest.digest)))
            self._beside(folder, found[0], before, after)
            return manifest

        artifact = self._publish(write)
        assert artifact == found[0].artifact
        return found[0]

    def _publish(self, write: Callable[[Path], Manifest]) -> ArtifactSummary:
        unique = f"{self._job.config.uid}-{self._job.config.round}"
        try:
            return export.publish(self._parent, self._location, unique, write)
        except OSError as error:
            raise preflight.unwritable(self._job.recipe.output.uri, self._parent, error) from error

    def _payload(self, model: Any, folder: Path) -> Manifest:
        config, chat = self._job.config, self._job.task.chat
        if config.recipe.method != "reward":
            written = self._written if model is self.tuned else replace(self._written, tuned=model)
            return written.write(folder)
        whole = reward_model.whole(model)
        reward_model.write(whole, chat, folder)
        return reward_model.manifest(
            whole,
            chat,
            folder,
            base=self._base,
            recipe_digest=digest_of(config.recipe.to_json()),
            parents=config.parents,
        )

    def _report(self, manifest: Manifest, before: Measurement, after: Measurement) -> TrainingReport:
        task, status = self._job.task, self._job.progress.status
        return TrainingReport(
            artifact=export.summary(manifest, export.location(self._location, manifest)),
            steps_completed=status.step,
            steps_planned=self._steps_planned(),
            metrics=status.metrics,
            health=status.health,
            evaluation=EvaluationResult(
                before=before.metrics,
                after=after.metrics,
                rows=len(task.held_out_rows or task.held_out),
                rows_digest=task.held_out_digest,
            ),
            dataset_digest=task.dataset_digest,
            evaluation_digest=task.evaluation_digest,
            libraries=report.libraries(),
        )

    def _steps_planned(self) -> int:
        recipe = self._job.recipe
        return steps.planned(len(self._job.task.training), recipe) if recipe.method in TRAINING else 0

    def _beside(self, folder: Path, found: TrainingReport, before: Measurement, after: Measurement) -> None:
        config, task, progress = self._job.config, self._job.task, self._job.progress
        samples = card.samples(config.recipe.evaluation.sample_prompts, before.samples, after.samples)
        findings = {**progress.findings, "warnings": task.warnings, "seconds": progress.seconds}
        report.write_result(folder, config, found, **findings)
        report.write_lines(folder / "metrics.jsonl", progress.history)
        report.write_lines(folder / "samples.jsonl", [*self._answers(before, after), *samples])
        if self._job.monitor is not None:
            report.write_lines(folder / "rollouts.jsonl", self._job.monitor.seen)
        text = card.card(config, found, task.chat, samples=samples, findings=progress.findings)
        (folder / card.CARD_FILE).write_text(text)

    def _answers(self, before: Measurement, after: Measurement) -> list[dict[str, Any]]:
        rows = zip(measurable.prompts(self._job.task), before.answers, after.answers, strict=False)
        return [
            {"row": row.number, "messages": row.messages, "right": row.right, "before": old, "after": new}
            for row, old, new in rows
        ]
