"""What a person sees of each state of an object."""

from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text
from tests.unit.cli import builders
from tests.unit.cli.builders import Object

from posttrain_cli import view
from posttrain_cli.view import Row

RUN, DEPLOYMENT = "TrainingRun", "AdapterDeployment"
HEAD = Row("trun/dates", "Training", "Waiting")

ROWS = {
    "a new run": (
        RUN,
        builders.run(),
        Row("trun/dates", "New", "Waiting", why="waits for the operator to see it"),
    ),
    "pending": (
        RUN,
        builders.run(phase="Pending", conditions=builders.waiting("Pending", "The preflight Job is made.")),
        Row("trun/dates", "Pending", "Waiting", why="The preflight Job is made."),
    ),
    "not schedulable": (
        RUN,
        builders.run(phase="Pending", conditions=builders.waiting("Unschedulable", "0/1 nodes\nare available")),
        Row("trun/dates", "Pending", "Waiting", why="Unschedulable: 0/1 nodes are available"),
    ),
    "preflight": (
        RUN,
        builders.run(phase="Preflight", conditions=builders.waiting("PreflightRunning", "The rows are being read.")),
        Row("trun/dates", "Preflight", "Waiting", why="The rows are being read."),
    ),
    "the trainer loads": (
        RUN,
        builders.training(step=0, stage="Loading"),
        replace(HEAD, percent=0, count="0/500", measure="loss 1.31", left="14m", why="loads model and data"),
    ),
    "training, 24 %": (
        RUN,
        builders.training(step=120),
        replace(HEAD, percent=24, count="120/500", measure="loss 1.31", left="14m"),
    ),
    "training that goes wrong": (
        RUN,
        builders.run(
            phase="Training",
            conditions=[
                *builders.waiting("Training", "The trainer works."),
                builders.condition("KLDrift", "KLDrift", "it is near", status="False"),
                builders.condition("EntropyCollapsed", "EntropyCollapsed", "0.01 nats since\nstep 80"),
            ],
            progress={"stage": "Training", "step": 120, "totalSteps": 500, "percent": 24},
            display={"step": "120/500", "metric": "reward 0.31", "eta": "14m"},
        ),
        replace(
            HEAD,
            percent=24,
            count="120/500",
            measure="reward 0.31",
            left="14m",
            why="EntropyCollapsed: 0.01 nats since step 80",
        ),
    ),
    "a clean metric before the score": (
        RUN,
        builders.succeeded(
            evaluation={"before": {"reward": 0.2, "success": 0.1}, "after": {"reward": 0.9, "success": 0.4}}
        ),
        Row("trun/dates", "Succeeded", "Ready", 100, "500/500", "success 0.10 → 0.40"),
    ),
    "succeeded": (
        RUN,
        builders.succeeded(),
        Row("trun/dates", "Succeeded", "Ready", 100, "500/500", "exactMatch 0.00 → 0.95"),
    ),
    "metrics that are null": (
        RUN,
        builders.succeeded(
            metrics={"loss": None},
            evaluation={"before": {"exactMatch": None, "loss": None}, "after": {"exactMatch": None, "loss": 0.5}},
        ),
        Row("trun/dates", "Succeeded", "Ready", 100, "500/500", "loss 0.50"),
    ),
    "failed, with a message": (
        RUN,
        builders.failed(message="row 3 has no answer"),
        Row("trun/numbers", "Failed", "Stalled", why="DatasetInvalid: row 3 has no answer"),
    ),
    "a message with control characters": (
        RUN,
        builders.failed(message="row 3:\n\x1b[2J\tbad"),
        Row("trun/numbers", "Failed", "Stalled", why="DatasetInvalid: row 3: [2J bad"),
    ),
    "failed under an older spec": (
        RUN,
        {**builders.failed(), "metadata": {"name": "numbers", "generation": 2}},
        Row("trun/numbers", "Failed", "Waiting", why="the operator has not seen the change yet"),
    ),
    "being deleted": (
        RUN,
        {**builders.training(step=120), "metadata": {"name": "dates", "deletionTimestamp": builders.TIME}},
        Row("trun/dates", "Deleting", "Waiting", 24, "120/500", "loss 1.31", "14m"),
    ),
    "a new deployment": (
        DEPLOYMENT,
        builders.deployment(),
        Row(
            "adep/assistants",
            "New",
            "Waiting",
            0,
            "0/2 adapters",
            "0/1 replicas",
            why="waits for the operator to see it",
        ),
    ),
    "a deployment, 1/2": (
        DEPLOYMENT,
        builders.serving(
            builders.adapter("dates", "Loaded"),
            builders.adapter("numbers", "Pending", "WaitingForRun"),
            conditions=builders.waiting("WaitingForRun", "numbers: trun/numbers has no result yet"),
        ),
        Row(
            "adep/assistants",
            "Loading",
            "Waiting",
            50,
            "1/2 adapters",
            "1/1 replicas",
            why="WaitingForRun: numbers: trun/numbers has no result yet",
        ),
    ),
    "a deployment that is ready": (
        DEPLOYMENT,
        builders.serving(
            builders.adapter("dates", "Loaded"), builders.adapter("numbers", "Loaded"), conditions=builders.ready()
        ),
        Row("adep/assistants", "Loading", "Ready", 100, "2/2 adapters", "1/1 replicas"),
    ),
    "a deployment of the base alone": (
        DEPLOYMENT,
        {**builders.deployment(), "spec": {}},
        Row("adep/assistants", "New", "Waiting", measure="0/1 replicas", why="waits for the operator to see it"),
    ),
    "a deployment with an adapter that failed": (
        DEPLOYMENT,
        builders.serving(
            builders.adapter("dates", "Failed", "RankTooLarge"),
            conditions=builders.stalled("RankTooLarge", "dates: rank 64 is above 16"),
            phase="Failed",
        ),
        Row(
            "adep/assistants",
            "Failed",
            "Stalled",
            0,
            "0/1 adapters",
            "1/1 replicas",
            why="RankTooLarge: dates: rank 64 is above 16",
        ),
    ),
}


