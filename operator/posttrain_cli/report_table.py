"""A preflight report as a table for people. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from posttrain_api.trainer_contract import MASK_CLOSE, MASK_OPEN, PreflightReport
from posttrain_api.v1alpha1.training_run_status import DataReport, Estimate, MemoryEstimate, ModelReport

Row = tuple[str, str]
MINUTE, HOUR = 60, 3600
MAX_PROBLEMS = 10
"""More say no more to a person."""


def parsed(file: Mapping[str, Any]) -> PreflightReport:
    """The report in a preflight.json, which holds more than a report can; problems of single rows become warnings.

    Raises ValidationError where it is of another version.
    """
    names = {field.alias for field in PreflightReport.model_fields.values()}
    report = PreflightReport.model_validate({name: value for name, value in file.items() if name in names})
    return report.replace(warnings=[*report.warnings, *map(str, file.get("problems", [])[:MAX_PROBLEMS])])


def table(report: PreflightReport, *, title: str) -> Table:
    """Two columns: what it is, and what preflight found."""
    made = Table(title=Text(title, "bold cyan"), title_justify="left", box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in _rows(report):
        made.add_row(name, Text(value))
    made.add_row("what is learned", mask(report.mask))
    for warning in report.warnings:
        made.add_row(Text("warning", "yellow"), Text(warning, "yellow"))
    return made


def _rows(report: PreflightReport) -> Iterator[Row]:
    yield from estimate_rows(report.estimate)
    if report.model:
        yield from model_rows(report.model)
    if report.data:
        yield from data_rows(report.data)


def estimate_rows(estimate: Estimate) -> Iterator[Row]:
    """What the training needs."""
    yield "rows", f"{estimate.rows:,}"
    yield "tokens", f"{estimate.total_tokens:,} in one pass, {estimate.trained_tokens:,} of them learned"
    yield "steps", f"{estimate.total_steps:,}"
    yield "trainable parameters", f"{estimate.trainable_parameters:,}"
    yield "memory", f"{size(estimate.memory_gib)}{_parts(estimate.memory)}"
    if estimate.duration_seconds is not None:
        yield "time", f"{duration(estimate.duration_seconds)} on {estimate.gpu}"
    if estimate.cost is not None:
        yield "cost", f"{estimate.cost} {estimate.currency or ''}".strip()
    if estimate.unpriced:
        yield "time and cost", f"not known: {estimate.unpriced}"


def model_rows(model: ModelReport) -> Iterator[Row]:
    """What the base is."""
    shape = f"{model.layers:,} layers of width {model.hidden_size:,}, {model.vocabulary:,} tokens"
    yield "base", f"{model.parameters:,} parameters: {shape}"
    if model.tuned_modules:
        yield "tuned layers", ", ".join(f"{count} {name}" for name, count in model.tuned_modules.items())


def _parts(memory: MemoryEstimate) -> str:
    parts = [f"{name} {size(value)}" for name, value in memory if value]
    return f" ({', '.join(parts)})" if parts else ""


def data_rows(data: DataReport) -> Iterator[Row]:
    """What is in the rows; what does not occur is left out."""
    yield "rows read", f"{data.rows_read:,}, {data.held_out_rows:,} of them held out to judge by"
    lengths = f"{data.length_p50} / {data.length_p90} / {data.length_p99} / {data.length_max}"
    yield "lengths in tokens", f"{lengths} (50 %, 90 %, 99 %, longest)"
    if data.trained_share:
        yield "learned tokens", share(data.trained_share)
    odd = {
        "rows refused": data.rows_refused,
        "duplicates": data.duplicates,
        "answer = question": data.prompt_equals_completion,
        "chosen = rejected": data.chosen_equals_rejected,
        "held out as well": data.leaked,
    }
    yield from ((name, f"{count:,}") for name, count in odd.items() if count)
    shares = {"refusing answers": data.refusal_share, "too long": data.truncated_share}
    yield from ((name, share(value)) for name, value in shares.items() if value)
    if data.desirable_share is not None:
        yield "desirable", share(data.desirable_share)
    if data.end_of_turn:
        yield "end of turn", data.end_of_turn
    if data.default_system_prompt:
        yield "system prompt", f"{data.default_system_prompt} (the template's own)"


def mask(text: str) -> Text:
    """A row as the trainer sees it, what the loss counts in green."""
    shown = Text()
    for part in re.split(f"({MASK_OPEN}[^{MASK_CLOSE}]*{MASK_CLOSE})", text):
        shown.append(part, "green" if part.startswith(MASK_OPEN) else "dim")
    return shown


def size(gib: float) -> str:
    """Memory: `1.25 GiB`, or MiB below a tenth of one."""
    return f"{gib:.2f} GiB" if gib >= 0.1 else f"{gib * 1024:.1f} MiB"


def share(value: float) -> str:
    """A share in percent."""
    return f"{value:.1%}"


def duration(seconds: float) -> str:
    """`41 s`, `12 min` or `3 h 20 min`."""
    if seconds < MINUTE:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / MINUTE)
    return f"{minutes} min" if seconds < HOUR else f"{minutes // 60} h {minutes % 60:02} min"
