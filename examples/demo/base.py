"""`python -m examples.demo.base`: makes the demo's base model, once, into the cache ($POSTTRAIN_CACHE/models/tiny).

A part of set-up, not of the demo: what is measured afterwards starts from a model that is known to know its facts. It
is trained under another name and renamed when complete, so that being cut off at any moment leaves nothing half done.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demo.facts import KINDS
from examples.demo.recipe import Recipe, key_of
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from examples.demo.tiny_model import TinyModel

RECIPE_FILE = "recipe.json"
NUM_THREADS = 2
PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""For the environment, before torch is imported: threads that spin take many times as long beside other work."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where the project keeps what it makes once: the folder that the Makefile exports, or its default."""
    default = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posttrain"
    return Path(environment.get("POSTTRAIN_CACHE") or default)


def model_folder(cache: Path) -> Path:
    """Where the base model lies; pods of the local cluster see it as /models/tiny."""
    return cache / "models" / "tiny"


def is_current(folder: Path, *, recipe: Recipe) -> bool:
    """Whether the model was made by this very recipe."""
    path = folder / RECIPE_FILE
    return path.exists() and bool(json.loads(path.read_text())["key"] == key_of(recipe))


def make(folder: Path, *, recipe: Recipe, console: Console) -> dict[str, float]:
    """Train the model, check it and put it at `folder`; returns its accuracies. ValueError: it did not learn enough."""
    import torch
    from examples.demo.tiny_model import TinyModel

    torch.set_num_threads(NUM_THREADS)
    tiny = TinyModel(recipe)
    with _progress(console) as progress:
        _follow(tiny.train(), progress, steps=recipe.steps, title="base model")
        accuracies = tiny.accuracies(round_number=0)
        for round_number in range(1, recipe.extra_rounds + 1):
            if is_good(accuracies, recipe=recipe):
                break
            _follow(tiny.train_on(), progress, steps=recipe.extra_steps, title=f"base model, round {round_number}")
            accuracies = tiny.accuracies(round_number=round_number)
    if not is_good(accuracies, recipe=recipe):
        raise ValueError(
            f"the base model did not learn its facts: {as_text(accuracies)}, {recipe.required_accuracy:.0%} is needed"
        )
    _publish(tiny, folder, key=key_of(recipe), accuracies=accuracies)
    return accuracies


def is_good(accuracies: Mapping[str, float], *, recipe: Recipe) -> bool:
    """Whether the model knows every kind of fact well enough."""
    return min(accuracies.values()) >= recipe.required_accuracy


def as_text(accuracies: Mapping[str, float]) -> str:
    """`dates 100.0 %, numbers 99.8 %`."""
    return ", ".join(f"{name} {value:.1%}" for name, value in accuracies.items())


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    texts = (TextColumn("loss {task.fields[loss]:.2f}"), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, *texts, console=console)


def _follow(losses: Iterator[float], progress: Progress, *, steps: int, title: str) -> None:
    task = progress.add_task(title, total=steps, loss=0.0)
    for loss in losses:
        progress.update(task, advance=1, loss=loss)


def _publish(tiny: "TinyModel", folder: Path, *, key: str, accuracies: Mapping[str, float]) -> None:
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    tiny.save(part)
    (part / RECIPE_FILE).write_text(json.dumps({"key": key, "accuracies": accuracies}, indent=2) + "\n")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    """Make the model where it is not there yet; the exit code says whether it is there now."""
    console, recipe, folder = Console(), Recipe(), model_folder(cache_folder(os.environ))
    if is_current(folder, recipe=recipe):
        console.print(f"base model: {folder}", highlight=False, soft_wrap=True)
        return 0
    names = " and ".join(kind.name for kind in KINDS)
    console.print(f"base model: training a tiny one that knows {names} (once, about three minutes)")
    os.environ.update(PATIENT_THREADS)
    try:
        accuracies = make(folder, recipe=recipe, console=console)
    except KeyboardInterrupt:
        console.print("\ninterrupted: the base model is not made yet, `make setup` begins it anew", style="yellow")
        return 130
    except ValueError as error:
        console.print(f"error: {error}", style="red")
        return 1
    console.print(f"base model: {folder} (held-out facts: {as_text(accuracies)})", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
