"""What a person sees of an object: its JSON to a row of the table, or to one line. Pure.

Objects are read as plain JSON, not through the models: an older CLI must still show what a newer operator says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1 import health, training_run
from posttrain_cli.failure import one_line

Object = Mapping[str, Any]
Outcome = Literal["Waiting", "Ready", "Stalled"]

MARK_WIDTH = 1
GAP = 2
MIN_BAR, MAX_BAR = 4, 16
STYLES: Mapping[Outcome, str] = {"Waiting": "cyan", "Ready": "green", "Stalled": "red"}
BEST_METRICS = ("success", "exactMatch", "preferenceAccuracy", "reward", "tokenAccuracy", "loss")
"""Which measure of a result is shown, in this order."""
SELF_EVIDENT = frozenset({Reason.PENDING, Reason.PREFLIGHT_RUNNING, Reason.STARTING, Reason.LOADING})
"""Reasons that phase and message make clear."""
RULES = tuple(reason.value for reason in health.CONDITIONS.values())
"""Types of the conditions that warn of a training that goes wrong."""
STAGES = {
    "Loading": "loads model and data",
    "Evaluating": "measures on held-out rows",
    "Sampling": "samples answers",
    "Publishing": "publishes the result",
}
"""What the trainer does beside training, for people."""


@dataclass(frozen=True)
class Row:
    """One object as it is shown. An empty text is not known, or not worth saying."""

    name: str
    """With its kind, as kubectl takes it: trun/dates."""
    phase: str
    outcome: Outcome
    percent: int | None = None
    """How much is done; None while there is nothing to count."""
    count: str = ""
    """What the percent counts: 120/500, or 1/2 adapters."""
    measure: str = ""
    """Loss or result, or the replicas."""
    left: str = ""
    """Time left, such as 14m."""
    why: str = ""
    """What it waits for, or why it failed."""


def row(kind: str, item: Object) -> Row:
    """The row of an object of this kind."""
    return _run(item) if kind == training_run.KIND else _deployment(item)


def is_current(item: Object) -> bool:
    """Whether the status speaks of the present spec."""
    seen = _status(item).get("observedGeneration", -1)
    return bool(seen >= item["metadata"].get("generation", 1))


def _run(item: Object) -> Row:
    status, outcome = _status(item), _outcome(item)
    progress = status.get("progress") or {}
    display = status.get("display") or {}
    return Row(
        name=f"trun/{item['metadata']['name']}",
        phase=_phase(item),
        outcome=outcome,
        percent=progress.get("percent"),
        count=display.get("step", ""),
        measure=_gain(status) or display.get("metric", ""),
        left=display.get("eta", "") if outcome == "Waiting" else "",
        why=_stage(status) or (_warning(item) if outcome == "Waiting" else "") or _why(item, outcome),
    )


def _deployment(item: Object) -> Row:
    status, outcome = _status(item), _outcome(item)
    adapters = status.get("adapters") or []
    total = len(adapters) or len(item["spec"].get("adapters") or [])
    loaded = sum(adapter.get("state") == "Loaded" for adapter in adapters)
    replicas = item["spec"].get("replicas", 1)
    return Row(
        name=f"adep/{item['metadata']['name']}",
        phase=_phase(item),
        outcome=outcome,
        percent=100 * loaded // total if total else None,
        count=f"{loaded}/{total} adapters" if total else "",
        measure=f"{status.get('readyReplicas') or 0}/{replicas} replicas",
        why=_why(item, outcome),
    )


def _status(item: Object) -> Mapping[str, Any]:
    return item.get("status") or {}


def _phase(item: Object) -> str:
    if item["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return _status(item).get("phase") or "New"


def _condition(item: Object, type_: str) -> Mapping[str, Any] | None:
    known = _status(item).get("conditions") or []
    return next((found for found in known if found["type"] == type_), None)


def _holds(item: Object, type_: str) -> bool:
    found = _condition(item, type_)
    return found is not None and found["status"] == "True"


def _outcome(item: Object) -> Outcome:
    """An old verdict does not count for a new spec."""
    if not is_current(item):
        return "Waiting"
    if _holds(item, "Stalled"):
        return "Stalled"
    return "Ready" if _holds(item, "Ready") else "Waiting"


def _why(item: Object, outcome: Outcome) -> str:
    if outcome == "Ready":
        return ""
    if not is_current(item):
        is_new = not _status(item).get("phase")
        return "waits for the operator to see it" if is_new else "the operator has not seen the change yet"
    verdict = _condition(item, "Stalled" if outcome == "Stalled" else "Ready")
    if verdict is None or verdict["reason"] == Reason.TRAINING:
        return ""
    message = one_line(verdict.get("message") or "")
    if verdict["reason"] in SELF_EVIDENT:
        return message
    return f"{verdict['reason']}: {message}" if message else str(verdict["reason"])


def _stage(status: Mapping[str, Any]) -> str:
    if status.get("phase") != "Training":
        return ""
    return STAGES.get((status.get("progress") or {}).get("stage", ""), "")


def _warning(item: Object) -> str:
    """The first rule of health that is broken now."""
    broken = next((found for name in RULES if (found := _condition(item, name)) and found["status"] == "True"), None)
    return f"{broken['type']}: {one_line(broken.get('message') or '')}" if broken else ""


def _gain(status: Mapping[str, Any]) -> str:
    """The result beside what the base had, such as `exactMatch 0.00 → 0.95`."""
    evaluation = status.get("evaluation") or {}
    before, after = evaluation.get("before") or {}, evaluation.get("after") or {}
    best = next((name for name in BEST_METRICS if after.get(name) is not None), None)
    if best is None:
        return ""
    was = f"{before[best]:.2f} → " if before.get(best) is not None else ""
    return f"{best} {was}{after[best]:.2f}"


def line(shown: Row) -> str:
    """The row as one short line, for a log."""
    percent = f" {shown.percent}%" if shown.percent is not None else ""
    left = f"{shown.left} left" if shown.left else ""
    details = ", ".join(part for part in (shown.count, shown.measure, left, shown.why) if part)
    return f"{shown.name}: {shown.phase}{percent}" + (f" ({details})" if details else "")


def milestone(shown: Row) -> tuple[str, int]:
    """What must change for another line to be worth it: the phase, or ten percent of the progress."""
    return shown.phase, (shown.percent or 0) // 10


@dataclass(frozen=True)
class Widths:
    """How many characters each part of the table gets, so that all rows share them."""

    name: int
    phase: int
    count: int
    measure: int
    """Of rows that have a time left behind it."""
    bar: int
    """What remains, within limits; 0 where that is too little."""


def widths(rows: Sequence[Row], *, width: int) -> Widths:
    """The parts' widths on a terminal of this width."""
    wide = Widths(
        name=_width(row.name for row in rows),
        phase=_width(row.phase for row in rows),
        count=_width(row.count for row in rows),
        measure=_width(row.measure for row in rows if row.left),
        bar=0,
    )
    numbers = _width(f"{_numbers(row, wide)}{_left(row)}" for row in rows if row.percent is not None)
    rest = width - MARK_WIDTH - wide.name - wide.phase - numbers - 3 * GAP
    return replace(wide, bar=min(MAX_BAR, rest) if rest >= MIN_BAR else 0)