@pytest.mark.parametrize(("kind", "item", "expected"), ROWS.values(), ids=ROWS.keys())
def test_each_state_has_its_row(kind: str, item: Object, expected: Row):
    assert view.row(kind, item) == expected


LINES = {
    "nothing to count": (Row("trun/a", "New", "Waiting", why="waits"), "trun/a: New (waits)"),
    "nothing to say": (Row("trun/a", "Pending", "Waiting"), "trun/a: Pending"),
    "in training": (
        replace(HEAD, percent=24, count="120/500", measure="loss 1.31", left="14m"),
        "trun/dates: Training 24% (120/500, loss 1.31, 14m left)",
    ),
    "failed": (
        Row("trun/a", "Failed", "Stalled", why="DatasetInvalid: row 3"),
        "trun/a: Failed (DatasetInvalid: row 3)",
    ),
}


@pytest.mark.parametrize(("shown", "expected"), LINES.values(), ids=LINES.keys())
def test_a_row_is_one_line_of_a_log(shown: Row, expected: str):
    assert view.line(shown) == expected


def printed(*rows: Row, width: int, max_rows: int = 20) -> list[str]:
    """The lines of a table on a terminal of this width."""
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(view.table(rows, waiting=Text("·"), width=width, max_rows=max_rows))
    return [line.rstrip() for line in captured.get().splitlines()]


TABLE = (
    replace(HEAD, percent=25, count="125/500", measure="loss 1.31", left="14m"),
    Row("trun/numbers", "Failed", "Stalled", why="DatasetInvalid: row 3 has no answer"),
    Row("adep/assistants", "Loading", "Waiting", 50, "1/2 adapters", "1/1 replicas", why="WaitingForRun: numbers"),
    Row("trun/old", "Succeeded", "Ready", 100, "500/500", "exactMatch 0.00 → 0.95"),
)


def test_the_table_on_a_wide_terminal():
    assert printed(*TABLE, width=120) == [
        "·  trun/dates       Training   ━━━━────────────  25%  125/500       loss 1.31  14m left",
        "✗  trun/numbers     Failed     DatasetInvalid: row 3 has no answer",
        "·  adep/assistants  Loading    ━━━━━━━━────────  50%  1/2 adapters  1/1 replicas  WaitingForRun: numbers",
        "✓  trun/old         Succeeded  ━━━━━━━━━━━━━━━━ 100%  500/500       exactMatch 0.00 → 0.95",
    ]


def test_the_bar_gives_way_to_the_numbers():
    assert printed(*TABLE, width=80) == [
        "·  trun/dates       Training   ━─────  25%  125/500       loss 1.31  14m left",
        "✗  trun/numbers     Failed     DatasetInvalid: row 3 has no answer",
        "·  adep/assistants  Loading    ━━━───  50%  1/2 adapters  1/1 replicas  Waiting…",
        "✓  trun/old         Succeeded  ━━━━━━ 100%  500/500       exactMatch 0.00 → 0.95",
    ]
    assert printed(*TABLE, width=70)[0] == "·  trun/dates       Training     25%  125/500       loss 1.31  14m le…"


def test_where_not_all_rows_fit_those_that_are_not_done_are_seen():
    shown = printed(*TABLE, width=120, max_rows=3)
    assert [line.split()[1] for line in shown] == ["trun/numbers", "trun/dates", "2"]
    assert shown[-1].split() == ["and", "2", "more"]
