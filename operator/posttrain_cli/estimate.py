"""`kubectl posttrain estimate`: the preflight of a file's runs on this machine, without a cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from posttrain_api.trainer_contract import PreflightReport, RunConfig
from posttrain_api.v1alpha1 import training_run
from posttrain_api.v1alpha1.training_run import Output, TrainingRun
from posttrain_cli import documents, kustomization, report_table, stand_ins, trainer_process
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure, one_line
from posttrain_cli.faults import faults, parsed
from posttrain_cli.gpus import Gpus
from posttrain_cli.workplace import OUTPUT_CLAIM, Workplace, workplace

UID = "estimate"


@dataclass(frozen=True)
class Here:
    """What this machine has of the cluster's."""

    claims: Sequence[Path] = ()
    """Folders that hold a folder for each claim."""
    config_maps: Path | None = None
    """A folder that holds a folder for each ConfigMap."""
    image: Path | None = None
    """A folder that holds what the trainer's image holds; None: this machine's root."""
    gpus: Gpus = field(default_factory=Gpus)
    """The GPUs to reckon with."""
    python: str = "python"
    """The interpreter that has the trainer."""


def estimate(files: Sequence[str], console: Console, here: Here) -> int:
    """Print what preflight finds of each TrainingRun of the files; 1 where one is refused."""
    found = [*documents.read(files), *kustomization.config_maps(files)]
    runs = {document.name: document for document in found if _is_run(document)}
    if not runs:
        raise Failure(f"{', '.join(files)}: there is no TrainingRun")
    _check(runs.values())
    with workplace(claims=here.claims, config_maps=here.config_maps, image=here.image, documents=found) as place:
        passed = [_told(run, runs, console, here, place) for run in runs.values()]
    return 0 if all(passed) else 1


def _is_run(document: Document) -> bool:
    return document.is_ours and document.kind == training_run.KIND


def _check(runs: Iterable[Document]) -> None:
    for run in runs:
        for fault in faults(run):
            raise Failure(f"{run.label}: {fault} (`kubectl posttrain validate` names all there is)")


def _told(run: Document, runs: dict[str, Document], console: Console, here: Here, place: Workplace) -> bool:
    """Print one run's report, or why there is none; whether there is one."""
    try:
        config = run_config(run, runs, gpus=here.gpus)
        place.check_has(config.recipe.to_json())
        with console.status(f"{run.label}: reading"):
            found = trainer_process.preflight(config, place, python=here.python)
    except Failure as problem:
        prefix = "" if str(problem).startswith(f"{run.label}: ") else f"{run.label}: "
        return _refused(f"{prefix}{problem}", console)
    if not isinstance(found, PreflightReport):
        return _refused(f"{run.label}: {found.reason.value}: {one_line(found.message)}", console)
    console.print(report_table.table(found, title=run.label))
    return True


def _refused(text: str, console: Console) -> Literal[False]:
    console.print(Text(text, "bold red"), soft_wrap=True)
    return False


def run_config(run: Document, runs: dict[str, Document], *, gpus: Gpus) -> RunConfig:
    """What a trainer is told of a run here: its recipe with an output of its own and no other run to wait for."""
    model = parsed(stand_ins.standing_in(run, runs))
    assert isinstance(model, TrainingRun)
    recipe = model.spec.recipe().replace(output=Output(uri=f"pvc://{OUTPUT_CLAIM}"))
    return RunConfig(name=run.name, uid=UID, recipe=recipe, machine=gpus.machine(model))
