"""The report: the termination message that ends a run, made to fit, and the files that say the same at length."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MAX_MESSAGE_BYTES, Report, RunConfig, TrainingReport
from posttrain_api.v1alpha1.evaluation import RETAINED, RETENTION
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer.refusal import Refused

_NUMBER = 16
"""Bytes of a number of six digits, and of what stands around it and its name."""
_ELSE = 1200
"""Bytes of everything in a report whose texts are shortened but URIs and measures."""
_HEALTH = 900
"""Bytes of every rule of health, each with a short message."""
_SINGLE_REWARD = ("reward.", "rewardStd.")
"""What the names of metrics begin with that speak of one reward of several."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def libraries() -> dict[str, str]:
    """Versions of the libraries that train."""
    return {name: metadata.version(name) for name in LIBRARIES}


def check_room(recipe: Recipe, base_uri: str) -> None:
    """Refused where the metrics' names are too long for the termination message, which is cut at MAX_MESSAGE_BYTES."""
    names = [name for metric in recipe.evaluation.metrics for name in _names(metric, recipe)]
    uris = len(f"{recipe.output.uri}{base_uri}".encode())
    room = MAX_MESSAGE_BYTES - _ELSE - (0 if recipe.health is None else _HEALTH)
    if uris + sum(2 * (len(name) + _NUMBER) for name in names) > room:
        raise Refused(
            Reason.EVALUATION_INVALID,
            f"evaluation.metrics: the names of {len(names)} metrics, of the base and of the output are too long "
            "together for a report: name fewer metrics, or shorten the names of the lm-eval tasks",
        )


def _names(metric: str, recipe: Recipe) -> list[str]:
    is_retained = recipe.evaluation.retention is not None and metric in RETAINED
    return [metric, f"{RETENTION}{metric}"] if is_retained else [metric]


def message(report: Report) -> bytes:
    """A report as JSON of at most MAX_MESSAGE_BYTES: texts for people are shortened first, facts last."""
    content = _encoded(report)
    for shorten in _SHORTENINGS:
        if len(content) <= MAX_MESSAGE_BYTES:
            break
        report = shorten(report)
        content = _encoded(report)
    assert len(content) <= MAX_MESSAGE_BYTES, "a report holds a list or text that is not bounded"
    return content


def write(report: Report, path: Path | None) -> None:
    """Write the termination message: to the path, or as the last line of the standard output."""
    content = message(report)
    if path is None:
        sys.stdout.write(content.decode() + "\n")
        sys.stdout.flush()
    else:
        path.write_bytes(content)


def write_result(folder: Path, config: RunConfig, found: TrainingReport, **findings: Any) -> None:
    """Write report.json: the run, what it made, and what was found on the way."""
    content = {"run": config.model_dump(mode="json", exclude_none=True), "training": found.to_json(), **findings}
    write_json(folder / "report.json", content)


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    partial.rename(path)


def _encoded(report: Report) -> bytes:
    return json.dumps(report.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of a text as JSON, whole characters."""
    kept = json.dumps(text, ensure_ascii=False).encode()
    if len(kept) <= size:
        return text
    while len(json.dumps(text, ensure_ascii=False).encode()) > size - 5:
        text = text[: len(text) * 9 // 10]
    return text + "…"


def _shorter_preflight(mask: int, warnings: int, modules: int) -> Callable[[Report], Report]:
    def shorten(report: Report) -> Report:
        found = report.preflight
        if found is None:
            return report
        texts = [_cut(text, 200) for text in found.warnings[:warnings]]
        found = found.replace(mask=_cut(found.mask, mask), warnings=texts)
        if found.model is not None:
            tuned = dict(list(found.model.tuned_modules.items())[:modules])
            found = found.replace(model=found.model.replace(tuned_modules=tuned))
        return report.replace(preflight=found)

    return shorten


def _shorter_failure(size: int) -> Callable[[Report], Report]:
    def shorten(report: Report) -> Report:
        if report.failure is None:
            return report
        return report.replace(failure=report.failure.replace(message=_cut(report.failure.message, size)))

    return shorten


def _fewer_modules(size: int) -> Callable[[Report], Report]:
    def shorten(training: TrainingReport) -> TrainingReport:
        modules = [_cut(name, 64) for name in training.artifact.target_modules[:size]]
        return training.replace(artifact=training.artifact.replace(target_modules=modules))

    return _of_training(shorten)


def _shorter_health(size: int) -> Callable[[Report], Report]:
    def shorten(training: TrainingReport) -> TrainingReport:
        found = [finding.replace(message=_cut(finding.message, size)) for finding in training.health]
        return training.replace(health=found)

    return _of_training(shorten)


def _without_single_rewards(training: TrainingReport) -> TrainingReport:
    """Each reward's mean and deviation are in metrics.jsonl, too; their sum's stay here."""
    kept = {name: value for name, value in training.metrics.items() if not name.startswith(_SINGLE_REWARD)}
    return training.replace(metrics=kept)


def _of_training(shorten: Callable[[TrainingReport], TrainingReport]) -> Callable[[Report], Report]:
    def shortened(report: Report) -> Report:
        return report if report.training is None else report.replace(training=shorten(report.training))

    return shortened


def _rounded(training: TrainingReport) -> TrainingReport:
    """Six digits of each measure are more than its rows determine."""
    measured = training.evaluation
    return training.replace(
        evaluation=measured.replace(before=_six_digits(measured.before), after=_six_digits(measured.after))
    )


def _six_digits(metrics: Metrics) -> Metrics:
    return {name: None if value is None else float(f"{value:.6g}") for name, value in metrics.items()}


_SHORTENINGS: tuple[Callable[[Report], Report], ...] = (
    _shorter_preflight(1200, 4, 16),
    _shorter_preflight(400, 1, 4),
    _shorter_preflight(400, 1, 0),
    _shorter_failure(3500),
    _shorter_failure(2000),
    _fewer_modules(8),
    _of_training(_without_single_rewards),
    _shorter_health(200),
    _fewer_modules(0),
    _shorter_health(100),
    _of_training(lambda training: training.replace(metrics={})),
    _of_training(_rounded),
    _of_training(lambda training: training.replace(libraries={})),
    _of_training(lambda training: training.replace(checkpoints=training.checkpoints[-4:])),
    _of_training(lambda training: training.replace(checkpoints=[])),
    _shorter_health(30),
)