def _width(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _numbers(shown: Row, wide: Widths) -> str:
    measure = f"  {shown.measure:<{wide.measure if shown.left else 0}}" if shown.measure or shown.left else ""
    return f"{shown.percent or 0:4}%  {shown.count:<{wide.count}}{measure}"


def _left(shown: Row) -> str:
    return f"  {shown.left} left" if shown.left else ""


def bar(percent: int, style: str, *, width: int) -> Text:
    """A progress bar."""
    full = width * percent // 100
    return Text.assemble(("━" * full, style), ("─" * (width - full), "bright_black"))


def detail(shown: Row, wide: Widths) -> Text:
    """All of a row but name and phase: a bar with numbers where something can be counted, else the reason."""
    if shown.percent is None or shown.outcome == "Stalled":
        style = "red" if shown.outcome == "Stalled" else "dim"
        return Text(shown.why or shown.measure, style, no_wrap=True, overflow="ellipsis")
    drawn = bar(shown.percent, STYLES[shown.outcome], width=wide.bar)
    left, why = (_left(shown), "bold"), (f"  {shown.why}" if shown.why else "", "dim")
    return Text.assemble(drawn, _numbers(shown, wide), left, why, no_wrap=True, overflow="ellipsis")


def table(rows: Sequence[Row], *, waiting: RenderableType, width: int, max_rows: int) -> Table:
    """The rows as a table, with this mark at those that are not done; the rest is counted where not all fit."""
    marks: dict[Outcome, RenderableType] = {
        "Waiting": waiting,
        "Ready": Text("✓", STYLES["Ready"]),
        "Stalled": Text("✗", STYLES["Stalled"]),
    }
    shown = _most_telling(rows, max_rows)
    wide = widths(shown, width=width)
    made = _grid(wide)
    for each in shown:
        made.add_row(marks[each.outcome], each.name, Text(each.phase, STYLES[each.outcome]), detail(each, wide))
    if len(shown) < len(rows):
        made.add_row("", f"and {len(rows) - len(shown)} more", "", "")
    return made


def _grid(wide: Widths) -> Table:
    """Columns for mark, name, phase and details; only the details are cut on a narrow terminal."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
    made.add_column(no_wrap=True, min_width=MARK_WIDTH)
    made.add_column(no_wrap=True, min_width=wide.name)
    made.add_column(no_wrap=True, min_width=wide.phase)
    # Its texts do not wrap; a column that may not wrap would be no narrower than the others.
    made.add_column()
    return made


def _most_telling(rows: Sequence[Row], max_rows: int) -> Sequence[Row]:
    """All rows where they fit; else those that failed or wait first."""
    if len(rows) <= max_rows:
        return rows
    order = {"Stalled": 0, "Waiting": 1, "Ready": 2}
    return sorted(rows, key=lambda each: order[each.outcome])[: max(1, max_rows - 1)]
