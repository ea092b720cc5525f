"""The report: the termination message that ends a run, made to fit, and the files that say the same at length."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from posttrain_api.trainer_contract import MAX_MESSAGE_BYTES, Report, RunConfig, TrainingReport

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers")


def libraries() -> dict[str, str]:
    """Versions of the libraries that train."""
    return {name: metadata.version(name) for name in LIBRARIES}


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


def _shorter_preflight(mask: int, warnings: int) -> Callable[[Report], Report]:
    def shorten(report: Report) -> Report:
        if report.preflight is None:
            return report
        texts = [_cut(text, 200) for text in report.preflight.warnings[:warnings]]
        return report.replace(
            preflight=report.preflight.replace(mask=_cut(report.preflight.mask, mask), warnings=texts)
        )

    return shorten


def _shorter_failure(size: int) -> Callable[[Report], Report]:
    def shorten(report: Report) -> Report:
        if report.failure is None:
            return report
        return report.replace(failure=report.failure.replace(message=_cut(report.failure.message, size)))

    return shorten


def _fewer_modules(size: int) -> Callable[[Report], Report]:
    def shorten(report: Report) -> Report:
        if report.training is None:
            return report
        artifact = report.training.artifact
        modules = [_cut(name, 64) for name in artifact.target_modules[:size]]
        return report.replace(training=report.training.replace(artifact=artifact.replace(target_modules=modules)))

    return shorten


_SHORTENINGS: tuple[Callable[[Report], Report], ...] = (
    _shorter_preflight(1200, 4),
    _shorter_preflight(400, 1),
    _shorter_failure(3500),
    _fewer_modules(8),
    _fewer_modules(0),
)
