"""The held-out scores of the demo's runs: what each run measured, and once more with others' code alone."""

from pathlib import Path
from typing import Any

from examples.demo import measure
from examples.demo.place import Place
from examples.demo.tasks import Task
from rich.table import Table

Run = dict[str, Any]


def table(scores: list[tuple[Task, Run, float]]) -> Table:
    """One row for each run, with the second measurement of it."""
    made = Table(title="held-out rows answered to the letter", title_justify="left")
    for title in ("run", "rows", "before", "after", "again, with transformers and peft", "loss"):
        made.add_column(title, justify="left" if title == "run" else "right")
    for task, run, again in scores:
        measured = run["status"]["evaluation"]
        before, after = measured["before"], measured["after"]
        exact = (f"{value:.1%}" for value in (before["exactMatch"], after["exactMatch"], again))
        made.add_row(task.name, str(measured["rows"]), *exact, f"{before['loss']:.2f} → {after['loss']:.2f}")
    return made


def measured_again(place: Place, task: Task, run: Run, *, base: Path) -> float:
    """Exact match of a run's artifact on the task's held-out rows, by plain transformers and peft."""
    return measure.exact_match(base=base, adapter=artifact_folder(place, run), rows=task.held_out_rows())


def artifact_folder(place: Place, run: Run) -> Path:
    """Where this machine has a run's artifact: the claim's volume is a folder of the host."""
    claim, _, path = run["status"]["artifact"]["uri"].removeprefix("pvc://").partition("/")
    (bound,) = place.get("persistentvolumeclaim", claim)
    (volume,) = place.get("persistentvolume", bound["spec"]["volumeName"])
    return Path(volume["spec"]["hostPath"]["path"]) / path
