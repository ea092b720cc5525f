"""Trainings of the table in this process, each made once for a seed."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.cluster import layout

from bench.learning import cases, measure
from bench.learning import rows as data
from bench.learning.cases import Case
from bench.learning.measure import Model
from posttrain_api.artifact import ArtifactSummary
from posttrain_api.trainer_contract import RunConfig, Source
from posttrain_api.v1alpha1.training_run import TrainingRunSpec
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

KEPT_ROWS = "rows.jsonl"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Trained:
    """What a training made, and of what."""

    case: Case
    seed: int
    start: Path
    """Folder of the model that it started from."""
    folder: Path
    """Folder of its artifact."""
    artifact: ArtifactSummary

    @property
    def model(self) -> Model:
        """The result."""
        return measure.result(self.start, self.folder)


def published(
    spec: Mapping[str, Any], places: Places, *, name: str, sources: Mapping[str, Source] = MappingProxyType({})
) -> ArtifactSummary:
    """Trains a recipe in this process; what it published."""
    recipe = TrainingRunSpec.model_validate(spec).recipe()
    config = RunConfig(name=name[:40], uid="00000000-0000-4000-8000-000000000000", recipe=recipe, sources=dict(sources))
    return training.train(config, places, Progress(name), Stop()).artifact


class Trainings:
    """Trains cases below one folder; what a case builds on is trained before it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.trained = functools.cache(self._trained)
        self.start = functools.cache(self._start)

    def _trained(self, case: Case, seed: int) -> Trained:
        name = f"{case.name}-{seed}".replace(" ", "-").replace(",", "").lower()
        start = self.start(case.start, seed)
        places = Places(claims=self.scratch / "claims")
        spec, sources = self._spec(case, seed, start)
        artifact = published(spec, places, name=name, sources=sources)
        return Trained(case, seed, start, places.path(artifact.uri), artifact)

    def _start(self, name: str | None, seed: int) -> Path:
        if name is None:
            return layout.cache() / "models" / "tiny"
        made = self.trained(cases.named(name), seed)
        return measure.merged(made.model, self.scratch / f"start-{name.replace(' ', '-')}-{seed}")

    def _rows(self, case: Case, seed: int) -> Path:
        if case.data in data.KINDS:
            made = data.learned(case.data, case.num_rows)
            return data.write(self.scratch / "data" / f"{case.data}-{case.num_rows}.jsonl", made)
        return self.trained(cases.named(case.data), seed).folder / KEPT_ROWS

    def _spec(self, case: Case, seed: int, start: Path) -> tuple[dict[str, Any], dict[str, Source]]:
        """The recipe of a case, and the results of others that it names."""
        spec: dict[str, Any] = {
            "method": case.method,
            "baseModel": {"uri": f"file://{start}", "tuned": case.start is not None},
            "environment": {
                "dataset": {"uri": f"file://{self._rows(case, seed)}"},
                "chatTemplate": {"inline": CHAT_TEMPLATE},
                "rewards": [{"builtin": "exact"}] if case.method == "bestOf" else [],
            },
            "tuning": dict(case.tuning),
            "hyperparameters": {"maxLength": 128, "seed": seed, **_hyperparameters(case)},
            "output": {"uri": "pvc://out"},
        }
        block, sources = self._block(case, seed)
        return {**spec, **block}, sources

    def _block(self, case: Case, seed: int) -> tuple[dict[str, Any], dict[str, Source]]:
        """The block of the case's method, and the results of others that it names."""
        runs = [self.trained(cases.named(name), seed) for name in case.runs]
        if case.method == "merge":
            sources = {f"merge.runs.{place}": _source(run) for place, run in enumerate(runs)}
            named = [{"name": source.run, **case.block} for source in sources.values()]
            return {"merge": {"runs": named}}, sources
        if case.method == "distill":
            teacher = {"uri": f"file://{self.start(case.runs[0], seed)}"}
            return {"distill": {"teacher": teacher, **case.block}}, {}
        return {case.method: dict(case.block)} if case.block else {}, {}


def _source(run: Trained) -> Source:
    found = run.artifact
    return Source(run=run.folder.parent.name, uri=f"file://{run.folder}", digest=found.digest, kind=found.kind)


def _hyperparameters(case: Case) -> dict[str, Any]:
    if case.method in ("merge", "bestOf"):
        return {}
    return {
        "learningRate": case.learning_rate,
        "epochs": case.epochs,
        "effectiveBatchSize": case.batch_size,
        "gradientCheckpointing": False,
    }
